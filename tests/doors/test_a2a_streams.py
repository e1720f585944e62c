"""Streams whose clients leave and come back, over JSON-RPC by hand."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from agents.speech import SPEECHES, Speech
from registry.ledger.push import Receiver
from tests.conftest import OpenHub, open_hub
from tests.peers.a2a_agent import Seen, reply, rough_agent, simple_card, start, task, write
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


async def test_a_number_that_no_event_has_hides_nothing_that_comes(hub: OpenHub) -> None:
    async with (
        open_agent(SPEECHES[0]) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n") as running,
        running.http(await running.key("agent:*")) as http,
        asyncio.timeout(20),
        aclosing(events(http, rpc("SendStreamingMessage", said("slow 2")))) as first,
    ):
        seen = [await anext(first), await anext(first)]
        path = f"/a2a/echo/tasks/{seen[0][1]['task']['id']}:subscribe"
        async with http.stream("POST", path, headers={"last-event-id": "9" * 18}) as answer:
            lines = answer.aiter_lines()
            await peer.release()
            assert await anext(lines) == "id: 3"
            await peer.release()
            assert [line async for line in lines if line.startswith("id: ")] == ["id: 4", "id: 5"]


async def test_who_subscribes_beside_a_reader_is_shown_no_piece_twice(hub: OpenHub) -> None:
    """The agent's own record is ahead of its stream, as it may be."""
    go = asyncio.Event()

    def piece(text: str) -> dict[str, Any]:
        return {"artifactId": "x", "parts": [{"text": text}]}

    async def answer(one: Seen, send: Any) -> None:
        asked = one.json
        if asked["method"] == "GetTask":
            ahead = {**piece("a "), "parts": [{"text": "a "}, {"text": "b "}]}
            result = {**task("t", "TASK_STATE_WORKING"), "artifacts": [ahead]}
            await reply(send, {"jsonrpc": "2.0", "id": asked["id"], "result": result})
            return
        ids = {"taskId": "t", "contextId": "c"}
        await start(send)
        for event in (
            {"task": task("t", "TASK_STATE_WORKING")},
            {"artifactUpdate": {**ids, "artifact": piece("a "), "append": False}},
            {"artifactUpdate": {**ids, "artifact": piece("b "), "append": True}},
            {"statusUpdate": {**ids, "status": {"state": "TASK_STATE_COMPLETED"}}},
        ):
            if event.get("artifactUpdate", {}).get("append"):
                await go.wait()
            await write(
                send, f"data: {json.dumps({'jsonrpc': '2.0', 'id': asked['id'], 'result': event})}\n\n".encode()
            )
        await send({"type": "http.response.body", "body": b""})

    async with (
        rough_agent(answer, simple_card("1.0")) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n") as running,
        running.http(await running.key("agent:*")) as http,
        asyncio.timeout(20),
        aclosing(events(http, rpc("SendStreamingMessage", said("go")))) as first,
    ):
        assert [number for number, _ in [await anext(first), await anext(first)]] == [1, 2]
        async with aclosing(events(http, rpc("SubscribeToTask", {"id": "t"}))) as second:
            number, now = await anext(second)
            assert (number, now["task"]["artifacts"]) == (2, [piece("a ")])
            go.set()
            rest = [one async for one in second]
        assert rest == [one async for one in first]
        assert [number for number, _ in rest] == [3, 4]


@pytest.mark.parametrize("is_read", [True, False], ids=["beside a reader", "read by nobody"])
async def test_who_comes_back_over_http_json_is_answered_before_anything_comes(hub: OpenHub, is_read: bool) -> None:
    async with (
        open_agent(SPEECHES[0]) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n") as running,
        running.http(await running.key("agent:*")) as http,
        asyncio.timeout(20),
        AsyncExitStack() as stack,
    ):
        first = await stack.enter_async_context(aclosing(events(http, rpc("SendStreamingMessage", said("slow 1")))))
        seen = [await anext(first), await anext(first)]
        if not is_read:
            await first.aclose()  # type: ignore[attr-defined]
        path = f"/a2a/echo/tasks/{seen[0][1]['task']['id']}:subscribe"
        async with http.stream("POST", path, headers={"last-event-id": "2"}) as answer:
            assert answer.status_code == 200
            await peer.release()
            lines = [line async for line in answer.aiter_lines() if line.startswith("id: ")]
        assert lines == ["id: 3", "id: 4"]
        refused = await http.post(path, headers={"last-event-id": "4"})
        assert refused.status_code == 400


async def test_the_end_of_a_task_that_was_only_looked_at_is_shown_to_who_comes_back(hub: OpenHub) -> None:
    async with (
        open_agent(SPEECHES[0]) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n") as running,
        running.http(await running.key("agent:*")) as http,
        asyncio.timeout(20),
    ):
        async with aclosing(events(http, rpc("SendStreamingMessage", said("slow 1")))) as first:
            seen = [await anext(first), await anext(first)]
        await peer.release()
        task_id, state = seen[0][1]["task"]["id"], ""
        while state != "TASK_STATE_COMPLETED":
            got = (await http.post("/a2a/echo", json=rpc("GetTask", {"id": task_id}))).json()
            state = got["result"]["status"]["state"]
        body = rpc("SubscribeToTask", {"id": task_id})
        missed = [one async for one in events(http, body, after=2)]
        assert [number for number, _ in missed] == [3, 4]
        assert missed[-1][1]["statusUpdate"]["status"]["state"] == state
        for after in (4, None):
            [(_, refused)] = [one async for one in events(http, body, after=after)]
            assert refused["error"]["code"] == -32004


async def test_a_hub_that_was_taken_for_dead_and_goes_on_shows_what_the_other_one_numbers(tmp_path: Path) -> None:
    async with open_agent(SPEECHES[0]) as peer, AsyncExitStack() as stack:
        yaml = f"agents:\n  echo: {{url: {peer.url}}}\n"
        stalled, living = [await stack.enter_async_context(open_hub(tmp_path, yaml)) for _ in range(2)]
        secret = await stalled.key("agent:*")
        here, there = [await stack.enter_async_context(one.http(secret)) for one in (stalled, living)]
        await stack.enter_async_context(asyncio.timeout(30))
        first = await stack.enter_async_context(aclosing(events(here, rpc("SendStreamingMessage", said("slow 3")))))
        seen = [await anext(first), await anext(first)]
        with closing(sqlite3.connect(tmp_path / "hubbub.db", isolation_level=None, timeout=20)) as database:
            reader = database.execute("SELECT reader FROM tasks").fetchone()
            body = rpc("SubscribeToTask", {"id": seen[0][1]["task"]["id"]})
            second = await stack.enter_async_context(aclosing(events(there, body, after=1)))
            others = [await anext(second)]
            while database.execute("SELECT reader FROM tasks").fetchone() == reader:
                database.execute("UPDATE hub_processes SET seen_at = 0 WHERE id = ?", reader)
                await asyncio.sleep(0)
        while "SubscribeToTask" not in peer.operations:
            await asyncio.sleep(0)
        await peer.release(3)
        seen += [one async for one in first]
        others += [one async for one in second]
        assert seen[1:] == others
        assert [number for number, _ in seen] == list(range(1, 7))
        assert seen[-1][1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_what_became_of_a_task_that_asked_is_told_though_its_agent_has_nothing_more_to_say(hub: OpenHub) -> None:
    """It was answered past the hub: the agent refuses to be subscribed to what is finished."""
    async with (
        open_agent(SPEECHES[0]) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n") as running,
        running.http(await running.key("agent:*")) as http,
    ):
        asked = [event async for event in events(http, rpc("SendStreamingMessage", said("ask")))]
        made = asked[0][1]["task"]
        body = said("yes")
        body["message"] |= {"taskId": made["id"], "contextId": made["contextId"], "messageId": "m2"}
        async with httpx.AsyncClient(trust_env=False) as past:
            answered = await past.post(
                f"{peer.url}/rpc", json=rpc("SendMessage", body), headers={"a2a-version": "1.0"}, timeout=30
            )
        assert answered.json()["result"]["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
        subscribed = rpc("SubscribeToTask", {"id": made["id"]})
        seen = [event async for _, event in events(http, subscribed, after=asked[-1][0])]
        assert seen[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_who_goes_on_with_a_task_at_another_hub_takes_it(tmp_path: Path) -> None:
    async with open_agent(SPEECHES[0]) as peer, AsyncExitStack() as stack:
        yaml = f"agents:\n  echo: {{url: {peer.url}}}\n"
        one, two = [await stack.enter_async_context(open_hub(tmp_path, yaml)) for _ in range(2)]
        secret = await one.key("agent:*")
        here, there = [await stack.enter_async_context(hub.http(secret)) for hub in (one, two)]
        await stack.enter_async_context(asyncio.timeout(30))
        asked = [event async for event in events(here, rpc("SendStreamingMessage", said("ask")))]
        made = asked[0][1]["task"]
        subscribed = rpc("SubscribeToTask", {"id": made["id"]})
        other = await stack.enter_async_context(aclosing(events(here, subscribed, after=asked[-1][0] - 1)))
        seen = [await anext(other)]
        body = said("yes")
        body["message"] |= {"taskId": made["id"], "contextId": made["contextId"], "messageId": "m2"}
        answered = [event async for event in events(there, rpc("SendStreamingMessage", body))]
        seen += [event async for event in other]
        assert [number for number, _ in seen] == list(range(asked[-1][0], answered[-1][0] + 1))
        assert seen[-1] == answered[-1]


async def test_events_that_an_agent_posts_to_two_hubs_at_once_are_all_kept(tmp_path: Path) -> None:
    async with open_agent(SPEECHES[0]) as peer, AsyncExitStack() as stack:
        yaml = f"agents:\n  echo: {{url: {peer.url}}}\n"
        hubs = [await stack.enter_async_context(open_hub(tmp_path, yaml)) for _ in range(2)]
        http = await stack.enter_async_context(hubs[0].http(await hubs[0].key("agent:*")))
        await stack.enter_async_context(asyncio.timeout(30))
        async with aclosing(events(http, rpc("SendStreamingMessage", said("slow 1")))) as first:
            made = [await anext(first), await anext(first)][0][1]["task"]
        with closing(sqlite3.connect(tmp_path / "hubbub.db", timeout=20)) as database:
            while database.execute("SELECT reader FROM tasks").fetchone() != ("",):
                await asyncio.sleep(0)
        receiver = Receiver(1, "echo", made["id"], "", "", "1.0", None)
        texts = [f"{n} " for n in range(8)]
        ids = {"taskId": made["id"], "contextId": made["contextId"]}
        async with asyncio.TaskGroup() as tasks:
            for n, text in enumerate(texts):
                artifact = {"artifactId": "x", "parts": [{"text": text}]}
                body = json.dumps({"artifactUpdate": {**ids, "artifact": artifact, "append": True}}).encode()
                tasks.create_task(hubs[n % 2].services.callbacks.receive(receiver, body))
        seen: list[tuple[int, dict[str, Any]]] = []
        async with aclosing(events(http, rpc("SubscribeToTask", {"id": made["id"]}), after=2)) as again:
            while len(seen) < len(texts):
                seen.append(await anext(again))
        assert [number for number, _ in seen] == list(range(3, 3 + len(texts)))
        assert sorted(event["artifactUpdate"]["artifact"]["parts"][0]["text"] for _, event in seen) == texts


@pytest.mark.parametrize("length", [None, 0, 2])
async def test_the_task_that_was_waited_for_has_the_history_that_was_asked_for(
    hub: OpenHub, length: int | None
) -> None:
    lengths: list[int | None] = []

    async def answer(one: Seen, send: Any) -> None:
        asked = one.json
        state = "TASK_STATE_COMPLETED" if asked["method"] == "GetTask" else "TASK_STATE_WORKING"
        found = {**task("t", state), "history": [{"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}]}]}
        if asked["method"] == "GetTask":
            lengths.append(asked["params"].get("historyLength"))
        result = found if asked["method"] == "GetTask" else {"task": found}
        await reply(send, {"jsonrpc": "2.0", "id": asked["id"], "result": result})

    body = said("go")
    if length is not None:
        body["configuration"] = {"historyLength": length}
    async with (
        rough_agent(answer, simple_card("1.0")) as peer,
        hub(f"agents:\n  echo: {{url: {peer.url}}}\n") as running,
        running.http(await running.key("agent:*")) as http,
    ):
        for sent in (
            http.post("/a2a/echo", json=rpc("SendMessage", body)),
            http.post("/a2a/echo/message:send", json=body),
        ):
            answered = (await sent).json()
            got = answered.get("result", answered)["task"]
            assert ("history" in got) == (length != 0)
    assert lengths == [length, length]
