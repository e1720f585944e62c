"""Usage by conversation, and by the task that calls were part of over all hops."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import httpx
import pytest

from registry.identity import MAX_SESSION, TASK_HEADER_NAME, session_of
from tests.conftest import ADMIN_KEY, Hub, OpenHub
from tests.doors.test_limits import (
    ask_agent,
    chat,
    embed,
    everything,
    in_session,
    made,
    message,
    respond,
    rpc,
    say,
    use_tool,
)
from tests.peers.mcp_servers import dual_era


async def items(http: httpx.AsyncClient, by: str, **only: str) -> list[dict[str, Any]]:
    answer = await http.get("/api/usage", params={"by": by, **only})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def calls(running: Hub, by: str, **only: str) -> dict[str | None, int]:
    async with running.http(ADMIN_KEY) as admin:
        return {item[by]: item["calls"] for item in await items(admin, by, **only)}


async def test_what_a_caller_calls_its_conversation_is_found_at_every_door_without_limits(hub: OpenHub) -> None:
    async with everything(hub) as running, running.http(await made(running)) as http:
        assert (await chat(http)).status_code == 200
        for name in ("one", "other"):
            http.headers["hubbub-session"] = name
            for call in (say, use_tool, chat, message, embed, respond):
                assert (await call(http)).status_code == 200
        assert (await say(http, contextId="within")).status_code == 200
        assert await calls(running, "session") == {None: 1, "one": 6, "other": 7}
        assert await calls(running, "kind", session="other") == {"agent": 2, "model": 4, "tool": 1}
        assert await calls(running, "kind", session="oth") == {}


async def test_a_conversation_of_a_protocol_is_found_by_its_name_and_an_mcp_session_by_its_digest(hub: OpenHub) -> None:
    async with everything(hub) as running, running.http(await made(running)) as http:
        context = (await ask_agent(http)).json()["hub"]["context_id"]
        await say(http, contextId=context)
        await use_tool(http, "agent__echo", {"message": "x", "context_id": context})
        await chat(http, model="agent/echo", hub={"context_id": context})
        first = (await respond(http)).json()["id"]
        second = (await respond(http, previous_response_id=first)).json()["id"]
        await respond(http, previous_response_id=second)
        conversation = (await http.post("/v1/conversations", json={})).json()["id"]
        await respond(http, conversation=conversation)
        await respond(http, store=False)
        answer = await (await in_session(http))()
        said = answer.request.headers["mcp-session-id"]
        assert await calls(running, "session") == {
            None: 1,
            context: 4,
            first: 3,
            conversation: 1,
            hashlib.sha256(said.encode()).hexdigest(): 1,
        }


@pytest.mark.parametrize("name", ["x" * (MAX_SESSION + 1), "a\x00b", "\ud800", "a\nb"], ids=ascii)
def test_a_name_that_is_too_long_or_cannot_be_printed_is_known_by_its_digest(name: str) -> None:
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    assert (session_of(name), session_of(name[:1])) == (digest, session_of(name[:1]))
    assert session_of("Übung 1") == "Übung 1"


async def test_a_task_is_found_over_its_hops_and_each_team_sees_its_part(hub: OpenHub) -> None:
    async with dual_era() as server, hub(f"mcpServers: {{s: {{url: '{server.url}'}}}}\n") as running:
        await running.services.sync.refresh("s")
        keys = {}
        async with running.http(ADMIN_KEY) as admin:
            for team, bounds in (("red", {"max_calls": 9}), ("blue", {})):
                assert (await admin.post("/api/teams", json={"alias": team})).status_code == 201
                keys[team] = await made(running, name=team, team=team, limits=bounds, allow=["tool:*"])
        async with running.http(keys["red"]) as http, running.http(keys["blue"]) as hop:
            assert (await use_tool(hop)).status_code == 200
            for _ in range(2):  # each request begins a task of its own
                assert (await use_tool(http)).status_code == 200
                hop.headers[TASK_HEADER_NAME] = token = server.requests[-1][TASK_HEADER_NAME]
                assert (await use_tool(hop)).status_code == 200
                assert (await use_tool(hop)).status_code == 200
        found = await calls(running, "task")
        assert sorted(found.values()) == [1, 3, 3]
        tasks = [task for task in found if task is not None]
        assert len(tasks) == 2
        assert token not in tasks
        assert await calls(running, "key", task=tasks[0]) == {"red": 1, "blue": 2}
        for team, count in (("red", 1), ("blue", 2)):
            await running.services.users.create(f"{team}-viewer")
            await running.services.teams.put_member(team, f"{team}-viewer", "viewer")
            viewing = await running.key("admin:roles", user=f"{team}-viewer", team=team)
            async with running.http(viewing) as viewer:
                for task in tasks:
                    seen = [(item["key"], item["calls"]) for item in await items(viewer, "key", task=task)]
                    assert seen == [(team, count)]
        for nothing in (tasks[0].upper(), token):
            assert await calls(running, "key", task=nothing) == {}


@pytest.mark.parametrize("begin", ["SendMessage", "SendStreamingMessage", "/message:send", "/message:stream"])
async def test_the_first_message_and_what_names_only_a_task_count_to_the_context_that_they_are_of(
    hub: OpenHub, begin: str
) -> None:
    async with everything(hub) as running, running.http(await made(running)) as http:
        http.headers["a2a-version"] = "1.0"
        message = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "task"}]}}
        if begin.startswith("/"):
            first = await http.post(f"/a2a/echo{begin}", json=message)
        else:
            first = await http.post("/a2a/echo", json=rpc(begin, message))
        context, task = (re.findall(rf'"{name}": ?"([^"]+)"', first.text)[0] for name in ("contextId", "taskId"))
        assert (await http.post("/a2a/echo", json=rpc("GetTask", {"id": task}))).status_code == 200
        assert (await http.get(f"/a2a/echo/tasks/{task}")).status_code == 200
        assert await calls(running, "session") == {context: 3}
