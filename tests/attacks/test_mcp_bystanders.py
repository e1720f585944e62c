"""Calls that wait for input, and calls that use the same request ids: each is its own caller's alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from mcp_bridge import pool
from tests.peers import mcp_asking
from tests.peers.mcp_hub import META, McpHub, headers, message, open_mcp_hub
from tests.peers.mcp_waiting import KINDS, hub_before, read, rpc, session

ASKABLE = {**META, "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}
CALLERS = 200


async def call(hub: McpHub, secret: str, name: str, meta: dict[str, Any] = ASKABLE, **params: Any) -> dict[str, Any]:
    """A tools/call of 2026-07-28, always under request id 1."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "_meta": meta, **params}}
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        given = {**headers("tools/call", name), "authorization": f"Bearer {secret}"}
        answer = await http.post(f"{hub.url}/mcp", json=body, headers=given)
    found: dict[str, Any] = answer.json()
    return found


def answers(asked: dict[str, Any]) -> dict[str, Any]:
    """What a person says to every question."""
    return {key: {"action": "accept", "content": {"name": "Ann"}} for key in asked["inputRequests"]}


@pytest.mark.parametrize("kind", ["legacy", "modern"])
@pytest.mark.attack("2.1/15", "2.2/27")
async def test_a_call_that_waits_for_input_goes_on_for_its_caller_alone(tmp_path: Path, kind: str) -> None:
    yaml = "mcpServers: {{peer: {{url: {url}}}, twin: {{url: {url}}}}}"
    async with mcp_asking.asking(kind) as peer, open_mcp_hub(tmp_path, yaml.format(url=peer.url)) as hub:
        await hub.listed("peer__ask_twice", "twin__ask_twice")
        ann, bob = await hub.key("tool:*"), await hub.key("tool:*")

        async def retry(secret: str, name: str = "peer__ask_twice", **params: Any) -> dict[str, Any]:
            return await call(hub, secret, name, **{"arguments": {}, **params})

        asked = (await retry(ann))["result"]
        if kind == "modern":  # the server keeps nothing, and has something to keep after the first answer only
            asked = (await retry(ann, inputResponses=answers(asked)))["result"]
        said, state = answers(asked), asked["requestState"]
        broken = f"{'B' if state[0] == 'A' else 'A'}{state[1:]}"
        thefts = [
            await retry(bob, inputResponses=said, requestState=state),
            await retry(ann, "twin__ask_twice", inputResponses=said, requestState=state),
            await retry(ann, arguments={"a": 1}, inputResponses=said, requestState=state),
            await retry(ann, inputResponses=said, requestState=broken),
            await retry(bob, inputResponses=said, requestState="made up"),
        ]
        assert {one["error"]["code"] for one in thefts} == {-32602}
        assert len({one["error"]["message"] for one in thefts}) == 1
        result = (await retry(ann, inputResponses=said, requestState=state))["result"]
        if kind == "legacy":  # an answer brought twice is none to the next question
            again = (await retry(ann, inputResponses=said, requestState=state))["result"]
            assert again["inputRequests"] == result["inputRequests"] != asked["inputRequests"]
            said, state = answers(result), result["requestState"]
            result = (await retry(ann, inputResponses=said, requestState=state))["result"]
            over = await retry(ann, inputResponses=said, requestState=state)
            assert over["error"]["message"] == thefts[0]["error"]["message"]
        assert result["content"][0]["text"].startswith(f"{kind} accept:{{'name': 'Ann'}}")


Ask = Callable[[httpx.AsyncClient, int], Awaitable[httpx.Response]]


async def ask_modern(http: httpx.AsyncClient, number: int) -> httpx.Response:
    body = message("tools/call", {"name": "peer__echo", "arguments": {"text": f"word {number}"}})
    return await http.post("/mcp", json=body, headers=headers("tools/call", "peer__echo"))


async def ask_older(http: httpx.AsyncClient, number: int) -> httpx.Response:
    """The same in a session of its own, whose requests all have the id 1 too."""
    given = await session(http, {})
    body = rpc("tools/call", {"name": "peer__echo", "arguments": {"text": f"word {number}"}})
    return await http.post("/mcp", json=body, headers=given)


@pytest.mark.parametrize("ask", [ask_modern, ask_older])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.attack("2.1/38", "2.2/18")
async def test_callers_who_all_use_request_id_1_see_their_own_answers_alone(
    tmp_path: Path, kind: str, ask: Ask
) -> None:
    async with hub_before(kind, tmp_path) as (hub, _), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(hub.http(await hub.key("tool:*"))) for _ in range(10)]
        answers = await asyncio.gather(*(ask(clients[number % 10], number) for number in range(CALLERS)))
    for number, answer in enumerate(answers):
        found = read(answer)
        assert found["id"] == 1
        assert found["result"]["content"][0]["text"].endswith(f"word {number}")


async def test_no_cursor_leads_anywhere_whoever_made_it_up(tmp_path: Path) -> None:
    """Lists have one page, so that a cursor is nobody's; were there any, another's would have to look like these."""
    async with open_mcp_hub(tmp_path) as hub:
        for cursor in ("", "made up", "eyJvZmZzZXQiOjF9"):
            for method in ("tools/list", "prompts/list", "resources/list", "resources/templates/list"):
                answers = []
                async with hub.http(await hub.key("tool:*")) as http:
                    body = message(method, {"cursor": cursor})
                    answers.append(await http.post("/mcp", json=body, headers=headers(method)))
                    given = await session(http, {})
                    answers.append(await http.post("/mcp", json=rpc(method, {"cursor": cursor}), headers=given))
                for answer in answers:
                    error = read(answer)["error"]
                    assert (error["code"], error["message"]) == (
                        -32602,
                        "There is no such cursor: the list has one page.",
                    )


async def test_one_key_takes_half_of_the_sessions_with_a_server_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MAX_HTTP_SESSIONS", 4)
    async with (
        hub_before("legacy", tmp_path) as (hub, _),
        hub.http(await hub.key("tool:*")) as ann,
        hub.http(await hub.key("tool:*")) as bob,
    ):
        answers = [read(await ask_older(http, number)) for number, http in enumerate([ann, ann, ann, bob, bob, bob])]
        refused = [one["error"]["message"].partition(";")[0] for one in answers if "error" in one]
    assert ["error" in one for one in answers] == [False, False, True, False, False, True]
    assert refused == ["Too many sessions with this server are open"] * 2
