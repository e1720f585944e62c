"""Tools of a program's own MCP session, for a model of any API: listed in its form, called as it asks.

`session` is an `mcp.ClientSession`, or an `mcp.Client`, of the official SDK.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from inspect import signature
from typing import Any, Literal, Protocol

Format = Literal["openai", "anthropic", "mcp"]
"""How tools are described: for chat completions, for Anthropic's messages, or as their server did."""

MAX_PAGES = 1000
"""A server that has more gives the same ones again."""


class Session(Protocol):
    """What is used of a session."""

    @property
    def list_tools(self) -> Any:
        """`tools/list`, one page."""

    @property
    def call_tool(self) -> Any:
        """`tools/call`."""


async def load_mcp_tools(session: Session, format: Format = "mcp") -> list[Any]:  # noqa: A002  # as LiteLLM calls it
    """List all tools of a session, page by page, with the schemas that their server gave.

    `mcp` gives the SDK's own objects, the others what goes into `tools` of a request.

    Raises:
        ValueError: the format is none of the three, or the server's pages do not end.
    """
    if format not in ("openai", "anthropic", "mcp"):
        raise ValueError(f"format {format!r} is none of 'openai', 'anthropic', 'mcp'")
    tools: list[Any] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await _page(session, cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    else:
        raise ValueError(f"the server has more than {MAX_PAGES} pages of tools")
    if format == "mcp":
        return tools
    return [described(tool.name, tool.description or "", tool.input_schema, format=format) for tool in tools]


async def _page(session: Session, cursor: str | None) -> Any:
    """One page: a client takes the cursor itself, a session in params."""
    if cursor is None or "cursor" in signature(session.list_tools).parameters:
        return await session.list_tools(**({"cursor": cursor} if cursor is not None else {}))
    from mcp_bridge.paging import page_after  # noqa: PLC0415 - only the bridge imports the SDK, which is slow to load

    return await session.list_tools(params=page_after(cursor))


def described(name: str, description: str, schema: Mapping[str, Any], *, format: Format) -> dict[str, Any]:  # noqa: A002
    """A tool as `format` describes it."""
    if format == "openai":
        return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}
    if format == "anthropic":
        return {"name": name, "description": description, "input_schema": schema}
    return {"name": name, "description": description, "inputSchema": schema}


async def call_openai_tool(session: Session, tool_call: Any) -> Any:
    """Call the tool that a chat completion asks for, an item of `message.tool_calls`; returns the SDK's CallToolResult.

    Raises:
        ValueError: it is no call of a function, or its arguments are no JSON object.
    """
    function = _member(tool_call, "function")
    name = _member(function, "name")
    arguments = _member(function, "arguments")
    if not isinstance(name, str) or not name:
        raise ValueError("this is no call of a function: it has no function.name")
    try:
        given = json.loads(arguments) if arguments else {}
    except (TypeError, ValueError):
        given = None
    return await session.call_tool(name, _checked(name, given))


async def call_anthropic_tool(session: Session, tool_use: Any) -> Any:
    """Call the tool that a message of Anthropic's asks for, a block of type `tool_use`; returns the SDK's CallToolResult.

    Raises:
        ValueError: it is no such block.
    """
    name = _member(tool_use, "name")
    if _member(tool_use, "type") != "tool_use" or not isinstance(name, str):
        raise ValueError("this is no block of type tool_use")
    return await session.call_tool(name, _checked(name, _member(tool_use, "input")))


def _checked(name: str, arguments: Any) -> dict[str, Any]:
    if not isinstance(arguments, Mapping):
        raise ValueError(f"the arguments of {name} are not a JSON object")  # noqa: TRY004  # a model wrote them, not a programmer
    return dict(arguments)


def _member(owner: Any, name: str) -> Any:
    """A member of an SDK's object, or of plain JSON."""
    return owner.get(name) if isinstance(owner, Mapping) else getattr(owner, name, None)
