"""The inbox of approvals, over HTTP against a real hub."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from registry.access import Grants
from registry.identity import Principal
from registry.tool_approvals import Answerer, Approval, Deed, Run, Wanted
from tests.conftest import ADMIN_KEY, Hub, OpenHub

ANN = Principal(id="key_ann", name="ann", grants=Grants(()))
DEED = Deed(server="bank", tool="pay", arguments={"to": "eve"}, policy="p")


@pytest.fixture
async def running(hub: OpenHub) -> AsyncIterator[Hub]:
    async with hub() as running:
        yield running


async def ask(running: Hub, answerer: Answerer = "admin", principal: Principal = ANN) -> Approval:
    run = Run(f"run_{time.monotonic_ns()}", "test", principal, time.time() + 60)
    (asked,) = await running.services.approvals.ask(run, [Wanted(DEED, answerer)])
    return asked


async def test_the_inbox_shows_what_waits_and_takes_one_answer(running: Hub) -> None:
    first, second = await ask(running), await ask(running)
    async with running.http(await running.key("admin:approvals")) as boss:
        page = (await boss.get("/api/approvals", params={"limit": 1})).json()
        assert [one["id"] for one in page["items"]] == [first.id]
        rest = (await boss.get("/api/approvals", params={"after": page["next"]})).json()
        assert [one["id"] for one in rest["items"]] == [second.id]
        assert rest["next"] is None
        shown = (await boss.get(f"/api/approvals/{first.id}")).json()
        assert (shown["server"], shown["tool"], shown["arguments"]) == ("bank", "pay", {"to": "eve"})
        assert (shown["principal_name"], shown["answerer"], shown["state"]) == ("ann", "admin", "pending")
        decided = await boss.post(f"/api/approvals/{first.id}", json={"decision": "deny", "reason": "no"})
        assert decided.status_code == 200
        assert (decided.json()["state"], decided.json()["reason"]) == ("denied", "no")
        assert (await boss.post(f"/api/approvals/{first.id}", json={"decision": "approve"})).status_code == 409
        assert [one["id"] for one in (await boss.get("/api/approvals")).json()["items"]] == [second.id]
        denied = (await boss.get("/api/approvals", params={"state": "denied"})).json()
        assert [one["id"] for one in denied["items"]] == [first.id]
        assert len((await boss.get("/api/approvals", params={"state": "all"})).json()["items"]) == 2
    async with running.http(ADMIN_KEY) as admin:
        used = (await admin.get("/api/usage", params={"by": "kind,outcome"})).json()["items"]
    assert [(one["kind"], one["outcome"], one["calls"]) for one in used] == [
        ("approval", "error", 1),
        ("approval", "ok", 1),
    ]


async def test_who_may_not_approve_finds_no_inbox(running: Hub) -> None:
    asked = await ask(running)
    async with running.http(await running.key("admin:keys", "model:*")) as other:
        for method, path in (("GET", ""), ("GET", f"/{asked.id}"), ("POST", f"/{asked.id}")):
            answer = await other.request(method, f"/api/approvals{path}", json={"decision": "approve"})
            assert answer.status_code == 404
    assert (await running.services.approvals.find(asked.id)).state == "pending"


async def test_the_key_that_asked_does_not_answer_for_a_rule_of_the_hub(running: Hub) -> None:
    secret = await running.key("admin:approvals")
    (key,) = await running.services.keys.all_live()
    principal = Principal(id=key.id, name=key.name, grants=Grants(()))
    asked = await ask(running, principal=principal)
    own = await ask(running, "caller", principal)
    async with running.http(secret) as caller:
        refused = await caller.post(f"/api/approvals/{asked.id}", json={"decision": "approve"})
        assert refused.status_code == 403
        assert "somebody else" in refused.json()["detail"]
        assert (await caller.post(f"/api/approvals/{own.id}", json={"decision": "approve"})).status_code == 200


@pytest.mark.parametrize("body", [{}, {"decision": "maybe"}, {"decision": "approve", "x": 1}, {"decision": True}])
async def test_an_answer_says_approve_or_deny(running: Hub, body: dict[str, object]) -> None:
    asked = await ask(running)
    async with running.http(ADMIN_KEY) as admin:
        assert (await admin.post(f"/api/approvals/{asked.id}", json=body)).status_code == 400
        assert (await admin.get("/api/approvals", params={"state": "nonsense"})).status_code == 400


async def test_a_key_says_which_tools_need_approval_and_makes_none_that_says_less(running: Hub) -> None:
    async with running.http(ADMIN_KEY) as admin:
        body = {"name": "clerk", "allow": ["admin:keys", "tool:*"], "require_approval": ["bank__*"]}
        made = (await admin.post("/api/keys", json=body)).json()
        assert made["require_approval"] == ["bank__*"]
        bad = await admin.post("/api/keys", json={**body, "name": "b", "require_approval": "sometimes"})
        assert bad.status_code == 400
        assert "destructive" in bad.json()["detail"]
        async with running.http(made["key"]) as clerk:
            plain = (await clerk.post("/api/keys", json={"name": "heir", "allow": ["tool:*"]})).json()
            assert plain["require_approval"] == ["bank__*"]
            for weaker in (None, [], "destructive", ["bank__pay"]):
                free = {"name": "free", "allow": ["tool:*"], "require_approval": weaker}
                assert (await clerk.post("/api/keys", json=free)).status_code == 400
                changed = await clerk.patch("/api/keys/clerk", json={"require_approval": weaker})
                assert changed.status_code == 400
            stricter = await clerk.patch("/api/keys/heir", json={"require_approval": "always"})
            assert stricter.json()["require_approval"] == "always"
        assert (await admin.patch("/api/keys/clerk", json={"require_approval": None})).json()[
            "require_approval"
        ] is None


async def test_the_file_says_which_tools_of_a_server_need_approval(hub: OpenHub) -> None:
    yaml = """
mcpServers:
  bank: {url: "http://127.0.0.1:9/mcp", require_approval: destructive}
keys:
  - {name: dev, key: sk-dev-0123456789-0123456789, allow: ["tool:*"], require_approval: ["bank__pay*"]}
"""
    async with hub(yaml) as running, running.http(ADMIN_KEY) as admin:
        assert (await admin.get("/api/mcp-servers/bank")).json()["require_approval"] == "destructive"
        assert (await admin.get("/api/keys/dev")).json()["require_approval"] == ["bank__pay*"]
        keys = running.services.keys
        (key,) = await keys.all_live()
        assert (await keys.living([key.id]))[key.id].require_approval == ("bank__pay*",)
