"""What becomes of a task, told to a client that listens for it (`taskIds` of `subscriptions/listen`, `notifications/tasks`).

The hub asks for the task as its client would: servers may tell of tasks unasked or not, and agents know no such word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mcp_bridge.dispatch import Dispatch
from mcp_bridge.feed import backoff
from mcp_bridge.views import View
from mcp_bridge.wire import Request
from registry.errors import CallerError, HubError
from registry.gate import Permit
from registry.identity import Principal
from registry.judged import JsonObject, RawObject, decode

TOLD = "notifications/tasks"

OVER = frozenset({"completed", "failed", "cancelled"})

MIN_POLL_S = 0.5
MAX_POLL_S = 60.0
POLL_S = 2.0
"""How often a server is asked that does not say how often it likes to be."""

_GONE = frozenset({-32602, -32601, -32021})
"""Errors after which it is no use to ask again."""

Sight = Callable[[], tuple[Principal, View]]
"""The listening client as it is now; raises `NotFound` when it sees nothing any more."""


async def watch(
    dispatch: Dispatch, sight: Sight, request: Request, *, within: Permit, tell: Callable[[JsonObject], None]
) -> None:
    """Tell of a task as it is, and whenever it has changed, until it is over or can be asked for no more.

    `request` is a `tasks/get` of the client's, `within` the permit of the request that listens.
    """
    failures, before = 0, None
    while True:
        try:
            answer = await dispatch.follow(*sight(), request, within=within)
        except CallerError:
            return
        except HubError:
            failures += 1
            await asyncio.sleep(backoff(failures))
            continue
        if answer.result is None:
            if answer.error_code in _GONE:
                return
            failures += 1
            await asyncio.sleep(backoff(failures))
            continue
        failures = 0
        task = _task(answer.result)
        seen = {name: value for name, value in task.items() if name != "lastUpdatedAt"}
        if seen != before:
            before = seen
            tell(task)
        if task.get("status") in OVER:
            return
        await asyncio.sleep(_pause_s(task.get("pollIntervalMs")))


def _task(result: RawObject) -> JsonObject:
    """A task without what is of the answer alone."""
    return {name: decode(raw) for name, raw in result.items() if name not in {"resultType", "_meta"}}


def _pause_s(poll_ms: object) -> float:
    wanted = poll_ms / 1000 if isinstance(poll_ms, int | float) else POLL_S
    return min(max(wanted, MIN_POLL_S), MAX_POLL_S)
