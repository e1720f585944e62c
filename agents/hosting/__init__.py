"""Agents that run in the hub: their tasks, begun, kept, watched and cancelled here, whoever does the work."""
