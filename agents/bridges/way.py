"""The way to one agent's platform: JSON and server-sent events over the hub's one way out, with the agent's credentials."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace as replace_entry
from typing import Any, NamedTuple, Protocol

from msgspec.structs import replace

from agents.bridges.repeats import Repeats, Said
from registry.discreet import discreet
from registry.egress.http import Egress, Incoming, Outgoing
from registry.egress.sse import MAX_EVENT_BYTES, EventTooLarge, Framer, data_of, field_of
from registry.entries import Agent, Headers
from registry.errors import (
    ParseFailed,
    UpstreamError,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamUnavailable,
)
from registry.gate import Permit
from registry.judged import JsonObject, decode, encode

TRIES = 4
PAUSE_S, LONGEST_S = 1.0, 30.0
"""How often a platform is asked that says it is busy, and how long is waited between, unless it says how long."""

SLICE_BYTES = 16 * 1024
"""Of a stream, as much is looked at at once."""

MAX_REASON = 500
"""Characters of a platform's own error text that are told."""

JsonPieces = Callable[[], AsyncIterator[bytes]]
"""A document of JSON that is not in memory: its bytes, from the beginning whenever it is called."""

Body = JsonObject | JsonPieces


class Event(NamedTuple):
    """One server-sent event."""

    name: str
    """Empty: it has none."""
    data: bytes
    id: str = ""


class Credentials(Protocol):
    """What signs requests to a platform, beside the agent's own headers."""

    async def headers(self, way: Way, outgoing: Outgoing) -> Headers:
        """Those of one request; raises `UpstreamError`."""

    def refused(self, sent: Headers) -> bool:
        """Note that the platform did not take these; whether other ones may be had."""


class Way:
    """To one agent, within one permit."""

    def __init__(
        self,
        egress: Egress,
        permit: Permit,
        entry: Agent,
        credentials: Credentials | None = None,
        *,
        is_direct: bool = False,
    ) -> None:
        """`is_direct`: beside the operator's proxy."""
        self._is_direct = is_direct
        self._egress = egress
        self._permit = permit
        self._entry = entry
        self.credentials = credentials
        self.said = Said()
        """What a bridge notes here is left out where the platform's streams say it once more, whole and long."""

    @property
    def name(self) -> str:
        """The agent's, for errors."""
        return self._entry.name

    async def json(self, method: str, url: str, body: JsonObject | None = None, *, headers: Headers = ()) -> Any:
        """Ask for a JSON document; raises as `send`."""
        async with self.send(method, url, body, headers=headers) as incoming:
            data = await incoming.read()
        return self.read(data) if data else None

    def read(self, data: bytes) -> Any:
        """Read JSON of the platform's; raises `UpstreamInvalid`."""
        try:
            return decode(data)
        except ParseFailed:
            raise UpstreamInvalid(self.name, "what it says is not JSON") from None

    async def events(
        self,
        method: str,
        url: str,
        body: Body | None = None,
        *,
        headers: Headers = (),
        most: int = MAX_EVENT_BYTES,
    ) -> AsyncGenerator[Event]:
        """Ask for server-sent events of at most `most` bytes, as they come; raises as `send`, also while they are read."""
        accept = ("accept", "text/event-stream")
        async with (
            self.send(method, url, body, headers=(accept, *headers)) as incoming,
            aclosing(self.events_of(incoming, most)) as events,
        ):
            async for event in events:
                yield event

    async def events_of(self, incoming: Incoming, most: int = MAX_EVENT_BYTES) -> AsyncGenerator[Event]:
        """The server-sent events of an answer, as they come; raises `UpstreamError` while they are read."""
        framer = Framer(most)
        async with aclosing(self._slices(incoming)) as slices:
            async for part in slices:
                try:
                    found = framer.feed(part)
                except EventTooLarge:
                    reason = f"an event of its stream has more than {most // 1024**2} MiB"
                    raise UpstreamInvalid(self.name, reason) from None
                found.reverse()
                while found:  # what was told is not held any longer
                    event = found.pop()
                    if data := data_of(event):
                        yield Event(field_of(event, b"event"), data, field_of(event, b"id"))

    async def lines_of(self, incoming: Incoming) -> AsyncGenerator[bytes]:
        """The lines of an answer, as they come, without empty ones; raises as `events_of`."""
        held = bytearray()
        async with aclosing(self._slices(incoming)) as slices:
            async for part in slices:
                *whole, rest = part.split(b"\n")
                for line in whole:
                    held += line
                    if held.strip():
                        yield bytes(held)
                    held.clear()
                held += rest
                if len(held) > MAX_EVENT_BYTES:
                    raise UpstreamInvalid(
                        self.name, f"a line of its stream has more than {MAX_EVENT_BYTES // 1024**2} MiB"
                    )
        if held.strip():
            yield bytes(held)

    @asynccontextmanager
    async def send(
        self, method: str, url: str, body: Body | bytes | None = None, *, headers: Headers = ()
    ) -> AsyncGenerator[Incoming]:
        """Send one request. One that the platform is too busy for, or whose token has expired, is sent again.

        Raises:
            UpstreamError: it was not answered, or not with success.
        """
        pause, is_renewed = PAUSE_S, False
        for tries_left in reversed(range(TRIES)):
            outgoing, signed = await self._outgoing(method, url, body, headers)
            async with self._egress.send(self._permit, outgoing) as incoming:
                if incoming.status < 300:
                    yield incoming
                    return
                failure = await self._failure(incoming, signed)
            if is_expired(incoming) and not is_renewed and self.credentials and self.credentials.refused(signed):
                is_renewed = True
                continue
            if not _is_busy(incoming) or not tries_left:
                raise failure
            after = _seconds(incoming.header(b"retry-after"))
            if after is not None and after > LONGEST_S:
                raise failure
            await asyncio.sleep(pause if after is None else after)
            pause = min(pause * 2, LONGEST_S)

    async def _slices(self, incoming: Incoming) -> AsyncGenerator[bytes]:
        """A stream as it comes, little by little, without what it repeats."""
        repeats = Repeats(self.said)
        async with aclosing(incoming.pieces()) as pieces:
            async for piece in pieces:
                for begin in range(0, len(piece), SLICE_BYTES):
                    yield repeats.feed(piece[begin : begin + SLICE_BYTES])

    def elsewhere(self) -> Way:
        """The same way without the agent's headers and credentials, to places that are not its platform."""
        return Way(self._egress, self._permit, replace_entry(self._entry, headers=()))

    def of_machine(self) -> Way:
        """To what only the machine can ask that the hub runs on, beside the operator's proxy, which could not reach it.

        Raises:
            UpstreamUnavailable: the operator did not write the agent, whose address would be sent the hub's own credentials.
        """
        if not self._entry.trusted:
            reason = "the identity of the hub's machine is for agents in hub.yaml, or made with the admin key"
            raise UpstreamUnavailable(self.name, f"it cannot be called as it is configured: {reason}")
        return Way(self._egress, self._permit, replace_entry(self._entry, headers=()), is_direct=True)

    async def _outgoing(
        self, method: str, url: str, body: Body | bytes | None, headers: Headers
    ) -> tuple[Outgoing, Headers]:
        """A request, and what of its headers are credentials."""
        entry = self._entry
        kind = () if body is None or isinstance(body, bytes) else (("content-type", "application/json"),)
        outgoing = Outgoing(
            method=method,
            url=url,
            headers=(*kind, *headers, *entry.headers),
            body=encode(body) if isinstance(body, dict) else body() if callable(body) else body,
            trusted=entry.trusted,
            is_direct=self._is_direct,
            first_byte_s=self._egress.deadlines.agent_first_byte_s,
        )
        if self.credentials is None:
            return outgoing, ()
        signed = await self.credentials.headers(self, outgoing)
        return replace(outgoing, headers=(*outgoing.headers, *signed)), signed

    async def _failure(self, incoming: Incoming, signed: Headers = ()) -> UpstreamError:
        """What an answer without success is; it may quote what it was sent."""
        status, after = incoming.status, incoming.header(b"retry-after")
        reason = _reason(discreet(self._entry, await incoming.read(), *(value for _, value in signed)))
        if status in {401, 403}:
            return UpstreamRefused(self.name, status)
        if status == 429:
            return UpstreamLimited(self.name, after, reason or None)
        said = reason or f"it answered with status {status}"
        if status >= 500:
            return UpstreamUnavailable(self.name, said)
        return UpstreamRejected(self.name, status, {"message": said})


def is_expired(incoming: Incoming) -> bool:
    """Whether other credentials may be taken, where these have ended: AWS says so with another status than all others."""
    is_aws = incoming.status == 403 and "ExpiredToken" in (incoming.header(b"x-amzn-errortype") or "")
    return incoming.status == 401 or is_aws


def _is_busy(incoming: Incoming) -> bool:
    """Whether the same request may be taken in a while; AWS says of a conflict whether it may, as while a session is at work."""
    is_conflict = incoming.status == 409 and "Retryable" in (incoming.header(b"x-amzn-errortype") or "")
    return incoming.status in {429, 503} or is_conflict


def _reason(body: bytes) -> str:
    """What a platform says of an error, wherever it says it; empty: nothing that is known."""
    try:
        found = decode(body)
    except ParseFailed:
        return ""
    for name in ("error", "message", "detail", "Message", "reason", "title"):
        inner = found.get(name) if isinstance(found, dict) else None
        if isinstance(inner, dict):
            inner = inner.get("message") or inner.get("code")
        if isinstance(inner, str):
            return inner[:MAX_REASON]
    return ""


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None
