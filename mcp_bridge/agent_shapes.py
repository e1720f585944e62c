"""Agents in MCP's words: the tool that an agent is, what a call of it says, and its answers as results. Pure.

Parts and artifacts are those of A2A 1.0 (§4.1.6, §4.1.7), decoded; states are spelt as A2A 0.3 does.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol
from urllib.parse import quote

from mcp_bridge.wire import as_raw
from registry.access import SEPARATOR
from registry.entries import AgentTool
from registry.errors import CallerError
from registry.judged import JsonObject, RawObject, decode, encode

SERVER = "agent"
"""The part before the separator: a reserved name (surface.md 6), so no server's tool is called like an agent's."""

MAX_DESCRIPTION = 1000
MAX_SKILLS = 20
MAX_SKILL = 200
"""Characters, skills and characters of each: what an agent says of itself is in every model's context."""

FAILED = frozenset({"failed", "rejected", "canceled"})
INTERRUPTED = frozenset({"input-required", "auth-required"})

_TEXT = {"type": "string"}
_INPUT: JsonObject = {
    "type": "object",
    "properties": {
        "message": {**_TEXT, "description": "What to say to the agent."},
        "context_id": {**_TEXT, "description": "Of an earlier answer: goes on with that conversation."},
        "task_id": {**_TEXT, "description": "Of an earlier answer that was not completed: goes on with that task."},
    },
    "required": ["message"],
}
_PART: JsonObject = {
    "type": "object",
    "properties": {"text": _TEXT, "data": {}, "uri": _TEXT, "filename": _TEXT, "media_type": _TEXT},
}
_ARTIFACT: JsonObject = {
    "type": "object",
    "properties": {
        "artifact_id": _TEXT,
        "name": _TEXT,
        "description": _TEXT,
        "parts": {"type": "array", "items": _PART},
    },
    "required": ["parts"],
}
_OUTPUT: JsonObject = {
    "type": "object",
    "properties": {
        "state": {**_TEXT, "description": "completed, input-required, auth-required, working, failed, rejected, …"},
        "text": {**_TEXT, "description": "What the agent says; if it only made artifacts, their text."},
        "task_id": _TEXT,
        "context_id": _TEXT,
        "artifacts": {"type": "array", "items": _ARTIFACT},
    },
    "required": ["state", "text", "artifacts"],
}

_URL = re.compile(r"https?://[^\s<>\"')\]]+")


class Turn(Protocol):
    """What came of one message to an agent."""

    @property
    def state(self) -> str:
        """Such as `completed`."""

    @property
    def task_id(self) -> str | None:
        """None: it was answered without a task."""

    @property
    def context_id(self) -> str | None:
        """The conversation."""

    @property
    def parts(self) -> Sequence[JsonObject]:
        """Of the agent's message."""

    @property
    def artifacts(self) -> Sequence[JsonObject]:
        """What it made."""


class Said(NamedTuple):
    """What a caller says to an agent."""

    text: str
    task_id: str | None
    context_id: str | None
    headers: Mapping[bytes, bytes]
    """Of the request that it came with."""


class BadArguments(ValueError):
    """Arguments that no agent can be asked with; the text is for the model that wrote them."""


def tool(name: str, card: JsonObject | None) -> AgentTool:
    """The tool that an agent is; `card` is the one that its callers see, None: it is not known yet."""
    described: JsonObject = {
        "name": f"{SERVER}{SEPARATOR}{name}",
        "description": _description(name, card or {}),
        "inputSchema": _INPUT,
        "outputSchema": _OUTPUT,
        "annotations": {"readOnlyHint": False, "openWorldHint": True},
    }
    if card and isinstance(card.get("name"), str):
        described["title"] = card["name"]
    exposed: str = described["name"]
    return AgentTool(server=SERVER, name=name, exposed=exposed, grant_name=name, description=encode(described))


def _description(name: str, card: JsonObject) -> str:
    said = card.get("description")
    lines = [_cut(said, MAX_DESCRIPTION) if isinstance(said, str) and said else f"The agent {name}."]
    lines.append(
        "An agent: say in words what it is to do. Its answer may ask for more; then call it again with its task_id."
    )
    skills = [one for one in card.get("skills") or () if isinstance(one, dict)]
    if skills:
        lines.append("Skills:")
        lines += [
            _cut(f"- {one.get('name', '')}: {one.get('description', '')}", MAX_SKILL) for one in skills[:MAX_SKILLS]
        ]
    return "\n".join(lines)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def read_said(arguments: object, headers: Mapping[bytes, bytes]) -> Said:
    """Read the arguments of a call, which may be raw; raises `BadArguments`."""
    try:
        found = decode(encode(arguments)) if arguments is not None else {}
    except CallerError as error:
        raise BadArguments(error.text) from None
    unknown = sorted(found.keys() - _INPUT["properties"].keys())
    if unknown:
        raise BadArguments(f"{unknown[0][:80]} is no argument; there are message, context_id and task_id")
    message = found.get("message")
    if not isinstance(message, str) or not message:
        raise BadArguments("message must be a string that is not empty")
    return Said(message, _id(found, "task_id"), _id(found, "context_id"), headers)


def _id(found: JsonObject, member: str) -> str | None:
    value = found.get(member)
    if value is not None and not isinstance(value, str):
        raise BadArguments(f"{member} must be a string")
    return value or None


def result_of(tool: AgentTool, turn: Turn) -> RawObject:
    """The result of a call: contents for the model, and the whole as structured content."""
    made = [
        (_joined(one), _uri(tool.name, turn, str(one.get("artifactId") or at))) for at, one in enumerate(turn.artifacts)
    ]
    text = text_of(turn.parts) or text_of([part for artifact, _ in made for part in artifact["parts"]])
    structured: JsonObject = {"state": turn.state, "text": text, "artifacts": [_artifact(*one) for one in made]}
    structured |= {"task_id": turn.task_id} if turn.task_id else {}
    structured |= {"context_id": turn.context_id} if turn.context_id else {}
    blocks = list(_blocks(turn.parts, _uri(tool.name, turn, "message")))
    for artifact, uri in made:
        blocks += _blocks(artifact["parts"], uri)
    blocks += [{"type": "text", "text": line} for line in (_going_on(tool, turn),) if line]
    result: JsonObject = {"content": blocks, "structuredContent": structured}
    return as_raw({**result, "isError": True} if turn.state in FAILED else result)


def bad_arguments(error: BadArguments) -> RawObject:
    """The result that a model can mend its call by (MCP 2025-11-25, Error Handling)."""
    return as_raw({"content": [{"type": "text", "text": str(error)}], "isError": True})


def text_of(parts: Sequence[JsonObject]) -> str:
    """The text of a message; a link stands for itself."""
    found = (part.get("text") if "text" in part else part.get("url") for part in parts)
    return "\n".join(one for one in found if isinstance(one, str))


def link_in(text: str) -> str | None:
    """The one address in a text; None: there is none, or several."""
    found = set(_URL.findall(text))
    return found.pop().rstrip(".,;:!?") if len(found) == 1 else None


def _going_on(tool: AgentTool, turn: Turn) -> str:
    """What a model must know to go on; many clients show it no structured content."""
    about = [f"{name} {value}" for name, value in (("task_id", turn.task_id), ("context_id", turn.context_id)) if value]
    if turn.state in INTERRUPTED:
        return f"[{turn.state}: call {tool.exposed} again with this task_id and the answer; {', '.join(about)}]"
    return f"[{turn.state}; {', '.join(about)}]" if about else ""


def _artifact(artifact: JsonObject, uri: str) -> JsonObject:
    names = {"artifactId": "artifact_id", "name": "name", "description": "description"}
    told = {member: artifact[of] for of, member in names.items() if isinstance(artifact.get(of), str)}
    return {**told, "parts": [_structured(part, f"{uri}/{at}") for at, part in enumerate(artifact["parts"])]}


def _structured(part: JsonObject, uri: str) -> JsonObject:
    """A part without its bytes, which stand in the content under the same URI."""
    told: JsonObject = {}
    if "text" in part:
        told["text"] = part["text"]
    elif "data" in part:
        told["data"] = part["data"]
    else:
        told["uri"] = part.get("url") or uri
    names = {"filename": "filename", "mediaType": "media_type"}
    return told | {member: part[of] for of, member in names.items() if isinstance(part.get(of), str)}


def _blocks(parts: Sequence[JsonObject], uri: str) -> Iterator[JsonObject]:
    for at, part in enumerate(parts):
        yield _block(part, f"{uri}/{at}")


def _block(part: JsonObject, uri: str) -> JsonObject:
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    media_type = part["mediaType"] if isinstance(part.get("mediaType"), str) else "application/octet-stream"
    url, raw = part.get("url"), part.get("raw")
    if isinstance(url, str):
        if not _URL.fullmatch(url):
            return {"type": "text", "text": url}
        name = part.get("filename") or url.rpartition("/")[2] or url
        return {"type": "resource_link", "uri": url, "name": name, "mimeType": media_type}
    if isinstance(raw, str):
        kind = media_type.partition("/")[0]
        if kind in {"image", "audio"}:
            return {"type": kind, "data": raw, "mimeType": media_type}
        return {"type": "resource", "resource": {"uri": uri, "mimeType": media_type, "blob": raw}}
    return {"type": "text", "text": encode(part.get("data")).decode()}


def _joined(artifact: JsonObject) -> JsonObject:
    """An artifact with texts that follow one another as one: a stream brings a text in pieces."""
    parts: list[JsonObject] = []
    for is_text, some in itertools.groupby(
        artifact.get("parts") or (), key=lambda part: isinstance(part.get("text"), str)
    ):
        found = list(some)
        parts += [{**found[0], "text": "".join(part["text"] for part in found)}] if is_text else found
    return {**artifact, "parts": parts}


def _uri(name: str, turn: Turn, what: str) -> str:
    """What bytes of an answer are called; nothing can be read there."""
    return f"agent://{name}/{quote(turn.task_id or turn.context_id or 'answer', safe='')}/{quote(what, safe='')}"
