"""Tasks of 2025-11-25, which the hub keeps to itself: a tool that only runs as a task is waited for, as any other call.

That revision's tasks belong to a session and were given up by the next one, so clients are not offered them: the hub
declares none, drops their `task` and `execution`, and every client can call every tool. (2025-11-25, Tasks)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import lru_cache

import msgspec

from mcp_bridge.wire import RELATED_TASK, Request
from registry.errors import HubError, UpstreamInvalid
from registry.judged import JsonObject, decode

TTL_MS = 3_600_000
"""How long a server is asked to keep a task: as long as a call may take during which a person is asked."""

CANCEL_S = 5.0
"""How long a server may take to hear that nobody waits for its task any more."""

Send = Callable[[Request], Awaitable[JsonObject]]
"""Asks the server over the connection of the call."""


@lru_cache(maxsize=1024)
def is_needed(description: bytes) -> bool:
    """Whether a tool, as its server describes it, can only be called as a task."""
    if b'"taskSupport"' not in description:
        return False
    execution = decode(description).get("execution")
    return isinstance(execution, dict) and execution.get("taskSupport") == "required"


async def awaited(send: Send, request: Request, server: str) -> JsonObject:
    """Call a tool as a task, and return its result; a caller who leaves cancels the task.

    Raises:
        UpstreamInvalid: what it made is no task.
        HubError: as `send`, and what else it raises.
    """
    made = await send(msgspec.structs.replace(request, params={**request.params, "task": {"ttl": TTL_MS}}))
    if "task" not in made:
        return made
    task_id = made["task"].get("taskId") if isinstance(made["task"], dict) else None
    if not isinstance(task_id, str):
        raise UpstreamInvalid(server, "it made a task without an id")
    about = {"taskId": task_id}
    try:
        result = await send(Request(method="tasks/result", params=about, meta=request.meta))
    except (asyncio.CancelledError, HubError):
        with suppress(HubError, TimeoutError):
            async with asyncio.timeout(CANCEL_S):
                await send(Request(method="tasks/cancel", params=about))
        raise
    meta = result.get("_meta")
    if isinstance(meta, dict) and RELATED_TASK in meta:
        result = {**result, "_meta": {name: value for name, value in meta.items() if name != RELATED_TASK}}
    return result
