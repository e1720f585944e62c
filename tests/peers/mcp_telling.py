"""MCP servers that tell of changes, in whichever revision they are asked (official SDK).

`touch` changes a resource, `grow` adds a tool, a prompt and a resource. `python -m tests.peers.mcp_telling stdio` serves
the same over stdio, `stdio-legacy` as a server that knows sessions only.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import mcp_types as t
from mcp import MCPError
from mcp.server import Server
from mcp.server.lowlevel import NotificationOptions
from mcp.server.runner import serve_loop
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
)

from tests.peers.mcp_servers import Peer

NOTE, DIARY, SECRET = "memo:note", "memo:diary", "memo:secret"
TEXT = {"type": "object", "properties": {"uri": {"type": "string"}}}


class Telling:
    """The server: what it has, and who hears of it."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.bus = InMemorySubscriptionBus()
        self.sessions: dict[Any, set[str]] = {}
        """Older clients' connections, and what they subscribed to."""
        self.grown = 0

    async def list_tools(self, ctx: Any, params: Any) -> t.ListToolsResult:
        if ctx.protocol_version != "2026-07-28":
            self.sessions.setdefault(ctx.session._connection, set())
        names = ["touch", "grow", "claim", *(f"tool{number}" for number in range(self.grown))]
        return t.ListToolsResult(tools=[t.Tool(name=name, input_schema=TEXT) for name in names])

    async def list_prompts(self, ctx: Any, params: Any) -> t.ListPromptsResult:
        return t.ListPromptsResult(prompts=[t.Prompt(name=f"prompt{number}") for number in range(self.grown + 1)])

    async def list_resources(self, ctx: Any, params: Any) -> t.ListResourcesResult:
        uris = [NOTE, DIARY, SECRET, *(f"memo:{number}" for number in range(self.grown))]
        return t.ListResourcesResult(resources=[t.Resource(uri=uri, name=uri) for uri in uris])

    async def read(self, ctx: Any, params: t.ReadResourceRequestParams) -> t.ReadResourceResult:
        return t.ReadResourceResult(contents=[t.TextResourceContents(uri=params.uri, text="it")])

    async def call(self, ctx: Any, params: t.CallToolRequestParams) -> t.CallToolResult:
        if params.name == "touch":
            await self.touch((params.arguments or {})["uri"])
        elif params.name == "grow":
            await self.grow()
        elif params.name == "claim":  # says so, and nothing has changed
            await self.claim()
        return t.CallToolResult(content=[])

    async def touch(self, uri: str) -> None:
        """Change a resource."""
        await self.bus.publish(ResourceUpdated(uri=uri))
        for connection, uris in list(self.sessions.items()):
            if any(uri == one or uri.startswith(f"{one}/") for one in uris):
                await connection.send_resource_updated(uri)

    async def grow(self) -> None:
        """Have one more of everything."""
        self.grown += 1
        await self.claim()

    async def claim(self) -> None:
        for event in (ToolsListChanged(), PromptsListChanged(), ResourcesListChanged()):
            await self.bus.publish(event)
        for connection in list(self.sessions):
            await connection.send_tool_list_changed()
            await connection.send_prompt_list_changed()
            await connection.send_resource_list_changed()

    async def subscribe(self, ctx: Any, params: t.SubscribeRequestParams) -> t.EmptyResult:
        self.peer.calls.append(("subscribe", {"uri": params.uri}))
        if params.uri == "memo:none":
            raise MCPError(-32002, "Resource not found")
        self.sessions.setdefault(ctx.session._connection, set()).add(params.uri)
        return t.EmptyResult()

    async def unsubscribe(self, ctx: Any, params: t.UnsubscribeRequestParams) -> t.EmptyResult:
        self.peer.calls.append(("unsubscribe", {"uri": params.uri}))
        self.sessions.get(ctx.session._connection, set()).discard(params.uri)
        self.peer.cancelled.set()
        return t.EmptyResult()

    async def listen(self, ctx: Any, params: t.SubscriptionsListenRequestParams) -> t.SubscriptionsListenResult:
        return await _Listening(self.bus, self.peer)(ctx, params)

    async def roots_changed(self, ctx: Any, params: Any) -> None:
        self.peer.calls.append(("roots", {}))
        self.peer.waiting.set()


class _Listening(ListenHandler):
    """As the SDK's, noting what is asked for."""

    def __init__(self, bus: InMemorySubscriptionBus, peer: Peer) -> None:
        super().__init__(bus)
        self._peer = peer

    async def __call__(self, ctx: Any, params: t.SubscriptionsListenRequestParams) -> t.SubscriptionsListenResult:
        uris = params.notifications.resource_subscriptions or []
        self._peer.calls.append(("listen", {"uris": uris}))
        try:
            return await super().__call__(ctx, params)
        finally:
            self._peer.calls.append(("left", {"uris": uris}))
            self._peer.cancelled.set()


Of = Callable[[], Telling]


def telling_server(peer: Peer, of: Of | None = None) -> Server[Any]:
    """The server; `of` says which of several it is for whoever asks now."""
    telling = Telling(peer)
    peer.telling = telling

    def on(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def handle(ctx: Any, params: Any) -> Any:
            return await method(of() if of is not None else telling, ctx, params)

        return handle

    server: Server[Any] = Server(
        "telling",
        version="1",
        on_list_tools=on(Telling.list_tools),
        on_call_tool=on(Telling.call),
        on_list_prompts=on(Telling.list_prompts),
        on_list_resources=on(Telling.list_resources),
        on_read_resource=on(Telling.read),
        on_subscribe_resource=on(Telling.subscribe),
        on_unsubscribe_resource=on(Telling.unsubscribe),
        on_subscriptions_listen=on(Telling.listen),
    )
    server.add_notification_handler("notifications/roots/list_changed", t.NotificationParams, on(Telling.roots_changed))
    return server


async def over_stdio(*, legacy: bool) -> None:
    server = telling_server(Peer())
    async with stdio_server() as (incoming, outgoing):
        if legacy:
            async with server.lifespan(server) as state:
                await serve_loop(server, incoming, outgoing, lifespan_state=state)
        else:
            options = server.create_initialization_options(NotificationOptions(tools_changed=True))
            await server.run(incoming, outgoing, options)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        anyio.run(lambda: over_stdio(legacy=sys.argv[1] == "stdio-legacy"))
