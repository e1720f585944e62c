"""Which foreign parts take part in this run."""

from __future__ import annotations

from pathlib import Path

from tests.foreign.environments import GROUPS, WANTED

MCP_MODULES = {"test_conformance.py", "test_mcp_clients.py", "test_mcp_kinds.py", "test_mcp_tasks.py"}


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave the other group's modules out of a run of one group: they have a turn of their own."""
    if WANTED not in GROUPS or not collection_path.name.startswith("test_"):
        return None
    group = "mcp" if collection_path.name in MCP_MODULES else "a2a"
    return group != WANTED or None
