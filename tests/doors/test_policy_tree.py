"""What rules know of where a call stands: how often it came through the hub, what is above it, the time that is left."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import OpenHub
from tests.doors.test_limits import CALLS, chat, everything, made
from tests.doors.test_own_agents import DONE, ECHO, bench, reached, text_of
from tests.peers.openai_upstream import Turn


def rule(when: str, *entries: str) -> str:
    return f"policy: {json.dumps([{'name': 'no', 'effect': 'deny', 'entries': entries, 'when': when}])}\n"


async def test_hops_count_at_every_door(hub: OpenHub) -> None:
    async with everything(hub, more=rule("tree.hops > 1")) as running, running.http(await made(running)) as http:
        for name, call in CALLS.items():
            found = []
            for hops in ("1", "2", "x"):
                http.headers["hubbub-hops"] = hops
                answer = await call(http)
                is_refused = "rule 'no' refuses" in answer.text or "hubbub-hops must be" in answer.text
                found.append("refused" if is_refused else answer.status_code)
            assert found == [200, "refused", "refused"], name


async def test_the_time_that_is_left_is_known_where_something_bounds_it(hub: OpenHub) -> None:
    when = rule("has(tree.seconds_left) && tree.seconds_left < 100")
    async with everything(hub, more=when) as running:
        for number, (limits, status) in enumerate(
            (({}, 200), ({"max_seconds": 1000}, 200), ({"max_seconds": 99}, 403))
        ):
            async with running.http(await made(running, name=f"rita-{number}", limits=limits)) as http:
                assert (await chat(http)).status_code == status


async def test_what_is_above_a_call_is_known_over_agents_and_rounds(tmp_path: Path) -> None:
    outer = Turn(calls=(("agent__helper", '{"message": "go"}'),))
    asked = (outer, Turn(calls=(("srv__echo", '{"text": "one"}'),)), Turn(calls=(("srv__echo", '{"text": "two"}'),)))
    above = ["agent:outer", "model:m", "agent:helper", "model:m"]
    more = rule(f"arguments.text == 'two' && tree.callers == {json.dumps(above)}", "tool:srv__echo")
    async with bench(tmp_path, *asked, DONE, DONE, more=more) as b:
        async with b.a2a(await b.hub.key("agent:*", "tool:*"), agent="outer") as client:
            assert text_of((await client.send("go"))["task"]) == "done"
        assert b.server.calls == [("echo", {"text": "one"})]
        assert "rule 'no' refuses" in b.asked(3)["messages"][-1]["content"]


async def test_what_is_above_a_call_is_known_after_it_was_approved(tmp_path: Path) -> None:
    more = rule("tree.callers != ['agent:helper', 'model:m']", "tool:srv__echo")
    async with bench(tmp_path, ECHO, ECHO, DONE, more=more, rule=", require_approval: always") as b:
        approver = await b.hub.key("admin:approvals")
        async with b.a2a(await b.hub.key("agent:*", "tool:*")) as client, b.hub.http(approver) as boss:
            task = (await client.send("go"))["task"]
            seen: set[str] = set()
            for _ in range(2):
                while (approval := task["metadata"]["urn:hubbub:approvals"][0])["id"] in seen:
                    task = await reached(client, task["id"], "TASK_STATE_INPUT_REQUIRED")
                seen.add(approval["id"])
                answer = await boss.post(f"/api/approvals/{approval['id']}", json={"decision": "approve"})
                assert answer.status_code == 200
            await reached(client, task["id"], "TASK_STATE_COMPLETED")
        assert b.server.calls == [("echo", {"text": "hi"})] * 2


async def test_explain_is_told_where_a_call_stands(hub: OpenHub) -> None:
    yaml = "models: {m: {provider: offline}}\n" + rule("'agent:a' in tree.callers || tree.hops > 2", "model:*")
    async with hub(yaml) as running:
        secret = await running.key("model:*")
        async with running.http(secret) as http:
            asked = {"kind": "model", "name": "m", "arguments": "{}"}
            for tree, answer in (
                (None, "allowed"),
                ({"callers": ["agent:a"]}, "denied"),
                ({"hops": 3}, "denied"),
                ({"hops": 2, "callers": ["agent:b"], "seconds_left": 1.5}, "allowed"),
            ):
                said = await http.get("/api/explain", params={**asked, **({"tree": json.dumps(tree)} if tree else {})})
                assert said.json().get("answer") == answer, said.text
            assert (await http.get("/api/explain", params={**asked, "tree": '{"hops": "x"}'})).status_code == 400
