"""Where a request stood is where its run stands after it waited for approval: hops, conversations and what is above it, wherever it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest

from registry.limits import Bounds
from tests.conftest import OpenHub
from tests.doors.test_own_agents import DONE, ECHO, bench, until
from tests.doors.test_parked import opened, source
from tests.doors.test_parked_bounds import BOTH, FLOOR, SOME, WHERE, approved
from tests.doors.test_policy_tree import rule
from tests.doors.test_responses_approvals import once
from tests.peers.openai_upstream import Turn

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
            failed = await until(client, task["id"], "TASK_STATE_FAILED")
        assert SPENT in failed["status"]["message"]["parts"][0]["text"]
        assert b.server.calls == [("echo", {"text": "hi"})]
