"""The A2A door: `/a2a/{agent}`, JSON-RPC of 1.0 and 0.3, and the agents' cards.

JSON-RPC errors travel with HTTP 200 (clients throw the body of anything else away), and on streaming methods as one
event of a stream. What concerns the HTTP request itself, an unknown agent among it, has its HTTP status (surface.md 7).
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import aclosing

from agents import rest, wire
from agents.call import AgentCaller
from agents.clients import JsonRpcClient, RestClient
from agents.shown import Shown
from agents.speech import STREAMING, Ask, Version
from agents.wire import EXTENSIONS_HEADER, Envelope, Request
from hub import errors
from hub.exchange import Exchange, Header
from registry.entries import Agent
from registry.errors import HttpMethodRefused, HubError, NotFound
from registry.gate import Gate
from registry.judged import encode
from registry.registry import Registry

PREFIX = "/a2a/"
MAX_EVENT_DIGITS = 18
CARD_PATHS = frozenset({".well-known/agent-card.json", ".well-known/agent.json"})


class A2ADoor:
    """Answers everything below `/a2a/`."""

    def __init__(self, caller: AgentCaller, *, registry: Registry, gate: Gate) -> None:
        self._caller = caller
        self._registry = registry
        self._gate = gate

    def is_open(self, exchange: Exchange) -> bool:
        """Whether the request needs no key: it reads a card that the operator opened."""
        if exchange.method != "GET":
            return False
        name, _, below = exchange.path.removeprefix(PREFIX).partition("/")
        entry = self._registry.catalog.agents.get(name)
        return entry is not None and entry.public_card and _is_card(below)

    def __call__(self, exchange: Exchange) -> Awaitable[None]:
        """Answer one request.

        Raises:
            NotFound: no such agent for this caller, or no such path.
            HttpMethodRefused: the path answers other methods only.
        """
        name, _, below = exchange.path.removeprefix(PREFIX).partition("/")
        entry = self._find(exchange, name)
        if exchange.method == "GET" and _is_card(below):
            return self._card(exchange, entry)
        if below in CARD_PATHS:
            raise HttpMethodRefused("GET")
        if below:
            return self._rest(exchange, entry)
        if exchange.method != "POST":
            raise HttpMethodRefused("GET, POST")
        return self._rpc(exchange, entry)

    def _find(self, exchange: Exchange, name: str) -> Agent:
        entry = self._registry.catalog.agents.get(name)
        if entry is None or not (exchange.principal.grants.allow("agent", name) or self.is_open(exchange)):
            raise NotFound("agent", name)
        return entry

    async def _card(self, exchange: Exchange, entry: Agent) -> None:
        card = await self._caller.card(entry)
        etag = card.etag.encode()
        headers = [(b"etag", etag), (b"cache-control", b"private, max-age=60"), (b"vary", b"authorization")]
        if etag in exchange.headers.get(b"if-none-match", b""):
            await exchange.reply(304, b"", headers=headers)
        else:
            await exchange.reply(200, card.body, headers=headers)

    async def _rpc(self, exchange: Exchange, entry: Agent) -> None:
        """Answer JSON-RPC; a unary call is finished and recorded also when the client has left."""
        envelope: Envelope | None = None
        try:
            envelope = wire.read_envelope(await exchange.body())
            wire.check_version(envelope.version, exchange.headers, exchange.query)
            request = wire.read_request(envelope)
            if envelope.streams:
                await self._stream(exchange, entry, request)
                return
            forwarded = wire.forwarded_headers(envelope.version, exchange.headers, exchange.principal.task)
            principal = wire.in_context(exchange.principal, entry, request)
            with self._gate.admit(principal, entry, request_id=exchange.request_id) as permit:
                heard = await self._caller.call(permit, entry, request, forwarded)
            body = heard.data if heard.data is not None else JsonRpcClient(envelope).result(heard)
            await exchange.reply(200, body, headers=_extensions(envelope.version, heard.extensions))
        except HubError as error:
            await _refuse(exchange, envelope, error)

    async def _stream(self, exchange: Exchange, entry: Agent, request: Request) -> None:
        """Pass a stream on until it ends or the client leaves."""
        version = request.envelope.version
        forwarded = wire.forwarded_headers(version, exchange.headers, exchange.principal.task)
        client, after = JsonRpcClient(request.envelope), _last_event(exchange)
        principal = wire.in_context(exchange.principal, entry, request)
        admitted = self._gate.admit(principal, entry, request_id=exchange.request_id)
        with admitted as permit, exchange.until_gone():
            async with (
                self._caller.stream(permit, entry, request, forwarded, after=after) as stream,
                aclosing(stream.batches) as batches,
            ):
                await exchange.start(200, headers=_extensions(version, stream.extensions))
                async for batch in batches:
                    await exchange.write(client.events(entry, batch, echoes=stream.echoes))

    async def _rest(self, exchange: Exchange, entry: Agent) -> None:
        """Answer HTTP+JSON, which is a version by its path."""
        path = exchange.target.partition(b"?")[0].decode("ascii", "replace").removeprefix(PREFIX)
        path = path[len(path.partition("/")[0]) :]
        client = RestClient("0.3" if path.startswith("/v1/") else "1.0", "GetTask")
        try:
            body = await exchange.body() if exchange.method == "POST" else b""
            said = rest.read_request(exchange.method, path, exchange.query, body)
            wire.check_version(said.version, exchange.headers, b"")
            user_agent = exchange.headers.get(b"user-agent", b"")
            client = RestClient(said.version, said.operation, user_agent=user_agent)
            forwarded = wire.forwarded_headers(said.version, exchange.headers, exchange.principal.task)
            ask = client.asked(said, forwarded)
            if ask.operation in STREAMING:
                await self._rest_stream(exchange, entry, ask, client)
                return
            principal = wire.in_context(exchange.principal, entry, ask)
            with self._gate.admit(principal, entry, request_id=exchange.request_id) as permit:
                heard = await self._caller.ask(permit, entry, ask)
            headers = _extensions(said.version, heard.extensions)
            await exchange.reply(200, client.result(heard), media_type=client.media_type, headers=headers)
        except HubError as error:
            exchange.failure = error
            fault = errors.a2a(error, exchange.request_id)
            if exchange.started:
                await exchange.write(client.error_event(fault))
            else:
                status, written = client.error(fault, errors.http_status(error))
                await exchange.reply(status, written, headers=errors.extra_headers(error))

    async def _rest_stream(self, exchange: Exchange, entry: Agent, ask: Ask, client: RestClient) -> None:
        principal = wire.in_context(exchange.principal, entry, ask)
        admitted = self._gate.admit(principal, entry, request_id=exchange.request_id)
        with admitted as permit, exchange.until_gone():
            async with (
                self._caller.follow(permit, entry, ask, after=_last_event(exchange)) as stream,
                aclosing(stream.batches) as batches,
            ):
                first: list[Shown] = await anext(batches, [])  # an error before the first event has an HTTP status
                await exchange.start(200, headers=_extensions(client.version, stream.extensions))
                await exchange.write(b"".join([client.event(entry, shown) for shown in first]))
                async for batch in batches:
                    await exchange.write(b"".join([client.event(entry, shown) for shown in batch]))


def _last_event(exchange: Exchange) -> int | None:
    """The number of the last event that a returning subscriber has (WHATWG HTML, Last-Event-ID)."""
    given = exchange.headers.get(b"last-event-id", b"").strip()
    return int(given) if given.isdigit() and len(given) <= MAX_EVENT_DIGITS else None


def _is_card(below: str) -> bool:
    return not below or below in CARD_PATHS


def _extensions(version: Version, used: str | None) -> list[Header]:
    if used is None:
        return []
    return [(EXTENSIONS_HEADER[version].encode(), used.encode("latin-1", "replace"))]


async def _refuse(exchange: Exchange, envelope: Envelope | None, error: HubError) -> None:
    """Answer a JSON-RPC error under the request's id, in the form that its method's clients read."""
    exchange.failure = error
    body = encode(
        {
            "jsonrpc": "2.0",
            "id": envelope.id if envelope else None,
            "error": errors.a2a(error, exchange.request_id),
        }
    )
    status = errors.jsonrpc_status(error)
    if status == 200 and not exchange.started and envelope is not None and envelope.streams:
        await exchange.start(200)
    if exchange.started:
        await exchange.write(b"data: " + body + b"\n\n")
    else:
        await exchange.reply(status, body, headers=errors.extra_headers(error))
