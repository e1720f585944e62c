"""What a caller says of a tool, prompt or resource, as the request that its server gets. Pure."""

from __future__ import annotations

import msgspec

from mcp_bridge import legacy_tasks
from mcp_bridge.headers import annotated, parameter_headers
from mcp_bridge.wire import Request
from registry.entries import Headers, Prompt, Resource, Tool
from registry.errors import InvalidParams
from registry.judged import JsonObject, RawObject, decode, encode, unambiguous


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says of a call, beside what is called."""

    arguments: msgspec.Raw | None = None
    """A JSON object, encoded; None: none were given."""
    params: RawObject = {}
    """Further members of the params, passed on as they came: never `name`, `uri`, `arguments` or `_meta`."""
    meta: RawObject = {}
    """The caller's `_meta`."""


def tool_call(tool: Tool, call: Call) -> Request:
    """`tools/call`."""
    headers: Headers = ()
    if annotated(tool.description):
        given = decode(call.arguments) if call.arguments is not None else {}
        headers = parameter_headers(decode(tool.description)["inputSchema"], given)
    params = _named(tool.name, call)
    params.pop("task", None)  # of 2025-11-25, and the hub's to say
    return Request(
        method="tools/call",
        params=params,
        meta=onward(call.meta),
        name=tool.name,
        headers=headers,
        as_task=legacy_tasks.is_needed(tool.description),
    )


def prompt_get(prompt: Prompt, call: Call) -> Request:
    """`prompts/get`."""
    return Request(method="prompts/get", params=_named(prompt.name, call), meta=onward(call.meta), name=prompt.name)


def resource_read(resource: Resource, call: Call) -> Request:
    """`resources/read`."""
    params: JsonObject = {**call.params, "uri": resource.name}
    return Request(method="resources/read", params=params, meta=onward(call.meta), name=resource.name)


def arguments_of(request: Request) -> JsonObject:
    """What the hub's rules may look at: the arguments of a tool or prompt, else all that is said of the request.

    Raises:
        InvalidRequest: a member stands twice in them, so that others might see others.
    """
    if request.method not in ("tools/call", "prompts/get"):
        return unambiguous(encode(request.params))
    given = request.params.get("arguments")
    return {} if given is None else unambiguous(given if isinstance(given, msgspec.Raw) else encode(given))


def _named(name: str, call: Call) -> JsonObject:
    params: JsonObject = {**call.params, "name": name}
    if call.arguments is not None:
        params["arguments"] = call.arguments
    return params


def onward(meta: RawObject) -> RawObject:
    """The part of a caller's `_meta` that third parties may see: no baggage."""
    if "baggage" in meta:
        return {name: raw for name, raw in meta.items() if name != "baggage"}
    return meta


def check_arguments(raw: msgspec.Raw | None) -> msgspec.Raw | None:
    """Return the arguments if they are an object or absent; null counts as absent.

    Raises:
        InvalidParams: they are something else.
    """
    if raw is None:
        return None
    text = bytes(raw).lstrip()
    if text == b"null":
        return None
    if not text.startswith(b"{"):
        raise InvalidParams("arguments must be an object", member="arguments")
    return raw
