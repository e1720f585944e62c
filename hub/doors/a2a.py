"""The A2A door: `/a2a/{agent}`, JSON-RPC of 1.0 and 0.3, and the agents' cards.

JSON-RPC errors travel with HTTP 200 (clients throw the body of anything else away), and on streaming methods as one
event of a stream. What concerns the HTTP request itself, an unknown agent among it, has its HTTP status (surface.md 7).
"""

from __future__ import annotations

from contextlib import aclosing

from agents import wire
from agents.call import AgentCaller, Stream
from agents.wire import EXTENSIONS_HEADER, Envelope, Request
from hub import errors
from hub.exchange import Exchange, Header
from registry.entries import Agent
from registry.errors import HttpMethodRefused, HubError, NotFound
from registry.gate import Gate
from registry.judged import encode
from registry.registry import Registry

PREFIX = "/a2a/"
CARD_PATHS = frozenset({".well-known/agent-card.json", ".well-known/agent.json"})


class A2ADoor:
    """Answers everything below `/a2a/`."""

    def __init__(self, caller: AgentCaller, *, registry: Registry, gate: Gate) -> None:
        self._caller = caller
        self._registry = registry
        self._gate = gate

    def is_open(self, exchange: Exchange) -> bool:
        """Whether the request needs no key: it reads a card that the operator opened."""
        name, _, rest = exchange.path.removeprefix(PREFIX).partition("/")
        entry = self._registry.catalog.agents.get(name)
        return entry is not None and entry.public_card and exchange.method == "GET" and _is_card(rest)

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request.

        Raises:
            NotFound: no such agent for this caller, or no such path.
            HttpMethodRefused: the path answers other methods only.
        """
        name, _, rest = exchange.path.removeprefix(PREFIX).partition("/")
        entry = self._find(exchange, name)
        if exchange.method == "GET" and _is_card(rest):
            await self._card(exchange, entry)
        elif rest in CARD_PATHS:
            raise HttpMethodRefused("GET")
        elif rest:
            raise NotFound("path", exchange.path)
        elif exchange.method != "POST":
            raise HttpMethodRefused("GET, POST")
        else:
            await self._rpc(exchange, entry)

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
        envelope: Envelope | None = None
        try:
            envelope = wire.read_envelope(await exchange.body())
            wire.check_version(envelope.dialect, exchange.headers, exchange.query)
            request = wire.read_request(envelope)
            if envelope.streams:
                await self._stream(exchange, entry, request)
            else:
                await self._call(exchange, entry, request)
        except HubError as error:
            await _refuse(exchange, envelope, error)

    async def _call(self, exchange: Exchange, entry: Agent, request: Request) -> None:
        """Make a unary call; it is finished and recorded also when the client has left."""
        forwarded = wire.forwarded_headers(request.envelope.dialect, exchange.headers)
        with self._gate.admit(exchange.principal, entry, request_id=exchange.request_id) as permit:
            reply = await self._caller.call(permit, entry, request, forwarded)
        await exchange.reply(200, reply.body, headers=_extensions(request, reply.extensions))

    async def _stream(self, exchange: Exchange, entry: Agent, request: Request) -> None:
        """Pass a stream on until it ends or the client leaves."""
        forwarded = wire.forwarded_headers(request.envelope.dialect, exchange.headers)
        with self._gate.admit(exchange.principal, entry, request_id=exchange.request_id) as permit:
            async with exchange.until_gone(), self._caller.stream(permit, entry, request, forwarded) as stream:
                await _pass_on(exchange, request, stream)


async def _pass_on(exchange: Exchange, request: Request, stream: Stream) -> None:
    await exchange.start(200, headers=_extensions(request, stream.extensions))
    async with aclosing(stream.events) as events:
        async for event in events:
            await exchange.write(event)


def _is_card(rest: str) -> bool:
    return not rest or rest in CARD_PATHS


def _extensions(request: Request, used: str | None) -> list[Header]:
    if used is None:
        return []
    return [(EXTENSIONS_HEADER[request.envelope.dialect].encode(), used.encode("latin-1", "replace"))]


async def _refuse(exchange: Exchange, envelope: Envelope | None, error: HubError) -> None:
    """Answer a JSON-RPC error under the request's id, in the form that its method's clients read."""
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
