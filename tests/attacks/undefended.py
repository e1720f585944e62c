"""A plugin of pytest: of the tests that were collected, run those that name a defence without it, each defence in a process of its own.

`echo hub.hosts:Hosts.serve | python -m pytest -n 0 -s -p tests.attacks.undefended tests/hub` shows how the tests of one defence then fail;
`test_undefended.py` shows that all do. It reads names from stdin and answers each with a line of JSON: how each of its tests failed.
Everything is loaded once, before the processes part; a defence is one name in one module, and stands wherever that was imported to.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import socket
import sys
from collections import defaultdict
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from registry.egress.guard import Address, Guard
from registry.egress.http import Call, Incoming
from registry.identity import NOBODY
from registry.rules.guards import Seen
from tests.conftest import empty_database

NEVER = re.compile("(?!)")
"""A pattern that finds nothing."""


async def _somebody(*_: Any) -> Any:
    return NOBODY


async def _nothing(*_: Any) -> None:
    return None


async def _any_address(_guard: Guard, host: str, port: int, **_: Any) -> Address:
    found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    return ip_address(str(found[0][4][0]))


async def _following(call: Call, enter: Any = Call.__aenter__) -> Incoming:
    """Enter a call as its method does, and follow where its answer leads."""
    incoming = await enter(call)
    location = incoming.header("location")
    if location is None:
        return incoming
    await call.__aexit__(None, None, None)
    call._outgoing = msgspec.structs.replace(call._outgoing, url=location)
    return await enter(call)


async def _all_of_it(incoming: Incoming) -> bytes:
    return b"".join([piece async for piece in incoming])


DEFENCES: dict[str, Any] = {
    "hub.hosts:Hosts.serve": lambda *_: True,
    "hub.hosts:Hosts.allow": lambda *_: True,
    "hub.auth:Authenticator.principal": _somebody,
    "hub.browsers:Browsers.check_site": lambda *_: None,
    "hub.browsers:Browsers.check_token": lambda *_: None,
    "registry.egress.guard:is_public": lambda _: True,
    "registry.access:Grants.allow": lambda *_: True,
    "registry.access:Grants.cover": lambda *_: True,
    "registry.judged:_check_depth": lambda _: None,
    "registry.judged:_check_duplicates": lambda *_: None,
    "registry.judged:check_spelling": lambda *_: None,
    "mcp_bridge.fastlane:_mirror": lambda *_: None,
    "mcp_bridge.fastlane:_once": lambda headers: dict(headers),
    "agents.ledger:Ledger._opens": lambda *_: True,
    "registry.egress.http:Call.__aenter__": _following,
    "registry.egress.http:Incoming.read": _all_of_it,
    "registry.egress.guard:Guard.resolve": _any_address,
    "registry.egress.guard:Guard.opens": lambda *_: True,
    "registry.egress.request:_NOT_IN_A_VALUE": NEVER,
    "registry.trust.pins:_grave": lambda _: None,
    "registry.trust.pins:_withheld": lambda *_: None,
    "registry.trust.scanning:_of_characters": lambda *_, **__: (),
    "registry.trust.scanning:_shadowing": lambda *_: (),
    "registry.rules.guards:look_now": lambda _guards, _side, value, **_: Seen(value, ()),
    "registry.callers.tokens:_paths": lambda *_: None,
    "registry.callers.keys:Keys._check_fresh": lambda _: None,
    "mcp_bridge.naming:_HASHED": NEVER,
    "mcp_bridge.oauth.connect:_is_begun_by": lambda *_: True,
    "mcp_bridge.oauth.discovery:issuers_match": lambda *_: True,
    "mcp_bridge.oauth.fetch:check_browsable": _nothing,
    "hub.doors.connect_pages:escape": str,
}
"""What stands in the place of a defence, by its module and name: it lets everything pass."""


def switch_off(name: str) -> None:
    """Put what lets everything pass in the place of the named defence."""
    module, _, path = name.partition(":")
    owner: Any = importlib.import_module(module)
    *owners, last = path.split(".")
    for part in owners:
        owner = getattr(owner, part)
    defence = getattr(owner, last)
    setattr(owner, last, DEFENCES[name])
    for other in [] if owners else list(sys.modules.values()):
        if vars(other).get(last) is defence:
            setattr(other, last, DEFENCES[name])


class _Failures:
    """How tests failed, and whether it was a claim of theirs that did not hold."""

    def __init__(self) -> None:
        self.found: dict[str, list[tuple[bool, str]]] = defaultdict(list)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
        report = yield
        if call.excinfo is not None and call.when == "call":
            self.found[test_of(item)].append((_is_claim(call.excinfo.value), call.excinfo.exconly(tryshort=True)[:500]))
        return report

    def has_claim(self, test: str) -> bool:
        """Whether a claim of this test did not hold."""
        return any(claim for claim, _ in self.found.get(test, ()))


def _is_claim(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_is_claim(one) for one in error.exceptions)
    return isinstance(error, AssertionError | pytest.fail.Exception)


def test_of(item: pytest.Item) -> str:
    """The node id of a test without its parameters."""
    return item.nodeid.partition("[")[0]


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Answer each name on stdin with how the tests fail that name it as their defence."""
    # what tests share is made before the processes part, which end without tidying
    empty_database()
    session.config._tmp_path_factory.getbasetemp()
    for line in sys.stdin:
        name = line.strip()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(2, 1)
            os.write(writing, json.dumps(_without(name, session)).encode())
            os._exit(0)
        os.close(writing)
        with open(reading) as answer:
            print("\n" + answer.read(), flush=True)
        os.waitpid(child, 0)
    return True


def _without(name: str, session: pytest.Session) -> dict[str, list[tuple[bool, str]]]:
    failures = _Failures()
    session.config.pluginmanager.register(failures)
    switch_off(name)
    for item in session.items:
        about = any(mark.kwargs.get("defence") == name for mark in item.iter_markers("attack"))
        if about and not failures.has_claim(test_of(item)):  # of the parameters of a test, one is enough
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    return failures.found
