"""Headers of 2026-07-28 that mirror the body: `Mcp-Name` and the `Mcp-Param-*` that a tool's schema asks for. Pure.

(2026-07-28, Streamable HTTP, Custom Headers. `mcp.shared.inbound` has the like, but costs a second to import.)
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from registry.entries import Headers
from registry.judged import JsonObject

ANNOTATION = "x-mcp-header"
_QUOTED = f'"{ANNOTATION}"'.encode()
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BEGIN = "=?base64?"
_SENTINEL = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)
_SAFE = re.compile(r"[\x20-\x7e]*")
_WHOLE = re.compile(r"-?[0-9]+(?:\.0+)?")
_PRIMITIVE = frozenset({"string", "integer", "boolean"})


def encode_header(value: str) -> str:
    """A header's value for any text: `=?base64?…?=` where the text would not survive a header."""
    if _SAFE.fullmatch(value) and value == value.strip() and not _SENTINEL.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def decode_header(value: str) -> str | None:
    """The text of a header's value; None: its base64 is broken, or not the one spelling it has."""
    match = _SENTINEL.fullmatch(value) if value.startswith(_BEGIN) else None
    if match is None:
        return value
    try:
        decoded = base64.b64decode(match[1], validate=True)
        text = decoded.decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return text if base64.b64encode(decoded).decode() == match[1] else None


@lru_cache(maxsize=1024)
def annotated(description: bytes) -> bool:
    """Whether a tool's description may ask for parameter headers: a quick look that spares reading most schemas."""
    return _QUOTED in description


def declared(schema: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield (token, type, path) of each annotated property that a plain chain of `properties` reaches."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return
    for name, sub in properties.items():
        if isinstance(sub, dict):
            token = sub.get(ANNOTATION)
            if isinstance(token, str) and _TOKEN.fullmatch(token) and sub.get("type") in _PRIMITIVE:
                yield token, sub["type"], (*path, name)
            yield from declared(sub, (*path, name))


def parameter_headers(schema: JsonObject, arguments: JsonObject) -> Headers:
    """The `Mcp-Param-*` headers of a call."""
    found = ((token, _rendered(_at(arguments, path))) for token, _, path in declared(schema))
    return tuple((f"mcp-param-{token.lower()}", encode_header(text)) for token, text in found if text is not None)


def mismatch(schema: JsonObject, arguments: JsonObject, headers: Mapping[bytes, bytes]) -> str | None:
    """Name the `Mcp-Param-*` header that says something else than the body; None: they agree."""
    for token, kind, path in declared(schema):
        name = f"Mcp-Param-{token}"
        raw = headers.get(name.lower().encode())
        text = _rendered(_at(arguments, path))
        if raw is None and text is None:
            continue
        said = decode_header(raw.decode("latin-1").strip(" \t")) if raw is not None else None
        if said is None or text is None or not _same(kind, said, text):
            return name
    return None


def _same(kind: str, said: str, text: str) -> bool:
    if kind == "integer" and _WHOLE.fullmatch(said) and _WHOLE.fullmatch(text):
        return said.partition(".")[0] == text.partition(".")[0]
    return said == text


def _at(arguments: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        arguments = arguments.get(name) if isinstance(arguments, dict) else None
    return arguments


def _rendered(value: Any) -> str | None:
    """A scalar as its header shows it; None: absent, null or no scalar."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int, float)) else None
