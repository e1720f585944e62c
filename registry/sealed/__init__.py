"""Secrets, and what is kept for callers under them."""
