"""Speaking to an agent: a canonical request in whatever the agent speaks, and what it answers in canonical form.

Knows no door; how requests and answers are written is `spoken`'s. An error that the agent itself answered is an `AgentFault`;
whatever else goes wrong is another `UpstreamError`. gRPC is `agents/grpc_out.py`'s, loaded when the first agent needs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from agents import answers, faults, wire
from agents.answers import Sighting
from agents.bridges.accounts import Accounts
from agents.contexts import STREAM_REFUSALS, Alias, Contexts
from agents.discovery import Route
from agents.gathering import GATHER_S, Gathering
from agents.ledger import Ledger
from agents.odd_tasks import mended
from agents.quirks import Quirks
from agents.speech import CANONICAL, STREAMING, Ask, Operation, Speech
from agents.spoken import canonical_of, event_of, said_in, seen_in, written
from registry import judged
from registry.discreet import discreet
from registry.egress.http import Egress, Incoming, Outgoing
from registry.egress.sse import EventTooLarge, Framer, data_of
from registry.entries import Agent
from registry.errors import (
    AgentFault,
    ParseFailed,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamUnavailable,
)
from registry.gate import Permit
from registry.judged import JsonObject

if TYPE_CHECKING:
    from agents.grpc_out import GrpcUpstream

EVENT_BEGINNINGS = (b"data:", b"event:", b"id:", b"retry:", b":")
"""How a stream of events begins, whatever its Content-Type says."""

GATHERED_BYTES = 16 * 1024
"""Pieces that are larger than this are not waited with: large artifacts go on as fast as they come."""

LF, CR = b"\n\r"
"""As numbers, which are found in bytes in a seventh of the time."""


class Heard(msgspec.Struct, frozen=True):
    """What a call was answered: a canonical result, or the whole answer as the agent wrote it for clients of its speech."""

    result: JsonObject | None
    extensions: str | None = None
    """Those that the agent says it used."""
    data: bytes | None = None
    """In the place of `result`. JSON-RPC: bears the id that the request bore."""
    seen: Sighting = Sighting()
    is_json: bool = False
    """All of `data` was read as JSON."""


class Events(NamedTuple):
    """A stream under way: the data of whole events as the agent wrote them, each in one line, those together that came together."""

    data: AsyncIterator[list[bytes]]
    speech: Speech
    """How they are written."""
    extensions: str | None = None


class Here(Protocol):
    """The agents that run here. Raises as `Upstream`."""

    async def answer(self, permit: Permit, entry: Agent, ask: Ask) -> JsonObject:
        """Answer with one canonical result."""

    def follow(self, permit: Permit, entry: Agent, ask: Ask) -> AsyncGenerator[list[bytes]]:
        """Answer with canonical events, those together that came together."""


class Upstream:
    """Calls agents in canonical form. One for a process."""

    here: Here
    """Set before anybody is served."""

    def __init__(self, egress: Egress, ledger: Ledger, accounts: Accounts) -> None:
        self._egress = egress
        self._accounts = accounts
        self._grpc: GrpcUpstream | None = None
        self._gathering = Gathering()
        self.quirks = Quirks()
        self.contexts = Contexts(ledger, self.quirks)

    async def result(self, permit: Permit, entry: Agent, route: Route, ask: Ask) -> JsonObject:
        """Ask for one result of the hub's own accord; raises as `unary`."""
        heard = await self.unary(permit, entry, route, ask)
        assert heard.result is not None
        return heard.result

    async def unary(self, permit: Permit, entry: Agent, route: Route, ask: Ask) -> Heard:
        """Ask for one result.

        Raises:
            AgentFault: the agent answered with an error.
            UpstreamError: it did not answer, or not in A2A.
        """
        if entry.runs_here:
            result = await self.here.answer(permit, entry, ask)
            return Heard(result, seen=answers.sighting_of(result))
        naming = wire.named_in(ask)
        aliased = await self.contexts.aliased(entry, permit.principal, naming)
        if aliased is None:
            return await self._unary(permit, entry, route, ask)
        alias, is_needed = aliased
        try:
            heard = await self._unary(permit, entry, route, alias.sent(ask) if is_needed else ask)
        except AgentFault as fault:
            if is_needed or not self.contexts.may_try(entry, naming, fault.code):
                raise
            with self.contexts.trying(entry, fault):
                heard = await self._unary(permit, entry, route, alias.sent(ask))
        else:
            self.contexts.learn(entry, alias, heard.seen.context_id)
        return _shown(entry, alias, route, ask, heard)

    async def _unary(self, permit: Permit, entry: Agent, route: Route, ask: Ask) -> Heard:
        if route.speech.binding == "GRPC":
            body, extensions = await self._over_grpc().unary(permit, entry, route, ask)
        else:
            async with self._send(permit, entry, route, ask) as incoming:
                body = await whole(entry, route.speech, incoming)
                if not incoming.media_type.endswith("json"):
                    self.quirks.note(entry, "content_type")
                extensions = extensions_of(incoming)
        if route.speech == ask.speech and ask.operation != "GetExtendedAgentCard":
            seen = seen_in(entry, route.speech, ask.operation, body)
            if seen is not None and seen.fits(route.speech, ask.operation):
                return Heard(None, extensions, body, seen)
        result = self.result_of(entry, route.speech, ask.operation, body)
        return Heard(result, extensions, seen=answers.sighting_of(result))

    @asynccontextmanager
    async def stream(self, permit: Permit, entry: Agent, route: Route, ask: Ask) -> AsyncIterator[Events]:
        """Ask for events; leaving closes the connection and nothing more. Errors as `unary`, also while reading."""
        if entry.runs_here:
            async with aclosing(self.here.follow(permit, entry, ask)) as here:
                yield Events(here, CANONICAL)
            return
        naming = wire.named_in(ask)
        aliased = await self.contexts.aliased(entry, permit.principal, naming)
        async with AsyncExitStack() as stack:
            if aliased is None:
                yield await stack.enter_async_context(self._stream(permit, entry, route, ask))
                return
            alias, is_needed = aliased
            sent = alias.sent(ask)
            try:
                begun = self._stream(permit, entry, route, sent if is_needed else ask)
                events, first = await _begin(entry, await stack.enter_async_context(begun))
            except AgentFault as fault:
                if is_needed or not self.contexts.may_try(entry, naming, fault.code, STREAM_REFUSALS):
                    raise
                await stack.aclose()
                with self.contexts.trying(entry, fault):
                    begun = self._stream(permit, entry, route, sent)
                    events, first = await _begin(entry, await stack.enter_async_context(begun))
            else:
                seen = seen_in(entry, events.speech, ask.operation, first[0]) if first else None
                self.contexts.learn(entry, alias, seen.context_id if seen is not None else None)
            yield events._replace(data=_renamed(alias, events, first))

    @asynccontextmanager
    async def _stream(self, permit: Permit, entry: Agent, route: Route, ask: Ask) -> AsyncIterator[Events]:
        if route.speech.binding == "GRPC":
            async with self._over_grpc().stream(permit, entry, route, ask) as stream:
                yield Events(stream.events, route.speech, stream.extensions)
            return
        async with self._send(permit, entry, route, ask) as incoming:
            yield self.events(entry, route.speech, incoming)

    def result_of(self, entry: Agent, speech: Speech, operation: Operation, body: bytes) -> JsonObject:
        """Read a whole answer, and note what is odd about it.

        Raises:
            AgentFault: it is an error.
            UpstreamInvalid: it is not A2A.
        """
        said = said_in(entry, speech, operation, body)
        self.quirks.look(entry, speech, said)
        result = canonical_of(entry, speech, operation, said)
        if self.quirks.has(entry, "mixed_versions") and mended(result):
            self.quirks.note(entry, "odd_places")
        return result

    def look(self, entry: Agent, speech: Speech, data: bytes) -> None:
        """Note what is odd about an event that no version writes so."""
        said = judged.decode(data)
        self.quirks.look(entry, speech, said.get("result") if speech.binding == "JSONRPC" else said)

    def events(self, entry: Agent, speech: Speech, incoming: Incoming) -> Events:
        """The events of an answer, as they come.

        Raises:
            UpstreamError: as `unary`, while they are read.
        """
        is_plain = incoming.status == 200 and incoming.media_type == "text/event-stream"
        data = _framed(entry, b"", incoming, self._gathering) if is_plain else self._odd_events(entry, speech, incoming)
        return Events(data, speech, extensions_of(incoming))

    async def _odd_events(self, entry: Agent, speech: Speech, incoming: Incoming) -> AsyncIterator[list[bytes]]:
        """The data of what is an error, one whole answer, or a stream of events that says it is something else."""
        if incoming.status != 200:
            yield [in_one_line(await whole(entry, speech, incoming))]
            return
        first = await anext(incoming.chunks(), b"")
        is_stream = first.lstrip().startswith(EVENT_BEGINNINGS)
        if is_stream == incoming.media_type.endswith("json"):
            self.quirks.note(entry, "content_type")
        if not is_stream:
            yield [in_one_line(first + await incoming.read())]
            return
        async for found in _framed(entry, first, incoming, self._gathering):
            yield found

    async def aclose(self) -> None:
        """Close what stays open between calls."""
        if self._grpc is not None:
            await self._grpc.aclose()

    def _over_grpc(self) -> GrpcUpstream:
        if self._grpc is None:
            from agents.grpc_out import GrpcUpstream  # noqa: PLC0415 - loads grpc and protobuf, for those who need it

            self._grpc = GrpcUpstream(self._egress)
        return self._grpc

    def _send(self, permit: Permit, entry: Agent, route: Route, ask: Ask) -> AbstractAsyncContextManager[Incoming]:
        if entry.auth is None:
            return self._egress.send(permit, self._outgoing(entry, route, ask))
        ask = self._accounts.begun(entry, ask)
        context = self.contexts.uuid_of(entry, wire.named_in(ask))
        return self._accounts.send(permit, entry, self._outgoing(entry, route, ask), context)

    def _outgoing(self, entry: Agent, route: Route, ask: Ask) -> Outgoing:
        method, url, body = written(route, ask)
        extensions: tuple[tuple[str, str], ...] = ()
        if ask.extensions:
            extensions = ((wire.EXTENSIONS_HEADER[route.speech.version], ask.extensions),)
        return Outgoing(
            method=method,
            url=url,
            headers=(*route.headers, *extensions, *ask.trace),
            body=body,
            trusted=entry.trusted,
            first_byte_s=self._egress.deadlines.agent_first_byte_s,
            may_stream=ask.operation in STREAMING,
        )


def whole(entry: Agent, speech: Speech, incoming: Incoming) -> Coroutine[None, None, bytes]:
    """Read a whole body; an agent's own JSON-RPC error is an answer, with any HTTP status but 401 and 403.

    Raises:
        AgentFault: an error over HTTP+JSON.
        UpstreamError: it did not answer as A2A says.
    """
    return incoming.read() if incoming.status < 300 else _error_of(entry, speech, incoming)


async def _error_of(entry: Agent, speech: Speech, incoming: Incoming) -> bytes:
    """As `whole`, of an answer that is not of success."""
    status = incoming.status
    if status in {401, 403}:  # the hub's own credential was refused: that is no matter between hub and caller
        raise UpstreamRefused(entry.name, status)
    body = await incoming.read()
    if speech.binding == "JSONRPC" and _is_error(body):
        return body
    if status == 429:
        raise UpstreamLimited(entry.name, incoming.header(b"retry-after"))
    fault = faults.read_http(status, discreet(entry, _unescaped(body))) if speech.binding == "HTTP+JSON" else None
    if fault is not None:
        raise AgentFault(entry.name, *fault)
    if status < 500:
        raise UpstreamRefused(entry.name, status)
    raise UpstreamUnavailable(entry.name, f"it answered with HTTP {status}")


def _unescaped(body: bytes) -> bytes:
    """JSON without needless escapes, behind which a credential could hide; what is no JSON as it is."""
    try:
        return judged.encode(judged.decode(body))
    except ParseFailed:
        return body


def _is_error(body: bytes) -> bool:
    answer = answers.read_answer(body)
    return answer is not None and answer.seen is None


async def _framed(entry: Agent, first: bytes, incoming: Incoming, gathering: Gathering) -> AsyncIterator[list[bytes]]:
    """The data of a stream's events, without comments; `first` was read of it before.

    Raises:
        UpstreamInvalid: an event is cut or too large.
    """
    framer = Framer()
    if first and (found := _feed(entry, framer, first)):
        yield found
    clock, asked_at = asyncio.get_running_loop().time, 0.0
    async for chunk in incoming.chunks():
        if clock() - asked_at < GATHER_S and len(chunk) < GATHERED_BYTES:
            gathering.hold(incoming)
        if found := _feed(entry, framer, chunk):
            yield found
        asked_at = clock()
    if rest_of := data_of(framer.rest.strip()):  # some agents leave out the last blank line; half an event is no event
        try:
            judged.decode(rest_of)
        except ParseFailed:
            raise UpstreamInvalid(entry.name, "its stream was cut short") from None
        yield [in_one_line(rest_of)]


def _feed(entry: Agent, framer: Framer, chunk: bytes) -> list[bytes]:
    try:
        return [in_one_line(data) if LF in data else data for data in framer.data(chunk)]
    except EventTooLarge:
        raise UpstreamInvalid(entry.name, "an event of its stream is too large") from None


async def _begin(entry: Agent, events: Events) -> tuple[Events, list[bytes]]:
    """Read the first events of a stream; raises if the very first is an error."""
    first: list[bytes] = await anext(events.data, [])
    if first:
        event_of(entry, events.speech, first[0])
    return events, first


def _shown(entry: Agent, alias: Alias, route: Route, ask: Ask, heard: Heard) -> Heard:
    """An answer with the client's own context."""
    if heard.data is None:
        assert heard.result is not None
        result = alias.shown(heard.result)
        return msgspec.structs.replace(heard, result=result, seen=answers.sighting_of(result))
    data = _shown_data(alias, route.speech, ask.operation, heard.data)
    seen = seen_in(entry, route.speech, ask.operation, data)
    assert seen is not None
    return msgspec.structs.replace(heard, data=data, seen=seen)


async def _renamed(alias: Alias, events: Events, first: list[bytes]) -> AsyncIterator[list[bytes]]:
    if first:
        yield [_shown_data(alias, events.speech, "SubscribeToTask", data) for data in first]
    async for batch in events.data:
        yield [_shown_data(alias, events.speech, "SubscribeToTask", data) for data in batch]


def in_one_line(data: bytes) -> bytes:
    """Write JSON without line ends, which can only stand between tokens: inside a string they are escaped."""
    return data.replace(b"\r", b" ").replace(b"\n", b" ") if LF in data or CR in data else data


def _shown_data(alias: Alias, speech: Speech, operation: Operation, data: bytes) -> bytes:
    if speech.binding != "GRPC":
        return alias.shown_data(data)
    if alias.uuid.encode() not in data:
        return data
    from agents.grpc_wire import renamed  # noqa: PLC0415 - as above

    return renamed(operation, data, alias.uuid, alias.own)


def extensions_of(incoming: Incoming) -> str | None:
    """The extensions that the agent says it used."""
    newer, older = wire.EXTENSIONS_HEADERS
    return incoming.header(newer) or incoming.header(older)
