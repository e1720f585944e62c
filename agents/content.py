"""What A2A streams are made of: parts, messages, tasks and updates, in canonical 1.0 and in both dialects of 0.3. Pure.

One set of readers serves every direction, because 0.3 and 1.0 differ in few words: `Words` says which. The way up is
tolerant of either version's spelling; the way down reads canonical and writes strictly. Unknown members of typed objects
are dropped; metadata and data go on as the very objects that came. Knows no operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from agents.records import (
    Reader,
    Table,
    Untranslatable,
    each,
    flag,
    moment,
    needed,
    record,
    spelled,
    struct,
    text,
    texts,
    word,
)
from registry.judged import JsonObject

KEPT: Final = "urn:hubbub:a2a:kept"
"""The metadata member that holds, on the way through 0.3, what 1.0 says and 0.3 has no member for."""

WRAPPED: Final = "data_part_compat"
"""Metadata by which the official SDKs mark 0.3 data that is no object in 1.0: it stands in `{"value": ...}`."""

_BARE_STATES: Final = (
    "submitted",
    "working",
    "completed",
    "failed",
    "canceled",
    "input-required",
    "rejected",
    "auth-required",
)
"""0.3's states in the order of 1.0's enum, which numbers them from 1."""

NO_STATE: Final = "TASK_STATE_UNSPECIFIED"
NO_ROLE: Final = "ROLE_UNSPECIFIED"


def _enum(state: str) -> str:
    return "TASK_STATE_" + state.upper().replace("-", "_")


STATES_DOWN: Final = {_enum(state): state for state in _BARE_STATES} | {NO_STATE: "unknown"}
_STATES_UP: Final[dict[Any, str]] = {
    **{state: state for state in STATES_DOWN},
    **{state: _enum(state) for state in _BARE_STATES},
    **{number: _enum(state) for number, state in enumerate(_BARE_STATES, 1)},
    "cancelled": _enum("canceled"),
}
ROLES_DOWN: Final = {"ROLE_USER": "user", "ROLE_AGENT": "agent", NO_ROLE: "agent"}
_ROLES_UP: Final[dict[Any, str]] = {
    **{role: role for role in ROLES_DOWN},
    "user": "ROLE_USER",
    "agent": "ROLE_AGENT",
    1: "ROLE_USER",
    2: "ROLE_AGENT",
}

STREAM_ENDS: Final = frozenset({"completed", "failed", "canceled", "rejected", "input-required", "auth-required"})
"""The states after which a stream says nothing more: `final` in 0.3 (A2A 0.3 §7.2.2)."""


def state_up(value: Any) -> str:
    """Read a task state in any spelling; one that no version knows is unspecified (A2A 1.0 §4.1.3)."""
    if type(value) is not str and type(value) is not int:
        raise Untranslatable("a task state is neither a name nor a number")
    known = _STATES_UP.get(value)
    if known is None and type(value) is str:
        known = _STATES_UP.get(value.lower().removeprefix("task_state_").replace("_", "-"))
    return known or NO_STATE


def role_up(value: Any) -> str:
    """Read a role in any spelling (A2A 1.0 §4.1.5)."""
    if type(value) is not str and type(value) is not int:
        raise Untranslatable("a role is neither a name nor a number")
    return _ROLES_UP.get(value.lower() if type(value) is str and value not in _ROLES_UP else value) or NO_ROLE


def state_down(value: Any) -> str:
    """Write a task state as 0.3 spells it."""
    return STATES_DOWN[state_up(value)]


def role_down(value: Any) -> str:
    """Write a role as 0.3 spells it; an unspecified one is the agent's, as the SDK has it."""
    return ROLES_DOWN[role_up(value)]


# --- parts (A2A 0.3 §6.5, 1.0 §4.1.6) ---------------------------------------------------------------------------------

_PLAIN_TEXT: Final = {"text", "kind"}
_CONTENTS: Final = ("text", "raw", "url", "data")
_MEDIA: Final[Table] = spelled(mediaType=word, mimeType=("mediaType", word), filename=word)


def _base64(value: Any) -> str:
    """Read bytes in either alphabet of ProtoJSON and write the usual one, padded. Whether it is base64 is its reader's affair."""
    encoded = text(value)
    if len(encoded) % 4 or "-" in encoded or "_" in encoded:
        encoded = encoded.replace("-", "+").replace("_", "/")
        encoded += "=" * (-len(encoded) % 4)
    return encoded


_part_members: Final = record("a part", {**spelled(text=text, raw=_base64, url=text, metadata=struct), **_MEDIA})
_file: Final = record(
    "a file",
    {
        **spelled(bytes=("raw", _base64), uri=("url", text), mimeType=("mediaType", word), name=("filename", word)),
        **_MEDIA,
    },
)
_kept: Final = record("what was kept of a part", _MEDIA)


def part_up(value: Any) -> JsonObject:
    """Read one part of 0.3 or 1.0 into 1.0's."""
    if type(value) is dict and type(value.get("text")) is str and value.keys() <= _PLAIN_TEXT:
        return {"text": value["text"]}  # most of what streams are made of
    part: JsonObject = _part_members(value)
    file = value.get("file")
    if file is not None:
        part.update(_file(file))
    if "data" in value:  # null is data too
        part["data"] = value["data"]
    if "text" not in part or len(part) > 1:
        _one_content(part)
        if "metadata" in part:
            _unpack(part)
    return part


def _one_content(part: JsonObject) -> None:
    """Hold a part to one content: some writers spell all of them, the others empty."""
    said = [name for name in _CONTENTS if name in part]
    if len(said) > 1:
        empty = [name for name in said if part[name] in ("", None)]
        for name in empty[len(said) == len(empty) :]:
            del part[name]
        said = [name for name in said if name in part]
    if len(said) != 1:
        raise Untranslatable("a part has no content" if not said else "a part has several contents")


def _unpack(part: JsonObject) -> None:
    """Take back out of a part's metadata what the way through 0.3 put in."""
    metadata: JsonObject = part["metadata"]
    is_wrapped = WRAPPED in metadata and metadata[WRAPPED] is True and _is_wrapper(part.get("data"))
    if not is_wrapped and KEPT not in metadata:
        return
    rest = dict(metadata)
    if is_wrapped:
        del rest[WRAPPED]
        part["data"] = part["data"]["value"]
    kept = rest.pop(KEPT, None)
    if type(kept) is dict:
        for name, item in _kept(kept).items():
            part.setdefault(name, item)
    if rest:
        part["metadata"] = rest
    else:
        del part["metadata"]


def _is_wrapper(data: Any) -> bool:
    return type(data) is dict and len(data) == 1 and "value" in data


def part_down(value: Any) -> JsonObject:
    """Write one part as 0.3 does."""
    part = part_up(value)
    if "text" in part and len(part) == 1:
        return {"kind": "text", **part}
    made: JsonObject
    extra: JsonObject = {}
    if "raw" in part or "url" in part:
        file = {"bytes": part["raw"]} if "raw" in part else {"uri": part["url"]}
        if "mediaType" in part:
            file["mimeType"] = part["mediaType"]
        if "filename" in part:
            file["name"] = part["filename"]
        made = {"kind": "file", "file": file}
    else:
        kept = {name: part[name] for name in _MEDIA_NAMES if name in part}
        if kept:
            extra[KEPT] = kept
        if "text" in part:
            made = {"kind": "text", "text": part["text"]}
        else:
            data = part["data"]
            if type(data) is not dict:
                data = {"value": data}
                extra[WRAPPED] = True
            made = {"kind": "data", "data": data}
    if "metadata" in part or extra:
        made["metadata"] = {**part["metadata"], **extra} if "metadata" in part else extra
    return made


_MEDIA_NAMES: Final = ("mediaType", "filename")


# --- messages, tasks, events ------------------------------------------------------------------------------------------


class Shapes(NamedTuple):
    """The readers of everything that a stream can hold, in one direction of one dialect."""

    message: Reader
    task: Reader
    status_update: Reader
    artifact_update: Reader


class Words(NamedTuple):
    """In what the directions and dialects differ."""

    part: Reader
    state: Reader
    role: Reader
    content: str = "parts"
    """What a message's parts are called where they are written (the 0.3 protocol buffers: `content`)."""
    has_kind: bool = False
    has_final: bool = False
    message: Callable[[Reader], Reader] = lambda read: read
    """What else is done to a message."""


def shapes(words: Words) -> Shapes:
    """Make the readers of one direction of one dialect."""
    message = words.message(_message(words))
    status = record(
        "a status",
        spelled(state=words.state, message=message, update=("message", message), timestamp=moment),
        defaults=(("state", lambda: words.state(NO_STATE)),),
    )
    artifact = record(
        "an artifact",
        spelled(
            artifactId=text,
            name=word,
            description=word,
            parts=each("the parts", words.part),
            metadata=struct,
            extensions=texts,
        ),
        defaults=(("artifactId", str), ("parts", list)),
    )
    no_context = ("contextId", str)
    no_status = ("status", lambda: status({}))
    task = record(
        "a task",
        spelled(
            id=text,
            contextId=text,
            status=status,
            artifacts=each("the artifacts", artifact),
            history=each("the history", message),
            metadata=struct,
        ),
        kind="task" if words.has_kind else None,
        defaults=(("id", needed("a task's id")), no_context, no_status),
    )
    update = spelled(taskId=text, contextId=text, metadata=struct)
    no_task = ("taskId", needed("an event's taskId"))
    status_update = record(
        "a status update",
        {**update, **spelled(status=status)},
        kind="status-update" if words.has_kind else None,
        defaults=(no_task, no_context, no_status),
    )
    artifact_update = record(
        "an artifact update",
        {**update, **spelled(artifact=artifact, append=flag, lastChunk=flag)},
        kind="artifact-update" if words.has_kind else None,
        defaults=(no_task, no_context, ("artifact", needed("an event's artifact"))),
    )
    return Shapes(message, task, _with_final(status_update) if words.has_final else status_update, artifact_update)


def _message(words: Words) -> Reader:
    parts = (words.content, each("the parts", words.part))
    return record(
        "a message",
        spelled(
            messageId=text,
            contextId=word,
            taskId=word,
            role=words.role,
            parts=parts,
            content=parts,
            metadata=struct,
            extensions=texts,
            referenceTaskIds=texts,
        ),
        kind="message" if words.has_kind else None,
        defaults=(("messageId", str), ("role", lambda: words.role(NO_ROLE)), (words.content, list)),
    )


def _with_final(read: Reader) -> Reader:
    def read_update(value: Any) -> JsonObject:
        made: JsonObject = read(value)
        made["final"] = STATES_DOWN[state_up(made["status"]["state"])] in STREAM_ENDS
        return made

    return read_update


UP: Final = shapes(Words(part_up, state_up, role_up))
"""0.3 or 1.0 to strict 1.0."""

DOWN: Final = shapes(Words(part_down, state_down, role_down, has_kind=True, has_final=True))
"""1.0 to 0.3 as JSON-RPC spells it."""
