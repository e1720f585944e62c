"""What a permit asks the hub's rules and guards: about what is sent, and about what was answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from registry.auditing.noting import Redacted, Refused
from registry.errors import ApprovalRequired, GuardRefused, HubError, PolicyRefused
from registry.identity import HUB, Circumstances, Principal, Tree
from registry.judged import JsonObject
from registry.rules.guards import NO_GUARDS, Pipeline, Seen, Side, is_clear, look, pipeline


class Judging(Protocol):
    """What is asked of `registry.gate.Gate`."""

    refused: Refused
    redacted: Redacted

    def approve(self, permit: Any, said: JsonObject, needed: ApprovalRequired, *, is_more: bool) -> Awaitable[None]:
        """Let a call pass that is to be approved first, or raise `needed`. `said`: its arguments as they are sent, or all that is, where that `is_more`."""


Approve = Callable[..., Awaitable[None]]
"""As `Judging.approve`."""


async def nobody_approves(_permit: Any, _said: JsonObject, needed: ApprovalRequired, **_: bool) -> None:
    """Raise `needed`: there is no inbox."""
    raise needed


class Judged:
    """The part of a permit that knows whether its call was judged. `registry.gate.Permit` sets what is in it."""

    __slots__ = (
        "_applying",
        "_is_screened",
        "_judging",
        "entry_name",
        "guards",
        "hops",
        "kind",
        "principal",
        "request_id",
        "screens",
        "unjudged",
    )

    _judging: Judging
    _applying: Pipeline
    """Of `guards`: those whose condition holds."""
    _is_screened: bool
    principal: Principal
    kind: str
    entry_name: str
    request_id: str
    hops: int
    """How often the request that this call is part of has come through the hub (docs/decisions/0012-hops.md)."""
    guards: Pipeline | None
    """Those of the entry; None: it has none."""
    unjudged: bool
    """`judge` is to be awaited before the upstream is asked anything."""
    screens: bool
    """What is answered is to pass `screened` before anybody gets it. Known once the call was judged."""

    def passes(self, data: bytes) -> bool:
        """Whether rules and guards surely have nothing against a call that sends this object as its caller wrote it. False: `judge` is to be asked.

        A reader of the hub has read all of it; it may hold more than what they would look at. Where `screens` says so, what is answered has to pass `screened`.
        """
        guards, policy = self.guards, self.principal.policy
        if data[:1] != b"{" or (policy is not None and not policy.passes(self.kind, self.entry_name, data)):
            return False
        if guards is not None:
            if not guards.is_unconditional or not is_clear(guards, "arguments", data, is_json=True):
                return False
            self._applying = guards
            self.screens = "results" in guards.sides
        self.unjudged = False
        return True

    async def judge(
        self,
        arguments: JsonObject | None,
        *,
        sent: JsonObject | None = None,
        approved: bool = False,
        rewrites: bool = False,
        screening: bool = False,
        asks: bool = True,
    ) -> JsonObject | None:
        """Ask the hub's rules and guards, where there are any for this entry, about the call with these arguments.

        None: it has none that they could look at. `sent`: what guards look at, where that is more. `approved`: somebody has
        approved it already. Returns what is to be sent in the place of it, which only a caller that `rewrites` can. `screening`: the caller
        lets what is answered pass `screened`. `asks`: who may approve it is asked to; else nobody is.

        Raises:
            PolicyRefused: a rule or a guard is against it.
            ApprovalRequired: somebody has to approve it, and nobody has yet.
        """
        said, needed = arguments if sent is None else sent, None
        try:
            try:
                made = await self._look(arguments, said, approved=approved)
            except ApprovalRequired as error:
                # nobody is shown, or asked about, what guards keep back
                needed, made = error, await self._look(arguments, said, approved=True)
            if made.found and not rewrites:
                raise GuardRefused(made.found[0][0], "arguments", f"it found {made.found[0][1]}")
            if self.screens and not screening:
                name = next(one.spec.name for one in self._applying.guards if "results" in one.spec.of)
                raise GuardRefused(name, "results", "it cannot look at them here")
            if needed is not None:
                if not asks:
                    raise needed
                await self._judging.approve(self, made.value or {}, needed, is_more=sent is not None)
        except (PolicyRefused, ApprovalRequired) as error:
            self._note(error)
            raise
        self._redacted("arguments", made)
        self.unjudged = False
        value: JsonObject | None = made.value
        return value

    async def _look(self, arguments: JsonObject | None, said: JsonObject | None, *, approved: bool) -> Seen:
        """What the rules let pass as the guards leave it."""
        call = self._ruled(arguments, approved=approved)
        if self.guards is None:
            return Seen(said, ())
        who, kind, name = self.principal, self.kind, self.entry_name
        applying = pipeline(tuple([one for one in self.guards.guards if one.applies(who, kind, name, call)]))
        self._applying = applying
        self.screens = "results" in applying.sides
        if "arguments" not in applying.sides:
            return Seen(said, ())
        if said is None:
            blind = next(one for one in applying.guards if "arguments" in one.spec.of)
            raise GuardRefused(blind.spec.name, "arguments", "it cannot look at them")
        return await look(applying, "arguments", said, approved=approved)

    def _ruled(self, arguments: JsonObject | None, *, approved: bool = False) -> Circumstances:
        call = Circumstances(arguments, self.tree)
        if self.principal.policy is not None:
            self.principal.policy.check(self.kind, self.entry_name, call, approved=approved)
        return call

    def tree(self) -> Tree:
        """Where the call stands."""
        return Tree(self.hops)

    def check(self, arguments: JsonObject) -> None:
        """As `judge`, for what is no call: nobody can approve it, and nothing is sent that guards could look at."""
        if self.unjudged:
            self._ruled(arguments)
            self.unjudged = False

    def clears(self, data: bytes, *, is_as_seen: bool = True, is_json: bool = False) -> bool:
        """Whether guards surely find nothing in JSON that was answered, so that it may go on as it is. False: it is to be `screened`.

        `is_as_seen` and `is_json` as `is_clear` has them.
        """
        if not is_clear(self._applying, "results", data, is_as_seen=is_as_seen, is_json=is_json):
            return False
        self._is_screened = True
        return True

    async def screened(self, value: Any) -> Any:
        """What somebody may get of what was answered; once `screens` says that guards want to look.

        Raises:
            GuardRefused: nothing of it.
        """
        try:
            made = await look(self._applying, "results", value)
        except GuardRefused as error:
            self._note(error)
            raise
        self._is_screened = True
        self._redacted("results", made)
        return made.value

    def says_own_words(self) -> None:
        """Say that what is answered is the hub's own, and nothing that guards look at."""
        self.screens = False

    @property
    def applying(self) -> Pipeline:
        """The guards that the call was judged by."""
        return self._applying

    def look_too(self, guards: Pipeline) -> None:
        """Have further guards look at what is answered, whatever their conditions are."""
        if "results" in guards.sides:
            self._applying = pipeline(tuple(dict.fromkeys((*guards.guards, *self._applying.guards))))
            self.screens = True

    async def sending(self, value: Any) -> Any:
        """What may be sent of what a client said during the call.

        Raises:
            GuardRefused, ApprovalRequired: nothing of it.
        """
        try:
            made = await look(self._applying, "arguments", value)
        except (GuardRefused, ApprovalRequired) as error:
            self._note(error)
            raise
        self._redacted("arguments", made)
        return made.value

    def _redacted(self, side: Side, made: Seen) -> None:
        for guard, what in made.found:
            where = f"{self.kind}:{self.entry_name}"
            self._judging.redacted(
                self.principal, guard, f"{what} in the {side}", request_id=self.request_id, where=where
            )

    def _note(self, error: HubError) -> None:
        self._judging.refused(self.principal, error, request_id=self.request_id, where=f"{self.kind}:{self.entry_name}")


class Foreseen(Judged):
    """A call that waits for its approval: rules and guards look at it before anybody is asked, and nothing is sent."""

    __slots__ = ("_within",)

    def __init__(
        self, judging: Judging, principal: Principal, kind: str, name: str, *, guards: Pipeline | None, within: Judged
    ) -> None:
        self._judging = judging
        self._applying = NO_GUARDS
        self._within = within
        self.principal = principal
        self.kind = kind
        self.entry_name = name
        self.request_id = within.request_id
        self.hops = max(principal.hops, within.hops)
        self.guards = guards
        self.screens = self._is_screened = False
        self.unjudged = guards is not None or (principal.policy is not None and principal.policy.asks(kind, name))

    async def left(self, arguments: JsonObject) -> JsonObject:
        """What guards leave of the arguments of a call, which is what may be sent of it once it is approved.

        Raises:
            PolicyRefused: a rule or a guard is against it, whoever approves it.
        """
        if not self.unjudged:
            return arguments
        return await self.judge(arguments, approved=True, rewrites=True, screening=True) or {}

    def tree(self) -> Tree:
        """As `Judged.tree`."""
        above = self._within.tree()
        return msgspec.structs.replace(
            above, hops=self.hops, callers=(*above.callers, f"{self._within.kind}:{self._within.entry_name}")
        )

    def _redacted(self, side: Side, made: Seen) -> None:
        """Noted when it is sent."""


class Posted(Judged):
    """What is posted to callers who are not there: the guards of results look at it, whatever their conditions are."""

    __slots__ = ("is_told",)

    def __init__(self, judging: Judging, kind: str, name: str, guards: Pipeline) -> None:
        self.is_told = True
        """False: what is looked at was posted before, and its redactions are in the audit log."""
        self._judging = judging
        self._applying = guards
        self._is_screened = False
        self.principal = HUB
        self.kind = kind
        self.entry_name = name
        self.request_id = ""

    def _redacted(self, side: Side, made: Seen) -> None:
        if self.is_told:
            super()._redacted(side, made)

    def _note(self, error: HubError) -> None:
        if self.is_told:
            super()._note(error)
