"""The line before a server that is a process of its own, seen from `/mcp`: who waits, for how long, and who is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mcp_bridge import line as line_module
from mcp_bridge.line import FAILURES, PAUSE_S, Line
from tests.peers.mcp_hub import McpHub, open_mcp_hub
from tests.peers.mcp_process import Process, server_process
from tests.peers.mcp_waiting import legacy_call, modern_call, read, session
from tests.until import until

KINDS = ("modern", "legacy")


@asynccontextmanager
async def hub_before(kind: str, directory: Path, *, concurrency: int) -> AsyncIterator[tuple[McpHub, Process, Line]]:
    async with server_process(kind, directory) as server:
        yaml = f"mcpServers: {{peer: {{url: '{server.url}', concurrency: {concurrency}}}}}\n"
        async with open_mcp_hub(directory, yaml) as hub:
            await hub.listed("peer__work")
            yield hub, server, hub.upstream("peer")._line


class Caller:
    """One client of either era."""

    def __init__(self, http: httpx.AsyncClient, given: dict[str, str] | None) -> None:
        self._http = http
        self._given = given

    async def call(self, tool: str = "echo", **arguments: Any) -> tuple[int, dict[str, Any]]:
        """The HTTP status and the JSON-RPC answer."""
        body, given = modern_call(f"peer__{tool}", {})
        if self._given is not None:
            body, given = legacy_call(f"peer__{tool}"), self._given
        body["params"]["arguments"] = arguments
        answer = await self._http.post("/mcp", json=body, headers=given)
        return answer.status_code, read(answer)


async def callers(http: httpx.AsyncClient) -> list[Caller]:
    """One of each era."""
    return [Caller(http, None), Caller(http, await session(http, {}))]


async def waiting(line: Line, calls: int) -> None:
    await until(lambda: len(line._waiting) == calls)


async def free(line: Line) -> None:
    await until(lambda: not line._taken)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.attack("2.2/18")
async def test_more_calls_than_places_wait_in_line_and_all_get_their_own_answers(tmp_path: Path, kind: str) -> None:
    async with (
        hub_before(kind, tmp_path, concurrency=4) as (hub, server, line),
        hub.http(await hub.key("tool:*")) as ann,
        hub.http(await hub.key("tool:*")) as bob,
    ):
        both = [*await callers(ann), *await callers(bob)]
        calls = [asyncio.create_task(both[number % 4].call("work", text=f"word {number}")) for number in range(20)]
        await waiting(line, 16)
        await server.works(4)
        server.release()
        answers = [answer["result"]["content"][0]["text"] for _, answer in await asyncio.gather(*calls)]
    assert answers == [f"word {number} of 4" for number in range(20)]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_line_that_is_full_or_takes_too_long_says_so_in_mcps_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(line_module, "MAX_WAITING", 2)
    async with (
        hub_before(kind, tmp_path, concurrency=2) as (hub, server, line),
        hub.http(await hub.key("tool:*")) as http,
    ):
        both = await callers(http)
        calls = [asyncio.create_task(both[number % 2].call("work", text=number)) for number in range(3)]
        await waiting(line, 2)
        await server.works(1)
        refusals = [await one.call() for one in both]
        calls.pop().cancel()
        await waiting(line, 1)
        monkeypatch.setattr(line_module, "WAIT_S", 0.0)
        refusals += [await one.call() for one in both]
        server.release()
        assert all("result" in answer for _, answer in await asyncio.gather(*calls))
    for (status, answer), words in zip(
        refusals,
        ["Too many calls wait for peer; try again."] * 2
        + ["peer has all the calls it may have at a time; try again."] * 2,
        strict=True,
    ):
        assert (status, answer["error"]["code"], answer["error"]["message"]) == (503, -32603, words)


class Clock:
    """The line's, so that nobody sleeps."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("kind", KINDS)
async def test_a_dead_server_is_left_alone_until_a_call_sees_it_back_and_one_that_sees_nothing_costs_no_pause(
    tmp_path: Path, kind: str
) -> None:
    async with (
        hub_before(kind, tmp_path, concurrency=10) as (hub, server, line),
        hub.http(await hub.key("tool:*")) as http,
    ):
        both = await callers(http)
        clock = line._clock = Clock()
        await server.kill()
        for number in range(FAILURES):
            assert "in a row" not in (await both[number % 2].call())[1]["error"]["message"]
        await server.start()
        for caller in both:
            said = (await caller.call())[1]["error"]["message"]
            assert said == f"peer: it failed {FAILURES} times in a row; it is asked again in 1 s"
        clock.now += PAUSE_S
        body, given = modern_call("peer__echo", {})
        body["params"] |= {"inputResponses": {}, "requestState": "made up"}
        assert read(await http.post("/mcp", json=body, headers=given))["error"]["code"] == -32602
        leaving = asyncio.create_task(both[0].call("work"))
        await server.works(1)
        assert "in a row" in (await both[1].call())[1]["error"]["message"], "one at a time sees"
        leaving.cancel()
        await server.cancelled()
        await free(line)
        for caller in both:
            assert (await caller.call(text="back"))[1]["result"]["content"][0]["text"] == "back of 1"
