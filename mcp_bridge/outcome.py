"""What the answer to a tool call comes to for a caller of the hub itself: a chat, an own agent. Pure."""

from __future__ import annotations

from mcp_bridge.tasks import is_task
from mcp_bridge.wire import Answer
from registry.entries import Feature, Server
from registry.errors import UpstreamInvalid
from registry.judged import JsonObject, decode


def result_of_call(answer: Answer, tool: Feature) -> JsonObject:
    """The result decoded; a JSON-RPC error becomes an `isError` result. Raises `UpstreamInvalid`."""
    if answer.result is None:
        return {"content": [{"type": "text", "text": answer.error_text}], "isError": True}
    result: JsonObject = {member: decode(raw) for member, raw in answer.result.items()}
    check_complete(answer, tool)
    return result


def check_complete(answer: Answer, callee: Feature | Server) -> None:
    """Refuse a result that asks its caller for input; raises `UpstreamInvalid`."""
    kind = (answer.result or {}).get("resultType")
    if kind is not None and decode(kind) != "complete":
        made = "made a task of the call, and nobody here can follow it" if is_task(answer.result or {}) else None
        raise UpstreamInvalid(callee.grant_name, f"it {made or 'asks for input, which cannot be passed on here'}")
