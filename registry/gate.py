"""The gate: every call of an agent, a tool or a model passes here, whatever door it came through.

`admit` decides, `settle` records. Neither reads the database nor waits: what a decision needs is in the principal, and usage
rows are written in batches off the path. Where a caller or an entry has limits that are counted (registry/limits.py), the way
out has the permit reserve what the call may use right before it sends it; nobody else waits for anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from types import TracebackType
from typing import Literal, NamedTuple, Protocol, Self

import msgspec

from registry.auditing.noting import Redacted, Refused, forget_redaction, forget_refusal
from registry.deadline import CallerLeft, Deadline
from registry.errors import (
    AgentFault,
    ConsentNeeded,
    GuardRefused,
    NotFound,
    PriceUnknown,
    TaskOver,
    UpstreamLimited,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamRejected,
)
from registry.identity import HUB, Principal, Tree, session_of
from registry.limits import NOTHING, Amounts, Counting, Held, Limit, billionths, expected, priced, spent
from registry.paces import Paces
from registry.rules.guards import NO_GUARDS, Guards
from registry.rules.judging import Approve, Foreseen, Judged, Posted, nobody_approves
from registry.warnings import Told, Warnings

Outcome = Literal["ok", "error", "cancelled", "cached"]
"""The last: answered by the hub from what it had answered before; nobody was asked."""


class Callee(Protocol):
    """What the gate asks of an entry."""

    @property
    def kind(self) -> str:
        """`agent`, `tool`, `server` or `model`."""

    @property
    def grant_name(self) -> str:
        """The name that grants match."""

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Those of all its callers together."""

    @property
    def call_usd(self) -> float | None:
        """What a call costs, if the entry says it; None: it is not known before the call."""


class Usage(NamedTuple):
    """What a call used. None: not known, or not counted for this kind."""

    input_tokens: int | None = None
    """All of them, those of the provider's cache too."""
    output_tokens: int | None = None
    """All of them, those of reasoning too."""
    estimated: bool = False
    cached_tokens: int | None = None
    """Of the input: read from the provider's cache."""
    cache_written_tokens: int | None = None
    """Of the input: written to it."""
    reasoning_tokens: int | None = None
    """Of the output."""
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    cost_usd: float | None = None


NOTHING_KNOWN = Usage()


@lru_cache(maxsize=1024)
def _costing(usd: float) -> Usage:
    """Of a call of which only the price is known, which is the entry's."""
    return Usage(cost_usd=usd)


class Settled(msgspec.Struct, frozen=True, gc=False):
    """One call that ended, as usage records it. Made for every call, at a third of the cost of a `NamedTuple`."""

    at: float
    principal: str
    key_name: str
    kind: str
    name: str
    outcome: Outcome
    duration_ms: float
    request_id: str
    team_id: str | None = None
    """Whose it was beside its key's: of the team and user the ids."""
    user_id: str | None = None
    end_user: str | None = None
    """What the request called them."""
    session: str | None = None
    """What it was part of: a conversation, as `Principal.session`, and a task, by its id."""
    task: str | None = None
    usage: Usage = NOTHING_KNOWN


ANSWERED = (
    AgentFault,
    ConsentNeeded,
    GuardRefused,
    UpstreamLimited,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamRejected,
)
"""Errors with which a call used nothing that is not known: the other side did nothing, or the hub kept back what it did."""


class Permit(Judged):
    """One admitted call. Enter it for the length of the call; leaving settles it, exactly once.

    A call that is under way when the time of its task is over is cut: what was entered then ends with `TaskOver`.
    """

    __slots__ = (
        "_asked",
        "_cut",
        "_expects",
        "_gate",
        "_held",
        "_limits",
        "_settled",
        "_started",
        "_within",
        "charged_within",
        "due",
        "end_user",
        "requests",
        "session",
        "unsent",
        "usage",
        "used_within",
    )

    def __init__(self, gate: Gate, principal: Principal, entry: Callee, request_id: str, within: Permit | None) -> None:
        kind, name = entry.kind, entry.grant_name
        self._settled: bool = False
        self._cut: Deadline | None = None
        limits = entry.limits + principal.limits if principal is not HUB else ()
        if principal.task is not None:
            limits += principal.task.limits_of(kind)
        if limits and within is not None and not within._settled:  # noqa: SLF001  # another one of these
            # an agent made here works within its call, which is the one of its caller that is under way
            limits = tuple([one for one in limits if one.unit != "concurrent" or one in entry.limits])
        self._limits = limits
        self.due = False
        """`reserve` is to be awaited before the next upstream request."""
        if limits:
            self._bind(entry.call_usd)
        self._started = time.monotonic()
        self.principal = principal
        self._within = within
        self.kind = kind
        self.entry_name = name
        self._gate = self._judging = gate
        guards, policy = gate.guards, principal.policy
        self.guards = guards.about(kind, name) if guards is not None and principal is not HUB else None
        self.screens = self._is_screened = False
        self._applying = NO_GUARDS
        self.unjudged = self.guards is not None or (policy is not None and policy.asks(kind, name))
        self.request_id = request_id
        self.usage = NOTHING_KNOWN
        """Set by the call when it learns what it used."""
        self.hops = principal.hops
        self.requests = 0
        """Upstream requests made under this permit."""
        self.end_user: str | None = None
        """For whom the caller asks, as it says itself."""
        self.session = principal.session
        self.charged_within = 0.0
        """What calls within this one were charged, in USD."""
        self.used_within = NOTHING_KNOWN
        """What an agent made here asked models for within this call, and what all of that cost; recorded with those calls."""

    def _bind(self, usd: float | None) -> None:
        self._held: Held | None = None
        self._expects: tuple[int, float | None, Amounts | None] = (0, usd, None)
        """What one attempt at the call may use: tokens, USD, None where that is not known, and both as they were reserved."""
        self.unsent = 0
        """Of `requests`: those that were not sent after all. Like the others only where there are limits."""
        self.due = True

    @property
    def asked(self) -> tuple[str, str]:
        """Kind and name of what was asked for, which this is a call of unless another stands in."""
        return getattr(self, "_asked", (self.kind, self.entry_name))

    def become(self, entry: Callee) -> None:
        """Be a call of `entry`, which stands in for what was asked for and failed; as `Gate.pass_on` has it."""
        self._asked = self.asked
        kept = self._cut, self.hops, self.end_user, self.session
        Permit.__init__(self, self._gate, self.principal, entry, self.request_id, self._within)
        self._cut, self.hops, self.end_user, self.session = kept

    def tree(self) -> Tree:
        """Where the call stands. The rounds of a loop, all within the first, stand where that does."""
        callers: list[str] = []
        here, above = self, self._within
        while above is not None:
            if above.asked != here.asked:
                callers.append(f"{above.kind}:{above.entry_name}")
            here, above = above, above._within  # noqa: SLF001  # another one of these
        task = self.principal.task
        deadline = task.deadline if task is not None else None
        left = None if deadline is None else deadline - time.time()
        return Tree(self.hops, (*self.principal.above, *reversed(callers)), left)

    def bound(self, limits: tuple[Limit, ...], usd: float | None) -> None:
        """Have further limits count the call, of which only the way out knows, and say what it costs."""
        if self.principal is not HUB:
            self._limits = limits + self._limits
            if self._limits:
                self._bind(usd)

    def use(self) -> None:
        """Count one upstream request; the way out calls it."""
        if self._settled:
            raise RuntimeError(f"upstream request for {self.entry_name} after its permit was settled")
        if self.unjudged:
            raise RuntimeError(f"upstream request for {self.entry_name} before the hub's rules were asked")
        if self.due:
            raise RuntimeError(f"upstream request for {self.entry_name} before it was reserved what it may use")
        self.requests += 1

    @property
    def is_over(self) -> bool:
        """Whether the call is cut since the time of its task is over."""
        return self._cut is not None and self._cut.asked

    @property
    def is_timed(self) -> bool:
        """Whether it is cut when the time of its task is over."""
        return self._cut is not None

    def missed(self) -> None:
        """Note that the upstream request that was counted last was not sent."""
        if self._limits:
            self.unsent += 1

    def expect(self, *, tokens: int, usd: float | None) -> None:
        """Say what the next attempt at the call may use. None: its price is not known."""
        if self._limits:
            self._expects = (tokens, usd, None)
            self.due = True

    @property
    def is_counted(self) -> bool:
        """Whether it matters what the call is expected to use."""
        return bool(self._limits)

    def uncounted(self) -> None:
        """Say that this is about what another call made, such as a look at a task, or its end: it may always be done."""
        self.due = False

    async def reserve(self) -> None:
        """Have the limits hold what the call may use; `due` says that it is time for it.

        Raises:
            LimitReached, OverBudget: not so much is left.
            PriceUnknown: a budget holds, and nobody knows what the call costs.
            Overloaded: nothing can be counted at the moment.
        """
        counters, limits = self._gate.counters, self._limits
        assert counters is not None, "a gate without counters lets nobody through who has limits"
        tokens, usd, _ = self._expects
        if usd is None:
            unpriced = [limit for limit in limits if limit.unit == "usd" and limit.per != "task"]
            if unpriced:
                raise PriceUnknown(self.entry_name, unpriced[0].whose)
        wanted = expected(tokens, usd or 0.0) if tokens else priced(usd or 0.0)
        self._expects = (tokens, usd, wanted)
        held = counters.at_once(limits, wanted) if self._held is None else None
        if held is None:
            held = await counters.reserve(limits, wanted, self._held)
        self._held = held
        self.due = False
        if counters.is_near and (told := self._gate.told.get(self.request_id)) is not None:
            for limit in counters.near(held):
                # what is left for all callers of an entry is its operator's affair
                if limit.per in ("session", "task") or limit in self.principal.limits:
                    told.add(limit.warning)

    @property
    def warnings(self) -> Sequence[str]:
        """Which limits of its caller are nearly used up, as the request's calls have found until now."""
        return self._gate.warnings(self.request_id)

    def settle(self, outcome: Outcome, error: BaseException | None = None) -> None:
        """Record how the call ended, and with what error if it failed."""
        if self._settled:
            raise RuntimeError(f"the permit for {self.entry_name} was settled twice")
        if outcome in ("ok", "cached") and (
            self.unjudged or (self.screens and self.requests and not self._is_screened)
        ):
            self.unjudged = self.screens = False
            self.settle("error", error)
            raise RuntimeError(f"{self.entry_name} was answered before the hub's rules and guards were asked")
        self._settled = True
        if self._limits and self._held is not None:
            assert self._gate.counters is not None, "something was reserved"
            self._gate.counters.settle(self._held, self._used(self._held[1], outcome, error))
        self._gate.record(self, outcome, (time.monotonic() - self._started) * 1000)

    def _used(self, reserved: Amounts, outcome: Outcome, error: BaseException | None) -> Amounts:
        """What the call used, as far as that is known; what is not known was what was reserved."""
        if self.requests == self.unsent:
            return NOTHING
        is_known = outcome == "ok" or isinstance(error, ANSWERED)
        tokens, nanos = (0, 0) if is_known else reserved[1:3]
        used = self.usage
        if used is not NOTHING_KNOWN:
            given, made, usd = used.input_tokens, used.output_tokens, used.cost_usd
            if given is not None or made is not None:
                tokens = (given or 0) + (made or 0)
            if usd is not None:
                _, price, wanted = self._expects
                nanos = wanted[2] if wanted is not None and usd == price else billionths(usd)
        return spent(tokens, nanos)

    def __enter__(self) -> Self:
        task = self.principal.task
        if task is not None and task.deadline is not None:
            self._cut = Deadline(task.deadline - time.time()).__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._cut is not None:
            try:
                self._cut.__exit__(kind, error, trace)
            except TimeoutError:
                over = TaskOver()
                self.settle("error", over)
                raise over from None
        if kind is None:
            self.settle("ok")
        elif not self._settled:  # what stood in was, when it failed: the error is of what was asked for
            has_failed = issubclass(kind, Exception) and not issubclass(kind, CallerLeft)
            self.settle("error" if has_failed else "cancelled", error)

    def join(self, conversation: str | None) -> None:
        """Note the conversation that the call proved to be part of, unless it is within another that has a name."""
        if conversation and self.session is None:
            self.session = session_of(conversation)

    def charge(self, usd: float | None) -> None:
        """Add what something costs that was answered within this call; None: that is not known."""
        if usd is not None:
            used = self.usage
            self.usage = _costing(usd) if used is NOTHING_KNOWN else Usage(*used[:-1], usd + (used.cost_usd or 0.0))
            if self._within is not None:
                self._within.charged_within += usd

    def estimate(self, *, input_tokens: int, output_tokens: int) -> None:
        """Note an estimate of the usage, for a stream that ended before its usage came."""
        self.usage = Usage(input_tokens, output_tokens, estimated=True)


class Gate:
    """Decides who may call what, and how often. One for a process."""

    def __init__(
        self,
        record: Callable[[Settled], None],
        counters: Counting | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without `counters` no call is made that a limit counts."""
        self._record = record
        self.counters = counters
        self._paces = Paces(clock)
        self.refused: Refused = forget_refusal
        """Notes what the gate refused."""
        self.redacted: Redacted = forget_redaction
        """Notes what guards redacted."""
        self.guards: Guards | None = None
        """None: there are none."""
        self.told: Told = {}
        """What is said in answers to requests that are under way, by their ids."""
        self.approve: Approve = nobody_approves
        """Lets a call pass that a rule has approved first, or raises `ApprovalRequired`."""

    def admit(
        self, principal: Principal, entry: Callee, *, request_id: str = "", within: Permit | None = None
    ) -> Permit:
        """Let `principal` call `entry`, or refuse.

        `within` is the permit of the request that this call is part of (a tool call of a chat): its request has been
        counted against the key's pace already.

        Raises:
            NotFound: not granted; the same answer as for what does not exist.
            RateLimited: the key's requests per minute are used up.
            TaskOver: the task that the call is part of has no time left.
        """
        task = principal.task
        if task is not None and task.deadline is not None and task.deadline < time.time():
            raise TaskOver
        kind, name = entry.kind, entry.grant_name
        if not principal.grants.allow(kind, name):
            error = NotFound(kind, name)
            self.refused(principal, error, request_id=within.request_id if within else request_id)
            raise error
        if within is not None:
            permit = Permit(self, principal, entry, within.request_id, within)
            permit.hops = max(permit.hops, within.hops)
            return permit
        for pace in principal.paces:
            if self._paces.take(pace) and request_id in self.told:
                self.told[request_id].add(pace.warning)
        return Permit(self, principal, entry, request_id, None)

    def pass_on(self, permit: Permit, entry: Callee, error: BaseException) -> None:
        """Have a call that failed with `error` go on as one of `entry`, which stands in by the operator's word, without a grant.

        The first is settled. All else that holds for `entry` holds for the other: it is to be judged, and reserved, anew.
        """
        permit.settle("error", error)
        permit.become(entry)

    def telling(
        self, principal: Principal, request_id: str, say: Callable[[str], None] | None = None
    ) -> AbstractContextManager[None]:
        """What notes for the length of an answer what its caller is warned of; `say` as `Warnings` has it."""
        return Warnings(self.told, request_id, say) if principal.is_warned else nullcontext()

    def warnings(self, request_id: str) -> Sequence[str]:
        """As `Permit.warnings`."""
        told = self.told.get(request_id)
        return told.texts if told is not None else ()

    def posted(self, kind: str, name: str) -> Posted | None:
        """What looks at what is posted of an entry; None: nobody does."""
        guards = self.guards.about(kind, name) if self.guards else None
        return Posted(self, kind, name, guards) if guards is not None and "results" in guards.sides else None

    def foreseen(self, principal: Principal, entry: Callee, within: Permit) -> Foreseen:
        """What judges a call within another one that is to be approved first."""
        kind, name = entry.kind, entry.grant_name
        guards = self.guards.about(kind, name) if self.guards else None
        return Foreseen(self, principal, kind, name, guards=guards, within=within)

    def record(self, permit: Permit, outcome: Outcome, duration_ms: float) -> None:
        """Hand a settled call to usage; the hub's own calls leave no row."""
        principal = permit.principal
        if principal is HUB:
            return
        task = principal.task
        self._record(
            Settled(
                time.time(),
                principal.id,
                principal.name,
                permit.kind,
                permit.entry_name,
                outcome,
                duration_ms,
                permit.request_id,
                principal.team_id,
                principal.user_id,
                permit.end_user,
                permit.session,
                task.id if task is not None else None,
                permit.usage,
            )
        )
