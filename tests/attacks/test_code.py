"""What the hub's own code does not hold, so that no input can reach it: templates, evaluated code, commands, SQL made of texts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import PurePath

import pytest

from tests.attacks.sources import modules

ENGINES = {"jinja2", "mako", "chevron", "RestrictedPython", "pickle", "marshal", "shelve", "dill", "cloudpickle"}
EVALUATED = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load"}
STARTS = {"mcp_bridge/stdio/child.py", "mcp_bridge/stdio/children.py"}
"""The modules that start processes: what an operator wrote in the file, and the hub's own supervisor."""


SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|PRAGMA|ALTER|CREATE|DROP)\b")
MADE_OF_CONSTANTS = {"registry/store/db.py", "registry/ledger/outbox.py", "registry/ledger/push.py"}


def imported(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def called(module: ast.Module) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(module) if isinstance(node, ast.Call))


def names(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {path: hits for path, hits in found.items() if hits}


@pytest.mark.attack("2.1/34", "2.2/5", "2.2/8", defence="tests.attacks.sources:modules")
def test_no_module_renders_templates_or_evaluates_code() -> None:
    found = {
        path: [name for name in imported(module) if name.partition(".")[0] in ENGINES]
        + [ast.unparse(call.func) for call in called(module) if ast.unparse(call.func) in EVALUATED]
        for path, module in modules().items()
    }
    assert not names(found)


@pytest.mark.attack("2.1/31", "2.2/1", "2.2/20", defence="tests.attacks.sources:modules")
def test_processes_are_started_by_two_modules_without_a_shell() -> None:
    starting = {
        path for path, module in modules().items() if {"subprocess", "pty", "webbrowser"} & set(imported(module))
    }
    assert starting == STARTS
    calls = [call for module in modules().values() for call in called(module)]
    assert not [ast.unparse(call) for call in calls if any(keyword.arg == "shell" for keyword in call.keywords)]
    assert not [ast.unparse(call) for call in calls if "create_subprocess" in ast.unparse(call.func)]


@pytest.mark.attack("2.1/34", "2.2/3", defence="tests.attacks.sources:modules")
def test_no_sql_is_put_together_from_values() -> None:
    """Text of SQL is a constant, or is put together from constants in the one module named here; values are bound."""
    made = {
        path
        for path, module in modules().items()
        if "migrations" not in path
        for node in ast.walk(module)
        if isinstance(node, ast.JoinedStr) and SQL.match(ast.unparse(node).lstrip("rf'\""))
    }
    assert made == MADE_OF_CONSTANTS


@pytest.mark.attack("2.1/6", "2.2/4", defence="tests.attacks.sources:modules")
def test_nothing_is_decided_by_starlettes_url() -> None:
    """It is put together from the Host header: who decides reads the path of the request."""
    found = {
        path: [
            ast.unparse(node)
            for node in ast.walk(module)
            if isinstance(node, ast.Attribute) and ast.unparse(node) in {"request.url", "request.base_url"}
        ]
        for path, module in modules().items()
        if PurePath(path).parts[-2] in {"hub", "doors", "api"}
    }
    assert not names(found)
