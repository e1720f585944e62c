"""Where a request stood is where its run stands after it waited for approval: hops, conversations and what is above it, wherever it goes on."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from agents.wire import MAX_HOPS
from registry.identity import RequestLimits
from registry.limits import Bounds
from tests.conftest import ADMIN_KEY, OpenHub, open_hub
from tests.doors.test_own_agents import DONE, ECHO, JSONRPC, bench, reached
from tests.doors.test_parked import opened, source
from tests.doors.test_parked_bounds import BOTH, FLOOR, SOME, WHERE, approved
from tests.doors.test_policy_tree import rule
from tests.doors.test_responses_approvals import once
from tests.peers.a2a_clients import open_client
from tests.peers.openai_upstream import Turn, openai_upstream

THRICE: Any = {"name": "no", "effect": "deny", "entries": ["tool:bank__pay"], "when": "tree.hops != 3"}
HERE = {"hubbub-session": "one", "hubbub-hops": "3"}
SPENT = "session calls of 3 is used up in this conversation"


@WHERE
async def test_a_chat_goes_on_after_as_many_hops_and_in_the_same_conversation(hub: OpenHub, in_inbox: bool) -> None:
    kept = {"rule": FLOOR if in_inbox else "", "bounds": Bounds(session_calls=3), "policy": THRICE}
    async with opened(hub, BOTH, Turn("So."), **kept) as d:
        (waiting,) = (await d.ask(SOME, extra_headers=HERE)).hub["approvals"]
        with pytest.raises(openai.RateLimitError, match=SPENT):
            await approved(d, waiting["id"], in_inbox=in_inbox)
        assert [name for name, _ in d.bank.calls] == ["look", "pay"]
        async with d.running.http(ADMIN_KEY) as admin:
            used = (await admin.get("/api/usage?by=kind&session=one")).json()["items"]
        assert {one["kind"]: (one["calls"], one["errors"]) for one in used} == {"model": (2, 1), "tool": (2, 0)}


async def test_a_response_goes_on_after_as_many_hops_and_in_the_same_conversation(hub: OpenHub) -> None:
    kept: Any = {"rule": FLOOR, "bounds": Bounds(session_calls=3), "policy": THRICE}
    async with opened(hub, BOTH, Turn("So."), **kept) as d:
        tools: Any = [source({**SOME, "never": {"tool_names": ["look"]}})]
        first = await d.sdk.responses.create(model="d", input="hi", tools=tools, extra_headers=HERE)
        (waiting,) = first.to_dict()["hub"]["approvals"]  # type: ignore[index]
        assert (await d.decide(waiting["id"])).status_code == 200
        assert SPENT in (await once(d.sdk, waiting["response_id"], "failed")).error.message
        assert [name for name, _ in d.bank.calls] == ["look", "pay"]


async def test_a_response_in_the_background_stands_where_its_request_did(hub: OpenHub) -> None:
    kept = {"bounds": Bounds(session_calls=3), "policy": THRICE}
    async with opened(hub, BOTH, Turn("So."), **kept) as d:
        tools: Any = [source("never")]
        made = await d.sdk.responses.create(model="d", input="hi", tools=tools, background=True, extra_headers=HERE)
        assert SPENT in (await once(d.sdk, made.id, "failed")).error.message
        assert sorted(name for name, _ in d.bank.calls) == ["look", "pay"]


async def test_an_agent_made_here_goes_on_in_its_callers_conversation(tmp_path: Path) -> None:
    more = rule("tree.hops != 4 || tree.callers != ['agent:helper', 'model:m']", "tool:srv__echo")
    async with bench(tmp_path, ECHO, ECHO, DONE, more=more, rule=", require_approval: always") as b:
        approver = await b.hub.key("admin:approvals")
        secret = await b.hub.key("agent:*", "tool:*", bounds=Bounds(session_calls=3))
        async with b.a2a(secret) as client, b.hub.http(approver) as boss, b.hub.http(secret) as http:
            http.headers.update(HERE)
            message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "go"}]}
            body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
            task = (await http.post("/a2a/helper", json=body)).json()["result"]["task"]
            (approval,) = task["metadata"]["urn:hubbub:approvals"]
            answered = await boss.post(f"/api/approvals/{approval['id']}", json={"decision": "approve"})
            assert answered.status_code == 200
            failed = await reached(client, task["id"], "TASK_STATE_FAILED")
        assert SPENT in failed["status"]["message"]["parts"][0]["text"]
        assert b.server.calls == [("echo", {"text": "hi"})]


async def test_two_hubs_in_a_circle_with_an_approval_in_it_come_to_an_end(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    to_right, to_left = (Turn(calls=((f"agent__{name}", '{"message": "go"}'),)) for name in ("right", "left"))
    async with openai_upstream(to_right) as here, openai_upstream(to_left) as there, AsyncExitStack() as stack:
        model = "models: {{m: {{provider: openai, base_url: '{url}', api_key: sk-up}}}}\nagents:\n"
        own = model.format(url=there.url) + '  right: {model: m, tools: ["agent__left"]}\n'
        b = await stack.enter_async_context(open_hub(tmp_path / "b", own))
        one = RequestLimits(max_rounds=1)  # each calls the other once
        as_b = await b.key("agent:*", request_limits=one)
        far = f"  right: {{url: '{b.url}/a2a/right/', headers: {{Authorization: 'Bearer {as_b}'}}}}\n"
        own = model.format(url=here.url) + '  left: {model: m, tools: ["agent__right"]}\n' + far
        a = await stack.enter_async_context(open_hub(tmp_path / "a", own))
        as_a = await a.key("agent:*", request_limits=one, require_approval="always")
        async with a.http(ADMIN_KEY) as boss, b.http(ADMIN_KEY) as admin:
            left = {"name": "left", "url": f"{a.url}/a2a/left/", "headers": {"Authorization": f"Bearer {as_a}"}}
            assert (await admin.post("/api/agents", json=left)).status_code == 201
            async with open_client(f"{a.url}/a2a/left/", JSONRPC, headers=left["headers"]) as client:
                await client.send("go")
                approved = 0
                while pending := (await boss.get("/api/approvals")).json()["items"]:
                    (found,) = pending
                    assert (await boss.post(f"/api/approvals/{found['id']}", json={"decision": "approve"})).is_success
                    approved += 1
                    async with asyncio.timeout(30):
                        while await failed_in(client) < approved:
                            await asyncio.sleep(0.01)
        assert approved == MAX_HOPS // 4  # each hub counts what comes to it, and what it calls


async def failed_in(client: Any) -> int:
    """How many of the caller's tasks have failed."""
    tasks = (await client.ask("ListTasks", {}))["tasks"]
    return sum(task["status"]["state"] == "TASK_STATE_FAILED" for task in tasks)
