"""Agents as tools of `/mcp`: official A2A agents behind the hub, official MCP clients of both eras before it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as t
import pytest
from mcp import MCPError

from agents.speech import SPEECHES, Speech
from agents.wire import HOPS_HEADER, MAX_HOPS
from tests.conftest import ADMIN_KEY
from tests.doors.test_mcp_subscriptions import TOOLS, listening
from tests.peers import a2a_sdk_agents
from tests.peers.canned_agent import canned_agent
from tests.peers.mcp_hub import MODERN, McpHub, headers, message, open_mcp_hub
from tests.peers.openai_upstream import Turn, openai_upstream
from tests.until import until

ERAS = pytest.mark.parametrize("era", ["legacy", MODERN])
JSONRPC = SPEECHES[0]


@asynccontextmanager
async def hub_before(
    directory: Path, *, speech: Speech = JSONRPC, more: str = "", **options: Any
) -> AsyncIterator[tuple[McpHub, a2a_sdk_agents.Agent]]:
    """A hub before one official agent, called `research`, whose card it knows."""
    async with a2a_sdk_agents.open_agent(speech, **options) as agent:
        yaml = f"agents: {{research: {{url: {agent.card_url}}}}}\n{more}"
        async with open_mcp_hub(directory, yaml) as hub:
            await described(hub)
            yield hub, agent


async def described(hub: McpHub, words: bytes = b"Does what it is told.") -> None:
    """Wait until the agent's card is in the catalog."""
    await until(lambda: words in hub.services.registry.catalog.tools["agent__research"].description)


class Person:
    """Answers what a client is asked, and notes it."""

    def __init__(self, answer: str | None = "the blue one") -> None:
        self.asked: list[Any] = []
        self.answer = answer

    async def elicit(self, _context: Any, params: Any) -> t.ElicitResult:
        self.asked.append(params)
        if self.answer is None:
            return t.ElicitResult(action="decline")
        return t.ElicitResult(action="accept", content={"answer": self.answer} if params.mode == "form" else None)


def texts(result: Any) -> list[str]:
    return [block.text for block in result.content if block.type == "text"]


async def result_of(http: Any, body: dict[str, Any]) -> Any:
    """The result of a modern call by hand, which comes alone or at the end of a stream."""
    answer = await http.post("/mcp", json=body, headers=headers("tools/call", "agent__research"))
    return json.loads(answer.text.rpartition("data: ")[2])["result"]


async def call(client: Any, text: str, **more: Any) -> Any:
    return await client.call_tool("agent__research", {"message": text, **more})


@ERAS
async def test_an_agent_is_a_tool_with_what_its_card_says(tmp_path: Path, era: str) -> None:
    async with hub_before(tmp_path) as (hub, _), hub.client(await hub.key("agent:research"), mode=era) as client:
        (tool,) = (await client.list_tools()).tools
        assert (tool.name, tool.title) == ("agent__research", "Scripted")
        assert "Does what it is told." in (tool.description or "")
        assert "- Do: Does it." in (tool.description or "")
        assert tool.input_schema["required"] == ["message"]


@pytest.mark.parametrize("speech", SPEECHES, ids=lambda speech: f"{speech.binding} {speech.version}")
@ERAS
async def test_an_answer_has_its_texts_task_and_artifacts(tmp_path: Path, era: str, speech: Speech) -> None:
    async with (
        hub_before(tmp_path, speech=speech) as (hub, agent),
        hub.client(await hub.key("agent:research"), mode=era) as client,
    ):
        result = await call(client, "complete 2")
        found = result.structured_content
        (task_id,) = agent.emitted
        assert (found["state"], found["task_id"], bool(found["context_id"])) == ("completed", task_id, True)
        (artifact,) = found["artifacts"]
        assert (artifact["name"], artifact["parts"]) == ("Result", [{"text": "part 0 part 1 "}])
        assert texts(result) == [
            "part 0 part 1 ",
            f"[completed; task_id {task_id}, context_id {found['context_id']}]",
        ]
        again = await call(client, "message", context_id=found["context_id"])
        assert again.structured_content == {
            "state": "completed",
            "text": "hello",
            "artifacts": [],
            "context_id": found["context_id"],
        }
        failed = await call(client, "fail")
        assert (failed.is_error, failed.structured_content["text"]) == (True, "it broke")
    permits = [(permit.kind, permit.entry_name) for permit in hub.gate.permits if permit.principal.name != "hub"]
    assert permits == [("agent", "research")] * 3


@ERAS
async def test_files_and_links_are_as_the_agent_made_them(tmp_path: Path, era: str) -> None:
    async with hub_before(tmp_path) as (hub, _), hub.client(await hub.key("agent:*"), mode=era) as client:
        result = await call(client, "files")
        file, link = result.content[:2]
        task_id = result.structured_content["task_id"]
        assert (file.resource.uri, file.resource.blob) == (f"agent://research/{task_id}/files/0", "aGk=")
        assert link.uri == "https://files.example/b.txt"
        (artifact,) = result.structured_content["artifacts"]
        assert [part.get("data") or part.get("uri") for part in artifact["parts"]] == [
            file.resource.uri,
            link.uri,
            {"x": 1},
        ]


@ERAS
async def test_an_agent_without_streams_is_followed(tmp_path: Path, era: str) -> None:
    async with (
        hub_before(tmp_path, streaming=False) as (hub, agent),
        hub.client(await hub.key("agent:research"), mode=era) as client,
    ):
        calling = asyncio.create_task(call(client, "wait"))
        await until(lambda: "GetTask" in agent.operations)
        agent.go.set()
        assert (await calling).structured_content["state"] == "completed"
        assert "SendStreamingMessage" not in agent.operations


@ERAS
async def test_progress_comes_as_the_agent_streams(tmp_path: Path, era: str) -> None:
    async with (
        hub_before(tmp_path) as (hub, agent),
        hub.client(await hub.key("agent:research"), mode=era) as client,
    ):
        told: asyncio.Queue[tuple[float, str | None]] = asyncio.Queue()

        async def hear(progress: float, _total: float | None, text: str | None) -> None:
            await told.put((progress, text))

        calling = asyncio.create_task(
            client.call_tool("agent__research", {"message": "slow 2"}, progress_callback=hear)
        )
        async with asyncio.timeout(10):
            found = [await told.get()]
            for part in ("part 0 ", "part 1 "):  # each comes while the next is still held back
                await agent.release()
                while found[-1][1] != part:
                    found.append(await told.get())
            await calling
        assert [number for number, _ in found] == list(range(1, len(found) + 1))


@ERAS
async def test_what_an_agent_asks_is_asked_of_the_caller(tmp_path: Path, era: str) -> None:
    async with hub_before(tmp_path) as (hub, agent):
        person = Person()
        secret = await hub.key("agent:research")
        async with hub.client(secret, mode=era, elicitation_callback=person.elicit) as client:
            result = await call(client, "ask")
        assert result.structured_content["state"] == "completed"
        assert [params.message for params in person.asked] == ["[research] which one?"]
        sent = [one.params["message"] for one in agent.calls if one.operation == "SendStreamingMessage"]
        assert [one["parts"][0]["text"] for one in sent] == ["ask", "the blue one"]
        assert sent[1]["taskId"] == result.structured_content["task_id"]


@ERAS
async def test_who_declines_can_still_go_on_by_another_call(tmp_path: Path, era: str) -> None:
    async with hub_before(tmp_path) as (hub, agent):
        person = Person(answer=None)
        secret = await hub.key("agent:research")
        async with hub.client(secret, mode=era, elicitation_callback=person.elicit) as client:
            result = await call(client, "ask")
            found = result.structured_content
            assert (found["state"], found["text"]) == ("input-required", "which one?")
            assert len(person.asked) == 1
            assert (await call(client, "green", task_id=found["task_id"])).structured_content["state"] == "completed"
        assert "CancelTask" not in agent.operations


@ERAS
async def test_a_client_that_cannot_be_asked_is_told_how_to_go_on(tmp_path: Path, era: str) -> None:
    async with hub_before(tmp_path) as (hub, _), hub.client(await hub.key("agent:research"), mode=era) as client:
        result = await call(client, "ask")
        task_id = result.structured_content["task_id"]
        assert not result.is_error
        question, how = texts(result)
        assert question == "which one?"
        assert how.startswith("[input-required: call agent__research again with this task_id and the answer; ")
        assert task_id in how
        assert (await call(client, "red", task_id=task_id)).structured_content["state"] == "completed"
        signing_in = await call(client, "auth")
        assert signing_in.structured_content["state"] == "auth-required"


@ERAS
async def test_a_sign_in_is_asked_for_by_its_link(tmp_path: Path, era: str) -> None:
    async with hub_before(tmp_path) as (hub, _):
        person = Person()
        secret = await hub.key("agent:research")
        async with hub.client(secret, mode=era, elicitation_callback=person.elicit) as client:
            result = await call(client, "auth https://id.example/go")
            assert result.structured_content["state"] == "completed"
            (asked,) = person.asked
            assert (asked.mode, asked.url) == ("url", "https://id.example/go")
            assert asked.message == "[research] sign in first https://id.example/go"
            # no form asks for what may be secret, and nobody is sent to an address that is not safe
            for text in ("auth", "auth http://id.example/go"):
                assert (await call(client, text)).structured_content["state"] == "auth-required"
        assert len(person.asked) == 1


@ERAS
async def test_tasks_and_contexts_are_their_callers_own(tmp_path: Path, era: str) -> None:
    async with hub_before(tmp_path) as (hub, agent):
        async with hub.client(await hub.key("agent:research"), mode=era) as client:
            found = (await call(client, "ask")).structured_content
        before = len(agent.calls)
        async with hub.client(await hub.key("agent:research"), mode=era) as client:
            for name, other in (("task", found["task_id"]), ("context", found["context_id"])):
                messages = []
                for value in (other, "none-such"):
                    if name == "context" and value == "none-such":
                        continue  # a new context is its first caller's
                    with pytest.raises(MCPError) as caught:
                        await call(client, "mine", **{f"{name}_id": value})
                    messages.append(caught.value.error.message.replace(value, "X"))
                assert set(messages) == {f"No {name} 'X' here."}
        assert len(agent.calls) == before


async def test_another_principal_and_another_question_cannot_use_a_handle(tmp_path: Path) -> None:
    async with hub_before(tmp_path) as (hub, agent):
        asking = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}

        def body(arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
            made = message("tools/call", {"name": "agent__research", "arguments": arguments, **more})
            made["params"]["_meta"] = {**made["params"]["_meta"], **asking}
            return made

        async with hub.http(await hub.key("agent:*")) as mine, hub.http(await hub.key("agent:*")) as theirs:
            given = headers("tools/call", "agent__research")
            first = await result_of(mine, body({"message": "ask"}))
            assert first["resultType"] == "input_required"
            ((key, asked),) = first["inputRequests"].items()
            assert asked["params"]["message"] == "[research] which one?"
            answer = {key: {"action": "accept", "content": {"answer": "this"}}}
            state = first["requestState"]
            sent = len(agent.calls)
            for http, arguments, more in (
                (theirs, {"message": "ask"}, {"requestState": state}),
                (mine, {"message": "other"}, {"requestState": state}),
                (mine, {"message": "ask"}, {"requestState": "made up"}),
                (mine, {"message": "ask"}, {}),
            ):
                again = await http.post("/mcp", json=body(arguments, inputResponses=answer, **more), headers=given)
                assert again.json()["error"]["code"] == -32602
            assert len(agent.calls) == sent
            retry = body({"message": "ask"}, inputResponses={}, requestState=state)
            once_more = await result_of(mine, retry)
            assert once_more["inputRequests"] == first["inputRequests"]
            retry = body({"message": "ask"}, inputResponses=answer, requestState=once_more["requestState"])
            done = await result_of(mine, retry)
            assert done["structuredContent"]["state"] == "completed"


@pytest.mark.parametrize("streaming", [True, False])
@ERAS
async def test_who_leaves_has_the_task_cancelled(tmp_path: Path, era: str, streaming: bool) -> None:
    async with (
        hub_before(tmp_path, streaming=streaming) as (hub, agent),
        hub.client(await hub.key("agent:research"), mode=era) as client,
    ):
        calling = asyncio.create_task(call(client, "wait"))
        await until(lambda: agent.calls)
        calling.cancel()
        await until(lambda: "CancelTask" in agent.operations)
        async with asyncio.timeout(60):
            (cancelled,) = [one.params["id"] for one in agent.calls if one.operation == "CancelTask"]
            while (await agent.task(cancelled))["status"]["state"] != "TASK_STATE_CANCELED":
                await asyncio.sleep(0.01)
        agent.go.set()


@ERAS
async def test_an_agent_that_is_switched_off_is_called_no_more(tmp_path: Path, era: str) -> None:
    async with (
        hub_before(tmp_path) as (hub, agent),
        hub.client(await hub.key("agent:research"), mode=era) as client,
    ):
        calling = asyncio.create_task(call(client, "wait"))
        async with asyncio.timeout(10):
            await until(lambda: agent.calls)
            await hub.services.registry.switch("agent", "research", on=False)
            with pytest.raises(MCPError, match="switched off"):
                await calling
        assert (await client.list_tools()).tools == []
        with pytest.raises(MCPError, match="No tool 'agent__research' here"):
            await call(client, "complete")
        agent.go.set()


@ERAS
async def test_an_agent_that_is_down_is_listed_and_says_so_when_called(tmp_path: Path, era: str) -> None:
    yaml = "agents: {research: {url: 'http://127.0.0.1:9/'}}\n"
    async with (
        open_mcp_hub(tmp_path, yaml) as hub,
        hub.client(await hub.key("agent:*"), mode=era) as client,
    ):
        (tool,) = (await client.list_tools()).tools
        assert (tool.description or "").startswith("The agent research.")
        with pytest.raises(MCPError, match="research: ") as caught:
            await call(client, "hello")
        assert caught.value.error.code == -32603
        assert "127.0.0.1" not in caught.value.error.message


@pytest.mark.parametrize("said", [b'{"nothing": 1}', b"no json", b'{"jsonrpc":"2.0","id":1,"result":{"task":3}}', b""])
@ERAS
async def test_an_agent_that_streams_garbage_fails_alone(tmp_path: Path, era: str, said: bytes) -> None:
    async with canned_agent(JSONRPC, lambda _: said) as agent:
        yaml = f"agents: {{research: {{url: '{agent.url}'}}}}\n"
        async with open_mcp_hub(tmp_path, yaml) as hub:
            await described(hub, b"Says what it was given.")
            async with hub.client(await hub.key("agent:*"), mode=era) as client, asyncio.timeout(10):
                with pytest.raises(MCPError, match="research: ") as caught:
                    await call(client, "hello")
                assert caught.value.error.code == -32603
                assert len((await client.list_tools()).tools) == 1


@ERAS
async def test_an_agent_that_calls_itself_as_a_tool_comes_to_an_end(tmp_path: Path, era: str) -> None:
    async with hub_before(tmp_path) as (hub, agent):
        secret = await hub.key("agent:*")

        async def call_the_hub(received: dict[str, str]) -> str:
            async with hub.client(secret, mode=era, headers={HOPS_HEADER: received[HOPS_HEADER]}) as again:
                try:
                    return str((await call(again, "relay")).structured_content["text"])
                except MCPError as error:
                    return error.error.message

        agent.relay = call_the_hub
        async with hub.client(secret, mode=era) as client:
            result = await call(client, "relay")
        assert f"came through the hub {MAX_HOPS} times" in result.structured_content["text"]
        sent = [one for one in agent.calls if one.operation == "SendStreamingMessage"]
        assert [one.headers[HOPS_HEADER] for one in sent] == [str(hop) for hop in range(1, MAX_HOPS + 1)]


async def test_a_chat_can_call_an_agent(tmp_path: Path) -> None:
    turns = (Turn(calls=(("agent__research", '{"message": "complete"}'),)), Turn("done"))
    async with openai_upstream(*turns) as upstream:
        model = f"models: {{m: {{provider: openai, model: up, base_url: '{upstream.url}', api_key: sk-up-000000}}}}\n"
        async with hub_before(tmp_path, more=model) as (hub, agent):
            source = {"type": "mcp", "server_label": "hub", "server_url": "hub/mcp", "require_approval": "never"}
            body = {"model": "m", "messages": [{"role": "user", "content": "go"}], "tools": [source]}
            async with hub.http(await hub.key("model:m", "agent:research")) as http:
                answer = await http.post("/v1/chat/completions", json=body)
            assert answer.json()["choices"][0]["message"]["content"] == "done"
            (offered,) = upstream.received[0].body["tools"]
            assert offered["function"]["name"] == "agent__research"
            told = upstream.received[1].body["messages"][-1]["content"]
            assert told.startswith("part 0 \n[completed; task_id ")
            assert agent.operations == ["SendStreamingMessage"]


@ERAS
async def test_what_a_model_got_wrong_is_told_to_it(tmp_path: Path, era: str) -> None:
    async with hub_before(tmp_path) as (hub, agent), hub.client(await hub.key("agent:*"), mode=era) as client:
        for arguments, text in (
            ({}, "message must be a string that is not empty"),
            ({"message": "a", "taskId": "b"}, "taskId is no argument; there are message, context_id and task_id"),
            ({"message": "a", "task_id": 1}, "task_id must be a string"),
        ):
            result = await client.call_tool("agent__research", arguments)
            assert (result.is_error, texts(result)) == (True, [text])
        assert not agent.calls


@ERAS
async def test_only_who_may_call_an_agent_sees_its_tool(tmp_path: Path, era: str) -> None:
    async with hub_before(tmp_path) as (hub, agent):
        async with hub.client(await hub.key("tool:*", "server:*", "agent:other"), mode=era) as client:
            assert (await client.list_tools()).tools == []
            with pytest.raises(MCPError, match="No tool 'agent__research' here"):
                await call(client, "complete")
        assert not agent.calls


@ERAS
async def test_agents_are_found_and_called_in_search_mode(tmp_path: Path, era: str) -> None:
    async with (
        hub_before(tmp_path) as (hub, _),
        hub.client(await hub.key("agent:*", mcp_mode="search"), mode=era) as client,
    ):
        found = await client.call_tool("search_tools", {"query": "what it is told"})
        assert [tool["name"] for tool in json.loads(texts(found)[0])["found"]] == ["agent__research"]
        described_tool = await client.call_tool("describe_tool", {"name": "agent__research"})
        assert json.loads(texts(described_tool)[0])["inputSchema"]["required"] == ["message"]
        asked = {"name": "agent__research", "arguments": {"message": "complete"}}
        assert (await client.call_tool("call_tool", asked)).structured_content["state"] == "completed"


@ERAS
async def test_a_toolset_can_have_agents(tmp_path: Path, era: str) -> None:
    more = "toolsets: {some: {tools: [agent__*]}, named: {tools: [{tool: agent__research, as: ask_research}]}}\n"
    async with hub_before(tmp_path, more=more) as (hub, _):
        secret = await hub.key("agent:research")
        async with hub.client(secret, mode=era, path="/mcp/some") as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["agent__research"]
            assert (await call(client, "complete")).structured_content["state"] == "completed"
        async with hub.client(secret, mode=era, path="/mcp/named") as client:
            result = await client.call_tool("ask_research", {"message": "complete"})
            assert result.structured_content["state"] == "completed"
        async with hub.http(await hub.key("agent:other")) as http:
            answer = await http.post("/mcp/named", json=message("tools/list"), headers=headers("tools/list"))
            assert answer.status_code == 404


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
@ERAS
async def test_clients_hear_of_agents_that_come_and_go(tmp_path: Path, era: str) -> None:
    async with hub_before(tmp_path) as (hub, agent):
        registry = hub.services.registry
        async with listening(hub, await hub.key("agent:late"), era) as ear:
            await registry.put("agent", "late", {"url": agent.card_url}, trusted=True)
            await ear.until((TOOLS, ""))
            await until(lambda: b"Does what" in registry.catalog.tools["agent__late"].description)
            ear.heard.clear()
            await registry.delete("agent", "late")
            await ear.until((TOOLS, ""))


async def test_a_card_that_changes_changes_the_list(tmp_path: Path) -> None:
    async with hub_before(tmp_path) as (hub, agent), hub.http(ADMIN_KEY) as http:
        number = hub.services.registry.catalog.number
        (await http.post("/api/agents", json={"name": "late", "url": agent.card_url})).raise_for_status()
        assert "agent__late" in hub.services.registry.catalog.tools
        await until(lambda: b"Does what" in hub.services.registry.catalog.tools["agent__late"].description)
        assert hub.services.registry.catalog.number >= number + 2
        (await http.delete("/api/agents/late")).raise_for_status()
        assert "agent__late" not in hub.services.registry.catalog.tools
