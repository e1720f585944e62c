"""Agents as models: a request of chat completions is a message, and what comes of it the answer (docs/a2a.md).

A provider of models (`llm.ports.Provider`), so that every door of models has agents too. What is asked goes through the call
that all doors use. A caller who leaves has the task cancelled, as one who calls an agent as a tool has.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from agents import chat_words
from agents.chat_words import Asked, Telling
from agents.conversations import Conversations, Place
from agents.speech import Ask
from agents.turns import Turn, Turns, message_of
from llm.call import spent_by
from llm.ports import ModelRequest
from llm.spending import hub_of
from llm.wire.chat import DONE, event
from registry.catalog import Catalog
from registry.entries import Agent, Model
from registry.errors import InvalidRequest, NotFound, TaskFailed
from registry.gate import Permit, Usage
from registry.judged import JsonObject, decode, encode

PROVIDER = "agent"
"""As `registry.entries.AgentModel` has it."""

MAX_WAITING = 64
"""Pieces of an answer that its reader has not taken; then the agent's stream waits."""

_FAILED = frozenset({"failed", "rejected", "canceled"})
_WAITS = frozenset({"input-required", "auth-required"})


class AgentProvider:
    """The provider `agent`."""

    def __init__(self, turns: Turns, catalog: Callable[[], Catalog]) -> None:
        self._turns = turns
        self._catalog = catalog
        self._conversations = Conversations()

    @asynccontextmanager
    async def call(self, permit: Permit, model: Model, request: ModelRequest) -> AsyncIterator[AgentAnswer]:
        """Say what a request asks to the agent (llm.ports.Provider); leaving early has its task cancelled.

        Raises, here or while the answer is read:
            InvalidRequest: no agent can be asked this.
            NotFound: the context or the task is not the caller's.
            TaskFailed: what the agent says of its failure.
            HubError: as `Turns.hear`.
        """
        entry = self._catalog().agents.get(model.model)
        if entry is None:
            raise NotFound("model", model.name)
        body = decode(request.body)
        asked = chat_words.read_messages(body.get("messages"))
        if body.get("tools"):
            raise InvalidRequest(f"{model.name} is an agent and takes no tools", member="tools")
        said = _Said(permit, entry, asked, body)
        answer = AgentAnswer(body, lambda talk: self._converse(said, talk))
        try:
            yield answer
        finally:
            await answer.end()

    def secrets(self, _model: Model) -> Sequence[str]:
        """It has none: agents' errors are clean when they come here (llm.ports.Provider)."""
        return ()

    async def _converse(self, said: _Said, talk: _Talk) -> JsonObject:
        """Send the message, tell `talk` what comes, and return the answer's members `hub` and `usage`."""
        owner, name = said.permit.principal.id, said.entry.name
        place = self._place(said)
        parts = said.asked.parts
        if place is None and said.asked.earlier:
            parts = [chat_words.transcript(said.asked.earlier), *parts]
        ids = {"contextId": place.context_id, "taskId": place.task_id} if place is not None else {}
        ask: Ask = message_of(said.permit, parts, ids)
        turn = await self._turns.hear(said.permit, said.entry, ask, talk.hear)
        if turn.state in _FAILED:
            raise TaskFailed(name, turn.state, talk.telling.text)
        waits = turn.task_id if turn.state in _WAITS else None
        spoken = [*said.request["messages"], {"role": "assistant", "content": talk.telling.text}]
        self._conversations.keep(owner, name, chat_words.digest(spoken), Place(turn.context_id, waits))
        return _told(turn, talk.telling, said.permit)

    def _place(self, said: _Said) -> Place | None:
        """Where the conversation goes on; None: it is not known, or begins."""
        owner, name = said.permit.principal.id, said.entry.name
        hub = said.request.get("hub")
        context_id, task_id = (hub.get("context_id"), hub.get("task_id")) if isinstance(hub, dict) else (None, None)
        for value in (context_id, task_id):
            if value is not None and not isinstance(value, str):
                raise InvalidRequest("context_id and task_id of hub must be strings", member="hub")
        if task_id is not None:
            return Place(context_id, task_id)
        if context_id is not None:
            return self._conversations.at(owner, name, context_id)
        if not said.asked.earlier:
            return None
        return self._conversations.take(owner, name, chat_words.digest(said.asked.earlier))


class _Said(NamedTuple):
    """One request."""

    permit: Permit
    entry: Agent
    asked: Asked
    request: JsonObject


class _Talk:
    """What comes of a message on its way to its reader."""

    def __init__(self) -> None:
        self.telling = Telling()
        self.news = asyncio.Event()
        self._pieces: list[str] = []
        self._taken = asyncio.Event()

    async def hear(self, told: JsonObject) -> None:
        """Take an event of the agent's; waits while the reader is slow."""
        self._pieces.append(self.telling.feed(told))
        self.news.set()
        while len(self._pieces) >= MAX_WAITING:
            self._taken.clear()
            await self._taken.wait()

    def take(self) -> str:
        """What came since the last time."""
        self.news.clear()
        self._taken.set()
        pieces, self._pieces = self._pieces, []
        return "".join(pieces)


class AgentAnswer:
    """One answer (llm.ports.ModelAnswer)."""

    def __init__(self, request: JsonObject, converse: Callable[[_Talk], Coroutine[None, None, JsonObject]]) -> None:
        self._talk = _Talk()
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": request.get("model")}
        self._work = asyncio.create_task(converse(self._talk))
        self._work.add_done_callback(lambda _: self._talk.news.set())

    async def read(self) -> bytes:
        """The whole answer."""
        async for _ in self._pieces():
            pass
        message = {"role": "assistant", "content": self._talk.telling.text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return encode({**self._head, "object": "chat.completion", "choices": [choice], **self._work.result()})

    async def chunks(self) -> AsyncIterator[bytes]:
        """The answer as the agent tells it, beginning when the agent does."""
        begin: JsonObject = {"role": "assistant"}
        async for piece in self._pieces():
            if piece or begin:
                yield self._chunk({**begin, "content": piece})
            begin = {}
        told = self._work.result()
        yield self._chunk({}, finish_reason="stop", hub=told["hub"])
        if "usage" in told:
            cost = {"usage": told["hub"]["usage"]}
            yield event({**self._head, "object": "chat.completion.chunk", "choices": [], **told, "hub": cost})
        yield DONE

    async def end(self) -> None:
        """Have what is under way cancelled, and wait until it is."""
        self._work.cancel()
        await asyncio.wait([self._work])
        if not self._work.cancelled():
            self._work.exception()  # its reader may have left

    async def _pieces(self) -> AsyncIterator[str]:
        """The texts as they come; raises what went wrong."""
        while True:
            await self._talk.news.wait()
            is_over, text = self._work.done(), self._talk.take()
            if is_over:
                self._work.result()
            yield text
            if is_over:
                return

    def _chunk(self, delta: JsonObject, *, finish_reason: str | None = None, **members: object) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return event({**self._head, "object": "chat.completion.chunk", "choices": [choice], **members})


def _told(turn: Turn, telling: Telling, permit: Permit) -> JsonObject:
    """The members `hub` of an answer and, of an agent that asked models of the hub, `usage`."""
    told: JsonObject = {"state": turn.state}
    told |= {name: value for name, value in (("context_id", turn.context_id), ("task_id", turn.task_id)) if value}
    told |= {"parts": telling.attachments} if telling.attachments else {}
    used = spent_by(permit)
    is_known = used.cost_usd is not None or used.input_tokens is not None
    told |= hub_of({"cost_usd": used.cost_usd} if is_known else None, permit.warnings)
    return {"hub": told} if used.input_tokens is None else {"hub": told, "usage": _usage(used)}


def _usage(used: Usage) -> JsonObject:
    given, made = used.input_tokens or 0, used.output_tokens or 0
    return {
        "prompt_tokens": given,
        "completion_tokens": made,
        "total_tokens": given + made,
        "prompt_tokens_details": {"cached_tokens": used.cached_tokens or 0},
        "completion_tokens_details": {"reasoning_tokens": used.reasoning_tokens or 0},
    }
