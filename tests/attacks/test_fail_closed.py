"""Whatever fails of what decides who may do what, nothing passes: at no door, with no key, and nothing goes upstream."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.auth import Authenticator
from registry.access import Grants
from registry.callers.keys import STALE_AFTER_S, Keys
from registry.gate import Gate
from registry.rules.policy import Judge
from tests.attacks.test_bad_input import DOORS
from tests.conftest import ADMIN_KEY, Hub, OpenHub
from tests.peers.a2a_agent import reply, rough_agent, simple_card, task
from tests.peers.mcp_hub import headers, message
from tests.peers.mcp_servers import Peer, dual_era
from tests.peers.mcp_turncoat import Turncoat, tool
from tests.peers.openai_upstream import OpenAIUpstream, Turn, openai_upstream

RULES = """
policy:
  - {name: never, effect: deny, when: '"never" in arguments'}
"""
CALLS: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "a2a": (DOORS["a2a"].path, DOORS["a2a"].good, DOORS["a2a"].headers),
    "mcp": ("/mcp", message("tools/call", {"name": "peer__add", "arguments": {}}), headers("tools/call", "peer__add")),
    "chat": ("/v1/chat/completions", {"model": "up", "messages": [{"role": "user", "content": "hi"}]}, {}),
    "messages": ("/v1/messages", {"model": "up", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}, {}),
    "responses": ("/v1/responses", {"model": "up", "input": "hi"}, {}),
    "api": ("/api/keys", {"name": "more", "allow": []}, {}),
}


@dataclass
class Scene:
    hub: Hub
    directory: Path
    secret: str
    asked: list[Any]
    """What the agent was asked."""
    peer: Peer
    upstream: OpenAIUpstream

    async def statuses(self) -> dict[str, int]:
        """How each door answers a good call."""
        found = {}
        async with self.hub.http(self.secret) as http:
            for name, (path, body, sent) in CALLS.items():
                found[name] = (await http.post(path, json=body, headers=sent)).status_code
        return found

    async def let_nothing_pass(self, *expected: int) -> None:
        """No door answers otherwise, and nobody was asked anything."""
        before = len(self.asked), len(self.peer.calls), len(self.upstream.received)
        statuses = await self.statuses()
        assert {name for name, status in statuses.items() if status not in expected} == set(), statuses
        assert (len(self.asked), len(self.peer.calls), len(self.upstream.received)) == before
        with contextlib.closing(sqlite3.connect(self.directory / "hubbub.db")) as database:
            assert database.execute(
                "SELECT count(*) FROM api_keys WHERE name = 'more' AND revoked_at IS NULL"
            ).fetchone() == (0,)


@pytest.fixture
async def scene(hub: OpenHub, tmp_path: Path) -> AsyncIterator[Scene]:
    asked: list[Any] = []

    async def answer(request: Any, send: Any) -> None:
        asked.append(request)
        await reply(send, {"jsonrpc": "2.0", "id": 1, "result": {"task": task("t1")}})

    async with (
        rough_agent(answer, simple_card("1.0")) as agent,
        dual_era(Turncoat([tool("add", "Adds.")]).serve) as peer,
        openai_upstream(*[Turn("hello")] * 12) as upstream,
        hub(
            f"agents:\n  echo: {{url: {agent.url}}}\n"
            f"mcpServers:\n  peer: {{url: {peer.url}}}\n"
            f"models:\n  up: {{provider: openai_compatible, base_url: {upstream.url}, "
            f"price: {{input: 1, output: 1}}}}\n{RULES}"
        ) as running,
    ):
        await running.services.sync.refresh("peer")
        secret = await running.key("agent:*", "model:*", "tool:*", "server:*", "admin:keys")
        scene = Scene(running, tmp_path, secret, asked, peer, upstream)
        statuses = await scene.statuses()
        assert all(status in {200, 201} for status in statuses.values()), statuses
        async with running.http(ADMIN_KEY) as admin:
            await admin.delete("/api/keys/more")
        yield scene


@contextmanager
def without(directory: Path, table: str) -> Iterator[None]:
    """The database as if a table of it could not be read."""
    with contextlib.closing(sqlite3.connect(directory / "hubbub.db", isolation_level=None)) as database:
        database.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
        try:
            yield
        finally:
            database.execute(f"ALTER TABLE elsewhere RENAME TO {table}")


async def test_keys_that_cannot_be_read_open_nothing(scene: Scene) -> None:
    with without(scene.directory, "members"):  # who a key stands for is one query over keys, users, teams and members
        scene.hub.services.keys.forget()
        await scene.let_nothing_pass(500, 503)
    assert (await scene.statuses())["chat"] == 200


@pytest.mark.attack("2.1/37")
async def test_what_is_remembered_of_keys_opens_nothing_once_changes_were_not_read_for_ten_seconds(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with without(scene.directory, "changes"):  # from here on no look at them ends well
        assert (await scene.statuses())["chat"] == 200
        monkeypatch.setattr(scene.hub.services.keys, "_clock", lambda: time.monotonic() + STALE_AFTER_S)
        await scene.let_nothing_pass(503)
    async with asyncio.timeout(20):
        while (await scene.statuses())["chat"] != 200:  # they are read again
            await asyncio.sleep(0.01)


BROKEN: dict[str, tuple[Any, str]] = {
    "who it is": (Authenticator, "_find"),
    "who is remembered": (Keys, "check_fresh"),
    "from where and to which door": (Authenticator, "check"),
    "what is granted": (Grants, "allow"),
    "which rules are about a call": (Judge, "plan"),
    "what a rule says": (Judge, "check"),
    "the gate": (Gate, "admit"),
}
"""What decides, and fails."""

OF_THE_API = {"who it is", "from where and to which door", "what is granted"}
"""What decides about the admin API too: rules are about calls."""


@pytest.mark.parametrize("what", BROKEN)
async def test_what_fails_while_it_decides_decided_no(scene: Scene, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a bug")

    scene.hub.services.keys.forget()  # nothing is remembered of what was decided
    if what not in OF_THE_API:
        monkeypatch.delitem(CALLS, "api")
    with monkeypatch.context() as patched:
        patched.setattr(*BROKEN[what], failing)
        await scene.let_nothing_pass(500)
    assert (await scene.statuses())["chat"] == 200


@pytest.mark.parametrize("limits", ["limits: {calls_per_day: 5}", "budget: {usd: 5, per: month}"])
async def test_calls_that_cannot_be_counted_are_not_made(scene: Scene, limits: str) -> None:
    async with scene.hub.http(ADMIN_KEY) as admin:
        body = {"name": "counted", "allow": ["model:*"], **yaml.safe_load(limits)}
        secret = (await admin.post("/api/keys", json=body)).json()["key"]
    path, good, sent = CALLS["chat"]
    with without(scene.directory, "counters"):
        async with scene.hub.http(secret) as http:
            assert (await http.post(path, json=good, headers=sent)).status_code in {402, 429, 500, 503}
    assert len(scene.upstream.received) == 3
