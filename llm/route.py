"""One request's way: which deployment is asked, what is tried again when it fails, which model stands in. Knows no wire.

First every deployment is asked that can be, each once and without a wait; then, after growing waits, those again whose failure
was one that passes; then the models that stand in, in the same way. Once an answer has begun nothing is tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal, NamedTuple

from llm.deployments import Deployments, Place, name_of, retry_after
from registry.entries import Model
from registry.errors import (
    ApprovalRequired,
    ContextTooLong,
    DeploymentsBusy,
    HubError,
    InvalidRequest,
    LimitReached,
    Overloaded,
    PolicyRefused,
    PriceUnknown,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from registry.rules.guards import Pipeline

logger = logging.getLogger(__name__)

Sense = Literal["again", "elsewhere", "larger", "final"]
"""What helps against a failure: the same once more, another deployment or model, a larger context, or nothing."""

FIRST_WAIT_S = 0.5
MAX_WAIT_S = 8.0
"""Before a deployment is asked again: the first wait, doubled each time, and the longest. Who is told to wait longer is told so."""


def sense_of(error: HubError, *, was_sent: bool) -> Sense:
    """What helps against `error`; `was_sent` says that a request went out, or tried to."""
    if isinstance(error, ContextTooLong):
        return "larger"
    if isinstance(error, UpstreamRejected):
        return "elsewhere" if error.status == 404 else "final"
    if isinstance(error, UpstreamUnavailable | UpstreamLimited):
        return "again" if was_sent else "elsewhere"
    if isinstance(error, UpstreamTimeout):
        return "again" if error.is_unsent else "elsewhere"
    passed_over = (
        UpstreamInvalid | UpstreamRefused | DeploymentsBusy | InvalidRequest
    )  # the last: what a provider lacks
    return "elsewhere" if isinstance(error, passed_over) else "final"


REFUSALS = (ApprovalRequired, LimitReached, Overloaded, PolicyRefused, PriceUnknown)
"""With which a model that would stand in is not asked: its rules, guards, limits or budget are against it, or its caller's."""


class Failed(NamedTuple):
    """An attempt that failed."""

    error: HubError
    place: Place | None
    """Where; None: there was none to ask."""
    was_sent: bool


class Route:
    """One request's."""

    guards: Pipeline | None = None
    """Those by which the call of the model that was asked for was judged, once another stands in."""
    _names: tuple[str, ...] = ()
    """Of the models that may stand in, in their order."""
    _passed_over: tuple[str, ...] = ()
    """Which of them may not be called, and why."""

    def __init__(
        self, deployments: Deployments, entry: Model, *, find: Callable[[str], Model | None], home: int | None = None
    ) -> None:
        """`find` finds the models that stand in; `home` is what `Deployments.home` said of the conversation."""
        self._deployments = deployments
        self._asked = entry
        self._find = find
        self._visited: set[str] = set()
        self._error: HubError | None = None
        self.attempts = 0
        self._enter(entry, home)

    def _enter(self, entry: Model, home: int | None = None) -> None:
        self._entry = entry
        self._home = home
        self._places = self._deployments.of(entry)
        self._untried = list(self._places)
        self._retriable: list[Place] = []
        self._retries = 0
        deadline_s = entry.routing.deadline_s
        self.deadline = None if deadline_s is None else self.now() + deadline_s
        """By the clock of the deployments; None: none."""

    @property
    def entry(self) -> Model:
        """The model that is asked now."""
        return self._entry

    def next(self) -> tuple[Place, Model]:
        """Choose where the request goes now; raises as `Deployments.choose`."""
        place = self._deployments.choose(self._entry, self._untried, self._home)
        self.attempts += 1
        return place, self._entry.places()[place.number]

    def first(self) -> Place:
        """Where a model with one deployment was asked, which then failed."""
        self.attempts = 1
        return self._places[0]

    def now(self) -> float:
        """The clock by which `deadline` is."""
        return self._deployments.clock()

    def after(self, error: HubError, place: Place | None, *, was_sent: bool) -> float:
        """Say how long to wait before `next`; `place` is where it failed, None: there was none to ask.

        Raises:
            HubError: nothing helps: the failure of the model that was asked for.
        """
        sense = sense_of(error, was_sent=was_sent)
        wait = self._wait(error, place, sense)
        if wait is not None:
            self._note(error, place)
            return wait
        if self._entry is self._asked:
            self._error = error
        elif isinstance(error, REFUSALS):
            self._passed_over += (f"{self._entry.name}: {error.text}",)
        other = None if sense == "final" and self._entry is self._asked else self._stand_in(sense, error)
        if other is None:
            told = self._error or error
            if self._passed_over:
                told.add(f"(passed over in its place: {' '.join(self._passed_over)})")
            raise told
        self._note(error, place)
        self._enter(other)
        return 0.0

    def _wait(self, error: HubError, place: Place | None, sense: Sense) -> float | None:
        """How long to wait before another attempt at this model; None: there is none."""
        if place is not None:
            self._untried = [one for one in self._untried if one is not place]
            if sense == "again":
                self._retriable.append(place)
        elif isinstance(error, DeploymentsBusy):
            self._retriable += self._untried
            self._untried = []
        else:
            return None
        if sense in ("larger", "final"):
            return None
        now = self.now()
        if self.deadline is not None and now >= self.deadline:
            return None
        if any(one.wait(now) <= 0 for one in self._untried):
            return 0.0
        return self._again(error, now)

    def _again(self, error: HubError, now: float) -> float | None:
        """Begin anew with those that may be asked again, if that is in time."""
        places = [*self._retriable, *self._untried]
        if not places or self._retries >= self._entry.routing.retries:
            return None
        wait = min(FIRST_WAIT_S * 2.0**self._retries, MAX_WAIT_S) * (1 + self._deployments.chance()) / 2
        asked = retry_after(error) if len(self._places) == 1 else None
        wait = max(wait, asked or 0.0, min(one.wait(now) for one in places))
        if wait > MAX_WAIT_S or (self.deadline is not None and now + wait >= self.deadline):
            return None
        self._retries += 1
        self._untried, self._retriable = places, []
        return wait

    def _stand_in(self, sense: Sense, error: HubError) -> Model | None:
        """The next model that is asked in the place of the one that was asked for; after one that may not be, the next like it."""
        routing = self._asked.routing
        if not isinstance(error, REFUSALS):
            self._names = routing.context_fallbacks if sense == "larger" else routing.fallbacks
        for name in self._names:
            if name not in self._visited:
                self._visited.add(name)
                found = self._find(name)
                if found is not None:
                    return found
        return None

    def _note(self, error: HubError, place: Place | None) -> None:
        at = name_of(self._entry.places()[place.number]) if place is not None else None
        logger.info("a model failed, trying on", extra={"model": self._entry.name, "at": at, "reason": error.text})
