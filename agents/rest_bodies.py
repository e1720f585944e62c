"""What clients of A2A over HTTP+JSON post, read so that what was judged is what is sent (architecture.md 3.1). Pure.

`agents/rest.py` knows the paths and calls this for the bodies. Deciding members stand once, spelt as the version spells
them, and say nothing else than the path; a tenant is none of the hub's.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import msgspec

from agents import members
from agents.members import MESSAGE_NAMES, NULL, SEND_NAMES, read_object
from agents.speech import Version
from registry import judged
from registry.errors import InvalidParams, InvalidRequest
from registry.judged import JsonObject, RawObject

TASK_NAME: Final = "tasks/{}"
"""How 0.3 names a task."""

_PUSH: dict[Version, str] = {"1.0": "taskPushNotificationConfig", "0.3": "pushNotification"}
_SEND = SEND_NAMES | MESSAGE_NAMES
_TASK = frozenset({"id", "name", "tenant"})
_CONFIG = frozenset({"id", "taskId", "url", "token", "authentication", "tenant"})
_OLD_CREATE = frozenset({"parent", "configId", "config", "name", "pushNotificationConfig", "tenant"})
_PROTO_NAMES = frozenset({"request", "task_id", "context_id", "push_notification"})
"""What 0.3's protocol buffers call deciding members, which the Python SDK writes as they are."""
_SNAKE = re.compile(r"_([a-z0-9])")
_FREE = frozenset({"metadata", "data"})
"""Members of 0.3 whose values are anybody's JSON, whose names are not the proto's."""


class Body(NamedTuple):
    """What was posted."""

    params: JsonObject
    """Decoded; members of 0.3 under their JSON names."""
    raw: bytes | None = None
    """To be sent to an agent of the same speech: as it came if every reader sees what was judged, else with that written anew."""


def _once(version: Version, deciding: frozenset[str]) -> frozenset[str]:
    return deciding if version == "1.0" else deciding | _PROTO_NAMES


def _read_body(version: Version, body: bytes, deciding: frozenset[str]) -> RawObject:
    """Read a body whose deciding members stand once; members of 0.3 come out under their JSON names."""
    params = judged.body(body, _once(version, deciding))
    if version == "0.3":
        params = _under_json_names(params)
    judged.check_spelling(params, deciding)
    return params


def _under_json_names(owner: dict[str, Any]) -> dict[str, Any]:
    """Write the proto's names (`task_id`) as its JSON names, at any depth that is decoded but in anybody's JSON."""
    found: dict[str, Any] = {}
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


def _decoded(version: Version, owner: RawObject) -> JsonObject:
    found = {name: judged.decode(raw) for name, raw in owner.items()}
    return found if version == "1.0" else _under_json_names(found)


def read_send(version: Version, body: bytes) -> Body:
    """Read the params of SendMessage and SendStreamingMessage; raises as `rest.read_request`."""
    params = _read_body(version, body, _SEND)
    if version == "0.3":
        _rename_inside(params)
    push = _PUSH[version]
    sent = members.read_send(params, push)
    is_plain = sent.is_whole and judged.is_plain(body, _once(version, _SEND))
    decoded = _decoded(version, params)
    if sent.push is not None:
        config = read_object(sent.push, push)
        if version == "0.3":
            config = _under_json_names(config)
        _check_config(config)
        _check_same(config, "taskId", sent.task_id)
        decoded["configuration"][push] = _decoded(version, config)
    return Body(decoded, body if is_plain else judged.encode(params))


def _rename_inside(params: RawObject) -> None:
    """Have the members of 0.3 that decide under their JSON names."""
    if "request" in params:  # what the proto calls the message
        if "message" in params:
            raise InvalidRequest("message stands twice", member="message")
        params["message"] = params.pop("request")
    for name in ("message", "configuration"):
        if params.get(name, NULL) != NULL:
            params[name] = msgspec.Raw(judged.encode(_under_json_names(read_object(params[name], name))))


def _check_config(config: RawObject) -> None:
    """Check what names things in a push configuration."""
    judged.check_spelling(config, _CONFIG)
    members.drop_tenant(config)
    members.take_id(config, "id")
    members.take_id(config, "taskId")
    if not members.read_string(config, "url"):
        raise InvalidParams("url must be a string", member="url")
    members.read_string(config, "token")
    _object(config, "authentication")


def read_create(task_id: str, body: bytes) -> JsonObject:
    """Read the params of CreateTaskPushNotificationConfig, whose body is the configuration alone."""
    config = _read_body("1.0", body, _CONFIG)
    _check_config(config)
    _check_same(config, "taskId", task_id)
    return {**_decoded("1.0", config), "taskId": task_id}


def read_old_create(task_id: str, body: bytes) -> JsonObject:
    """Read 0.3's: the whole request, as the Python SDK writes it, or only its `config`, as the JavaScript one does."""
    params = _read_body("0.3", body, _OLD_CREATE)
    members.drop_tenant(params)
    owner = params
    if "config" in params:
        owner = _under_json_names(read_object(params["config"], "config"))
        judged.check_spelling(owner, _OLD_CREATE)
    parent = TASK_NAME.format(task_id)
    for name in (
        members.read_string(params, "parent"),
        members.read_string(params, "name"),
        members.read_string(owner, "name"),
    ):
        if name and not f"{name}/".startswith(f"{parent}/"):
            raise InvalidParams("the body names another task than the path", member="name")
    config = _under_json_names(read_object(owner.get("pushNotificationConfig"), "pushNotificationConfig"))
    _check_config(config)
    _check_same(config, "taskId", None)
    decoded = _decoded("0.3", config)
    made: JsonObject = {"parent": parent, "config": {"pushNotificationConfig": decoded}}
    config_id = members.take_id(params, "configId")
    if config_id is not None:
        _check_same(config, "id", config_id)
        decoded["id"] = made["configId"] = config_id
    return made


def read_cancel(version: Version, task_id: str, body: bytes) -> Body:
    """Read the body of a request whose path names the task: all that is known of it is metadata."""
    if not body:
        return Body({})
    params = _read_body(version, body, _TASK)
    size = len(params)
    members.drop_tenant(params)
    _check_same(params, "id", task_id)
    _check_same(params, "name", TASK_NAME.format(task_id))
    metadata = _object(params, "metadata")
    is_plain = size == len(params) and judged.is_plain(body, _once(version, _TASK))
    raw = body if is_plain else judged.encode(params)
    return Body({"metadata": metadata} if metadata else {}, raw)


def _object(owner: RawObject, member: str) -> JsonObject | None:
    """Look at an object; one that is null is left out."""
    if owner.get(member, NULL) == NULL:
        owner.pop(member, None)
        return None
    value = judged.decode(owner[member])
    if not isinstance(value, dict):
        raise InvalidParams(f"{member} must be an object", member=member)
    return value


def _check_same(owner: RawObject, member: str, said: str | None) -> None:
    """Refuse a member that does not say what the request says elsewhere."""
    value = members.read_string(owner, member)
    if value and value != said:
        raise InvalidParams(f"{member} is not the one that the request names elsewhere", member=member)
