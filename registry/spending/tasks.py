"""Tasks: what a request began, and all that is called for it, over as many hops as it takes.

A sealed token says which task a request is part of. It only ever bounds who sends it, so it is not asked whose it is: an agent
that calls the hub with a key of its own is bound by that key, and by what it works for (docs/decisions/0012).
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import msgspec
from msgspec import structs

from registry.errors import TaskOver
from registry.identity import HUBS_LIMITS, Principal, RequestLimits, Task
from registry.limits import MOST, NANO, Limit, Unit, warn_from
from registry.sealed.secrets import Sealer, SecretKeyInvalid, new_id

LASTS_S = 86_400.0
"""How long a token is known. What comes later begins a task of its own."""

MAX_TOKEN = 1024


class _Token(msgspec.Struct, array_like=True):
    id: str
    ends: int
    deadline: float | None
    calls: int | None
    usd: float | None
    warn_at: float | None = None
    tokens: int | None = None


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
        task = replace(found, is_inherited=True) if found is not None else self._of(principal)
        if task is None:
            return principal
        if task.deadline is not None and task.deadline < self._clock():
            raise TaskOver
        return _within(principal, task)

    def pause(self, task: Task) -> Paused:
        """What is kept of the task of a request that is to wait."""
        if task.deadline is None or task.is_inherited:
            return Paused(task.token, None)
        return Paused(task.token, task.deadline - self._clock())

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
        now = self._clock()
        deadline = None if bounds.max_seconds is None else now + bounds.max_seconds
        made = _Token(
            id=new_id("task"),
            ends=int(now + LASTS_S),
            deadline=deadline,
            calls=bounds.max_calls,
            usd=bounds.max_usd,
            warn_at=warn_at,
            tokens=bounds.max_total_tokens,
        )
        return self._sealed(made)

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
    return replace(principal, task=task, is_warned=is_warned)


def _task(sealed: bytes, said: _Token) -> Task:
    token = base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
    usd = None if said.usd is None else min(round(said.usd * NANO), MOST)
    bounds: tuple[tuple[Unit, int | None], ...] = (("calls", said.calls), ("usd", usd), ("tokens", said.tokens))
    limits = [
        Limit(f"{said.id} {unit}", "the task's", unit, "task", most, warn_from(most, said.warn_at), said.ends)
        for unit, most in bounds
        if most is not None
    ]
    return Task(token, said.deadline, tuple(limits))
