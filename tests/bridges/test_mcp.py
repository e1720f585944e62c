"""An MCP server as an agent: the official A2A client before the hub, the official MCP SDK's servers behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import mcp_types as t
import pytest
from mcp import MCPError
from mcp.server import Server
from mcp.shared.exceptions import UrlElicitationRequiredError

from agents import bridged
from agents.bridges.mcp_older import Session
from agents.bridges.mcp_words import PROGRESS
from tests.bridges.test_bridges import state_of
from tests.bridges.there import open_there
from tests.conftest import open_hub
from tests.peers.a2a_clients import Refused, SdkClient, message
from tests.peers.mcp_asking import asking, asking_over_sse, asking_server, form, text
from tests.peers.mcp_servers import Peer, dual_era, legacy_only
from tests.peers.mcp_tasks import making_tasks
from tests.serving import free_socket, served

SSE = [(b"content-type", b"text/event-stream")]


@asynccontextmanager
async def agent(directory: Path, peer: Peer) -> AsyncIterator[SdkClient]:
    """The server as the hub's agent `there`."""
    async with open_there(directory, f'{{bridge: mcp, url: "{peer.url}"}}') as (_, client):
        yield client


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    return message("", parts=[{"data": {"tool": tool, "arguments": arguments}}])


async def test_its_tools_are_skills_and_a_data_part_calls_one(tmp_path: Path) -> None:
    async with dual_era() as peer, agent(tmp_path, peer) as client:
        assert {skill["id"] for skill in client.card["skills"]} >= {"echo", "wait"}
        task = (await client.ask("SendMessage", call("echo", text="hi")))["task"]
        assert state_of({"task": task}) == "COMPLETED"
        assert peer.calls == [("echo", {"text": "hi"})]
        [artifact] = task["artifacts"]
        assert artifact["parts"] == [{"text": '{"text": "hi"}'}, {"data": {"echoed": {"text": "hi"}}}]


async def test_what_is_no_call_is_refused_with_the_names_of_the_tools(tmp_path: Path) -> None:
    async with dual_era() as peer, agent(tmp_path, peer) as client:
        task = (await client.send("echo hi"))["task"]
        assert state_of({"task": task}) == "FAILED"
        assert "echo, wait, tell" in json.dumps(task["status"]["message"])
        assert peer.calls == []


async def test_a_failed_call_is_a_failure(tmp_path: Path) -> None:
    async with dual_era() as peer, agent(tmp_path, peer) as client:
        task = (await client.ask("SendMessage", call("fail")))["task"]
        assert state_of({"task": task}) == "FAILED"


async def test_progress_is_told_while_the_tool_works(tmp_path: Path) -> None:
    async with dual_era() as peer, agent(tmp_path, peer) as client:
        told = []
        async for event in client.follow("SendStreamingMessage", call("tell")):
            metadata = (event.get("statusUpdate") or {}).get("metadata") or {}
            if PROGRESS in metadata:
                told.append(metadata[PROGRESS]["progress"])
                peer.release.set()
        assert told == [1]


async def test_elicitation_asks_and_its_answer_goes_on_with_the_call(tmp_path: Path) -> None:
    async with dual_era(asking_server) as peer, agent(tmp_path, peer) as client:
        task = (await client.ask("SendMessage", call("ask")))["task"]
        assert state_of({"task": task}) == "INPUT_REQUIRED"
        assert "Who are you?" in json.dumps(task["status"]["message"]["parts"])
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        done = (await client.send("Ada", message_id="m-2", **ids))["task"]
        assert (state_of({"task": done}), "Ada" in json.dumps(done["artifacts"])) == ("COMPLETED", True)


async def test_a_url_is_asked_for_and_that_it_was_visited_goes_on_with_the_call(tmp_path: Path) -> None:
    async with dual_era(asking_server) as peer, agent(tmp_path, peer) as client:
        task = (await client.ask("SendMessage", call("visit")))["task"]
        assert state_of({"task": task}) == "INPUT_REQUIRED"
        assert task["status"]["message"]["parts"][0] == {"text": "Sign in https://idp.example/in"}
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        done = (await client.send("done", message_id="m-2", **ids))["task"]
        assert "accept:" in json.dumps(done["artifacts"])


async def test_who_declines_to_visit_a_url_declines(tmp_path: Path) -> None:
    async with dual_era(asking_server) as peer, agent(tmp_path, peer) as client:
        task = (await client.ask("SendMessage", call("visit")))["task"]
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        done = (await client.send("decline", message_id="m-2", **ids))["task"]
        assert "decline:" in json.dumps(done["artifacts"])


async def test_a_task_of_the_servers_asks_and_ends_as_it_ends_there(tmp_path: Path) -> None:
    async with making_tasks() as (peer, _), agent(tmp_path, peer) as client:
        done = (await client.ask("SendMessage", call("slow_compute", seconds=0, label="pi")))["task"]
        assert (state_of({"task": done}), "computed pi" in json.dumps(done["artifacts"])) == ("COMPLETED", True)
        task = (await client.ask("SendMessage", call("confirm_delete", filename="a.txt")))["task"]
        assert "Delete a.txt?" in json.dumps(task["status"]["message"]["parts"])
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        done = (await client.send("yes", message_id="m-2", **ids))["task"]
        assert "accept a.txt" in json.dumps(done["artifacts"])
        for tool, reason in (("failing_job", "it failed"), ("protocol_error_job", "it crashed")):
            failed = (await client.ask("SendMessage", call(tool)))["task"]
            assert state_of({"task": failed}) == "FAILED"
            assert reason in json.dumps(failed["status"]["message"])


async def test_a_server_that_knows_sessions_only_has_one_for_each_call(tmp_path: Path) -> None:
    async with legacy_only() as peer, agent(tmp_path, peer) as client:
        assert {skill["id"] for skill in client.card["skills"]} >= {"echo", "wait"}
        task = (await client.ask("SendMessage", call("echo", text="hi")))["task"]
        assert task["artifacts"][0]["parts"][1] == {"data": {"echoed": {"text": "hi"}}}
        told = []
        async for event in client.follow("SendStreamingMessage", call("tell")):
            if PROGRESS in ((event.get("statusUpdate") or {}).get("metadata") or {}):
                told.append(event)
                peer.release.set()
        assert len(told) == 1
        opened = [one for one in peer.requests if b'"initialize"' in one.get(":body", b"")]
        assert len(opened) == len([one for one in peer.requests if one[":method"] == "DELETE"]) >= 3


def asks_beside(peer: Peer) -> Server[Any]:
    """It asks by the session's other stream, not by that of the call's answer; it calls before whether anybody is there."""

    async def list_tools(ctx: Any, params: Any) -> t.ListToolsResult:
        return t.ListToolsResult(tools=[t.Tool(name="ask", input_schema={"type": "object"})])

    async def call_tool(ctx: Any, params: t.CallToolRequestParams) -> t.CallToolResult:
        peer.calls.append((params.name, params.arguments or {}))
        try:
            await ctx.session.send_ping()
            with pytest.raises(MCPError):
                await ctx.session.send_request(t.ListRootsRequest(), t.ListRootsResult)
            answer = await ctx.session.send_request(form("Who are you?", "name"), t.ElicitResult)
        except asyncio.CancelledError:
            peer.cancelled.set()
            raise
        return text(f"{answer.action}:{answer.content}")

    return Server("beside", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


older_revisions = pytest.mark.parametrize(
    "serve",
    [
        pytest.param(partial(legacy_only, asking_server), id="2025-11-25"),
        pytest.param(partial(legacy_only, asking_server, newest="2025-06-18"), id="2025-06-18"),
        pytest.param(asking_over_sse, id="2024-11-05"),
    ],
)


@older_revisions
async def test_an_older_server_that_asks_waits_for_each_answer(tmp_path: Path, serve: Any) -> None:
    async with serve() as peer, agent(tmp_path, peer) as client:
        assert {skill["id"] for skill in client.card["skills"]} >= {"echo", "ask_twice"}
        task = (await client.ask("SendMessage", call("ask_twice")))["task"]
        assert state_of({"task": task}) == "INPUT_REQUIRED"
        assert "Who are you?" in json.dumps(task["status"]["message"]["parts"])
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        task = (await client.send("Ada", message_id="m-2", **ids))["task"]
        assert (state_of({"task": task}), "Which colour?" in json.dumps(task["status"])) == ("INPUT_REQUIRED", True)
        done = (await client.send("decline", message_id="m-3", **ids))["task"]
        assert state_of({"task": done}) == "COMPLETED"
        assert "legacy accept:{'name': 'Ada'} decline:" in json.dumps(done["artifacts"])
        assert peer.calls == [("ask_twice", {})]


async def test_a_server_that_was_replaced_by_one_of_another_era_is_spoken_to_anew(tmp_path: Path) -> None:
    sock = free_socket()
    port = sock.getsockname()[1]
    async with AsyncExitStack() as stack:
        async with asking("modern", sock=sock) as peer:
            client = await stack.enter_async_context(agent(tmp_path, peer))
            assert state_of(await client.ask("SendMessage", call("echo", text="one"))) == "COMPLETED"
        async with asking("legacy", sock=free_socket(port)):
            assert state_of(await client.ask("SendMessage", call("echo", text="two"))) == "FAILED"
            assert state_of(await client.ask("SendMessage", call("echo", text="three"))) == "COMPLETED"


@older_revisions
async def test_cancelling_ends_the_call_of_an_older_server(tmp_path: Path, serve: Any) -> None:
    async with serve() as peer, agent(tmp_path, peer) as client, asyncio.timeout(30):
        async with aclosing(client.follow("SendStreamingMessage", call("wait"))) as events:
            task_id = (await anext(events))["task"]["id"]
            await peer.waiting.wait()
            assert state_of({"task": await client.ask("CancelTask", {"id": task_id})}) == "CANCELED"
        await peer.cancelled.wait()


async def test_what_is_asked_beside_the_call_is_asked_and_whether_somebody_is_there_is_answered(tmp_path: Path) -> None:
    async with legacy_only(asks_beside) as peer, agent(tmp_path, peer) as client:
        task = (await client.ask("SendMessage", call("ask")))["task"]
        assert "Who are you?" in json.dumps(task["status"]["message"]["parts"])
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        done = (await client.send("Ada", message_id="m-2", **ids))["task"]
        assert (state_of({"task": done}), "Ada" in json.dumps(done["artifacts"])) == ("COMPLETED", True)


async def test_cancelling_a_task_that_waits_ends_its_call(tmp_path: Path) -> None:
    async with legacy_only(asks_beside) as peer, agent(tmp_path, peer) as client, asyncio.timeout(30):
        task = (await client.ask("SendMessage", call("ask")))["task"]
        assert state_of({"task": await client.ask("CancelTask", {"id": task["id"]})}) == "CANCELED"
        await peer.cancelled.wait()


async def test_who_answers_while_the_task_is_cancelled_does_not_bring_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_ending, may_end = asyncio.Event(), asyncio.Event()
    end = Session.end

    async def slowly(session: Session) -> None:
        is_ending.set()
        await may_end.wait()
        await end(session)

    async with legacy_only(asks_beside) as peer, agent(tmp_path, peer) as client, asyncio.timeout(30):
        task = (await client.ask("SendMessage", call("ask")))["task"]
        monkeypatch.setattr(Session, "end", slowly)
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        cancelling = [asyncio.create_task(client.ask("CancelTask", {"id": task["id"]})) for _ in range(2)]
        await is_ending.wait()
        with pytest.raises(Refused):
            await client.send("Ada", message_id="m-2", **ids)
        may_end.set()
        assert [state_of({"task": await one}) for one in cancelling] == ["CANCELED", "CANCELED"]
        assert state_of({"task": await client.ask("GetTask", {"id": task["id"]})}) == "CANCELED"


async def test_a_hub_that_stops_ends_the_calls_that_wait(tmp_path: Path) -> None:
    async with legacy_only(asks_beside) as peer, asyncio.timeout(30):
        async with agent(tmp_path, peer) as client:
            await client.ask("SendMessage", call("ask"))
            assert not peer.cancelled.is_set()
        await peer.cancelled.wait()


async def test_who_answers_too_late_is_told_so_and_nothing_is_called_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridged, "WAITS_S", 0)
    async with legacy_only(asks_beside) as peer, agent(tmp_path, peer) as client, asyncio.timeout(30):
        task = (await client.ask("SendMessage", call("ask")))["task"]
        assert state_of({"task": task}) == "INPUT_REQUIRED"
        await peer.cancelled.wait()
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        late = (await client.send("Ada", message_id="m-2", **ids))["task"]
        assert state_of({"task": late}) == "FAILED"
        assert "does not wait for this answer any more" in json.dumps(late["status"])
        assert len(peer.calls) == 1


async def test_nobody_has_more_calls_wait_than_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridged, "MAX_WAITING_OF_ONE", 1)
    async with legacy_only(asks_beside) as peer, agent(tmp_path, peer) as client, asyncio.timeout(30):
        await client.ask("SendMessage", call("ask"))
        refused = (await client.ask("SendMessage", call("ask")))["task"]
        assert state_of({"task": refused}) == "FAILED"
        assert "wait for answers" in json.dumps(refused["status"])
        await peer.cancelled.wait()


def wants_a_visit(peer: Peer) -> Server[Any]:
    """It refuses to be called before an address was visited."""

    async def list_tools(ctx: Any, params: Any) -> t.ListToolsResult:
        return t.ListToolsResult(tools=[t.Tool(name="files", input_schema={"type": "object"})])

    async def call_tool(ctx: Any, params: t.CallToolRequestParams) -> t.CallToolResult:
        peer.calls.append((params.name, params.arguments or {}))
        if len(peer.calls) == 1:
            where = t.ElicitRequestURLParams(message="Sign in", url="https://idp.example/in", elicitation_id="e1")
            raise UrlElicitationRequiredError([where])
        return text("a.txt")

    return Server("visited", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


async def test_a_call_that_is_refused_before_a_visit_is_made_again_after_it(tmp_path: Path) -> None:
    async with legacy_only(wants_a_visit) as peer, agent(tmp_path, peer) as client:
        task = (await client.ask("SendMessage", call("files", of="Ada")))["task"]
        assert state_of({"task": task}) == "INPUT_REQUIRED"
        assert task["status"]["message"]["parts"][0] == {"text": "Sign in https://idp.example/in"}
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        done = (await client.send("done", message_id="m-2", **ids))["task"]
        assert (state_of({"task": done}), "a.txt" in json.dumps(done["artifacts"])) == ("COMPLETED", True)
        assert peer.calls == [("files", {"of": "Ada"})] * 2


async def test_who_declines_the_visit_calls_nothing(tmp_path: Path) -> None:
    async with legacy_only(wants_a_visit) as peer, agent(tmp_path, peer) as client:
        task = (await client.ask("SendMessage", call("files")))["task"]
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        done = (await client.send("decline", message_id="m-2", **ids))["task"]
        assert (state_of({"task": done}), len(peer.calls)) == ("FAILED", 1)


@pytest.mark.parametrize(
    ("first", "told"),
    [(b"event: endpoint\ndata: https://elsewhere.example/\n\n", "another origin"), (b"data: {}\n\n", "does not begin")],
)
async def test_messages_go_to_no_other_origin_than_the_stream_of_2024_11_05_comes_from(
    tmp_path: Path, first: bytes, told: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        is_stream = scope["method"] == "GET"
        await send({"type": "http.response.start", "status": 200 if is_stream else 405, "headers": SSE})
        await send({"type": "http.response.body", "body": first if is_stream else b""})

    async with served(app) as url, open_hub(tmp_path, f'agents:\n  there: {{bridge: mcp, url: "{url}"}}\n') as hub:
        async with hub.http(await hub.key("agent:there")) as client:
            card = await client.get("/a2a/there/.well-known/agent-card.json")
        assert told in card.text
