"""What a caller's request asks for, in their view: which thing of which server, and how that server is asked. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from mcp_bridge.listing import LISTS
from mcp_bridge.requests import onward, prompt_get, resource_read, tool_call
from mcp_bridge.views import View
from mcp_bridge.wire import Request
from registry import judged
from registry.entries import Feature, Prompt, Server
from registry.errors import InvalidParams, InvalidRequest, MethodNotFound
from registry.judged import JsonObject, RawObject, decode, encode, read_object

NAMES: Mapping[str, str] = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""The member that names what is asked for; 2026-07-28 mirrors it as `Mcp-Name`."""

NEVER_RELAYED = frozenset(
    {
        "initialize",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "server/discover",
        "subscriptions/listen",
    }
)
"""Methods that are the hub's own to answer, in one era or the other; lists too, which are answered before."""

_RELAYED = re.compile(r"(?!tasks/|notifications/|rpc\.)[\x21-\x7e]{1,128}")
"""A task is its caller's own, and servers do not know callers: `tasks` relays what is asked about one."""

_ABOUT_LISTS = frozenset(
    {"initialize", "server/discover", "completion/complete", *NAMES, *(of.method for of in LISTS.values())}
)
"""Methods whose answers rest on what servers list, or say of themselves."""

_REF = frozenset({"type", "name", "uri"})
_NO_COMPLETIONS: RawObject = {"completion": msgspec.Raw(b'{"values":[]}')}


class Asked(NamedTuple):
    """What is asked for, and how its server is asked."""

    callee: Feature | Server
    request: Request


class Need(NamedTuple):
    """What a request has to know of lists."""

    any: bool
    named: str | None = None
    """The name or URI that it asks for; None: whatever is listed."""


def need_of(top: RawObject, params: RawObject) -> Need:
    """Say whether a posted message needs lists; one that will be refused needs none."""
    try:
        method = judged.read_string(top, "method")
        member = NAMES.get(method or "")
        named = judged.read_string(params, member) if member is not None else None
    except InvalidRequest:
        return Need(any=False)
    return Need(method in _ABOUT_LISTS, named)


def read_request(view: View, method: str, params: RawObject, meta: RawObject) -> Asked | RawObject:
    """Read a request that is no list: what it asks a server for, or the result if nothing has to be asked.

    `params` are without `_meta`.

    Raises:
        NotFound: the caller is shown no such thing.
        InvalidParams: the params are not the method's.
        MethodNotFound: nothing of the view has such a method.
    """
    read = _METHODS.get(method)
    if read is not None:
        return read(view, params, meta)
    server = view.whole_server
    if server is None or method in NEVER_RELAYED or not _RELAYED.fullmatch(method):
        raise MethodNotFound(method)
    onto: JsonObject = {**params}
    return Asked(server, Request(method=method, params=onto, meta=onward(meta)))


def _tool(view: View, params: RawObject, meta: RawObject) -> Asked:
    tool = view.tool(_text(params, "name"))
    return Asked(tool, tool_call(tool, params, meta))


def _prompt(view: View, params: RawObject, meta: RawObject) -> Asked:
    prompt = view.prompt(_text(params, "name"))
    return Asked(prompt, prompt_get(prompt, params, meta))


def _resource(view: View, params: RawObject, meta: RawObject) -> Asked:
    resource = view.resource(_text(params, "uri"))
    return Asked(resource, resource_read(resource, params, meta))


def _completion(view: View, params: RawObject, meta: RawObject) -> Asked | RawObject:
    try:
        ref = read_object(params.get("ref", msgspec.Raw(b"null")), "ref")
    except InvalidRequest as error:
        raise InvalidParams(error.text, member="ref") from None
    judged.check_spelling(ref, _REF)
    kind = _text(ref, "type")
    callee: Feature
    if kind == "ref/prompt":
        callee = view.prompt(_text(ref, "name"))
    elif kind == "ref/resource":
        callee = view.template(_text(ref, "uri"))
    else:
        raise InvalidParams("ref.type must be ref/prompt or ref/resource", member="ref")
    if not view.has(callee.server, "completions"):
        return _NO_COMPLETIONS
    named = "name" if isinstance(callee, Prompt) else "uri"
    onto: JsonObject = {**params, "ref": {**ref, named: msgspec.Raw(encode(callee.name))}}
    return Asked(callee, Request(method="completion/complete", params=onto, meta=onward(meta)))


_METHODS: Mapping[str, Callable[[View, RawObject, RawObject], Asked | RawObject]] = {
    "tools/call": _tool,
    "prompts/get": _prompt,
    "resources/read": _resource,
    "completion/complete": _completion,
}


def _text(params: RawObject, member: str) -> str:
    found = decode(params[member]) if member in params else None
    if not isinstance(found, str):
        raise InvalidParams(f"{member} must be a string", member=member)
    return found
