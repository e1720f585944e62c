"""The errors of A2A in every form they are said in: JSON-RPC, HTTP+JSON and gRPC (A2A 1.0 §5.4). Pure.

Owns the one table of codes. Knows no entry and no door: which `HubError` a fault becomes is decided elsewhere. Faults are
written strictly and read from every shape that agents were seen to use.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from agents.speech import Version
from registry import judged
from registry.errors import ParseFailed
from registry.judged import JsonObject


class Fault(NamedTuple):
    """An error as A2A names it."""

    code: int
    """JSON-RPC's; one that A2A does not know is kept as the agent said it."""
    message: str
    details: list[JsonObject]
    """Typed objects, each with an `@type` (google.protobuf.Any in JSON)."""


class Row(NamedTuple):
    """One error in all bindings."""

    code: int
    http: int
    status: str
    """A name of google.rpc.Code."""
    reason: str
    """Of its google.rpc.ErrorInfo."""
    old_name: str
    """The `type` by which clients of HTTP+JSON 0.3 tell it."""


INTERNAL: Final = Row(-32603, 500, "INTERNAL", "INTERNAL_ERROR", "InternalError")

ROWS: Final = (
    Row(-32001, 404, "NOT_FOUND", "TASK_NOT_FOUND", "TaskNotFoundError"),
    Row(-32002, 400, "FAILED_PRECONDITION", "TASK_NOT_CANCELABLE", "TaskNotCancelableError"),
    Row(-32003, 400, "FAILED_PRECONDITION", "PUSH_NOTIFICATION_NOT_SUPPORTED", "PushNotificationNotSupportedError"),
    Row(-32004, 400, "FAILED_PRECONDITION", "UNSUPPORTED_OPERATION", "UnsupportedOperationError"),
    Row(-32005, 400, "INVALID_ARGUMENT", "CONTENT_TYPE_NOT_SUPPORTED", "ContentTypeNotSupportedError"),
    Row(-32006, 500, "INTERNAL", "INVALID_AGENT_RESPONSE", "InvalidAgentResponseError"),
    Row(
        -32007,
        400,
        "FAILED_PRECONDITION",
        "EXTENDED_AGENT_CARD_NOT_CONFIGURED",
        "ExtendedAgentCardNotConfiguredError",
    ),
    Row(-32008, 400, "FAILED_PRECONDITION", "EXTENSION_SUPPORT_REQUIRED", "ExtensionSupportRequiredError"),
    Row(-32009, 400, "FAILED_PRECONDITION", "VERSION_NOT_SUPPORTED", "VersionNotSupportedError"),
    Row(-32600, 400, "INVALID_ARGUMENT", "INVALID_REQUEST", "InvalidRequestError"),
    Row(-32601, 404, "NOT_FOUND", "METHOD_NOT_FOUND", "MethodNotFoundError"),
    Row(-32602, 400, "INVALID_ARGUMENT", "INVALID_PARAMS", "InvalidParamsError"),
    INTERNAL,
    Row(-32700, 400, "INVALID_ARGUMENT", "PARSE_ERROR", "JSONParseError"),
)

STATUS_NUMBERS: Final = {
    name: number
    for number, name in enumerate(
        (
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        )
    )
}
"""google.rpc.Code, which are also gRPC's status codes."""

_STATUS_NAMES = {number: name for name, number in STATUS_NUMBERS.items()}

ERROR_INFO: Final = "type.googleapis.com/google.rpc.ErrorInfo"
_DOMAIN = "a2a-protocol.org"
_STRUCT = "type.googleapis.com/google.protobuf.Struct"
_VALUE = "type.googleapis.com/google.protobuf.Value"

_BY_CODE = {row.code: row for row in ROWS}
_BY_REASON = {row.reason: row for row in ROWS}
_BY_OLD_NAME = {row.old_name: row for row in ROWS}

_CODE_OF_STATUS = {
    "NOT_FOUND": -32001,
    "INVALID_ARGUMENT": -32602,
    "OUT_OF_RANGE": -32602,
    "FAILED_PRECONDITION": -32004,
    "UNIMPLEMENTED": -32004,
    "INTERNAL": -32603,
    "UNKNOWN": -32603,
    "DATA_LOSS": -32603,
}
"""What a status means that comes without a reason. The others speak of credentials, load and the way, not of A2A."""

_CODE_OF_HTTP = {
    400: -32600,
    404: -32001,
    405: -32601,
    409: -32002,
    415: -32005,
    422: -32602,
    500: -32603,
    501: -32004,
}
"""What the SDKs of 0.3 mean by a status, whose bodies hold a text at most. Left out: what proxies answer too."""

_STATUS_OF_HTTP = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

_NO_SUCH_ROUTE = frozenset({"Not Found", "Method Not Allowed"})
"""What web frameworks say of a path or method that the agent does not serve."""


def grpc_status(code: int) -> int:
    """The gRPC status number of a JSON-RPC code."""
    return STATUS_NUMBERS[_BY_CODE.get(code, INTERNAL).status]


def with_info(code: int, details: Iterable[JsonObject]) -> list[JsonObject]:
    """Put the ErrorInfo of `code` first, by whose reason clients tell the error, unless there is one already."""
    details = list(details)
    if any(one.get("@type") == ERROR_INFO for one in details):
        return details
    reason = _BY_CODE.get(code, INTERNAL).reason
    return [{"@type": ERROR_INFO, "reason": reason, "domain": _DOMAIN, "metadata": {}}, *details]


def write_http(fault: Fault, version: Version, http: int | None = None) -> tuple[int, JsonObject]:
    """Write the HTTP status and JSON body of an error of HTTP+JSON (A2A 1.0 §11.6: a google.rpc.Status).

    0.3 says nothing of the body; it gets what the known clients of 0.3 read: `code` (JavaScript) and `type` (Python).
    `http` is a status that says more than the code does, such as 429.
    """
    row = _BY_CODE.get(fault.code, INTERNAL)
    status = row.http if http is None else http
    if version == "0.3":
        old: JsonObject = {"code": fault.code, "type": row.old_name, "message": fault.message}
        return status, {**old, "data": fault.details} if fault.details else old
    name = row.status
    if status != row.http:
        name = _STATUS_OF_HTTP.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
    details = with_info(fault.code, fault.details)
    return status, {"error": {"code": status, "status": name, "message": fault.message, "details": details}}


def read_http(status: int, body: bytes) -> Fault | None:
    """Read an error of HTTP+JSON, of either version; None: it says nothing of A2A, so what answered may be a proxy."""
    try:
        judged.check_size(body)
        said = judged.decode(body)
    except ParseFailed:
        return None
    return read_said(said, status)


def read_said(said: object, http: int | None = None) -> Fault | None:
    """Read decoded JSON as an error of HTTP+JSON; None: it is none.

    Without `http`, as in an event of a stream, only what cannot be anything else is one.
    """
    if not isinstance(said, dict):
        return None
    error = said.get("error")
    found: JsonObject = error if isinstance(error, dict) else said
    if _is_code(found.get("code")) and isinstance(found.get("message"), str):
        return read_jsonrpc(found) if found["code"] < 0 else _read_status(found, http)
    return _read_text(said, http) if http is not None else None


def read_jsonrpc(error: object) -> Fault | None:
    """Read the `error` of a JSON-RPC response; None: it is not JSON-RPC's."""
    if not isinstance(error, dict) or not _is_code(error.get("code")):
        return None
    code, details = error["code"], _typed(error.get("data"))
    if code not in _BY_CODE:
        code = _code_of_reason(details) or code
    return Fault(code, _message(error.get("message"), code), details)


def read_grpc(status: int, message: str, details: list[JsonObject]) -> Fault | None:
    """Read a gRPC status number and its typed details; None: it speaks of the way or of credentials, not of A2A."""
    code = _code_of_reason(details) or _CODE_OF_STATUS.get(_STATUS_NAMES.get(status, ""))
    return None if code is None else Fault(code, _message(message, code), details)


def _read_status(found: JsonObject, http: int | None) -> Fault | None:
    """Read a google.rpc.Status, whose `code` is an HTTP status or, from older gateways, a gRPC one."""
    name, number = found.get("status"), found["code"]
    if not isinstance(name, str):
        name = _STATUS_NAMES.get(number, "")
    details = _typed(found.get("details"))
    code = _code_of_reason(details) or _CODE_OF_STATUS.get(name)
    if code is None and name not in STATUS_NUMBERS:
        code = _CODE_OF_HTTP.get(number) or _CODE_OF_HTTP.get(http or 0)
    return None if code is None else Fault(code, _message(found.get("message"), code), details)


def _read_text(said: JsonObject, http: int) -> Fault | None:
    """Read what only names the error, or only describes it: SDKs of 0.3, problem+json (RFC 9457), web frameworks."""
    kind = said.get("type")
    row = _row_of_type(kind) if isinstance(kind, str) else None
    code = row.code if row else _CODE_OF_HTTP.get(http)
    texts = [said.get(name) for name in ("message", "detail", "title", "error")]
    text = next((one for one in texts if isinstance(one, str) and one), None)
    described = said.get("detail") if http == 422 else None  # FastAPI: what is wrong with each parameter
    if not isinstance(described, list):
        described = None
    if code is None or (row is None and text is None and described is None):
        return None
    if row is None and text in _NO_SUCH_ROUTE:
        code = -32601
    return Fault(code, _message(text, code), _typed(described))


def _row_of_type(kind: str) -> Row | None:
    """The error of an SDK's class name, or of a problem type such as `…/errors/task-not-found`."""
    last = kind.rpartition("/")[2]
    return _BY_OLD_NAME.get(last) or _BY_REASON.get(last.upper().replace("-", "_"))


def _code_of_reason(details: list[JsonObject]) -> int | None:
    for one in details:
        reason = one.get("reason")
        if one.get("@type") == ERROR_INFO and isinstance(reason, str) and reason in _BY_REASON:
            return _BY_REASON[reason].code
    return None


def _is_code(value: object) -> bool:
    return type(value) is int


def _message(said: object, code: int) -> str:
    if isinstance(said, str) and said:
        return said
    return _BY_CODE.get(code, INTERNAL).reason.replace("_", " ").capitalize()


def _typed(data: Any) -> list[JsonObject]:
    """Details as typed objects: 0.3 lets `data` be anything, and what has no type gets the one of plain JSON."""
    if data is None:
        return []
    return [
        one
        if isinstance(one, dict) and isinstance(one.get("@type"), str)
        else {"@type": _STRUCT if isinstance(one, dict) else _VALUE, "value": one}
        for one in (data if isinstance(data, list) else [data])
    ]
