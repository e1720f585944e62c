"""What a caller says of a tool, prompt or resource, as the request that its server gets. Pure."""

from __future__ import annotations

import msgspec

from mcp_bridge import legacy_tasks
from mcp_bridge.headers import annotated, parameter_headers
from mcp_bridge.wire import Request
from registry.entries import Headers, Prompt, Resource, Tool
from registry.errors import InvalidParams
from registry.judged import JsonObject, RawObject, decode, encode, unambiguous

_NONE: RawObject = {}


def tool_call(tool: Tool, params: RawObject, meta: RawObject = _NONE) -> Request:
    """`tools/call`, its params and `_meta` as the caller says them; raises `InvalidParams` for arguments that are no object."""
    said = _named(tool.name, params)
    said.pop("task", None)  # of 2025-11-25, and the hub's to say
    headers: Headers = ()
    if annotated(tool.description):
        given = decode(said["arguments"]) if "arguments" in said else {}
        headers = parameter_headers(decode(tool.description)["inputSchema"], given)
    return Request(
        method="tools/call",
        params=said,
        meta=onward(meta),
        name=tool.name,
        headers=headers,
        as_task=legacy_tasks.is_needed(tool.description),
    )


def prompt_get(prompt: Prompt, params: RawObject, meta: RawObject) -> Request:
    """`prompts/get`, likewise."""
    return Request(method="prompts/get", params=_named(prompt.name, params), meta=onward(meta), name=prompt.name)


def resource_read(resource: Resource, params: RawObject, meta: RawObject) -> Request:
    """`resources/read`, likewise."""
    said: JsonObject = {**params, "uri": resource.name}
    return Request(method="resources/read", params=said, meta=onward(meta), name=resource.name)


def arguments_of(request: Request) -> JsonObject:
    """What the hub's rules may look at: the arguments of a tool or prompt, else all that is said of the request.

    Raises:
        InvalidRequest: a member stands twice in them, so that others might see others.
    """
    if request.method not in ("tools/call", "prompts/get"):
        return unambiguous(encode(request.params))
    given = request.params.get("arguments")
    return {} if given is None else unambiguous(given if isinstance(given, msgspec.Raw) else encode(given))


def _named(name: str, params: RawObject) -> JsonObject:
    said: JsonObject = {**params, "name": name}
    if "arguments" in said and check_arguments(params["arguments"]) is None:
        del said["arguments"]
    return said


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
    text = bytes(raw)
    if text[:1] == b"{":
        return raw
    text = text.lstrip()
    if text == b"null":
        return None
    if text[:1] != b"{":
        raise InvalidParams("arguments must be an object", member="arguments")
    return raw
