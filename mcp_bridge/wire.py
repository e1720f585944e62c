"""MCP's vocabulary on the wire: versions, `_meta` keys, JSON-RPC answers as bytes. Pure; knows no transport."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from registry.entries import Headers
from registry.errors import ParseFailed
from registry.judged import JsonObject, RawObject, decode, encode, read_object

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""Revisions with a handshake and sessions, newest first."""

META_PREFIX = "io.modelcontextprotocol/"
META_VERSION = META_PREFIX + "protocolVersion"
META_CAPABILITIES = META_PREFIX + "clientCapabilities"
META_CLIENT = META_PREFIX + "clientInfo"
META_SERVER = META_PREFIX + "serverInfo"

HUB: JsonObject = {"name": "hubbub", "version": "0.1.0"}
"""How the hub names itself, as a server and as a client. Self-reported: nobody may decide by it."""

HTTP_STATUS = {
    -32700: 400,
    -32600: 400,
    -32602: 400,
    -32601: 404,
    -32020: 400,
    -32021: 400,
    -32022: 400,
}
"""HTTP status of a JSON-RPC error (2026-07-28, Streamable HTTP); every other one travels with 200."""

_COMPLETE = msgspec.Raw(b'"complete"')
_HUB = msgspec.Raw(encode(HUB))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to an upstream, whatever revision it speaks."""

    method: str
    params: RawObject = field(default_factory=dict)
    """Without `_meta`."""
    meta: RawObject = field(default_factory=dict)
    """The caller's `_meta`; the hub writes its own envelope over it."""
    headers: Headers = ()
    """What 2026-07-28 wants beside the method: `Mcp-Name`, `Mcp-Param-*`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How an upstream answered: one of the two is set."""

    result: RawObject | None = None
    error: msgspec.Raw | None = None

    @property
    def error_code(self) -> int:
        """The JSON-RPC code of `error`; -32603 when it has none."""
        found = decode(self.error) if self.error is not None else None
        code = found.get("code") if isinstance(found, dict) else None
        return code if isinstance(code, int) else -32603

    @property
    def error_text(self) -> str:
        """The message of `error`."""
        found = decode(self.error) if self.error is not None else None
        return str(found.get("message", "")) if isinstance(found, dict) else ""


def read_answer(message: bytes) -> Answer | None:
    """Read a JSON-RPC message; None: it is no response but a notification or a request.

    Raises:
        ParseFailed, InvalidRequest: it is not JSON-RPC.
    """
    found = read_object(message)
    if "result" in found:
        return Answer(result=read_object(found["result"], "result"))
    if "error" in found:
        return Answer(error=found["error"])
    if "method" in found:
        return None
    raise ParseFailed("neither result nor error")


def as_modern(result: RawObject) -> RawObject:
    """Give a tool result what 2026-07-28 requires: `resultType`, and the hub's name in place of the server's."""
    meta = read_object(result["_meta"]) if bytes(result.get("_meta", b"null")) != b"null" else {}
    meta[META_SERVER] = _HUB
    return {"resultType": _COMPLETE, **result, "_meta": msgspec.Raw(encode(meta))}


def as_legacy(result: RawObject) -> RawObject:
    """Take from a tool result what older clients do not know: `resultType`, structured content that is no object."""
    kept = {name: value for name, value in result.items() if name not in {"resultType", "ttlMs", "cacheScope"}}
    structured = kept.get("structuredContent")
    if structured is not None and not bytes(structured).startswith(b"{"):
        del kept["structuredContent"]
    if "_meta" in kept:
        meta = read_object(kept["_meta"])
        meta.pop(META_SERVER, None)
        kept["_meta"] = msgspec.Raw(encode(meta))
    return kept


def result_message(request_id: bytes | msgspec.Raw, result: bytes) -> bytes:
    """A JSON-RPC response around an encoded result."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (bytes(request_id), result)


def error_message(request_id: bytes | msgspec.Raw, error: bytes | msgspec.Raw | JsonObject) -> bytes:
    """A JSON-RPC error response."""
    encoded = encode(error) if isinstance(error, dict) else bytes(error)
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (bytes(request_id), encoded)


def request_message(method: str, params: dict[str, Any]) -> bytes:
    """A JSON-RPC request. Its id is always 1: each travels on a connection of its own."""
    return encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
