"""What somebody approves is what is sent, for whom it was asked, and shows nothing that guards keep back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ADMIN_KEY, OpenHub
from tests.doors.test_parked import opened, source
from tests.peers import mcp_servers
from tests.peers.mcp_hub import headers, message, open_mcp_hub
from tests.peers.mcp_servers import Peer
from tests.peers.openai_upstream import Turn

SK, MAIL, MARK = "sk-abcdefghijklmnopqrstuvwx", "jo@example.org", "[redacted: mail]"
ASKS = {"name": "ask", "effect": "require_approval", "entries": ["tool:peer__echo"]}
GUARDS = {
    "keys": {"type": "secrets", "action": "block", "of": ["arguments"]},
    "mail": {"type": "pii", "kinds": ["email"], "action": "redact", "of": ["arguments"]},
}


class Desk:
    """Two tenants before one server, and who answers in the inbox."""

    def __init__(self, peer: Peer, one: httpx.AsyncClient, other: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
        self.peer, self.one, self.other, self.admin = peer, one, other, admin

    async def call(self, http: httpx.AsyncClient, arguments: dict[str, Any], **more: Any) -> str:
        """Call the tool; what went wrong, or nothing."""
        body = message("tools/call", {"name": "peer__echo", "arguments": arguments, **more})
        answer = (await http.post("/mcp", json=body, headers=headers("tools/call", "peer__echo"))).json()
        return str(answer["error"]["message"]) if "error" in answer else ""

    async def waiting(self) -> list[dict[str, Any]]:
        """What waits in the inbox."""
        found: list[dict[str, Any]] = (await self.admin.get("/api/approvals")).json()["items"]
        return found

    async def approve(self) -> Any:
        """Approve what alone waits; its arguments as they are shown."""
        (waiting,) = await self.waiting()
        answer = await self.admin.post(f"/api/approvals/{waiting['id']}", json={"decision": "approve"})
        assert answer.status_code == 200
        return waiting["arguments"]


@asynccontextmanager
async def desk(tmp_path: Path, rules: list[Any], guards: dict[str, Any]) -> AsyncIterator[Desk]:
    async with mcp_servers.dual_era() as peer:
        yaml = f"mcpServers: {{peer: {{url: {peer.url}}}}}\npolicy: {json.dumps(rules)}\nguards: {json.dumps(guards)}\n"
        async with open_mcp_hub(tmp_path, yaml) as hub:
            keys = [await hub.key("server:peer"), await hub.key("server:peer"), ADMIN_KEY]
            await hub.listed("peer__echo")
            async with hub.http(keys[0]) as one, hub.http(keys[1]) as other, hub.http(keys[2]) as admin:
                yield Desk(peer, one, other, admin)


@pytest.mark.attack("2.1/13")
@pytest.mark.attack("2.1/12", defence="registry.rules.guards:look_now")
@pytest.mark.parametrize("asks", ["a rule", "a guard before", "a guard behind"])
async def test_an_approval_shows_and_allows_what_guards_leave_and_that_to_its_caller_alone(
    tmp_path: Path, asks: str
) -> None:
    asking = {"ask": {"type": "patterns", "deny": ["write"], "action": "require_approval", "of": ["arguments"]}}
    guards = {"a guard before": asking | GUARDS, "a guard behind": GUARDS | asking}.get(asks, GUARDS)
    async with desk(tmp_path, [ASKS] if asks == "a rule" else [], guards) as d:
        assert "approved first" in await d.call(d.one, {"text": f"write to {MAIL}"})
        assert await d.approve() == {"text": f"write to {MARK}"}
        assert "approved first" in await d.call(d.other, {"text": f"write to {MAIL}"})
        assert await d.call(d.one, {"text": f"write to {MAIL}"}) == ""
        assert "approved first" in await d.call(d.one, {"text": f"write to {MAIL}"})
        assert d.peer.calls == [("echo", {"text": f"write to {MARK}"})]
        assert MAIL not in str((await d.admin.get("/api/approvals", params={"state": "all"})).json())


@pytest.mark.attack("2.1/12")
async def test_nobody_is_asked_to_approve_what_a_guard_keeps_back(tmp_path: Path) -> None:
    async with desk(tmp_path, [ASKS], GUARDS) as d:
        assert "guard 'keys' keeps back" in await d.call(d.one, {"text": SK})
        assert await d.waiting() == []


@pytest.mark.attack("2.2/25")
@pytest.mark.parametrize("guards", [{}, GUARDS], ids=["without guards", "with guards"])
async def test_an_approval_holds_for_all_that_is_sent_not_for_the_arguments_alone(
    tmp_path: Path, guards: dict[str, Any]
) -> None:
    one, other = ({"q": {"action": "accept", "content": {"to": name}}} for name in ("jo", "eve"))
    async with desk(tmp_path, [ASKS], guards) as d:
        assert "approved first" in await d.call(d.one, {"text": "x"}, inputResponses=one)
        both = await d.approve()
        assert both == {"arguments": {"text": "x"}, "inputResponses": one}
        for arguments, more in (({"text": "x"}, {}), ({"text": "x"}, {"inputResponses": other}), (both, {})):
            assert "approved first" in await d.call(d.one, arguments, **more)
        assert d.peer.calls == []
        assert "approved first" not in await d.call(d.one, {"text": "x"}, inputResponses=one)


@pytest.mark.attack("2.1/13")
@pytest.mark.attack("2.1/12", defence="registry.rules.guards:look_now")
@pytest.mark.parametrize("asks", ["the request", "the server", "a rule"])
async def test_calls_of_a_models_loop_are_shown_and_approved_as_guards_leave_them(hub: OpenHub, asks: str) -> None:
    pay = Turn(calls=(("bank__pay", json.dumps({"text": f"5 to {MAIL}"})),))
    rule = {
        **ASKS,
        "entries": ["tool:bank__pay"],
        "when": f"arguments.text == '5 to {MAIL}'",
    }  # sees what the model said
    more: dict[str, Any] = {"policy": rule} if asks == "a rule" else {}
    floor = ", require_approval: always" if asks == "the server" else ""
    async with opened(hub, pay, Turn("Paid."), rule=floor, guards=GUARDS, **more) as d:
        demand = "always" if asks == "the request" else "never"
        (waiting,) = (await d.ask(demand)).hub["approvals"]
        assert waiting["arguments"] == {"text": f"5 to {MARK}"}
        assert MAIL not in str(await d.pending())
        assert (await d.decide(waiting["id"])).status_code == 200
        await d.ask(demand, hub={"approval_id": waiting["id"]})
        assert d.bank.calls == [("pay", {"text": f"5 to {MARK}"})]


@pytest.mark.attack("2.1/12")
async def test_a_response_asks_for_approval_of_what_guards_leave(hub: OpenHub) -> None:
    pay = Turn(calls=(("bank__pay", json.dumps({"text": f"5 to {MAIL}"})),))
    async with opened(hub, pay, guards=GUARDS) as d:
        made = await d.sdk.responses.create(model="d", input="pay", tools=[source("always")])
        (asked,) = [item for item in made.output if item.type == "mcp_approval_request"]
        assert json.loads(asked.arguments) == {"text": f"5 to {MARK}"}


@pytest.mark.attack("2.1/12")
@pytest.mark.parametrize("by", ["a guard", "a rule"])
async def test_a_models_call_that_is_kept_back_waits_for_nobody(hub: OpenHub, by: str) -> None:
    pay = Turn(calls=(("bank__pay", json.dumps({"text": SK})),))
    more: dict[str, Any] = {"guards": {"keys": {**GUARDS["keys"], "entries": ["server:bank"]}}}
    if by == "a rule":
        more = {"policy": {"name": "no", "effect": "deny", "when": f"has(arguments.text) && arguments.text == '{SK}'"}}
    async with opened(hub, pay, Turn("So."), **more) as d:
        answer = await d.ask("always")
        assert answer.choices[0].message.content == "So."
        told = d.upstream.received[-1].body["messages"][-1]["content"]
        assert ("guard 'keys' keeps back" if by == "a guard" else "rule 'no' refuses") in told
        assert (await d.pending(), d.bank.calls) == ([], [])


@pytest.mark.attack("2.2/25")
async def test_what_was_approved_is_not_sent_once_guards_leave_something_else_of_it(hub: OpenHub) -> None:
    pay = Turn(calls=(("bank__pay", json.dumps({"text": f"5 to {MAIL}"})),))
    async with opened(hub, pay, Turn("So."), guards=GUARDS) as d:
        (waiting,) = (await d.ask("always")).hub["approvals"]
        registry = d.running.services.registry
        await registry.follow_file(replace(registry._declared, guards=None))
        await d.ask("always", hub={"approval_id": waiting["id"]})
        assert "given for another call" in d.upstream.received[-1].body["messages"][-1]["content"]
        assert d.bank.calls == []
