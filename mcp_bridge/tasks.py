"""Tasks that servers make of calls (the extension `io.modelcontextprotocol/tasks` of 2026-07-28), as their callers see them.

A server answers a call with a task; its caller asks for it until it is over. The id that the caller gets is a handle:
the server's own id and the tool, sealed for the caller. Nothing is kept, so it outlives the hub. (Extension Tasks,
2026-07-28; SEP-2663)
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from mcp_bridge.handles import Handles
from mcp_bridge.listener import declared
from mcp_bridge.requests import onward
from mcp_bridge.rounds import as_requests, read_round
from mcp_bridge.views import View
from mcp_bridge.wire import META_SERVER, TASKS, Answer, Request, as_raw
from registry.discreet import discreet
from registry.entries import AgentTool, Server, Tool
from registry.errors import CallerError, InvalidParams, NotFound, UpstreamInvalid
from registry.identity import Principal
from registry.judged import RawObject, decode, encode, read_object

METHODS = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})
"""What can be asked about a task; each names it by `taskId`, which `Mcp-Name` mirrors."""

LASTS_S = 365 * 86_400.0
"""How long a handle can be used. A server's task mostly ends much sooner: `ttlMs`, which it may change at any time."""

MAX_ID = 1024
"""Longest id of a server's that is taken: it travels in a header."""

NOT_DECLARED = Answer(
    error=msgspec.Raw(
        encode(
            {
                "code": -32021,
                "message": f"Missing required client capability: {TASKS}",
                "data": {"requiredCapabilities": {"extensions": {TASKS: {}}}},
            }
        )
    )
)
"""What a client is told that asks about a task and does not declare the extension."""

_TASK = msgspec.Raw(b'"task"')


class Task(NamedTuple):
    """A task of a server's, as its caller asks for it."""

    tool: Tool
    """Whose call made it."""
    id: str
    """The server's own."""
    handle: str
    """What its caller calls it."""
    made_at: float
    """Seconds since 1970."""


def is_task(result: RawObject) -> bool:
    """Whether a server answered a request with a task."""
    return result.get("resultType") == _TASK


def declares(meta: RawObject) -> bool:
    """Whether a request says that its client can follow tasks."""
    try:
        extensions = decode(declared(meta)).get("extensions")
    except (CallerError, AttributeError):
        return False
    return isinstance(extensions, dict) and TASKS in extensions


def request_of(task: Task, request: Request) -> Request:
    """What its server is asked about a task, of what its caller asks."""
    params = {**request.params, "taskId": task.id}
    headers = request.headers if isinstance(task.tool, AgentTool) else ()
    return Request(method=request.method, params=params, meta=onward(request.meta), name=task.id, headers=headers)


class Tasks:
    """Makes handles of tasks, and reads them."""

    def __init__(self, handles: Handles) -> None:
        self._handles = handles

    def made(self, result: RawObject, tool: Tool, *, shown: str, principal: Principal) -> RawObject:
        """The answer to a call that became a task, its id made a handle. `shown` is the tool's name to the caller.

        Raises:
            UpstreamInvalid: the task has no id that can be used.
        """
        task_id = decode(result["taskId"]) if "taskId" in result else None
        if not isinstance(task_id, str) or not 0 < len(task_id) <= MAX_ID:
            raise UpstreamInvalid(tool.grant_name, "it made a task without an id that can be used")
        value = {"shown": shown, "tool": tool.grant_name, "task": task_id, "at": time.time()}
        handle = self._handles.seal(value, about=_about(principal), lasts_s=LASTS_S)
        return {**result, "taskId": msgspec.Raw(encode(handle))}

    def open(self, handle: str, view: View, principal: Principal) -> Task:
        """The task that a handle stands for, where its tool is shown to the caller as when it was called.

        Raises:
            InvalidParams: it stands for none that is the caller's here; always in the same words.
        """
        try:
            value = self._handles.open(handle, about=_about(principal))
            tool = view.tool(value["shown"])
        except (InvalidParams, NotFound):
            raise refused() from None
        if tool.grant_name != value["tool"]:
            raise refused()
        return Task(tool, value["task"], handle, value["at"])


def shown(result: RawObject, task: Task, request: Request, *, view: View, server: Server, token: str) -> RawObject:
    """What a server says of a task, or to a request about it, as its caller is told it.

    Its own result is shown as that of a direct call; what it asks carries the server's name, as in a direct call;
    `token` is the access token that the server was shown, taken out of an error like that of a direct call.

    Raises:
        UpstreamInvalid: it asks what its caller does not offer, or is no task.
    """
    told = dict(result)
    if "taskId" in told:
        told["taskId"] = msgspec.Raw(encode(task.handle))
    if "inputRequests" in told:
        told["inputRequests"] = msgspec.Raw(encode(as_requests(read_round(Answer(result), request, server))))
    if "error" in told:
        told["error"] = msgspec.Raw(discreet(server, bytes(told["error"]), token))
    if "result" in told:
        told["result"] = msgspec.Raw(encode(view.shown(task.tool, _result(told["result"], server))))
    return told


def shown_of_agent(result: RawObject, task: Task) -> RawObject:
    """The same of a task that a call of an agent became."""
    if "taskId" not in result:
        return result
    told = {"taskId": task.handle, "createdAt": stamp(task.made_at)}
    return {**result, **as_raw(told)}


def stamp(seconds: float) -> str:
    """A time since 1970 as tasks bear it (ISO 8601)."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def refused() -> InvalidParams:
    """What is said of any task that is none of the caller's, whatever the reason."""
    return InvalidParams("There is no such task here, or it is forgotten.", member="taskId")


def _result(raw: msgspec.Raw, server: Server) -> RawObject:
    try:
        result = read_object(raw)
        meta = read_object(result["_meta"]) if "_meta" in result else {}
    except CallerError:
        raise UpstreamInvalid(server.name, "the result of its task is not MCP") from None
    if META_SERVER in meta:
        del meta[META_SERVER]
        result["_meta"] = msgspec.Raw(encode(meta))
    return result


def _about(principal: Principal) -> str:
    return f"mcp-task/{principal.id}"
