"""Agents on platforms that do not speak A2A: a file for each platform, against the one contract of `bridge` (docs/bridges.md)."""
