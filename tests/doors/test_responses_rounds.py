"""`/v1/responses` in the loop at models whose provider speaks it: asked in its own words, thoughts carried through all rounds."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from tests.conftest import OpenHub
from tests.doors.responses_desk import SOURCE, WEATHER, Desk, client, kinds, output, streamed
from tests.peers.anthropic_upstream import KEY, Said, anthropic_upstream
from tests.peers.mcp_servers import dual_era
from tests.peers.openai_responses import answer, call, said, thought
from tests.peers.openai_upstream import Turn, openai_upstream

SEARCH = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}}
ECHO = call("peer__echo", '{"text":"a"}', "call_1")
ROUNDS = (
    answer(thought("Let me look.", "sealed-1", "rs_1"), SEARCH, said("Looking.", "msg_1"), ECHO),
    answer(thought("I see.", "sealed-2", "rs_2"), said("It is a.", "msg_2")),
)
THINKS: Any = {"reasoning": {"effort": "low"}, "include": ["reasoning.encrypted_content"]}
ASKS: Any = {**SOURCE, "require_approval": "always"}


@asynccontextmanager
async def desk(hub: OpenHub, *turns: Turn) -> AsyncIterator[Desk]:
    async with openai_upstream(*turns) as upstream, dual_era() as peer:
        model = f"m: {{provider: openai, model: up, base_url: '{upstream.url}', api_key: sk-upstream-000}}"
        async with hub(f"models:\n  {model}\nmcpServers:\n  peer: {{url: '{peer.url}'}}\n") as running:
            await running.services.sync.refresh("peer")
            secret = await running.key("model:m", "tool:*")
            async with client(running.url, secret) as sdk:
                yield Desk(running, sdk, upstream, peer, secret)


def sent(d: Desk, at: int) -> list[dict[str, Any]]:
    assert d.upstream.received[at].path == "/v1/responses"
    items: list[dict[str, Any]] = d.upstream.received[at].body["input"]
    return items


async def test_thoughts_of_a_round_go_back_and_to_the_caller(hub: OpenHub) -> None:
    async with desk(hub, *ROUNDS) as d:
        events = await streamed(d, input="hi", tools=[SOURCE, {"type": "web_search"}], **THINKS)
        shown = ["mcp_list_tools", "reasoning", "web_search_call", "message", "mcp_call", "reasoning", "message"]
        assert [item["type"] for item in output(events)] == shown
        assert [item["encrypted_content"] for item in output(events) if item["type"] == "reasoning"] == [
            "sealed-1",
            "sealed-2",
        ]
        usage = events[-1]["response"]["usage"]
        assert (usage["output_tokens"], usage["output_tokens_details"]["reasoning_tokens"]) == (12, 10)
        assert usage["input_tokens_details"]["cached_tokens"] == 40
        assert "left_out" not in events[-1]["response"]["hub"]
        asked = d.upstream.received[0].body
        assert (asked["store"], asked["include"], asked["reasoning"]) == (False, THINKS["include"], {"effort": "low"})
        assert asked["tools"][0] == {"type": "web_search"}
        told = sent(d, 1)
        assert [item["type"] for item in told[1:]] == [
            "reasoning",
            "web_search_call",
            "message",
            "function_call",
            "function_call_output",
        ]
        assert told[1] == ROUNDS_FIRST[0]
        assert (told[4]["call_id"], told[5]["call_id"]) == ("call_1", "call_1")
        (permit,) = [permit for permit in d.hub.gate.permits if permit.kind == "model"][:1]
        assert (permit.usage.cached_tokens, permit.usage.reasoning_tokens) == (20, 5)


ROUNDS_FIRST = json.loads(ROUNDS[0].error or b"")["output"]


async def test_the_whole_answer_says_the_same(hub: OpenHub) -> None:
    async with desk(hub, *ROUNDS, *ROUNDS) as d:
        events = await streamed(d, input="hi", tools=[SOURCE], **THINKS)
        whole = await d.sdk.responses.create(model="m", input="hi", tools=[SOURCE], **THINKS)
        strip = [{k: v for k, v in item.items() if k != "id"} for item in output(events)]
        assert [{k: v for k, v in item.items() if k != "id"} for item in whole.to_dict()["output"]] == strip  # type: ignore[attr-defined]
        assert sent(d, 1) == sent(d, 3)


async def test_thoughts_of_a_kept_response_are_told_when_it_is_continued(hub: OpenHub) -> None:
    async with desk(hub, *ROUNDS, answer(said("more"))) as d:
        first = await d.sdk.responses.create(model="m", input="hi", tools=[SOURCE], **THINKS)
        await d.sdk.responses.create(model="m", input="go on", previous_response_id=first.id, tools=[SOURCE], **THINKS)
        told = [item.get("encrypted_content") or item["type"] for item in sent(d, 2)]
        assert told == [
            "message",
            "sealed-1",
            "web_search_call",
            "message",
            "function_call",
            "function_call_output",
            "sealed-2",
            "message",
            "message",
        ]


async def test_without_a_store_the_callers_own_items_carry_the_thoughts(hub: OpenHub) -> None:
    """As Codex does it: nothing is stored anywhere, and all items come back."""
    async with desk(hub, *ROUNDS, answer(said("more"))) as d:
        first = await d.sdk.responses.create(model="m", input="hi", store=False, tools=[SOURCE], **THINKS)
        items: Any = [{"role": "user", "content": "hi"}, *(item.to_dict() for item in first.output), *GO_ON]
        await d.sdk.responses.create(model="m", input=items, store=False, tools=[SOURCE], **THINKS)
        told = sent(d, 2)
        assert [item["encrypted_content"] for item in told if item["type"] == "reasoning"] == ["sealed-1", "sealed-2"]


GO_ON: Any = [{"role": "user", "content": "go on"}]


async def test_a_thought_that_is_not_encrypted_is_shown_and_not_told_again(hub: OpenHub) -> None:
    """The provider stored nothing, so that its id says nothing there."""
    async with desk(hub, answer(thought("Hm.", None), ECHO), answer(said("done"))) as d:
        events = await streamed(d, input="hi", tools=[SOURCE])
        assert [item["type"] for item in output(events)][1:] == ["reasoning", "mcp_call", "message"]
        assert "include" not in d.upstream.received[0].body
        assert [item["type"] for item in sent(d, 1)] == ["message", "function_call", "function_call_output"]


async def test_a_background_response_is_asked_in_its_own_words(hub: OpenHub) -> None:
    async with desk(hub, answer(thought("Hm.", "sealed"), said("done"))) as d:
        made = await d.sdk.responses.create(model="m", input="hi", background=True, **THINKS)
        run = d.hub.services.llm.responses._runs.find(made.id)
        if run is not None and run.task is not None:
            await run.task
        found = await d.sdk.responses.retrieve(made.id)
        assert (found.status, found.output_text, found.output[0].type) == ("completed", "done", "reasoning")
        assert (sent(d, 0), d.upstream.received[0].body["store"]) == (
            [{"type": "message", "role": "user", "status": "completed", "content": CONTENT}],
            False,
        )


CONTENT = [{"type": "input_text", "text": "hi"}]


async def test_a_run_that_waits_for_approval_keeps_its_thoughts(hub: OpenHub) -> None:
    async with desk(hub, *ROUNDS) as d:
        first = await d.sdk.responses.create(model="m", input="hi", tools=[ASKS], **THINKS)
        assert [item.type for item in first.output][-1] == "mcp_approval_request"
        yes: Any = {"type": "mcp_approval_response", "approval_request_id": first.output[-1].id, "approve": True}
        asked: Any = {"previous_response_id": first.id, "tools": [ASKS]}
        second = await d.sdk.responses.create(model="m", input=[yes], **asked)
        assert [item.type for item in second.output] == ["mcp_call", "reasoning", "message"]
        assert sent(d, 1)[1] == ROUNDS_FIRST[0]


async def test_own_calls_and_what_only_a_caller_can_do_end_the_answer(hub: OpenHub) -> None:
    shell = {"id": "sh_1", "type": "local_shell_call", "call_id": "call_s", "status": "completed"}
    shell["action"] = {"type": "exec", "command": ["ls"], "env": {}}  # type: ignore[assignment]
    turn = answer(thought("Hm.", "sealed"), ECHO, call("weather", "{}", "call_2"), shell)
    async with desk(hub, turn, answer(said("done"))) as d:
        tools: Any = [SOURCE, WEATHER, {"type": "local_shell"}]
        first = await d.sdk.responses.create(model="m", input="hi", tools=tools, **THINKS)
        assert len(d.upstream.received) == 1
        own = [item for item in first.output if item.type in ("function_call", "local_shell_call")]
        assert [item.call_id for item in own] == ["call_2", "call_s"]
        results: Any = [
            {"type": "function_call_output", "call_id": "call_2", "output": "sun"},
            {"type": "local_shell_call_output", "id": "sh_1", "output": "x"},
        ]
        asked: Any = {"previous_response_id": first.id, "tools": tools}
        await d.sdk.responses.create(model="m", input=results, **asked)
        assert [item["type"] for item in sent(d, 1)] == [
            "message",
            "reasoning",
            "function_call",
            "function_call_output",
            "function_call",
            "local_shell_call",
            "function_call_output",
            "local_shell_call_output",
        ]


async def test_functions_in_namespaces_and_in_items_are_the_callers_own(hub: OpenHub) -> None:
    """As clients have them that let the model search their tools."""
    found, grouped = call("later", "{}", "call_1"), {**call("look", "{}", "call_2"), "namespace": "crm"}
    async with desk(hub, answer(ECHO | {"call_id": "call_0"}, found, grouped), answer(said("done"))) as d:
        look = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
        tools: Any = [SOURCE, {"type": "namespace", "name": "crm", "description": "customers", "tools": [look]}]
        items: Any = [{"type": "additional_tools", "role": "developer", "tools": [{**look, "name": "later"}]}, *GO_ON]
        events = await streamed(d, input=items, tools=tools)
        own = [item for item in output(events) if item["type"] == "function_call"]
        assert [(item["name"], item.get("namespace")) for item in own] == [("later", None), ("look", "crm")]
        assert [name for name, _ in d.peer.calls] == ["echo"]
        results: Any = [{"type": "function_call_output", "call_id": item["call_id"], "output": "x"} for item in own]
        asked: Any = {"previous_response_id": events[-1]["response"]["id"], "tools": tools}
        await d.sdk.responses.create(model="m", input=results, **asked)
        assert [item.get("namespace") for item in sent(d, 1) if item["type"] == "function_call"] == [None, None, "crm"]


async def test_a_forced_tool_holds_in_the_first_round_only(hub: OpenHub) -> None:
    async with desk(hub, *ROUNDS) as d:
        choice: Any = {"type": "mcp", "server_label": "here", "name": "echo"}
        await d.sdk.responses.create(model="m", input="hi", tools=[SOURCE], tool_choice=choice)
        assert d.upstream.received[0].body["tool_choice"] == {"type": "function", "name": "peer__echo"}
        assert "tool_choice" not in d.upstream.received[1].body


@pytest.mark.parametrize("stream", [True, False])
async def test_a_round_that_fails_ends_the_response_with_the_providers_reason(hub: OpenHub, stream: bool) -> None:
    failed = answer(status="failed", error={"code": "server_error", "message": "no more today"})
    async with desk(hub, ROUNDS[0], failed) as d:
        if not stream:
            with pytest.raises(openai.APIStatusError, match="no more today"):
                await d.sdk.responses.create(model="m", input="hi", tools=[SOURCE])
            return
        events = await streamed(d, input="hi", tools=[SOURCE])
        assert kinds(events)[-1] == "failed"
        assert "no more today" in events[-1]["response"]["error"]["message"]


async def test_a_stream_that_is_cut_keeps_what_was_said(hub: OpenHub) -> None:
    async with desk(hub, ROUNDS[0], answer(said("It is"), ends=False)) as d:
        raw = d.upstream.turns[1].raw or ()
        d.upstream.turns[1].raw = raw[:-3]  # in the middle of the message
        events = await streamed(d, input="hi", tools=[SOURCE])
        assert kinds(events)[-1] == "failed"
        last = output(events)[-1]
        assert (last["content"][0]["text"], last["status"]) == ("It is", "incomplete")


async def test_an_incomplete_answer_says_why(hub: OpenHub) -> None:
    cut = answer(said("It is"), status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    async with desk(hub, ROUNDS[0], cut) as d:
        events = await streamed(d, input="hi", tools=[SOURCE])
        assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


@pytest.mark.parametrize("wire", ["chat", "messages"])
async def test_what_a_provider_of_another_format_cannot_be_told_is_said_in_the_answer(hub: OpenHub, wire: str) -> None:
    async with openai_upstream(Turn("hi")) as chats, anthropic_upstream(Said("hi")) as messages:
        url, key = (chats.url, "sk-upstream-000") if wire == "chat" else (messages.url, KEY)
        provider = "deepseek" if wire == "chat" else "anthropic"
        yaml = f"models:\n  m: {{provider: {provider}, model: up, base_url: '{url}', api_key: {key}}}\n"
        async with hub(yaml) as running, client(running.url, await running.key("model:m")) as sdk:
            items: Any = [thought("Hm.", "sealed"), {"role": "user", "content": "go on"}]
            made: Any = await sdk.responses.create(model="m", input=items, store=False, include=THINKS["include"])
            assert made.hub["left_out"] == ["include: reasoning.encrypted_content", "input: reasoning"]
            plain: Any = await sdk.responses.create(model="m", input="hi", store=False)
            assert "left_out" not in plain.hub
