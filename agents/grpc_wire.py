"""A2A 1.0 over gRPC as the hub reads and writes it: requests, results and errors as bytes, and in canonical form.

Knows no connection and no door. Importing this module loads protobuf and the A2A SDK's messages, so only modules that speak
gRPC do it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast

from a2a.types import a2a_pb2
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2 as error_details_pb2  # type: ignore[import-untyped] # makes their types known
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from agents import faults
from agents.faults import Fault
from agents.grpc_json import decode, encode
from agents.members import check_length, check_references
from agents.speech import PUSH, Operation
from registry.errors import InvalidParams, InvalidRequest
from registry.judged import JsonObject

SERVICE: Final = "lf.a2a.v1.A2AService"
"""The service whose methods are the operations (A2A 1.0 §10)."""

_ANYTHING = frozenset({2, 13, 15})
"""UNKNOWN, INTERNAL, DATA_LOSS: gRPC itself says them of broken connections, so alone they are no word of the agent's."""


class _Shapes(NamedTuple):
    """The messages of one operation."""

    request: type[Message]
    response: type[Message]


_MESSAGES: Final[dict[Operation, _Shapes]] = {
    "SendMessage": _Shapes(a2a_pb2.SendMessageRequest, a2a_pb2.SendMessageResponse),
    "SendStreamingMessage": _Shapes(a2a_pb2.SendMessageRequest, a2a_pb2.StreamResponse),
    "GetTask": _Shapes(a2a_pb2.GetTaskRequest, a2a_pb2.Task),
    "ListTasks": _Shapes(a2a_pb2.ListTasksRequest, a2a_pb2.ListTasksResponse),
    "CancelTask": _Shapes(a2a_pb2.CancelTaskRequest, a2a_pb2.Task),
    "SubscribeToTask": _Shapes(a2a_pb2.SubscribeToTaskRequest, a2a_pb2.StreamResponse),
    "CreateTaskPushNotificationConfig": _Shapes(a2a_pb2.TaskPushNotificationConfig, a2a_pb2.TaskPushNotificationConfig),
    "GetTaskPushNotificationConfig": _Shapes(
        a2a_pb2.GetTaskPushNotificationConfigRequest, a2a_pb2.TaskPushNotificationConfig
    ),
    "ListTaskPushNotificationConfigs": _Shapes(
        a2a_pb2.ListTaskPushNotificationConfigsRequest, a2a_pb2.ListTaskPushNotificationConfigsResponse
    ),
    "DeleteTaskPushNotificationConfig": _Shapes(a2a_pb2.DeleteTaskPushNotificationConfigRequest, Empty),
    "GetExtendedAgentCard": _Shapes(a2a_pb2.GetExtendedAgentCardRequest, a2a_pb2.AgentCard),
}

_REQUIRED: Final[dict[Operation, str]] = {
    "SendMessage": "message",
    "SendStreamingMessage": "message",
    "GetTask": "id",
    "CancelTask": "id",
    "SubscribeToTask": "id",
    **dict.fromkeys(PUSH, "taskId"),
}
"""The member without which a request is none."""


class Said(NamedTuple):
    """A client's request."""

    tenant: str
    """Empty when there is none."""
    params: JsonObject
    raw: bytes
    """What an agent may see of it, with all that these messages do not know."""


def read_request(operation: Operation, data: bytes) -> Said:
    """Read a request.

    Raises:
        InvalidRequest: it is not the operation's message, or holds too many values.
        InvalidParams: an id is missing or too long.
    """
    kind = _MESSAGES[operation].request
    try:
        params = decode(kind, data)
    except ValueError as error:
        raise InvalidRequest(f"the request {error}") from None
    _check_ids(operation, params)
    message: Any = kind.FromString(data)
    message.ClearField("tenant")
    if "configuration" in params:
        message.configuration.ClearField("task_push_notification_config")
    return Said(params.pop("tenant", ""), params, message.SerializeToString())


def addressed(operation: Operation, raw: bytes, *, tenant: str | None, context_id: str | None) -> bytes:
    """A request with the tenant that the agent's card asks for, and the context that it is told."""
    if tenant is None and context_id is None:
        return raw
    message: Any = _MESSAGES[operation].request.FromString(raw)
    if tenant is not None:
        message.tenant = tenant
    if context_id is not None:
        message.message.context_id = context_id
    return cast("bytes", message.SerializeToString())


def renamed(operation: Operation, data: bytes, known: str, shown: str) -> bytes:
    """A result, or one event of a stream, in which a context has another id."""
    message = _MESSAGES[operation].response.FromString(data)
    waiting: list[Any] = [message]
    while waiting:
        one = waiting.pop()
        for field, value in one.ListFields():
            if field.name == "context_id" and value == known:
                one.context_id = shown
            elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
                waiting += value if field.is_repeated else [value]
    return message.SerializeToString()


def _check_ids(operation: Operation, params: JsonObject) -> None:
    required = _REQUIRED.get(operation)
    if required is not None and not params.get(required):
        raise InvalidParams(f"{required} is missing", member=required)
    message = params.get("message", params)
    for member in ("id", "taskId", "contextId"):
        check_length(member, message.get(member, ""))
    references = message.get("referenceTaskIds", [])
    check_references(references)
    for one in references:
        check_length("referenceTaskIds", one)


def write_request(operation: Operation, params: JsonObject, *, tenant: str | None = None) -> bytes:
    """Write a request for an upstream; `tenant` is the one that its card asks for.

    Raises:
        InvalidParams: a parameter has a type that the message does not have.
    """
    try:
        return encode(_MESSAGES[operation].request, {**params, "tenant": tenant} if tenant else params)
    except ValueError as error:
        raise InvalidParams(f"the request {error}") from None


def read_result(operation: Operation, data: bytes) -> JsonObject:
    """Read a response, or one event of a stream, in canonical form; raises ValueError for anything else."""
    return decode(_MESSAGES[operation].response, data)


def write_result(operation: Operation, result: JsonObject) -> bytes:
    """Write a canonical result, or one event of a stream; raises ValueError for a member of a wrong type."""
    return encode(_MESSAGES[operation].response, result)


def read_fault(status: int, message: str, rich: bytes | None) -> Fault | None:
    """Read an agent's error: a gRPC status, and the `google.rpc.Status` of its `grpc-status-details-bin`, if it has one.

    None: it is none of A2A's, but a failure of the connection or of whatever stands before the agent.
    """
    if rich is None and status in _ANYTHING:
        return None
    return faults.read_grpc(status, message, [] if rich is None else _read_details(rich))


def write_fault(status: int, fault: Fault) -> bytes:
    """Write a `grpc-status-details-bin`, with the ErrorInfo by which clients know the error.

    Details of types that protobuf does not know are left out.
    """
    rich = Status(code=status, message=fault.message)
    for one in faults.with_info(fault.code, fault.details):
        try:
            rich.details.append(json_format.ParseDict(one, AnyMessage(), ignore_unknown_fields=True))
        except (json_format.ParseError, TypeError):
            continue
    return cast("bytes", rich.SerializeToString())


def _read_details(rich: bytes) -> list[JsonObject]:
    try:
        found = Status.FromString(rich).details
    except DecodeError:
        return []
    details = []
    for one in found:
        try:
            details.append(json_format.MessageToDict(one))
        except (TypeError, DecodeError, json_format.SerializeToJsonError):
            continue  # a type that nobody here knows
    return details
