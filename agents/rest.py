"""A2A over HTTP+JSON, 1.0 (§11) and 0.3: requests read from clients and written to agents. Pure.

Knows nothing of owners, connections or the translation between versions. A request is read so that what was judged is
what is sent (architecture.md 3.1): its params are decoded, and whoever sends them on writes them anew.

Params of 1.0 are canonical. Params of 0.3 are the JSON of its protocol buffers' request messages, ids as resource names
(`{"name": "tasks/{id}"}`) and members under their JSON names: the Python SDK also writes the protocol buffers' own names
(`message_id`, `request` for the message), which are read here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

from agents import faults, members, rest_bodies
from agents.faults import Fault
from agents.members import NULL
from agents.rest_bodies import TASK_NAME, Body
from agents.speech import Operation, Version
from registry import judged
from registry.errors import HttpMethodRefused, InvalidParams, InvalidRequest, NotFound
from registry.judged import JsonObject

MEDIA_TYPES: Final[dict[Version, bytes]] = {"1.0": b"application/a2a+json", "0.3": b"application/json"}
"""Of results (A2A 1.0.1 §11.1). All have HTTP status 200, whatever they made."""


class RestAsk(NamedTuple):
    """A client's request."""

    version: Version
    operation: Operation
    params: JsonObject
    raw: bytes | None = None
    """The body, as it may go on to an agent of the same speech."""


class Written(NamedTuple):
    """A request to an agent."""

    method: str
    url: str
    body: bytes | None


class _Route(NamedTuple):
    methods: tuple[str, ...]
    """All that are served; the first is the one that agents are asked by."""
    path: str
    """`{}` stands for an id."""


_ROUTES: dict[Operation, _Route] = {
    "SendMessage": _Route(("POST",), "message:send"),
    "SendStreamingMessage": _Route(("POST",), "message:stream"),
    "GetTask": _Route(("GET",), "tasks/{}"),
    "ListTasks": _Route(("GET",), "tasks"),
    "CancelTask": _Route(("POST",), "tasks/{}:cancel"),
    # the proto says GET, the specification's table POST: the SDKs serve both, and ask by POST
    "SubscribeToTask": _Route(("POST", "GET"), "tasks/{}:subscribe"),
    "CreateTaskPushNotificationConfig": _Route(("POST",), "tasks/{}/pushNotificationConfigs"),
    "GetTaskPushNotificationConfig": _Route(("GET",), "tasks/{}/pushNotificationConfigs/{}"),
    "ListTaskPushNotificationConfigs": _Route(("GET",), "tasks/{}/pushNotificationConfigs"),
    "DeleteTaskPushNotificationConfig": _Route(("DELETE",), "tasks/{}/pushNotificationConfigs/{}"),
    "GetExtendedAgentCard": _Route(("GET",), "extendedAgentCard"),
}
_OLD_ROUTES: dict[Operation, _Route] = {
    **_ROUTES,
    "SubscribeToTask": _Route(("GET", "POST"), "tasks/{}:subscribe"),  # its Python SDK serves GET only
    "GetExtendedAgentCard": _Route(("GET",), "card"),
}
_ROUTES_OF: dict[Version, dict[Operation, _Route]] = {"1.0": _ROUTES, "0.3": _OLD_ROUTES}


def _by_path(routes: dict[Operation, _Route]) -> dict[str, dict[str, Operation]]:
    found: dict[str, dict[str, Operation]] = {}
    for operation, route in routes.items():
        found.setdefault(route.path, {}).update(dict.fromkeys(route.methods, operation))
    return found


_OPERATIONS: dict[Version, dict[str, dict[str, Operation]]] = {
    version: _by_path(routes) for version, routes in _ROUTES_OF.items()
}
"""By path and HTTP method."""

_IDS: dict[Operation, tuple[str, ...]] = {
    "GetTask": ("id",),
    "CancelTask": ("id",),
    "SubscribeToTask": ("id",),
    "CreateTaskPushNotificationConfig": ("taskId",),
    "GetTaskPushNotificationConfig": ("taskId", "id"),
    "ListTaskPushNotificationConfigs": ("taskId",),
    "DeleteTaskPushNotificationConfig": ("taskId", "id"),
}
"""What 1.0 calls the ids in a path, from the left."""

_CONFIG_NAME = TASK_NAME + "/pushNotificationConfigs/{}"
_NAMES: dict[Operation, tuple[str, str]] = {
    "GetTask": ("name", TASK_NAME),
    "CancelTask": ("name", TASK_NAME),
    "SubscribeToTask": ("name", TASK_NAME),
    "CreateTaskPushNotificationConfig": ("parent", TASK_NAME),
    "GetTaskPushNotificationConfig": ("name", _CONFIG_NAME),
    "ListTaskPushNotificationConfigs": ("parent", TASK_NAME),
    "DeleteTaskPushNotificationConfig": ("name", _CONFIG_NAME),
}
"""The member of 0.3 that names what the path names, and how."""
_NAME = re.compile(r"tasks/([^/]+)(?:/pushNotificationConfigs/([^/]+))?")

_VERBS = (":cancel", ":subscribe")
_DOTS = frozenset({".", ".."})
"""Cannot be ids in a path: readers of URLs take them for steps, percent-encoded too (WHATWG URL)."""

_INTEGER = re.compile(r"-?[0-9]{1,10}")
_MAX_PARAMETERS = 100


def _read_integer(name: str, text: str) -> int:
    value = int(text) if _INTEGER.fullmatch(text) else None
    if value is None or not -(2**31) <= value < 2**31:
        raise InvalidParams(f"{name} must be an integer of 32 bits", member=name)
    return value


def _read_boolean(name: str, text: str) -> bool:
    value = {"true": True, "false": False}.get(text.lower())
    if value is None:
        raise InvalidParams(f"{name} must be true or false", member=name)
    return value


def _read_text(_name: str, text: str) -> str:
    return text


_QUERY: dict[Operation, dict[str, Callable[[str, str], object]]] = {
    "GetTask": {"historyLength": _read_integer},
    "ListTasks": {
        "contextId": _read_text,
        "status": _read_text,
        "pageSize": _read_integer,
        "pageToken": _read_text,
        "historyLength": _read_integer,
        "statusTimestampAfter": _read_text,
        "includeArtifacts": _read_boolean,
    },
    "ListTaskPushNotificationConfigs": {"pageSize": _read_integer, "pageToken": _read_text},
}
"""The query parameters of each operation. Others are left aside, and go nowhere."""


def read_request(method: str, path: str, query: bytes, body: bytes) -> RestAsk:
    """Read a client's request; `path` is what follows `/a2a/{agent}`, with its slash and still percent-encoded.

    Raises:
        NotFound: no such path; a tenant in it is none.
        HttpMethodRefused: the path answers other methods only.
        ParseFailed: the body is not JSON.
        InvalidRequest: a deciding member or parameter is missing, doubled, of the wrong type or spelt otherwise.
    """
    version, route, found = _split(path)
    operations = _OPERATIONS[version].get(route)
    if operations is None:
        raise NotFound("path", path)
    ids = [_decode(one, path) for one in found]
    if version == "0.3" and any("/" in one for one in ids):  # a resource name could be read in two ways
        raise NotFound("path", path)
    operation = operations.get(method)
    if operation is None:
        raise HttpMethodRefused(", ".join(sorted(operations)))
    for one in ids:
        members.check_length("id", one)
    params, raw = _read_params(version, operation, ids, query=query, body=body)
    return RestAsk(version, operation, params, raw)


def _split(path: str) -> tuple[Version, str, list[str]]:
    """Tell a path's version, its route and the ids in it. Only a verb at the very end counts: ids may contain colons."""
    if not path.startswith("/") or not path.isascii():
        raise NotFound("path", path)
    segments = path[1:].split("/")
    version: Version = "1.0"
    if segments[0] == "v1":
        version = "0.3"
        del segments[0]
    match segments:
        case ["tasks", task]:
            verb = next((verb for verb in _VERBS if task.endswith(verb)), "")
            return version, "tasks/{}" + verb, [task.removesuffix(verb)]
        case ["tasks", task, "pushNotificationConfigs"]:
            return version, "tasks/{}/pushNotificationConfigs", [task]
        case ["tasks", task, "pushNotificationConfigs", config]:
            return version, "tasks/{}/pushNotificationConfigs/{}", [task, config]
        case [name]:
            return version, name, []
        case _:
            raise NotFound("path", path)


def _decode(segment: str, path: str) -> str:
    try:
        value = unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise NotFound("path", path) from None
    if not value or value in _DOTS:
        raise NotFound("path", path)
    return value


def _read_params(version: Version, operation: Operation, ids: list[str], *, query: bytes, body: bytes) -> Body:
    match operation:
        case "SendMessage" | "SendStreamingMessage":
            return rest_bodies.read_send(version, body)
        case "CreateTaskPushNotificationConfig":
            return Body((rest_bodies.read_create if version == "1.0" else rest_bodies.read_old_create)(ids[0], body))
        case "CancelTask":
            said = rest_bodies.read_cancel(version, ids[0], body)
            return Body({**_named(version, operation, ids), **said.params}, said.raw)
        case _:
            return Body({**_named(version, operation, ids), **_read_query(_QUERY.get(operation, {}), query)})


def _named(version: Version, operation: Operation, ids: list[str]) -> JsonObject:
    """The ids of a path as params."""
    if not ids:
        return {}
    if version == "1.0":
        return dict(zip(_IDS[operation], ids, strict=True))
    member, name = _NAMES[operation]
    return {member: name.format(*ids)}


def _read_query(readers: dict[str, Callable[[str, str], object]], query: bytes) -> JsonObject:
    """Read typed parameters; an empty text is an absent one (proto3)."""
    if not query:
        return {}
    try:
        pairs = [
            (name.decode(), value.decode())
            for name, value in parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
        ]
    except ValueError:
        raise InvalidRequest("the query cannot be read") from None
    deciding = frozenset({*readers, "tenant"})
    known = [(name, value) for name, value in pairs if name in deciding]
    given = dict(known)
    if len(given) < len(known):
        doubled = next(name for name in given if [one for one, _ in known].count(name) > 1)
        raise InvalidRequest(f"{doubled} stands twice in the query", member=doubled)
    judged.check_spelling({name: NULL for name, _ in pairs}, deciding)
    if given.pop("tenant", None):
        raise InvalidParams("tenant is not used here", member="tenant")
    read = {name: readers[name](name, value) for name, value in given.items()}
    return {name: value for name, value in read.items() if value != ""}


def write_request(
    base_url: str,
    version: Version,
    operation: Operation,
    params: JsonObject | None,
    tenant: str | None,
    raw: bytes | None = None,
) -> Written:
    """Write a request to the agent whose interface has this URL; `tenant` is the one its card asks for (1.0 only).

    `raw` is the body, if it was written already.

    Raises:
        InvalidParams: an id is missing, or is one that cannot stand in a path.
    """
    params = params or {}
    route = _ROUTES_OF[version][operation]
    path = route.path.format(*(_segment(one) for one in _ids(version, operation, params)))
    if version == "0.3":
        path = f"v1/{path}"
    elif tenant:
        path = f"{quote(tenant, safe='')}/{path}"
    method = route.methods[0]
    base, _, query = base_url.partition("?")
    own = "" if method == "POST" else _write_query(params, _QUERY.get(operation, {}))
    query = "&".join(filter(None, (query, own)))
    url = f"{base.removesuffix('/')}/{path}"
    body = _write_body(version, operation, params) if raw is None else raw
    return Written(method, f"{url}?{query}" if query else url, body)


def _ids(version: Version, operation: Operation, params: JsonObject) -> list[str]:
    """The ids that go into the path, from the left."""
    if operation not in _IDS:
        return []
    if version == "1.0":
        return [str(params.get(name) or "") for name in _IDS[operation]]
    member, name = _NAMES[operation]
    found = _NAME.fullmatch(str(params.get(member)))
    ids = [one for one in found.groups() if one] if found else []
    if len(ids) != name.count("{}"):
        raise InvalidParams(f"the {member} {params.get(member)!r} cannot be sent to this agent", member=member)
    return ids


def _segment(value: str) -> str:
    if not value or value in _DOTS:
        raise InvalidParams(f"the id {value!r} cannot be sent to this agent", member="id")
    return quote(value, safe="")


def _write_query(params: JsonObject, names: Iterable[str]) -> str:
    given = {name: params[name] for name in names if params.get(name) is not None}
    return urlencode({name: _spoken(value) for name, value in given.items()})


def _spoken(value: object) -> str:
    return ("false", "true")[value] if isinstance(value, bool) else str(value)


def _write_body(version: Version, operation: Operation, params: JsonObject) -> bytes | None:
    match operation:
        case "SendMessage" | "SendStreamingMessage" | "CreateTaskPushNotificationConfig":
            return judged.encode(params)
        case "CancelTask":
            member = "metadata" if version == "1.0" else "name"  # readers of 0.3 refuse what they do not know
            return judged.encode({member: params[member]} if params.get(member) else {})
        case _:
            return None


def write_error_event(fault: Fault, version: Version) -> bytes:
    """Write why a stream that has begun ends."""
    _, body = faults.write_http(fault, version)
    return b"event: error\ndata: " + judged.encode(body) + b"\n\n"
