"""Limits and budgets at every door: how many calls pass, how the others are refused, and what is shown of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from agents.speech import Speech
from registry.identity import RequestLimits
from registry.spending.tasks import Tasks
from tests.conftest import ADMIN_KEY, Hub, OpenHub
from tests.peers.a2a_sdk_agents import open_agent
from tests.peers.http_peer import always, listening
from tests.peers.mcp_servers import dual_era, legacy_only
from tests.peers.openai_upstream import USAGE, Turn, openai_upstream

JSONRPC = Speech("JSONRPC", "1.0")
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
Call = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


def rpc(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": "mine", "method": method, "params": params}


async def say(http: httpx.AsyncClient, agent: str = "echo", **members: Any) -> httpx.Response:
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hello"}], **members}
    return await http.post(f"/a2a/{agent}", json=rpc("SendMessage", {"message": message}))


async def use_tool(
    http: httpx.AsyncClient, name: str = "s__echo", arguments: dict[str, str] | None = None
) -> httpx.Response:
    headers = {
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": name,
        "accept": "application/json, text/event-stream",
    }
    argument = "message" if name.startswith("agent__") else "text"
    params = {"name": name, "arguments": arguments or {argument: "x"}, "_meta": META}
    return await http.post("/mcp", json=rpc("tools/call", params), headers=headers)


async def chat(http: httpx.AsyncClient, **members: Any) -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **members}
    return await http.post("/v1/chat/completions", json=body)


async def message(http: httpx.AsyncClient, **members: Any) -> httpx.Response:
    body = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}], **members}
    return await http.post("/v1/messages", json=body)


async def embed(http: httpx.AsyncClient) -> httpx.Response:
    return await http.post("/v1/embeddings", json={"model": "m", "input": "hi"})


async def ask_agent(http: httpx.AsyncClient) -> httpx.Response:
    return await chat(http, model="agent/echo")


async def use_agent(http: httpx.AsyncClient) -> httpx.Response:
    return await use_tool(http, "agent__echo")


CALLS = {
    "agent": say,
    "tool": use_tool,
    "model": chat,
    "messages": message,
    "embeddings": embed,
    "agent as model": ask_agent,
    "agent as tool": use_agent,
}


@asynccontextmanager
async def everything(
    hub: OpenHub,
    *,
    priced: bool = True,
    more: str = "",
    turns: Sequence[Turn] = (Turn("hi"),),
    cache: str = "",
    grpc: bool = False,
    of_each: str = "",
) -> AsyncIterator[Hub]:
    price, tokens = (", price: {call: 0.02}", ", price: {input: 0, call: 0.02}") if priced else ("", "")
    price, tokens = (f"{of}, {of_each}" if of_each else of for of in (price, tokens))
    async with openai_upstream(*turns) as upstream, dual_era() as server, open_agent(JSONRPC) as agent:
        yaml = (
            f"models: {{m: {{provider: openai, base_url: '{upstream.url}', api_key: sk-up-000{tokens}{cache}}},"
            f" n: {{provider: openai_compatible, base_url: '{upstream.url}'{tokens}}}}}\n"
            f"mcpServers: {{s: {{url: '{server.url}'{price}}}}}\nagents: {{echo: {{url: '{agent.url}'{price}}}}}\n{more}"
        )
        async with hub(yaml, grpc=grpc) as running:
            await running.services.sync.refresh("s")
            yield running


async def made(running: Hub, **members: Any) -> str:
    async with running.http(ADMIN_KEY) as admin:
        body = {"name": "rita", "allow": ["model:*", "tool:*", "agent:*"], **members}
        answer = await admin.post("/api/keys", json=body)
        assert answer.status_code == 201, answer.text
        secret: str = answer.json()["key"]
        return secret


async def shown(running: Hub, name: str = "rita") -> dict[str, tuple[float, float]]:
    async with running.http(ADMIN_KEY) as admin:
        found = (await admin.get(f"/api/keys/{name}")).json()
        return {one["limit"]: (one["used"], one["remaining"]) for one in found["used"]}


async def statuses(call: Call, http: httpx.AsyncClient, times: int) -> list[int]:
    answers = await asyncio.gather(*(call(http) for _ in range(times)))
    return sorted(answer.status_code for answer in answers)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("bounds", [{"limits": {"calls_per_day": 5}}, {"budget": {"usd": 0.1, "per": "day"}}], ids=str)
async def test_exactly_as_many_calls_pass_as_there_are(hub: OpenHub, name: str, bounds: dict[str, Any]) -> None:
    async with everything(hub) as running, running.http(await made(running, **bounds)) as http:
        assert await statuses(CALLS[name], http, 10) == [200] * 5 + [429] * 5
        ((used, remaining),) = (await shown(running)).values()
        assert (used, remaining) == ((5, 0) if "limits" in bounds else (pytest.approx(0.1), 0))


async def test_a_refusal_is_in_each_doors_own_form_and_says_when_it_ends(hub: OpenHub) -> None:
    async with (
        everything(hub) as running,
        running.http(await made(running, budget={"usd": 0.02, "per": "year"})) as http,
    ):
        assert (await say(http)).status_code == 200
        refused = {name: await call(http) for name, call in CALLS.items()}
        for name, answer in refused.items():
            assert answer.status_code == 429, name
            assert int(answer.headers["retry-after"]) > 0
            assert "budget of 0.02 USD per year is used up; try again in" in answer.text
        assert refused["model"].json()["error"]["code"] == "insufficient_quota"
        assert refused["model"].json()["error"]["type"] == "insufficient_quota"
        assert refused["messages"].json()["error"]["type"] == "rate_limit_error"
        assert refused["agent"].json()["error"]["data"][0]["reason"] == "BUDGET_EXCEEDED"
        assert refused["tool"].json()["error"]["code"] == -32603


@pytest.mark.parametrize(
    ("limits", "header", "said"),
    [
        ({"max_usd": 0.01}, "hubbub-task", "max_usd of 0.01 is used up, by all that was called for it together"),
        ({"session": {"usd": 0.02}}, "hubbub-session", "session usd of 0.02 is used up in this conversation"),
        ({"session": {"usd": 0.001}}, "hubbub-session", "more than the key's session usd of 0.001"),
    ],
    ids=["a task's", "a conversation's", "it never fits"],
)
async def test_a_refusal_that_no_waiting_ends_names_no_time_at_any_door(
    hub: OpenHub, limits: dict[str, Any], header: str, said: str
) -> None:
    async with everything(hub) as running, running.http(await made(running, limits=limits)) as http:
        for name, call in CALLS.items():
            task = Tasks(running.services.sealer).begin(RequestLimits(max_usd=0.01))
            assert task is not None
            http.headers[header] = task.token if header == "hubbub-task" else name
            if not said.startswith("more than"):
                assert (await call(http)).status_code == 200
            refused = await call(http)
            assert (refused.status_code, refused.headers.get("x-should-retry")) == (429, "false"), name
            assert "retry-after" not in refused.headers
            assert said in refused.text


async def test_under_a_budget_what_has_no_price_is_refused_by_name(hub: OpenHub) -> None:
    async with everything(hub, priced=False) as running:
        async with running.http(await made(running, budget={"usd": 10})) as http:
            for name, call in CALLS.items():
                answer = await call(http)
                assert "has no price" in answer.text, name
                assert answer.status_code == (
                    403 if name in {"model", "messages", "embeddings", "agent as model"} else 200
                )
        async with running.http(await running.key("model:*")) as free:
            assert (await chat(free)).status_code == 200


async def test_looking_at_tasks_and_lists_counts_as_nothing(hub: OpenHub) -> None:
    async with everything(hub) as running, running.http(await made(running, limits={"calls_per_day": 1})) as http:
        task = (await say(http)).json()["result"]["task"]["id"]
        assert (await say(http)).status_code == 429
        for method, params in (("GetTask", {"id": task}), ("ListTasks", {}), ("CancelTask", {"id": task})):
            assert (await http.post("/a2a/echo", json=rpc(method, params))).status_code == 200
        headers = {
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": "tools/list",
            "accept": "application/json, text/event-stream",
        }
        assert (await http.post("/mcp", json=rpc("tools/list", {"_meta": META}), headers=headers)).status_code == 200


async def test_a_model_counts_the_tokens_that_it_used(hub: OpenHub) -> None:
    async with everything(hub) as running, running.http(await made(running, limits={"tokens_per_day": 2000})) as http:
        assert (await chat(http)).status_code == 200
        total = USAGE["prompt_tokens"] + USAGE["completion_tokens"]
        assert await shown(running) == {"tokens_per_day": (total, 2000 - total)}
        too_many = await chat(http, max_tokens=3000)
        assert too_many.status_code == 429
        assert "ask for less, as with max_tokens" in too_many.json()["error"]["message"]
        assert (await chat(http, stream=True)).status_code == 200
        assert (await shown(running))["tokens_per_day"][0] == 2 * total


async def test_an_entry_and_each_tool_have_limits_of_all_their_callers(hub: OpenHub) -> None:
    async with dual_era() as server:
        limits = "limits: {calls_per_day: 3, tools: {'ec*': {calls_per_day: 1}}}"
        async with hub(f"mcpServers: {{s: {{url: '{server.url}', {limits}}}}}\n") as running:
            await running.services.sync.refresh("s")
            for expected in (200, 429):
                async with running.http(await running.key("tool:*")) as http:
                    assert (await use_tool(http)).status_code == expected
            async with running.http(await running.key("tool:*")) as http:
                assert [(await use_tool(http, "s__region")).status_code for _ in range(3)] == [200, 200, 429]


async def test_older_servers_over_a_connection_are_counted_too(hub: OpenHub) -> None:
    async with legacy_only() as server, hub(f"mcpServers: {{s: {{url: '{server.url}'}}}}\n") as running:
        await running.services.sync.refresh("s")
        async with running.http(await made(running, limits={"calls_per_day": 2})) as http:
            assert await statuses(use_tool, http, 5) == [200, 200, 429, 429, 429]


async def test_calls_of_tools_within_a_chat_are_counted_and_the_model_is_told(hub: OpenHub) -> None:
    turns = (Turn(calls=(("s__echo", '{"text": "x"}'), ("s__echo", '{"text": "y"}'))), Turn("done"))
    async with openai_upstream(*turns) as upstream, dual_era() as server:
        yaml = f"models: {{m: {{provider: openai, base_url: '{upstream.url}', api_key: sk-up-000}}}}\nmcpServers: {{s: {{url: '{server.url}'}}}}\n"
        async with hub(yaml) as running:
            await running.services.sync.refresh("s")
            async with running.http(await made(running, limits={"calls_per_day": 3})) as http:
                tools = [{"type": "mcp", "server_label": "s", "server_url": "hub/mcp/s"}]
                answer = await chat(http, tools=tools)
        assert answer.status_code == 429  # a model, two tools, and the second round is one too many
        assert len(server.calls) == 2


async def test_so_many_calls_are_under_way_and_no_more(hub: OpenHub) -> None:
    async with dual_era() as server, hub(f"mcpServers: {{s: {{url: '{server.url}'}}}}\n") as running:
        await running.services.sync.refresh("s")
        async with running.http(await made(running, limits={"concurrent_calls": 1})) as http:
            waiting = asyncio.create_task(use_tool(http, "s__wait"))
            await server.waiting.wait()
            refused = await use_tool(http)
            assert refused.status_code == 429
            assert "concurrent_calls of 1 are under way" in refused.text
            server.release.set()
            assert (await waiting).status_code == 200
            assert (await use_tool(http)).status_code == 200


async def test_what_an_agent_made_here_calls_while_it_works_is_part_of_its_call(hub: OpenHub) -> None:
    more = "  helper: {model: m, instructions: Help.}\n"
    async with openai_upstream(Turn("hi")) as upstream:
        yaml = f"models: {{m: {{provider: openai, base_url: '{upstream.url}', api_key: sk-up-000}}}}\nagents:\n{more}"
        async with hub(yaml) as running:
            async with running.http(await made(running, limits={"concurrent_calls": 1, "calls_per_day": 3})) as http:
                answer = await chat(http, model="agent/helper")
                assert answer.json()["choices"][0]["message"]["content"].strip() == "hi"
            assert await shown(running) == {"calls_per_day": (2, 1), "concurrent_calls": (0, 1)}


async def test_what_waits_in_a_servers_line_holds_nothing(hub: OpenHub) -> None:
    async with dual_era() as server, hub(f"mcpServers: {{s: {{url: '{server.url}', concurrency: 1}}}}\n") as running:
        await running.services.sync.refresh("s")
        async with running.http(await made(running, limits={"calls_per_day": 5})) as http:
            first = asyncio.create_task(use_tool(http, "s__wait"))
            await server.waiting.wait()
            second = asyncio.create_task(use_tool(http))
            while running.gate.permits[-1].entry_name != "s__echo":
                await asyncio.sleep(0)
            assert await shown(running) == {"calls_per_day": (1, 4)}
            second.cancel()
            server.release.set()
            assert (await first).status_code == 200
            assert await shown(running) == {"calls_per_day": (1, 4)}


async def test_a_call_that_reached_nobody_is_given_back_and_one_that_failed_there_counts(hub: OpenHub) -> None:
    refusal = b"HTTP/1.1 401 No\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}"
    async with listening(always(refusal)) as peer:
        yaml = (
            "models:\n  gone: {provider: openai, base_url: 'http://127.0.0.1:1', api_key: sk-up-000, retries: 0}\n"
            f"  no: {{provider: openai, base_url: '{peer.url}', api_key: sk-up-000, retries: 0, price: {{input: 5}}}}\n"
        )
        async with hub(yaml) as running, running.http(await made(running, limits={"calls_per_day": 5})) as http:
            assert (await chat(http, model="gone")).status_code == 502
            assert await shown(running) == {"calls_per_day": (0, 5)}
            assert (await chat(http, model="no")).status_code == 502
            assert await shown(running) == {"calls_per_day": (1, 4)}


async def test_limits_and_budgets_are_written_shown_changed_and_taken_away_by_the_api(hub: OpenHub) -> None:
    async with everything(hub) as running:
        secret = await made(running, limits={"calls_per_day": 1}, budget={"usd": 5, "per": "week", "warn_at": 0.5})
        async with running.http(ADMIN_KEY) as admin, running.http(secret) as http:
            key = (await admin.get("/api/keys/rita")).json()
            assert (key["limits"]["calls_per_day"], key["budget"]) == (1, {"usd": 5, "per": "week", "warn_at": 0.5})
            assert {one["limit"] for one in key["used"]} == {"calls_per_day", "budget"}
            assert await statuses(say, http, 2) == [200, 429]
            changed = (await admin.patch("/api/keys/rita", json={"limits": {"calls_per_day": 2}})).json()
            assert (changed["limits"]["calls_per_day"], changed["budget"]["usd"]) == (2, 5)
            assert await statuses(say, http, 2) == [200, 429]  # at once, and what was used stays used
            changed = (await admin.patch("/api/keys/rita", json={"budget": None})).json()
            assert (changed["limits"]["calls_per_day"], changed["budget"]) == (2, None)
            assert (await admin.patch("/api/keys/rita", json={"limits": {}})).status_code == 200
            assert await statuses(say, http, 3) == [200] * 3
            for per in ("minute", "day", "month", "year"):
                changed = (await admin.patch("/api/keys/rita", json={"budget": {"usd": 1, "per": per}})).json()
                assert changed["budget"]["per"] == per
            wrong = await admin.patch("/api/keys/rita", json={"budget": {"usd": 1, "per": "fortnight"}})
            assert wrong.status_code == 400


async def test_a_key_that_another_made_spends_from_its_makers_budget_too(hub: OpenHub) -> None:
    async with everything(hub) as running:
        secret = await made(running, allow=["model:*", "admin:keys"], limits={"calls_per_day": 3})
        async with running.http(secret) as http:
            child = (await http.post("/api/keys", json={"name": "child", "allow": ["model:*"]})).json()["key"]
            async with running.http(child) as kids:
                assert await statuses(chat, kids, 2) == [200, 200]
                assert await statuses(chat, http, 2) == [200, 429]
                refused = await chat(kids)
                assert refused.status_code == 429
                assert "Its maker's calls_per_day" in refused.text


async def test_a_budget_of_which_little_is_left_is_shown_so(hub: OpenHub, caplog: pytest.LogCaptureFixture) -> None:
    async with everything(hub) as running:
        secret = await made(running, budget={"usd": 0.1, "per": "day"})
        async with running.http(secret) as http, running.http(ADMIN_KEY) as admin:
            for near in (False, False, False, True, True):
                assert (await say(http)).status_code == 200
                (one,) = (await admin.get("/api/keys/rita")).json()["used"]
                assert one["is_near"] is near
    assert [record.message for record in caplog.records].count("a limit is nearly used up") == 1


async def test_a_team_and_a_user_have_limits_of_all_their_keys_together(hub: OpenHub) -> None:
    async with everything(hub) as running, running.http(ADMIN_KEY) as admin:
        team = {"alias": "red", "limits": {"calls_per_day": 3}, "budget": {"usd": 1, "per": "day"}}
        assert (await admin.post("/api/teams", json=team)).status_code == 201
        assert (await admin.post("/api/users", json={"name": "ann", "limits": {"calls_per_day": 2}})).status_code == 201
        assert (await admin.put("/api/teams/red/members/ann", json={"role": "member"})).status_code == 200
        anns = await made(running, name="anns", team="red", user="ann")
        reds = await made(running, name="reds", team="red")
        async with running.http(anns) as http, running.http(reds) as other:
            assert await statuses(chat, http, 3) == [200, 200, 429]
            assert "user's calls_per_day of 2" in (await chat(http)).text
            assert await statuses(chat, other, 2) == [200, 429]
            assert "team's calls_per_day of 3" in (await chat(other)).text
            shown_team = (await admin.get("/api/teams/red")).json()
            assert [(one["limit"], one["used"]) for one in shown_team["used"]] == [
                ("calls_per_day", 3),
                ("budget", pytest.approx(0.06)),
            ]
            assert (await admin.get("/api/users/ann")).json()["used"][0]["remaining"] == 0
            changed = (await admin.patch("/api/teams/red", json={"limits": {"calls_per_day": 4}})).json()
            assert (changed["limits"]["calls_per_day"], changed["budget"]["usd"]) == (4, 1)
            assert await statuses(chat, other, 2) == [200, 429]
            whose = {(one["whose"], one["limit"]) for one in (await admin.get("/api/keys/anns")).json()["used"]}
            assert whose == {
                ("the user's", "calls_per_day"),
                ("the team's", "calls_per_day"),
                ("the team's", "budget"),
            }


async def test_nobody_lifts_the_limits_that_bound_them(hub: OpenHub) -> None:
    async with everything(hub) as running:
        allow = ["model:*", "admin:keys", "admin:teams"]
        secret = await made(running, allow=allow, limits={"calls_per_day": 1})
        async with running.http(secret) as http:
            for change in ({"limits": {}}, {"limits": {"calls_per_day": 100}}):
                answer = await http.patch("/api/keys/rita", json=change)
                assert answer.status_code == 400
                assert "bound your own key" in answer.text


async def in_session(http: httpx.AsyncClient) -> Callable[[], Awaitable[httpx.Response]]:
    """A session of an older MCP client, and its calls of a tool."""
    headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}
    said = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    begun = await http.post("/mcp", json=rpc("initialize", said), headers=headers)
    headers["mcp-session-id"] = begun.headers["mcp-session-id"]
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    await http.post("/mcp", json=note, headers=headers)
    params = {"name": "s__echo", "arguments": {"text": "x"}}
    return lambda: http.post("/mcp", json=rpc("tools/call", params), headers=headers)


async def test_each_mcp_session_has_a_bound_of_its_own(hub: OpenHub) -> None:
    session = {"calls": 2, "usd": 1}
    async with everything(hub) as running, running.http(await made(running, limits={"session": session})) as http:
        for _ in range(2):
            call = await in_session(http)
            answers = [await call() for _ in range(3)]
            assert ["session calls of 2 is used up in this conversation" in one.text for one in answers] == [
                False,
                False,
                True,
            ]
        assert [(await use_tool(http)).status_code for _ in range(3)] == [200] * 3  # of no session


async def test_a_caller_names_its_conversation_where_its_protocol_does_not(hub: OpenHub) -> None:
    limits = {"session": {"calls": 2}}
    async with everything(hub) as running:
        for number, call in enumerate((use_tool, chat, message, embed, respond)):
            async with running.http(await made(running, name=f"rita-{number}", limits=limits)) as http:
                for name in ("one", "other"):
                    http.headers["hubbub-session"] = name
                    assert [(await call(http)).status_code for _ in range(3)] == [200, 200, 429]


async def test_responses_that_go_on_from_the_same_first_one_are_a_conversation(hub: OpenHub) -> None:
    limits = {"session": {"calls": 2}}
    async with everything(hub) as running, running.http(await made(running, limits=limits)) as http:
        for _ in range(2):
            first = (await respond(http)).json()["id"]
            second = (await respond(http, previous_response_id=first)).json()["id"]
            for previous in (second, first):
                answer = await respond(http, previous_response_id=previous)
                assert "session calls of 2 is used up in this conversation" in answer.text
                assert answer.status_code == 429
        conversation = (await http.post("/v1/conversations", json={})).json()["id"]
        answers = [await respond(http, conversation=conversation) for _ in range(3)]
        assert [one.status_code for one in answers] == [200, 200, 429]
        assert [(await respond(http, store=False)).status_code for _ in range(3)] == [200] * 3


async def test_a_context_is_the_same_conversation_where_its_agent_is_a_tool_or_a_model(hub: OpenHub) -> None:
    limits = {"session": {"calls": 3}}
    async with everything(hub) as running, running.http(await made(running, limits=limits)) as http:
        context = (await ask_agent(http)).json()["hub"]["context_id"]
        arguments = {"message": "x", "context_id": context}
        members = {"model": "agent/echo", "hub": {"context_id": context}}
        answers = [await use_tool(http, "agent__echo", arguments), await chat(http, **members)]
        assert [one.status_code for one in answers] == [200, 200], answers[0].text
        assert "task" in (await say(http, contextId=context)).json()["result"]
        refused = [await use_tool(http, "agent__echo", arguments), await chat(http, **members)]
        refused.append(await say(http, contextId=context))
        assert ["session calls of 3 is used up" in one.text for one in refused] == [True] * 3, refused[0].text


@pytest.mark.parametrize("path", ["jsonrpc", "rest"])
async def test_each_context_of_an_agent_has_a_bound_of_its_own(hub: OpenHub, path: str) -> None:
    async def go_on(http: httpx.AsyncClient, context: str) -> httpx.Response:
        said = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hello"}], "contextId": context}}
        if path == "rest":
            headers = {"a2a-version": "1.0", "content-type": "application/a2a+json"}
            return await http.post("/a2a/echo/message:send", json=said, headers=headers)
        return await http.post("/a2a/echo", json=rpc("SendMessage", said))

    async with everything(hub) as running:
        async with running.http(ADMIN_KEY) as admin:
            team = {"alias": "blue", "limits": {"session": {"calls": 2}}}
            assert (await admin.post("/api/teams", json=team)).json()["limits"]["session"]["calls"] == 2
        async with running.http(await made(running, team="blue")) as http:
            for _ in range(2):
                begun = (await say(http)).json()["result"]["task"]["contextId"]
                answers = [await go_on(http, begun) for _ in range(3)]
                assert [one.status_code for one in answers] == [200, 200, 429], answers[0].text
                assert "The team's session calls of 2 is used up in this conversation" in answers[2].text


async def test_keys_of_a_team_share_its_pace(hub: OpenHub) -> None:
    async with everything(hub) as running:
        async with running.http(ADMIN_KEY) as admin:
            answer = await admin.post("/api/teams", json={"alias": "blue", "limits": {"requests_per_minute": 3}})
            assert answer.json()["limits"]["requests_per_minute"] == 3
            keys = []
            for name in ("one", "two"):
                body = {"name": name, "allow": ["model:*", "tool:*", "agent:*"], "team": "blue"}
                keys.append((await admin.post("/api/keys", json=body)).json()["key"])
        found = []
        for number in range(5):
            async with running.http(keys[number % 2]) as http:
                found.append((await say(http)).status_code)
        assert found == [200, 200, 200, 429, 429]


async def respond(http: httpx.AsyncClient, **members: Any) -> httpx.Response:
    return await http.post("/v1/responses", json={"model": "n", "input": "hi", **members})
