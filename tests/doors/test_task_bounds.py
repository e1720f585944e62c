"""What bounds one request of a key bounds all that is called for it: over agents and servers that call the hub again."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import structs

from agents.speech import SPEECHES, Speech
from registry.access import EVERYTHING
from registry.errors import TooManyHops
from registry.identity import TASK_HEADER_NAME, KeySpec, Principal, RequestLimits
from registry.limits import NANO
from registry.sealed.secrets import Sealer
from registry.spending.tasks import LASTS_S, MAX_WITHIN, Tasks
from tests.conftest import Hub, OpenHub
from tests.doors.test_limits import chat, embed, message, respond, rpc, say, use_tool
from tests.peers.a2a_clients import Refused, open_client
from tests.peers.a2a_sdk_agents import open_agent
from tests.peers.mcp_servers import dual_era, legacy_only
from tests.peers.mcp_tasked import tasked_server
from tests.peers.openai_upstream import Turn, openai_upstream

speeches = pytest.mark.parametrize("speech", SPEECHES, ids=lambda speech: f"{speech.binding}-{speech.version}")
JSONRPC = Speech("JSONRPC", "1.0")
ROOT = Path(__file__).parents[2]
BRIEF_S = 2.0
"""How long a task may take whose end a test awaits: long enough that its calls have been sent by then."""


async def bounded(running: Hub, **bounds: Any) -> dict[str, str]:
    spec = KeySpec(name="rita", allow=("agent:*", "tool:*", "model:*"), request_limits=RequestLimits(**bounds))
    _, secret = await running.services.keys.create(spec)
    return {"authorization": f"Bearer {secret}"}


@speeches
@pytest.mark.parametrize("own_key", [False, True], ids=["its caller's key", "its own key"])
async def test_an_agent_that_calls_on_spends_from_its_callers_task(hub: OpenHub, speech: Speech, own_key: bool) -> None:
    async with (
        open_agent(speech) as agent,
        hub(f"agents:\n  echo: {{url: {agent.url}}}\n", grpc=speech.binding == "GRPC") as running,
    ):
        theirs = await bounded(running, max_calls=5)
        its = {"authorization": f"Bearer {await running.key('agent:*')}"} if own_key else theirs

        async def call_the_hub(received: dict[str, str]) -> str:
            headers = {**its, TASK_HEADER_NAME: received[TASK_HEADER_NAME]}
            async with open_client(f"{running.url}/a2a/echo/", speech, headers=headers) as again:
                try:
                    await again.send("relay")
                except Refused:
                    return "refused"
                return "relayed"

        agent.relay = call_the_hub
        for times in (5, 10):  # each request of the caller's begins a task of its own
            async with open_client(f"{running.url}/a2a/echo/", speech, headers=theirs) as client:
                await client.send("relay")
            sent = [call for call in agent.calls if call.operation == "SendMessage"]
            assert len(sent) == times
        assert len({call.headers[TASK_HEADER_NAME] for call in sent}) == 2


async def test_an_mcp_server_is_sent_the_task_and_who_has_no_bounds_sends_none(hub: OpenHub) -> None:
    async with dual_era() as server, hub(f"mcpServers: {{s: {{url: '{server.url}'}}}}\n") as running:
        await running.services.sync.refresh("s")
        async with running.http(await running.key("tool:*")) as http:
            await use_tool(http)
        assert TASK_HEADER_NAME not in server.requests[-1]
        theirs = await bounded(running, max_calls=2)
        async with running.http() as http:
            http.headers.update(theirs)
            assert (await use_tool(http)).status_code == 200
            http.headers[TASK_HEADER_NAME] = server.requests[-1][TASK_HEADER_NAME]
            assert [(await use_tool(http)).status_code for _ in range(3)] == [200, 429, 429]


async def test_servers_over_stdio_and_of_older_revisions_are_told_the_task_in_the_call(hub: OpenHub) -> None:
    stdio = f"{{command: {sys.executable}, args: ['-m', tests.peers.mcp_tasked], cwd: '{ROOT}'}}"
    async with (
        legacy_only(tasked_server) as old,
        hub(f"mcpServers: {{s: {stdio}, o: {{url: '{old.url}'}}}}\n") as running,
    ):
        theirs = await bounded(running, max_calls=2)
        unbound = {"authorization": f"Bearer {await running.key('tool:*')}"}
        for name in ("s", "o"):
            await running.services.sync.refresh(name)
            async with running.http() as http:
                http.headers.update(unbound)
                assert "hubbub/task" not in said_meta(await use_tool(http, f"{name}__echo"))
                http.headers.update(theirs)
                told = said_meta(await use_tool(http, f"{name}__echo"))
                http.headers[TASK_HEADER_NAME] = told["hubbub/task"]
                assert [(await use_tool(http, f"{name}__echo")).status_code for _ in range(3)] == [200, 429, 429]


def said_meta(answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.json()["result"]["content"][0]["text"])
    return found


async def test_a_token_that_is_none_of_the_hubs_begins_a_task_anew(hub: OpenHub) -> None:
    async with open_agent(JSONRPC) as agent, hub(f"agents:\n  echo: {{url: {agent.url}}}\n") as running:
        theirs = await bounded(running, max_calls=1)
        forged = Tasks(Sealer([b"another key of thirty-two bytes!"])).begin(RequestLimits(max_calls=1000))
        assert forged is not None
        for token in ("x", "é", "A" * 5000, forged.token):
            async with running.http() as http:
                http.headers.update(theirs)
                http.headers.raw.append((TASK_HEADER_NAME.encode(), token.encode()))
                message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hello"}]}
                body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
                assert (await http.post("/a2a/echo", json=body)).status_code == 200
        passed_on = [call.headers[TASK_HEADER_NAME] for call in agent.calls if call.operation == "SendMessage"]
        assert len(set(passed_on)) == 4
        assert forged.token not in passed_on


async def test_what_a_task_may_cost_is_spent_by_all_that_is_called_for_it(hub: OpenHub) -> None:
    async with openai_upstream(Turn("hi")) as upstream:
        price = "price: {input: 0, call: 0.4}"
        yaml = f"models: {{m: {{provider: openai, base_url: '{upstream.url}', api_key: sk-up-000, {price}}}}}\n"
        async with hub(yaml) as running, running.http() as http:
            http.headers.update(await bounded(running, max_usd=1))
            task = Tasks(running.services.sealer).begin(RequestLimits(max_usd=1))
            assert task is not None
            assert [(await chat(http)).status_code for _ in range(4)] == [200] * 4
            http.headers[TASK_HEADER_NAME] = task.token
            answers = [await chat(http) for _ in range(4)]
            assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
            assert "max_usd of 1 is used up" in answers[-1].json()["error"]["message"]


async def test_the_tokens_of_a_task_are_spent_by_all_who_work_for_it_over_two_hops(hub: OpenHub) -> None:
    async with openai_upstream(Turn("hi")) as upstream, open_agent(JSONRPC) as agent, dual_era() as server:
        model = f"{{provider: openai, base_url: '{upstream.url}', api_key: sk-up-000}}"
        yaml = f"models: {{m: {model}}}\nagents: {{echo: {{url: '{agent.url}'}}}}\nmcpServers: {{s: {{url: '{server.url}'}}}}\n"
        async with hub(yaml) as running, running.http() as http:
            await running.services.sync.refresh("s")
            http.headers.update(await bounded(running, max_total_tokens=50))
            own = await running.key("tool:*", "model:*")
            found: list[httpx.Response] = []

            async def work(received: dict[str, str]) -> str:
                async with running.http(own) as ours:
                    ours.headers[TASK_HEADER_NAME] = received[TASK_HEADER_NAME]
                    found.append(await chat(ours, max_tokens=4))
                    assert (await use_tool(ours)).status_code == 200
                    ours.headers[TASK_HEADER_NAME] = server.requests[-1][TASK_HEADER_NAME]
                    found.extend([await chat(ours, max_tokens=4) for _ in range(3)])
                    assert (await use_tool(ours)).status_code == 200  # takes no tokens
                return "worked"

            agent.relay = work
            for _ in range(2):  # each request of the caller's begins a task of its own
                assert (await say(http, parts=[{"text": "relay"}])).status_code == 200
                assert [one.status_code for one in found] == [200, 200, 200, 429]  # 13 each
                assert "max_total_tokens of 50 is used up" in found[-1].json()["error"]["message"]
                found.clear()


async def test_the_tokens_of_a_task_are_reserved_before_a_call_and_replaced_by_what_it_used(hub: OpenHub) -> None:
    goes_on = asyncio.Event()
    async with openai_upstream(Turn("hi there", hold_last=goes_on)) as upstream:
        yaml = f"models: {{m: {{provider: openai, base_url: '{upstream.url}', api_key: sk-up-000}}}}\n"
        async with hub(yaml) as running, running.http(await running.key("model:*")) as http:
            task = Tasks(running.services.sealer).begin(RequestLimits(max_total_tokens=1000))
            assert task is not None
            http.headers[TASK_HEADER_NAME] = task.token
            async with asyncio.TaskGroup() as group:
                begun = [group.create_task(chat(http, stream=True, max_tokens=400)) for _ in range(2)]
                await upstream.came(2)
                assert (await chat(http, max_tokens=400)).status_code == 429
                goes_on.set()
            assert [(one.result().status_code, "[DONE]" in one.result().text) for one in begun] == [(200, True)] * 2
            assert (await chat(http, max_tokens=900)).status_code == 200


@pytest.mark.parametrize("call", [chat, message, respond, embed])
async def test_what_alone_may_take_more_tokens_than_its_task_has_is_told_so(hub: OpenHub, call: Any) -> None:
    async with openai_upstream(Turn("hi")) as upstream:
        model = f"{{provider: openai_compatible, base_url: '{upstream.url}'}}"
        yaml = f"models: {{m: {model}, n: {model}}}\n"
        async with hub(yaml) as running, running.http() as http:
            http.headers.update(await bounded(running, max_total_tokens=1))
            answer = await call(http)
            assert answer.status_code == 429
            assert "more than the task's max_total_tokens of 1; ask for less" in answer.json()["error"]["message"]
            assert upstream.received == []


async def test_a_task_whose_time_is_over_calls_nothing_more(hub: OpenHub) -> None:
    async with openai_upstream(Turn("hi")) as upstream:
        yaml = f"models: {{m: {{provider: openai, base_url: '{upstream.url}', api_key: sk-up-000}}}}\n"
        async with hub(yaml) as running, running.http() as http:
            http.headers.update(await bounded(running))
            task = Tasks(running.services.sealer, clock=lambda: 1000.0).begin(RequestLimits(max_seconds=60))
            late = Tasks(running.services.sealer).begin(RequestLimits(max_seconds=1e-9))
            assert task is not None
            assert late is not None
            http.headers[TASK_HEADER_NAME] = late.token
            answer = await chat(http)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "task_over")
            http.headers[TASK_HEADER_NAME] = task.token  # of long ago: nobody knows it any more
            assert (await chat(http)).status_code == 200


def test_a_token_is_known_for_a_day_and_a_key_without_bounds_begins_no_task() -> None:
    now = 1000.0
    tasks = Tasks(Sealer([b"a sealing key of thirty-two byte"]), clock=lambda: now)
    made = tasks.begin(RequestLimits(max_calls=3, max_usd=0.5, max_total_tokens=2_000_000))
    assert made is not None
    assert tasks.read(made.token.encode()) == made
    assert made.token not in repr(made)
    assert [(one.name, one.shown(one.most)) for one in made.limits] == [
        ("max_calls", 3),
        ("max_usd", 0.5),
        ("max_total_tokens", 2_000_000),
    ]
    now += LASTS_S
    assert tasks.read(made.token.encode()) is None
    assert tasks.begin(RequestLimits(max_rounds=3)) is None


ASKED: dict[str, Any] = {"model": "agent/echo", "messages": [{"role": "user", "content": "relay"}]}
SPENT = "max_total_tokens of 50 is used up, by all that was called for it together"


@pytest.mark.parametrize(
    ("path", "members"),
    [
        ("/v1/chat/completions", {}),
        ("/v1/messages", {"max_tokens": 9}),
        ("/v1/responses", {"messages": None, "input": "relay"}),
        ("/v1/responses", {"messages": None, "input": "relay", "background": True}),
    ],
    ids=["chat", "messages", "responses", "responses in the background"],
)
async def test_what_a_request_says_of_itself_bounds_all_that_is_called_for_it(
    hub: OpenHub, path: str, members: dict[str, Any]
) -> None:
    async with openai_upstream(Turn("hi")) as upstream, open_agent(JSONRPC) as agent:
        model = f"{{provider: openai, base_url: '{upstream.url}', api_key: sk-up-000}}"
        yaml = f"models: {{m: {model}}}\nagents: {{echo: {{url: '{agent.url}'}}}}\n"
        async with hub(yaml) as running, running.http(await running.key("agent:*")) as http:
            own = await running.key("model:*")
            found: list[httpx.Response] = []
            is_done = asyncio.Event()

            async def work(received: dict[str, str]) -> str:
                async with running.http(own) as ours:
                    ours.headers[TASK_HEADER_NAME] = received[TASK_HEADER_NAME]
                    found.extend([await chat(ours, max_tokens=4) for _ in range(4)])
                is_done.set()
                return "worked"

            agent.relay = work
            body = {name: value for name, value in {**ASKED, **members}.items() if value is not None}
            await http.post(path, json={**body, "hub": {"max_total_tokens": 50}})
            async with asyncio.timeout(30):
                await is_done.wait()
            assert [one.status_code for one in found] == [200, 200, 200, 429]  # 13 each
            assert SPENT in found[-1].json()["error"]["message"]


async def test_a_request_can_bound_itself_within_the_task_that_it_is_part_of_and_not_beyond(hub: OpenHub) -> None:
    async with openai_upstream(Turn("hi")) as upstream:
        price = "price: {input: 0, call: 0.4}"
        yaml = f"models: {{m: {{provider: openai, base_url: '{upstream.url}', api_key: sk-up-000, {price}}}}}\n"
        async with hub(yaml) as running, running.http(await running.key("model:*")) as http:
            task = Tasks(running.services.sealer).begin(RequestLimits(max_usd=1))
            assert task is not None
            http.headers[TASK_HEADER_NAME] = task.token
            for usd in (0.4, 9, 9):
                assert (await chat(http, hub={"max_usd": usd})).status_code == 200
            assert "max_usd of 1 is used up" in (await chat(http, hub={"max_usd": 9})).text


@pytest.mark.attack("2.1/41")
async def test_the_task_of_somebody_else_frees_nobody_from_the_bounds_of_their_own_key(hub: OpenHub) -> None:
    async with dual_era() as server, hub(f"mcpServers: {{s: {{url: '{server.url}'}}}}\n") as running:
        await running.services.sync.refresh("s")
        generous = Tasks(running.services.sealer).begin(RequestLimits(max_calls=1000, max_seconds=1000))
        assert generous is not None
        theirs = await bounded(running, max_calls=2)
        async with running.http() as http:
            http.headers.update({**theirs, TASK_HEADER_NAME: generous.token})
            assert (await use_tool(http)).status_code == 200
            http.headers[TASK_HEADER_NAME] = server.requests[-1][TASK_HEADER_NAME]
            answers = [await use_tool(http) for _ in range(2)]
            assert [one.status_code for one in answers] == [200, 429]
            assert "max_calls of 2 is used up" in answers[-1].text


def test_of_bounds_within_a_task_those_are_kept_that_are_stricter_than_its_own() -> None:
    now = 1000.0
    tasks = Tasks(Sealer([b"a sealing key of thirty-two byte"]), clock=lambda: now)
    key = Principal(id="k", name="k", grants=EVERYTHING, request_limits=RequestLimits(max_calls=5, max_seconds=60))
    begun = tasks.enter(key, None)
    assert begun.task is not None
    again = tasks.enter(key, begun.task.token.encode())
    assert again.task == dataclasses.replace(begun.task, is_inherited=True)  # nothing that it does not bound
    own = tasks.narrowed(begun, RequestLimits(max_calls=3, max_usd=1, max_seconds=70)).task
    assert own is not None
    assert ([(one.name, one.most) for one in own.limits], own.deadline) == ([("max_calls", 3), ("max_usd", NANO)], 1060)
    within = tasks.narrowed(again, RequestLimits(max_calls=6, max_usd=1, max_seconds=30)).task
    assert within is not None
    assert ([(one.name, one.most) for one in within.limits], within.deadline) == (
        [("max_usd", NANO), ("max_calls", 5)],
        1030,
    )
    assert within.limits[1] == begun.task.limits[0]
    assert tasks.read(within.token.encode()) == within
    now += 10
    paused = tasks.pause(within)
    now += 15
    assert paused.left_s == 20
    resumed = tasks.resume(key, paused).task
    assert resumed is not None
    assert (resumed.limits, resumed.deadline) == (within.limits, 1045)
    now += 20
    last = tasks.resume(key, paused).task
    assert last is not None
    assert last.deadline == 1060  # the time of the task above goes on


def test_tasks_within_one_another_come_to_an_end() -> None:
    tasks = Tasks(Sealer([b"a sealing key of thirty-two byte"]))
    principal = Principal(id="k", name="k", grants=EVERYTHING)
    for most in range(1000, 1000 - MAX_WITHIN, -1):
        made = tasks.narrowed(principal, RequestLimits(most, most, most / 3, most / 3, most)).task
        assert made is not None
        principal = tasks.enter(structs.replace(principal, task=None), made.token.encode())
        assert principal.task is not None
        assert len(principal.task.limits) == 3 * (1001 - most)
    with pytest.raises(TooManyHops):
        tasks.narrowed(principal, RequestLimits(max_calls=1))
    assert tasks.narrowed(principal, RequestLimits(max_calls=1000)) == principal


async def test_calls_under_way_end_when_the_time_of_their_task_is_over(hub: OpenHub) -> None:
    never = asyncio.Event()
    turn = Turn("hi there", hold_last=never)
    async with (
        openai_upstream(turn) as upstream,
        dual_era() as server,
        open_agent(JSONRPC) as agent,
        open_agent(JSONRPC) as other,
        open_agent(Speech("HTTP+JSON", "0.3")) as old,
    ):
        yaml = (
            f"models: {{m: {{provider: openai, base_url: '{upstream.url}', api_key: sk-up-000}}}}\n"
            f"mcpServers: {{s: {{url: '{server.url}'}}}}\n"
            f"agents: {{echo: {{url: '{agent.url}'}}, other: {{url: '{other.url}'}}, old: {{url: '{old.url}'}}}}\n"
        )
        async with hub(yaml) as running, running.http() as http, asyncio.timeout(60):
            await running.services.sync.refresh("s")
            http.headers.update({"authorization": f"Bearer {await running.key('agent:*', 'tool:*', 'model:*')}"})
            for name in ("echo", "other", "old"):  # their cards are known from now on
                assert (await say(http, name)).status_code == 200
            http.headers.update(await bounded(running, max_seconds=BRIEF_S))
            for name in ("echo", "old"):  # whose task is followed from its beginning, as it may have to be cancelled
                done = (await say(http, name)).json()["result"]["task"]
                assert (done["status"]["state"], len(done["artifacts"])) == ("TASK_STATE_COMPLETED", 1)
            wait = {"message": {"messageId": "w", "role": "ROLE_USER", "parts": [{"text": "wait"}]}}
            unary, older, stream, tool, plain, streamed = await asyncio.gather(
                http.post("/a2a/echo", json=rpc("SendMessage", wait)),
                http.post("/a2a/old", json=rpc("SendMessage", wait)),
                http.post("/a2a/other", json=rpc("SendStreamingMessage", wait)),
                use_tool(http, "s__wait"),
                chat(http),
                chat(http, stream=True),
            )
            await server.cancelled.wait()
            await upstream.left.wait()
            assert "has used up its max_seconds" in unary.json()["error"]["message"]
            assert unary.json()["error"]["data"][0]["reason"] == "TASK_OVER"
            assert older.json()["error"]["data"][0]["reason"] == "TASK_OVER"
            for one in (agent, other, old):
                await one.cancelled.wait()
            last = json.loads(stream.text.strip().rpartition("data: ")[2])
            assert last["error"]["data"][0]["reason"] == "TASK_OVER"
            assert "has used up its max_seconds" in tool.json()["error"]["message"]
            assert (plain.status_code, plain.json()["error"]["code"]) == (400, "task_over")
            assert streamed.status_code == 200
            assert '"code":"task_over"' in streamed.text.replace('": "', '":"')
