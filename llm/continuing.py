"""Goes on with runs that waited for approvals, for doors whose callers come back with the same request: chat and messages.

Who gives the last answer decides where the run goes on: the caller's own request answers it at once, as any other; after an
answer in the inbox it goes on in the background, under its own principal, and what it comes to is kept sealed until
the caller comes for it, as often as it likes. A caller that comes in the middle reads along.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import msgspec
from msgspec import structs

from llm.parking import Parking
from llm.ports import Sink
from llm.rounds import Caller
from llm.types import Parked, Waiting
from llm.verdicts import Answer
from registry.errors import INTERNAL, Conflict, HubError, InvalidRequest, NotFound
from registry.identity import Principal
from registry.sealed.secrets import new_id
from registry.tool_approvals import Approval, Verdict

logger = logging.getLogger(__name__)

AT_ONCE = 32
"""Runs that go on in the background at the same time; more wait."""


class Resumable(Protocol):
    """A door's requests."""

    def same(self, body: bytes) -> str:
        """A digest of a request, without what answers approvals."""

    async def resume(self, body: bytes, parked: Parked, caller: Caller, sink: Sink) -> None:
        """Go on with a run of the request `body`; nothing of it is pending."""

    async def wait(self, body: bytes, waiting: Sequence[Waiting], caller: Caller, sink: Sink) -> None:
        """Answer that these calls still wait."""


class Failure(NamedTuple):
    """An error as a door says it."""

    status: int
    body: bytes
    event: bytes
    """Within a stream."""


Fail = Callable[[HubError, str], Failure]
"""Says an error under a request id."""


class Recording:
    """An answer as it is made, for callers who come for it (llm.ports.Sink)."""

    def __init__(self, same: str) -> None:
        self.same = same
        self.status: int | None = None
        self.is_stream = False
        self._chunks: list[bytes] = []
        self._has_ended = False
        self._changed = asyncio.Event()

    async def reply(self, status: int, body: bytes) -> None:
        """Answer whole."""
        self.status = status
        await self.write(body)

    async def start(self, status: int) -> None:
        """Begin an event stream."""
        self.status, self.is_stream = status, True

    async def write(self, chunk: bytes) -> None:
        """Send a piece."""
        self._chunks.append(chunk)
        self._tell()

    async def fail(self, failure: Failure) -> None:
        """Say an error, within what was begun or by itself."""
        if self.is_stream:
            await self.write(failure.event)
        else:
            await self.reply(failure.status, failure.body)

    def end(self) -> None:
        """Let those who read along go."""
        self._has_ended = True
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def play(self, sink: Sink) -> None:
        """Give another sink the same, as it comes."""
        shown = 0
        while True:
            changed = self._changed
            if self.is_stream and self.status is not None:
                if not shown and self._chunks:
                    await sink.start(self.status)
                while shown < len(self._chunks):
                    shown += 1
                    await sink.write(self._chunks[shown - 1])
            if self._has_ended and (shown == len(self._chunks) or not self.is_stream):
                break
            if not changed.is_set():
                await changed.wait()
        if self.status is None:
            raise INTERNAL
        if not self.is_stream:
            await sink.reply(self.status, b"".join(self._chunks))

    def written(self) -> bytes:
        """All of it as bytes."""
        return msgspec.msgpack.encode((self.same, self.status, self.is_stream, b"".join(self._chunks)))


def _read(data: bytes) -> Recording:
    same, status, is_stream, body = msgspec.msgpack.decode(data)
    recording = Recording(same)
    recording.status, recording.is_stream = status, is_stream
    recording._chunks = [body]  # noqa: SLF001  # made here
    recording.end()
    return recording


class Request(NamedTuple):
    """A request that goes on with a run."""

    door: str
    body: bytes
    answer: Answer


class Continuing:
    """One for a process; `run` must be running."""

    def __init__(
        self,
        parking: Parking,
        living: Callable[[Collection[str]], Awaitable[Mapping[str, Principal]]],
        telling: Callable[[Principal, str], AbstractContextManager[None]],
    ) -> None:
        """`living` are those of some principals, by id, whose keys are valid; `telling` as `Gate.telling`."""
        self._parking = parking
        self._living = living
        self._telling = telling
        self._doors: dict[str, Resumable] = {}
        self._fails: dict[str, Fail] = {}
        self._due: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()
        self._running: dict[str, Recording] = {}
        self._busy = asyncio.Semaphore(AT_ONCE)

    def serve(self, door: str, resumable: Resumable, fail: Fail) -> None:
        """Go on with the runs of a door."""
        self._doors[door], self._fails[door] = resumable, fail
        self._parking.approvals.subscribe(door, lambda run, principal: self._due.put_nowait((door, run, principal)))

    async def go_on(self, request: Request, caller: Caller, sink: Sink) -> None:
        """Answer a request that goes on with a run.

        Raises:
            NotFound: an approval that is not the caller's.
            InvalidRequest: another request than the one that waits, or approvals of several.
            ApprovalRefused: the caller answers what is not its to answer.
            Conflict: the run has ended, expired, or was interrupted.
        """
        door = self._doors[request.door]
        named = [await self._own(name, request.door, caller) for name in request.answer.approvals]
        run = named[0].run
        if any(approval.run != run for approval in named):
            raise InvalidRequest(
                "approval_id of hub names approvals of several requests; answer each by itself", member="hub"
            )
        asked = door.same(request.body)
        if await self._played(run, asked, caller, sink):
            return
        parked = await self._parking.look(run, caller.principal)
        if parked is None:
            await self._play_taken(named[0], asked, caller, sink)
            return
        _check_same(door.same(parked.about), asked)
        for approval in named:
            await self._answer(approval, request.answer, caller.principal)
        pending = {one.id for one in await self._parking.still(parked)}
        if pending:
            waiting = [one for one in parked.held.waiting if one.approval in pending]
            await door.wait(parked.about, waiting, caller, sink)
            return
        taken = await self._parking.take(run, caller.principal)
        if taken is not None:
            await door.resume(taken.about, taken, caller, sink)
        else:
            await self._play_taken(named[0], asked, caller, sink)

    async def _own(self, name: str, door: str, caller: Caller) -> Approval:
        approval = await self._parking.approvals.own(name, caller.principal)
        if approval.door != door:
            raise NotFound("approval", name)
        return approval

    async def _played(self, run: str, asked: str, caller: Caller, sink: Sink) -> bool:
        """Give the caller what is made, or was, of its run in the background; False: nothing is."""
        made = self._running.get(run)
        if made is None:
            kept = await self._parking.answer(run, caller.principal)
            made = None if kept is None else _read(kept)
        if made is None:
            return False
        _check_same(made.same, asked)
        await made.play(sink)
        return True

    async def _play_taken(self, approval: Approval, asked: str, caller: Caller, sink: Sink) -> None:
        """The run was taken up since it was looked for: in the background, or by another request of the caller's."""
        if not await self._played(approval.run, asked, caller, sink):
            raise _gone(approval)

    async def _answer(self, approval: Approval, answer: Answer, caller: Principal) -> None:
        """Answer what is the caller's to answer; to ask after what is not, or was answered so, is no answer."""
        wanted = True if answer.approve is None else answer.approve
        is_asking = answer.approve is None and (approval.state != "pending" or approval.answerer != "caller")
        is_said = approval.state in (("approved", "used") if wanted else ("denied",))
        if not is_asking and not is_said:
            await self._parking.approvals.answer(approval.id, Verdict(wanted, answer.reason), caller)

    async def run(self) -> None:
        """Go on with runs that were answered in the inbox, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._resume(*await self._due.get()))

    async def _resume(self, name: str, run: str, principal_id: str) -> None:
        async with self._busy:
            principal = (await self._living([principal_id])).get(principal_id)
            if principal is None:
                logger.warning("a run is not gone on with: its key is not valid", extra={"run": run})
                return
            door = self._doors[name]
            parked = await self._parking.look(run, principal)
            if parked is None:  # its caller was faster, or it has expired
                return
            recording = self._running[run] = Recording(door.same(parked.about))
            try:
                taken = await self._parking.take(run, principal)
                if taken is not None:
                    await self._record(name, taken, principal, recording)
            finally:
                recording.end()
                del self._running[run]

    async def _record(self, door: str, parked: Parked, principal: Principal, recording: Recording) -> None:
        # its pace was counted when the request came
        caller = Caller(structs.replace(principal, paces=()), new_id("req"))
        try:
            with self._telling(principal, caller.request_id):
                await self._doors[door].resume(parked.about, parked, caller, recording)
        except HubError as error:
            await recording.fail(self._fails[door](error, caller.request_id))
        except Exception:  # what trips the hub in one run must not end the others
            logger.exception("a run failed", extra={"run": parked.run})
            await recording.fail(self._fails[door](INTERNAL, caller.request_id))
        await self._parking.keep_answer(parked, principal, recording.written())


def _check_same(kept: str, asked: str) -> None:
    if kept != asked:
        raise InvalidRequest("hub.approval_id goes on with the same request; this is another", member="hub")


def _gone(approval: Approval) -> Conflict:
    text = "has expired" if approval.state == "expired" else "has ended or was interrupted"
    gone = Conflict(
        f"What waited for the approval {approval.id!r} {text}; send the request anew, without hub.approval_id."
    )
    gone.tools_ran = True  # the SDKs would try again, in vain
    return gone
