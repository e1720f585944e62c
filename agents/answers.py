"""What agents' answers show: the ids, states and errors that the ledger keeps, read tolerantly from any version. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from agents.members import MAX_ID, NULL
from agents.speech import OLD_JSONRPC, Operation, Speech
from registry.judged import JsonObject

_Id = Annotated[str, msgspec.Meta(max_length=MAX_ID)]


class _Status(msgspec.Struct, gc=False):
    state: str | None = None
    timestamp: Any = None


class _Body(msgspec.Struct, rename="camel", gc=False):
    """A Task, a Message or an update, as far as the ledger needs it."""

    id: _Id | None = None
    kind: str | None = None
    task_id: _Id | None = None
    context_id: _Id | None = None
    status: _Status | None = None


class _Result(_Body, rename="camel", gc=False):
    """What either dialect answers: 1.0 wraps (`{"task": …}`), 0.3 says `kind`, some agents do neither."""

    task: _Body | None = None
    message: _Body | None = None
    msg: _Body | None = None
    """As HTTP+JSON of 0.3 names a message."""
    status_update: _Body | None = None
    artifact_update: _Body | None = None


class _Answer(msgspec.Struct, gc=False):
    id: msgspec.Raw = NULL
    result: _Result | None = None
    error: msgspec.Raw = NULL


class _Error(msgspec.Struct):
    code: int
    message: str = ""


_answer = msgspec.json.Decoder(_Answer)
_bare = msgspec.json.Decoder(_Result)
_error = msgspec.json.Decoder(_Error)


class Sighting(msgspec.Struct, frozen=True, gc=False):
    """What an answer shows of a task. All None: it shows none. A Struct: made for every event."""

    task_id: str | None = None
    context_id: str | None = None
    state: str | None = None
    """Always a 1.0 name, `TASK_STATE_…`."""
    at: float | None = None
    """When the state was reached by the agent's clock, in seconds since 1970."""
    form: str = "bare"
    """How it is written: `wrapped` (`{"task": …}`), `kind` (`{"kind": "task", …}`), `bare`, or `odd`: no version writes so."""
    rpc_id: msgspec.Raw = NULL
    """The JSON-RPC id of the answer it was read of, if it was read of one."""

    def fits(self, speech: Speech, operation: Operation | None) -> bool:
        """Whether clients of this speech can read it as an answer to this operation."""
        if operation not in {"SendMessage", "SendStreamingMessage", "SubscribeToTask"}:
            has_kind = speech == OLD_JSONRPC
            return self.form == ("kind" if has_kind else "bare") or (self.form == "bare" and not self.state)
        return self.form == event_form(speech)


def event_form(speech: Speech) -> str:
    """The form in which clients of a speech read answers to messages, and events."""
    return "kind" if speech == OLD_JSONRPC else "wrapped"


class Answer(msgspec.Struct, frozen=True):
    """A JSON-RPC response of an upstream."""

    id: msgspec.Raw
    seen: Sighting | None
    """None: it is an error."""


def read_answer(data: bytes) -> Answer | None:
    """Read a response or the data of a stream's event; None: it is not a JSON-RPC response of A2A."""
    try:
        answer = _answer.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if answer.error != NULL:
        return Answer(answer.id, None) if answer.result is None and _is_error(answer.error) else None
    if answer.result is None:
        return None
    return Answer(answer.id, _sighting(answer.result, answer.id))


def read_event(data: bytes, *, wrapped: bool) -> Sighting | None:
    """What a stream's event shows; None: it is an error, or not A2A. `wrapped`: it is a JSON-RPC response."""
    try:
        if not wrapped:
            return _sighting(_bare.decode(data))
        answer = _answer.decode(data)
        if answer.result is None or answer.error != NULL:
            return None
        return _sighting(answer.result, answer.id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_events(batch: list[bytes]) -> list[Sighting] | None:
    """As `read_event` of JSON-RPC responses that came together, at once; None: one of them needs a closer look."""
    try:
        found = _answer.decode_lines(b"\n".join(batch))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    sightings = [_sighting(one.result, one.id) for one in found if one.result is not None and one.error == NULL]
    return sightings if len(sightings) == len(batch) else None


def _sighting(result: _Result, rpc_id: msgspec.Raw = NULL) -> Sighting:
    """What a result shows."""
    body = result.task or result.message or result.msg or result.status_update or result.artifact_update or result
    is_task = body is result.task or body.kind == "task"
    task_id = (body.id or body.task_id) if is_task else (body.task_id or body.id)
    form = "kind" if body.kind is not None else "bare"
    if body is not result:
        form = "wrapped" if form == "bare" else "odd"
    status = body.status
    if status is None or status.state is None:
        return Sighting(task_id, body.context_id, None, None, form, rpc_id)
    state, timestamp = status.state, status.timestamp
    if form == "odd" or state.startswith("TASK_STATE_") == (form == "kind") or not has_zone(timestamp):
        form = "odd"
    return Sighting(task_id, body.context_id, state_name(state), seconds_of(timestamp), form, rpc_id)


def has_zone(timestamp: object) -> bool:
    """Whether a timestamp says its zone, as clients insist; an absent one is fine."""
    return timestamp is None or (isinstance(timestamp, str) and (timestamp.endswith("Z") or "+" in timestamp[-6:]))


def _is_error(raw: msgspec.Raw) -> bool:
    """Whether it is JSON-RPC's: a proxy before an agent has `error` objects of its own, meant for others' eyes."""
    try:
        _error.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def sighting_of(event: JsonObject) -> Sighting:
    """What a canonical result or event shows of a task: a `StreamResponse`, or a Task."""
    body = (
        event.get("task") or event.get("statusUpdate") or event.get("artifactUpdate") or event.get("message") or event
    )
    if not isinstance(body, dict):
        return Sighting()
    status = body.get("status")
    status = status if isinstance(status, dict) else {}
    state = status.get("state")
    task_id = body.get("taskId") or body.get("id")
    return Sighting(
        task_id if isinstance(task_id, str) else None,
        body.get("contextId") or None,
        state_name(state) if isinstance(state, str) else None,
        seconds_of(status.get("timestamp")),
    )


def state_name(state: str) -> str:
    """A state by its 1.0 name, whatever the dialect (`input-required` is `TASK_STATE_INPUT_REQUIRED`)."""
    return state if state.startswith("TASK_STATE_") else f"TASK_STATE_{state.upper().replace('-', '_')}"


def seconds_of(timestamp: object) -> float | None:
    """Read an RFC 3339 timestamp; None for anything else. One without a zone is taken as UTC (fasta2a writes such)."""
    if not isinstance(timestamp, str):
        return None
    try:
        moment = datetime.fromisoformat(timestamp)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
