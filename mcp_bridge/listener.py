"""Who hears what a server says during a call, and answers what it asks: elicitation, sampling, roots.

A caller says in each request what it can be asked (`_meta`, `clientCapabilities`, in the form of 2026-07-28, which the
doors also write for older clients); nobody else is ever asked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from mcp_bridge.wire import META_CAPABILITIES, RELATED_TASK
from registry.entries import Feature, Server
from registry.errors import CallerError
from registry.judged import JsonObject, RawObject, decode, encode

ASK_S = {"elicitation/create": 600.0, "sampling/createMessage": 120.0, "roots/list": 10.0}
"""What a server may ask of a client, and how long an answer may take."""

NOT_ASKED = -32601
"""The code with which a server is told that it cannot ask this here, as a client without the capability would."""

NOT_ANSWERED = -32603

SERVER_KEY = "hubbub/server"
"""`_meta` key of what a client is asked: the name of the server that asks."""

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
NOTHING = msgspec.Raw(b"{}")
"""Capabilities of a client that can be asked nothing."""


class Unanswered(Exception):
    """The client did not answer, or must not be asked: the JSON-RPC error for the server that asked."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Front(Protocol):
    """The session of a client of 2025-11-25 or older, which can be asked while its call is under way."""

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when the session has ended."""


class Listener(Protocol):
    """The caller of one call, as the server's side sees it."""

    @property
    def front(self) -> Front | None:
        """None: a client of 2026-07-28, which is asked by `input_required`."""

    async def opened(self) -> None:
        """The upstream answers with a stream: its end may be far away."""

    async def notified(self, message: bytes) -> None:
        """A notification came, as JSON-RPC; its progress token is the caller's own."""

    async def asked(self, method: str, params: JsonObject) -> JsonObject:
        """Ask the client, for a `front` only; raises `Unanswered`."""


def declared(meta: RawObject) -> msgspec.Raw:
    """The capabilities that a caller declared, encoded."""
    return meta.get(META_CAPABILITIES, NOTHING)


@lru_cache(maxsize=1024)
def passed_on(capabilities: bytes, *, sampling: bool) -> msgspec.Raw:
    """What of a caller's capabilities its server may know: sampling only where the operator allows it."""
    found = _object(capabilities)
    if not sampling:
        found.pop("sampling", None)
    return msgspec.Raw(encode(found))


@lru_cache(maxsize=1024)
def interactive(capabilities: bytes) -> msgspec.Raw:
    """Those capabilities by which an older server can ask something; `{}` when there are none."""
    found = _object(capabilities)
    wanted = ("elicitation", "sampling", "roots")
    return msgspec.Raw(encode({name: found[name] for name in wanted if isinstance(found.get(name), dict)}))


def _object(capabilities: bytes) -> JsonObject:
    try:
        found = decode(capabilities)
    except CallerError:
        return {}
    return found if isinstance(found, dict) else {}


def question(asking: Server | Feature, capabilities: bytes, method: str, params: JsonObject) -> JsonObject:
    """The params with which a client may be asked: its capabilities allow it, and the name of who asks stands in it.

    Raises:
        Unanswered: the client cannot be asked this.
    """
    if not _may_ask(_object(capabilities), method, params):
        raise Unanswered(NOT_ASKED, f"{method[:80]} is not offered here")
    meta = params.get("_meta")
    kept = {name: value for name, value in meta.items() if name != RELATED_TASK} if isinstance(meta, dict) else {}
    asked = {**params, "_meta": {**kept, SERVER_KEY: asking.name}}
    if method == "elicitation/create":
        asked["message"] = f"[{asking.name}] {params.get('message', '')}"
    return asked


def _may_ask(capabilities: JsonObject, method: str, params: JsonObject) -> bool:
    if method == "roots/list":
        return isinstance(capabilities.get("roots"), dict)
    if method == "sampling/createMessage":
        sampling = capabilities.get("sampling")
        return isinstance(sampling, dict) and ("tools" in sampling or not params.get("tools"))
    if method != "elicitation/create":
        return False
    elicitation = capabilities.get("elicitation")
    if not isinstance(elicitation, dict):
        return False
    if params.get("mode", "form") == "form":
        return "form" in elicitation or "url" not in elicitation  # {} has always meant forms
    return params.get("mode") == "url" and "url" in elicitation and _safe(params.get("url"))


def _safe(url: object) -> bool:
    """Whether a person may be sent there: https, or a page of the client's own machine."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        return False
    return parts is not None and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL))
