"""Arrows point down: the same rule that import-linter checks, without a tool, so that a plain pytest shows a wrong one.

Imports inside functions and under TYPE_CHECKING count: they are design too.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "hub": {"agents", "llm", "mcp_bridge", "registry"},
    "agents": {"llm", "registry"},
    "llm": {"registry"},
    "mcp_bridge": {"registry"},
    "registry": set[str](),
}
HOME = {
    "fastapi": "hub",
    "uvicorn": "hub",
    "click": "hub",
    "mcp": "mcp_bridge",
    "a2a": "agents",
    "sqlmodel": "registry",
    "sqlalchemy": "registry",
}


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


def test_packages_import_only_downwards() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {other}"
        for package, allowed in MAY_IMPORT.items()
        for path in (ROOT / package).rglob("*.py")
        for other in imported(path)
        if other in MAY_IMPORT and other != package and other not in allowed
    ]
    assert wrong == []


def test_each_library_has_one_home() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {other}"
        for package in MAY_IMPORT
        for path in (ROOT / package).rglob("*.py")
        for other in imported(path)
        if HOME.get(other, package) != package
    ]
    assert wrong == []


def test_nothing_imports_tests_or_examples() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for package in MAY_IMPORT
        for path in (ROOT / package).rglob("*.py")
        if imported(path) & {"tests", "examples"}
    ]
    assert wrong == []
