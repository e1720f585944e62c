"""What a request to a model says of itself: how much it may use at most, and for whom it is made. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from registry.prices import Price

ANSWER_TOKENS = 1000
"""Assumed of an answer whose request sets no bound."""

_MAX = ("max_completion_tokens", "max_output_tokens", "max_tokens")


class _Body(msgspec.Struct):
    """The members of requests of every format that say it. Whatever is none of a number is the provider's to refuse."""

    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    max_tokens: Any = None
    n: Any = None


_DECODER = msgspec.json.Decoder(_Body)


def largest_answer(body: bytes) -> int:
    """The most tokens of output that a request, as the hub wrote it, lets its model make; a usual number where it sets no bound."""
    if body.find(b'_tokens":') < 0 and body.find(b'"n":') < 0:
        return ANSWER_TOKENS
    try:
        said = _DECODER.decode(body)
    except msgspec.DecodeError:
        return ANSWER_TOKENS
    bounds = [most for name in _MAX if (most := _number(getattr(said, name))) is not None]
    return (max(bounds) if bounds else ANSWER_TOKENS) * max(1, _number(said.n) or 1)


class _Named(msgspec.Struct):
    user: Any = None
    """OpenAI's."""
    metadata: Any = None
    """Anthropic's, if it has `user_id`."""


_NAMED = msgspec.json.Decoder(_Named)
MAX_END_USER = 256


def end_user(body: bytes) -> str | None:
    """Whom a request, as the hub wrote it, says that it is made for: `user`, or `metadata.user_id`; None: it does not. Cut where it is very long."""
    if body.find(b'"user":') < 0 and body.find(b'"user_id":') < 0:
        return None
    try:
        said = _NAMED.decode(body)
    except msgspec.DecodeError:
        return None
    name = said.user or (said.metadata.get("user_id") if isinstance(said.metadata, dict) else None)
    return name[:MAX_END_USER] if isinstance(name, str) and name else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def flat(price: Price | None) -> float | None:
    """What a call costs if that hangs on no token of it; None: it does, or the price is not known."""
    return price.call if price is not None and price == Price(call=price.call) else None
