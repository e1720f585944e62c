"""What MCP servers say, as steps of a turn, and what callers answer them, in MCP's words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.bridges.answering import text_of
from agents.bridges.bridge import Piece, Step, Text, Turn, Working
from agents.bridges.way import Way
from registry.errors import NotSupported, UpstreamInvalid
from registry.judged import JsonObject

PROGRESS, QUESTIONS = "urn:hubbub:mcp:progress", "urn:hubbub:mcp:elicitation"
"""Of a status's metadata: a progress notification's params. Of a question's data part: what is asked, by the server's keys."""

ELICIT = "elicitation/create"

REFUSALS = frozenset({"decline", "cancel"})
"""Texts that answer no question."""

_URL_REQUIRED = -32042
"""Of an error: the call can be made once addresses were visited (MCP 2025-11-25, Elicitation, "URL Elicitation Required Error")."""


def result_in(way: Way, message: JsonObject) -> JsonObject:
    """The result that a response has; raises `UpstreamInvalid` if it has none."""
    error, result = message.get("error"), message.get("result")
    if isinstance(error, dict):
        raise UpstreamInvalid(way.name, str(error.get("message") or "it answered with an error")[:500])
    if not isinstance(result, dict):
        raise UpstreamInvalid(way.name, "its answer is not MCP")
    return result


def why(task: JsonObject) -> str:
    """Why a task of the server's gave no result."""
    error = task.get("error")
    said = error.get("message") if isinstance(error, dict) else task.get("statusMessage")
    return str(said or f"its task is {task.get('status')}")[:500]


def progress(message: JsonObject, token: str) -> Working | None:
    """What a progress notification of the call with this token tells; None: it is none."""
    params = message.get("params")
    told = params if isinstance(params, dict) else {}
    if message.get("method") != "notifications/progress" or told.get("progressToken") != token:
        return None
    text = told.get("message")
    shown = {name: told[name] for name in ("progress", "total", "message") if name in told}
    return Working(text if isinstance(text, str) else None, {PROGRESS: shown})


def questions(way: Way, asked: Any) -> list[JsonObject]:
    """What a server asks, requests by its keys, as parts: texts, and data with the schemas. Raises `UpstreamInvalid`."""
    if not isinstance(asked, dict) or not asked:
        raise UpstreamInvalid(way.name, "it asks for input in no known form")
    texts, found = [], {}
    for key, one in asked.items():
        params = one.get("params") if isinstance(one, dict) else None
        if not isinstance(params, dict) or one.get("method") != ELICIT:
            raise UpstreamInvalid(way.name, "it asks for what an agent's caller cannot be asked")
        where = f" {params['url']}" if isinstance(params.get("url"), str) else ""
        texts.append({"text": f"{params.get('message') or 'It waits for an answer.'}{where}"})
        found[key] = params
    return [*texts, {"data": {QUESTIONS: found}}]


def required(message: JsonObject) -> JsonObject | None:
    """The addresses that are to be visited before a call can be made, as `questions` takes them; None: there are none."""
    error = message.get("error")
    if not isinstance(error, dict) or error.get("code") != _URL_REQUIRED:
        return None
    data = error.get("data")
    listed = data.get("elicitations") if isinstance(data, dict) else None
    found = [one for one in listed or () if isinstance(one, dict) and isinstance(one.get("url"), str)]
    return {f"q{at}": {"method": ELICIT, "params": {**one, "mode": "url"}} for at, one in enumerate(found)} or None


def responses(asked: JsonObject, turn: Turn) -> JsonObject:
    """The caller's answer to each question: a data part has the members that are asked for, a text is the only one.

    Raises:
        NotSupported: it answers none.
    """
    data = next((part["data"] for part in turn.parts if isinstance(part.get("data"), dict)), None)
    text = text_of(turn).strip()
    found: JsonObject = {}
    for key, one in asked.items():
        params = one["params"]
        if params.get("mode") == "url":
            found[key] = {"action": text.lower() if text.lower() in REFUSALS else "accept"}
            continue
        schema = params.get("requestedSchema")
        members = schema.get("properties") if isinstance(schema, dict) else None
        members = members if isinstance(members, dict) else {}
        content = data if data is None or len(asked) == 1 else data.get(key)
        if content is None and text.lower() in REFUSALS:
            found[key] = {"action": text.lower()}
            continue
        if content is None and len(members) == 1:
            content = {name: _typed(schema, text) for name, schema in members.items()}
        if not isinstance(content, dict):
            raise NotSupported(f"{turn.way.name} is answered by a data part with {', '.join(members)}.")
        found[key] = {"action": "accept", "content": content}
    return found


def _typed(schema: Any, text: str) -> Any:
    """A text as what a schema wants, as far as it can be read so; the server judges it."""
    kind = str(schema.get("type")) if isinstance(schema, dict) else "string"
    if kind == "boolean":
        return text.lower() in {"yes", "y", "ok", "true"}
    try:
        return {"integer": int, "number": float}.get(kind, str)(text)
    except ValueError:
        return text


def said(way: Way, result: JsonObject) -> Sequence[Step]:
    """What a call gave; raises `UpstreamInvalid` if it failed."""
    listed = result.get("content")
    blocks = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    if result.get("isError") is True:
        texts = [one["text"] for one in blocks if isinstance(one.get("text"), str)]
        raise UpstreamInvalid(way.name, " ".join(texts)[:500] or "its tool failed")
    steps = [step for block in blocks if (step := _shown(block)) is not None]
    if result.get("structuredContent") is not None:
        steps.append(Piece({"data": result["structuredContent"]}))
    return steps


def _shown(block: JsonObject) -> Step | None:
    """A content block as a step; None: of a kind that is not known."""
    match block:
        case {"type": "text", "text": str(text)}:
            return Text(text)
        case {"type": "image" | "audio", "data": str(data)}:
            return Piece({"raw": data, "mediaType": str(block.get("mimeType") or "application/octet-stream")})
        case {"type": "resource_link", "uri": str(uri)}:
            return Piece({"url": uri, **_described(block)})
        case {"type": "resource", "resource": {"blob": str(data)}}:
            return Piece({"raw": data, **_described(block["resource"])})
        case {"type": "resource", "resource": {"text": str(text)}}:
            return Text(text)
    return None


def _described(resource: JsonObject) -> JsonObject:
    """Media type and name of a file."""
    name = resource.get("name") or str(resource.get("uri", "")).rpartition("/")[2]
    kind = resource.get("mimeType")
    return {
        **({"mediaType": kind} if isinstance(kind, str) else {}),
        **({"filename": name} if isinstance(name, str) and name else {}),
    }
