"""Guards over what a model answers: a body, or a stream once all of it has come.

What is said in pieces is put together before guards look, so that nothing hides at the border of two. A text that was
redacted stands whole in the place of its first piece.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from registry.egress.sse import MAX_EVENT_BYTES, Framer, data_of
from registry.errors import GuardRefused, ParseFailed, UpstreamInvalid
from registry.gate import Permit
from registry.judged import JsonObject, decode, encode
from registry.rules.guards import Pipeline, foreign, look_now, read

MAX_BYTES = MAX_EVENT_BYTES
"""Of a stream that guards wait for."""

JSON = frozenset({"arguments", "partial_json"})
"""Members whose text is JSON: guards look at what it says."""

SAID = JSON | {"content", "delta", "input", "reasoning", "reasoning_content", "refusal", "text", "thinking"}
"""Members that may come in pieces, in any of the formats."""

ABOUT = ("type", "index", "item_id", "output_index", "content_index", "summary_index")
"""Members that say which text a piece belongs to."""

Pieces = dict[tuple[Any, ...], list[tuple[JsonObject, str]]]


def clears(permit: Permit, data: bytes) -> bool:
    """Whether guards surely find nothing in a body: of what may be put together there are several, with numbers."""
    return data.count(b'"index"') < 2 and permit.clears(data)


async def whole(permit: Permit, data: bytes) -> bytes:
    """What the caller may get of a body that was not cleared.

    Raises:
        GuardRefused: nothing.
        UpstreamInvalid: guards cannot look at it.
    """
    value = read(data, permit.entry_name)
    made = await _screened(permit, [value])
    return data if made is None else encode(made[0])


async def stream(permit: Permit, chunks: AsyncIterator[bytes]) -> bytes:
    """Likewise, of an event stream."""
    framer, parts, size = Framer(), [], 0
    async for chunk in chunks:
        size += len(chunk)
        if size > MAX_BYTES:
            raise UpstreamInvalid(
                permit.entry_name, f"its stream is larger than {MAX_BYTES} bytes, and guards wait for it"
            )
        parts += framer.feed(chunk)
    parts.append(framer.rest)
    told = [(at, data) for at, part in enumerate(parts) if (data := data_of(part)) not in (b"", b"[DONE]")]
    made = await _screened(permit, [read(data, permit.entry_name) for _, data in told])
    for (at, data), value in zip(told, made or (), strict=made is not None):
        parts[at] = parts[at].replace(data, encode(value)) if b"\n" not in data else b"data: %b\n\n" % encode(value)
    return b"".join(parts)


async def _screened(permit: Permit, events: list[Any]) -> list[Any] | None:
    """The events as guards leave them; None: as they are."""
    pieces: Pieces = {}
    for event in events:
        _collect(event, (), pieces)
    said = [_opened(place[-1], "".join(owner[name] for owner, name in found)) for place, found in pieces.items()]
    made = await permit.screened(said)
    for text, old, found in zip(made, said, pieces.values(), strict=True):
        if text is not old:
            for owner, name in found:
                owner[name] = ""
            owner, name = found[0]
            owner[name] = text if isinstance(text, str) else encode(text).decode()
    left = await permit.screened(events)
    return None if made is said and left is events else list(left)


def _opened(name: str, text: str) -> Any:
    """What a text says that is JSON, another text itself."""
    if name not in JSON:
        return text
    try:
        found = decode(text.encode())
    except (ParseFailed, UnicodeEncodeError):
        return text
    return found if isinstance(found, dict | list) else text


def _collect(value: Any, place: tuple[Any, ...], pieces: Pieces) -> None:
    """Note where each text stands of which there may be more in other events."""
    if isinstance(value, list):
        for at, item in enumerate(value):
            numbered = isinstance(item, dict) and "index" in item
            _collect(item, place if numbered else (*place, at), pieces)
    elif isinstance(value, dict):
        known = ABOUT[1:] if "index" in value else ABOUT  # what is numbered says its type in the first piece alone
        about = (*place, *((name, repr(value[name])) for name in known if name in value))
        for name, item in value.items():
            if isinstance(item, str) and name in SAID:
                pieces.setdefault((*about, name), []).append((value, name))
            else:
                _collect(item, (*about, name), pieces)


def sent(guards: Pipeline, body: bytes, judged: JsonObject, left: JsonObject) -> bytes:
    """The body of a request as guards leave it, who were asked about `judged`, that for another place, and left `left`.

    Raises:
        GuardRefused: they would have to look at it again, and cannot.
    """
    asked = decode(body)
    model = {"model": asked["model"]} if "model" in asked else {}
    is_same = {**judged, **model} == asked
    return msgspec.json.encode({**left, **model} if is_same else _again(guards, asked))


def _again(guards: Pipeline, value: Any) -> Any:
    """A value as guards of arguments leave it, which were asked about the call before; notes nothing, waits for nothing."""
    name = foreign(guards.guards, "arguments")
    if name is not None:
        raise GuardRefused(name, "arguments", "it has not looked at them as another provider is sent them")
    return look_now(guards.guards, "arguments", value, approved=True).value
