"""`subscriptions/listen` of 2026-07-28 as it stands on the wire: what is asked for, acknowledged, told and ended. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from mcp_bridge.wire import META_PREFIX, as_modern, notification_message
from registry import judged
from registry.errors import CallerError, InvalidParams, InvalidRequest
from registry.judged import JsonObject, RawObject, decode, encode, read_object

LISTEN = "subscriptions/listen"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
UPDATED = "notifications/resources/updated"
META_SUBSCRIPTION = META_PREFIX + "subscriptionId"

LISTS: Mapping[str, str] = {
    "toolsListChanged": "notifications/tools/list_changed",
    "promptsListChanged": "notifications/prompts/list_changed",
    "resourcesListChanged": "notifications/resources/list_changed",
}
"""Members of a filter, and what they ask for."""

CAPABILITIES: Mapping[str, str] = {"toolsListChanged": "tools", "promptsListChanged": "prompts"} | {
    "resourcesListChanged": "resources"
}
"""What must be there for a list of it to change."""

LIST_CHANGED = frozenset(LISTS.values())

MAX_RESOURCES = 256
"""Resources that one client subscribes to."""

MAX_TASKS = 64
"""Tasks that one client hears of."""

_URIS = "resourceSubscriptions"
_TASKS = "taskIds"
_FILTER = frozenset({*LISTS, _URIS, _TASKS})


class Filter(NamedTuple):
    """What a client wants to hear of."""

    lists: frozenset[str]
    """Of `LISTS`, by their notifications."""
    uris: tuple[str, ...]
    tasks: tuple[str, ...] = ()
    """As their clients call them."""


def read_filter(params: RawObject) -> Filter:
    """Read what a `subscriptions/listen` asks for; members that are not known ask for nothing.

    Raises:
        InvalidParams: it is no filter.
    """
    try:
        found = read_object(params.get("notifications", msgspec.Raw(b"null")), "notifications")
        judged.check_spelling(found, _FILTER)
        said = {member: decode(raw) for member, raw in found.items() if member in _FILTER}
    except InvalidRequest as error:
        raise InvalidParams(error.text, member="notifications") from None
    uris = _named(said.pop(_URIS, None), _URIS, "URIs", MAX_RESOURCES)
    tasks = _named(said.pop(_TASKS, None), _TASKS, "ids", MAX_TASKS)
    wrong = next((member for member, value in said.items() if value not in (True, False, None)), None)
    if wrong is not None:
        raise InvalidParams(f"{wrong} must be true or false", member=wrong)
    return Filter(frozenset(LISTS[member] for member, value in said.items() if value), uris, tasks)


def _named(found: object, member: str, what: str, most: int) -> tuple[str, ...]:
    """What a member of a filter names, each once."""
    if not isinstance(found or [], list) or not all(isinstance(one, str) for one in found or []):  # type: ignore[attr-defined]
        raise InvalidParams(f"{member} must be an array of {what}", member=member)
    named: tuple[str, ...] = tuple(dict.fromkeys(found or []))  # type: ignore[call-overload]
    if len(named) > most:
        raise InvalidParams(f"{member} may hold {most} {what}", member=member)
    return named


def as_filter(lists: Collection[str], uris: Collection[str], tasks: Sequence[str] = ()) -> JsonObject:
    """A filter as it is sent; what is not wanted is absent."""
    found: JsonObject = {member: True for member, method in LISTS.items() if method in lists}
    if uris:
        found[_URIS] = sorted(uris)
    if tasks:
        found[_TASKS] = list(tasks)
    return found


def acknowledged(subscription: msgspec.Raw, wanted: Filter) -> bytes:
    """The first message of a stream; `subscription` is the id of the request that opened it."""
    return told(subscription, ACKNOWLEDGED, {"notifications": as_filter(*wanted)})


def told(subscription: msgspec.Raw, method: str, params: JsonObject) -> bytes:
    """A notification on a stream."""
    return notification_message(method, {**params, "_meta": {META_SUBSCRIPTION: subscription}})


def ended(subscription: msgspec.Raw) -> bytes:
    """The result that ends a stream on purpose."""
    return as_modern({"_meta": msgspec.Raw(encode({META_SUBSCRIPTION: subscription}))})


def read_told(message: bytes) -> tuple[str, JsonObject] | None:
    """Method and params of a notification that a server sent; None: it is something else."""
    try:
        found = decode(message)
    except CallerError:
        return None
    method, params = (found.get("method"), found.get("params")) if isinstance(found, dict) else (None, None)
    return (method, params if isinstance(params, dict) else {}) if isinstance(method, str) else None
