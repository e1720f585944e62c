"""The one agent call: check whose it is, send it, note what comes back, hand it on.

Owns no cards (`discovery`) and no owners (`ledger`). A unary call is finished and recorded once it was sent, whoever
still listens; a stream that is left only closes its connection. Neither ever cancels a task at the agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from agents import listing, wire
from agents.discovery import MAX_CARD_BYTES, Discovery, Published, Route
from agents.ledger import Ledger
from agents.wire import Answer, Request
from registry import judged
from registry.discreet import discreet
from registry.egress.http import Egress, Incoming, Outgoing
from registry.egress.sse import EventTooLarge, Framer, data_of
from registry.entries import Agent, Headers
from registry.errors import (
    NotSupported,
    UpstreamInvalid,
    UpstreamRefused,
    UpstreamUnavailable,
)
from registry.gate import Permit

LISTED_AT_ONCE = 8
"""GetTask calls under way for one ListTasks: a page is soon there, and an agent is not flooded."""

ABOUT_ONE_TASK = frozenset({"get", "cancel", "subscribe"})
"""Operations that may only show the task they name."""


class Reply(NamedTuple):
    """A whole JSON-RPC response for the caller, and the extensions that the agent says it used."""

    body: bytes
    extensions: str | None = None


class Stream(NamedTuple):
    """A stream under way: whole SSE events, as they come."""

    events: AsyncGenerator[bytes]
    extensions: str | None


class AgentCaller:
    """Calls agents. One for a process; safe to use from several tasks."""

    def __init__(self, egress: Egress, *, discovery: Discovery, ledger: Ledger) -> None:
        self._egress = egress
        self._discovery = discovery
        self._ledger = ledger

    async def card(self, entry: Agent) -> Published:
        """The hub's card of an agent.

        Raises:
            UpstreamError: the agent cannot be asked, or offers no card.
        """
        published = (await self._discovery.find(_callable(entry))).published
        if published is None:
            raise UpstreamInvalid(entry.name, "it offers no agent card")
        return published

    async def call(self, permit: Permit, entry: Agent, request: Request, forwarded: Headers) -> Reply:
        """Make a unary call within `permit`. Every id in the reply is recorded before this returns.

        Raises:
            NotFound: a task or context of the request is not the caller's.
            VersionNotSupported: the agent does not speak the caller's dialect.
            UpstreamError: the agent failed, or showed what is somebody else's.
        """
        route = await self._prepare(permit, entry, request)
        if request.envelope.operation == "list":
            return await self._list(permit, entry, request, route)
        async with self._egress.send(permit, self._outgoing(entry, route, request, forwarded)) as incoming:
            body, answer = await _read(incoming, entry, request)
            extensions = _extensions(incoming)
        if answer.seen is not None:
            if request.envelope.operation == "extended_card":
                body = self._extended_card(entry, request, body)
            else:
                await self._record(permit, entry, request, answer)
        return Reply(body, extensions)

    @asynccontextmanager
    async def stream(self, permit: Permit, entry: Agent, request: Request, forwarded: Headers) -> AsyncIterator[Stream]:
        """Make a streaming call within `permit`; leaving closes the connection and nothing more.

        Raises:
            HubError: as `call`; also while the events are read, after some of them came.
        """
        route = await self._prepare(permit, entry, request)
        async with self._egress.send(permit, self._outgoing(entry, route, request, forwarded)) as incoming:
            if incoming.status == 200 and not incoming.media_type.endswith("json"):
                events = self._events(permit, entry, request, incoming)
            else:  # an error before the stream, or an agent that answers whole
                events = self._whole(permit, entry, request, await _read(incoming, entry, request))
            yield Stream(events, _extensions(incoming))

    async def _prepare(self, permit: Permit, entry: Agent, request: Request) -> Route:
        found = await self._discovery.find(_callable(entry))
        route = found.route(request.envelope.dialect)
        await self._ledger.check(entry.name, permit.principal.id, request)
        return route

    def _outgoing(self, entry: Agent, route: Route, request: Request, forwarded: Headers) -> Outgoing:
        return Outgoing(
            url=route.url,
            headers=route.headers + forwarded if forwarded else route.headers,  # the same object: encoded once
            body=request.encode(route.tenant),
            trusted=entry.trusted,
            first_byte_s=self._egress.deadlines.agent_first_byte_s,
            may_stream=request.envelope.streams,
        )

    async def _record(self, permit: Permit, entry: Agent, request: Request, answer: Answer) -> None:
        seen = answer.seen
        if seen is None:
            return
        if request.envelope.operation in ABOUT_ONE_TASK and seen.task_id not in {None, request.task_id}:
            raise UpstreamInvalid(entry.name, "it answered with another task")
        await self._ledger.record(entry.name, permit.principal.id, seen, context_id=request.context_id)

    def _extended_card(self, entry: Agent, request: Request, body: bytes) -> bytes:
        is_one = len(body) <= MAX_CARD_BYTES
        card = self._discovery.rebuild(entry, judged.decode(judged.read_object(body)["result"])) if is_one else None
        if card is None:
            raise UpstreamInvalid(entry.name, "its extended agent card cannot be read")
        return judged.encode({"jsonrpc": "2.0", "id": request.envelope.id, "result": card})

    async def _events(
        self, permit: Permit, entry: Agent, request: Request, incoming: Incoming
    ) -> AsyncGenerator[bytes]:
        """Pass whole events on. Their ids are recorded before they leave, their states soon after."""
        framer = Framer()
        begun = False
        async for chunk in incoming.chunks():
            try:
                events = framer.feed(chunk)
            except EventTooLarge:
                raise UpstreamInvalid(entry.name, "an event of its stream is too large") from None
            passed = []
            for event in events:
                if not begun or wire.shows_state(event):
                    begun = await self._note(permit, entry, request, event) or begun
                if begun:
                    passed.append(discreet(entry, event) if b'"error"' in event else event)
            if passed:
                yield passed[0] if len(passed) == 1 else b"".join(passed)
        rest = framer.rest.strip()
        if data_of(rest):  # some agents leave out the last blank line; half an event is no event
            if wire.read_answer(data_of(rest)) is None:
                raise UpstreamInvalid(entry.name, "its stream was cut short")
            begun = await self._note(permit, entry, request, rest)
            yield discreet(entry, rest) + b"\n\n"
        if not begun:
            raise UpstreamInvalid(entry.name, "its stream ended without an event")

    async def _note(self, permit: Permit, entry: Agent, request: Request, event: bytes) -> bool:
        """Record what an event shows; False: it is a comment."""
        data = data_of(event)
        if not data:
            return False
        answer = wire.read_answer(data)
        if answer is None:
            raise UpstreamInvalid(entry.name, "its stream is not A2A JSON-RPC")
        await self._record(permit, entry, request, answer)
        return True

    async def _whole(
        self, permit: Permit, entry: Agent, request: Request, read: tuple[bytes, Answer]
    ) -> AsyncGenerator[bytes]:
        """Pass one response on as a stream of one event."""
        body, answer = read
        await self._record(permit, entry, request, answer)
        # line ends can only stand between tokens: inside a string JSON escapes them
        yield b"data: " + body.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n\n"

    async def _list(self, permit: Permit, entry: Agent, request: Request, route: Route) -> Reply:
        """Answer ListTasks: the page from the ledger, each task of it from the agent."""
        query = listing.read_query(request, agent=entry.name, owner=permit.principal.id)
        rows, total = await self._ledger.page(query.listing)
        page = rows[: query.listing.size]
        bodies = await self._details(permit, entry, route, [query.detail(request, row.task_id) for row in page])
        result = {
            "tasks": [
                listing.shown(row, body, include_artifacts=query.include_artifacts)
                for row, body in zip(page, bodies, strict=True)
            ],
            "nextPageToken": listing.next_token(query.listing, rows),
            "pageSize": query.listing.size,
            "totalSize": total,
        }
        return Reply(judged.encode({"jsonrpc": "2.0", "id": request.envelope.id, "result": result}))

    async def _details(self, permit: Permit, entry: Agent, route: Route, wanted: list[Request]) -> list[bytes]:
        """Ask the agent for tasks, some at a time; together they may not be larger than one answer."""
        bodies = [b""] * len(wanted)
        waiting = iter(enumerate(wanted))

        async def work() -> None:
            for index, request in waiting:
                async with self._egress.send(permit, self._outgoing(entry, route, request, ())) as incoming:
                    bodies[index], answer = await _read(incoming, entry, request)
                if sum(map(len, bodies)) > self._egress.max_answer_bytes:
                    raise UpstreamInvalid(entry.name, "the tasks of this page are too large; ask for a smaller one")
                await self._record(permit, entry, request, answer)

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(LISTED_AT_ONCE, len(wanted))):
                    tasks.create_task(work())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        return bodies


def _callable(entry: Agent) -> Agent:
    if entry.unavailable is not None:
        raise NotSupported(f"{entry.name}: {entry.unavailable}")
    return entry


def _extensions(incoming: Incoming) -> str | None:
    return incoming.header("a2a-extensions") or incoming.header("x-a2a-extensions")


async def _read(incoming: Incoming, entry: Agent, request: Request) -> tuple[bytes, Answer]:
    """Read a whole response; an agent's own JSON-RPC error is an answer, with any HTTP status but 401 and 403."""
    status = incoming.status
    if status in {401, 403}:  # the hub's own credential was refused: that is no matter between hub and caller
        raise UpstreamRefused(entry.name, status)
    body = await incoming.read()
    answer = wire.read_answer(body)
    if status != 200 and (answer is None or answer.seen is not None):
        if status < 500:
            raise UpstreamRefused(entry.name, status)
        raise UpstreamUnavailable(entry.name, f"it answered with HTTP {status}")
    if answer is None:
        raise UpstreamInvalid(entry.name, "its answer is not A2A JSON-RPC")
    if answer.id != request.envelope.id:
        response = judged.read_object(body)
        response["id"] = request.envelope.id
        body = judged.encode(response)
    return (body if answer.seen is not None else discreet(entry, body)), answer
