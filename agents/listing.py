"""ListTasks (A2A 1.0 §3.1.4), answered from the ledger: the caller's own tasks and those shared with them, whatever the agent would list. Pure."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from agents import answers
from agents.speech import Ask
from registry import judged
from registry.errors import InvalidParams
from registry.judged import JsonObject
from registry.ledger.ownership import Listing
from registry.store.tables.ledger import OwnedTask

T = TypeVar("T")

DEFAULT_SIZE, MAX_SIZE = 50, 100
"""Tasks on a page (A2A 1.0 §3.1.4)."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a ListTasks request asks for."""

    listing: Listing
    history_length: int | None
    include_artifacts: bool

    def detail(self, task_id: str) -> Ask:
        """The request for one task of the page."""
        params: JsonObject = {"id": task_id}
        if self.history_length is not None:
            params["historyLength"] = self.history_length
        return Ask(operation="GetTask", params=params)


def read_query(params: JsonObject, *, agent: str, owner: str, team: str | None) -> Query:
    """Read the canonical parameters of ListTasks.

    Raises:
        InvalidParams: one of them is wrong.
    """
    size = _read(params, "pageSize", int) or DEFAULT_SIZE
    history = _read(params, "historyLength", int)
    if not 1 <= size <= MAX_SIZE:
        raise InvalidParams(f"pageSize must be 1 to {MAX_SIZE}", member="pageSize")
    if history is not None and history < 0:
        raise InvalidParams("historyLength must not be negative", member="historyLength")
    state = _read(params, "status", str)
    since = _read(params, "statusTimestampAfter", str)
    if since and answers.seconds_of(since) is None:
        raise InvalidParams("statusTimestampAfter must be an RFC 3339 timestamp", member="statusTimestampAfter")
    listing = Listing(
        agent=agent,
        owner=owner,
        team=team,
        size=size,
        context_id=_read(params, "contextId", str) or None,
        state=answers.state_name(state) if state and state != "TASK_STATE_UNSPECIFIED" else None,
        since=answers.seconds_of(since),
        after=_read_token(_read(params, "pageToken", str)),
    )
    return Query(listing, history, bool(_read(params, "includeArtifacts", bool)))


def _read(params: JsonObject, member: str, kind: type[T]) -> T | None:
    value = params.get(member)
    if value is not None and type(value) is not kind:
        raise InvalidParams(f"{member} must be of type {kind.__name__}", member=member)
    return value


def _read_token(token: str | None) -> tuple[float, str] | None:
    if not token:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token), type=tuple[float, str])
    except (msgspec.DecodeError, binascii.Error, ValueError):
        raise InvalidParams("pageToken is not one of this list", member="pageToken") from None


def next_token(listing: Listing, page: list[OwnedTask]) -> str:
    """Point behind the page's last task; empty when no task follows. It opens nothing: a list is made anew of what its caller may see."""
    if len(page) <= listing.size:
        return ""
    last = page[listing.size - 1]
    return base64.urlsafe_b64encode(judged.encode([last.updated_at, last.task_id])).decode()


def shown(row: OwnedTask, task: JsonObject | None, *, include_artifacts: bool) -> JsonObject:
    """Show one task: as the agent has it, or what the ledger knows when the agent has lost it."""
    if task is None:
        moment = datetime.fromtimestamp(row.updated_at, UTC).isoformat(timespec="milliseconds")
        status = {"state": row.state, "timestamp": moment.replace("+00:00", "Z")}
        return {"id": row.task_id, "contextId": row.context_id, "status": status}
    if not include_artifacts:
        task.pop("artifacts", None)
    return task
