"""From a provider's error to the hub's: whose fault it is, in the provider's own words without the hub's secrets. Pure.

The kinds that a client or the routing can act on are told apart by the codes and the wordings that the providers of the
table use: most of them answer 400 for all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import msgspec

from registry.errors import (
    ContentFiltered,
    ContextTooLong,
    ParseFailed,
    UpstreamError,
    UpstreamLimited,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamUnavailable,
)
from registry.judged import JsonObject, decode

CALLERS_FAULT = frozenset({400, 404, 413, 422})
"""Statuses with which a provider speaks about the request that the caller wrote. 401, 402, 403 speak about the hub's
own account and are nobody else's business, but for content that a 403 objects to."""

OVERLOADED = frozenset({503, 529})
"""Statuses with which a provider says that it has too much to do; 529 is Anthropic's."""

MAX_ERROR_TEXT = 2000

_ADDRESS = re.compile(r"\b(?:https?|wss?)://\S+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b", re.IGNORECASE)
_ACCOUNT = re.compile(r"\b(?:org|proj|user|acct)[-_][A-Za-z0-9]{8,}\b")
_RETRY_AFTER = re.compile(r"[\w ,:.+-]{1,64}", re.ASCII)

_TOO_LONG = re.compile(
    r"context[ _](?:length|window|size)[ _](?:is[ _])?(?:exceed|overflow|too)|exceed\w* (?:the |its |model |available )*context"
    r"|maximum (?:context|prompt|input|sequence) length|max(?:imum)? (?:context|model) len"
    r"|(?:prompt|input|request) (?:is |was )?too long|prompt exceeds max|prompt_too_long"
    r"|maximum number of (?:input )?tokens|exceeds? (?:the )?(?:model(?:'s)? )?(?:input )?token limit|model token limit"
    r"|reduce the length of the (?:messages|prompt|input)|current length is \d+ while limit is"
    r"|(?:longer|greater|larger) than the (?:model's )?context|tokens \+ `?max_new_tokens`? must be"
    r"|range of input length should be|too many (?:input )?tokens|exceed context limit",
    re.IGNORECASE,
)
"""How providers say that a request is longer than the model's context window."""

_TOO_LONG_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error", "context_window_exceeded"})

_FILTERED_CODES = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "ResponsibleAIPolicyViolation",
        "data_inspection_failed",
        "DataInspectionFailed",
        "invalid_prompt",
        "moderation_blocked",
    }
)

_FILTERED = re.compile(
    r"content (?:management|safety|usage) (?:policy|guidelines)|content[_ ]filter|content policy|safety system"
    r"|violat\w+ (?:our |the )?(?:usage|content|safety)|requires moderation|flagged (?:as|by|for)|inappropriate content",
    re.IGNORECASE,
)
"""How providers say that they do not answer to such content."""

_UNPAID_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "insufficient_balance"})
"""A 429 with one of these speaks about the hub's account: waiting does not help."""


def failure(entry: str, status: int, body: bytes, *, retry_after: str | None, secrets: Sequence[str]) -> UpstreamError:
    """The hub's error for a provider's answer that is not 200; `retry_after` is its header."""
    detail = error_detail(body, secrets=secrets)
    if status == 429:
        if detail is not None and _UNPAID_CODES & {detail["code"], detail["type"]}:
            return UpstreamRefused(entry, status)
        return UpstreamLimited(entry, waiting(retry_after), None if detail is None else str(detail["message"]))
    if status in OVERLOADED:
        return UpstreamOverloaded(entry, status, waiting(retry_after))
    if status >= 500:
        return UpstreamUnavailable(entry, f"the upstream failed (HTTP {status})")
    if detail is not None and (status in CALLERS_FAULT or (status == 403 and is_filtered(detail))):
        return rejection(entry, status, detail)
    return UpstreamRefused(entry, status)


def waiting(header: str | None) -> str | None:
    """A Retry-After that may be passed on; None: there is none."""
    return header if header and _RETRY_AFTER.fullmatch(header) else None


def seconds_of(milliseconds: str | None) -> str | None:
    """OpenAI's `retry-after-ms` as Retry-After; None: it is none."""
    try:
        return str(math.ceil(float(milliseconds or "") / 1000))
    except (ValueError, OverflowError):
        return None


def rejection(entry: str, status: int, detail: JsonObject) -> UpstreamRejected:
    """The error of a request that the provider understood and found fault with; `detail` as of `error_detail`."""
    if is_too_long(detail):
        return ContextTooLong(entry, detail)
    if is_filtered(detail):
        return ContentFiltered(entry, detail)
    return UpstreamRejected(entry, status, detail)


def reported(entry: str, error: object, *, secrets: Sequence[str]) -> UpstreamError | None:
    """The error with which a provider ends a stream that it began; None: this is no error of a provider."""
    detail = error_detail(msgspec.json.encode({"error": error}), secrets=secrets)
    if detail is None:
        return None
    if detail["type"] == "overloaded_error":
        return UpstreamOverloaded(entry, 529, None)
    return rejection(entry, 502, detail)


def is_too_long(detail: JsonObject) -> bool:
    """Whether the request is longer than the model's context window."""
    named = {detail["code"], detail["type"]}
    return bool(_TOO_LONG_CODES & named or _TOO_LONG.search(str(detail["message"])))


def is_filtered(detail: JsonObject) -> bool:
    """Whether the provider objects to the content."""
    return bool(_FILTERED_CODES & {detail["code"], detail["type"]} or _FILTERED.search(str(detail["message"])))


def error_detail(raw: bytes | msgspec.Raw, *, secrets: Sequence[str]) -> JsonObject | None:
    """The provider's error in OpenAI's form, without addresses and `secrets`; None: this is no error of a provider."""
    try:
        found = decode(raw)
    except ParseFailed:
        return None
    if isinstance(found, list) and found:  # Gemini's, in a list of one
        found = found[0]
    if not isinstance(found, dict):
        return None
    error = found.get("error", found)
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        return None
    message = error.get("message", error.get("detail"))
    if message is None:
        return None
    text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
    return {
        "message": clean(text, secrets),
        **{name: _small(error, name, secrets) for name in ("type", "param", "code")},
    }


def described(message: str) -> JsonObject:
    """The detail of an error of which nothing but its text is known."""
    return {"message": message, "type": "invalid_request_error", "param": None, "code": None}


def _small(error: JsonObject, name: str, secrets: Sequence[str]) -> str | int | None:
    value = error.get(name)
    return clean(value, secrets) if isinstance(value, str) else value if isinstance(value, int) else None


def clean(text: str, secrets: Sequence[str]) -> str:
    """The text without addresses, the provider's names of the hub's account, and `secrets`."""
    for secret in secrets:
        text = text.replace(secret, "…")
    return _ACCOUNT.sub("…", _ADDRESS.sub("…", text))[:MAX_ERROR_TEXT]
