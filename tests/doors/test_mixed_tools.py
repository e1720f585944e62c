"""Chats that mix the hub's tools with the caller's own, by the official client: the provider sees the whole conversation."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.conftest import OpenHub
from tests.doors.test_parked import ASK, LOOK, OWN, PAY, Desk, opened, source
from tests.peers.openai_upstream import Turn

MINE = ("mine", '{"a": 1}')
TURNS = (Turn("First.", calls=(LOOK,)), Turn(calls=(PAY, MINE)), Turn("Done."))


async def own_calls(d: Desk, *, stream: bool, **members: Any) -> dict[str, Any]:
    """The assistant's message of the first answer, as its client keeps it."""
    answer = await d.ask(tools=[source("never"), OWN], stream=stream, **members)
    if not stream:
        kept: dict[str, Any] = answer.choices[0].message.model_dump(exclude_none=True)
        return kept
    calls: dict[int, dict[str, Any]] = {}
    async for chunk in answer:
        for call in chunk.choices[0].delta.tool_calls or () if chunk.choices else ():
            if call.id:
                calls[call.index] = {"id": call.id, "type": "function", "function": {"name": "", "arguments": ""}}
            of = calls[call.index]["function"]
            of["name"] += call.function.name or ""
            of["arguments"] += call.function.arguments or ""
    return {"role": "assistant", "content": None, "tool_calls": list(calls.values())}


async def go_on(d: Desk, kept: dict[str, Any], *, before: list[Any] = ASK, **members: Any) -> Any:
    """Come back with the results of the caller's own calls."""
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "mine ok"} for call in kept["tool_calls"]]
    return await d.ask(messages=[*before, kept, *results], tools=[source("never"), OWN], **members)


def sent(d: Desk, at: int) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = d.upstream.received[at].body["messages"]
    return messages


@pytest.mark.parametrize("stored", [None, True, False])
@pytest.mark.parametrize("stream", [False, True])
async def test_rounds_before_the_callers_own_call_are_put_back(hub: OpenHub, stream: bool, stored: bool | None) -> None:
    more = {} if stored is None else {"store": stored}
    async with opened(hub, *TURNS) as d:
        kept = await own_calls(d, stream=stream, **more)
        assert [call["function"]["name"] for call in kept["tool_calls"]] == ["mine"]
        rows = await d.running.services.database.read(
            lambda session: session.connection().exec_driver_sql("SELECT COUNT(*) FROM kept").scalar()
        )
        assert rows == (0 if stored is False else 1)
        await go_on(d, kept, **more)
        said = sent(d, 2)
        assert [one["role"] for one in said] == ["user", "assistant", "tool", "assistant", "tool", "tool"]
        assert said[:5] == [*sent(d, 1), *said[3:5]]
        assert [call["function"]["name"] for call in said[3]["tool_calls"]] == ["bank__pay", "mine"]
        assert [call["id"] for call in said[3]["tool_calls"]] == [one["tool_call_id"] for one in said[4:]]
        assert "5 to eve" in said[4]["content"]
        assert said[5]["content"] == "mine ok"
        assert len(d.bank.calls) == 2


async def test_a_longer_conversation_keeps_all_of_its_rounds(hub: OpenHub) -> None:
    turns = (Turn(calls=(LOOK, MINE)), Turn(calls=(PAY, ("mine", '{"b":2}'))), Turn("Done."))
    async with opened(hub, *turns) as d:
        first = await own_calls(d, stream=False)
        second = (await go_on(d, first)).choices[0].message.model_dump(exclude_none=True)
        result = {"role": "tool", "tool_call_id": first["tool_calls"][0]["id"], "content": "mine ok"}
        await go_on(d, second, before=[*ASK, first, result])
        assert [one["role"] for one in sent(d, 2)] == ["user", *["assistant", "tool", "tool"] * 2]


async def test_nothing_of_another_conversation_or_key_is_put_back(hub: OpenHub) -> None:
    async with opened(hub, *TURNS, Turn("Done.")) as d:
        kept = await own_calls(d, stream=False)
        other: list[Any] = [{"role": "user", "content": "something else"}]
        await go_on(d, kept, before=other)
        assert [one["role"] for one in sent(d, 2)] == ["user", "assistant", "tool"]
        changed = {**kept, "tool_calls": [{**kept["tool_calls"][0], "id": "call_7"}]}
        await go_on(d, changed)
        assert [one["role"] for one in sent(d, 3)] == ["user", "assistant", "tool"]
        secret = await d.running.key("model:*", "tool:*")
        async with openai.AsyncOpenAI(base_url=f"{d.running.url}/v1", api_key=secret, max_retries=0) as sdk:
            await go_on(d, kept, sdk=sdk)
        assert [one["role"] for one in sent(d, 4)] == ["user", "assistant", "tool"]


async def test_the_same_conversation_twice_finds_its_rounds_twice(hub: OpenHub) -> None:
    async with opened(hub, *TURNS, *TURNS) as d:
        for at in (2, 5):
            await go_on(d, await own_calls(d, stream=False))
            assert [one["role"] for one in sent(d, at)] == ["user", "assistant", "tool", "assistant", "tool", "tool"]
