"""Chats whose tool calls wait for approval, by the official client, over a real MCP server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.conftest import ADMIN_KEY, Hub, OpenHub
from tests.doors.test_chat import listed
from tests.peers.mcp_servers import Peer, dual_era
from tests.peers.openai_upstream import OpenAIUpstream, Turn, openai_upstream

BANK = ("look", "pay", "add")
ASK: list[Any] = [{"role": "user", "content": "pay, please"}]
PAY = ("bank__pay", '{"text":"5 to eve"}')
LOOK = ("bank__look", '{"text":"who"}')
ADD = ("bank__add", '{"text":"bob"}')
OWN: dict[str, Any] = {"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}


def source(demand: Any = None) -> dict[str, Any]:
    tool = {"type": "mcp", "server_label": "bank", "server_url": "hub/mcp/bank"}
    return tool if demand is None else {**tool, "require_approval": demand}


@dataclass
class Desk:
    """A hub with a scripted model `m`, a bank, a customer and a boss."""

    running: Hub
    bank: Peer
    upstream: OpenAIUpstream
    sdk: openai.AsyncOpenAI
    boss: httpx.AsyncClient

    async def ask(self, demand: Any = None, *, hub: Any = None, sdk: Any = None, **members: Any) -> Any:
        body = {"model": "m", "messages": ASK, "tools": [source(demand)], **members}
        more = {} if hub is None else {"extra_body": {"hub": hub}}
        return await (sdk or self.sdk).chat.completions.create(**body, **more)

    async def pending(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self.boss.get("/api/approvals")).json()["items"]
        return items

    async def decide(self, name: str, decision: str = "approve", **members: Any) -> httpx.Response:
        return await self.boss.post(f"/api/approvals/{name}", json={"decision": decision, **members})


@asynccontextmanager
async def opened(
    hub: OpenHub, *turns: Turn, rule: str = "", policy: dict[str, Any] | None = None, guards: Any = None, **key: Any
) -> AsyncIterator[Desk]:
    async with dual_era(tools=BANK) as bank, openai_upstream(*turns) as upstream:
        yaml = f"""
models:
  m: {{provider: openai, model: up, base_url: '{upstream.url}', api_key: sk-upstream-key-000}}
  d: {{provider: deepseek, model: up, base_url: '{upstream.url}', api_key: sk-upstream-key-000}}
mcpServers:
  bank: {{url: '{bank.url}'{rule}}}
policy: {json.dumps([] if policy is None else [policy])}
guards: {json.dumps(guards or {})}
"""
        async with hub(yaml) as running:
            await listed(running.services.registry)
            secret = await running.key("model:*", "tool:*", **key)
            boss = await running.key("admin:approvals")
            async with (
                openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=secret, max_retries=0, timeout=30) as sdk,
                running.http(boss) as http,
            ):
                yield Desk(running, bank, upstream, sdk, http)


async def gather(stream: Any) -> tuple[str, dict[str, Any], list[str]]:
    """What a stream said, its hub members together, and its finish reasons."""
    text, hub, reasons = "", {}, []
    async for chunk in stream:
        for member, value in (getattr(chunk, "hub", None) or {}).items():
            hub[member] = [*hub.get(member, []), *value] if isinstance(value, list) else value
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
            assert not choice.delta.tool_calls
    return text, hub, reasons


async def said(answer: Any, *, stream: bool) -> tuple[str, dict[str, Any], list[str]]:
    if stream:
        return await gather(answer)
    (choice,) = answer.choices
    assert not choice.message.tool_calls
    return choice.message.content or "", answer.hub, [choice.finish_reason]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_waits_for_its_caller_and_is_made_once(hub: OpenHub, stream: bool) -> None:
    turns = [Turn("Let me see.", calls=(LOOK, PAY)), Turn("Paid.")]
    async with opened(hub, *turns) as d:
        demand = {"always": {"tool_names": ["pay"]}}
        first = await said(await d.ask(demand, stream=stream), stream=stream)
        assert first[0].strip() == "Let me see."
        assert first[2] == ["stop"]
        (waiting,) = first[1]["approvals"]
        assert (waiting["server"], waiting["tool"], waiting["arguments"]) == ("bank", "pay", {"text": "5 to eve"})
        assert waiting["answerer"] == "caller"
        assert waiting["expires_at"].endswith("Z")
        assert [one["tool"] for one in first[1]["tool_calls"]] == ["look"]  # what needs none is not held up
        assert [name for name, _ in d.bank.calls] == ["look"]
        assert [one["id"] for one in await d.pending()] == [waiting["id"]]
        again = await d.ask(demand, stream=stream, hub={"approval_id": waiting["id"]})
        text, report, reasons = await said(again, stream=stream)
        assert (text.strip(), reasons) == ("Paid.", ["stop"])
        assert [one["tool"] for one in report["tool_calls"]] == ["pay"]
        assert d.bank.calls == [("look", {"text": "who"}), ("pay", {"text": "5 to eve"})]
        assert len(report["usage"]["rounds"]) == 1  # what the first answer accounted for is not counted again
        messages = d.upstream.received[1].body["messages"]
        assert [one["role"] for one in messages] == ["user", "assistant", "tool", "tool"]
        assert [call["id"] for call in messages[1]["tool_calls"]] == [one["tool_call_id"] for one in messages[2:]]
        assert "5 to eve" in messages[3]["content"]
        with pytest.raises(openai.ConflictError):
            await d.ask(demand, stream=stream, hub={"approval_id": waiting["id"]})
        assert len(d.bank.calls) == 2
        used = (await d.boss.get("/api/approvals", params={"state": "used"})).json()["items"]
        assert [one["id"] for one in used] == [waiting["id"]]


async def test_a_denied_call_is_not_made_and_the_model_hears_why(hub: OpenHub) -> None:
    async with opened(hub, Turn(calls=(PAY,)), Turn("Then not.")) as d:
        (waiting,) = (await d.ask("always")).hub["approvals"]
        denied = {"approval_id": waiting["id"], "approve": False, "reason": "too dear"}
        answer = await d.ask("always", hub=denied)
        assert answer.choices[0].message.content == "Then not."
        assert d.bank.calls == []
        assert "denied: too dear" in d.upstream.received[1].body["messages"][-1]["content"]
        assert "error" in answer.hub["tool_calls"][0]


@pytest.mark.parametrize(
    ("demand", "waits"),
    [
        (None, []),
        ("never", []),
        ("always", ["look", "pay", "add"]),
        ({"always": {"tool_names": ["pay", "bank__add"]}}, ["pay", "add"]),
        ({"never": {"tool_names": ["l*"]}}, ["pay", "add"]),
        ({"never": {"read_only": True}}, ["pay", "add"]),
        ({"never": {"tool_names": ["*"]}, "always": {"tool_names": ["pay"]}}, ["pay"]),
    ],
    ids=str,
)
async def test_a_source_says_which_calls_need_approval(hub: OpenHub, demand: Any, waits: list[str]) -> None:
    async with opened(hub, Turn(calls=(LOOK, PAY, ADD)), Turn("ok")) as d:
        answer = await d.ask(demand)
        assert [one["tool"] for one in answer.hub.get("approvals", ())] == waits
        assert sorted(name for name, _ in d.bank.calls) == sorted(set(BANK) - set(waits))


@pytest.mark.parametrize(
    ("rule", "key", "waits"),
    [
        (", require_approval: always", {}, ["look", "pay", "add"]),
        (", require_approval: destructive", {}, ["pay"]),
        (", require_approval: ['pa*']", {}, ["pay"]),
        ("", {"require_approval": "always"}, ["look", "pay", "add"]),
        ("", {"require_approval": "destructive"}, ["pay"]),
        ("", {"require_approval": ("bank__a*",)}, ["add"]),
        (", require_approval: ['look']", {"require_approval": ("bank__a*",)}, ["look", "add"]),
    ],
    ids=str,
)
@pytest.mark.attack("2.1/11")
async def test_no_request_goes_below_the_floor_of_a_server_or_a_key(
    hub: OpenHub, rule: str, key: dict[str, Any], waits: list[str]
) -> None:
    async with opened(hub, Turn(calls=(LOOK, PAY, ADD)), Turn("ok"), rule=rule, **key) as d:
        answer = await d.ask("never")
        assert [(one["tool"], one["answerer"]) for one in answer.hub["approvals"]] == [(one, "admin") for one in waits]
        assert sorted(name for name, _ in d.bank.calls) == sorted(set(BANK) - set(waits))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_floor_is_answered_in_the_inbox_which_goes_on_with_the_run(hub: OpenHub, stream: bool) -> None:
    async with opened(hub, Turn(calls=(PAY,)), Turn("Paid it."), rule=", require_approval: destructive") as d:
        _, report, _ = await said(await d.ask(stream=stream), stream=stream)
        (waiting,) = report["approvals"]
        go_on = {"approval_id": waiting["id"]}
        _, still, reasons = await said(await d.ask(stream=stream, hub=go_on), stream=stream)
        assert ([one["id"] for one in still["approvals"]], reasons) == ([waiting["id"]], ["stop"])
        with pytest.raises(openai.PermissionDeniedError):
            await d.ask(stream=stream, hub={**go_on, "approve": True})
        assert (await d.pending())[0]["state"] == "pending"
        assert d.bank.calls == []
        assert (await d.decide(waiting["id"])).status_code == 200
        for _ in range(2):  # the answer is there, as often as it is asked for
            text, report, reasons = await said(await d.ask(stream=stream, hub=go_on), stream=stream)
            assert (text.strip(), reasons) == ("Paid it.", ["stop"])
            assert [one["tool"] for one in report["tool_calls"]] == ["pay"]
        assert d.bank.calls == [("pay", {"text": "5 to eve"})]
        assert len(d.upstream.received) == 2
        async with d.running.http(ADMIN_KEY) as admin:
            audited = (await admin.get("/api/usage", params={"by": "kind,outcome"})).json()["items"]
        assert [(one["outcome"], one["calls"]) for one in audited if one["kind"] == "approval"] == [
            ("error", 1),
            ("ok", 1),
        ]


async def test_a_run_ends_in_the_background_before_its_caller_comes(hub: OpenHub) -> None:
    async with opened(hub, Turn(calls=(PAY,)), Turn("Paid."), rule=", require_approval: always") as d:
        (waiting,) = (await d.ask()).hub["approvals"]
        await d.decide(waiting["id"])
        await d.upstream.came(2)
        assert d.bank.calls == [("pay", {"text": "5 to eve"})]
        answer = await d.ask(hub={"approval_id": waiting["id"]})
        assert answer.choices[0].message.content == "Paid."


async def test_who_comes_in_the_middle_reads_along(hub: OpenHub) -> None:
    hold = asyncio.Event()
    turns = [Turn(calls=(PAY,)), Turn("one two three", hold_last=hold)]
    async with opened(hub, *turns, rule=", require_approval: always") as d, asyncio.timeout(30):
        _, report, _ = await gather(await d.ask(stream=True))
        (waiting,) = report["approvals"]
        await d.decide(waiting["id"])
        stream = await d.ask(stream=True, hub={"approval_id": waiting["id"]})
        text = ""
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
            if "one" in text:
                hold.set()
        assert text.split() == ["one", "two", "three"]


async def test_an_error_of_a_run_in_the_background_is_its_callers_answer(hub: OpenHub) -> None:
    turns = [
        Turn(calls=(PAY,)),
        Turn(status=400, error=b'{"error":{"message":"no more","type":"invalid_request_error"}}'),
    ]
    async with opened(hub, *turns, rule=", require_approval: always") as d:
        (waiting,) = (await d.ask()).hub["approvals"]
        await d.decide(waiting["id"])
        with pytest.raises(openai.BadRequestError, match="no more"):
            await d.ask(hub={"approval_id": waiting["id"]})


async def test_a_run_waits_again_when_its_model_asks_again(hub: OpenHub) -> None:
    turns = [Turn(calls=(PAY,)), Turn(calls=(("bank__pay", '{"text":"6 to eve"}'),)), Turn("Done.")]
    async with opened(hub, *turns) as d:
        (first,) = (await d.ask("always")).hub["approvals"]
        (second,) = (await d.ask("always", hub={"approval_id": first["id"]})).hub["approvals"]
        assert second["arguments"] == {"text": "6 to eve"}
        answer = await d.ask("always", hub={"approval_id": second["id"]})
        assert answer.choices[0].message.content == "Done."
        assert [arguments["text"] for _, arguments in d.bank.calls] == ["5 to eve", "6 to eve"]
        assert [one["role"] for one in d.upstream.received[2].body["messages"]] == ["user", *["assistant", "tool"] * 2]


async def test_several_calls_are_answered_one_by_one_or_together(hub: OpenHub) -> None:
    async with opened(hub, Turn(calls=(PAY, ADD, LOOK)), Turn("Done.")) as d:
        pay, add, look = ((await d.ask("always")).hub)["approvals"]
        still = await d.ask("always", hub={"approval_id": add["id"], "approve": False})
        assert [one["id"] for one in still.hub["approvals"]] == [pay["id"], look["id"]]
        assert d.bank.calls == []
        answer = await d.ask("always", hub={"approval_id": [pay["id"], look["id"]]})
        assert answer.choices[0].message.content == "Done."
        assert sorted(name for name, _ in d.bank.calls) == ["look", "pay"]


async def test_another_request_does_not_go_on_with_the_run(hub: OpenHub) -> None:
    async with opened(hub, Turn(calls=(PAY,)), Turn("Paid.")) as d:
        (waiting,) = (await d.ask("always")).hub["approvals"]
        for changed in ({"messages": [{"role": "user", "content": "other"}]}, {"stream": True}, {"temperature": 1}):
            with pytest.raises(openai.BadRequestError, match="another"):
                await d.ask("always", hub={"approval_id": waiting["id"]}, **changed)
        with pytest.raises(openai.BadRequestError, match="another"):
            await d.ask("never", hub={"approval_id": waiting["id"]})
        assert (await d.pending())[0]["id"] == waiting["id"]
        assert d.bank.calls == []


async def test_another_key_finds_nothing_to_go_on_with(hub: OpenHub) -> None:
    async with opened(hub, Turn(calls=(PAY,)), Turn("Paid.")) as d:
        (waiting,) = (await d.ask("always")).hub["approvals"]
        secret = await d.running.key("model:*", "tool:*", "admin:approvals")
        async with openai.AsyncOpenAI(base_url=f"{d.running.url}/v1", api_key=secret, max_retries=0) as other:
            with pytest.raises(openai.NotFoundError):
                await d.ask("always", hub={"approval_id": waiting["id"]}, sdk=other)
            with pytest.raises(openai.NotFoundError):
                await d.ask("always", hub={"approval_id": "mcpr_none"}, sdk=other)
        assert (await d.pending())[0]["state"] == "pending"
        async with d.running.http(ADMIN_KEY) as admin:
            noted = (await admin.get("/api/usage", params={"by": "kind,outcome"})).json()["items"]
        assert [(one["outcome"], one["calls"]) for one in noted if one["kind"] == "approval"] == [("error", 1)]


async def test_the_key_that_asks_does_not_approve_for_itself_in_the_inbox(hub: OpenHub) -> None:
    async with opened(hub, Turn(calls=(PAY,)), Turn("Paid."), rule=", require_approval: always") as d:
        secret = await d.running.key("model:*", "tool:*", "admin:approvals")
        async with openai.AsyncOpenAI(base_url=f"{d.running.url}/v1", api_key=secret, max_retries=0) as sdk:
            (waiting,) = (await d.ask(sdk=sdk)).hub["approvals"]
        async with d.running.http(secret) as own:
            refused = await own.post(f"/api/approvals/{waiting['id']}", json={"decision": "approve"})
        assert refused.status_code == 403
        assert d.bank.calls == []


async def test_an_approval_does_not_hold_under_other_rules(hub: OpenHub) -> None:
    async with opened(hub, Turn(calls=(PAY,)), Turn("Then not.")) as d:
        (waiting,) = (await d.ask("always")).hub["approvals"]
        (key, _) = await d.running.services.keys.all_live()
        async with d.running.http(ADMIN_KEY) as admin:
            await admin.patch(f"/api/keys/{key.name}", json={"require_approval": ["bank__pay"]})
        answer = await d.ask("always", hub={"approval_id": waiting["id"]})
        assert answer.choices[0].message.content == "Then not."
        assert "another call" in answer.hub["tool_calls"][0]["error"]
        assert d.bank.calls == []


async def test_a_key_that_was_revoked_does_not_go_on(hub: OpenHub) -> None:
    async with opened(hub, Turn(calls=(PAY,)), Turn("Paid."), rule=", require_approval: always") as d:
        (waiting,) = (await d.ask()).hub["approvals"]
        (key, _) = await d.running.services.keys.all_live()
        await d.running.services.keys.revoke(key.name)
        await d.decide(waiting["id"])
        await d.boss.get("/api/approvals")
        assert d.bank.calls == []
        assert len(d.upstream.received) == 1


async def test_what_has_expired_is_neither_approved_nor_gone_on_with(hub: OpenHub) -> None:
    async with opened(hub, Turn(calls=(PAY,)), Turn("Paid."), rule=", require_approval: always") as d:
        (waiting,) = (await d.ask()).hub["approvals"]

        def age(session: Any) -> None:
            for table in ("tool_approvals", "kept"):
                session.connection().exec_driver_sql(f"UPDATE {table} SET expires_at = 1")

        await d.running.services.database.write(age)
        assert (await d.decide(waiting["id"])).status_code == 409
        assert (await d.pending()) == []
        with pytest.raises(openai.ConflictError, match="expired"):
            await d.ask(hub={"approval_id": waiting["id"]})
        assert d.bank.calls == []


async def test_a_call_that_needs_approval_is_not_made_beside_calls_of_the_callers_own(hub: OpenHub) -> None:
    async with opened(hub, Turn(calls=(PAY, ("mine", "{}"))), Turn("ok")) as d:
        answer = await d.ask(tools=[source("always"), OWN])
        assert [call.function.name for call in answer.choices[0].message.tool_calls] == ["mine"]
        assert "approvals" not in answer.hub
        assert "by itself" in answer.hub["tool_calls"][0]["error"]
        assert d.bank.calls == []


@pytest.mark.parametrize(
    "bad",
    [{"approval_id": 1}, {"approval_id": []}, {"approval_id": ["x", 1]}, {"approval_id": "x", "approve": "yes"}],
    ids=str,
)
async def test_what_is_no_answer_is_a_400(hub: OpenHub, bad: dict[str, Any]) -> None:
    async with opened(hub, Turn("no")) as d:
        with pytest.raises(openai.BadRequestError, match="hub"):
            await d.ask(hub=bad)


async def rows(d: Desk) -> dict[str, int]:
    """How many rows each table has."""

    def count(session: Any) -> dict[str, int]:
        run = session.connection().exec_driver_sql
        tables = [name for (name,) in run("SELECT name FROM sqlite_master WHERE type = 'table'").all()]
        return {name: run(f'SELECT COUNT(*) FROM "{name}"').scalar() for name in tables}

    await d.running.services.database.committed()
    return await d.running.services.database.read(count)


@pytest.mark.parametrize("in_inbox", [False, True])
async def test_what_is_not_to_be_stored_is_nowhere_at_rest(hub: OpenHub, tmp_path: Path, in_inbox: bool) -> None:
    """No row of it, sealed or not, but what was used; its approval is in the inbox all the same, and goes on with the run."""
    rule = ", require_approval: always" if in_inbox else ""
    pays = Turn("quagga", calls=(("bank__pay", '{"text":"zanzibar"}'),))
    async with opened(hub, pays, pays, Turn("Paid."), rule=rule) as d:
        (kept,) = (await d.ask("always")).hub["approvals"]
        before = await rows(d)
        (waiting,) = (await d.ask("always", store=False)).hub["approvals"]
        after = await rows(d)
        assert {name for name in after if after[name] != before[name]} <= {"usage"}
        assert [one["id"] for one in await d.pending()] == [kept["id"], waiting["id"]]
        pages = [(await d.boss.get(f"/api/approvals?limit=1{more}")).json() for more in ("", f"&after={kept['id']}")]
        assert [page["items"][0]["arguments"] for page in pages] == [{"text": "zanzibar"}] * 2
        assert [page["next"] for page in pages] == [kept["id"], None]
        for file in tmp_path.glob("hubbub.db*"):
            data = file.read_bytes()
            assert not [word for word in (waiting["id"], "quagga", "zanzibar") if word.encode() in data], file
        if in_inbox:
            assert (await d.decide(waiting["id"])).json()["state"] == "approved"
            assert (await d.decide(waiting["id"])).status_code == 409
        answer = await d.ask("always", store=False, hub={"approval_id": waiting["id"]})
        assert answer.choices[0].message.content == "Paid."
        assert d.bank.calls == [("pay", {"text": "zanzibar"})]
        assert {name for name in after if (await rows(d))[name] != after[name]} <= {"usage", "audit", "sqlite_sequence"}


async def tell(d: Desk, *, stream: bool, hub: Any = None) -> tuple[list[Any], str, dict[str, Any]]:
    """Ask at Anthropic's door by its client: the blocks, the stop reason, and the hub's report."""
    more = {"extra_body": {"hub": hub}} if hub else {}
    tools: list[Any] = [source("always")]
    async with anthropic.AsyncAnthropic(base_url=d.running.url, api_key=d.sdk.api_key, max_retries=0) as client:
        asked: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": ASK, "tools": tools, **more}
        if not stream:
            message = await client.beta.messages.create(**asked)
            return list(message.content), message.stop_reason or "", message.hub  # type: ignore[attr-defined]
        report: dict[str, Any] = {}
        async with client.beta.messages.stream(**asked) as events:
            async for event in events:
                report |= getattr(event, "hub", None) or {}
            message = await events.get_final_message()
        return list(message.content), message.stop_reason or "", report


@pytest.mark.parametrize("in_inbox", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_anthropics_door_waits_and_goes_on_likewise(hub: OpenHub, stream: bool, in_inbox: bool) -> None:
    rule = ", require_approval: always" if in_inbox else ""
    async with opened(hub, Turn("Let me see.", calls=(PAY,)), Turn("Paid."), rule=rule) as d:
        blocks, reason, report = await tell(d, stream=stream)
        assert ([block.type for block in blocks], reason) == (["text"], "end_turn")
        (waiting,) = report["approvals"]
        if in_inbox:
            _, reason, report = await tell(d, stream=stream, hub={"approval_id": waiting["id"]})
            assert (report["approvals"], reason) == ([waiting], "end_turn")
            await d.decide(waiting["id"])
        blocks, reason, report = await tell(d, stream=stream, hub={"approval_id": waiting["id"]})
        assert [block.type for block in blocks] == ["mcp_tool_use", "mcp_tool_result", "text"]
        assert blocks[0].input == {"text": "5 to eve"}
        assert blocks[1].tool_use_id == blocks[0].id
        assert (blocks[2].text.strip(), reason) == ("Paid.", "end_turn")
        assert d.bank.calls == [("pay", {"text": "5 to eve"})]


async def test_the_bytes_of_what_a_key_lets_wait_are_bounded(hub: OpenHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm.parking.MAX_BYTES", 20_000)
    large: list[Any] = [{"role": "user", "content": "x" * 15_000}]
    async with opened(hub, Turn(calls=(PAY,))) as d:
        assert (await d.ask("always", messages=large)).hub["approvals"]
        with pytest.raises(openai.RateLimitError, match="20000 bytes"):
            await d.ask("always", messages=large)
        assert len(await d.pending()) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_rule_about_arguments_holds_only_the_calls_that_it_is_about(hub: OpenHub, stream: bool) -> None:
    rule = {
        "name": "large",
        "effect": "require_approval",
        "entries": ["tool:bank__pay"],
        "when": "arguments.text != '1 to bob'",
    }
    small = ("bank__pay", '{"text":"1 to bob"}')
    async with opened(hub, Turn(calls=(small, PAY)), Turn("Paid."), policy=rule) as d:
        first = await said(await d.ask("never", stream=stream), stream=stream)
        (waiting,) = first[1]["approvals"]
        assert (waiting["arguments"], waiting["answerer"]) == ({"text": "5 to eve"}, "admin")
        assert d.bank.calls == [("pay", {"text": "1 to bob"})]
        assert (await d.decide(waiting["id"])).status_code == 200
        last = await said(await d.ask("never", stream=stream, hub={"approval_id": waiting["id"]}), stream=stream)
        assert last[0].strip() == "Paid."
        assert d.bank.calls == [("pay", {"text": "1 to bob"}), ("pay", {"text": "5 to eve"})]
        assert await d.pending() == []
