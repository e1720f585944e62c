"""Anthropic's Messages on the wire: requests read so that what was judged is what is sent, answers written. Pure.

Tools of the hub come three ways: `mcp_servers` (2025-04-04), `mcp_servers` with an `mcp_toolset` for each in `tools`
(2025-11-20), and the hub's own `{"type": "mcp", "server_url": …}` and `{"type": "a2a", "agent": …}` in `tools`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from llm.types import Ask, Prompt, ToolSource
from llm.wire.head import read_head
from llm.wire.hub_member import NOTHING_SAID, HubMember, check_talk
from llm.wire.sources import TOOL_DECIDING, read_agent, read_source
from registry import judged
from registry.entries import Headers, Model
from registry.errors import InvalidRequest
from registry.judged import JsonObject, RawObject

DECIDING = frozenset({"model", "stream", "tools", "mcp_servers", "hub"})
"""Members of the request on which the hub decides."""

_TOOL_DECIDING = TOOL_DECIDING | {"mcp_server_name", "default_config", "configs"}
_SERVER_DECIDING = frozenset({"type", "url", "name", "authorization_token", "tool_configuration"})
_OF_THE_HUB = ("mcp", "a2a", "mcp_toolset")


class MessagesRequest(msgspec.Struct, frozen=True):
    """A request as the hub judged it."""

    members: RawObject
    model: str
    stream: bool
    sources: tuple[ToolSource, ...]
    own_tools: tuple[msgspec.Raw, ...]
    """The caller's own tools beside the sources; empty without sources, when `tools` goes on as it came."""
    hub: HubMember = NOTHING_SAID

    @property
    def has_hub_calls(self) -> bool:
        """Whether the conversation may hold calls that the hub executed: providers know nothing of them."""
        return b"mcp_tool" in bytes(self.members.get("messages", b""))


def read_request(data: bytes, *, public_url: str) -> MessagesRequest:
    """Read a request.

    Raises:
        ParseFailed, InvalidRequest: it cannot be judged.
    """
    members, model, stream, hub = read_head(data, DECIDING)
    sources, own_tools = _read_sources(members, public_url)
    return MessagesRequest(members=members, model=model, stream=stream, sources=sources, own_tools=own_tools, hub=hub)


def _read_sources(top: RawObject, public_url: str) -> tuple[tuple[ToolSource, ...], tuple[msgspec.Raw, ...]]:
    servers = _read_servers(top.pop("mcp_servers", None), public_url)
    raw = top.get("tools")
    text = b"" if raw is None else bytes(raw).lower()
    if not servers and b"mcp" not in text and b"a2a" not in text and b"\\u" not in text:
        return (), ()
    direct: list[ToolSource] = []
    own: list[msgspec.Raw] = []
    toolsets: dict[str, ToolSource] = {}
    for item in judged.read_array(raw, "tools") if raw is not None else ():
        tool = judged.body(bytes(item), _TOOL_DECIDING)
        judged.check_spelling(tool, _TOOL_DECIDING)
        kind = judged.read_string(tool, "type")
        if kind == "mcp":
            direct.append(read_source(tool, public_url))
        elif kind == "a2a":
            direct.append(read_agent(tool))
        elif kind == "mcp_toolset":
            source = _toolset(tool, servers)
            if toolsets.setdefault(source.label or "", source) is not source:
                raise InvalidRequest(f"two toolsets of MCP server {source.label!r}", member="tools")
        elif kind is not None and kind.strip().lower() in _OF_THE_HUB:
            raise InvalidRequest(f"tool type {kind!r} is not known; write {kind.strip().lower()!r}", member="tools")
        else:
            own.append(msgspec.Raw(judged.encode(tool)))
    named = (toolsets.get(name, source) for name, (source, is_enabled) in servers.items() if is_enabled)
    sources = (*named, *direct)
    return sources, tuple(own) if sources else ()


def _read_servers(raw: msgspec.Raw | None, public_url: str) -> dict[str, tuple[ToolSource, bool]]:
    """The servers of the request by name, each with whether its tools may be used."""
    found: dict[str, tuple[ToolSource, bool]] = {}
    if raw is None or judged.decode(raw) is None:
        return found
    for item in judged.read_array(raw, "mcp_servers"):
        server = judged.body(bytes(item), _SERVER_DECIDING)
        judged.check_spelling(server, _SERVER_DECIDING)
        name = judged.read_string(server, "name")
        if judged.read_string(server, "type") != "url" or not name or "url" not in server:
            raise InvalidRequest("an MCP server needs type 'url', a url and a name", member="mcp_servers")
        if name in found:
            raise InvalidRequest(f"two MCP servers are named {name!r}", member="mcp_servers")
        allowed, is_enabled = _configuration(server.get("tool_configuration"), name)
        tool = {ours: server[theirs] for theirs, ours in _AS_TOOL.items() if theirs in server}
        found[name] = replace(read_source(tool, public_url), allowed=allowed), is_enabled
    return found


_AS_TOOL = {"url": "server_url", "name": "server_label", "authorization_token": "authorization"}
"""Members of a server, as those of a tool of type `mcp`."""


def _configuration(raw: msgspec.Raw | None, name: str) -> tuple[tuple[str, ...] | None, bool]:
    """Which tools of a server a request of 2025-04-04 allows, and whether any."""
    said = _object(raw, f"tool_configuration of MCP server {name!r}", "mcp_servers")
    allowed = said.get("allowed_tools")
    if allowed is not None and not (isinstance(allowed, list) and all(isinstance(one, str) for one in allowed)):
        raise InvalidRequest(f"allowed_tools of MCP server {name!r} must be a list of names", member="mcp_servers")
    return None if allowed is None else tuple(allowed), _enabled(said, True)


def _toolset(tool: RawObject, servers: Mapping[str, tuple[ToolSource, bool]]) -> ToolSource:
    """The source that a toolset makes of its server."""
    name = judged.read_string(tool, "mcp_server_name") or ""
    if name not in servers:
        raise InvalidRequest(f"mcp_servers has no server named {name!r}", member="tools")
    source, _ = servers[name]
    usual = _enabled(_object(tool.get("default_config"), "default_config", "tools"), True)
    configs = _object(tool.get("configs"), "configs", "tools")
    if not all(isinstance(config, dict) for config in configs.values()):
        raise InvalidRequest("configs of a toolset must hold an object for each tool", member="tools")
    odd = tuple(one for one, config in configs.items() if _enabled(config, usual) is not usual)
    allowed, denied = (source.allowed, odd) if usual else (odd, ())
    return replace(source, allowed=allowed, denied=denied)


def _object(raw: msgspec.Raw | None, what: str, member: str) -> JsonObject:
    value = None if raw is None else judged.decode(raw)
    if value is not None and not isinstance(value, dict):
        raise InvalidRequest(f"{what} must be an object", member=member)
    return value or {}


def _enabled(config: JsonObject, usual: bool) -> bool:
    said = config.get("enabled")
    if said is not None and not isinstance(said, bool):
        raise InvalidRequest("enabled must be true or false", member="tools")
    return usual if said is None else said


def passed_on(request: MessagesRequest, model: Model) -> bytes:
    """The body that goes to the provider of `model`: the caller's, with the upstream's name for it; raises `InvalidRequest`."""
    check_talk(request.hub.talk, model)
    return judged.encode({**request.members, "model": model.model})


def ask_of(request: MessagesRequest, headers: Headers = ()) -> Ask:
    """What the loop is to answer, `headers` with it; raises `InvalidRequest` for a member that is missing or of no use to the loop."""
    members = request.members
    for required in ("messages", "max_tokens"):
        if required not in members:
            raise InvalidRequest(f"{required} is required", member=required)
    own: Sequence[msgspec.Raw] = request.own_tools
    if not request.sources and "tools" in members:
        own = judged.read_array(members["tools"], "tools")
    rest = {name: value for name, value in members.items() if name not in _TAKEN}
    return Ask(
        model=request.model,
        stream=request.stream,
        sources=request.sources,
        own_names=frozenset(map(_own_name, own)),
        prompt=Prompt("messages", rest, judged.read_array(members["messages"], "messages"), own, headers),
        limits=request.hub.limits,
        talk=request.hub.talk,
    )


_TAKEN = frozenset({"model", "stream", "messages", "tools"})


def _own_name(raw: msgspec.Raw) -> str:
    tool = judged.decode(raw)
    name = tool.get("name") if isinstance(tool, dict) else None
    if not isinstance(name, str):
        raise InvalidRequest("each tool needs a name", member="tools")
    return name


def event(data: JsonObject) -> bytes:
    """One server-sent event, named as its `type`."""
    return b"event: " + str(data["type"]).encode() + b"\ndata: " + judged.encode(data) + b"\n\n"


PING = event({"type": "ping"})


def usage_of(usage: Mapping[str, Any]) -> JsonObject:
    """Chat's usage as Anthropic's, which counts apart what was read from or written to a cache."""
    details = usage.get("prompt_tokens_details")
    details = details if isinstance(details, Mapping) else {}
    cached, written = _count(details, "cached_tokens"), _count(details, "cache_write_tokens")
    said: JsonObject = {
        "input_tokens": max(0, _count(usage, "prompt_tokens") - cached - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": _count(usage, "completion_tokens"),
    }
    thought = usage.get("completion_tokens_details")
    if isinstance(thought, Mapping) and _count(thought, "reasoning_tokens"):
        said["output_tokens_details"] = {"thinking_tokens": _count(thought, "reasoning_tokens")}
    return said


def _count(owner: Mapping[str, Any], name: str) -> int:
    value = owner.get(name)
    return value if isinstance(value, int) else 0
