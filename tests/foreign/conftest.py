"""Which foreign parts take part in this run."""

from __future__ import annotations

from pathlib import Path

from tests.foreign.environments import GROUPS, WANTED

OTHERS = {
    "test_any_llm.py": "llm",
    "test_frameworks.py": "frameworks",
    "test_oidc.py": "trust",
    **dict.fromkeys(("test_conformance.py", "test_mcp_clients.py", "test_mcp_kinds.py", "test_mcp_tasks.py"), "mcp"),
}
"""Modules of another group than `a2a`."""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave the other groups' modules out of a run of one group: they have a turn of their own."""
    if WANTED not in GROUPS or not collection_path.name.startswith("test_"):
        return None
    return OTHERS.get(collection_path.name, "a2a") != WANTED or None
