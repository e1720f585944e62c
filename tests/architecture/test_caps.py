"""The caps of docs/architecture.md: what a reader can hold in the head at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("hub", "agents", "mcp_bridge", "llm", "registry")
MODULES = sorted(
    path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "versions" not in path.parts
)

MAX_FUNCTION_LINES = 60
MAX_MODULE_LINES = 500
MAX_PARAMETERS = 6

BOUNDARIES = {
    "hub/app.py": 1,  # a request that no door foresaw
    "hub/doors/health.py": 1,  # whatever ails the database: not ready
    "registry/store/db.py": 2,  # a write's failure is the answer to whoever asked for it
    "registry/callers/issuers.py": 2,  # a token that trips the hub is nobody's; keys that do are not believed
    "agents/discovery.py": 1,  # a card that trips the hub must not end the fetches of all agents
    "agents/bridges/kinds.py": 1,  # third parties' bridges, when they are made
    "agents/bridged.py": 1,  # what a bridge does at its end, when nobody answered
    "agents/hosting/host.py": 1,  # nor a task of an agent that runs here the others
    "agents/own/worker.py": 1,  # nor a run that waited for approval
    "agents/streams.py": 1,  # nor a detached stream the others
    "agents/keeper.py": 2,  # nor a task that cannot be read on the others
    "hub/doors/grpc.py": 1,  # a call over gRPC that the door did not foresee
    "agents/push_delivery.py": 1,  # nor a notification the deliveries of all
    "llm/continuing.py": 1,  # nor a run that is gone on with those of others
    "mcp_bridge/sync.py": 1,  # nor a tool list the listings of all servers
    "mcp_bridge/connection.py": 1,  # the SDK raises groups of anything
    "mcp_bridge/owner.py": 1,  # the same, when a connection breaks
    "registry/bench.py": 1,  # what others' code raises is raised where it is waited for
    "registry/rules/guards.py": 1,  # third parties' guards: what is not looked at does not pass
    "registry/rules/guard_kinds.py": 1,  # the same, when they are made
    "mcp_bridge/server.py": 1,  # the SDK would tell the caller the exception's own words
}
"""Where a broad `except` may stand, and how many."""


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_stays_within_the_caps(path: Path) -> None:
    """500 lines a module, 60 lines a function, 6 parameters; a module says what it is."""
    text = path.read_text()
    assert text.count("\n") <= MAX_MODULE_LINES
    assert ast.get_docstring(ast.parse(text)), "a module says what it owns"
    long = [f.name for f in functions(path) if (f.end_lineno or 0) - f.lineno + 1 > MAX_FUNCTION_LINES]
    assert not long, f"functions over {MAX_FUNCTION_LINES} lines: {long}"
    for function in functions(path):
        found = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        found = [argument for argument in found if argument.arg not in {"self", "cls"}]
        assert len(found) <= MAX_PARAMETERS, f"{function.name} takes {len(found)} parameters"


def test_broad_excepts_stand_at_the_boundaries_only() -> None:
    """A failure is caught where it is understood; four boundaries turn the rest into answers and log lines."""
    found: dict[str, int] = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and (
                node.type is None
                or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"})
            ):
                reraises = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
                if not reraises:
                    found[name(path)] = found.get(name(path), 0) + 1
    assert {path: count for path, count in found.items() if count > BOUNDARIES.get(path, 0)} == {}


def test_no_module_keeps_state() -> None:
    """Module state is constants: names in capitals, a logger, a router, or a type."""
    wrong = []
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            for target in targets:
                mutable = isinstance(
                    getattr(node, "value", None), ast.List | ast.Set | ast.ListComp | ast.SetComp | ast.DictComp
                )
                if (
                    isinstance(target, ast.Name)
                    and mutable
                    and not target.id.lstrip("_").isupper()
                    and target.id != "__all__"
                ):
                    wrong.append(f"{name(path)}: {target.id}")
    assert wrong == []


def test_nothing_unfinished_is_marked_in_the_code() -> None:
    """Unfinished work is an issue, not a comment."""
    marks = ("TO" + "DO", "FIX" + "ME", "X" + "XX:", "NotImplemented" + "Error")
    assert [name(path) for path in MODULES if any(mark in path.read_text() for mark in marks)] == []
