"""Answers to approvals in a request's `hub` member, and what is said of calls that wait. For chat and messages. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from llm.types import Finished, Reply, Turn, Waiting
from registry import judged
from registry.errors import InvalidRequest
from registry.judged import JsonObject
from registry.sealed.secrets import digest

ANSWER = frozenset({"approval_id", "approve", "reason"})
"""Members of `hub` that go on with a run."""

MAX_ANSWERS = 128
MAX_REASON = 1000


class Answer(NamedTuple):
    """What a caller says to approvals of one run."""

    approvals: tuple[str, ...]
    approve: bool | None
    """None: it approves what is its own to approve, and asks after the others."""
    reason: str | None


def read_answer(hub: JsonObject) -> Answer | None:
    """Read `approval_id`, one or a list, with `approve` and `reason`; None: there is none. Raises `InvalidRequest`."""
    said, approve, reason = (hub.get(name) for name in ("approval_id", "approve", "reason"))
    if said is None:
        return None
    names = said if isinstance(said, list) else [said]
    if not names or len(names) > MAX_ANSWERS or not all(isinstance(name, str) for name in names):
        raise InvalidRequest("approval_id of hub must be the id of an approval, or a list of them", member="hub")
    if not (approve is None or isinstance(approve, bool)):
        raise InvalidRequest("approve of hub must be true or false", member="hub")
    if not (reason is None or (isinstance(reason, str) and len(reason) <= MAX_REASON)):
        raise InvalidRequest(f"reason of hub must be a text of at most {MAX_REASON} characters", member="hub")
    return Answer(tuple(dict.fromkeys(names)), approve, reason)


def same(body: bytes) -> str:
    """A digest of a request, which is the same for the same request in other words: without `hub`, in any order."""
    value = {name: judged.decode(raw) for name, raw in judged.read_object(body).items() if name != "hub"}
    return digest(msgspec.json.encode(value, order="sorted"))


def waits(waiting: Sequence[Waiting]) -> Finished:
    """The answer to who asks after calls that still wait: nothing new was said, and nothing used."""
    reply = Reply("chat", {"role": "assistant", "content": ""}, (), (), "stop")
    return Finished([Turn(reply, ())], (), "stop", waiting=waiting, before=1)


def pending(waiting: Waiting) -> JsonObject:
    """One item of `hub.approvals`."""
    return {
        "id": waiting.approval,
        "server": waiting.offer.tool.server,
        "tool": waiting.offer.tool.name,
        "arguments": waiting.arguments,
        "answerer": waiting.offer.answerer,
        "expires_at": datetime.fromtimestamp(waiting.expires_at, UTC)
        .isoformat(timespec="seconds")
        .replace("+00:00", "Z"),
    }
