"""Agents that are made here: the official A2A, MCP and OpenAI SDKs before the hub, a scripted model and a real MCP server behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from agents.speech import SPEECHES, Speech
from agents.wire import MAX_HOPS
from registry.identity import KeySpec
from tests.conftest import Hub, open_hub
from tests.peers import mcp_servers
from tests.peers.a2a_clients import Refused, open_client
from tests.peers.mcp_hub import McpHub
from tests.peers.openai_upstream import OpenAIUpstream, Turn, openai_upstream
from tests.until import until

JSONRPC = SPEECHES[0]
speeches = pytest.mark.parametrize("speech", SPEECHES, ids=lambda speech: f"{speech.binding} {speech.version}")
ECHO = Turn(calls=(("srv__echo", '{"text": "hi"}'),))
WAIT = Turn(calls=(("srv__wait", '{"text": "x"}'),))
DONE = Turn("done")
QUESTION = Turn(calls=(("ask_user", '{"question": "Which colour?"}'),))
SHARED = "  shared: {model: m, tools: ['srv__*'], share: team}"


@dataclass
class Bench:
    """What a test gets."""

    hub: Hub
    model: OpenAIUpstream
    server: mcp_servers.Peer

    def a2a(self, secret: str, speech: Speech = JSONRPC, agent: str = "helper") -> Any:
        return open_client(f"{self.hub.url}/a2a/{agent}/", speech, headers={"authorization": f"Bearer {secret}"})

    def openai(self, secret: str) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.hub.url}/v1", api_key=secret, max_retries=0, timeout=20)

    def asked(self, at: int) -> Any:
        """What the model was asked in its call number `at`."""
        return self.model.received[at].body

    def tools(self, at: int) -> list[str]:
        """The tools that it was offered."""
        return [tool["function"]["name"] for tool in self.asked(at).get("tools", ())]

    @property
    def calls(self) -> list[tuple[str, str]]:
        """The admitted calls by kind and name; each has one usage row."""
        return [(one.kind, one.entry_name) for one in self.hub.gate.permits if one.principal.name != "hub"]


@asynccontextmanager
async def bench(
    directory: Path, *turns: Turn, delegates: bool = False, more: str = "", rule: str = "", **options: Any
) -> AsyncIterator[Bench]:
    """A hub with the agents `helper` and `outer`, whose model answers with `turns`, and the MCP server `srv`."""
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(openai_upstream(*turns))
        server = await stack.enter_async_context(mcp_servers.dual_era())
        yaml = f"""
models: {{m: {{provider: openai, base_url: "{model.url}", api_key: sk-up}}}}
mcpServers: {{srv: {{url: "{server.url}"{rule}}}}}
agents:
  helper: {{model: m, description: Helps., instructions: Be brief., tools: ["srv__*"], delegates: {str(delegates).lower()}}}
  outer: {{model: m, tools: ["agent__helper"]}}
{more}"""
        hub = await stack.enter_async_context(open_hub(directory, yaml, **options))
        await until(lambda: "srv__echo" in hub.services.registry.catalog.tools)
        yield Bench(hub, model, server)


def text_of(task: dict[str, Any]) -> str:
    return "".join(part["text"] for artifact in task.get("artifacts", ()) for part in artifact["parts"]).strip()


def state_of(event: dict[str, Any]) -> str | None:
    update = event.get("statusUpdate") or event.get("task") or {}
    return (update.get("status") or {}).get("state")


@speeches
async def test_an_own_agent_answers_in_every_speech_and_remembers(tmp_path: Path, speech: Speech) -> None:
    async with bench(tmp_path, Turn("It is late."), grpc=True) as b:
        async with b.a2a(await b.hub.key("agent:helper"), speech) as client:
            task = (await client.send("What time is it?"))["task"]
            assert (task["status"]["state"], text_of(task)) == ("TASK_STATE_COMPLETED", "It is late.")
            again = await client.ask("GetTask", {"id": task["id"]})
            assert (text_of(again), again["history"][0]["parts"]) == ("It is late.", [{"text": "What time is it?"}])
            events = await client.stream("And now?", contextId=task["contextId"])
            assert [state_of(one) for one in events if state_of(one)] == ["TASK_STATE_WORKING", "TASK_STATE_COMPLETED"]
            pieces = [one["artifactUpdate"]["artifact"] for one in events if "artifactUpdate" in one]
            assert (len(pieces), text_of({"artifacts": pieces})) == (3, "It is late.")
        assert b.asked(1)["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What time is it?"},
            {"role": "assistant", "content": "It is late. "},
            {"role": "user", "content": "And now?"},
        ]


async def test_its_card_says_what_its_configuration_says(tmp_path: Path) -> None:
    async with bench(tmp_path, DONE) as b, b.a2a(await b.hub.key("agent:helper")) as client:
        assert (client.card["name"], client.card["description"]) == ("helper", "Helps.")
        assert [skill["id"] for skill in client.card["skills"]] == ["helper", "srv__*"]
        assert "Be brief." not in json.dumps(client.card)


async def test_it_uses_tools_as_its_caller_and_each_call_counts_once(tmp_path: Path) -> None:
    async with bench(tmp_path, ECHO, DONE) as b:
        async with b.a2a(await b.hub.key("agent:helper", "tool:srv__echo")) as client:
            events = await client.stream("echo it")
        assert b.tools(0) == ["ask_user", "srv__echo"]  # of what both have
        assert b.server.calls == [("echo", {"text": "hi"})]
        told = [one["statusUpdate"].get("metadata") for one in events if "statusUpdate" in one]
        assert {"urn:hubbub:tool": {"name": "srv__echo", "failed": False}} in told
        assert b.calls == [("agent", "helper"), ("model", "m"), ("tool", "srv__echo"), ("model", "m")]
        assert len({one.principal.id for one in b.hub.gate.permits if one.principal.name != "hub"}) == 1


async def by_a2a(b: Bench, secret: str) -> None:
    async with b.a2a(secret) as client:
        await client.send("echo it")


async def by_tool(b: Bench, secret: str) -> None:
    async with McpHub(b.hub.url, b.hub.services, b.hub.gate).client(secret) as client:
        await client.call_tool("agent__helper", {"message": "echo it"})


async def by_model(b: Bench, secret: str) -> None:
    async with b.openai(secret) as client:
        with suppress(openai.InternalServerError):  # its model insists on a tool that it was not offered
            await client.chat.completions.create(
                model="agent/helper", messages=[{"role": "user", "content": "echo it"}]
            )


async def by_agent(b: Bench, secret: str) -> None:
    async with b.a2a(secret, agent="outer") as client:
        await client.send("have it echoed")


WAYS = {"a2a": by_a2a, "tool": by_tool, "model": by_model, "nested": by_agent}
TO_HELPER = Turn(calls=(("agent__helper", '{"message": "echo it"}'),))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("delegates", [False, True])
async def test_a_key_without_tools_reaches_none_through_an_agent_unless_it_delegates(
    tmp_path: Path, way: str, delegates: bool
) -> None:
    script = [TO_HELPER, ECHO, DONE] if way == "nested" else [ECHO, DONE]
    async with bench(tmp_path, *script, delegates=delegates) as b:
        await WAYS[way](b, await b.hub.key("agent:helper", "agent:outer"))
        assert b.server.calls == ([("echo", {"text": "hi"})] if delegates else [])
        offered = b.tools(1 if way == "nested" else 0)
        assert ("srv__echo" in offered) == delegates
        assert (("tool", "srv__echo") in b.calls) == delegates


async def test_another_key_reaches_neither_task_nor_context(tmp_path: Path) -> None:
    async with bench(tmp_path, DONE) as b:
        async with b.a2a(await b.hub.key("agent:helper")) as client:
            task = (await client.send("a secret"))["task"]
        async with b.a2a(await b.hub.key("agent:*")) as other:
            for operation in ("GetTask", "CancelTask"):
                with pytest.raises(Refused) as refused:
                    await other.ask(operation, {"id": task["id"]})
                assert refused.value.code == -32001
            for theirs in ({"taskId": task["id"]}, {"contextId": task["contextId"]}):
                with pytest.raises(Refused):
                    await other.send("tell me", **theirs)
            assert (await other.ask("ListTasks")).get("tasks", []) == []
        assert len(b.model.received) == 1


async def test_a_context_outlives_the_hub(tmp_path: Path) -> None:
    async with bench(tmp_path, DONE) as b:
        secret = await b.hub.key("agent:helper")
        async with b.a2a(secret) as client:
            task = (await client.send("remember: blue"))["task"]
    async with bench(tmp_path, DONE) as b, b.a2a(secret) as client:
        assert text_of(await client.ask("GetTask", {"id": task["id"]})) == "done"
        (listed,) = (await client.ask("ListTasks", {"includeArtifacts": True}))["tasks"]
        assert text_of(listed) == "done"
        await client.send("which colour?", contextId=task["contextId"])
        assert [one["content"] for one in b.asked(0)["messages"][1:]] == ["remember: blue", "done ", "which colour?"]
    assert b"blue" not in (tmp_path / "hubbub.db").read_bytes()  # it is sealed


async def test_a_task_is_cancelled_with_what_it_does(tmp_path: Path) -> None:
    async with bench(tmp_path, WAIT) as b, b.a2a(await b.hub.key("agent:helper", "tool:*")) as client:
        task = (await client.send("wait", configuration={"returnImmediately": True}))["task"]
        assert task["status"]["state"] == "TASK_STATE_WORKING"
        async with asyncio.timeout(10):
            await b.server.waiting.wait()
        with pytest.raises(Refused):
            await client.send("more", taskId=task["id"])
        cancelled = await client.ask("CancelTask", {"id": task["id"]})
        assert cancelled["status"]["state"] == "TASK_STATE_CANCELED"
        async with asyncio.timeout(10):
            await b.server.cancelled.wait()
        with pytest.raises(Refused):
            await client.ask("CancelTask", {"id": task["id"]})
        with pytest.raises(Refused):
            await client.send("more", taskId=task["id"])


async def test_an_agent_that_is_switched_off_stops_what_it_does(tmp_path: Path) -> None:
    async with bench(tmp_path, WAIT) as b, b.a2a(await b.hub.key("agent:helper", "tool:*")) as client:
        task = (await client.send("wait", configuration={"returnImmediately": True}))["task"]
        async with asyncio.timeout(10):
            await b.server.waiting.wait()
            await b.hub.services.registry.switch("agent", "helper", on=False)
            await b.server.cancelled.wait()
        with pytest.raises(Refused):
            await client.send("more")
        await b.hub.services.registry.switch("agent", "helper", on=True)
        assert (await client.ask("GetTask", {"id": task["id"]}))["status"]["state"] == "TASK_STATE_CANCELED"


async def test_one_key_cannot_have_all_the_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.hosting.host.MAX_OF_ONE", 1)
    async with bench(tmp_path, WAIT) as b, b.a2a(await b.hub.key("agent:helper", "tool:*")) as client:
        await client.send("wait", configuration={"returnImmediately": True})
        with pytest.raises(Refused, match="503"):
            await client.send("wait", configuration={"returnImmediately": True})
        async with b.a2a(await b.hub.key("agent:helper")) as other:
            assert (await other.send("wait", configuration={"returnImmediately": True}))["task"]["id"]


async def test_a_client_that_leaves_misses_nothing(tmp_path: Path) -> None:
    go = asyncio.Event()
    script = Turn("one two three", hold_last=go)
    async with bench(tmp_path, script) as b, b.a2a(await b.hub.key("agent:helper")) as client:
        async with aclosing(client.follow("SendStreamingMessage", message_of("count"))) as events:
            task = (await anext(events))["task"]
            assert "artifactUpdate" in await anext(events)
        resumed = client.follow("SubscribeToTask", {"id": task["id"]})
        first = (await anext(resumed))["task"]
        go.set()
        rest = [event async for event in resumed]
        pieces = [one["artifactUpdate"]["artifact"] for one in rest if "artifactUpdate" in one]
        assert text_of(first) + " " + text_of({"artifacts": pieces}) == "one two three"
        assert state_of(rest[-1]) == "TASK_STATE_COMPLETED"


ASK = Turn(calls=(("ask_user", '{"question": "Which one?"}'),))


async def test_its_model_asks_its_user(tmp_path: Path) -> None:
    async with bench(tmp_path, ASK, DONE) as b, b.a2a(await b.hub.key("agent:helper")) as client:
        asked = (await client.send("paint it"))["task"]
        assert asked["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
        assert asked["status"]["message"]["parts"] == [{"text": "Which one?"}]
        done = (await client.send("the blue one", taskId=asked["id"]))["task"]
        assert (done["id"], done["status"]["state"], text_of(done)) == (asked["id"], "TASK_STATE_COMPLETED", "done")
        assert [one["parts"][0]["text"] for one in done["history"]] == ["paint it", "Which one?", "the blue one"]
        assert [one["content"] for one in b.asked(1)["messages"][1:]] == ["paint it", "Which one?", "the blue one"]


async def test_a_task_that_waits_can_be_cancelled(tmp_path: Path) -> None:
    async with bench(tmp_path, ASK) as b, b.a2a(await b.hub.key("agent:helper")) as client:
        asked = (await client.send("paint it"))["task"]
        assert (await client.ask("CancelTask", {"id": asked["id"]}))["status"]["state"] == "TASK_STATE_CANCELED"
        with pytest.raises(Refused):
            await client.send("the blue one", taskId=asked["id"])


async def test_what_its_model_cannot_do_fails_its_task(tmp_path: Path) -> None:
    async with bench(tmp_path, Turn(status=500, error=b"{}")) as b, b.a2a(await b.hub.key("agent:helper")) as client:
        events = await client.stream("hello")
        status = events[-1]["statusUpdate"]["status"]
        assert (status["state"], "m:" in status["message"]["parts"][0]["text"]) == ("TASK_STATE_FAILED", True)


async def test_an_own_agent_is_a_model_that_streams_and_asks(tmp_path: Path) -> None:
    go = asyncio.Event()
    script = ASK, Turn("blue it is", hold_last=go)
    async with bench(tmp_path, *script) as b, b.openai(await b.hub.key("agent:helper")) as client:
        messages: list[Any] = [{"role": "user", "content": "paint it"}]
        first = await client.chat.completions.create(model="agent/helper", messages=messages)
        assert (first.choices[0].message.content, first.choices[0].finish_reason) == ("Which one?", "stop")
        messages += [first.choices[0].message.model_dump(), {"role": "user", "content": "the blue one"}]
        stream = await client.chat.completions.create(model="agent/helper", messages=messages, stream=True)
        chunks, text = [], ""
        async for chunk in stream:
            chunks.append(chunk)
            text += chunk.choices[0].delta.content or ""
            if "blue" in text:  # it came before the last was made
                go.set()
        assert text.strip() == "blue it is"
        assert chunks[-1].hub["task_id"] == first.hub["task_id"]


async def test_agents_that_call_one_another_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    more = """  left: {model: m, tools: ["agent__right"]}
  right: {model: m, tools: ["agent__left"]}
"""
    to = {
        True: Turn(calls=(("agent__right", '{"message": "go"}'),)),
        False: Turn(calls=(("agent__left", '{"message": "go"}'),)),
    }
    script = [to[at % 2 == 0] for at in range(MAX_HOPS)]
    async with bench(tmp_path, *script, DONE, more=more) as b:
        async with b.a2a(await b.hub.key("agent:*"), agent="left") as client:
            task = (await client.send("go"))["task"]
        assert task["status"]["state"] == "TASK_STATE_COMPLETED"
        assert "in a circle" in b.asked(MAX_HOPS)["messages"][-1]["content"]
        assert sum(kind == "agent" for kind, _ in b.calls) == MAX_HOPS + 1


async def test_nobody_lends_through_an_agent_what_they_do_not_hold(tmp_path: Path) -> None:
    async with bench(tmp_path, DONE) as b:
        async with b.hub.http(await b.hub.key("admin:agents", "model:m", "tool:srv__echo")) as http:
            mine = {"name": "mine", "model": "m", "tools": ["srv__echo"], "delegates": True}
            made = await http.post("/api/agents", json=mine)
            assert (made.status_code, made.json()["model"], made.json()["delegates"]) == (201, "m", True)
            for change, lacked in (({"tools": ["srv__*"]}, "tool:srv__*"), ({"model": "gpt"}, "model:gpt")):
                for answer in (
                    await http.post("/api/agents", json={**mine, "name": "other", **change}),
                    await http.patch("/api/agents/mine", json=change),
                ):
                    assert (answer.status_code, lacked in answer.json()["detail"]) == (400, True), answer.text
            own = {"name": "third", "model": "m", "tools": ["*"]}  # used with its caller's grants
            assert (await http.post("/api/agents", json=own)).status_code == 201
        async with b.a2a(await b.hub.key("agent:third"), agent="third") as client:
            assert text_of((await client.send("hello"))["task"]) == "done"


async def test_tools_and_an_agent_work_in_one_round_of_a_streamed_chat(tmp_path: Path) -> None:
    calls = (*(("srv__echo", f'{{"text": "{n}"}}') for n in range(3)), ("agent__helper", '{"message": "hello"}'))
    async with bench(tmp_path, Turn(calls=calls), Turn("I help."), Turn("all done")) as b:
        async with b.openai(await b.hub.key("model:m", "tool:srv__*", "agent:helper")) as client:
            stream = await client.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": "go"}],
                stream=True,
                tools=[{"type": "mcp", "server_url": "hub/mcp/srv"}, {"type": "a2a", "agent": "helper"}],
            )
            chunks = [chunk async for chunk in stream]
        text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
        made = [call for one in chunks for call in (getattr(one, "hub", None) or {}).get("tool_calls", ())]
        assert text.strip() == "all done"
        assert sorted((one["server"], one["tool"]) for one in made) == [("agent", "helper"), *[("srv", "echo")] * 3]
        (helped,) = [one["result"] for one in made if one["server"] == "agent"]
        assert helped.startswith("I help.")
        assert len(b.server.calls) == 3


async def reached(client: Any, task_id: str, state: str) -> dict[str, Any]:
    """The task, once it is in this state."""
    async with asyncio.timeout(20):
        while (task := await client.ask("GetTask", {"id": task_id}))["status"]["state"] != state:
            await asyncio.sleep(0.01)
    found: dict[str, Any] = task
    return found


@pytest.mark.parametrize("decision", ["approve", "deny"])
async def test_what_needs_approval_waits_at_the_task_and_goes_on_when_it_was_given(
    tmp_path: Path, decision: str
) -> None:
    async with bench(tmp_path, ECHO, DONE, rule=", require_approval: always") as b:
        secret = await b.hub.key("agent:helper", "tool:srv__*")
        async with b.a2a(secret) as client, b.hub.http(await b.hub.key("admin:approvals")) as boss:
            asked = (await client.send("echo it"))["task"]
            assert asked["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
            assert 'srv__echo {"text":"hi"}' in asked["status"]["message"]["parts"][0]["text"]
            (approval,) = asked["metadata"]["urn:hubbub:approvals"]
            assert (approval["server"], approval["tool"], approval["arguments"]) == ("srv", "echo", {"text": "hi"})
            again = (await client.send("well?", taskId=asked["id"]))["task"]
            assert again["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
            assert b.server.calls == []
            answer = await boss.post(f"/api/approvals/{approval['id']}", json={"decision": decision})
            assert answer.status_code == 200, answer.text
            done = await reached(client, asked["id"], "TASK_STATE_COMPLETED")
            assert text_of(done) == "done"
            assert done["metadata"].get("urn:hubbub:approvals", []) == []
        assert b.server.calls == ([("echo", {"text": "hi"})] if decision == "approve" else [])
        assert len(b.model.received) == 2


async def key_of(b: Bench, name: str, team: str, *allow: str) -> str:
    if team not in [one.alias for one in await b.hub.services.teams.page()]:
        await b.hub.services.teams.create(team)
    return (await b.hub.services.keys.create(KeySpec(name=name, allow=("agent:*", *allow), team=team)))[1]


async def test_a_colleague_goes_on_with_a_task_and_for_a_stranger_there_is_none(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        b = await stack.enter_async_context(bench(tmp_path, QUESTION, DONE, DONE, more=SHARED))
        secrets = [
            await key_of(b, "anna", "red", "tool:*"),
            await key_of(b, "albert", "red"),
            await key_of(b, "bella", "blue", "tool:*"),
            await b.hub.key("agent:*", "tool:*"),
        ]
        opened = [await stack.enter_async_context(b.a2a(secret, agent="shared")) for secret in secrets]
        anna, albert, *strangers = opened
        task = (await anna.send("paint it"))["task"]
        for stranger in strangers:
            for name in (task["id"], "absent"):
                for operation in ("GetTask", "CancelTask"):
                    with pytest.raises(Refused) as refused:
                        await stranger.ask(operation, {"id": name})
                    assert refused.value.code == -32001
                with pytest.raises(Refused):
                    await anext(stranger.follow("SubscribeToTask", {"id": name}))
            for theirs in ({"taskId": task["id"]}, {"contextId": task["contextId"]}):
                with pytest.raises(Refused):
                    await stranger.send("red", **theirs)
            assert (await stranger.ask("ListTasks")).get("tasks", []) == []
        assert (await albert.ask("GetTask", {"id": task["id"]}))["status"] == task["status"]
        assert [one["id"] for one in (await albert.ask("ListTasks"))["tasks"]] == [task["id"]]
        done = (await albert.send("blue", taskId=task["id"]))["task"]
        assert (done["id"], done["status"]["state"]) == (task["id"], "TASK_STATE_COMPLETED")
        assert ("srv__echo" in b.tools(0), "srv__echo" in b.tools(1)) == (
            True,
            False,
        )  # for whom it works, not whose it is
        assert (await anna.ask("GetTask", {"id": task["id"]}))["status"] == done["status"]
        await anna.send("and now?", contextId=task["contextId"])
        said = [one["content"] for one in b.asked(2)["messages"] if one["role"] == "user"]
        assert said == ["paint it", "blue", "and now?"]


async def test_a_colleague_sees_what_waits_for_approval_and_it_goes_on_for_who_asked(tmp_path: Path) -> None:
    async with bench(tmp_path, ECHO, DONE, rule=", require_approval: always", more=SHARED) as b:
        annas, alberts = await key_of(b, "anna", "red", "tool:*"), await key_of(b, "albert", "red")
        async with (
            b.a2a(annas, agent="shared") as anna,
            b.a2a(alberts, agent="shared") as albert,
            b.hub.http(await b.hub.key("admin:approvals")) as boss,
        ):
            task = (await anna.send("echo it"))["task"]
            asked = (await albert.send("well?", taskId=task["id"]))["task"]
            assert asked["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
            (approval,) = asked["metadata"]["urn:hubbub:approvals"]
            answer = await boss.post(f"/api/approvals/{approval['id']}", json={"decision": "approve"})
            assert answer.status_code == 200, answer.text
            assert text_of(await reached(albert, task["id"], "TASK_STATE_COMPLETED")) == "done"
        assert b.server.calls == [("echo", {"text": "hi"})]


def message_of(text: str) -> dict[str, Any]:
    return {"message": {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"text": text}]}}


async def test_as_a_model_it_says_what_it_used_and_where_the_talk_goes_on_at_every_door(tmp_path: Path) -> None:
    async with bench(tmp_path, ECHO, DONE, ECHO, DONE, ECHO, DONE, ECHO, DONE) as b:
        secret = await b.hub.key("agent:helper", "tool:srv__*")
        ask: Any = {"model": "agent/helper", "messages": [{"role": "user", "content": "echo hi"}]}
        async with b.openai(secret) as sdk, b.hub.http(secret) as http:
            whole = await sdk.chat.completions.create(**ask)
            stream = await sdk.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})
            chunks: Any = [chunk async for chunk in stream]
            message = (await http.post("/v1/messages", json={**ask, "max_tokens": 9})).json()
            response: Any = await sdk.responses.create(model="agent/helper", input="echo hi")
        used = [(one.usage.input_tokens, one.usage.output_tokens) for one in b.hub.gate.permits if one.kind == "model"]
        given, made = (sum(counts) for counts in zip(*used[:2], strict=True))  # of the first door's two rounds
        assert given
        assert made
        for usage in (whole.usage, chunks[-1].usage):
            assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (given, made, given + made)
        assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (given, made)
        assert (response.usage.input_tokens, response.usage.output_tokens) == (given, made)
        (hub,) = [chunk.hub for chunk in chunks if getattr(chunk, "hub", None) and "state" in chunk.hub]
        for told in (whole.hub, hub, message["hub"], response.hub):
            assert (told["state"], bool(told["context_id"]), bool(told["task_id"])) == ("completed", True, True)
            assert "cost_usd" in told["usage"]
        rows = [one.usage for one in b.hub.gate.permits if one.kind == "agent"]
        assert {(one.input_tokens, one.output_tokens) for one in rows} == {(None, None)}  # counted once, at the model


async def test_of_two_answers_at_the_same_moment_one_is_taken(tmp_path: Path) -> None:
    async with bench(tmp_path, QUESTION, DONE) as b:
        async with b.a2a(await b.hub.key("agent:helper")) as client:
            task = (await client.send("paint it"))["task"]
            ids = {"taskId": task["id"], "contextId": task["contextId"]}
            answers = await asyncio.gather(
                *(client.send(colour, message_id=colour, **ids) for colour in ("red", "blue")), return_exceptions=True
            )
        assert sorted(type(one).__name__ for one in answers) == ["Refused", "dict"]
        assert len(b.model.received) == 2
