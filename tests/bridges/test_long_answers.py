"""Answers of agents on platforms that are long: what of them outlives the hub, and what is in memory."""

from __future__ import annotations

import asyncio
import signal
import tracemalloc
from contextlib import aclosing
from functools import cache
from pathlib import Path

import pytest

from agents.hosting.live import UNKEPT_BYTES
from agents.speech import SPEECHES
from registry.egress.http1 import Connection
from tests.bridges.kinds import KINDS
from tests.bridges.test_bridges import bench, of, state_of, text_of
from tests.peers.a2a_clients import message, open_client
from tests.peers.platforms.adk_server import ADK
from tests.peers.platforms.openai_chat import OPENAI_CHAT
from tests.peers.platforms.platform import Kind
from tests.peers.platforms.responses_api import AZURE
from tests.processes import hub_process, known_dead

KIB = 400


async def test_a_hub_that_is_killed_between_two_pieces_has_lost_none_that_were_kept(tmp_path: Path) -> None:
    async with OPENAI_CHAT.open(tmp_path) as platform, asyncio.timeout(90):
        yaml = f"agents:\n  there: {platform.entry}\n"
        async with hub_process(tmp_path, yaml) as hub:
            headers = {"authorization": f"Bearer {await hub.key('rita', 'agent:there')}"}
            async with (
                open_client(f"{hub.url}/a2a/there/", SPEECHES[0], headers=headers) as client,
                aclosing(client.follow("SendStreamingMessage", message(f"long {KIB}"))) as events,
            ):
                seen, task_id = 0, ""
                while seen < KIB * 1024:
                    update = (await anext(events)).get("artifactUpdate")
                    if update:
                        task_id = update["taskId"]
                        seen += sum(len(part["text"]) for part in update["artifact"]["parts"])
                hub.send(signal.SIGKILL)
                await hub.child.wait()
        known_dead(tmp_path)
        async with (
            hub_process(tmp_path, yaml) as hub,
            open_client(f"{hub.url}/a2a/there/", SPEECHES[0], headers=headers) as client,
        ):
            task = await client.ask("GetTask", {"id": task_id})
    assert state_of({"task": task}) == "FAILED"
    assert "the hub was stopped" in task["status"]["message"]["parts"][0]["text"]
    kept = text_of(task)
    assert kept == "x" * len(kept)
    assert seen - 2 * UNKEPT_BYTES < len(kept) <= seen


MIB = 2
BOUND = 1024 * 1024
"""Of it half is one read of the socket, as uvloop reads: the bytes as they came, and the body in them."""

HOLDERS = ("/agents/bridge", "/agents/hosting/", "/registry/egress/", "/registry/judged.py")
"""Who has bytes of an answer in hand on its way."""


@of([one for one in KINDS if "streams" not in one.lacks and not one.is_a2a and one not in (ADK, AZURE)], "frameworks")
async def test_no_bridge_has_more_of_a_long_answer_in_memory_than_some_windows(
    tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of Azure are read as those of OpenAI, ADK's as Vertex's; an MCP server says its answer as one message."""
    held, end = Held(monkeypatch), b""
    async with bench(kind, tmp_path) as b, asyncio.timeout(120):
        b.platform.release()
        asked = {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": message(f"long {MIB * 1024}")}
        async with (
            b.hub.http(await b.hub.key("agent:there")) as client,
            client.stream("POST", "/a2a/there/", json=asked, headers={"a2a-version": "1.0"}) as answer,
        ):
            with held:
                async for piece in answer.aiter_raw():
                    end = piece
    assert b"TASK_STATE_COMPLETED" in end
    assert held.passed >= MIB * 1024 * 1024
    assert held.most < BOUND <= MIB * 1024 * 1024 / 2


class Held:
    """Looks again and again, as an answer comes, at what is allocated of it."""

    EVERY = 1024 * 1024

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = self.most = 0
        receive = Connection.data_received

        def data_received(connection: Connection, data: bytes) -> None:
            receive(connection, data)
            before, self.passed = self.passed, self.passed + len(data)
            if tracemalloc.is_tracing() and before // self.EVERY < self.passed // self.EVERY:
                self.look()

        monkeypatch.setattr(Connection, "data_received", data_received)

    def __enter__(self) -> None:
        tracemalloc.start()

    def __exit__(self, *_: object) -> None:
        tracemalloc.stop()

    def look(self) -> None:
        traces = tracemalloc.take_snapshot().traces
        self.most = max(self.most, sum(one.size for one in traces if self._is_ours(one.traceback[0].filename)))

    @staticmethod
    @cache
    def _is_ours(file: str) -> bool:
        return any(name in file for name in HOLDERS)
