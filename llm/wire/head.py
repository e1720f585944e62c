"""What every door reads of a request first: the members on which the hub decides, those that all formats share. Pure."""

from __future__ import annotations

from typing import NamedTuple

from llm.wire import hub_member
from llm.wire.hub_member import NOTHING_SAID, HubMember
from registry import judged
from registry.errors import InvalidRequest
from registry.judged import RawObject


class Head(NamedTuple):
    """A request as far as the formats agree."""

    members: RawObject
    """All but `hub`, as they came."""
    model: str
    stream: bool
    hub: HubMember


def read_head(data: bytes, deciding: frozenset[str]) -> Head:
    """Read a request; `deciding` are the members of its format that stand once, and in one spelling.

    Raises:
        ParseFailed, InvalidRequest: it cannot be judged.
    """
    top = judged.body(data, deciding)
    judged.check_spelling(top, deciding)
    model = judged.read_string(top, "model")
    if not model:
        raise InvalidRequest("model is required", member="model")
    hub = top.pop("hub", None)
    return Head(top, model, read_flag(top, "stream"), NOTHING_SAID if hub is None else hub_member.read(hub))


def read_flag(owner: RawObject, member: str) -> bool:
    """Whether a member is true; raises `InvalidRequest` for what is no boolean."""
    return bool(_said(owner, member))


def is_stored(members: RawObject) -> bool:
    """Whether what the hub keeps of a request may be at rest; raises `InvalidRequest`."""
    return _said(members, "store") is not False


def _said(owner: RawObject, member: str) -> bool | None:
    raw = owner.get(member)
    value = None if raw is None else judged.decode(raw)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{member} must be true or false", member=member)
    return value
