"""One message to an agent and what comes of it: for callers who want its outcome, and its task ended when they leave.

Goes through the call that all doors use, so the ledger and the events of its task are as theirs.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple, Protocol

from agents import answers, snapshot, wire
from agents.call import AgentCaller
from agents.content import STATES_DOWN
from agents.discovery import Discovery
from agents.members import MAX_ID
from agents.shown import is_over
from agents.speech import Ask
from agents.spoken import event_of
from registry.egress.http import Egress
from registry.entries import Agent
from registry.errors import HubError, InvalidParams, UpstreamInvalid, UpstreamTimeout, UpstreamUnavailable
from registry.gate import Permit
from registry.identity import TASK_HEADER_NAME
from registry.judged import JsonObject, encode

logger = logging.getLogger(__name__)

CANCEL_S = 10.0
"""How long it may take to cancel the task of a caller who left, and before that to hear which task it is."""


class Hearer(Protocol):
    """Who waits for what comes of a message."""

    async def told(self, text: str) -> None:
        """Is told, in a few words, of each event as it comes; empty: there are no words in it."""

    @property
    def patience_s(self) -> float | None:
        """After how long a task that is still under way is left to itself; None: when the deadline of agents ends."""


Told = Callable[[JsonObject], Awaitable[None]]
"""Is told of each event as it comes: a `StreamResponse`, or a whole answer."""


class Saying(Protocol):
    """What a caller says to an agent."""

    @property
    def text(self) -> str:
        """The message."""

    @property
    def task_id(self) -> str | None:
        """The task that it goes on with."""

    @property
    def context_id(self) -> str | None:
        """The conversation that it belongs to."""

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """Of the request that it came with: the trace goes on, and how often the call came through the hub."""


class Turn(NamedTuple):
    """What came of a message."""

    state: str
    """As A2A 0.3 spells it (`input-required`); of an answer without a task `completed`."""
    task_id: str | None
    context_id: str | None
    parts: list[JsonObject]
    """Of the agent's message: its answer, or that of the task's status. A2A 1.0 §4.1.6."""
    artifacts: list[JsonObject]
    """A2A 1.0 §4.1.7."""


class Seen(NamedTuple):
    """A task as its agent shows it."""

    turn: Turn
    updated: str | None
    """When its status changed, as the agent says (ISO 8601)."""


class Turns:
    """Talks with agents. One for a process."""

    def __init__(self, caller: AgentCaller, *, discovery: Discovery, egress: Egress) -> None:
        self._caller = caller
        self._discovery = discovery
        self._wait_s = egress.deadlines.agent_first_byte_s
        self._max_bytes = egress.max_answer_bytes

    async def take(self, permit: Permit, entry: Agent, saying: Saying, hearer: Hearer) -> Turn:
        """As `hear`, for who says a text and is told in words.

        Raises:
            InvalidParams: no id is like that.
            HubError: as `hear`.
        """

        async def told(event: JsonObject) -> None:
            await hearer.told(_words(event))

        return await self.hear(permit, entry, _asked(permit, saying), told, patience_s=hearer.patience_s)

    async def hear(
        self, permit: Permit, entry: Agent, ask: Ask, told: Told, *, patience_s: float | None = None
    ) -> Turn:
        """Say something within `permit`, and return what came of it: finished, interrupted, or as it is after a long time.

        `patience_s` as `Hearer` has it. Cancelled, it ends within twice `CANCEL_S`, when the task is cancelled at the agent.

        Raises:
            NotFound: the task or the context is not the caller's.
            HubError: as the caller's `ask` and `follow`.
        """
        if not permit.requests:
            named = wire.named_in(ask)
            permit.bound(permit.principal.limits_in(entry.name, named.context_id or named.task_id), entry.call_usd)
        hearing = _Hearing(entry, told, max_bytes=self._max_bytes)
        reading = asyncio.create_task(self._read(permit, entry, ask, hearing))
        reading.add_done_callback(lambda _: hearing.begun.set())
        try:
            async with asyncio.timeout(self._wait_s):
                await _outcome(reading, hearing, patience_s)
            await _ended(reading)
        except TimeoutError:
            await _ended(reading)
            if hearing.task is None:
                raise UpstreamTimeout(entry.name, "it did not answer in time") from None
        except asyncio.CancelledError:
            hearing.told = None
            await _within(CANCEL_S, hearing.begun.wait())
            await _ended(reading)
            if hearing.is_open:
                assert hearing.task_id is not None
                await self.cancel(permit, entry, hearing.task_id)
            raise
        return hearing.turn()

    async def tell(self, permit: Permit, entry: Agent, saying: Saying) -> None:
        """Say something within `permit` that a task goes on with, without waiting for what comes of it; raises as `take`."""
        ask = _asked(permit, saying)
        params = {**ask.params, "configuration": {"returnImmediately": True}}
        await self._caller.ask(permit, entry, replace(ask, params=params))

    async def look(self, permit: Permit, entry: Agent, task_id: str) -> Seen:
        """A task as its agent shows it now.

        Raises:
            NotFound: it is not the caller's, or its agent has forgotten it.
            HubError: as the caller's `ask`.
        """
        heard = await self._caller.ask(permit, entry, Ask(operation="GetTask", params={"id": task_id}))
        assert heard.result is not None, "the request is the hub's own"
        hearing = _Hearing(entry, None, max_bytes=self._max_bytes)
        await hearing.hear({"task": heard.result}, 0)
        return Seen(hearing.turn(), (heard.result.get("status") or {}).get("timestamp"))

    async def cancel(self, permit: Permit, entry: Agent, task_id: str) -> None:
        """Have a task cancelled, for a caller who left; an agent that cannot is left alone."""
        try:
            async with asyncio.timeout(CANCEL_S):
                await self._caller.ask(permit, entry, Ask(operation="CancelTask", params={"id": task_id}))
        except (HubError, TimeoutError) as error:
            extra = {"agent": entry.name, "task": task_id, "reason": str(error) or "no answer in time"}
            logger.info("a task that its caller left was not cancelled", extra=extra)

    async def _read(self, permit: Permit, entry: Agent, ask: Ask, hearing: _Hearing) -> None:
        if await self._streams(entry):
            try:
                await self._follow(permit, entry, replace(ask, operation="SendStreamingMessage"), hearing)
            except (UpstreamUnavailable, UpstreamTimeout):
                if not hearing.is_open:
                    raise
        else:  # its task is followed, so that it can be cancelled before it is done
            params = {**ask.params, "configuration": {"returnImmediately": True}}
            heard = await self._caller.ask(permit, entry, replace(ask, params=params))
            assert heard.result is not None, "the request is the hub's own"
            await hearing.hear(heard.result, len(encode(heard.result)))
        if hearing.is_open:
            params = {"id": hearing.task_id}
            await self._follow(permit, entry, replace(ask, operation="SubscribeToTask", params=params), hearing)

    async def _streams(self, entry: Agent) -> bool:
        """Whether the agent says that it answers with streams."""
        card = (await self._discovery.find(entry)).card
        return card is not None and card.members["capabilities"].get("streaming") is True

    async def _follow(self, permit: Permit, entry: Agent, ask: Ask, hearing: _Hearing) -> None:
        async with self._caller.follow(permit, entry, ask) as stream, aclosing(stream.batches) as batches:
            async for batch in batches:
                for shown in batch:
                    await hearing.hear(event_of(entry, shown.speech, shown.data), len(shown.data))


class _Hearing:
    """What was heard of one message."""

    def __init__(self, entry: Agent, told: Told | None, *, max_bytes: int) -> None:
        self.told = told
        """None: nobody listens any more."""
        self.task: JsonObject | None = None
        self.begun = asyncio.Event()
        """Set when it is known which task there is, or that there is none."""
        self._entry = entry
        self._message: JsonObject | None = None
        self._left = max_bytes

    async def hear(self, event: JsonObject, size: int) -> None:
        """Take an event, or a whole answer; raises `UpstreamInvalid` when it is all too much."""
        self._left -= size
        if self._left < 0:
            raise UpstreamInvalid(self._entry.name, "its answer is too large")
        if isinstance(event.get("message"), dict):
            self._message = event["message"]
        self.task = snapshot.apply(self.task or _begun(event), event)
        self.begun.set()
        if self.told is not None:
            await self.told(event)

    @property
    def task_id(self) -> str | None:
        """The task's id; None: there is no task."""
        return answers.sighting_of(self.task).task_id if self.task is not None else None

    @property
    def is_open(self) -> bool:
        """Whether there is a task that is not over."""
        return self.task is not None and not is_over(answers.sighting_of(self.task).state)

    def turn(self) -> Turn:
        """What came of it; raises `UpstreamInvalid` when nothing did."""
        if self.task is None:
            if self._message is None:
                raise UpstreamInvalid(self._entry.name, "its stream ended without an event")
            return Turn("completed", None, self._message.get("contextId") or None, _parts(self._message), [])
        seen = answers.sighting_of(self.task)
        said = (self.task.get("status") or {}).get("message") or {}
        state = STATES_DOWN.get(seen.state or "", "unknown")
        return Turn(state, seen.task_id, seen.context_id, _parts(said), self.task.get("artifacts") or [])


def _begun(event: JsonObject) -> JsonObject | None:
    """The task of a stream that does not begin with it; None: the event is of none, or is the task."""
    update = event.get("statusUpdate") or event.get("artifactUpdate")
    return {"id": update.get("taskId"), "contextId": update.get("contextId")} if isinstance(update, dict) else None


def _asked(permit: Permit, saying: Saying) -> Ask:
    ids = {"taskId": saying.task_id, "contextId": saying.context_id}
    return message_of(permit, [{"text": saying.text}], ids, headers=saying.headers)


def message_of(
    permit: Permit,
    parts: Sequence[JsonObject],
    ids: Mapping[str, str | None],
    *,
    headers: Mapping[bytes, bytes] = MappingProxyType({}),
) -> Ask:
    """A message to an agent: `parts` and `ids` as A2A 1.0 has them (§4.1.4), None left out; `headers` are its caller's.

    Raises:
        InvalidParams: no id is like that.
        TooManyHops: the call has come through the hub too often.
    """
    message: JsonObject = {"messageId": str(uuid.uuid4()), "role": "ROLE_USER", "parts": list(parts)}
    for member, value in ids.items():
        if value is None:
            continue
        if not 0 < len(value) <= MAX_ID:
            raise InvalidParams(f"an id has 1 to {MAX_ID} characters", member=member)
        message[member] = value
    if permit.hops and _HOPS not in headers:
        headers = {**headers, _HOPS: str(permit.hops).encode()}
    trace = tuple(pair for pair in wire.forwarded_headers("1.0", headers, permit.principal.task) if pair[0] in _TRACE)
    return Ask(operation="SendMessage", params={"message": message}, trace=trace)


_HOPS = wire.HOPS_HEADER.encode()
_TRACE = frozenset({"traceparent", "tracestate", wire.HOPS_HEADER, TASK_HEADER_NAME})


def _parts(message: JsonObject) -> list[JsonObject]:
    return message.get("parts") or []


def _words(event: JsonObject) -> str:
    """What an event says in text."""
    update = event.get("statusUpdate") or event.get("task")
    if isinstance(update, dict):
        status = update.get("status") or {}
        text = _text(status.get("message") or {})
        return text or STATES_DOWN.get(status.get("state") or "", "")
    return _text((event.get("artifactUpdate") or {}).get("artifact") or event.get("message") or {})


def _text(owner: JsonObject) -> str:
    return "".join(part["text"] for part in _parts(owner) if isinstance(part.get("text"), str))


async def _outcome(reading: asyncio.Task[None], hearing: _Hearing, patience_s: float | None) -> None:
    """Wait until a reading is over, or for `patience_s` and until there is a task that can be left to itself."""
    if patience_s is not None:
        await asyncio.wait([reading], timeout=patience_s)
        await hearing.begun.wait()
        if hearing.is_open and not reading.done():
            return
    await asyncio.shield(reading)


async def _ended(reading: asyncio.Task[None]) -> None:
    reading.cancel()
    await asyncio.wait([reading])
    if not reading.cancelled():
        reading.exception()  # nobody is left to be told


async def _within(seconds: float, wait: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await wait
    except TimeoutError:
        pass
