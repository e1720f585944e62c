"""Calls that wait for input, and calls that use the same request ids: each is its own caller's alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.peers import mcp_asking
from tests.peers.mcp_hub import META, McpHub, headers, open_mcp_hub

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


@pytest.mark.parametrize("kind", ["legacy", "modern"])
async def test_callers_who_all_use_request_id_1_see_their_own_answers_alone(tmp_path: Path, kind: str) -> None:
    async with (
        mcp_asking.asking(kind) as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {peer.url}}}}}") as hub,
    ):
        await hub.listed("peer__echo")
        secrets = [await hub.key("tool:*") for _ in range(10)]
        found = await asyncio.gather(
            *(call(hub, secrets[n % 10], "peer__echo", META, arguments={"text": f"word {n}"}) for n in range(CALLERS))
        )
    for n, one in enumerate(found):
        assert one["id"] == 1
        assert one["result"]["content"][0]["text"].endswith(f"word {n}")
