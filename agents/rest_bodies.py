"""What clients of A2A over HTTP+JSON post, read so that what was judged is what is sent (architecture.md 3.1). Pure.

`agents/rest.py` knows the paths and calls this for the bodies. Deciding members stand once, spelt as the version spells
them, and say nothing else than the path; a tenant is none of the hub's.
"""

from __future__ import annotations

import re
from typing import Any, Final

from agents.speech import Version
from agents.wire import MAX_ID, MAX_REFERENCES
from registry import judged
from registry.errors import InvalidParams, InvalidRequest
from registry.judged import JsonObject

TASK_NAME: Final = "tasks/{}"
"""How 0.3 names a task."""

_PUSH: dict[Version, str] = {"1.0": "taskPushNotificationConfig", "0.3": "pushNotification"}
_ALL_PUSH = frozenset({"pushNotificationConfig", *_PUSH.values()})
_MESSAGE = frozenset({"taskId", "contextId", "referenceTaskIds"})
_SEND = frozenset({"message", "configuration", "tenant"}) | _MESSAGE | _ALL_PUSH
_TASK = frozenset({"id", "name", "tenant"})
_CONFIG = frozenset({"id", "taskId", "url", "token", "authentication", "tenant"})
_OLD_CREATE = frozenset({"parent", "configId", "config", "name", "pushNotificationConfig", "tenant"})
_PROTO_NAMES = frozenset({"request", "task_id", "context_id", "push_notification"})
"""What 0.3's protocol buffers call deciding members, which the Python SDK writes as they are."""
_SNAKE = re.compile(r"_([a-z0-9])")
_FREE = frozenset({"metadata", "data"})
"""Members of 0.3 whose values are anybody's JSON, whose names are not the proto's."""


def _read_body(version: Version, body: bytes, deciding: frozenset[str]) -> JsonObject:
    """Read a body whose deciding members stand once; members of 0.3 come out under their JSON names."""
    once = deciding if version == "1.0" else deciding | _PROTO_NAMES
    read: JsonObject = {name: judged.decode(raw) for name, raw in judged.body(body, once).items()}
    if version == "0.3":
        read = _under_json_names(read)
    judged.check_spelling(read, deciding)
    drop_tenant(read)
    return read


def _under_json_names(owner: JsonObject) -> JsonObject:
    """Write the proto's names (`task_id`) as its JSON names, at any depth but in anybody's JSON."""
    found: JsonObject = {}
    for name, value in owner.items():
        json_name = _SNAKE.sub(lambda letter: letter[1].upper(), name)
        if json_name in found:
            raise InvalidRequest(f"{json_name[:80]} stands twice", member=json_name)
        found[json_name] = value if json_name in _FREE else _renamed(value)
    return found


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return _under_json_names(value)
    return [_renamed(one) for one in value] if isinstance(value, list) else value


def drop_tenant(owner: JsonObject) -> None:
    """Take an empty tenant out; raises `InvalidParams` for any other, as the hub's cards name none."""
    if owner.pop("tenant", None):
        raise InvalidParams("tenant is not used here", member="tenant")


def read_send(version: Version, body: bytes) -> JsonObject:
    """Read the params of SendMessage and SendStreamingMessage; raises as `rest.read_request`."""
    params = _read_body(version, body, _SEND)
    if version == "0.3" and "request" in params:  # what the proto calls the message
        if "message" in params:
            raise InvalidRequest("message stands twice", member="message")
        params["message"] = params.pop("request")
    _refuse_push(params)
    message = _object(params, "message")
    if message is None:
        raise InvalidParams("message is missing", member="message")
    judged.check_spelling(message, _MESSAGE)
    _check_id(message, "taskId")
    _check_id(message, "contextId")
    _check_references(message)
    configuration = _object(params, "configuration")
    if configuration is not None:
        judged.check_spelling(configuration, _ALL_PUSH)
        push = _PUSH[version]
        _refuse_push(configuration, but=push)
        config = _object(configuration, push)
        if config is not None:
            _check_config(config)
            _check_same(config, "taskId", message.get("taskId"))
    return params


def _refuse_push(owner: JsonObject, *, but: str | None = None) -> None:
    """Refuse a push configuration under a name of another version or place: an agent might take it for one."""
    for name in _ALL_PUSH:
        if name != but and name in owner and owner.pop(name) is not None:
            raise InvalidParams(f"{name} is not a member here", member=name)


def _check_config(config: JsonObject) -> None:
    """Check what names things in a push configuration."""
    judged.check_spelling(config, _CONFIG)
    drop_tenant(config)
    _check_id(config, "id")
    _check_id(config, "taskId")
    if not isinstance(config.get("url"), str) or not config["url"]:
        raise InvalidParams("url must be a string", member="url")
    if not isinstance(config.get("token") or "", str):
        raise InvalidParams("token must be a string", member="token")
    _object(config, "authentication")


def read_create(task_id: str, body: bytes) -> JsonObject:
    """Read the params of CreateTaskPushNotificationConfig, whose body is the configuration alone."""
    config = _read_body("1.0", body, _CONFIG)
    _check_config(config)
    _check_same(config, "taskId", task_id)
    return {**config, "taskId": task_id}


def read_old_create(task_id: str, body: bytes) -> JsonObject:
    """Read 0.3's: the whole request, as the Python SDK writes it, or only its `config`, as the JavaScript one does."""
    params = _read_body("0.3", body, _OLD_CREATE)
    owner = _object(params, "config") if "config" in params else params
    if owner is None:
        raise InvalidParams("config is missing", member="config")
    judged.check_spelling(owner, _OLD_CREATE)
    parent = TASK_NAME.format(task_id)
    for name in (params.get("parent"), params.get("name"), owner.get("name")):
        if name and (not isinstance(name, str) or not f"{name}/".startswith(f"{parent}/")):
            raise InvalidParams("the body names another task than the path", member="name")
    config = _object(owner, "pushNotificationConfig")
    if config is None:
        raise InvalidParams("pushNotificationConfig is missing", member="pushNotificationConfig")
    _check_config(config)
    _check_same(config, "taskId", None)
    _check_id(params, "configId")
    if "configId" not in params:
        return {"parent": parent, "config": {"pushNotificationConfig": config}}
    config_id = params["configId"]
    _check_same(config, "id", config_id)
    return {
        "parent": parent,
        "configId": config_id,
        "config": {"pushNotificationConfig": {**config, "id": config_id}},
    }


def read_cancel(version: Version, task_id: str, body: bytes) -> JsonObject:
    """Read the body of a request whose path names the task: all it may add is metadata."""
    if not body:
        return {}
    params = _read_body(version, body, _TASK)
    _check_same(params, "id", task_id)
    _check_same(params, "name", TASK_NAME.format(task_id))
    metadata = _object(params, "metadata")
    return {"metadata": metadata} if metadata else {}


def _object(owner: JsonObject, member: str) -> JsonObject | None:
    """Look at an object; one that is null is left out."""
    value = owner.get(member)
    if value is None:
        owner.pop(member, None)
    elif not isinstance(value, dict):
        raise InvalidParams(f"{member} must be an object", member=member)
    return value


def _check_id(owner: JsonObject, member: str) -> None:
    """Check an id; an empty one is an absent one (proto3), and is left out."""
    value = owner.get(member)
    if value is None or value == "":
        owner.pop(member, None)
    elif not isinstance(value, str):
        raise InvalidParams(f"{member} must be a string", member=member)
    else:
        check_length(member, value)


def check_length(member: str, value: str) -> None:
    """Raise `InvalidParams` for an id that is longer than any the hub keeps."""
    if len(value) > MAX_ID:
        raise InvalidParams(f"{member} is longer than {MAX_ID} characters", member=member)


def _check_same(owner: JsonObject, member: str, said: str | None) -> None:
    """Refuse a member that does not say what the request says elsewhere."""
    if owner.get(member) and owner[member] != said:
        raise InvalidParams(f"{member} is not the one that the request names elsewhere", member=member)


def _check_references(message: JsonObject) -> None:
    value = message.get("referenceTaskIds")
    if not value:
        message.pop("referenceTaskIds", None)
        return
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise InvalidParams("referenceTaskIds must be an array of task ids", member="referenceTaskIds")
    if len(value) > MAX_REFERENCES:
        raise InvalidParams(f"referenceTaskIds may hold {MAX_REFERENCES} ids", member="referenceTaskIds")
