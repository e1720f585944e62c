"""MCP's vocabulary on the wire: versions, `_meta` keys, JSON-RPC answers as bytes. Pure; knows no transport."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from registry.entries import Headers
from registry.errors import InvalidRequest, ParseFailed
from registry.judged import JsonObject, RawObject, decode, encode, read_object

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""Revisions with a handshake and sessions, newest first."""

META_PREFIX = "io.modelcontextprotocol/"
META_VERSION = META_PREFIX + "protocolVersion"
META_CAPABILITIES = META_PREFIX + "clientCapabilities"
META_CLIENT = META_PREFIX + "clientInfo"
META_SERVER = META_PREFIX + "serverInfo"
META_LOG_LEVEL = META_PREFIX + "logLevel"
TASKS = META_PREFIX + "tasks"
"""The extension by which a server may answer a call with a task (SEP-2663)."""
RELATED_TASK = META_PREFIX + "related-task"
"""In the `_meta` of what is said about a task of 2025-11-25."""
QUARANTINED = "hubbub/quarantined"
"""In the `_meta` of a listed thing: why it cannot be offered."""

TASK = "hubbub/task"
"""In the `_meta` of a call: what a server that calls the hub for it passes on as the header `hubbub-task`."""

HUB: JsonObject = {"name": "hubbub", "version": "0.1.0"}
"""How the hub names itself, as a server and as a client. Self-reported: nobody may decide by it."""

METHOD_NOT_FOUND = -32601
RESOURCE_NOT_FOUND = -32002
"""Of 2025-11-25 and older; -32602 since."""

HTTP_STATUS = {
    -32700: 400,
    -32600: 400,
    -32602: 400,
    METHOD_NOT_FOUND: 404,
    -32020: 400,
    -32021: 400,
    -32022: 400,
}
"""HTTP status of a JSON-RPC error (2026-07-28, Streamable HTTP); every other one travels with 200."""

_COMPLETE = msgspec.Raw(b'"complete"')
_HUB = msgspec.Raw(encode(HUB))
_ONLY_HUB = msgspec.Raw(encode({META_SERVER: HUB}))


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request to an upstream, whatever revision it speaks."""

    method: str
    params: JsonObject = {}
    """Without `_meta`; its members may be raw."""
    meta: RawObject = {}
    """The caller's `_meta`; the hub writes its own envelope over it."""
    name: str | None = None
    """What 2026-07-28 mirrors as `Mcp-Name`."""
    headers: Headers = ()
    """`Mcp-Param-*`."""
    as_task: bool = False
    """It calls a tool that a server of 2025-11-25 only runs as a task."""


class Answer(msgspec.Struct, frozen=True):
    """How an upstream answered: one of the two is set."""

    result: RawObject | None = None
    error: msgspec.Raw | None = None
    is_for_caller: bool = False
    """It asks the caller for input, by a handle of the hub's."""

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


_ABSENT = msgspec.Raw(b"")


class _Message(msgspec.Struct):
    result: RawObject | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw = _ABSENT
    method: msgspec.Raw = _ABSENT


_message = msgspec.json.Decoder(_Message)


def read_answer(message: bytes) -> Answer | None:
    """Read a JSON-RPC message; None: it is no response but a notification or a request.

    Raises:
        ParseFailed, InvalidRequest: it is not JSON-RPC.
    """
    try:
        found = _message.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ParseFailed("no JSON-RPC message") from None
    if found.result is not msgspec.UNSET:
        return Answer(found.result)
    if found.error is not _ABSENT:
        if "code" not in read_object(found.error, "error"):
            raise ParseFailed("the error of a proxy before the server, not JSON-RPC's")
        return Answer(error=found.error)
    if found.method is not _ABSENT:
        return None
    raise ParseFailed("neither result nor error")


def as_raw(result: JsonObject) -> RawObject:
    """A result of the hub's own in the form of an upstream's."""
    return {name: msgspec.Raw(encode(value)) for name, value in result.items()}


def as_modern(result: RawObject) -> bytes:
    """Encode a tool result with what 2026-07-28 requires: `resultType`, and the hub's name in place of the server's."""
    meta = {**_meta_of(result), META_SERVER: _HUB} if "_meta" in result else _ONLY_HUB
    return encode({"resultType": _COMPLETE, **result, "_meta": meta})


def _meta_of(result: RawObject) -> RawObject:
    """The members of `_meta`; none when it is no object."""
    try:
        return read_object(result["_meta"])
    except InvalidRequest:
        return {}


def as_legacy(result: RawObject) -> RawObject:
    """Take from a tool result what older clients do not know: `resultType`, structured content that is no object."""
    kept = {name: value for name, value in result.items() if name not in {"resultType", "ttlMs", "cacheScope"}}
    structured = kept.get("structuredContent")
    if structured is not None and not bytes(structured).startswith(b"{"):
        del kept["structuredContent"]
    if "_meta" in kept:
        meta = _meta_of(kept)
        meta.pop(META_SERVER, None)
        kept["_meta"] = msgspec.Raw(encode(meta))
    return kept


def result_message(request_id: msgspec.Raw, result: bytes) -> tuple[bytes, ...]:
    """A JSON-RPC response around an encoded result, in parts: a list may be long."""
    return b'{"jsonrpc":"2.0","id":%b,"result":' % bytes(request_id), result, b"}"


def error_message(request_id: bytes | msgspec.Raw, error: bytes | msgspec.Raw | JsonObject) -> bytes:
    """A JSON-RPC error response."""
    encoded = encode(error) if isinstance(error, dict) else bytes(error)
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (bytes(request_id), encoded)


def notification_message(method: str, params: Mapping[str, object]) -> bytes:
    """A JSON-RPC notification."""
    return encode({"jsonrpc": "2.0", "method": method, "params": params})


def request_message(method: str, params: Mapping[str, object]) -> bytes:
    """A JSON-RPC request. Its id is always 1: each travels on a connection of its own."""
    return encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
