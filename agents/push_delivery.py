"""Delivers push notifications: each receiver's in order, signed by the hub, tried again for a day.

Knows neither tasks nor events: a notification is bytes that stand in the outbox. Where it goes was written by a client, so
the address is checked at every attempt, no redirect is followed, and nothing of an answer but its status is looked at.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple, Protocol, TypeVar

from registry.deadline import Deadline
from registry.egress.http import Egress, Incoming, Outgoing
from registry.egress.request import parse
from registry.entries import Headers
from registry.errors import UpstreamError
from registry.gate import Gate
from registry.identity import HUB
from registry.ledger.outbox import Due, Outbox
from registry.limits import Limit
from registry.rules.judging import Posted

logger = logging.getLogger(__name__)

T = TypeVar("T")

BACK_OFF_S: Final = (1.0, 5.0, 30.0, 120.0, 600.0)
"""After the first failure, the second and so on; the last one for all others."""

JITTER: Final = (0.8, 1.2)
"""Receivers of one server that failed together are not tried together again."""

GIVE_UP_S: Final = 86_400.0
DEADLINE_S: Final = 10.0
"""For a whole attempt, from the name to the end of the answer."""

MAX_ANSWER_BYTES: Final = 64 * 1024
"""Read, so that the connection can be used again, and thrown away; of a longer answer no more is read."""

MAX_MISSING: Final = 3
"""A receiver that answers 404 so many times on end is not there."""

AT_ONCE: Final = 32
AT_ONCE_EACH: Final = 8
"""Attempts under way for the receivers of one owner: slow ones leave room for others'."""

TURN: Final = 50
"""Notifications delivered to one receiver before others have their turn."""

POLL_S: Final = 1.0
"""How soon retries, replays and what another process left behind are seen. New notifications are sent at once."""

TRIM_S: Final = 10.0

SIGNATURE_VALID_S: Final = 300
MEDIA_TYPE: Final = {"1.0": "application/a2a+json", "0.3": "application/json"}


class Signer(Protocol):
    """Signs with the key that the hub publishes."""

    def sign(self, claims: dict[str, object]) -> str:
        """Return a JWT (RFC 7519) of the claims, in compact form."""


class Answer(NamedTuple):
    """How an attempt ended."""

    status: int | None
    """None: there was no answer."""
    reason: str
    """For people; of no answer too."""
    retry_after: str | None = None
    """The header, as the receiver wrote it."""


@dataclass(frozen=True, slots=True)
class Postponed:
    """To be tried again."""

    due_at: float
    missing: int


@dataclass(frozen=True, slots=True)
class Buried:
    """Given up."""

    reason: str
    whole_receiver: bool = False
    """With all that waits for the same receiver."""


def judge(due: Due, answer: Answer, now: float, *, jitter: float = 1.0) -> Postponed | Buried | None:
    """Say what becomes of a notification after an attempt; None: it arrived. Pure."""
    if answer.status is not None and 200 <= answer.status < 300:
        return None
    if answer.status == 410:
        return Buried("the receiver is gone (HTTP 410)", whole_receiver=True)
    missing = due.missing + 1 if answer.status == 404 else 0
    if missing >= MAX_MISSING:
        return Buried(f"the receiver is not there (HTTP 404, {missing} times)", whole_receiver=True)
    wait = BACK_OFF_S[min(due.attempts, len(BACK_OFF_S) - 1)] * jitter
    due_at = now + max(wait, seconds_until(answer.retry_after, now))
    if due_at > due.since + GIVE_UP_S:
        return Buried(f"not delivered within a day: {answer.reason}")
    return Postponed(due_at, missing)


def seconds_until(retry_after: str | None, now: float) -> float:
    """Read a Retry-After header (RFC 9110 §10.2.3), in seconds or as a date; 0 for none that can be read."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    with suppress(ValueError, OverflowError):
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
    return 0.0


def headers_of(due: Due, signature: str) -> Headers:
    """The headers of a notification. Without credentials of the client's the hub's signature takes their place."""
    to = due.destination
    headers = [("Content-Type", MEDIA_TYPE[due.version])]
    if to.credentials:
        headers += [("Authorization", f"{to.scheme} {to.credentials}"), ("A2A-Hub-Signature", signature)]
    else:
        headers.append(("Authorization", f"Bearer {signature}"))
    if to.token:
        headers.append(("X-A2A-Notification-Token", to.token))
    return tuple(headers)


class _Addressee(NamedTuple):
    """What the gate sees of a delivery: the agent that the news is of."""

    grant_name: str
    kind: str = "agent"
    limits: tuple[Limit, ...] = ()
    call_usd: float | None = None


class Courier:
    """Delivers what stands in the outbox. One for a process."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        egress: Egress,
        gate: Gate,
        signer: Callable[[], Awaitable[Signer]],
        public_url: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._outbox = outbox
        self._egress = egress
        self._gate = gate
        self._signer = signer
        self._public_url = public_url
        self._clock = clock
        self._tasks: asyncio.TaskGroup | None = None
        """None: not running."""
        self._running: dict[int, asyncio.Task[None]] = {}
        """By receiver."""
        self._owners: Counter[str] = Counter()
        """Of those."""
        self._left_over = False
        """A receiver could not be served at once."""
        self._look = asyncio.Event()

    def wake(self, config: int, owner: str) -> None:
        """Serve a receiver for whom something was put into the outbox, at once if there is room."""
        if self._tasks is not None:
            self._serve(self._tasks, config, owner)

    def guards(self, agent_name: str) -> Posted | None:
        """What looks at what is posted of an agent; None: nobody does."""
        return self._gate.posted("agent", agent_name)

    async def run(self) -> None:
        """Deliver until cancelled, beginning with what is due since the last time."""
        trimmed_at = 0.0
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                while True:
                    self._look.clear()
                    now = self._clock()
                    for head in await logged(self._outbox.heads(now)) or ():
                        self._serve(tasks, head.config, head.owner)
                    if now - trimmed_at > TRIM_S:
                        trimmed_at = now
                        await logged(self._outbox.trim(now))
                    with suppress(TimeoutError):
                        async with asyncio.timeout(POLL_S):
                            await self._look.wait()
            finally:
                self._tasks = None

    def _serve(self, tasks: asyncio.TaskGroup, config: int, owner: str) -> None:
        if config in self._running or len(self._running) >= AT_ONCE or self._owners[owner] >= AT_ONCE_EACH:
            self._left_over = True
            return
        self._owners[owner] += 1
        self._running[config] = tasks.create_task(self._deliver(config, owner))

    async def _deliver(self, config: int, owner: str) -> None:
        try:
            await logged(self._take_turn(config))
        finally:
            del self._running[config]
            self._owners[owner] -= 1
            if not self._owners[owner]:
                del self._owners[owner]

    async def _take_turn(self, config: int) -> None:
        """Deliver what is due to one receiver, in order; then let others have the room."""
        for _ in range(TURN):
            now = self._clock()
            try:
                due = await self._outbox.take(config, now)
                if due is None:
                    break
                answer = await logged(self._attempt(due))
                await self._settle(due, answer or Answer(None, "the hub failed at it; its log says why"))
            except asyncio.CancelledError:
                # the hub stops: the next one need not wait for the lease to end
                await self._outbox.give_back(config, now)
                raise
        else:
            self._left_over = True
        if self._left_over:
            self._left_over = False
            self._look.set()

    async def _attempt(self, due: Due) -> Answer:
        signer = await self._signer()
        outgoing = Outgoing(
            url=due.destination.url,
            headers=headers_of(due, signer.sign(self._claims(due))),
            body=due.body,
            trusted=False,
            plain_inside_only=True,
            first_byte_s=DEADLINE_S,
        )
        answer = Answer(None, f"no answer within {DEADLINE_S:.0f} s")
        try:
            with self._gate.admit(HUB, _Addressee(due.agent)) as permit, Deadline(DEADLINE_S):
                async with self._egress.send(permit, outgoing) as incoming:
                    answer = Answer(incoming.status, f"HTTP {incoming.status}", incoming.header(b"retry-after"))
                    await _skip(incoming)
        except (UpstreamError, TimeoutError) as error:
            if answer.status is None and isinstance(error, UpstreamError):
                return Answer(None, error.text.removeprefix(f"{due.agent}: "))
        return answer  # an answer that never ends has been given all the same

    async def _settle(self, due: Due, answer: Answer) -> None:
        now = self._clock()
        match judge(due, answer, now, jitter=random.uniform(*JITTER)):  # noqa: S311  # no secret
            case None:
                await self._outbox.delivered(due.id)
            case Postponed(due_at, missing):
                await self._outbox.postpone(due.id, due_at, missing)
            case Buried(reason, whole_receiver):
                logger.warning("push notification given up", extra={"agent": due.agent, "reason": reason})
                if whole_receiver:
                    await self._outbox.stop(due.config, reason, now)
                else:
                    await self._outbox.bury(due.id, reason, now)

    def _claims(self, due: Due) -> dict[str, object]:
        target, now = parse(due.destination.url), int(self._clock())
        return {
            "iss": self._public_url,
            "aud": f"{target.scheme}://{target.authority}",
            "iat": now,
            "exp": now + SIGNATURE_VALID_S,
            "jti": due.event_id,
            "taskId": due.task_id,
            "sha256": hashlib.sha256(due.body).hexdigest(),
        }


async def logged(work: Awaitable[T]) -> T | None:
    """Do a piece of work; None: it failed, and the log says why. What fails once must not end the deliveries of all."""
    try:
        return await work
    except Exception:
        logger.exception("push notifications failed for a moment; they stay in the outbox")
        return None


async def _skip(incoming: Incoming) -> None:
    """Read an answer's body away, up to the bound."""
    size = 0
    async for chunk in incoming.chunks():
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            return
