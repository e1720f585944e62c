"""Clients of the JavaScript SDK against agents of the Python SDK, without a hub: what works directly."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, Literal

import pytest

from agents.speech import SPEECHES, Speech
from tests.foreign.a2a_js import JsClient, JsError, js_client
from tests.foreign.environments import foreign
from tests.peers.a2a_sdk_agents import open_agent

pytestmark = foreign

JsVersion = Literal["1", "0.3"]
SDKS: dict[str, JsVersion] = {"1.0": "1", "0.3": "0.3"}
"""The version of the SDK that speaks a version of the protocol."""

every_speech = pytest.mark.parametrize("speech", SPEECHES, ids=" ".join)


def said(speech: Speech, text: str) -> dict[str, Any]:
    """The params of sendMessage in the JSON of the speech's version."""
    if speech.version == "1.0":
        return {"message": {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"text": text}]}}
    parts = [{"kind": "text", "text": text}]
    return {"message": {"kind": "message", "messageId": "m-1", "role": "user", "parts": parts}}


def task_of(result: dict[str, Any]) -> dict[str, Any]:
    """The task in an answer of sendMessage, or in an event of a stream."""
    return result.get("task", result)


async def working(client: JsClient, speech: Speech, text: str) -> tuple[Any, str]:
    """Begin a stream; returns its events and the id of its task, once it is known to work."""
    events = client.follow("sendMessageStream", said(speech, text))
    task_id = task_of(await anext(events))["id"]
    await anext(events)
    return events, task_id


@every_speech
async def test_message_is_sent_and_its_task_read(speech: Speech) -> None:
    async with (
        open_agent(speech) as agent,
        js_client(SDKS[speech.version], agent.url, key="sk-js", binding=speech.binding) as client,
    ):
        task = task_of(await client.ask("sendMessage", said(speech, "complete 2")))
        assert task["status"]["state"] in {"TASK_STATE_COMPLETED", "completed"}
        again = await client.ask("getTask", {"id": task["id"]})
        assert [part["text"] for part in again["artifacts"][0]["parts"]] == agent.emitted[task["id"]]
        assert agent.calls[-1].headers["authorization"] == "Bearer sk-js"


@every_speech
async def test_stream_that_is_left_is_joined_again(speech: Speech) -> None:
    async with (
        open_agent(speech) as agent,
        js_client(SDKS[speech.version], agent.url, binding=speech.binding) as client,
    ):
        events, task_id = await working(client, speech, "slow 2")
        await agent.release()
        await anext(events)
        await events.aclose()
        await agent.wires[-1].left.wait()
        async with aclosing(client.follow("resubscribeTask", {"id": task_id})) as events:
            assert task_of(await anext(events))["id"] == task_id
            await agent.release()
            rest = [event async for event in events]
        assert len(rest) == 2
        assert len(agent.emitted[task_id]) == 2


@every_speech
async def test_waiting_task_is_cancelled(speech: Speech) -> None:
    async with (
        open_agent(speech) as agent,
        js_client(SDKS[speech.version], agent.url, binding=speech.binding) as client,
    ):
        events, task_id = await working(client, speech, "wait")
        cancelled = await client.ask("cancelTask", {"id": task_id})
        assert cancelled["status"]["state"] in {"TASK_STATE_CANCELED", "canceled"}
        await events.aclose()


@every_speech
async def test_unknown_task_is_an_error(speech: Speech) -> None:
    async with (
        open_agent(speech) as agent,
        js_client(SDKS[speech.version], agent.url, binding=speech.binding) as client,
    ):
        with pytest.raises(JsError):
            await client.ask("getTask", {"id": "nobody"})
