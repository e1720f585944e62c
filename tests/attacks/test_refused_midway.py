"""What a guard or a rule refuses when an answer has begun comes out nowhere later: not to its caller, a colleague or a stranger."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from agents.speech import SPEECHES
from registry.identity import KeySpec
from tests.conftest import Hub, OpenHub
from tests.doors.test_a2a import rpc, said
from tests.doors.test_a2a_streams import events
from tests.doors.test_limits import chat, everything
from tests.peers.a2a_sdk_agents import open_agent
from tests.peers.openai_upstream import Turn

MAIL = "jo@example.org"
SPLIT = "part 0 part 1"
TOOL = {"type": "mcp", "server_label": "s", "server_url": "hub", "require_approval": "never"}


async def key_of(hub: Hub, name: str, team: str) -> str:
    if team not in [one.alias for one in await hub.services.teams.page()]:
        await hub.services.teams.create(team)
    return (await hub.services.keys.create(KeySpec(name=name, allow=("agent:*", "model:*", "tool:*"), team=team)))[1]


@pytest.mark.attack("2.1/12", "2.1/14")
async def test_what_ended_a_stream_of_an_agent_is_in_no_later_look_at_its_task(hub: OpenHub) -> None:
    guard = {"type": "patterns", "deny": [SPLIT], "of": ["results"], "entries": ["agent:*"], "action": "block"}
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(open_agent(SPEECHES[0]))
        yaml = f"agents: {{echo: {{url: {agent.url}, share: team}}}}\nguards: {json.dumps({'split': guard})}\n"
        running = await stack.enter_async_context(hub(yaml))
        one, mate, stranger = [
            await stack.enter_async_context(running.http(await key_of(running, name, team)))
            for name, team in (("one", "red"), ("mate", "red"), ("stranger", "blue"))
        ]
        told = [event async for _, event in events(one, rpc("SendStreamingMessage", said("complete 2"), "mine"))]
        task = told[0]["task"]
        assert "'split' keeps back" in told[-1]["error"]["message"]
        seen = [json.dumps(told)]
        for http, is_known in ((one, True), (mate, True), (stranger, False)):
            for method, params in (
                ("GetTask", {"id": task["id"]}),
                ("ListTasks", {"contextId": task["contextId"], "includeArtifacts": True}),
                ("SubscribeToTask", {"id": task["id"]}),
                ("SendMessage", said("complete 2", taskId=task["id"])),
            ):
                answer = await http.post("/a2a/echo", json=rpc(method, params))
                assert is_known or "'split'" not in answer.text
                seen.append(answer.text)
            answer = await chat(http, model="agent/echo", hub={"context_id": task["contextId"]})
            seen.append(answer.text)
        assert [text for text in seen if "part 1" in text] == []


@pytest.mark.attack("2.1/12", "2.2/27")
@pytest.mark.parametrize("members", [{}, {"stream": True}, {"background": True}, {"background": True, "stream": True}])
async def test_what_ended_a_response_of_several_rounds_is_kept_nowhere(hub: OpenHub, members: dict[str, bool]) -> None:
    guard = {"type": "pii", "kinds": ["email"], "of": ["results"], "entries": ["model:*"], "action": "block"}
    turns = (Turn("first", calls=(("s__echo", '{"text": "x"}'),)), Turn(f"write to {MAIL}"), Turn("later"))
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(
            everything(hub, turns=turns, priced=False, more=f"guards: {json.dumps({'mail': guard})}\n")
        )
        one, stranger = [
            await stack.enter_async_context(running.http(await key_of(running, name, name)))
            for name in ("one", "other")
        ]
        conversation = (await one.post("/v1/conversations", json={})).json()["id"]
        asked: dict[str, Any] = {"model": "n", "input": "hi", "tools": [TOOL], "conversation": conversation, **members}
        answer = await one.post("/v1/responses", json=asked)
        for run in list(running.services.llm.responses._runs._runs.values()):
            assert run.task is not None
            await asyncio.wait([run.task])
        seen = [answer.text]
        name = answer.text.partition('"id":"resp_')[2].partition('"')[0]
        for http in (one, stranger):
            for path in (f"/v1/responses/resp_{name}", f"/v1/responses/resp_{name}?stream=true"):
                found = await http.get(path)
                assert http is one or found.status_code == 404
                seen.append(found.text)
            found = await http.get(f"/v1/conversations/{conversation}/items")
            assert http is one or found.status_code == 404
            seen.append(found.text)
        assert "'mail' keeps back the results" in "".join(seen)
        assert [text for text in seen if "example.org" in text] == []
        later = {"model": "n", "input": "go on", "conversation": conversation}
        assert "later" in (await one.post("/v1/responses", json=later)).text
