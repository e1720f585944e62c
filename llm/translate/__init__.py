"""Requests of one format said in another. Pure."""
