"""A2A JSON-RPC as the hub reads and writes it: requests of 1.0 and 0.3, and the ids and states in answers. Pure.

Knows nothing of owners, connections or cards. A request is read so that what was judged is what is sent
(architecture.md 3.1); an answer is read tolerantly, and only for what the ledger keeps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Final, Literal, NamedTuple, Protocol
from urllib.parse import parse_qs

import msgspec

from agents import translate
from agents.records import Untranslatable
from agents.speech import PUSH, STREAMING, Ask, Operation, Version
from registry import judged
from registry.entries import Headers
from registry.errors import InvalidParams, InvalidRequest, MethodNotFound, TooManyHops, VersionNotSupported
from registry.judged import JsonObject, RawObject

OLD_METHODS: Final[dict[Operation, str]] = {
    "SendMessage": "message/send",
    "SendStreamingMessage": "message/stream",
    "GetTask": "tasks/get",
    "ListTasks": "tasks/list",
    "CancelTask": "tasks/cancel",
    "SubscribeToTask": "tasks/resubscribe",
    "CreateTaskPushNotificationConfig": "tasks/pushNotificationConfig/set",
    "GetTaskPushNotificationConfig": "tasks/pushNotificationConfig/get",
    "ListTaskPushNotificationConfigs": "tasks/pushNotificationConfig/list",
    "DeleteTaskPushNotificationConfig": "tasks/pushNotificationConfig/delete",
    "GetExtendedAgentCard": "agent/getAuthenticatedExtendedCard",
}
"""The JSON-RPC methods of A2A 0.3 (§7); `tasks/list` stands in its drafts only."""

METHODS: Final[dict[str, tuple[Version, Operation]]] = {
    **{operation: ("1.0", operation) for operation in OLD_METHODS},
    **{method: ("0.3", operation) for operation, method in OLD_METHODS.items()},
}
"""Every JSON-RPC method of both versions (A2A 1.0 §9.4): the method's name decides the version."""

MAX_ID = 512
"""Characters of a task or context id. Known agents need 73; ids are kept, so their size must end somewhere."""

MAX_REFERENCES = 100
"""Tasks that one message may refer to: the owner of each is looked up."""

_ENVELOPE = frozenset({"jsonrpc", "id", "method", "params"})
_PUSH = frozenset({"pushNotificationConfig", "taskPushNotificationConfig", "pushNotification"})
_PUSH_MEMBER: Final[dict[Version, str]] = {"1.0": "taskPushNotificationConfig", "0.3": "pushNotificationConfig"}
_SEND_PARAMS = frozenset({"message", "configuration", "tenant"}) | _PUSH
_MESSAGE = frozenset({"taskId", "contextId", "referenceTaskIds"})
_TASK_PARAMS = frozenset({"id", "tenant"})
_LIST_PARAMS = frozenset(
    {
        "tenant",
        "contextId",
        "status",
        "pageSize",
        "pageToken",
        "historyLength",
        "statusTimestampAfter",
        "includeArtifacts",
    }
)
_PUSH_PARAMS = frozenset({"id", "taskId", "pushNotificationConfigId", "tenant"}) | _PUSH
_OTHER_NAMES_OF_A_TASK = frozenset({"name", "taskId"})
"""What drafts of the protocol called the task's id: refused, so that no agent reads another task than the judged one."""
_DECIDING = (_ENVELOPE | _SEND_PARAMS | _MESSAGE | _TASK_PARAMS) - {"jsonrpc"}
"""Refused when they stand twice. Parameters of ListTasks go nowhere: it is answered here."""
_NO_ID = frozenset({b"{", b"[", b"t", b"f"})
"""How values begin that cannot be a request's id."""
NULL: Final = msgspec.Raw(b"null")

HOPS_HEADER: Final = "hubbub-hops"
"""How often a call has come through the hub: an agent that calls the hub for a caller passes the one it was sent on."""

MAX_HOPS = 16
"""Agents that call one another through the hub. Chains that somebody meant have a handful."""

MAX_HOP_DIGITS = 3
_FIRST_HOP: Final = ((HOPS_HEADER, "1"),)
_FORWARDED = frozenset({b"a2a-extensions", b"x-a2a-extensions", b"traceparent", b"tracestate", HOPS_HEADER.encode()})
EXTENSIONS_HEADER: Final[dict[Version, str]] = {"1.0": "a2a-extensions", "0.3": "x-a2a-extensions"}


class _PlainMessage(msgspec.Struct, rename="camel"):
    """A message with nothing that must be taken out of it before it goes on."""

    task_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)] | None = None
    context_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)] | None = None
    reference_task_ids: None = None


class _WithoutPush(msgspec.Struct, rename="camel"):
    push_notification_config: None = None
    task_push_notification_config: None = None
    push_notification: None = None


class _PlainParams(_WithoutPush, rename="camel", kw_only=True):
    """The same of the parameters of SendMessage."""

    message: _PlainMessage
    tenant: None = None
    configuration: _WithoutPush | None = None


class _PlainSend(msgspec.Struct, kw_only=True):
    """The same of the whole request."""

    jsonrpc: Literal["2.0"]
    id: msgspec.Raw = NULL
    method: Literal["SendMessage", "SendStreamingMessage", "message/send", "message/stream"]
    params: _PlainParams


_plain_send = msgspec.json.Decoder(_PlainSend)


class Envelope(msgspec.Struct, frozen=True):
    """A JSON-RPC request whose parameters have not been looked at. A Struct, as `Request`: made for every request."""

    id: msgspec.Raw
    """As the caller wrote it: type and value go back unchanged (clients compare with `===`)."""
    method: str
    version: Version
    operation: Operation | None
    """None: neither version has the method."""
    params: msgspec.Raw | None
    plain: bytes | None = None
    """A whole SendMessage as it came, if every reader sees what is read of it (`judged.is_plain`) and nothing must be taken out."""
    message: _PlainMessage | None = None
    """What a plain one names."""

    @property
    def streams(self) -> bool:
        """Whether the caller expects an event stream."""
        return self.operation in STREAMING


class Request(msgspec.Struct, frozen=True):
    """A request that may be judged: its deciding members read, its parameters ready to be written anew."""

    envelope: Envelope
    params: RawObject | None
    """None: there are none, or the request is plain and goes on as it came."""
    task_id: str | None = None
    """The task it is about, or whose conversation it goes on with."""
    context_id: str | None = None
    reference_task_ids: tuple[str, ...] = ()
    has_push: bool = False
    """It holds a push configuration, which is the hub's affair and goes no further."""

    def encode(self, tenant: str | None) -> bytes:
        """Write the request for an upstream; `tenant` is the one that the upstream's card asks for."""
        envelope, params = self.envelope, self.params
        if envelope.plain is not None:
            if not tenant:
                return envelope.plain
            params = judged.read_object(judged.read_object(envelope.plain)["params"])
        body: dict[str, object] = {"jsonrpc": "2.0", "id": envelope.id, "method": envelope.method}
        if params is not None:
            body["params"] = {**params, "tenant": tenant} if tenant else params
        return judged.encode(body)


def read_envelope(data: bytes) -> Envelope:
    """Read the outer object of a request.

    Raises:
        ParseFailed: not JSON.
        InvalidRequest: not one JSON-RPC 2.0 request (a batch is none), or a deciding member stands twice.
    """
    if judged.is_plain(data, _DECIDING):
        judged.check_size(data)
        sent = _read_plain(data)
        if sent is not None:
            version, operation = METHODS[sent.method]
            return Envelope(sent.id, sent.method, version, operation, None, data, sent.params.message)
        top = judged.read_object(data)
    else:
        top = judged.body(data, _DECIDING)
        judged.check_spelling(top, _ENVELOPE)
    if judged.read_string(top, "jsonrpc") != "2.0":
        raise InvalidRequest('jsonrpc must be "2.0"', member="jsonrpc")
    request_id = top.get("id", NULL)
    if bytes(request_id)[:1] in _NO_ID:
        raise InvalidRequest("id must be a string, a number or null", member="id")
    method = judged.read_string(top, "method")
    if method is None:
        raise InvalidRequest("method is missing", member="method")
    known = METHODS.get(method)
    version = known[0] if known else "0.3" if "/" in method else "1.0"
    return Envelope(request_id, method, version, known and known[1], top.get("params"))


def _read_plain(data: bytes) -> _PlainSend | None:
    """Read a SendMessage that can go on as it came; None: there is more to be said about it."""
    try:
        sent = _plain_send.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
    return None if bytes(sent.id)[:1] in _NO_ID else sent


def check_version(version: Version, headers: Mapping[bytes, bytes], query: bytes) -> None:
    """Refuse a request whose A2A-Version is of another major than its method (A2A 1.0 §3.6).

    The version may be a header or a query parameter. Absent is fine: the method's name says it.

    Raises:
        VersionNotSupported: names the version that has the method.
    """
    given = headers.get(b"a2a-version", b"").decode("latin-1")
    if given == version:
        return
    given = given.strip()
    if not given and query:
        given = parse_qs(query.decode("latin-1")).get("A2A-Version", [""])[0].strip()
    if given and given.partition(".")[0] != version.partition(".")[0]:
        raise VersionNotSupported(given[:20], (version,))


def read_request(envelope: Envelope) -> Request:
    """Read the members that decide, and make every object on the path to them ready to be written anew.

    Raises:
        MethodNotFound: neither version has the method.
        InvalidRequest: a deciding member is missing, of the wrong type or spelt otherwise.
    """
    match envelope.operation:
        case None:
            raise MethodNotFound(envelope.method)
        case operation if operation in PUSH:
            return Request(envelope, _read_params(envelope, _PUSH_PARAMS))
        case "SendMessage" | "SendStreamingMessage":
            return _read_send(envelope)
        case "ListTasks":
            return Request(envelope, _read_params(envelope, _LIST_PARAMS))
        case "GetExtendedAgentCard":
            params = _read_params(envelope, _TASK_PARAMS) if envelope.params is not None else {}
            return Request(envelope, params if envelope.version == "1.0" else None)
        case _:
            params = _read_params(envelope, _TASK_PARAMS)
            judged.check_spelling(params, _TASK_PARAMS | _OTHER_NAMES_OF_A_TASK)
            for name in _OTHER_NAMES_OF_A_TASK & params.keys():
                raise InvalidParams(f"{name} is not a member; write 'id'", member=name)
            task_id = _take_id(params, "id")
            if task_id is None:
                raise InvalidParams("id is missing", member="id")
            return Request(envelope, params, task_id)


def _read_params(envelope: Envelope, deciding: frozenset[str]) -> RawObject:
    params = _read_object(envelope.params, "params")
    judged.check_spelling(params, deciding)
    # the hub's cards name none; the upstream's own is put in on the way
    if "tenant" in params and judged.decode(params.pop("tenant")):
        raise InvalidParams("tenant is not used here", member="tenant")
    return params


def _read_send(envelope: Envelope) -> Request:
    if envelope.message is not None:
        return Request(envelope, None, envelope.message.task_id, envelope.message.context_id)
    params = _read_params(envelope, _SEND_PARAMS)
    _refuse_push(params, ())
    has_push = False
    if "configuration" in params:
        configuration = params.pop("configuration")
        if configuration != NULL:
            written = _read_object(configuration, "configuration")
            judged.check_spelling(written, _PUSH)
            own = _PUSH_MEMBER[envelope.version]
            _refuse_push(written, {own})
            has_push = written.get(own, NULL) != NULL
            params["configuration"] = msgspec.Raw(judged.encode(written))
    message = _read_object(params.get("message"), "message")
    judged.check_spelling(message, _MESSAGE)
    task_id = _take_id(message, "taskId")
    context_id = _take_id(message, "contextId")
    references = _take_references(message)
    params["message"] = msgspec.Raw(judged.encode(message))
    return Request(envelope, params, task_id, context_id, references, has_push=has_push)


def _read_object(raw: msgspec.Raw | None, what: str) -> RawObject:
    if raw is None:
        raise InvalidParams(f"{what} is missing", member=what)
    try:
        return judged.read_object(raw, what)
    except InvalidRequest as error:
        raise InvalidParams(error.text, member=what) from None


def _refuse_push(owner: RawObject, allowed: Collection[str]) -> None:
    """Refuse a push configuration where its version has none: an agent might read it there."""
    for name in _PUSH.difference(allowed):
        if name in owner and owner.pop(name) != NULL:
            raise InvalidParams(f"{name} does not belong here", member=name)


def _take_id(owner: RawObject, member: str) -> str | None:
    """Read an id and write it anew; an empty one is an absent one (proto3), and is left out."""
    if member not in owner:
        return None
    value = judged.read_string(owner, member)
    if not value:
        del owner[member]
        return None
    if len(value) > MAX_ID:
        raise InvalidParams(f"{member} is longer than {MAX_ID} characters", member=member)
    owner[member] = msgspec.Raw(judged.encode(value))
    return value


def _take_references(message: RawObject) -> tuple[str, ...]:
    if "referenceTaskIds" not in message:
        return ()
    value = judged.decode(message.pop("referenceTaskIds"))
    if not value:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise InvalidParams("referenceTaskIds must be an array of task ids", member="referenceTaskIds")
    if len(value) > MAX_REFERENCES:
        raise InvalidParams(f"referenceTaskIds may hold {MAX_REFERENCES} ids", member="referenceTaskIds")
    message["referenceTaskIds"] = msgspec.Raw(judged.encode(value))
    return tuple(value)


class Naming(Protocol):
    """Whatever names tasks and a context."""

    @property
    def task_id(self) -> str | None:
        """The task it is about."""

    @property
    def context_id(self) -> str | None:
        """The context it belongs to."""

    @property
    def reference_task_ids(self) -> tuple[str, ...]:
        """Other tasks it speaks of."""


ABOUT_ONE_TASK: Final[frozenset[Operation]] = frozenset({"GetTask", "CancelTask", "SubscribeToTask"})
"""Operations that may only show the task they name."""


class Named(NamedTuple):
    """The tasks and the context that a request names."""

    task_id: str | None = None
    context_id: str | None = None
    reference_task_ids: tuple[str, ...] = ()


def named_in(ask: Ask) -> Named:
    """What a canonical request names; its doors have checked the types."""
    params = ask.params
    if ask.operation in {"SendMessage", "SendStreamingMessage"}:
        message = params.get("message") or {}
        return Named(
            message.get("taskId") or None,
            message.get("contextId") or None,
            tuple(message.get("referenceTaskIds") or ()),
        )
    if ask.operation in PUSH:
        return Named(params.get("taskId") or None)
    if ask.operation in ABOUT_ONE_TASK:
        return Named(params.get("id") or None)
    return Named()


def canonical(request: Request, forwarded: Headers) -> Ask:
    """A JSON-RPC request in canonical form.

    Raises:
        InvalidParams: its parameters cannot be translated.
    """
    envelope = request.envelope
    assert envelope.operation is not None
    if envelope.plain is not None:
        params = judged.decode(envelope.plain)["params"]
    else:
        params = {name: judged.decode(raw) for name, raw in (request.params or {}).items()}
    if envelope.version == "0.3":
        try:
            params = translate.params_up(envelope.operation, params)
        except Untranslatable as error:
            raise InvalidParams(f"params cannot be read: {error}", member="params") from None
    headers = dict(forwarded)
    extensions = headers.pop(EXTENSIONS_HEADER[envelope.version], None)
    return Ask(
        operation=envelope.operation,
        params=params,
        version=envelope.version,
        extensions=extensions,
        trace=tuple(headers.items()),
    )


def wants_end(params: JsonObject) -> bool:
    """Whether a canonical SendMessage waits for the task's end, which is the default (A2A 1.0 §3.2.2)."""
    configuration = params.get("configuration")
    return not (isinstance(configuration, dict) and configuration.get("returnImmediately") is True)


def forwarded_headers(version: Version, headers: Mapping[bytes, bytes]) -> Headers:
    """Pick what goes on of a caller's headers: requested extensions, the trace and the hops, nothing else (never credentials).

    Raises:
        TooManyHops: the call has come through the hub too often.
        InvalidRequest: how often it came cannot be read. Counting anew would be the loop without an end.
    """
    if _FORWARDED.isdisjoint(headers):
        return _FIRST_HOP
    extensions = headers.get(b"a2a-extensions") or headers.get(b"x-a2a-extensions")
    picked = [(EXTENSIONS_HEADER[version], extensions)] if extensions else []
    picked += [(name.decode(), headers[name]) for name in (b"traceparent", b"tracestate") if name in headers]
    return (*((name, value.decode("latin-1")) for name, value in picked), (HOPS_HEADER, str(_hops(headers) + 1)))


def _hops(headers: Mapping[bytes, bytes]) -> int:
    given = headers.get(HOPS_HEADER.encode(), b"0")
    if not given.isdigit():
        raise InvalidRequest(f"{HOPS_HEADER} must be the number that the hub sent", member=HOPS_HEADER)
    if len(given) > MAX_HOP_DIGITS or int(given) >= MAX_HOPS:
        raise TooManyHops(MAX_HOPS)
    return int(given)
