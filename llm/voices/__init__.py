"""Voices: how the loop speaks to its caller, one for each format of a door."""
