"""Tasks: what a request began, and all that is called for it, over as many hops as it takes.

A sealed token says which task a request is part of. It only ever bounds who sends it, so it is not asked whose it is: an agent
that calls the hub with a key of its own is bound by that key, and by what it works for (docs/decisions/0012). What a key, or a
request itself, bounds more strictly than the task that it is part of is a task within that one; the token then says both.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import msgspec
from msgspec import structs

from registry.errors import TaskOver, TooManyHops
from registry.identity import HUBS_LIMITS, Principal, RequestLimits, Task
from registry.limits import MOST, NANO, Limit, Unit, warn_from
from registry.sealed.secrets import Sealer, SecretKeyInvalid, new_id

LASTS_S = 86_400.0
"""How long a token is known. What comes later begins a task of its own."""

MAX_WITHIN = 16
"""Tasks within one another, each of which is stricter than the one above."""

MAX_TOKEN = 4096


class _Token(msgspec.Struct, array_like=True):
    id: str
    ends: int
    deadline: float | None
    calls: int | None
    usd: float | None
    warn_at: float | None = None
    tokens: int | None = None
    above: _Token | None = None
    """The task that it is within."""


_BOUNDS = ("deadline", "calls", "usd", "tokens")


class Paused(NamedTuple):
    """A task of a request that waits for somebody's approval."""

    token: str
    left_s: float | None
    """Of its time, which stands still meanwhile; None: it has no end, or goes on as another request began it."""


_DECODER = msgspec.msgpack.Decoder(_Token)
_ABOUT = "task"


class Tasks:
    """Reads and makes tokens. One for a process."""

    def __init__(self, sealer: Sealer, *, clock: Callable[[], float] = time.time) -> None:
        self._sealer = sealer
        self._clock = clock

    def enter(self, principal: Principal, token: bytes | None) -> Principal:
        """The principal of a request with the task that it is part of: the token's, else one that it begins.

        Raises:
            TaskOver: its deadline is over.
        """
        found = self.read(token) if token else None
        if found is None:
            task = self._of(principal)
            return principal if task is None else _within(principal, task)
        if found.deadline is not None and found.deadline < self._clock():
            raise TaskOver
        principal = _within(principal, replace(found, is_inherited=True))
        return self.narrowed(principal, principal.request_limits)

    def narrowed(self, principal: Principal, bounds: RequestLimits) -> Principal:
        """The principal of a request that is to stay within `bounds` with all that is called for it, beside its task's.

        Raises:
            TooManyHops: it is part of too many tasks that are within one another.
        """
        if bounds._replace(max_rounds=None) == HUBS_LIMITS:
            return principal
        task = principal.task
        opened = None if task is None else self._opened(task.token.encode())
        above = None if opened is None else opened[1]
        made = _stricter(self._token(bounds, principal.warn_at), above)
        if all(getattr(made, name) is None for name in _BOUNDS):
            return principal
        if task is not None and above is not None and not task.is_inherited:  # one task for a request
            said = {name: value for name in _BOUNDS if (value := getattr(made, name)) is not None}
            return _within(principal, self._sealed(structs.replace(above, **said)))
        if above is not None:
            if len(list(_levels(above))) >= MAX_WITHIN:
                raise TooManyHops(MAX_WITHIN)
            made = structs.replace(made, ends=min(made.ends, above.ends), above=above)
        return _within(principal, self._sealed(made))

    def pause(self, task: Task) -> Paused:
        """What is kept of the task of a request that is to wait."""
        opened = None if task.is_inherited else self._opened(task.token.encode())
        if opened is None or opened[1].deadline is None:
            return Paused(task.token, None)
        return Paused(task.token, opened[1].deadline - self._clock())

    def resume(self, principal: Principal, paused: Paused) -> Principal:
        """The principal of a request that goes on, with the task that it was part of; one that is forgotten begins anew."""
        opened = self._opened(paused.token.encode())
        if opened is None:
            task = principal.task or self._of(principal)
            return principal if task is None else _within(principal, task)
        if paused.left_s is not None:
            made = structs.replace(opened[1], deadline=self._clock() + paused.left_s)
            return _within(principal, self._sealed(made))
        return _within(principal, replace(_task(*opened), is_inherited=True))

    def _of(self, principal: Principal) -> Task | None:
        return self.begin(principal.request_limits, principal.warn_at)

    def begin(self, bounds: RequestLimits, warn_at: float | None = None) -> Task | None:
        """A task with what a key bounds each of its requests to, and the share at which that warns; None: it bounds nothing that is inherited."""
        if bounds._replace(max_rounds=None) == HUBS_LIMITS:
            return None
        return self._sealed(self._token(bounds, warn_at))

    def _token(self, bounds: RequestLimits, warn_at: float | None) -> _Token:
        now = self._clock()
        return _Token(
            id=new_id("task"),
            ends=int(now + LASTS_S),
            deadline=None if bounds.max_seconds is None else now + bounds.max_seconds,
            calls=bounds.max_calls,
            usd=bounds.max_usd,
            warn_at=warn_at,
            tokens=bounds.max_total_tokens,
        )

    def _sealed(self, made: _Token) -> Task:
        return _task(self._sealer.seal(msgspec.msgpack.encode(made), about=_ABOUT), made)

    def read(self, token: bytes) -> Task | None:
        """The task of a token; None: it is none of the hub's, or too old."""
        opened = self._opened(token)
        return None if opened is None else _task(*opened)

    def _opened(self, token: bytes) -> tuple[bytes, _Token] | None:
        if len(token) > MAX_TOKEN:
            return None
        try:
            sealed = base64.urlsafe_b64decode(token + b"=" * (-len(token) % 4))
            found = _DECODER.decode(self._sealer.open(sealed, about=_ABOUT))
        except (SecretKeyInvalid, ValueError, msgspec.MsgspecError):
            return None
        return (sealed, found) if found.ends > self._clock() else None


def _within(principal: Principal, task: Task) -> Principal:
    is_warned = principal.is_warned or any(one.warn is not None for one in task.limits)
    return structs.replace(principal, task=task, is_warned=is_warned)


def _levels(said: _Token | None) -> Iterator[_Token]:
    """A task and those above it, outermost last."""
    while said is not None:
        yield said
        said = said.above


def _stricter(made: _Token, above: _Token | None) -> _Token:
    """A task with what it bounds more strictly than those above it: what they count is all that it counts, and more."""
    for one in _levels(above):
        for name in _BOUNDS:
            mine, theirs = getattr(made, name), getattr(one, name)
            if mine is not None and theirs is not None and theirs <= mine:
                made = structs.replace(made, **{name: None})
    return made


def _task(sealed: bytes, said: _Token) -> Task:
    token = base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
    levels = list(_levels(said))
    deadline = min([one.deadline for one in levels if one.deadline is not None], default=None)
    return Task(levels[-1].id, token, deadline, tuple([limit for one in levels for limit in _limits(one)]))


def _limits(said: _Token) -> Iterator[Limit]:
    usd = None if said.usd is None else min(round(said.usd * NANO), MOST)
    bounds: tuple[tuple[Unit, int | None], ...] = (("calls", said.calls), ("usd", usd), ("tokens", said.tokens))
    for unit, most in bounds:
        if most is not None:
            warn = warn_from(most, said.warn_at)
            yield Limit(f"{said.id} {unit}", "the task's", unit, "task", most, warn, said.ends)
