"""Guards on what agents answer: to clients of every binding and version, who come late, who are told, and call agents otherwise."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest

from agents.speech import SPEECHES, Speech
from tests.conftest import Hub, OpenHub
from tests.doors.test_a2a import rpc, said
from tests.doors.test_a2a_push import last
from tests.doors.test_a2a_streams import events
from tests.doors.test_audit import entries
from tests.peers.a2a_agent import Seen, reply, rough_agent, simple_card, start, write
from tests.peers.a2a_clients import LACKING, Refused, SdkClient, message, open_client
from tests.peers.a2a_sdk_agents import open_agent
from tests.peers.mcp_hub import headers
from tests.peers.mcp_hub import message as mcp
from tests.peers.webhook import webhook

SPLIT = "part 0 part 1"
"""What the agent of the SDK says in two pieces of an artifact."""

LEFT = "[redacted: split]"


def guards(action: str = "redact", deny: str = SPLIT, **members: Any) -> str:
    split = {"type": "patterns", "deny": [deny], "of": ["results"], "entries": ["agent:*"], "action": action, **members}
    return f"guards: {json.dumps({'split': split})}\n"


def texts_of(task: dict[str, Any]) -> str:
    return "".join(part.get("text", "") for one in task.get("artifacts", []) for part in one["parts"])


def texts_in(found: list[dict[str, Any]]) -> str:
    updates = [event["artifactUpdate"]["artifact"] for event in found if "artifactUpdate" in event]
    return texts_of({"artifacts": updates})


async def client_of(stack: AsyncExitStack, running: Hub, speech: Speech, agent: str) -> SdkClient:
    key = {"authorization": f"Bearer {await running.key('agent:*')}"}
    return await stack.enter_async_context(open_client(f"{running.url}/a2a/{agent}/", speech, headers=key))


@pytest.mark.attack("2.1/12")
async def test_every_client_gets_of_every_agent_what_guards_leave(hub: OpenHub) -> None:
    async with AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(open_agent(speech)) for speech in SPEECHES]
        yaml = "agents:\n" + "".join(f"  a{at}: {{url: {one.url}}}\n" for at, one in enumerate(agents))
        running = await stack.enter_async_context(hub(yaml + guards(), grpc=True))
        for client in SPEECHES:
            for at in range(len(agents)):
                sdk = await client_of(stack, running, client, f"a{at}")
                events = await sdk.stream("complete 3")
                assert texts_in(events) == f"{LEFT} part 2 ", (client, SPEECHES[at])
                assert events[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
                task = (await sdk.send("complete 3"))["task"]
                got = await sdk.ask("GetTask", {"id": task["id"]})
                assert (texts_of(task), texts_of(got)) == (f"{LEFT} part 2 ",) * 2, (client, SPEECHES[at])
                assert (await sdk.send("message"))["message"]["parts"] == [{"text": "hello"}]
                if "ListTasks" not in LACKING.get(client, frozenset()):
                    listed = await sdk.ask("ListTasks", {"includeArtifacts": True})
                    assert {texts_of(one) for one in listed["tasks"]} == {f"{LEFT} part 2 "}
        noted = [one for one in await entries(running) if one["act"] == "redacted"]
        assert {(one["outcome"], one["detail"]) for one in noted} == {("split", "pattern 1 in the results")}


async def test_what_is_blocked_is_no_answer_and_ends_a_stream(hub: OpenHub) -> None:
    async with (
        open_agent(SPEECHES[0]) as agent,
        hub(f"agents: {{echo: {{url: {agent.url}}}}}\n{guards('block')}") as running,
    ):
        async with running.http(await running.key("agent:*")) as http:
            answer = (await http.post("/a2a/echo", json=rpc("SendMessage", said("complete 2")))).json()
            assert "'split' keeps back the results of this call" in answer["error"]["message"]
            told = [
                event
                async for _, event in events(http, rpc("SendStreamingMessage", said("complete 2")) | {"id": "mine"})
            ]
            assert "'split' keeps back the results" in told[-1]["error"]["message"]
            assert "part 0" not in json.dumps([answer, told])
            assert "result" in (await http.post("/a2a/echo", json=rpc("SendMessage", said("message")))).json()
        outcomes = [running.gate.outcomes[id(one)] for one in running.gate.permits if one.kind == "agent"]
        assert outcomes.count(["error"]) == 2
        assert [one["outcome"] for one in await entries(running) if one["act"] == "refused"] == ["GuardRefused"] * 2


async def test_who_comes_back_sees_nothing_that_guards_had_redacted(hub: OpenHub) -> None:
    """Also not the second half of a text whose first half was in an event that it has."""
    async with (
        open_agent(SPEECHES[0]) as agent,
        hub(f"agents: {{echo: {{url: {agent.url}}}}}\n{guards()}") as running,
        running.http(await running.key("agent:*")) as http,
    ):
        whole = [one async for one in events(http, rpc("SendStreamingMessage", said("complete 3"), "mine"))]
        task_id = whole[0][1]["task"]["id"]
        for number, _ in whole[:-1]:
            again = [one async for one in events(http, rpc("SubscribeToTask", {"id": task_id}, "mine"), after=number)]
            assert again == [one for one in whole if one[0] > number]
        (late,) = [
            one async for one in events(http, rpc("SubscribeToTask", {"id": task_id}, "mine"), after=whole[-1][0])
        ]
        assert late[1]["error"]["code"] == -32004


async def test_events_wait_for_the_end_of_an_artifact_and_for_nothing_else(hub: OpenHub) -> None:
    async with (
        open_agent(SPEECHES[0]) as agent,
        hub(f"agents: {{echo: {{url: {agent.url}}}}}\n{guards()}") as running,
        running.http(await running.key("agent:*")) as http,
        aclosing(events(http, rpc("SendStreamingMessage", said("slow 2"), "mine"))) as stream,
    ):
        _, first = await anext(stream)
        _, working = await anext(stream)
        assert working["statusUpdate"]["status"]["state"] == "TASK_STATE_WORKING"
        await agent.release()
        async with aclosing(events(http, rpc("SubscribeToTask", {"id": first["task"]["id"]}, "mine"))) as late:
            seen = [(await anext(late))[1]]
            await agent.release()
            seen += [event async for _, event in late]
        assert SPLIT not in texts_of(seen[0]["task"]) + texts_in(seen)
        assert texts_in([event async for _, event in stream]) == f"{LEFT} "


def rough(*told: dict[str, Any]) -> Any:
    """An agent that answers a stream with these events, or with the first of them."""

    async def answer(seen: Seen, send: Any) -> None:
        if "Stream" not in seen.json["method"]:
            await reply(send, {"jsonrpc": "2.0", "id": seen.json["id"], "result": told[0]})
            return
        await start(send)
        for event in told:
            await write(
                send, b"data: %b\n\n" % json.dumps({"jsonrpc": "2.0", "id": seen.json["id"], "result": event}).encode()
            )
        await send({"type": "http.response.body", "body": b""})

    return rough_agent(answer, simple_card())


IDS = {"taskId": "t", "contextId": "c"}


def task_of(**members: Any) -> dict[str, Any]:
    return {"task": {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_WORKING"}, **members}}


def piece(text: str, *, append: bool = True, last: bool = False) -> dict[str, Any]:
    artifact = {"artifactId": "a", "parts": [{"text": text}]}
    return {"artifactUpdate": {**IDS, "artifact": artifact, "append": append, "lastChunk": last}}


DONE = {"statusUpdate": {**IDS, "status": {"state": "TASK_STATE_COMPLETED"}}}


async def test_everything_of_an_answer_is_looked_at(hub: OpenHub) -> None:
    words = {"messageId": "1", "role": "ROLE_AGENT", "parts": [{"text": "part 0 "}, {"text": "part 1"}]}
    result = task_of(
        status={"state": "TASK_STATE_COMPLETED", "message": words},
        history=[words],
        metadata={"note": SPLIT},
        artifacts=[{"artifactId": "a", "name": SPLIT, "parts": [{"data": {SPLIT: [SPLIT]}}, {"text": SPLIT}]}],
    )
    async with (
        rough(result) as agent,
        hub(f"agents: {{echo: {{url: {agent.url}}}}}\n{guards()}") as running,
        running.http(await running.key("agent:*")) as http,
    ):
        task = (await http.post("/a2a/echo", json=rpc("SendMessage", said("x")))).json()["result"]["task"]
        assert task["status"]["message"]["parts"] == task["history"][0]["parts"] == [{"text": LEFT}, {"text": ""}]
        assert task["metadata"] == {"note": LEFT}
        assert task["artifacts"][0]["parts"] == [{"data": {LEFT: [LEFT]}}, {"text": LEFT}]
        assert SPLIT not in json.dumps(task)


@pytest.mark.attack("2.1/12")
@pytest.mark.parametrize("members", [{"note": "jo@example.org"}, {"id": "jo@example.org"}, {"note": "x"}])
async def test_what_stands_beside_the_params_of_a_message_goes_on_where_guards_find_nothing_in_it(
    hub: OpenHub, members: dict[str, str]
) -> None:
    sent: list[Any] = []

    async def answer(seen: Seen, send: Any) -> None:
        sent.append(seen.json)
        await reply(
            send, {"jsonrpc": "2.0", "id": seen.json["id"], "result": task_of(status={"state": "TASK_STATE_COMPLETED"})}
        )

    pii = 'guards: {pii: {type: pii, action: redact, of: ["arguments"]}}'
    async with (
        rough_agent(answer, simple_card()) as agent,
        hub(f"agents: {{echo: {{url: {agent.url}}}}}\n{pii}") as running,
        running.http(await running.key("agent:*")) as http,
    ):
        await http.post("/a2a/echo", json={**rpc("SendMessage", said("hello")), **members})
    assert [one["params"]["message"]["parts"] for one in sent] == [[{"text": "hello"}]]
    assert sent[0].get("note") == (None if members.get("note") == "jo@example.org" else members.get("note"))


@pytest.mark.parametrize("method", ["SendMessage", "SendStreamingMessage"])
async def test_an_agents_error_passes_the_guards(hub: OpenHub, method: str) -> None:
    async def answer(seen: Seen, send: Any) -> None:
        error = {"code": -32602, "message": f"no {SPLIT}", "data": [{"@type": "x", "why": SPLIT}]}
        await reply(send, {"jsonrpc": "2.0", "id": seen.json["id"], "error": error})

    async with (
        rough_agent(answer, simple_card()) as agent,
        hub(f"agents: {{echo: {{url: {agent.url}}}}}\n{guards()}") as running,
        running.http(await running.key("agent:*")) as http,
    ):
        text = (await http.post("/a2a/echo", json=rpc(method, said("x")))).text
        assert f"no {LEFT}" in text
        assert SPLIT not in text


@pytest.mark.parametrize("client", [SPEECHES[0], SPEECHES[3]], ids=str)
async def test_receivers_are_posted_what_guards_leave(hub: OpenHub, client: Speech) -> None:
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(open_agent(SPEECHES[0]))
        receiver = await stack.enter_async_context(webhook())
        streamed = await stack.enter_async_context(webhook())
        yaml = f"agents: {{echo: {{url: {agent.url}}}}}\n{guards(when='false')}"
        running = await stack.enter_async_context(hub(yaml, setting="egress_allow: [127.0.0.0/8]"))
        sdk = await client_of(stack, running, client, "echo")
        done = "COMPLETED" if client.version == "1.0" else "completed"
        config = {"url": receiver.url, "id": "c"}
        sent = message("complete 3", configuration={"taskPushNotificationConfig": config})
        assert SPLIT in texts_of((await sdk.ask("SendMessage", sent))["task"])  # the condition is its caller's
        bodies = await last(receiver, done)
        sent = message("complete 3", configuration={"taskPushNotificationConfig": {**config, "url": streamed.url}})
        assert [event async for event in sdk.follow("SendStreamingMessage", sent)]
        bodies += await last(streamed, done)
        text = json.dumps(bodies)
        assert LEFT in text
        assert "part 1" not in text


async def test_agents_as_tools_and_as_models_are_looked_at_too(hub: OpenHub) -> None:
    async with (
        open_agent(SPEECHES[0]) as agent,
        hub(f"agents: {{echo: {{url: {agent.url}}}}}\n{guards()}") as running,
        running.http(await running.key("agent:*", "model:*")) as http,
    ):
        tool = {"name": "agent__echo", "arguments": {"message": "complete 3"}}
        called = await http.post("/mcp", json=mcp("tools/call", tool), headers=headers("tools/call", "agent__echo"))
        assert LEFT in called.text
        texts = [called.text]
        for stream in (False, True):
            asked = {"model": "agent/echo", "stream": stream, "messages": [{"role": "user", "content": "complete 3"}]}
            texts.append((await http.post("/v1/chat/completions", json=asked)).text)
            assert LEFT in texts[-1]
        assert "part 1" not in "".join(texts)


async def test_an_artifact_that_never_ends_is_not_waited_for_without_bound(hub: OpenHub) -> None:
    pieces = [piece("x" * 2**20) for _ in range(17)]
    async with (
        rough(task_of(), *pieces, DONE) as agent,
        hub(f"agents: {{echo: {{url: {agent.url}}}}}\n{guards()}") as running,
        running.http(await running.key("agent:*")) as http,
        asyncio.timeout(60),
    ):
        shown = [event async for _, event in events(http, rpc("SendStreamingMessage", said("x"), "mine"))]
        assert "its artifacts are larger than 16777216 bytes" in shown[-1]["error"]["message"]


async def test_who_asks_for_nothing_that_guards_look_at_gets_it(hub: OpenHub) -> None:
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(open_agent(SPEECHES[0], extended=True))
        yaml = f"agents: {{echo: {{url: {agent.url}}}}}\n{guards()}"
        running = await stack.enter_async_context(hub(yaml, setting="egress_allow: [127.0.0.0/8]"))
        sdk = await client_of(stack, running, SPEECHES[0], "echo")
        assert (await sdk.ask("GetExtendedAgentCard"))["name"]
        task = (await sdk.send("complete 1"))["task"]
        config = {"taskId": task["id"], "url": "http://127.0.0.1:9/part 0 part 1".replace(" ", "%20"), "id": "c"}
        assert (await sdk.ask("CreateTaskPushNotificationConfig", config))["url"] == config["url"]
        with pytest.raises(Refused) as unknown:
            await sdk.ask("GetTask", {"id": "nobody-has-it"})
        assert unknown.value.code == -32001
