"""A plugin of pytest: of the tests that were collected, run those that name a defence without it, each defence in a process of its own.

`echo hub.hosts:Hosts.serve | python -m pytest -n 0 -s -p tests.attacks.undefended tests/hub` shows how the tests of one defence then fail;
`test_undefended.py` shows that all do. It reads names from stdin and answers each with a line of JSON: how each of its tests failed.
Everything is loaded once, before the processes part; a defence is one name in one module, and stands wherever that was imported to.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections import defaultdict
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.attacks import defences
from tests.attacks.defences import DEFENCES
from tests.conftest import empty_database


def find(name: str) -> tuple[Any, str]:
    """The module or class that has the named defence, and what it is called there."""
    module, _, path = name.partition(":")
    owner: Any = importlib.import_module(module)
    *owners, last = path.split(".")
    for part in owners:
        owner = getattr(owner, part)
    return owner, last


def switch_off(name: str) -> None:
    """Put what lets everything pass in the place of the named defence."""
    owner, last = find(name)
    defence = getattr(owner, last)
    setattr(owner, last, DEFENCES[name])
    for other in list(sys.modules.values()) if isinstance(owner, ModuleType) else ():
        if other is not defences and vars(other).get(last) is defence:
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
            try:
                os.dup2(2, 1)
                os.write(writing, json.dumps(_without(name, session)).encode())
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(writing)
        with open(reading) as answer:
            print("\n" + (answer.read() or "{}"), flush=True)
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
