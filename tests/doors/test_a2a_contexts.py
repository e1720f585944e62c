"""Agents that take UUIDs only as contexts: clients may use any id, and see it again; nobody reaches another's context."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ADMIN_KEY, Hub, OpenHub
from tests.peers.a2a_agent import Peer, Seen, reply, rough_agent, simple_card, task
from tests.processes import hubbub

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
OTHER = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


class Picky:
    """Like LangGraph: a context must be a UUID, and a stream that names another ends with an internal error. A fake."""

    def __init__(self) -> None:
        self.contexts: dict[str, str] = {}

    async def __call__(self, seen: Seen, send: Any) -> None:
        body = seen.json
        message = body["params"].get("message", {})
        streams = body["method"] == "SendStreamingMessage"
        if "message" in body["params"]:
            context_id = message.get("contextId", OTHER)
            task_id = f"t-{len(self.contexts)}"
            if not UUID.fullmatch(context_id):
                error = {"code": -32603 if streams else -32602, "message": "Invalid thread ID"}
                await self.answer(send, body, {"error": error}, streams=streams)
                return
            self.contexts[task_id] = context_id
            result: Any = {"task": task(task_id, context_id=context_id)}
        else:
            result = task(body["params"]["id"], context_id=self.contexts[body["params"]["id"]])
        await self.answer(send, body, {"result": result}, streams=streams)

    async def answer(self, send: Any, body: Any, outcome: Any, *, streams: bool) -> None:
        whole = {"jsonrpc": "2.0", "id": body["id"], **outcome}
        if not streams:
            await reply(send, whole)
            return
        data = b"data: " + json.dumps(whole).encode() + b"\n\n"
        await reply(send, data, media_type="text/event-stream")


def yaml(agent: Peer) -> str:
    return f"agents:\n  odd: {{url: {agent.url}}}\n"


async def ask(http: httpx.AsyncClient, method: str, params: Any) -> Any:
    answer = await http.post("/a2a/odd", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    text = answer.text.partition("data: ")[2] if "event-stream" in answer.headers["content-type"] else answer.text
    return json.loads(text)


def said(**members: Any) -> Any:
    return {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}], **members}}


async def quirks(running: Hub) -> list[str]:
    async with running.http(ADMIN_KEY) as http:
        shown: list[str] = (await http.get("/api/agents/odd")).json()["quirks"]
    return shown


@pytest.mark.parametrize("method", ["SendMessage", "SendStreamingMessage"])
async def test_client_sees_its_own_context_and_the_agent_a_uuid(hub: OpenHub, method: str) -> None:
    picky = Picky()
    async with rough_agent(picky, simple_card("1.0")) as agent, hub(yaml(agent)) as running:
        async with running.http(await running.key("agent:odd")) as http:
            for _ in range(2):
                shown = (await ask(http, method, said(contextId='my "room"')))["result"]["task"]
                assert shown["contextId"] == 'my "room"'
        assert await quirks(running) == ["uuid_contexts"]
        assert len(agent.calls) == 3  # refused once, then sent with a UUID at once
    (context_id,) = set(picky.contexts.values())
    assert UUID.fullmatch(context_id)


async def test_doctor_shows_what_a_running_hub_noticed(hub: OpenHub, tmp_path: Path) -> None:
    async with rough_agent(Picky(), simple_card("1.0")) as agent, hub(yaml(agent)) as running:
        hub_section = f"  database: sqlite:///{tmp_path}/hubbub.db\n  public_url: {running.url}\n"
        (tmp_path / "hub.yaml").write_text(f"hub:\n  admin_key: {ADMIN_KEY}\n{hub_section}{yaml(agent)}")
        assert "ok    agent odd\n" in (await hubbub("doctor", directory=tmp_path))[1]
        async with running.http(await running.key("agent:odd")) as http:
            await ask(http, "SendMessage", said(contextId="room"))
        assert "ok    agent odd (hidden by the hub: uuid_contexts)\n" in (await hubbub("doctor", directory=tmp_path))[1]


async def test_own_context_is_shown_by_every_operation_also_after_a_restart(hub: OpenHub) -> None:
    picky = Picky()
    async with rough_agent(picky, simple_card("1.0")) as agent:
        async with hub(yaml(agent)) as running:
            secret = await running.key("agent:odd")
            async with running.http(secret) as http:
                made = (await ask(http, "SendMessage", said(contextId="room")))["result"]["task"]
                (listed,) = (await ask(http, "ListTasks", {"contextId": "room"}))["result"]["tasks"]
        async with hub(yaml(agent)) as running, running.http(secret) as http:
            (again,) = (await ask(http, "ListTasks", {}))["result"]["tasks"]
            got = (await ask(http, "GetTask", {"id": made["id"]}))["result"]
            assert await quirks(running) == ["uuid_contexts"]
            on = (await ask(http, "SendMessage", said(contextId="room")))["result"]["task"]
    assert {one["contextId"] for one in (made, listed, again, got, on)} == {"room"}
    assert len(set(picky.contexts.values())) == 1


async def test_uuid_that_stands_for_somebody_elses_context_cannot_be_named(hub: OpenHub) -> None:
    picky = Picky()
    async with rough_agent(picky, simple_card("1.0")) as agent, hub(yaml(agent)) as running:
        async with running.http(await running.key("agent:odd")) as http:
            await ask(http, "SendMessage", said(contextId="room"))
        (alias,) = picky.contexts.values()
        calls = len(agent.calls)
        async with running.http(await running.key("agent:odd")) as http:
            for named in (alias, alias.upper(), alias.replace("-", ""), "room"):
                refused = await ask(http, "SendMessage", said(contextId=named))
                assert refused["error"]["code"] == -32001
        assert len(agent.calls) == calls


async def test_keys_that_share_a_context_name_the_same_uuid(hub: OpenHub) -> None:
    picky = Picky()
    async with (
        rough_agent(picky, simple_card("1.0")) as agent,
        hub(f"agents:\n  odd: {{url: {agent.url}, share: team}}\n") as running,
    ):
        await running.services.teams.create("red")
        for _ in range(2):
            async with running.http(await running.key("agent:odd", team="red")) as http:
                shown = (await ask(http, "SendMessage", said(contextId="room")))["result"]["task"]
                assert shown["contextId"] == "room"
        async with running.http(await running.key("agent:odd")) as http:
            for named in (*picky.contexts.values(), "room"):
                assert (await ask(http, "SendMessage", said(contextId=named)))["error"]["code"] == -32001
    assert len(picky.contexts) == 2
    assert len(set(picky.contexts.values())) == 1


async def test_another_spelling_of_somebody_elses_uuid_is_no_other_context(hub: OpenHub) -> None:
    async with rough_agent(Picky(), simple_card("1.0")) as agent, hub(yaml(agent)) as running:
        async with running.http(await running.key("agent:odd")) as http:
            assert (await ask(http, "SendMessage", said()))["result"]["task"]["contextId"] == OTHER
        async with running.http(await running.key("agent:odd")) as http:
            for named in (OTHER, OTHER.upper(), OTHER.replace("-", ""), f"{{{OTHER}}}"):
                refused = await ask(http, "SendMessage", said(contextId=named))
                assert refused["error"]["code"] == -32001
        assert len(agent.calls) == 1


async def test_agent_that_takes_any_context_is_asked_once(hub: OpenHub) -> None:
    async def answer(seen: Seen, send: Any) -> None:
        body = seen.json
        shown = task("t1", context_id=body["params"]["message"]["contextId"])
        await reply(send, {"jsonrpc": "2.0", "id": body["id"], "result": {"task": shown}})

    async with rough_agent(answer, simple_card("1.0")) as agent, hub(yaml(agent)) as running:
        async with running.http(await running.key("agent:odd")) as http:
            for _ in range(2):
                shown = (await ask(http, "SendMessage", said(contextId="room")))["result"]["task"]
                assert shown["contextId"] == "room"
        assert [one.json["params"]["message"]["contextId"] for one in agent.calls] == ["room", "room"]
        assert await quirks(running) == []


async def test_agent_that_refuses_everything_is_not_asked_twice_for_ever(hub: OpenHub) -> None:
    async def answer(seen: Seen, send: Any) -> None:
        error = {"code": -32602, "message": "no"}
        await reply(send, {"jsonrpc": "2.0", "id": seen.json["id"], "error": error})

    async with rough_agent(answer, simple_card("1.0")) as agent, hub(yaml(agent)) as running:
        async with running.http(await running.key("agent:odd")) as http:
            for _ in range(10):
                refused = await ask(http, "SendMessage", said(contextId="room"))
                assert (refused["error"]["code"], refused["error"]["message"]) == (-32602, "no")
        assert len(agent.calls) == 13
        assert await quirks(running) == []


@pytest.mark.parametrize("method", ["SendMessage", "SendStreamingMessage"])
async def test_wrong_content_type_is_noted_and_hidden(hub: OpenHub, method: str) -> None:
    async def answer(seen: Seen, send: Any) -> None:
        body = seen.json
        whole = {"jsonrpc": "2.0", "id": body["id"], "result": {"task": task("t1")}}
        data = json.dumps(whole).encode()
        if body["method"] == "SendMessage":
            await reply(send, data, media_type="text/event-stream")
        else:
            await reply(send, b"data: " + data + b"\n\n", media_type="application/json")

    card = simple_card("1.0")
    async with rough_agent(answer, card) as agent, hub(yaml(agent)) as running:
        # over HTTP+JSON, so that the answer is read and written anew
        async with running.http(await running.key("agent:odd")) as http:
            path = "message:send" if method == "SendMessage" else "message:stream"
            answered = await http.post(f"/a2a/odd/{path}", json=said())
            assert '"id":"t1"' in answered.text
            wanted = "application/a2a+json" if method == "SendMessage" else "text/event-stream"
            assert answered.headers["content-type"].startswith(wanted)
        assert await quirks(running) == ["content_type"]
