"""A2A JSON-RPC as the hub reads and writes it: requests of 1.0 and 0.3, and the ids and states in answers. Pure.

Knows nothing of owners, connections or cards. A request is read so that what was judged is what is sent
(architecture.md 3.1); an answer is read tolerantly, and only for what the ledger keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Final, Literal, NamedTuple, Protocol
from urllib.parse import parse_qs

import msgspec

from agents import members, translate
from agents.members import MAX_ID, MESSAGE_NAMES, NULL, PUSH_NAMES, SEND_NAMES
from agents.records import Untranslatable
from agents.speech import PUSH, STREAMING, Ask, Operation, Speech, Version
from registry import judged
from registry.entries import Agent, Headers
from registry.errors import InvalidParams, InvalidRequest, MethodNotFound, TooManyHops, VersionNotSupported
from registry.identity import TASK_HEADER_NAME, Principal, Task
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

ENVELOPE = frozenset({"jsonrpc", "id", "method", "params"})
"""What a request consists of (JSON-RPC 2.0 §4)."""
_PUSH_MEMBER: Final[dict[Version, str]] = {"1.0": "taskPushNotificationConfig", "0.3": "pushNotificationConfig"}
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
_PUSH_PARAMS = frozenset({"id", "taskId", "pushNotificationConfigId", "tenant"}) | PUSH_NAMES
_OTHER_NAMES_OF_A_TASK = frozenset({"name", "taskId"})
"""What drafts of the protocol called the task's id: refused, so that no agent reads another task than the judged one."""
_DECIDING = (ENVELOPE | SEND_NAMES | MESSAGE_NAMES | _TASK_PARAMS) - {"jsonrpc"}
"""Refused when they stand twice. Parameters of ListTasks go nowhere: it is answered here."""
_NO_ID = frozenset({b"{", b"[", b"t", b"f"})
"""How values begin that cannot be a request's id."""
_BLANKS = b" \t\r\n"
"""What may stand between tokens (RFC 8259 §2)."""

HOPS_HEADER: Final = "hubbub-hops"
"""How often a call has come through the hub: an agent that calls the hub for a caller passes the one it was sent on."""

MAX_HOPS = 16
"""Agents that call one another through the hub. Chains that somebody meant have a handful."""

MAX_HOP_DIGITS = 3
_HOPS: Final = HOPS_HEADER.encode()
_FIRST_HOP: Final = ((HOPS_HEADER, "1"),)
_FORWARDED = frozenset({b"a2a-extensions", b"x-a2a-extensions", b"traceparent", b"tracestate", HOPS_HEADER.encode()})
EXTENSIONS_HEADER: Final[dict[Version, str]] = {"1.0": "a2a-extensions", "0.3": "x-a2a-extensions"}
EXTENSIONS_HEADERS: Final = tuple(name.encode() for name in EXTENSIONS_HEADER.values())


class _PlainMessage(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    """A message with nothing that must be taken out of it before it goes on. As both versions call what may stand in it."""

    message_id: msgspec.Raw = NULL
    role: msgspec.Raw = NULL
    parts: msgspec.Raw = NULL
    kind: msgspec.Raw = NULL
    metadata: msgspec.Raw = NULL
    extensions: msgspec.Raw = NULL
    task_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)] | None = None
    context_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)] | None = None
    reference_task_ids: None = None


class _WithoutPush(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    push_notification_config: None = None
    task_push_notification_config: None = None
    push_notification: None = None


class _PlainConfiguration(_WithoutPush, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    accepted_output_modes: msgspec.Raw = NULL
    history_length: msgspec.Raw = NULL
    return_immediately: msgspec.Raw = NULL
    blocking: msgspec.Raw = NULL


class _PlainParams(_WithoutPush, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """The same of the parameters of SendMessage."""

    message: _PlainMessage
    metadata: msgspec.Raw = NULL
    tenant: None = None
    configuration: _PlainConfiguration | None = None


class _PlainSend(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """The same of the whole request."""

    jsonrpc: Literal["2.0"]
    id: msgspec.Raw = NULL
    method: Literal["SendMessage", "SendStreamingMessage", "message/send", "message/stream"]
    params: _PlainParams


_decode_plain = msgspec.json.Decoder(_PlainSend).decode


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
    """A whole SendMessage as it came, if every reader sees what is read of it and nothing must be taken out."""
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
    push: msgspec.Raw | None = None
    """The push configuration that stood in the parameters, which is the hub's affair and goes no further."""

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
    judged.check_size(data)
    sent = _read_plain(data)
    if sent is not None:
        version, operation = METHODS[sent.method]
        return Envelope(sent.id, sent.method, version, operation, None, data, sent.params.message)
    top = judged.body(data, _DECIDING)
    judged.check_spelling(top, ENVELOPE)
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
    """Read a SendMessage that can go on as it came; None: there is more to be said about it.

    Blanks aside, no JSON is shorter than the hub's own. So what is as long when it is written anew holds nothing else: no
    member twice or under another spelling. What holds members that the hub does not know is looked at more closely.
    """
    try:
        sent = _decode_plain(data)
    except (msgspec.DecodeError, RecursionError):
        return None
    anew = judged.encode(sent)
    is_all = len(anew) == len(data) or len(anew.translate(None, _BLANKS)) == len(data.translate(None, _BLANKS))
    is_plain = is_all or judged.is_plain(data, _DECIDING)
    return sent if is_plain and bytes(sent.id)[:1] not in _NO_ID else None


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
            for name in params.keys() & _OTHER_NAMES_OF_A_TASK:
                raise InvalidParams(f"{name} is not a member; write 'id'", member=name)
            task_id = members.take_id(params, "id")
            if task_id is None:
                raise InvalidParams("id is missing", member="id")
            return Request(envelope, params, task_id)


def _read_params(envelope: Envelope, deciding: frozenset[str]) -> RawObject:
    params = members.read_object(envelope.params, "params")
    judged.check_spelling(params, deciding)
    members.drop_tenant(params)
    return params


def _read_send(envelope: Envelope) -> Request:
    if envelope.message is not None:
        return Request(envelope, None, envelope.message.task_id, envelope.message.context_id)
    params = members.read_object(envelope.params, "params")
    sent = members.read_send(params, _PUSH_MEMBER[envelope.version])
    return Request(envelope, params, sent.task_id, sent.context_id, sent.reference_task_ids, sent.push)


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


def in_context(principal: Principal, entry: Agent, said: Request | Ask) -> Principal:
    """The caller under the limits of the conversation that a request is part of: its context, or its task where it names no other."""
    if not principal.session_limits:
        return principal
    named = named_in(said) if isinstance(said, Ask) else said
    return principal.limited_in(entry.name, named.context_id or named.task_id)


def canonical(request: Request, forwarded: Headers) -> Ask:
    """A JSON-RPC request in canonical form.

    Raises:
        InvalidParams: its parameters cannot be translated.
    """
    envelope = request.envelope
    version = envelope.version
    assert envelope.operation is not None
    if envelope.plain is not None:
        raw = bytes(judged.read_object(envelope.plain)["params"])
    else:
        raw = judged.encode(request.params or {})
    params: JsonObject = judged.decode(raw)
    if request.push is not None:
        params["configuration"][_PUSH_MEMBER[version]] = judged.decode(request.push)
    if version == "0.3":
        try:
            params = translate.params_up(envelope.operation, params)
        except Untranslatable as error:
            raise InvalidParams(f"params cannot be read: {error}", member="params") from None
    return asked(Speech("JSONRPC", version), envelope.operation, params, raw=raw, forwarded=forwarded)


def asked(
    speech: Speech, operation: Operation, params: JsonObject, *, raw: bytes | None = None, forwarded: Headers
) -> Ask:
    """A client's request, whose headers `forwarded_headers` picked, in canonical form."""
    headers = dict(forwarded)
    extensions = headers.pop(EXTENSIONS_HEADER[speech.version], None)
    trace = tuple(headers.items())
    return Ask(operation=operation, params=params, speech=speech, raw=raw, extensions=extensions, trace=trace)


def wants_end(params: JsonObject) -> bool:
    """Whether a canonical SendMessage waits for the task's end, which is the default (A2A 1.0 §3.2.2)."""
    configuration = params.get("configuration")
    return not (isinstance(configuration, dict) and configuration.get("returnImmediately") is True)


def at_once(ask: Ask) -> Ask:
    """A SendMessage whose answer is not to wait for the task's end."""
    configuration = ask.params.get("configuration")
    said = configuration if isinstance(configuration, dict) else {}
    return replace(ask, params={**ask.params, "configuration": {**said, "returnImmediately": True}}, raw=None)


def forwarded_headers(version: Version, headers: Mapping[bytes, bytes], task: Task | None = None) -> Headers:
    """Pick what goes on of a caller's headers: requested extensions, the trace and the hops, nothing else (never credentials).

    `task` is the one that the request is part of: its token goes on in the place of what the caller sent.

    Raises:
        TooManyHops: the call has come through the hub too often.
        InvalidRequest: how often it came cannot be read. Counting anew would be the loop without an end.
    """
    if task is not None:
        return (*forwarded_headers(version, headers), (TASK_HEADER_NAME, task.token))
    if _FORWARDED.isdisjoint(headers):
        return _FIRST_HOP
    extensions = headers.get(b"a2a-extensions") or headers.get(b"x-a2a-extensions")
    picked = [(EXTENSIONS_HEADER[version], extensions)] if extensions else []
    picked += [(name.decode(), headers[name]) for name in (b"traceparent", b"tracestate") if name in headers]
    return (*((name, value.decode("latin-1")) for name, value in picked), (HOPS_HEADER, str(hops(headers) + 1)))


def hops_or_most(headers: Mapping[bytes, bytes]) -> int:
    """How often a request has come through the hub, for rules: what cannot be read is as often as may be."""
    try:
        return hops(headers)
    except (InvalidRequest, TooManyHops):
        return MAX_HOPS


def hops(headers: Mapping[bytes, bytes]) -> int:
    """How often a request has come through the hub by what its headers say; raises as `forwarded_headers`."""
    given = headers.get(_HOPS)
    if given is None:
        return 0
    if not given.isdigit():
        raise InvalidRequest(f"{HOPS_HEADER} must be the number that the hub sent", member=HOPS_HEADER)
    if len(given) > MAX_HOP_DIGITS or int(given) >= MAX_HOPS:
        raise TooManyHops(MAX_HOPS)
    return int(given)
