"""The members of requests that decide, judged in one place for JSON-RPC and HTTP+JSON of both versions. Pure.

Objects are raw: what was judged is written anew in them, what an agent must not see is taken out, and everything else stays
as it came (architecture.md 3.1).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, NamedTuple

import msgspec

from agents.speech import Speech
from registry import judged
from registry.errors import InvalidParams, InvalidRequest
from registry.judged import JsonObject, RawObject

MAX_ID: Final = 512
"""Characters of a task or context id. Known agents need 73; ids are kept, so their size must end somewhere."""

MAX_REFERENCES: Final = 100
"""Tasks that one message may refer to: the owner of each is looked up."""

PUSH_NAMES: Final = frozenset({"pushNotificationConfig", "taskPushNotificationConfig", "pushNotification"})
"""What bindings and versions call a push configuration."""

MESSAGE_NAMES: Final = frozenset({"taskId", "contextId", "referenceTaskIds"})
SEND_NAMES: Final = frozenset({"message", "configuration", "tenant"}) | PUSH_NAMES
OTHER_NAMES: Final = frozenset(
    {
        *("metadata", "acceptedOutputModes", "historyLength", "returnImmediately", "blocking"),
        *("messageId", "role", "parts", "content", "extensions", "kind"),
        *("text", "raw", "url", "data", "filename", "mediaType"),
        *("file", "name", "mimeType", "bytes", "uri", "fileWithUri", "fileWithBytes"),
    }
)
"""What members of a SendMessage are called otherwise, in all bindings and versions: rules may look at each of them."""

_NAMES: Final = SEND_NAMES | MESSAGE_NAMES | OTHER_NAMES
_PROTO_NAMES: Final = frozenset(re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name) for name in _NAMES)
"""What 0.3's protocol buffers call them, which its HTTP+JSON takes too."""

_PROTO: Final = Speech("HTTP+JSON", "0.3")

_FREE: Final = frozenset({"metadata", "data"})
"""In these, names are the caller's own."""

NULL: Final = msgspec.Raw(b"null")


class Sent(NamedTuple):
    """What the parameters of a SendMessage name, and what of them is the hub's affair."""

    task_id: str | None
    context_id: str | None
    reference_task_ids: tuple[str, ...]
    push: msgspec.Raw | None
    """The push configuration: no agent ever sees where its client is."""
    is_whole: bool
    """Nothing was taken out."""


def read_send(params: RawObject, push_name: str) -> Sent:
    """Judge the parameters of SendMessage, whose version calls a push configuration so.

    Raises:
        InvalidRequest: a deciding member is missing, of the wrong type or spelt otherwise.
    """
    judged.check_spelling(params, SEND_NAMES)
    size = len(params)
    drop_tenant(params)
    _refuse_push(params, ())
    push, is_whole = None, True
    if params.get("configuration", NULL) != NULL:
        configuration = read_object(params["configuration"], "configuration")
        judged.check_spelling(configuration, PUSH_NAMES)
        before = len(configuration)
        _refuse_push(configuration, {push_name})
        push = configuration.pop(push_name, NULL)
        push = None if push == NULL else push
        is_whole = before == len(configuration)
        params["configuration"] = msgspec.Raw(judged.encode(configuration))
    else:
        params.pop("configuration", None)
    message = read_object(params.get("message"), "message")
    judged.check_spelling(message, MESSAGE_NAMES)
    before = len(message)
    task_id, context_id = take_id(message, "taskId"), take_id(message, "contextId")
    references = _take_references(message)
    params["message"] = msgspec.Raw(judged.encode(message))
    return Sent(task_id, context_id, references, push, is_whole and (size, before) == (len(params), len(message)))


def check_names(params: JsonObject, speech: Speech) -> None:
    """Refuse members that an SDK might take for others, which rules and guards know; raises `InvalidRequest`."""
    names = _NAMES | _PROTO_NAMES if speech == _PROTO else _NAMES
    other = judged.misspelt(params, names, _FREE)
    if other is not None:
        raise InvalidRequest(f"{other[0][:80]!r} is not a member; write {other[1]!r}", member=other[0][:80])


def read_object(raw: msgspec.Raw | None, what: str) -> RawObject:
    """Read an object that must be there; raises `InvalidParams`."""
    if raw is None or raw == NULL:
        raise InvalidParams(f"{what} is missing", member=what)
    try:
        return judged.read_object(raw, what)
    except InvalidRequest as error:
        raise InvalidParams(error.text, member=what) from None


def drop_tenant(owner: RawObject) -> None:
    """Take an empty tenant out; any other is refused: the hub's cards name none, the agent's own is put in on the way."""
    if "tenant" in owner and judged.decode(owner.pop("tenant")):
        raise InvalidParams("tenant is not used here", member="tenant")


def _refuse_push(owner: RawObject, allowed: Collection[str]) -> None:
    """Refuse a push configuration where its version has none: an agent might read it there."""
    for name in PUSH_NAMES.difference(allowed):
        if name in owner and owner.pop(name) != NULL:
            raise InvalidParams(f"{name} does not belong here", member=name)


def read_string(owner: RawObject, member: str) -> str | None:
    """The string at `member`, None when absent or null; raises `InvalidParams` for another type."""
    try:
        return judged.read_string(owner, member)
    except InvalidRequest as error:
        raise InvalidParams(error.text, member=member) from None


def take_id(owner: RawObject, member: str) -> str | None:
    """Read an id and write it anew; an empty one is an absent one (proto3), and is left out."""
    if member not in owner:
        return None
    value = read_string(owner, member)
    if not value:
        del owner[member]
        return None
    check_length(member, value)
    owner[member] = msgspec.Raw(judged.encode(value))
    return value


def check_length(member: str, value: str) -> None:
    """Raise `InvalidParams` for an id that is longer than any the hub keeps."""
    if len(value) > MAX_ID:
        raise InvalidParams(f"{member} is longer than {MAX_ID} characters", member=member)


def check_references(value: object) -> None:
    """Raise `InvalidParams` for what are no ids of tasks, or too many."""
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise InvalidParams("referenceTaskIds must be an array of task ids", member="referenceTaskIds")
    if len(value) > MAX_REFERENCES:
        raise InvalidParams(f"referenceTaskIds may hold {MAX_REFERENCES} ids", member="referenceTaskIds")


def _take_references(message: RawObject) -> tuple[str, ...]:
    if "referenceTaskIds" not in message:
        return ()
    value = judged.decode(message["referenceTaskIds"])
    if not value:
        del message["referenceTaskIds"]
        return ()
    check_references(value)
    message["referenceTaskIds"] = msgspec.Raw(judged.encode(value))
    return tuple(value)
