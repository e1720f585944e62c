"""Rules of the policy, at every door: what they hide, refuse, and have approved; their versions; why something is so."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ADMIN_KEY, OpenHub
from tests.doors.test_a2a import rpc, said
from tests.doors.test_a2a import yaml as agent_yaml
from tests.peers import mcp_servers
from tests.peers.a2a_agent import sdk_agent
from tests.peers.mcp_hub import McpHub, headers, message, open_mcp_hub
from tests.peers.mcp_servers import Peer

ECHO = "tool:peer__echo"


def rules(*items: dict[str, Any]) -> str:
    return f"policy: {json.dumps(list(items))}\n"


@asynccontextmanager
async def hub_of(tmp_path: Path, *items: dict[str, Any]) -> AsyncIterator[tuple[McpHub, Peer, httpx.AsyncClient]]:
    async with (
        mcp_servers.dual_era() as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {peer.url}}}}}\n{rules(*items)}") as hub,
        hub.http(ADMIN_KEY) as admin,
    ):
        await hub.listed("peer__echo")
        yield hub, peer, admin


async def call(http: httpx.AsyncClient, arguments: str | dict[str, Any]) -> dict[str, Any]:
    """Call the tool; arguments as JSON text go as they are."""
    body = json.dumps(message("tools/call", {"name": "peer__echo", "arguments": {"here": 1}}))
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    answer = await http.post(
        "/mcp", content=body.replace('{"here": 1}', written), headers=headers("tools/call", "peer__echo")
    )
    found: dict[str, Any] = answer.json()
    return found


async def listed(http: httpx.AsyncClient) -> list[str]:
    answer = await http.post("/mcp", json=message("tools/list"), headers=headers("tools/list"))
    return [tool["name"] for tool in answer.json()["result"]["tools"]]


@pytest.mark.attack("2.1/16")
async def test_a_tool_that_no_call_may_reach_is_not_listed_and_looks_absent(tmp_path: Path) -> None:
    rule = {"name": "no-echo", "effect": "deny", "entries": [ECHO], "when": "principal.name != 'key-1'"}
    async with hub_of(tmp_path, rule) as (hub, peer, _admin):
        async with hub.http(await hub.key("tool:*")) as http, hub.http(await hub.key("tool:*")) as trusted:
            assert "peer__echo" not in await listed(http)
            refused = (await call(http, {"text": "x"}))["error"]
            absent = await http.post(
                "/mcp", json=message("tools/call", {"name": "peer__nix"}), headers=headers("tools/call", "peer__nix")
            )
            assert refused["message"].replace("echo", "nix") == absent.json()["error"]["message"]
            assert "peer__echo" in await listed(trusted)
            assert not (await call(trusted, {"text": "x"}))["result"].get("isError")
        assert [name for name, _ in peer.calls] == ["echo"]


@pytest.mark.attack("2.2/25")
async def test_a_rule_about_arguments_sees_what_the_server_gets(tmp_path: Path) -> None:
    rule = {
        "name": "ours",
        "effect": "deny",
        "entries": ["tool:peer__*"],
        "when": "!arguments.text.startsWith('acme/')",
        "reason": "only our repositories",
    }
    async with hub_of(tmp_path, rule) as (hub, peer, _admin), hub.http(await hub.key("tool:*")) as http:
        assert "peer__echo" in await listed(http)
        assert not (await call(http, {"text": "acme/x"}))["result"].get("isError")
        for arguments in (
            {"text": "other/x"},
            {},
            {"text": 5},
            '{"text": "other/x", "text": "acme/x"}',
            '{"text": "acme/x", "t\\u0065xt": "other/x"}',
        ):
            assert "result" not in await call(http, arguments)
        assert (
            "'ours' refuses this call: only our repositories" in (await call(http, {"text": "x"}))["error"]["message"]
        )
        assert peer.calls == [("echo", {"text": "acme/x"})]


async def test_an_agent_is_judged_by_its_message_in_every_version(hub: OpenHub) -> None:
    rule = {
        "name": "secret",
        "effect": "deny",
        "entries": ["agent:echo"],
        "when": "arguments.message.parts.exists(p, p.text.contains('secret'))",
    }
    async with (
        sdk_agent() as agent,
        hub(agent_yaml(agent.url) + rules(rule)) as running,
        running.http(await running.key("agent:*")) as http,
    ):
        fine = await http.post("/a2a/echo", json=rpc("SendMessage", said("hello")))
        assert "result" in fine.json()
        old = {
            "message": {
                "messageId": "m",
                "role": "user",
                "kind": "message",
                "parts": [{"kind": "text", "text": "my secret"}],
            }
        }
        for method, params in (
            ("SendMessage", said("my secret")),
            ("SendStreamingMessage", said("my secret")),
            ("message/send", old),
            ("message/stream", old),
        ):
            version = {} if "/" not in method else {"a2a-version": "0.3"}
            answer = await http.post("/a2a/echo", json=rpc(method, params), headers=version)
            assert "'secret' refuses this call" in answer.text, method
        rest = await http.post("/a2a/echo/message:send", json=said("my secret"), headers={"a2a-version": "1.0"})
        assert "'secret' refuses this call" in rest.text
        assert len([one for one in agent.calls if one.json.get("params")]) == 1


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_a_model_is_judged_by_its_request_at_every_door(hub: OpenHub, path: str) -> None:
    rule = {
        "name": "short",
        "effect": "deny",
        "entries": ["model:*"],
        "when": "has(arguments.temperature) && arguments.temperature > 1.0",
    }
    async with (
        hub("models:\n  offline: {provider: offline}\n" + rules(rule)) as running,
        running.http(await running.key("model:*")) as http,
    ):
        asked = (
            {"messages": [{"role": "user", "content": "x"}], "max_tokens": 10}
            if path != "/v1/responses"
            else {"input": "x"}
        )
        fine = await http.post(path, json={"model": "offline", "temperature": 0.5, **asked})
        assert fine.status_code == 200, fine.text
        refused = await http.post(path, json={"model": "offline", "temperature": 1.5, **asked})
        assert refused.status_code == 403
        assert "'short' refuses this call" in refused.text


async def test_a_call_that_needs_approval_waits_in_the_inbox_and_is_made_once(tmp_path: Path) -> None:
    rule = {"name": "ask", "effect": "require_approval", "entries": [ECHO]}
    async with (
        hub_of(tmp_path, rule) as (hub, peer, admin),
        hub.http(await hub.key("tool:*", "admin:approvals")) as http,
    ):
        told = (await call(http, {"text": "x"}))["error"]["message"]
        waiting = (await admin.get("/api/approvals", params={"state": "pending"})).json()["items"]
        assert [(one["tool"], one["arguments"]) for one in waiting] == [("echo", {"text": "x"})]
        name = waiting[0]["id"]
        assert name in told
        assert name in (await call(http, {"text": "x"}))["error"]["message"]
        own = await http.post(f"/api/approvals/{name}", json={"decision": "approve"})
        assert own.status_code == 403
        assert (await admin.post(f"/api/approvals/{name}", json={"decision": "approve"})).status_code == 200
        assert "error" in await call(http, {"text": "y"})
        assert not (await call(http, {"text": "x"}))["result"].get("isError")
        assert "error" in await call(http, {"text": "x"})
        assert peer.calls == [("echo", {"text": "x"})]


async def test_rules_are_changed_compared_and_rolled_back_in_versions(tmp_path: Path) -> None:
    of_file = {"name": "of-file", "effect": "allow", "entries": ["tool:other__*"]}
    async with hub_of(tmp_path, of_file) as (hub, _peer, admin), hub.http(await hub.key("tool:*")) as http:
        first = (await admin.get("/api/policy")).json()
        assert [(rule["name"], rule["owner"]) for rule in first["rules"]] == [("of-file", "file")]
        no_echo = {"name": "no-echo", "effect": "deny", "entries": [ECHO]}
        second = (await admin.put("/api/policy", json={"rules": [no_echo], "version": first["version"]})).json()
        assert "peer__echo" not in await listed(http)
        stale = await admin.put("/api/policy", json={"rules": [], "version": first["version"]})
        assert stale.status_code == 409
        changed = {**no_echo, "effect": "require_approval"}
        assert (await admin.put("/api/policy", json={"rules": [changed]})).status_code == 200
        difference = (await admin.get("/api/policy/diff", params={"from": second["version"]})).json()
        assert [one["after"]["effect"] for one in difference["changed"]] == ["require_approval"]
        back = await admin.post("/api/policy/rollback", json={"version": first["version"]})
        assert [rule["name"] for rule in back.json()["rules"]] == ["of-file"]
        assert "peer__echo" in await listed(http)
        versions = (await admin.get("/api/policy/versions")).json()["items"]
        assert [one["version"] for one in versions] == [4, 3, 2, 1]
        assert [one["by"] for one in versions] == ["admin", "admin", "admin", "file"]


async def test_a_rule_redacts_what_is_sent_and_answered_and_decides_nothing(tmp_path: Path) -> None:
    hide = {"name": "hide", "effect": "redact", "entries": [ECHO], "fields": ["ssn"], "redact": ["email"]}
    other = {"name": "other", "effect": "deny", "entries": ["tool:other__*"]}
    async with hub_of(tmp_path, other) as (hub, peer, admin), hub.http(await hub.key("tool:*")) as http:
        before = (await admin.get("/api/policy")).json()["version"]
        rules = [
            {**hide, "when": "arguments.text != 'raw'"},
            {"name": "no", "effect": "deny", "when": "arguments.text == 'no'"},
        ]
        made = await admin.put("/api/policy", json={"rules": rules})
        assert made.status_code == 200, made.text
        given = {"text": "to jo@example.org", "person": {"ssn": 5}}
        left = {"text": "to [redacted: hide]", "person": {"ssn": "[redacted: hide]"}}
        result = (await call(http, given))["result"]
        assert result["structuredContent"] == {"echoed": left}
        assert "jo@example.org" not in str(result)
        assert "error" in await call(http, {"text": "no"})
        assert (await call(http, {"text": "raw", "ssn": 5}))["result"]["structuredContent"] == {
            "echoed": {"text": "raw", "ssn": 5}
        }
        only = {**hide, "of": ["results"]}
        assert (await admin.put("/api/policy", json={"rules": [only]})).status_code == 200
        assert (await call(http, {"text": "x", "ssn": 5}))["result"]["structuredContent"]["echoed"]["ssn"] != 5
        assert [arguments for _, arguments in peer.calls] == [left, {"text": "raw", "ssn": 5}, {"text": "x", "ssn": 5}]
        (added,) = (await admin.get("/api/policy/diff", params={"from": before})).json()["added"]
        assert (added["fields"], added["redact"], added["of"]) == (["ssn"], ["email"], ["results"])
        said = (await http.get("/api/explain", params={"kind": "tool", "name": "peer__echo"})).json()
        assert (said["answer"], said["rule"]) == ("allowed", None)
        assert said["guards"] == [{"name": "hide", "action": "redact", "of": ["results"], "when": None}] * 2
        assert (await admin.post("/api/policy/rollback", json={"version": before})).status_code == 200
        assert (await call(http, given))["result"]["structuredContent"] == {"echoed": given}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"name": "of-file", "effect": "deny"}, "two rules are called 'of-file'"),
        ({"name": "bad", "effect": "deny", "when": "1 +"}, "is not CEL"),
        ({"name": "bad", "effect": "deny", "when": "1"}, "must say true or false"),
        ({"name": "bad", "effect": "forbid"}, "effect"),
        ({"name": "bad", "effect": "redact"}, "need one of them"),
        ({"name": "bad", "effect": "deny", "entries": ["admin:keys"]}, "rules are about"),
    ],
)
async def test_rules_that_cannot_be_used_change_nothing(tmp_path: Path, rule: dict[str, Any], said: str) -> None:
    async with hub_of(tmp_path, {"name": "of-file", "effect": "allow"}) as (_hub, _peer, admin):
        refused = await admin.put("/api/policy", json={"rules": [rule]})
        assert refused.status_code == 400
        assert said in refused.json()["detail"]
        assert (await admin.get("/api/policy")).json()["version"] == 1


async def test_who_may_read_and_write_the_policy(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, _peer, _admin), hub.http(await hub.key("tool:*", "admin:keys")) as http:
        for method, path in (("GET", "/api/policy"), ("PUT", "/api/policy"), ("POST", "/api/policy/rollback")):
            assert (await http.request(method, path, json={"rules": []})).status_code == 404


async def test_explain_says_which_grant_or_rule_decides(tmp_path: Path) -> None:
    rule = {"name": "ours", "effect": "deny", "entries": ["tool:peer__*"], "when": "arguments.text == 'x'"}
    async with hub_of(tmp_path, rule) as (hub, _peer, admin), hub.http(await hub.key("server:peer")) as http:
        asked = {"kind": "tool", "name": "peer__echo"}
        own = (await http.get("/api/explain", params=asked)).json()
        assert (own["answer"], own["listed"], own["grants"], own["asked"]) == (
            "depends",
            True,
            ["server:peer"],
            ["ours"],
        )
        denied = (await http.get("/api/explain", params={**asked, "arguments": '{"text": "x"}'})).json()
        assert (denied["answer"], denied["rule"]) == ("denied", "ours")
        allowed = (await http.get("/api/explain", params={**asked, "arguments": '{"text": "y"}'})).json()
        assert (allowed["answer"], allowed["rule"]) == ("allowed", None)
        absent = (await http.get("/api/explain", params={"kind": "agent", "name": "x"})).json()
        assert (absent["answer"], absent["grants"]) == ("denied", [])
        other = (await admin.get("/api/explain", params={**asked, "principal": "key-0"})).json()
        assert other["principal"] == "key-0"
        assert (await http.get("/api/explain", params={**asked, "principal": "admin"})).status_code == 404


async def test_explain_says_allowed_of_what_a_call_finds_and_of_nothing_else(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, peer, admin), hub.http(await hub.key("tool:*", "model:*")) as http:
        for name in ("peer__echo", "peer__nix", "nix__echo"):
            asked = {"kind": "tool", "name": name, "principal": "key-0"}
            own = (await http.get("/api/explain", params=asked)).json()
            told = (await admin.get("/api/explain", params=asked)).json()
            found = await http.post(
                "/mcp",
                json=message("tools/call", {"name": name, "arguments": {"text": "x"}}),
                headers=headers("tools/call", name),
            )
            is_there = "result" in found.json()
            assert {(one["answer"], one["listed"]) for one in (own, told)} == {
                ("allowed" if is_there else "denied", is_there)
            }
            assert is_there or own["reason"] == "nothing of that name is there"
        assert (peer.calls, told["reason"]) == ([("echo", {"text": "x"})], "there is no server nix")
        asked = {"kind": "model", "name": "nix", "principal": "key-0"}
        assert (await admin.get("/api/explain", params=asked)).json()["reason"] == "there is no model nix"


async def test_rules_know_team_and_user_by_their_present_names(tmp_path: Path) -> None:
    rule = {
        "name": "ops-only",
        "effect": "deny",
        "entries": [ECHO],
        "when": "principal.team != 'ops' || principal.user != 'rita'",
    }
    async with hub_of(tmp_path, rule) as (hub, _peer, admin):
        for path, body in (("users", {"name": "rita"}), ("teams", {"alias": "ops"})):
            assert (await admin.post(f"/api/{path}", json=body)).status_code == 201
        assert (await admin.put("/api/teams/ops/members/rita", json={"role": "member"})).status_code == 200
        made = await admin.post("/api/keys", json={"name": "k", "allow": ["tool:*"], "team": "ops", "user": "rita"})
        async with hub.http(made.json()["key"]) as http:
            assert "peer__echo" in await listed(http)
            assert (await admin.patch("/api/teams/ops", json={"alias": "dev"})).status_code == 200
            assert "peer__echo" not in await listed(http)
            assert (await admin.patch("/api/teams/dev", json={"alias": "ops"})).status_code == 200
            assert "peer__echo" in await listed(http)
