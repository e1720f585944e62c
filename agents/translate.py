"""A2A 0.3 as JSON-RPC spells it, to and from canonical A2A 1.0: parameters, results and events. Pure.

The way up is tolerant: it reads 0.3's flat `kind` objects, 1.0's wrapped ones and the mixtures that known agents emit (bare
events, lower-case states, naive timestamps, a task that is not wrapped), and so also makes odd 1.0 answers strict. The way
down reads canonical and writes strict 0.3. What cannot be understood raises Untranslatable. What messages, tasks and updates
are made of stands in `agents.content`. Knows no HTTP, no owners of ids and no cards: a card passes as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agents.content import DOWN, UP, Shapes, state_down, state_up
from agents.records import (
    Reader,
    Untranslatable,
    count,
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
from agents.speech import Operation
from registry.judged import JsonObject

__all__ = [
    "Untranslatable",
    "event_down",
    "event_up",
    "params_down",
    "params_up",
    "result_down",
    "result_up",
]

_Event = tuple[str, Reader]


def wrappers(way: Shapes) -> dict[str, _Event]:
    """Say for every wrapper of an event what it is called canonically, and how what is in it is read."""
    message = ("message", way.message)
    status_update, artifact_update = ("statusUpdate", way.status_update), ("artifactUpdate", way.artifact_update)
    return {
        "task": ("task", way.task),
        "message": message,
        "msg": message,  # the 0.3 protocol buffers' field
        "statusUpdate": status_update,
        "status_update": status_update,
        "artifactUpdate": artifact_update,
        "artifact_update": artifact_update,
    }


_WRAPPERS: Final = wrappers(UP)
_FLAT: Final = {
    "task": _WRAPPERS["task"],
    "message": _WRAPPERS["message"],
    "status-update": _WRAPPERS["statusUpdate"],
    "artifact-update": _WRAPPERS["artifactUpdate"],
}
_EVENTS_DOWN: Final = dict(wrappers(DOWN).values())


def event_up(event: Any) -> JsonObject:
    """Make a strict StreamResponse (A2A 1.0 §3.2.3) of whatever an agent put into its stream.

    Raises:
        Untranslatable: it is no task, message or update of either version.
    """
    if type(event) is not dict:
        raise Untranslatable("an event is not an object")
    kind = event.get("kind")
    flat = _FLAT.get(kind) if type(kind) is str else None
    if flat is not None:
        return {flat[0]: flat[1](event)}
    name, read, inner = unwrapped(event, _WRAPPERS) or (*_guess(event), event)
    return {name: read(inner)}


def unwrapped(event: JsonObject, table: Mapping[str, _Event]) -> tuple[str, Reader, Any] | None:
    """Find what a wrapped event holds; None when it is not wrapped."""
    found = [(name, inner) for name, inner in event.items() if inner is not None and name in table]
    if not found:
        return None
    if len(found) > 1:
        raise Untranslatable("an event is two things at once")
    name, inner = found[0]
    return (*table[name], inner)


def _guess(event: JsonObject) -> _Event:
    """Tell by its members what an event is that neither says its kind nor is wrapped."""
    if "artifact" in event:
        return _WRAPPERS["artifactUpdate"]
    if "status" in event:
        return _WRAPPERS["statusUpdate" if "taskId" in event or "task_id" in event else "task"]
    if "parts" in event or "content" in event:
        return _WRAPPERS["message"]
    raise Untranslatable("an event is neither task, message nor update")


def event_down(event: JsonObject) -> JsonObject:
    """Write a StreamResponse as the result of a 0.3 stream (A2A 0.3 §7.2.1): flat, with `kind`, updates with `final`.

    Raises:
        Untranslatable: it is no StreamResponse.
    """
    for name, inner in event.items():
        read = _EVENTS_DOWN.get(name)
        if read is not None and inner is not None:
            made: JsonObject = read(inner)
            return made
    raise Untranslatable("an event is neither task, message nor update")


# --- push configurations (A2A 0.3 §6.8 to §6.10, 1.0 §4.3.1) ----------------------------------------------------------


def _first(value: Any) -> str | None:
    schemes = texts(value)
    return schemes[0] if schemes else None


def _listed(value: Any) -> list[str]:
    scheme = word(value)
    return [scheme] if scheme else []


_PUSH: Final = {"id": word, "url": text, "token": word}
_authentication_up: Final = record(
    "the authentication", spelled(scheme=word, schemes=("scheme", _first), credentials=word)
)
_push_flat: Final = record("a push configuration", spelled(**_PUSH, taskId=word, authentication=_authentication_up))
_authentication_down: Final = record(
    "the authentication", spelled(scheme=("schemes", _listed), credentials=word), defaults=(("schemes", list),)
)
push_inner_down: Final = record(
    "a push configuration", spelled(**_PUSH, authentication=_authentication_down), defaults=(("url", str),)
)


def push_inner_up(value: Any) -> JsonObject:
    """Read the configuration that stands inside another object and names no task."""
    config: JsonObject = _push_flat(value)
    config.pop("taskId", None)
    return config


_push_nested: Final = record(
    "a push configuration", spelled(taskId=word, pushNotificationConfig=("inner", push_inner_up))
)


def push_up(value: Any) -> JsonObject:
    """Read a TaskPushNotificationConfig, nested as in 0.3 or flat as in 1.0."""
    config: JsonObject = _push_nested(value)
    inner = config.pop("inner", None)
    return {**inner, **config} if inner is not None else _push_flat(value)


def push_down(value: Any) -> JsonObject:
    """Write a TaskPushNotificationConfig as 0.3 nests it."""
    inner: JsonObject = push_inner_down(value)
    return {"taskId": word(value.get("taskId") or "") or "", "pushNotificationConfig": inner}


_push_list_down: Final = each("the push configurations", push_down)


def push_page(push: Reader) -> Reader:
    """Make the reader of a list of push configurations: 0.3's array, or a page of them."""
    read = record(
        "the push configurations",
        spelled(configs=each("the push configurations", push), nextPageToken=text),
        defaults=(("configs", list), ("nextPageToken", str)),
    )
    return lambda value: read({"configs": value} if type(value) is list else value or {})


def _create_up(value: Any) -> JsonObject:
    config = push_up(value)
    if "taskId" not in config:
        raise Untranslatable("the task's id is missing")
    return config


# --- parameters (A2A 0.3 §7, 1.0 §9.4) --------------------------------------------------------------------------------


def opposite(value: Any) -> bool:
    """Read `blocking` as `returnImmediately`, and the reverse."""
    return not flag(value)


def some(value: Any) -> int | None:
    """Read a history length toward 0.3, where 0 is all to many agents and not none: left out, the hub trims."""
    return count(value) or None


_TASK_ID: Final = ("id", needed("the task's id"))
_PUSH_TASK_ID: Final = ("taskId", needed("the task's id"))
_NO_MESSAGE: Final = ("message", needed("the message"))

_configuration_up: Final = record(
    "the configuration",
    spelled(
        acceptedOutputModes=texts,
        historyLength=count,
        blocking=("returnImmediately", opposite),
        pushNotificationConfig=("taskPushNotificationConfig", push_inner_up),
    ),
)
_configuration_down: Final = record(
    "the configuration",
    spelled(
        acceptedOutputModes=texts,
        historyLength=some,
        returnImmediately=("blocking", opposite),
        taskPushNotificationConfig=("pushNotificationConfig", push_inner_down),
    ),
)
_send_up: Final = record(
    "the parameters",
    spelled(message=UP.message, configuration=_configuration_up, metadata=struct),
    defaults=(_NO_MESSAGE,),
)
_send_down: Final = record(
    "the parameters",
    spelled(message=DOWN.message, configuration=_configuration_down, metadata=struct),
    defaults=(_NO_MESSAGE,),
)
_LISTING: Final = {
    "contextId": word,
    "pageSize": count,
    "pageToken": word,
    "historyLength": count,
    "statusTimestampAfter": moment,
    "includeArtifacts": flag,
}
_task_only: Final = record("the parameters", spelled(id=text), defaults=(_TASK_ID,))
_cancel: Final = record("the parameters", spelled(id=text, metadata=struct), defaults=(_TASK_ID,))
_push_id_up: Final = record(
    "the parameters",
    spelled(id=("taskId", text), pushNotificationConfigId=("id", word)),
    defaults=(_PUSH_TASK_ID,),
)
_push_id_down: Final = record(
    "the parameters",
    spelled(taskId=("id", text), id=("pushNotificationConfigId", word)),
    defaults=(_TASK_ID,),
)


def _send_blocking_down(value: Any) -> JsonObject:
    """SendMessage says whether it waits: agents differ in what its absence means (1.0 waits, §3.2.2)."""
    made: JsonObject = _send_down(value)
    made.setdefault("configuration", {}).setdefault("blocking", True)
    return made


_PARAMS_UP: Final[dict[Operation, Reader]] = {
    "SendMessage": _send_up,
    "SendStreamingMessage": _send_up,
    "GetTask": record("the parameters", spelled(id=text, historyLength=count), defaults=(_TASK_ID,)),
    "ListTasks": record("the parameters", spelled(**_LISTING, status=state_up)),
    "CancelTask": _cancel,
    "SubscribeToTask": _task_only,
    "CreateTaskPushNotificationConfig": _create_up,
    "GetTaskPushNotificationConfig": _push_id_up,
    "ListTaskPushNotificationConfigs": record(
        "the parameters", spelled(id=("taskId", text)), defaults=(_PUSH_TASK_ID,)
    ),
    "DeleteTaskPushNotificationConfig": _push_id_up,
    "GetExtendedAgentCard": record("the parameters", {}),
}
_PARAMS_DOWN: Final[dict[Operation, Reader]] = {
    "SendMessage": _send_blocking_down,
    "SendStreamingMessage": _send_down,
    "GetTask": record("the parameters", spelled(id=text, historyLength=some), defaults=(_TASK_ID,)),
    "ListTasks": record("the parameters", spelled(**_LISTING, status=state_down)),
    "CancelTask": _cancel,
    "SubscribeToTask": _task_only,
    "CreateTaskPushNotificationConfig": push_down,
    "GetTaskPushNotificationConfig": _push_id_down,
    "ListTaskPushNotificationConfigs": record("the parameters", spelled(taskId=("id", text)), defaults=(_TASK_ID,)),
    "DeleteTaskPushNotificationConfig": _push_id_down,
}


def params_up(operation: Operation, params: Any) -> JsonObject:
    """Make 1.0 parameters of 0.3 JSON-RPC ones; None stands for no parameters.

    `blocking` that is not said stays unsaid (both versions wait); a push configuration may come without its id, which 0.3
    allows and 1.0 does not.

    Raises:
        Untranslatable: they are no parameters of this operation.
    """
    made: JsonObject = _PARAMS_UP[operation]({} if params is None else params)
    return made


def params_down(operation: Operation, params: JsonObject) -> JsonObject | None:
    """Make 0.3 JSON-RPC parameters of 1.0 ones; None where 0.3 has none (A2A 0.3 §7.10).

    ListTasks, which 0.3 has not, is written as its drafts had it.

    Raises:
        Untranslatable: they are no parameters of this operation.
    """
    write = _PARAMS_DOWN.get(operation)
    return write(params) if write is not None else None


# --- results ----------------------------------------------------------------------------------------------------------


def task_or_message(event: JsonObject) -> JsonObject:
    """Hold what SendMessage was answered with to what it may be answered with (A2A 1.0 §3.1.1)."""
    if "task" in event or "message" in event:
        return event
    raise Untranslatable("the answer is neither a task nor a message")


def _sent_up(value: Any) -> JsonObject:
    return task_or_message(event_up(value))


def _sent_down(value: Any) -> JsonObject:
    return event_down(task_or_message(value))


def one_task(task: Reader) -> Reader:
    """Make the reader of one task, also of one that is wrapped."""

    def read_task(value: Any) -> Any:
        wrapped = value.get("task") if type(value) is dict else None
        return task(value if wrapped is None else wrapped)

    return read_task


def task_page(task: Reader) -> Reader:
    """Make the reader of ListTasks' answer, in which nothing may be missing (A2A 1.0 §3.1.4)."""
    read = record(
        "the list of tasks",
        spelled(tasks=each("the tasks", task), nextPageToken=text, pageSize=count, totalSize=count),
        defaults=(("tasks", list), ("nextPageToken", str)),
    )

    def read_page(value: Any) -> JsonObject:
        page: JsonObject = read(value)
        for name in ("pageSize", "totalSize"):
            page.setdefault(name, len(page["tasks"]))
        return page

    return read_page


def nothing(_: Any) -> JsonObject:
    """Read the answer that says only that it was done."""
    return {}


def card(value: Any) -> JsonObject:
    """Hand an agent card on; the hub builds its own from it."""
    if type(value) is not dict:
        raise Untranslatable("an agent card is not an object")
    return value


RESULTS_UP: Final[dict[Operation, Reader]] = {
    "SendMessage": _sent_up,
    "SendStreamingMessage": event_up,
    "GetTask": one_task(UP.task),
    "ListTasks": task_page(UP.task),
    "CancelTask": one_task(UP.task),
    "SubscribeToTask": event_up,
    "CreateTaskPushNotificationConfig": push_up,
    "GetTaskPushNotificationConfig": push_up,
    "ListTaskPushNotificationConfigs": push_page(push_up),
    "DeleteTaskPushNotificationConfig": nothing,
    "GetExtendedAgentCard": card,
}
_RESULTS_DOWN: Final[dict[Operation, Reader]] = {
    "SendMessage": _sent_down,
    "SendStreamingMessage": event_down,
    "GetTask": DOWN.task,
    "ListTasks": task_page(DOWN.task),
    "CancelTask": DOWN.task,
    "SubscribeToTask": event_down,
    "CreateTaskPushNotificationConfig": push_down,
    "GetTaskPushNotificationConfig": push_down,
    "ListTaskPushNotificationConfigs": lambda page: _push_list_down(page.get("configs") or []),
    "GetExtendedAgentCard": card,
}


def result_up(operation: Operation, result: Any) -> JsonObject:
    """Make a strict 1.0 result of what an agent of either version answered.

    Raises:
        Untranslatable: it is no result of this operation.
    """
    made: JsonObject = RESULTS_UP[operation](result)
    return made


def result_down(operation: Operation, result: JsonObject) -> Any:
    """Make the 0.3 JSON-RPC result: flat with `kind`, push configurations as an array, null where there is nothing.

    Raises:
        Untranslatable: it is no result of this operation.
    """
    write = _RESULTS_DOWN.get(operation)
    return write(result) if write is not None else None
