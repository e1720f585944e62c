"""URIs of resources as `/mcp` shows them (surface.md 6), and where they stand in results. Pure.

What a server says is rewritten only where its bytes can hold a URI, and everything else of it goes on as it came.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from registry.errors import CallerError
from registry.judged import RawObject, decode, encode, read_array, read_object

UI = "ui://"
"""Clients find MCP Apps by this scheme, so it stays (SEP-1865)."""

_URI = b'"uri"'
_UI_URI = b"esourceUri"


def exposed_uri(server: str, uri: str) -> str:
    """Return the URI, or URI template, under which the aggregate offers `uri` of `server`."""
    scheme = server.replace("_", ".")
    return f"{UI}{scheme}/{uri[len(UI) :]}" if uri.startswith(UI) else f"{scheme}+{uri}"


def split_uri(exposed: str) -> tuple[str, str] | None:
    """The server's name and its own URI; None: it is not what `exposed_uri` makes."""
    if exposed.startswith(UI):
        scheme, mark, rest = exposed[len(UI) :].partition("/")
        rest = UI + rest
    else:
        scheme, mark, rest = exposed.partition("+")
    server = scheme.replace(".", "_")
    return (server, rest) if mark and exposed_uri(server, rest) == exposed else None


def exposed_result(server: str, result: RawObject) -> RawObject:
    """A result of `tools/call`, `prompts/get` or `resources/read` with the URIs that the aggregate shows."""
    for member, rewrite in _MEMBERS:
        if member in result and bytes(result[member]).find(_URI) >= 0:  # `in` takes half as long again
            result = {**result, member: _each(server, result[member], rewrite)}
    return exposed_meta_of(server, result)


def exposed_meta_of(server: str, owner: RawObject) -> RawObject:
    """A tool or result whose `_meta` names its MCP App (`ui.resourceUri`, once `ui/resourceUri`) as the aggregate does."""
    if "_meta" not in owner or _UI_URI not in bytes(owner["_meta"]):
        return owner
    try:
        meta = read_object(owner["_meta"])
        _expose(server, meta, "ui/resourceUri")
        if "ui" in meta:
            ui = read_object(meta["ui"])
            _expose(server, ui, "resourceUri")
            meta["ui"] = msgspec.Raw(encode(ui))
    except CallerError:
        return owner
    return {**owner, "_meta": msgspec.Raw(encode(meta))}


_Rewrite = Callable[[str, msgspec.Raw], msgspec.Raw]


def _each(server: str, raw: msgspec.Raw, rewrite: _Rewrite) -> msgspec.Raw:
    try:
        items = read_array(raw, "items")
    except CallerError:
        return raw
    return msgspec.Raw(encode([rewrite(server, item) if _URI in bytes(item) else item for item in items]))


def _block(server: str, raw: msgspec.Raw) -> msgspec.Raw:
    """A link, an embedded resource, or what was read of a resource."""
    try:
        block = read_object(raw)
        _expose(server, block, "uri")
        if "resource" in block:
            resource = read_object(block["resource"])
            _expose(server, resource, "uri")
            block["resource"] = msgspec.Raw(encode(resource))
    except CallerError:
        return raw
    return msgspec.Raw(encode(block))


def _message(server: str, raw: msgspec.Raw) -> msgspec.Raw:
    """A prompt's message, around one block."""
    try:
        message = read_object(raw)
    except CallerError:
        return raw
    if "content" in message:
        message["content"] = _block(server, message["content"])
    return msgspec.Raw(encode(message))


def _expose(server: str, owner: RawObject, member: str) -> None:
    uri = decode(owner[member]) if member in owner else None
    if isinstance(uri, str):
        owner[member] = msgspec.Raw(encode(exposed_uri(server, uri)))


_MEMBERS: tuple[tuple[str, _Rewrite], ...] = (("content", _block), ("contents", _block), ("messages", _message))
