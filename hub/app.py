"""The ASGI application: Host, Origin, key and route of every request; the one boundary where failures become answers.

Decides on `scope["path"]` and fails closed: a path without a route has no door, a door without a key answers nobody
unless it opens that very path itself.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from hub import errors
from hub.auth import Authenticator, repeated_credential, secret_of
from hub.exchange import ClientGone, Exchange, Header, Receive, Send
from hub.hosts import Hosts
from hub.http_exchange import HttpExchange, Limits
from registry.auditing.audit import Audit
from registry.errors import (
    INTERNAL,
    CredentialRepeated,
    HeadersTooLarge,
    HostRefused,
    HubError,
    NotFound,
    OriginRefused,
    Overloaded,
    Unauthenticated,
)
from registry.gate import Gate
from registry.identity import NOBODY, DoorName
from registry.judged import JsonObject, encode
from registry.warnings import HEADER

logger = logging.getLogger(__name__)

PROBLEM = b"application/problem+json"

_INVALID_TOKEN = b', error="invalid_token", error_description="It is unknown, has expired, or is not for this place."'
"""The same for all reasons: which it is, the operator's log says."""

Form = Callable[[HubError, str], JsonObject]
Handler = Callable[[Exchange], Awaitable[None]]


def jsonrpc(form: Form) -> Form:
    """Wrap an error member for an answer to a request whose id is not known."""
    return lambda error, request_id: {"jsonrpc": "2.0", "id": None, "error": form(error, request_id)}


@dataclass(frozen=True, slots=True)
class Door:
    """A handler and how it speaks of errors."""

    handler: Handler
    form: Form
    name: DoorName
    """By which keys say where they may be used."""
    is_open: Callable[[Exchange], bool] = lambda _exchange: False
    """Whether this very request needs no key."""
    media_type: bytes = b"application/json"
    challenge: Callable[[str], Header] | None = None
    """The `WWW-Authenticate` for a path; None: the hub's plain one."""
    id_header: bytes | None = None
    """The protocol's own name for `x-request-id`, which it is sent beside."""


@dataclass(frozen=True, slots=True)
class Routes:
    """Where paths lead: whole paths first, then the longest prefix."""

    exact: Mapping[str, Door]
    prefixes: tuple[tuple[str, Door], ...]

    def find(self, path: str) -> Door | None:
        """The door of a path; None: there is none."""
        door = self.exact.get(path)
        if door is not None:
            return door
        for prefix, found in self.prefixes:
            if path.startswith(prefix):
                return found
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What the application needs once everything is open."""

    routes: Routes
    authenticator: Authenticator
    hosts: Hosts
    limits: Limits
    audit: Audit
    gate: Gate


Opener = Callable[[], AbstractAsyncContextManager[House]]


class App:
    """Serves exchanges once the house is open; ASGI only for the lifespan, which uvicorn drives."""

    def __init__(self, open_house: Opener) -> None:
        self._open = open_house
        self._house: House | None = None
        self._numbers = itertools.count(1)
        self._start = os.urandom(6).hex()

    def limits(self) -> Limits:
        """The limits of the open house."""
        return self._house.limits if self._house is not None else Limits()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Open the house at the server's start and close it at its end."""
        assert scope["type"] == "lifespan", "requests come as exchanges"
        await receive()
        try:
            async with self._open() as self._house:
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception as error:
            step = "startup" if self._house is None else "shutdown"
            cause = error
            while isinstance(cause, ExceptionGroup) and len(cause.exceptions) == 1:
                cause = cause.exceptions[0]
            if isinstance(cause, OSError):  # an address that cannot be had, a full disk: its text says all
                await send({"type": f"lifespan.{step}.failed", "message": str(cause)})
                return
            logger.exception("the hub could not start or stop")
            await send({"type": f"lifespan.{step}.failed", "message": ""})
            raise
        await send({"type": "lifespan.shutdown.complete"})

    async def serve(self, exchange: HttpExchange) -> None:
        """Serve one request; every failure becomes an answer, or cuts an answer that had begun."""
        house = self._house
        assert house is not None, "the server accepts nobody before the house is open"
        exchange.request_id = f"req_{self._start}{next(self._numbers):x}"
        door = house.routes.find(exchange.path)
        if door is not None and door.id_header is not None:
            exchange.extra.append((door.id_header, exchange.request_id.encode()))
        try:
            _check_origin(house, exchange)
            if not _is_open(exchange, door):
                name, authenticator = door.name if door else None, house.authenticator
                known = authenticator.known(exchange, name, exchange.line)
                exchange.principal = known or await authenticator.principal(exchange, name, exchange.line)
            await _answer(house, exchange, door)
            exchange.finish()
        except ClientGone:
            pass
        except HubError as error:
            exchange.failure = error
            await _refuse(exchange, door, error)
        except asyncio.CancelledError:
            exchange.abort()  # the drain time is over
            raise
        except Exception:  # the boundary: whatever a door did not foresee
            logger.exception("request failed", extra={"request_id": exchange.request_id, "path": exchange.path})
            if exchange.started:
                exchange.abort()  # a half answer must not look whole
            else:
                await _refuse(exchange, door, INTERNAL)
        finally:
            exchange.close()
            if exchange.failure is not None:
                _note(house.audit, exchange, exchange.failure)


def _note(audit: Audit, exchange: HttpExchange, failure: HubError) -> None:
    """Note with what error a request was answered."""
    principal = None if exchange.principal is NOBODY else exchange.principal
    where = f"{exchange.method} {exchange.path}"
    audit.refused(principal, failure, request_id=exchange.request_id, where=where)


def _answer(house: House, exchange: HttpExchange, door: Door | None) -> Awaitable[None]:
    """Have a door answer; raises `NotFound` where there is none."""
    if _is_preflight(exchange):
        return exchange.reply(204, b"", headers=_preflight(exchange))
    if door is None:
        raise NotFound("path", exchange.path)
    return _warned(house, exchange, door) if exchange.principal.is_warned else door.handler(exchange)


async def _warned(house: House, exchange: HttpExchange, door: Door) -> None:
    """Have a door answer, and the answer say of what little is left."""
    with house.gate.telling(exchange.principal, exchange.request_id, partial(_tell, exchange)):
        await door.handler(exchange)


def _tell(exchange: HttpExchange, warning: str) -> None:
    """Say in the answer, if it has not begun, what is nearly used up."""
    exchange.extra.append((HEADER.encode(), warning.encode("ascii", "replace")))


def _check_origin(house: House, exchange: HttpExchange) -> None:
    """Check the size of the headers, Host and Origin."""
    limit = house.limits.header_bytes
    if exchange.head_bytes > limit and sum(len(name) + len(value) for name, value in exchange.raw_headers) > limit:
        raise HeadersTooLarge(limit)
    if not house.hosts.serve(exchange.headers, exchange.raw_headers):
        raise HostRefused
    if len(exchange.headers) < len(exchange.raw_headers) and (header := repeated_credential(exchange.raw_headers)):
        raise CredentialRepeated(header)
    origin = exchange.headers.get(b"origin")
    if origin is not None:
        if not house.hosts.allow(origin):
            raise OriginRefused
        exchange.extra += [(b"access-control-allow-origin", origin), (b"vary", b"origin")]


def _is_open(exchange: HttpExchange, door: Door | None) -> bool:
    """Whether a request needs no key; browsers send none with the preflight, which reaches no door."""
    return _is_preflight(exchange) or (door is not None and door.is_open(exchange))


def _is_preflight(exchange: HttpExchange) -> bool:
    return exchange.method == "OPTIONS" and b"origin" in exchange.headers


def _preflight(exchange: HttpExchange) -> list[Header]:
    asked = exchange.headers.get(b"access-control-request-headers", b"authorization, content-type")
    return [
        (b"access-control-allow-methods", b"GET, POST, PATCH, DELETE"),
        (b"access-control-allow-headers", asked),
        (b"access-control-expose-headers", b"x-request-id, mcp-session-id, retry-after"),
        (b"access-control-max-age", b"600"),
    ]


async def _refuse(exchange: HttpExchange, door: Door | None, error: HubError) -> None:
    """Answer an error in the door's own form."""
    if exchange.started:
        logger.error("a door raised after it had begun to answer", extra={"request_id": exchange.request_id})
        exchange.abort()
        return
    if isinstance(error, Overloaded):
        logger.error("refused: the hub cannot decide", extra={"reason": error.text})
    form = door.form if door else errors.problem
    headers = errors.extra_headers(error)
    if isinstance(error, Unauthenticated):
        if door is not None and door.challenge is not None:
            headers = [door.challenge(exchange.path)]
        if secret_of(exchange.headers) is not None:  # RFC 6750 §3: only who brought one is told that it is wrong
            headers = [(name, value + _INVALID_TOKEN) for name, value in headers]
    await exchange.reply(
        errors.row_of(error).status,
        encode(form(error, exchange.request_id)),
        media_type=door.media_type if door else PROBLEM,
        headers=headers,
    )
