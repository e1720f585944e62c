"""Streams of the three LLM doors, parsed by the official SDKs in strict mode with their stream helpers: one lifecycle each.

Every case is asked of a model whose provider speaks chat completions, and of one whose provider speaks the door's own format.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import anthropic
import openai
import pytest

from tests.conftest import Hub, OpenHub
from tests.peers.anthropic_upstream import KEY, Said, anthropic_upstream
from tests.peers.mcp_servers import Peer, dual_era
from tests.peers.openai_responses import answer, call, said
from tests.peers.openai_upstream import Turn, openai_upstream

A, B, C = (("peer__echo", {"text": text}) for text in "abc")
FAILS = ("peer__fail", {"text": "x"})
OWN = ("weather", {"city": "Graz"})


class Round(NamedTuple):
    """What the model says in one round, and how that ends."""

    text: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    how: str = "whole"
    """`refused`: with an error before it begins; `cut`: in the middle."""


@dataclass
class Told:
    """What the SDK made of a stream."""

    text: str = ""
    events: list[Any] = field(default_factory=list)
    hub: dict[str, Any] = field(default_factory=dict)
    """What the hub said of it beside."""
    own: list[tuple[str, Any]] = field(default_factory=list)
    """Calls of the caller's own tools."""
    results: int = 0
    """Calls of the hub's that ended."""
    error: str | None = None


@dataclass(frozen=True)
class Case:
    """One script, and what its caller has to see."""

    rounds: tuple[Round, ...]
    text: str
    results: int = 0
    own: tuple[tuple[str, Any], ...] = ()
    ends_in_error: bool = False
    approval: bool = False


CASES = {
    "text": Case((Round("Hello there."),), "Hello there."),
    "one round": Case((Round("Looking.", (A,)), Round("Done.")), "Looking. Done.", results=1),
    "three rounds": Case(
        (Round("One.", (A,)), Round("Two.", (B,)), Round("Three.", (C,)), Round("Done.")),
        "One. Two. Three. Done.",
        results=3,
    ),
    "parallel calls": Case((Round("Both.", (A, B)), Round("Done.")), "Both. Done.", results=2),
    "mixed own tools": Case((Round("Both.", (A, OWN)),), "Both.", results=1, own=(OWN,)),
    "approval": Case((Round("May I?", (A,)), Round("Done.")), "May I? Done.", results=1, approval=True),
    "failure": Case((Round("Looking.", (FAILS,)), Round(how="refused")), "Looking.", results=1, ends_in_error=True),
    "cut": Case(
        (Round("Looking.", (A,)), Round("I see it and", how="cut")), "Looking. I see it", results=1, ends_in_error=True
    ),
}


def chat_turn(one: Round) -> Turn:
    if one.how == "refused":
        return Turn(status=400, error=b'{"error": {"message": "no more of this", "type": "invalid_request_error"}}')
    calls = tuple((name, json.dumps(arguments)) for name, arguments in one.calls)
    return Turn(one.text, calls, cut_after=4 if one.how == "cut" else None)


def responses_turn(one: Round) -> Turn:
    if one.how == "refused":
        return chat_turn(one)
    calls = [call(name, json.dumps(given), f"call_{number}") for number, (name, given) in enumerate(one.calls)]
    turn = answer(*([said(one.text)] if one.text else []), *calls)
    return Turn(raw=(turn.raw or ())[:7]) if one.how == "cut" else turn


def messages_turn(one: Round) -> Said:
    if one.how == "refused":
        return Said(status=400, error=("invalid_request_error", "no more of this"))
    return Said(one.text, calls=one.calls, cut_after=6 if one.how == "cut" else None)


@asynccontextmanager
async def scripted(hub: OpenHub, door: str, case: Case) -> AsyncIterator[tuple[Hub, Peer]]:
    """A hub with the models `common` and `native`."""
    async with AsyncExitStack() as stack:
        common = await stack.enter_async_context(openai_upstream(*map(chat_turn, case.rounds)))
        peer = await stack.enter_async_context(dual_era())
        if door == "messages":
            theirs: Any = anthropic_upstream(*map(messages_turn, case.rounds))
            native = ("anthropic", (await stack.enter_async_context(theirs)).url, KEY)
        else:
            turns = [responses_turn(one) if door == "responses" else chat_turn(one) for one in case.rounds]
            native = ("openai", (await stack.enter_async_context(openai_upstream(*turns))).url, "sk-upstream-000")
        places = {"common": ("deepseek", common.url, "sk-upstream-000"), "native": native}
        models = "".join(
            f"  {name}: {{provider: {provider}, model: up, base_url: '{url}', api_key: {key}}}\n"
            for name, (provider, url, key) in places.items()
        )
        running = await stack.enter_async_context(
            hub(f"models:\n{models}mcpServers:\n  peer: {{url: '{peer.url}', require_approval: [pay]}}\n")
        )
        await running.services.sync.refresh("peer")
        yield running, peer


Ask = Callable[[Hub, str, dict[str, Any]], Awaitable[Told]]


def tools_of(case: Case, own: dict[str, Any]) -> list[Any]:
    demand = "always" if case.approval else "never"
    source = {"type": "mcp", "server_label": "peer", "server_url": "hub/mcp/peer", "require_approval": demand}
    return [source, *([own] if case.own else [])]


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
ASKED: Any = [{"role": "user", "content": "Go"}]


async def chat(running: Hub, secret: str, model: str, case: Case, hub: dict[str, Any] | None = None) -> Told:
    told = Told()
    own = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
    more: dict[str, Any] = {"tools": tools_of(case, own), **({"hub": hub} if hub else {})}
    async with openai.AsyncOpenAI(
        base_url=f"{running.url}/v1", api_key=secret, max_retries=0, timeout=60, _strict_response_validation=True
    ) as sdk:
        try:
            async with sdk.chat.completions.stream(
                model=model, messages=ASKED, stream_options={"include_usage": True}, extra_body=more
            ) as stream:
                async for event in stream:
                    if event.type == "chunk":
                        told.events.append(event.chunk.to_dict())
                final = await stream.get_final_completion()
                told.own = [
                    (one.function.name, json.loads(one.function.arguments))
                    for one in final.choices[0].message.tool_calls or ()
                    if one.type == "function"
                ]
        except openai.APIError as error:
            told.error = error.message
    for chunk in told.events:
        told.results += len(chunk.get("hub", {}).get("tool_calls", ()))
        told.hub |= chunk.get("hub", {})
        told.text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
    check_chat(told)
    return told


def check_chat(told: Told) -> None:
    """One id, one beginning, calls begun once and in order, one reason to end, and nothing behind it but the usage."""
    assert len({chunk["id"] for chunk in told.events}) == 1
    choices = [chunk["choices"][0] for chunk in told.events if chunk["choices"]]
    assert [at for at, one in enumerate(choices) if one["delta"].get("role")] == [0]
    reasons = [at for at, one in enumerate(choices) if one.get("finish_reason")]
    assert reasons == ([] if told.error else [len(choices) - 1])
    assert [not chunk["choices"] for chunk in told.events].count(True) == (0 if told.error else 1)
    begun = [one for choice in choices for one in choice["delta"].get("tool_calls") or () if one.get("id")]
    assert [one["index"] for one in begun] == list(range(len(begun)))


async def responses(running: Hub, secret: str, model: str, case: Case, hub: dict[str, Any] | None = None) -> Told:
    told = Told()
    own = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}
    asked: dict[str, Any] = {"model": model, "input": ASKED, "extra_body": {"tools": tools_of(case, own)}}
    if hub:
        asked |= {"previous_response_id": hub["response"], "input": [approved(hub["approval_id"])]}
    async with (
        openai.AsyncOpenAI(
            base_url=f"{running.url}/v1", api_key=secret, max_retries=0, timeout=60, _strict_response_validation=True
        ) as sdk,
        sdk.responses.stream(**asked) as stream,
    ):
        # the helper's own classes are not those that its types name, of which pydantic would warn
        told.events = [event.model_dump(exclude_unset=True, warnings=False) async for event in stream]
    last = told.events[-1]["response"]
    told.error = (last.get("error") or {}).get("message")
    told.hub = last.get("hub") or {}
    told.hub |= {"response": last["id"]}
    for item in last["output"]:
        told.results += item["type"] == "mcp_call" and item["status"] in ("completed", "failed")
        if item["type"] == "function_call":
            told.own.append((item["name"], json.loads(item["arguments"])))
        told.text += "".join(part["text"] for part in item["content"]) if item["type"] == "message" else ""
    check_responses(told)
    return told


def approved(name: str) -> dict[str, Any]:
    return {"type": "mcp_approval_response", "approval_request_id": name, "approve": True}


def check_responses(told: Told) -> None:
    """One beginning, one end, numbers without a gap; each item is opened and closed once, its events between."""
    events, kinds = told.events, [event["type"] for event in told.events]
    assert kinds[0] == "response.created"
    ends = ("response.completed", "response.failed", "response.incomplete")
    assert [kind for kind in kinds if kind in ends] == [kinds[-1]]
    assert kinds[-1] == ("response.failed" if told.error else "response.completed")
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    added = [event["output_index"] for event in events if event["type"] == "response.output_item.added"]
    done = [event["output_index"] for event in events if event["type"] == "response.output_item.done"]
    output = events[-1]["response"]["output"]
    assert added == list(range(len(output)))
    assert sorted(done) == added[: len(done)] if told.error else sorted(done) == added
    opened: set[int] = set()
    for event in events:
        if event["type"] == "response.output_item.added":
            opened.add(event["output_index"])
        elif event["type"] == "response.output_item.done":
            opened.remove(event["output_index"])
        elif "output_index" in event:
            assert event["output_index"] in opened


async def messages(running: Hub, secret: str, model: str, case: Case, hub: dict[str, Any] | None = None) -> Told:
    told = Told()
    own = {"name": "weather", "input_schema": SCHEMA}
    more: dict[str, Any] = {"extra_body": {"hub": hub}} if hub else {}
    async with anthropic.AsyncAnthropic(
        base_url=running.url, api_key=secret, max_retries=0, timeout=60, _strict_response_validation=True
    ) as sdk:
        try:
            async with sdk.beta.messages.stream(
                model=model, messages=ASKED, max_tokens=100, tools=tools_of(case, own), **more
            ) as stream:
                async for event in stream:
                    told.events.append(event.to_dict())
                    told.hub |= getattr(event, "hub", None) or {}
                    told.text += event.text if event.type == "text" else ""
                final = await stream.get_final_message()
                told.own = [(block.name, block.input) for block in final.content if block.type == "tool_use"]
        except anthropic.APIError as error:
            told.error = error.message
    starts = [event["content_block"] for event in told.events if event["type"] == "content_block_start"]
    told.results = [block["type"] for block in starts].count("mcp_tool_result")
    check_messages(told)
    return told


def check_messages(told: Told) -> None:
    """One message; its blocks follow one another, numbered, each closed before the next is opened; one end."""
    kinds = [event["type"] for event in told.events if event["type"] in _OWN_KINDS]
    assert [kinds.count(kind) for kind in ("message_start", "message_stop")] == [1, 0 if told.error else 1]
    assert kinds[0] == "message_start"
    if not told.error:
        assert kinds[-2:] == ["message_delta", "message_stop"]
    opened: int | None = None
    number = 0
    for event in told.events:
        if event["type"] == "content_block_start":
            assert (opened, event["index"]) == (None, number)
            opened, number = number, number + 1
        elif event["type"] == "content_block_delta":
            assert event["index"] == opened
        elif event["type"] == "content_block_stop":
            assert event["index"] == opened
            opened = None
    assert told.error or opened is None


_OWN_KINDS = frozenset(
    [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
)

DOORS: dict[str, Any] = {"chat": chat, "responses": responses, "messages": messages}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("door", DOORS)
async def test_stream_is_one_lifecycle(hub: OpenHub, door: str, case: Case) -> None:
    ask = DOORS[door]
    async with scripted(hub, door, case) as (running, peer):
        secret = await running.key("model:*", "tool:*")
        for model in ("common", "native"):
            peer.calls.clear()
            told = await ask(running, secret, model, case)
            text, results = told.text, told.results
            if case.approval:
                (waiting,) = told.hub["approvals"]
                assert (results, peer.calls, told.own) == (0, [], [])
                answer = {
                    "approval_id": waiting["id"],
                    **({"response": told.hub["response"]} if door == "responses" else {}),
                }
                told = await ask(running, secret, model, case, answer)
                text, results = f"{text} {told.text}", results + told.results
            assert (" ".join(text.replace(".", ". ").split()), results) == (case.text, case.results), model
            assert tuple(told.own) == case.own
            assert (told.error is not None) is case.ends_in_error
            if case.ends_in_error:
                assert told.error
            hubs = [arguments for one in case.rounds for name, arguments in one.calls if name.startswith("peer__")]
            assert sorted(str(arguments) for _, arguments in peer.calls) == sorted(map(str, hubs))
