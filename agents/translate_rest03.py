"""A2A 0.3 as HTTP+JSON spells it, to and from canonical A2A 1.0: the JSON of 0.3's protocol buffers. Pure.

Like `agents.translate`, which owns everything that the two dialects of 0.3 share: here only differ parts, the names of some
members and states, and resource names (`tasks/{id}/pushNotificationConfigs/{id}`) in place of ids. Knows no paths and no
queries: what stands there is put into the parameters by the names that 0.3's request messages give it.

The bytes of files are a trap. The protocol buffers say base64, once. The Python SDK, and with it nearly every agent that
speaks this dialect, encodes the base64 text once more and can read nothing else; the JavaScript SDK encodes once. Which it is, is
the caller's to say (`encodes_twice`): clients are told apart by their User-Agent. Agents are not: they are written to as
Python reads, and what they write is looked at.
"""

from __future__ import annotations

import binascii
from functools import partial
from typing import Any, Final, NamedTuple

from agents import translate
from agents.content import KEPT, NO_ROLE, Shapes, Words, part_down, part_up, role_up, shapes, state_up
from agents.records import Reader, Untranslatable, each, needed, record, spelled, struct, text, texts, word
from agents.speech import Operation
from registry import judged
from registry.judged import JsonObject

_CANCELED: Final = "TASK_STATE_CANCELED"
_CANCELLED: Final = "TASK_STATE_CANCELLED"
"""How the 0.3 protocol buffers spell it."""

_TASKS: Final = "tasks/"
_CONFIGS: Final = "/pushNotificationConfigs/"


# --- files, parts, messages -------------------------------------------------------------------------------------------


def _bytes_up(value: Any) -> str:
    """Read a file's bytes as base64, encoded once, from who encodes them twice or is not known not to."""
    encoded = text(value)
    try:
        once = binascii.a2b_base64(encoded, strict_mode=True)
        if once and binascii.b2a_base64(binascii.a2b_base64(once, strict_mode=True), newline=False) == once:
            return once.decode("ascii")
    except ValueError:
        return encoded  # content itself, not base64 of it
    return encoded


def _file_up(read_bytes: Reader) -> Reader:
    table = spelled(fileWithBytes=("bytes", read_bytes), fileWithUri=("uri", text), mimeType=word, name=word)
    return record("a file", table)


def _part_up(value: Any, *, file_up: Reader) -> JsonObject:
    if type(value) is dict and "kind" not in value:
        file, data = value.get("file"), value.get("data")
        if file is not None:
            value = {**value, "file": file_up(file)}
        elif type(data) is dict and data.keys() == {"data"}:
            value = {**value, "data": data["data"]}
    return part_up(value)


def _part_down(value: Any, *, encodes_twice: bool) -> JsonObject:
    part = part_down(value)
    kind = part.pop("kind")
    if kind == "data":
        part["data"] = {"data": part["data"]}
    elif kind == "file":
        file = part["file"]
        if "uri" in file:
            file["fileWithUri"] = file.pop("uri")
        else:
            encoded: str = file.pop("bytes")
            file["fileWithBytes"] = _encoded_twice(encoded) if encodes_twice else encoded
    return part


def _state_down(value: Any) -> str:
    state = state_up(value)
    return _CANCELLED if state == _CANCELED else state


def _role_down(value: Any) -> str:
    role = role_up(value)
    return "ROLE_AGENT" if role == NO_ROLE else role


def _keeping_references(read: Reader) -> Reader:
    """A message of this dialect names no tasks it refers to: they travel in its metadata."""

    def read_message(value: Any) -> JsonObject:
        made: JsonObject = read(value)
        references = made.pop("referenceTaskIds", None)
        if references:
            made["metadata"] = {**made.get("metadata", {}), KEPT: {"referenceTaskIds": references}}
        return made

    return read_message


_kept_references: Final = record("what was kept of a message", spelled(referenceTaskIds=texts))


def _giving_references_back(read: Reader) -> Reader:
    def read_message(value: Any) -> JsonObject:
        made: JsonObject = read(value)
        kept = made["metadata"].get(KEPT) if "metadata" in made else None
        references = _kept_references(kept) if type(kept) is dict else {}
        if references:
            made.update(references)
            rest = {name: item for name, item in made.pop("metadata").items() if name != KEPT}
            if rest:
                made["metadata"] = rest
        return made

    return read_message


def _shapes_up(read_bytes: Reader) -> Shapes:
    read_part = partial(_part_up, file_up=_file_up(read_bytes))
    return shapes(Words(read_part, state_up, role_up, message=_giving_references_back))


_UP: Final = _shapes_up(_bytes_up)

_WRAPPERS: Final = translate.wrappers(_UP)


def rest03_event_up(event: Any) -> JsonObject:
    """Make a strict StreamResponse of one in this dialect; what is not wrapped is read as `translate.event_up` does.

    Raises:
        Untranslatable: it is no task, message or update.
    """
    if type(event) is not dict:
        raise Untranslatable("an event is not an object")
    found = translate.unwrapped(event, _WRAPPERS)
    if found is None:
        return translate.event_up(event)
    name, read, inner = found
    return {name: read(inner)}


# --- push configurations ----------------------------------------------------------------------------------------------


def _task_id(resource: Any) -> str:
    """Take the task's id out of `tasks/{id}`."""
    name = text(resource)
    if not name.startswith(_TASKS):
        raise Untranslatable("a resource name does not begin with tasks/")
    return name.removeprefix(_TASKS)


def _ids(resource: Any) -> tuple[str, str]:
    """Take both ids, if it has both, out of `tasks/{id}/pushNotificationConfigs/{id}`."""
    rest = _task_id(resource)
    task_id, found, config_id = rest.rpartition(_CONFIGS)
    return (task_id, config_id) if found else (rest, "")


def _push_up(value: Any) -> JsonObject:
    config: JsonObject = translate.push_up(value)
    if value.get("name") is not None:
        task_id, config_id = _ids(value["name"])
        config.setdefault("taskId", task_id)
        if config_id:
            config.setdefault("id", config_id)
    return config


def _push_down(value: Any) -> JsonObject:
    nested = translate.push_down(value)
    inner = nested["pushNotificationConfig"]
    return {"name": f"{_TASKS}{nested['taskId']}{_CONFIGS}{inner.get('id', '')}", "pushNotificationConfig": inner}


_push_list_down: Final = each("the push configurations", _push_down)


# --- parameters: 0.3's request messages -------------------------------------------------------------------------------

_NO_MESSAGE: Final = ("message", needed("the message"))
_ABOUT_A_CONFIG: Final[frozenset[Operation]] = frozenset(
    {"GetTaskPushNotificationConfig", "DeleteTaskPushNotificationConfig"}
)

_configuration_up: Final = record(
    "the configuration",
    spelled(
        acceptedOutputModes=texts,
        historyLength=translate.some,
        blocking=("returnImmediately", translate.opposite),
        pushNotification=("taskPushNotificationConfig", translate.push_inner_up),
    ),
    defaults=(("returnImmediately", lambda: True),),
)
"""ProtoJSON leaves out what is false or 0: a configuration that does not say `blocking` does not wait (both SDKs write and
read it so), and a history of length 0 is unlimited."""

_configuration_down: Final = record(
    "the configuration",
    spelled(
        acceptedOutputModes=texts,
        historyLength=translate.some,
        returnImmediately=("blocking", translate.opposite),
        taskPushNotificationConfig=("pushNotification", translate.push_inner_down),
    ),
)


def _send_up(message: Reader) -> Reader:
    return record(
        "the parameters",
        spelled(message=message, request=("message", message), configuration=_configuration_up, metadata=struct),
        defaults=(_NO_MESSAGE,),
    )


_SENDS_UP: Final = {True: _send_up(_UP.message), False: _send_up(_shapes_up(text).message)}
"""By `encodes_twice`."""


def _create_up(params: Any) -> JsonObject:
    if type(params) is not dict:
        raise Untranslatable("the parameters are not an object")
    inner = params.get("config")
    config = _push_up(params if inner is None else inner)
    if params.get("parent") is not None:
        config["taskId"] = _ids(params["parent"])[0]
    config_id = word(params.get("configId") or params.get("config_id") or "")
    if config_id:
        config.setdefault("id", config_id)
    if "taskId" not in config:
        raise Untranslatable("the task's id is missing")
    return config


def rest03_params_up(operation: Operation, params: Any, *, encodes_twice: bool = True) -> JsonObject:
    """Make 1.0 parameters of a request message of this dialect; None stands for an empty one.

    The task's id comes as `name` or `parent` (`tasks/{id}`); of a body that names another task, `parent` is the path's and
    wins. `id` and the other names of JSON-RPC 0.3 are understood too.

    Raises:
        Untranslatable: they are no parameters of this operation.
    """
    params = {} if params is None else params
    if operation in {"SendMessage", "SendStreamingMessage"}:
        made: JsonObject = _SENDS_UP[encodes_twice](params)
        return made
    if operation == "CreateTaskPushNotificationConfig":
        return _create_up(params)
    resource = (params.get("name") or params.get("parent")) if type(params) is dict else None
    if resource is None:
        return translate.params_up(operation, params)
    task_id, config_id = _ids(resource) if operation in _ABOUT_A_CONFIG else (_task_id(resource), "")
    return translate.params_up(operation, {**params, "id": task_id, "pushNotificationConfigId": config_id})


def rest03_params_down(operation: Operation, params: JsonObject, *, encodes_twice: bool = True) -> JsonObject | None:
    """Make the request message of this dialect; None where it has none. Of most, only `name` or `parent` is said: the path.

    Raises:
        Untranslatable: they are no parameters of this operation.
    """
    if operation == "SendMessage":
        sent: JsonObject = _WRITERS[encodes_twice].send(params)
        sent.setdefault("configuration", {}).setdefault("blocking", True)
        return sent
    if operation == "SendStreamingMessage":
        streamed: JsonObject = _WRITERS[encodes_twice].send(params)
        return streamed
    if operation == "CreateTaskPushNotificationConfig":
        config = _push_down(params)
        inner = config["pushNotificationConfig"]
        parent = config["name"].removesuffix(_CONFIGS + inner.get("id", ""))
        return {"parent": parent, "configId": inner.get("id", ""), "config": config}
    made = translate.params_down(operation, params)
    if made is None or operation == "ListTasks":
        return made
    name = _TASKS + made.pop("id")
    if operation == "ListTaskPushNotificationConfigs":
        return {"parent": name}
    if operation in _ABOUT_A_CONFIG:
        return {"name": name + _CONFIGS + made.get("pushNotificationConfigId", "")}
    made.pop("metadata", None)  # CancelTaskRequest has none
    return {"name": name, **made}


# --- results ----------------------------------------------------------------------------------------------------------


class _Writers(NamedTuple):
    events: dict[str, Reader]
    send: Reader
    task: Reader
    tasks: Reader


def _writers(*, encodes_twice: bool) -> _Writers:
    way = shapes(
        Words(
            partial(_part_down, encodes_twice=encodes_twice),
            _state_down,
            _role_down,
            content="content",
            has_final=True,
            message=_keeping_references,
        )
    )
    return _Writers(
        events=dict(translate.wrappers(way).values()),
        send=record(
            "the parameters",
            spelled(message=way.message, configuration=_configuration_down, metadata=struct),
            defaults=(_NO_MESSAGE,),
        ),
        task=way.task,
        tasks=translate.task_page(way.task),
    )


_WRITERS: Final = {encodes_twice: _writers(encodes_twice=encodes_twice) for encodes_twice in (False, True)}


def rest03_event_down(event: JsonObject, *, encodes_twice: bool = True) -> JsonObject:
    """Write a StreamResponse in this dialect: wrapped as in 1.0, updates with `final`.

    Raises:
        Untranslatable: it is no StreamResponse.
    """
    events = _WRITERS[encodes_twice].events
    for name, inner in event.items():
        if name in events and inner is not None:
            return {name: events[name](inner)}
    raise Untranslatable("an event is neither task, message nor update")


_RESULTS_UP: Final[dict[Operation, Reader]] = {
    **translate.RESULTS_UP,
    "SendMessage": lambda answer: translate.task_or_message(rest03_event_up(answer)),
    "SendStreamingMessage": rest03_event_up,
    "GetTask": translate.one_task(_UP.task),
    "ListTasks": translate.task_page(_UP.task),
    "CancelTask": translate.one_task(_UP.task),
    "SubscribeToTask": rest03_event_up,
    "CreateTaskPushNotificationConfig": _push_up,
    "GetTaskPushNotificationConfig": _push_up,
    "ListTaskPushNotificationConfigs": translate.push_page(_push_up),
}


def rest03_result_up(operation: Operation, result: Any) -> JsonObject:
    """Make a strict 1.0 result of what an agent answered in this dialect.

    Raises:
        Untranslatable: it is no result of this operation.
    """
    made: JsonObject = _RESULTS_UP[operation](result)
    return made


def rest03_result_down(operation: Operation, result: JsonObject, *, encodes_twice: bool = True) -> JsonObject:
    """Make the response message of this dialect.

    Raises:
        Untranslatable: it is no result of this operation.
    """
    writers = _WRITERS[encodes_twice]
    made: JsonObject
    match operation:
        case "GetTask" | "CancelTask":
            made = writers.task(result)
        case "ListTasks":
            made = writers.tasks(result)
        case "SendMessage":
            made = rest03_event_down(translate.task_or_message(result), encodes_twice=encodes_twice)
        case "SendStreamingMessage" | "SubscribeToTask":
            made = rest03_event_down(result, encodes_twice=encodes_twice)
        case "CreateTaskPushNotificationConfig" | "GetTaskPushNotificationConfig":
            made = _push_down(result)
        case "ListTaskPushNotificationConfigs":
            made = {"configs": _push_list_down(result.get("configs") or [])}
        case "DeleteTaskPushNotificationConfig":
            made = {}
        case "GetExtendedAgentCard":
            made = translate.card(result)
    return made


# --- what is not translated: the bytes of files in it -----------------------------------------------------------------

_FILE_BYTES: Final = ("fileWithBytes", "file_with_bytes")


def rest03_files(data: bytes, *, were_twice: bool, encodes_twice: bool) -> bytes:
    """JSON of this dialect with the bytes of its files encoded another way; the same object if nothing is to be changed.

    `were_twice`: who wrote it encodes twice, or is not known not to.
    """
    if not any(name.encode() in data for name in _FILE_BYTES):
        return data
    said = judged.decode(data)
    read_bytes = _bytes_up if were_twice else text
    has_changed = False
    waiting = [said]
    while waiting:
        one = waiting.pop()
        if type(one) is list:
            waiting += one
            continue
        if type(one) is not dict:
            continue
        waiting += [value for name, value in one.items() if name not in {"metadata", "data"}]
        file = one.get("file")
        for name in _FILE_BYTES:
            if type(file) is dict and type(file.get(name)) is str:
                encoded = read_bytes(file[name])
                written = _encoded_twice(encoded) if encodes_twice else encoded
                has_changed |= written != file[name]
                file[name] = written
    return judged.encode(said) if has_changed else data


def _encoded_twice(encoded: str) -> str:
    return binascii.b2a_base64(encoded.encode(), newline=False).decode("ascii")
