"""Calls of agents that take long, as MCP tasks: the agent's own task, which its caller asks about until it is over.

The hub keeps nothing and reads nothing meanwhile: the agent has the task, the ledger says whose it is.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from mcp_bridge import agent_shapes
from mcp_bridge.agent_questions import ASK, answer_in, question_of
from mcp_bridge.agent_shapes import Said, Turn
from mcp_bridge.rounds import read_retry
from mcp_bridge.tasks import refused, stamp
from mcp_bridge.wire import Answer, Request, as_raw
from registry.entries import Agent, AgentTool
from registry.errors import NotFound
from registry.gate import Permit
from registry.judged import JsonObject, RawObject

POLL_MS = 1000
"""How often a client is asked to look."""

UNDER_WAY = frozenset({"submitted", "working", "unknown"})


class Seen(Protocol):
    """A task as its agent shows it now."""

    @property
    def turn(self) -> Turn:
        """What came of it so far."""

    @property
    def updated(self) -> str | None:
        """When its status changed, as the agent says."""


class Agents(Protocol):
    """Talks with agents about their tasks."""

    async def look(self, permit: Permit, entry: Agent, task_id: str) -> Seen:
        """The task as it is; raises `NotFound` when the caller has none of that id, and `HubError`."""

    async def tell(self, permit: Permit, entry: Agent, saying: Said) -> None:
        """Say something without waiting for what comes of it; raises `HubError`."""

    async def cancel(self, permit: Permit, entry: Agent, task_id: str) -> None:
        """Have a task cancelled, as well as can be."""


class _Asked(NamedTuple):
    key: str
    params: JsonObject


def made(turn: Turn) -> RawObject:
    """The answer to a call whose agent still works."""
    now = stamp(datetime.now(UTC).timestamp())
    return as_raw({"resultType": "task", "createdAt": now, **_head(turn, now), "status": "working"})


async def follow(agents: Agents, permit: Permit, entry: Agent, tool: AgentTool, request: Request) -> Answer:
    """Answer what is asked about a task, by the agent's own id for it.

    Raises:
        InvalidParams: the caller has no such task any more.
        HubError: as the agent's.
    """
    task_id = request.params["taskId"]
    if request.method == "tasks/cancel":
        await agents.cancel(permit, entry, task_id)
        return Answer({})
    try:
        seen = await agents.look(permit, entry, task_id)
    except NotFound:
        raise refused() from None
    asked = _question(tool, seen, request)
    if request.method == "tasks/get":
        return Answer(as_raw(_shown(tool, seen, asked)))
    response = read_retry(request).responses.get(asked.key) if asked is not None else None
    if asked is not None and response is not None:
        text = answer_in(response, asked.params)
        if text is None:  # there is no word for it that every agent knows
            await agents.cancel(permit, entry, task_id)
        else:
            headers = {name.lower().encode(): value.encode("latin-1") for name, value in request.headers}
            await agents.tell(permit, entry, Said(text, task_id, seen.turn.context_id, headers))
    return Answer({})


def _question(tool: AgentTool, seen: Seen, request: Request) -> _Asked | None:
    """What a task asks now; its key is another one for every question."""
    params = question_of(tool, seen.turn, request.meta)
    if params is None:
        return None
    said = f"{seen.updated}\0{params['message']}"
    return _Asked(f"answer-{hashlib.sha256(said.encode()).hexdigest()[:16]}", params)


def _shown(tool: AgentTool, seen: Seen, asked: _Asked | None) -> JsonObject:
    turn = seen.turn
    told = _head(turn, seen.updated or stamp(datetime.now(UTC).timestamp()))
    if asked is not None:
        return {
            **told,
            "status": "input_required",
            "inputRequests": {asked.key: {"method": ASK, "params": asked.params}},
        }
    if turn.state in UNDER_WAY:
        return {**told, "status": "working"}
    if turn.state == "canceled":
        return {**told, "status": "cancelled"}
    return {**told, "status": "completed", "result": agent_shapes.result_of(tool, turn)}


def _head(turn: Turn, updated: str) -> JsonObject:
    """What every form of a task holds, but for when it was made."""
    text = agent_shapes.text_of(turn.parts)
    told: JsonObject = {"taskId": turn.task_id, "lastUpdatedAt": updated, "ttlMs": None, "pollIntervalMs": POLL_MS}
    return {**told, "statusMessage": text} if text and turn.state in UNDER_WAY else told
