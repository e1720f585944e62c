"""Limits over two hub processes on one database, and after kill -9 of one of them."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from agents.speech import Speech
from tests.conftest import ADMIN_KEY
from tests.doors.test_limits import CALLS, use_tool
from tests.peers.a2a_sdk_agents import open_agent
from tests.peers.mcp_servers import dual_era
from tests.peers.openai_upstream import Turn, openai_upstream
from tests.processes import HubProcess, hub_process

CLIENTS = 100
BUDGET = 50


async def limited(hub: HubProcess, **members: object) -> str:
    async with hub.http() as admin:
        body = {"name": "rita", "allow": ["model:*", "tool:*", "agent:*"], **members}
        made = await admin.post("/api/keys", json=body)
        assert made.status_code == 201, made.text
        secret: str = made.json()["key"]
        return secret


async def used(hub: HubProcess) -> float:
    async with hub.http(ADMIN_KEY) as admin:
        (one,) = (await admin.get("/api/keys/rita")).json()["used"]
        found: float = one["used"]
        return found


@pytest.mark.parametrize("kind", ["model", "tool", "agent"])
@pytest.mark.attack("2.1/41")
async def test_of_100_clients_of_two_processes_exactly_50_pass(tmp_path: Path, kind: str) -> None:
    async with (
        openai_upstream(Turn("hi")) as upstream,
        dual_era() as server,
        open_agent(Speech("JSONRPC", "1.0")) as agent,
    ):
        yaml = (
            f"models: {{m: {{provider: openai, base_url: '{upstream.url}', api_key: sk-up-000, price: {{input: 0, call: 0.02}}}}}}\n"
            f"mcpServers: {{s: {{url: '{server.url}', price: {{call: 0.02}}}}}}\n"
            f"agents: {{echo: {{url: '{agent.url}', price: {{call: 0.02}}}}}}\n"
        )
        async with hub_process(tmp_path, yaml) as one, hub_process(tmp_path, yaml) as other:
            secret = await limited(one, budget={"usd": BUDGET * 0.02, "per": "day"})
            async with one.http(secret) as http, other.http(secret) as elsewhere:
                for each in (http, elsewhere):
                    each.timeout = httpx.Timeout(120)
                answers = await asyncio.gather(
                    *(CALLS[kind](elsewhere if number % 2 else http) for number in range(CLIENTS))
                )
            outcomes = [answer.status_code for answer in answers]
            assert (outcomes.count(200), outcomes.count(429)) == (BUDGET, CLIENTS - BUDGET)
            assert await used(other) == pytest.approx(BUDGET * 0.02)


async def test_after_kill_9_what_waited_comes_back_and_what_was_sent_counts(tmp_path: Path) -> None:
    async with dual_era() as server:
        yaml = f"mcpServers: {{s: {{url: '{server.url}', concurrency: 1, price: {{call: 1}}}}}}\n"
        async with hub_process(tmp_path, yaml) as first:
            secret = await limited(first, budget={"usd": 3, "per": "day"})
            async with first.http(secret) as http:
                calls = [asyncio.create_task(use_tool(http, "s__wait")) for _ in range(6)]
                await server.waiting.wait()
                assert await used(first) == 1
                first.send(signal.SIGKILL)
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(outcome, httpx.HTTPError) for outcome in outcomes)
        server.release.set()
        async with hub_process(tmp_path, yaml) as second, second.http(secret) as http:
            assert await used(second) == 1
            assert [(await use_tool(http)).status_code for _ in range(3)] == [200, 200, 429]


async def test_after_kill_9_far_from_the_limit_just_what_was_sent_counts(tmp_path: Path) -> None:
    async with dual_era() as server:
        yaml = f"mcpServers: {{s: {{url: '{server.url}', concurrency: 1, price: {{call: 1}}}}}}\n"
        async with hub_process(tmp_path, yaml) as first:
            secret = await limited(first, budget={"usd": 200, "per": "day"})
            async with first.http(secret) as http:
                assert [(await use_tool(http)).status_code for _ in range(5)] == [200] * 5
                calls = [asyncio.create_task(use_tool(http, "s__wait")) for _ in range(6)]
                await server.waiting.wait()
                first.send(signal.SIGKILL)
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(outcome, httpx.HTTPError) for outcome in outcomes)
        server.release.set()
        async with hub_process(tmp_path, yaml) as second, second.http(secret) as http:
            assert await used(second) == 6
            assert [(await use_tool(http)).status_code for _ in range(196)] == [200] * 194 + [429] * 2
