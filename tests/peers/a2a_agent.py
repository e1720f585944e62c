"""An A2A agent built with the official a2a-sdk, speaking 1.0 and 0.3; and a rough one, scripted byte for byte.

The rough agent stands for upstreams that no SDK would produce: garbage, cut streams, ids of other people's tasks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from a2a.helpers import new_task_from_user_message, new_text_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Role
from starlette.applications import Starlette

from tests.conftest import free_socket, served


@dataclass
class Seen:
    """One request that reached an agent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the other side has closed the connection; rough agents only."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Echo(AgentExecutor):
    """Repeats words as artifact deltas. `hold` waits before the last one, `reply` answers without a task, `ask` asks back."""

    def __init__(self) -> None:
        self.confirmed = asyncio.Event()
        self.finished = asyncio.Event()

    async def execute(self, context: RequestContext, queue: EventQueue) -> None:
        text = context.get_user_input()
        if text == "reply":
            await queue.enqueue_event(
                new_text_message("hello", context_id=context.context_id, role=Role.ROLE_AGENT),
            )
            return
        task = context.current_task
        if task is None:
            task = new_task_from_user_message(context.message)
            task.id, task.context_id = context.task_id, context.context_id
            await queue.enqueue_event(task)
        updater = TaskUpdater(queue, task.id, task.context_id)
        await updater.start_work()
        if text == "ask":
            await updater.requires_input()
            return
        words = text.split()
        for index, word in enumerate(words):
            last = index == len(words) - 1
            if last and "hold" in words:
                await self.confirmed.wait()
            await updater.add_artifact(
                [new_text_part(word + " ")], artifact_id="echo", append=index > 0, last_chunk=last
            )
        await updater.complete()
        self.finished.set()

    async def cancel(self, context: RequestContext, queue: EventQueue) -> None:
        await TaskUpdater(queue, context.task_id, context.context_id).cancel()


@dataclass
class Peer:
    """An agent under test, and what reached it."""

    url: str
    echo: Echo
    seen: list[Seen] = field(default_factory=list)

    @property
    def calls(self) -> list[Seen]:
        """The JSON-RPC requests that reached it."""
        return [one for one in self.seen if one.method == "POST"]


def recording(app: Any, seen: list[Seen]) -> Any:
    """Note every request with its body, and pass it on."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        one = Seen(scope["method"], scope["path"], headers, b"")
        seen.append(one)

        async def noting() -> Any:
            message = await receive()
            one.body += message.get("body", b"")
            return message

        await app(scope, noting, send)

    return wrapped


@asynccontextmanager
async def sdk_agent(*versions: str, extended: bool = False) -> AsyncIterator[Peer]:
    """Serve an agent of the official SDK whose card lists these versions (default: 1.0 and 0.3)."""
    sock = free_socket()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    card = AgentCard(
        name="Echo",
        description="Repeats what it is told.",
        version="1.0.0",
        supported_interfaces=[
            AgentInterface(url=f"{url}/rpc", protocol_binding="JSONRPC", protocol_version=version)
            for version in versions or ("1.0", "0.3")
        ],
        capabilities=AgentCapabilities(streaming=True, push_notifications=True, extended_agent_card=extended),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="echo", name="Echo", description="Repeats.", tags=["echo"])],
    )
    echo = Echo()
    handler = DefaultRequestHandler(
        agent_executor=echo,
        task_store=InMemoryTaskStore(),
        agent_card=card,
        extended_agent_card=card if extended else None,
    )
    routes = [*create_agent_card_routes(card), *create_jsonrpc_routes(handler, rpc_url="/rpc", enable_v0_3_compat=True)]
    peer = Peer(url, echo)
    async with served(recording(Starlette(routes=routes), peer.seen), sock):
        yield peer


Answer = Callable[[Seen, Any], Awaitable[None]]
"""Gets the request and ASGI's `send`, and answers."""


@asynccontextmanager
async def rough_agent(answer: Answer, card: Any = None) -> AsyncIterator[Peer]:
    """Serve an agent that answers POSTs with `answer`, and `card` (JSON, or a function of its URL) at its well-known path."""
    sock = free_socket()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    peer = Peer(url, Echo())
    if callable(card):
        card = card(url)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        while (message := await receive()).get("more_body"):
            pass
        assert message["type"] == "http.request"
        one = peer.seen[-1]

        async def watch() -> None:
            await receive()
            one.gone.set()

        watching = asyncio.create_task(watch())
        try:
            await respond(scope, one, send)
        finally:
            watching.cancel()

    async def respond(scope: Any, one: Seen, send: Any) -> None:
        if scope["method"] == "POST":
            await answer(one, send)
        elif card is not None and scope["path"].endswith("/.well-known/agent-card.json"):
            await reply(send, card)
        else:
            await reply(send, {"error": "not here"}, status=404)

    async with served(recording(app, peer.seen), sock):
        yield peer


def simple_card(*versions: str) -> Callable[[str], dict[str, Any]]:
    """A small 1.0 card for `rough_agent`."""
    return lambda url: {
        "name": "Rough",
        "description": "Anything may come.",
        "version": "1",
        "supportedInterfaces": [
            {"url": f"{url}/rpc", "protocolBinding": "JSONRPC", "protocolVersion": version}
            for version in versions or ("1.0", "0.3")
        ],
        "capabilities": {"streaming": True},
        "skills": [],
    }


async def reply(
    send: Any,
    body: Any,
    *,
    status: int = 200,
    media_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> None:
    """Answer whole; bytes as they are, anything else as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    await start(send, status, media_type=media_type, headers=headers)
    await send({"type": "http.response.body", "body": data})


async def start(
    send: Any, status: int = 200, *, media_type: str = "text/event-stream", headers: dict[str, str] | None = None
) -> None:
    """Begin an answer."""
    named = {"content-type": media_type, **(headers or {})}
    raw = [(name.encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def write(send: Any, chunk: bytes) -> None:
    """Send a piece of a stream."""
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


def task(task_id: str, state: str = "TASK_STATE_COMPLETED", context_id: str = "c") -> dict[str, Any]:
    """A small 1.0 Task."""
    return {"id": task_id, "contextId": context_id, "status": {"state": state, "timestamp": "2026-01-01T00:00:00Z"}}
