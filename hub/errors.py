"""The one table from error class to each door's form. Pure; a test walks the error tree and fails on a class without a row.

A2A errors travel in JSON-RPC with HTTP 200, but for what concerns the HTTP request itself (surface.md 7).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from agents import faults
from registry import errors
from registry.errors import HubError
from registry.judged import JsonObject


@dataclass(frozen=True, slots=True)
class Row:
    """How one class of error looks on each door."""

    status: int
    """HTTP status on /v1 and /api; on the JSON-RPC doors only if `http` is set."""
    a2a: int
    """A2A JSON-RPC code (A2A 1.0 §5.4)."""
    mcp: int
    """MCP JSON-RPC code."""
    openai: tuple[str, str | None]
    """`type` and `code` of OpenAI's error object."""
    reason: str
    """A2A ErrorInfo reason, and the problem's title."""
    http: bool = False
    """The status applies on every door."""


_BAD = ("invalid_request_error", None)
_SERVER = ("server_error", None)

TABLE: dict[type[HubError], Row] = {
    HubError: Row(500, -32603, -32603, _SERVER, "INTERNAL_ERROR"),
    errors.CallerError: Row(400, -32600, -32600, _BAD, "INVALID_REQUEST"),
    errors.ParseFailed: Row(400, -32700, -32700, _BAD, "PARSE_ERROR"),
    errors.InvalidRequest: Row(400, -32600, -32600, _BAD, "INVALID_REQUEST"),
    errors.HeaderMismatch: Row(400, -32600, -32020, _BAD, "HEADER_MISMATCH"),
    errors.UnsupportedParameters: Row(
        400, -32602, -32602, ("invalid_request_error", "unsupported_parameter"), "UNSUPPORTED_PARAMETER"
    ),
    errors.InvalidParams: Row(400, -32602, -32602, _BAD, "INVALID_PARAMS"),
    errors.MethodNotFound: Row(404, -32601, -32601, ("invalid_request_error", "unknown_url"), "METHOD_NOT_FOUND"),
    errors.Unauthenticated: Row(
        401, -32600, -32600, ("invalid_request_error", "invalid_api_key"), "UNAUTHENTICATED", http=True
    ),
    errors.NotFound: Row(404, -32001, -32602, ("invalid_request_error", "model_not_found"), "NOT_FOUND"),
    errors.Conflict: Row(409, -32600, -32600, _BAD, "CONFLICT"),
    errors.ApprovalRefused: Row(403, -32600, -32600, ("invalid_request_error", "approval_refused"), "APPROVAL_REFUSED"),
    errors.PolicyRefused: Row(403, -32600, -32600, ("invalid_request_error", "policy_refused"), "POLICY_REFUSED"),
    errors.GuardRefused: Row(403, -32600, -32600, ("invalid_request_error", "guard_refused"), "GUARD_REFUSED"),
    errors.ApprovalRequired: Row(
        403, -32600, -32600, ("invalid_request_error", "approval_required"), "APPROVAL_REQUIRED"
    ),
    errors.NotSupported: Row(400, -32004, -32601, _BAD, "UNSUPPORTED_OPERATION"),
    errors.VersionNotSupported: Row(400, -32009, -32022, _BAD, "VERSION_NOT_SUPPORTED"),
    errors.HostRefused: Row(421, -32600, -32600, _BAD, "HOST_REFUSED", http=True),
    errors.CredentialRepeated: Row(400, -32600, -32600, _BAD, "CREDENTIAL_REPEATED", http=True),
    errors.OriginRefused: Row(403, -32600, -32600, _BAD, "ORIGIN_REFUSED", http=True),
    errors.CrossSiteRefused: Row(403, -32600, -32600, _BAD, "CROSS_SITE_REFUSED", http=True),
    errors.TooLarge: Row(413, -32600, -32600, _BAD, "TOO_LARGE", http=True),
    errors.HeadersTooLarge: Row(431, -32600, -32600, _BAD, "HEADERS_TOO_LARGE", http=True),
    errors.ContentCodingRefused: Row(415, -32600, -32600, _BAD, "CONTENT_CODING_REFUSED", http=True),
    errors.MediaTypeRefused: Row(415, -32600, -32600, _BAD, "MEDIA_TYPE_REFUSED", http=True),
    errors.HttpMethodRefused: Row(405, -32600, -32600, _BAD, "METHOD_NOT_ALLOWED", http=True),
    errors.BodyStalled: Row(408, -32600, -32600, _BAD, "BODY_STALLED", http=True),
    errors.LimitError: Row(429, -32603, -32603, ("rate_limit_error", None), "LIMIT"),
    errors.RateLimited: Row(
        429, -32603, -32603, ("rate_limit_error", "rate_limit_exceeded"), "RATE_LIMITED", http=True
    ),
    errors.DeploymentsBusy: Row(
        429, -32603, -32603, ("rate_limit_error", "rate_limit_exceeded"), "DEPLOYMENTS_BUSY", http=True
    ),
    errors.LimitReached: Row(
        429, -32603, -32603, ("rate_limit_error", "rate_limit_exceeded"), "LIMIT_REACHED", http=True
    ),
    errors.OverBudget: Row(
        429, -32603, -32603, ("insufficient_quota", "insufficient_quota"), "BUDGET_EXCEEDED", http=True
    ),
    errors.TaskOver: Row(400, -32603, -32603, ("invalid_request_error", "task_over"), "TASK_OVER", http=True),
    errors.PriceUnknown: Row(403, -32603, -32603, ("invalid_request_error", "price_unknown"), "PRICE_UNKNOWN"),
    errors.TooManyRounds: Row(400, -32603, -32603, ("invalid_request_error", "too_many_rounds"), "TOO_MANY_ROUNDS"),
    errors.TooExpensive: Row(400, -32603, -32603, ("invalid_request_error", "too_expensive"), "TOO_EXPENSIVE"),
    errors.TooManyTokens: Row(400, -32603, -32603, ("invalid_request_error", "too_many_tokens"), "TOO_MANY_TOKENS"),
    errors.TooManyHops: Row(508, -32603, -32603, ("invalid_request_error", "too_many_hops"), "TOO_MANY_HOPS"),
    errors.Overloaded: Row(503, -32603, -32603, _SERVER, "UNAVAILABLE", http=True),
    errors.UpstreamError: Row(502, -32603, -32603, ("upstream_error", None), "UPSTREAM_ERROR"),
    errors.UpstreamUnavailable: Row(
        502, -32603, -32603, ("upstream_error", "upstream_unavailable"), "UPSTREAM_UNAVAILABLE"
    ),
    errors.UpstreamOverloaded: Row(
        503, -32603, -32603, ("overloaded_error", "upstream_overloaded"), "UPSTREAM_OVERLOADED"
    ),
    errors.UpstreamTimeout: Row(504, -32603, -32603, ("upstream_error", "upstream_timeout"), "UPSTREAM_TIMEOUT"),
    errors.UpstreamInvalid: Row(502, -32006, -32603, ("upstream_error", "upstream_invalid"), "INVALID_AGENT_RESPONSE"),
    errors.CardRefused: Row(502, -32006, -32603, ("upstream_error", "card_refused"), "AGENT_CARD_REFUSED"),
    errors.UpstreamRefused: Row(502, -32603, -32603, ("upstream_error", "upstream_refused"), "UPSTREAM_REFUSED"),
    errors.ConsentNeeded: Row(502, -32603, -32603, ("upstream_error", "consent_needed"), "CONSENT_NEEDED"),
    errors.UpstreamLimited: Row(
        429, -32603, -32603, ("rate_limit_error", "upstream_rate_limited"), "UPSTREAM_RATE_LIMITED"
    ),
    errors.UpstreamRejected: Row(400, -32603, -32603, ("invalid_request_error", None), "UPSTREAM_REJECTED"),
    errors.ContextTooLong: Row(
        400, -32603, -32603, ("invalid_request_error", "context_length_exceeded"), "CONTEXT_TOO_LONG"
    ),
    errors.ContentFiltered: Row(400, -32603, -32603, ("invalid_request_error", "content_filter"), "CONTENT_FILTERED"),
    errors.AgentFault: Row(502, -32603, -32603, ("upstream_error", "agent_fault"), "AGENT_FAULT"),
    errors.TaskFailed: Row(502, -32603, -32603, ("upstream_error", "task_failed"), "TASK_FAILED"),
    errors.AddressRefused: Row(502, -32603, -32603, ("upstream_error", "address_refused"), "ADDRESS_REFUSED"),
}


def row_of(error: HubError) -> Row:
    """The row of the error's class or of its nearest parent; a rejection keeps the status that the upstream gave."""
    row = next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
    return replace(row, status=error.status) if isinstance(error, errors.UpstreamRejected) else row


def jsonrpc_status(error: HubError) -> int:
    """The HTTP status that carries this error on an A2A door."""
    row = row_of(error)
    return row.status if row.http else 200


def http_status(error: HubError) -> int | None:
    """The HTTP status on HTTP+JSON doors of A2A, where it says more than the protocol's own code; None: it does not."""
    row = row_of(error)
    if isinstance(error, errors.AgentFault):
        return None
    return row.status if row.http or isinstance(error, errors.UpstreamError | errors.TooManyHops) else None


_GRPC_OF_HTTP = {401: 16, 403: 7, 408: 4, 413: 8, 429: 8, 431: 8, 502: 14, 503: 14, 504: 4, 508: 9}
"""gRPC status numbers of what concerns the request or the way rather than A2A."""


def grpc_status(error: HubError) -> int:
    """The gRPC status number on the A2A door."""
    if isinstance(error, errors.AgentFault):
        return faults.grpc_status(error.code)
    row = row_of(error)
    if row.http or row.a2a == faults.INTERNAL.code:
        return _GRPC_OF_HTTP.get(row.status) or faults.grpc_status(row.a2a)
    return faults.grpc_status(row.a2a)


SOON_S = 60.0
"""Nobody is told to send a request again by itself that may not work before so long: SDKs would wait much less."""


def extra_headers(error: HubError) -> list[tuple[bytes, bytes]]:
    """Headers that belong to the error: `WWW-Authenticate`, `Retry-After`, `Allow`, and OpenAI's `x-should-retry`."""
    is_final = error.tools_ran or isinstance(error, errors.TooManyHops)  # SDKs would call the tools, or go round, again
    retry = [(b"x-should-retry", b"false")] if is_final else []
    if isinstance(error, errors.Unauthenticated):
        return [(b"www-authenticate", b'Bearer realm="hubbub"')]
    if isinstance(error, errors.RateLimited):
        wait = error.retry_after_s
        retry = [(b"x-should-retry", b"false")] if wait is None or wait > SOON_S else retry
        return retry if wait is None else [(b"retry-after", str(math.ceil(wait)).encode()), *retry]
    if isinstance(error, errors.UpstreamLimited | errors.UpstreamOverloaded) and error.retry_after is not None:
        return [(b"retry-after", error.retry_after.encode()), *retry]
    if isinstance(error, errors.HttpMethodRefused):
        return [(b"allow", error.allow.encode())]
    return retry


def a2a(error: HubError, request_id: str) -> JsonObject:
    """A JSON-RPC `error` member for the A2A doors (A2A 1.0 §9.5: data is an array of typed objects)."""
    if isinstance(error, errors.AgentFault):
        fault: JsonObject = {"code": error.code, "message": error.text}
        return {**fault, "data": error.details} if error.details else fault
    row = row_of(error)
    reason = "TASK_NOT_FOUND" if isinstance(error, errors.NotFound) and error.kind == "task" else row.reason
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "a2a-protocol.org",
        "metadata": {"requestId": request_id},
    }
    return {"code": row.a2a, "message": error.text, "data": [info]}


def mcp(error: HubError, request_id: str) -> JsonObject:
    """A JSON-RPC `error` member for the MCP door."""
    data: JsonObject = {"requestId": request_id}
    if isinstance(error, errors.VersionNotSupported):  # clients choose another version by it (2026-07-28, Versioning)
        data |= {"supported": list(error.spoken), "requested": error.requested}
    return {"code": row_of(error).mcp, "message": error.text, "data": data}


def openai(error: HubError, request_id: str) -> JsonObject:
    """OpenAI's error object."""
    if isinstance(error, errors.UpstreamRejected):  # the provider's own words help its caller most
        return {"error": error.detail}
    kind, code = row_of(error).openai
    if isinstance(error, errors.NotFound) and error.kind not in ("model", "agent"):
        code = f"{error.kind}_not_found"
    param = error.member if isinstance(error, errors.InvalidRequest) else None
    return {"error": {"message": f"{error.text} (request {request_id})", "type": kind, "param": param, "code": code}}


_ANTHROPIC = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Anthropic's types by HTTP status; another of a caller's fault is an invalid request, of the hub's an `api_error`."""


def anthropic(error: HubError, request_id: str) -> JsonObject:
    """Anthropic's error object."""
    status = row_of(error).status
    kind: object = _ANTHROPIC.get(status, "invalid_request_error" if status < 500 else "api_error")
    text: object = error.text
    if isinstance(error, errors.UpstreamRejected):  # the provider's own words help its caller most
        said = error.detail.get("type")
        kind = said if said in _ANTHROPIC.values() else kind
        text = error.detail.get("message") or text
    if isinstance(error, errors.ContextTooLong) and "prompt is too long" not in str(text):
        text = f"prompt is too long: {text}"  # Anthropic's words, by which its clients know to shorten the conversation
    return {"type": "error", "error": {"type": kind, "message": text}, "request_id": request_id}


def problem(error: HubError, request_id: str) -> JsonObject:
    """An `application/problem+json` body (RFC 9457)."""
    row = row_of(error)
    title = row.reason.replace("_", " ").capitalize()
    return {"type": "about:blank", "title": title, "status": row.status, "detail": error.text, "requestId": request_id}
