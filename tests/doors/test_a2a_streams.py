"""Streams whose clients leave and come back, over JSON-RPC by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from agents.speech import SPEECHES, Speech
from tests.conftest import OpenHub
from tests.peers.a2a_sdk_agents import open_agent


def rpc(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": "mine", "method": method, "params": params}


def said(text: str) -> dict[str, Any]:
    return {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}]}}


async def events(
    http: httpx.AsyncClient, body: dict[str, Any], *, after: int | None = None
) -> AsyncIterator[tuple[int, dict[str, Any]]]:
    headers = {} if after is None else {"last-event-id": str(after)}
    number = 0
    async with http.stream("POST", "/a2a/echo", json=body, headers=headers) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                number = int(line[4:])
            elif line.startswith("data: "):
                event = json.loads(line[6:])
                assert event["id"] == "mine"
                yield number, event.get("result") or event


@pytest.mark.parametrize("speech", SPEECHES, ids=str)
async def test_who_comes_back_gets_exactly_what_it_missed(hub: OpenHub, speech: Speech) -> None:
    async with (
        open_agent(speech) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n") as running,
        running.http(await running.key("agent:*")) as http,
    ):
        seen = []
        async with aclosing(events(http, rpc("SendStreamingMessage", said("slow 3")))) as stream:
            async for number, event in stream:
                seen.append((number, event))
                if len(seen) == 2:
                    await peer.release()
                if "artifactUpdate" in event:
                    break
        task_id = seen[0][1]["task"]["id"]
        body = rpc("SubscribeToTask", {"id": task_id})
        async with aclosing(events(http, body, after=1)) as stream:
            again = [await anext(stream), await anext(stream)]
            assert again == seen[1:3]
            await peer.release(2)
            rest = [one async for one in stream]
        numbers = [number for number, _ in again + rest]
        assert numbers == list(range(2, 2 + len(numbers)))
        assert rest[-1][1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
        whole = [one async for one in events(http, body, after=0)]
        assert [number for number, _ in whole] == list(range(1, numbers[-1] + 1))
        refused = [event async for _, event in events(http, body, after=numbers[-1])]
        assert refused[0]["error"]["code"] == -32004


async def test_two_subscribers_see_the_same_events_and_the_agent_has_one_reader(hub: OpenHub) -> None:
    async with (
        open_agent(SPEECHES[0]) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n") as running,
        running.http(await running.key("agent:*")) as http,
    ):
        async with aclosing(events(http, rpc("SendStreamingMessage", said("slow 2")))) as first:
            seen = [await anext(first), await anext(first)]
            body = rpc("SubscribeToTask", {"id": seen[0][1]["task"]["id"]})
            async with aclosing(events(http, body, after=seen[-1][0])) as second:
                await peer.release(2)
                mine = [one async for one in first]
                theirs = [one async for one in second]
        assert mine == theirs
        assert peer.operations == ["SendStreamingMessage"]


async def test_a_detached_agent_does_not_see_its_client_leave(hub: OpenHub) -> None:
    yaml = "agents:\n  echo: {{url: {url}, detach: true}}\n"
    async with (
        open_agent(SPEECHES[0]) as peer,
        hub(yaml.format(url=peer.url)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        async with aclosing(events(http, rpc("SendStreamingMessage", said("slow 2")))) as stream:
            seen = [await anext(stream), await anext(stream)]
            await peer.release()
            seen.append(await anext(stream))
        body = rpc("SubscribeToTask", {"id": seen[0][1]["task"]["id"]})
        async with aclosing(events(http, body, after=seen[-1][0])) as again:
            await peer.release()
            rest = [one async for one in again]
        assert rest[-1][1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
        assert [number for number, _ in seen + rest] == list(range(1, len(seen + rest) + 1))
        assert not peer.disconnects
        assert peer.operations == ["SendStreamingMessage"]


async def test_who_goes_on_with_a_task_reads_it_and_its_subscriber_sees_the_same(hub: OpenHub) -> None:
    async with (
        open_agent(SPEECHES[0]) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n") as running,
        running.http(await running.key("agent:*")) as http,
    ):
        asked = [one async for one in events(http, rpc("SendStreamingMessage", said("ask")))]
        task = asked[0][1]["task"]
        async with aclosing(events(http, rpc("SubscribeToTask", {"id": task["id"]}), after=asked[-1][0] - 1)) as other:
            seen = [await anext(other)]
            body = said("yes")
            body["message"] |= {"taskId": task["id"], "contextId": task["contextId"], "messageId": "m2"}
            answered = [one async for one in events(http, rpc("SendStreamingMessage", body))]
            seen += [one async for one in other]
        assert [number for number, _ in seen] == list(range(asked[-1][0], answered[-1][0] + 1))
        assert seen[-1] == answered[-1]
        assert seen[-1][1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_many_who_come_back_at_once_have_one_reader(hub: OpenHub) -> None:
    async with (
        open_agent(SPEECHES[0]) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n") as running,
        running.http(await running.key("agent:*")) as http,
    ):
        async with aclosing(events(http, rpc("SendStreamingMessage", said("slow 2")))) as first:
            seen = [await anext(first), await anext(first)]
        body = rpc("SubscribeToTask", {"id": seen[0][1]["task"]["id"]})

        async def follow() -> list[tuple[int, dict[str, Any]]]:
            return [one async for one in events(http, body, after=seen[-1][0])]

        followers = [asyncio.create_task(follow()) for _ in range(8)]
        while "SubscribeToTask" not in peer.operations:
            await asyncio.sleep(0)
        await peer.release(2)
        found = await asyncio.gather(*followers)
        assert all(one == found[0] for one in found)
        assert found[0][-1][1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
        assert peer.operations.count("SubscribeToTask") == 1
