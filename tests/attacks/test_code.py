"""What the hub's own code does not hold, so that no input can reach it: templates, evaluated code, commands, SQL made of texts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = [
    path
    for package in ("hub", "agents", "llm", "mcp_bridge", "registry")
    for path in sorted((ROOT / package).rglob("*.py"))
]
ENGINES = {"jinja2", "mako", "chevron", "RestrictedPython", "pickle", "marshal", "shelve", "dill", "cloudpickle"}
EVALUATED = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load"}
STARTS = {"mcp_bridge/stdio/child.py", "mcp_bridge/stdio/children.py"}
"""The modules that start processes: what an operator wrote in the file, and the hub's own supervisor."""


SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|PRAGMA|ALTER|CREATE|DROP)\b")
MADE_OF_CONSTANTS = {"registry/store/db.py", "registry/ledger/outbox.py", "registry/ledger/push.py"}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def called(path: Path) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call))


def names(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {path: hits for path, hits in found.items() if hits}


@pytest.mark.attack("2.1/34", "2.2/5", "2.2/8")
def test_no_module_renders_templates_or_evaluates_code() -> None:
    found = {
        str(path.relative_to(ROOT)): [name for name in imported(path) if name.partition(".")[0] in ENGINES]
        + [ast.unparse(call.func) for call in called(path) if ast.unparse(call.func) in EVALUATED]
        for path in MODULES
    }
    assert not names(found)


@pytest.mark.attack("2.1/31", "2.2/1", "2.2/20")
def test_processes_are_started_by_two_modules_without_a_shell() -> None:
    starting = {
        str(path.relative_to(ROOT)) for path in MODULES if {"subprocess", "pty", "webbrowser"} & set(imported(path))
    }
    assert starting == STARTS
    calls = [call for path in MODULES for call in called(path)]
    assert not [ast.unparse(call) for call in calls if any(keyword.arg == "shell" for keyword in call.keywords)]
    assert not [ast.unparse(call) for call in calls if "create_subprocess" in ast.unparse(call.func)]


@pytest.mark.attack("2.1/34", "2.2/3")
def test_no_sql_is_put_together_from_values() -> None:
    """Text of SQL is a constant, or is put together from constants in the one module named here; values are bound."""
    made = {
        str(path.relative_to(ROOT))
        for path in MODULES
        if "migrations" not in path.parts
        for node in ast.walk(tree(path))
        if isinstance(node, ast.JoinedStr) and SQL.match(ast.unparse(node).lstrip("rf'\""))
    }
    assert made == MADE_OF_CONSTANTS


@pytest.mark.attack("2.1/6", "2.2/4")
def test_nothing_is_decided_by_starlettes_url() -> None:
    """It is put together from the Host header: who decides reads the path of the request."""
    hub = [path for path in MODULES if path.parts[-2] in {"hub", "doors", "api"}]
    found = {
        path.name: [
            ast.unparse(node)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Attribute) and ast.unparse(node) in {"request.url", "request.base_url"}
        ]
        for path in hub
    }
    assert not names(found)
