"""A plugin of pytest that switches one defence of the hub off: `python -m pytest -p tests.attacks.undefended --undefended NAME ...`.

A test that says `@pytest.mark.attack(..., defence=NAME)` must then fail; `test_undefended.py` shows that it does.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest

from registry.identity import NOBODY


async def _somebody(*_: Any) -> Any:
    return NOBODY


DEFENCES: dict[str, Callable[..., Any]] = {
    "hub.hosts:Hosts.serve": lambda *_: True,
    "hub.hosts:Hosts.allow": lambda *_: True,
    "hub.auth:Authenticator.principal": _somebody,
    "registry.egress.guard:is_public": lambda _: True,
    "registry.access:Grants.allow": lambda *_: True,
    "registry.access:Grants.cover": lambda *_: True,
    "registry.judged:_check_depth": lambda _: None,
    "registry.judged:_check_duplicates": lambda *_: None,
    "registry.judged:check_spelling": lambda *_: None,
    "mcp_bridge.fastlane:_mirror": lambda *_: None,
    "mcp_bridge.fastlane:_once": lambda headers: dict(headers),
    "agents.ledger:Ledger._opens": lambda *_: True,
}
"""What stands in the place of a defence, by its module and name: it lets everything pass."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--undefended`."""
    parser.addoption("--undefended", choices=sorted(DEFENCES))


def pytest_configure(config: pytest.Config) -> None:
    """Switch the named defence off before anything is collected."""
    name = config.getoption("--undefended")
    module, _, path = name.partition(":")
    owner: Any = importlib.import_module(module)
    *owners, last = path.split(".")
    for part in owners:
        owner = getattr(owner, part)
    assert callable(getattr(owner, last))
    setattr(owner, last, DEFENCES[name])
