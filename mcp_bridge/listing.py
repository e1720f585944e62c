"""What the pages of a server's lists become: things under their exposed names, a bad one set apart alone. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mcp_bridge.naming import exposed_name
from mcp_bridge.uris import exposed_uri
from mcp_bridge.wire import META_SERVER, QUARANTINED
from registry.entries import ListedKind
from registry.errors import CallerError
from registry.judged import JsonObject, RawObject, decode, encode, read_array, read_object
from registry.trust.listings import Listed

MAX_DESCRIPTION_BYTES = 256 * 1024
"""A description larger than this would fill a model's context by itself."""

MAX_NAME = 128
"""Longest tool name of the specification (SEP-986)."""

MAX_URI = 2048
"""A URI travels in a header too."""

MAX_INSTRUCTIONS = 8192
"""Characters of a server's own instructions that are kept."""


MAX_REASON = 500

MORE = "(more)"
"""What the rest of a list is called that was not read."""


class Bad(Exception):
    """The thing cannot be offered; the text says why."""


@dataclass(frozen=True, slots=True)
class ListMethod:
    """One of the four lists."""

    method: str
    capability: str
    """What a server declares that has it."""
    member: str
    """Where the things stand in a page."""
    key: str
    """What names each."""
    exposed: Callable[[str, str], str]


LISTS: Mapping[ListedKind, ListMethod] = {
    "tool": ListMethod("tools/list", "tools", "tools", "name", exposed_name),
    "prompt": ListMethod("prompts/list", "prompts", "prompts", "name", exposed_name),
    "resource": ListMethod("resources/list", "resources", "resources", "uri", exposed_uri),
    "template": ListMethod("resources/templates/list", "resources", "resourceTemplates", "uriTemplate", exposed_uri),
}
"""In the order in which a server is asked."""


def read_page(result: RawObject, member: str) -> tuple[list[msgspec.Raw], str | None]:
    """Split one page into its things and the next cursor; an empty string is a cursor, None ends.

    Raises:
        InvalidRequest, ParseFailed: it is no page of them.
    """
    things = read_array(result.get(member, msgspec.Raw(b"null")), member)
    cursor = decode(result["nextCursor"]) if "nextCursor" in result else None
    return things, cursor if isinstance(cursor, str) else None


def introduction(server: str, said: JsonObject) -> Listed:
    """What a server says of itself (the result of `server/discover` or `initialize`), to be kept."""
    instructions = said.get("instructions")
    of = _names(said.get("serverInfo") or _names(said.get("_meta")).get(META_SERVER))
    capabilities = _names(said.get("capabilities"))
    kept = {
        "capabilities": sorted({*capabilities, *_flags(capabilities)}),
        "extensions": sorted(_names(capabilities.get("extensions"))),
        "instructions": instructions[:MAX_INSTRUCTIONS] if isinstance(instructions, str) else "",
        "name": str(of.get("name", ""))[:MAX_NAME],
        "version": str(of.get("version", ""))[:MAX_NAME],
    }
    return Listed(name=server, exposed=server, description=encode(kept), kind="server")


def _names(found: object) -> JsonObject:
    return found if isinstance(found, dict) else {}


def _flags(capabilities: JsonObject) -> Iterator[str]:
    """What of a capability decides something itself."""
    if _names(capabilities.get("resources")).get("subscribe") is True:
        yield "resources.subscribe"


def listed(server: str, things: Sequence[msgspec.Raw], kind: ListedKind = "tool") -> list[Listed]:
    """Judge each thing by itself; a quarantined one keeps its place and says why."""
    found: list[Listed] = []
    seen: set[str] = set()
    for position, raw in enumerate(things):
        name = f"#{position + 1}"
        try:
            thing = _read(raw, position)
            name = _name(thing, LISTS[kind].key)
            _check(thing, kind)
            description, reason = _without_nulls(raw), None
        except Bad as bad:
            description, reason = b"{}", str(bad)
        if name in seen:
            name, description, reason = f"{name}#{position + 1}", b"{}", "the server lists this twice"
        seen.add(name)
        exposed = LISTS[kind].exposed(server, name)
        found.append(Listed(name, exposed, description, quarantined=reason, kind=kind))
    return found


def left_out(server: str, reason: str, kind: ListedKind) -> Listed:
    """What stands for the rest of a list that was not read."""
    return Listed(MORE, LISTS[kind].exposed(server, MORE), b"{}", quarantined=reason, kind=kind)


def _read(raw: msgspec.Raw, position: int) -> JsonObject:
    if len(bytes(raw)) > MAX_DESCRIPTION_BYTES:
        raise Bad(f"its description is larger than {MAX_DESCRIPTION_BYTES // 1024} KiB")
    try:
        thing = decode(raw)
    except CallerError:
        raise Bad("it is nested too deeply, or no JSON") from None
    if not isinstance(thing, dict):
        raise Bad(f"entry {position + 1} is not an object")
    return thing


def _name(thing: JsonObject, key: str) -> str:
    name, longest = thing.get(key), MAX_NAME if key == "name" else MAX_URI
    if not isinstance(name, str) or not name or len(name) > longest or not name.isprintable():
        raise Bad(f"its {key} must be 1 to {longest} printable characters")
    return name


_TYPES: Mapping[str, tuple[type, str]] = {
    "name": (str, "a string"),
    "title": (str, "a string"),
    "description": (str, "a string"),
    "mimeType": (str, "a string"),
    "size": (int, "a whole number"),
    "annotations": (dict, "an object"),
    "_meta": (dict, "an object"),
    "outputSchema": (dict, "an object"),
    "icons": (list, "an array"),
    "arguments": (list, "an array"),
}
"""Clients with typed models fail on a whole list for one member of another type."""


def _check(thing: JsonObject, kind: ListedKind) -> None:
    meta = thing.get("_meta")
    if isinstance(meta, dict) and QUARANTINED in meta:
        raise Bad(str(meta[QUARANTINED])[:MAX_REASON])
    for member, (kinds, words) in _TYPES.items():
        if thing.get(member) is not None and not isinstance(thing[member], kinds):
            raise Bad(f"its {member} must be {words}")
    schema = thing.get("inputSchema")
    if kind == "tool" and (not isinstance(schema, dict) or schema.get("type") != "object"):
        raise Bad('its inputSchema must be an object with "type": "object"')
    if not isinstance(thing.get("name"), str):
        raise Bad("its name is missing")
    _check_items(thing, "icons", "src")
    _check_items(thing, "arguments", "name")


def _check_items(thing: JsonObject, member: str, needed: str) -> None:
    items: Sequence[Any] = thing.get(member) or ()
    if not all(isinstance(item, dict) and isinstance(item.get(needed), str) for item in items):
        raise Bad(f"each of its {member} must be an object with a {needed}")


def _without_nulls(raw: msgspec.Raw) -> bytes:
    """Members that are null are as good as absent, and some clients take them absent only."""
    description = bytes(raw)
    if b"null" not in description:
        return description
    members = read_object(raw)
    kept = {member: value for member, value in members.items() if bytes(value) != b"null"}
    return encode(kept) if len(kept) < len(members) else description
