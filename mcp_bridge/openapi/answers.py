"""What a service answered, as the result of a tool call. Pure.

A large answer is shaped by what the caller asked for (`_fields`) and, beyond a bound, shortened with a note that says so.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from mcp_bridge.openapi.operations import FIELDS, Operation, is_json
from registry.errors import CallerError
from registry.judged import JsonObject, check_size, decode, encode

MAX_TEXT = 64 * 1024
"""Bytes of an answer that a model is given: some 16,000 tokens."""

MAX_BINARY = 4 * 1024 * 1024
"""Bytes of an image, a sound or a file."""

MAX_ERROR = 4 * 1024

_SHORTENINGS = ((100, 8_000), (30, 2_000), (10, 500), (3, 100), (1, 40))
"""Items of each list and characters of each text that are kept, tried in turn."""


_Tree = dict[str, Any]
"""Dotted paths: what stands below each name; None: all of it."""


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer, read whole."""

    status: int
    media_type: str
    """Without parameters, in lower case."""
    charset: str = "utf-8"
    body: bytes
    is_encoded: bool = False
    """Compressed, though nobody asked for that."""
    location: str | None = None
    retry_after: str | None = None


def result(operation: Operation, answered: Answered, fields: list[str]) -> JsonObject:
    """The `CallToolResult`; any status but success is an error that has the status and the body."""
    if not 200 <= answered.status < 300:
        return failed(_failure(answered))
    if answered.is_encoded:
        return failed("The service compressed its answer, which the hub did not ask for; it cannot be read.")
    if is_json(answered.media_type) and answered.body.strip():
        try:
            check_size(answered.body)
            return _json(operation, decode(answered.body), fields)
        except CallerError:
            return failed(f"HTTP {answered.status}, and the answer is no JSON:\n{_readable(answered, MAX_ERROR)}")
    if "outputSchema" in operation.tool:
        return failed(f"HTTP {answered.status}, and the answer is not the JSON of the document.")
    return _content(operation, answered)


def failed(text: str) -> JsonObject:
    """An error of the tool."""
    return {"content": [{"type": "text", "text": text}], "isError": True}


def _failure(answered: Answered) -> str:
    said = [f"HTTP {answered.status}"]
    if 300 <= answered.status < 400:
        said.append(f"The service redirects to {answered.location or 'nowhere'}; redirects are not followed.")
    if answered.retry_after:
        said.append(f"Retry after: {answered.retry_after}")
    if answered.body and not answered.is_encoded:
        said.append(_readable(answered, MAX_ERROR))
    return "\n".join(said)


def _readable(answered: Answered, most: int) -> str:
    text = _decoded(answered, answered.body[:most])
    return text if len(answered.body) <= most else f"{text}… ({len(answered.body)} bytes in all)"


def _decoded(answered: Answered, body: bytes) -> str:
    try:
        return body.decode(answered.charset, "replace")
    except LookupError:
        return body.decode("utf-8", "replace")


def _json(operation: Operation, value: Any, fields: list[str]) -> JsonObject:
    if "outputSchema" in operation.tool and not isinstance(value, dict):
        return failed(f"The answer is not the object of the document:\n{_text(value)[:MAX_ERROR]}")
    chosen = select(value, _tree(fields)) if fields else value
    whole = encode(chosen)
    notes = []
    if len(whole) > MAX_TEXT:
        chosen, how = shortened(chosen)
        notes.append(
            f"This answer of {len(whole)} bytes was shortened: {how}."
            f' Ask for less with {FIELDS}, such as {{"{FIELDS}": ["items.name"]}}, or with the parameters of the operation.'
        )
    content = [{"type": "text", "text": text} for text in (_text(chosen), *notes)]
    return {"content": content, "structuredContent": chosen} if chosen is not None else {"content": content}


def _text(value: Any) -> str:
    return encode(value).decode()


def _tree(fields: list[str]) -> _Tree:
    tree: _Tree = {}
    for field in sorted(fields, key=lambda field: field.count(".")):
        *above, last = field.split(".")
        here: _Tree | None = tree
        for name in above:
            if here is not None:
                here = here.setdefault(name, {})
        if here is not None:  # else a shorter path has it whole
            here[last] = None
    return tree


def select(value: Any, tree: _Tree | None) -> Any:
    """The part of `value` that `tree` names; lists are looked through."""
    if tree is None:
        return value
    if isinstance(value, list):
        return [select(item, tree) for item in value]
    if isinstance(value, dict):
        return {name: select(value[name], below) for name, below in tree.items() if name in value}
    return value


def shortened(value: Any) -> tuple[Any, str]:
    """`value` with its lists and texts cut until it fits, and what was done; its shape stays."""
    for items, characters in _SHORTENINGS:
        cut = _cut(value, items, characters)
        if len(encode(cut)) <= MAX_TEXT:
            return cut, f"at most {items} items of each list and {characters} characters of each text are left"
    return ({} if isinstance(value, dict) else []), "nothing is left, since it has very many members"


def _cut(value: Any, items: int, characters: int) -> Any:
    if isinstance(value, dict):
        return {name: _cut(item, items, characters) for name, item in value.items()}
    if isinstance(value, list):
        return [_cut(item, items, characters) for item in value[:items]]
    if isinstance(value, str) and len(value) > characters:
        return f"{value[:characters]}…"
    return value


def _content(operation: Operation, answered: Answered) -> JsonObject:
    kind, body = answered.media_type, answered.body
    if not body:
        return {"content": [{"type": "text", "text": f"HTTP {answered.status}, without content."}]}
    if _is_text(kind):
        content = [{"type": "text", "text": _decoded(answered, body[:MAX_TEXT])}]
        if len(body) > MAX_TEXT:
            note = f"This answer of {len(body)} bytes was cut after {MAX_TEXT}."
            content.append({"type": "text", "text": note})
        return {"content": content}
    if len(body) > MAX_BINARY:
        return failed(
            f"HTTP {answered.status}: {len(body)} bytes of {kind or 'an unknown type'}, too large to pass on."
        )
    data = base64.b64encode(body).decode()
    for name in ("image", "audio"):
        if kind.startswith(f"{name}/"):
            return {"content": [{"type": name, "data": data, "mimeType": kind}]}
    resource = {"uri": f"openapi:{operation.name}", "mimeType": kind or "application/octet-stream", "blob": data}
    return {"content": [{"type": "resource", "resource": resource}]}


def _is_text(media_type: str) -> bool:
    return (
        media_type.startswith("text/")
        or media_type.endswith(("+xml", "+yaml", "json-seq"))
        or media_type
        in {"application/xml", "application/yaml", "application/x-ndjson", "application/javascript", "application/json"}
    )
