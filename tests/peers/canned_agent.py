"""A fake agent in each of the five speeches: it notes the bytes of every request, and answers bytes that it was given.

No SDK writes what its own messages do not know, so none can show that such things go through a hub.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from agents.speech import STREAMING, Speech
from tests.conftest import served
from tests.peers.a2a_agent import Seen, recording, reply

Canned = Callable[[bytes], bytes]
"""Makes the answer to a request; raises `Refused`."""


class Refused(Exception):
    """The agent does not take a request's parameters."""


@dataclass
class CannedAgent:
    """An agent under test, and the bodies that reached it."""

    url: str
    bodies: list[bytes] = field(default_factory=list)
    """JSON-RPC and HTTP+JSON: HTTP bodies; gRPC: messages."""


@asynccontextmanager
async def canned_agent(speech: Speech, answer: Canned) -> AsyncIterator[CannedAgent]:
    """Serve an agent that speaks nothing else; streams hold what `answer` makes as their only event."""
    agent = CannedAgent("")
    seen: list[Seen] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        if scope["path"].endswith("agent-card.json"):
            await reply(send, _card(speech, agent.url if speech.binding != "GRPC" else f"http://{address}"))
            return
        agent.bodies.append(seen[-1].body)
        try:
            said = answer(seen[-1].body)
        except Refused:
            await _refuse(speech, send, seen[-1])
            return
        if scope["path"].endswith(("stream", "subscribe")) or b"tream" in seen[-1].body:
            await reply(send, b"data: " + said + b"\n\n", media_type="text/event-stream")
        else:
            await reply(send, said)

    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(_grpc(agent, answer)) if speech.binding == "GRPC" else ""
        agent.url = await stack.enter_async_context(served(recording(app, seen)))
        yield agent


@asynccontextmanager
async def _grpc(agent: CannedAgent, answer: Canned) -> AsyncIterator[str]:
    async def behave(request: bytes, context: Any) -> bytes:
        agent.bodies.append(request)
        try:
            return answer(request)
        except Refused:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the context is no UUID")
            raise

    async def stream(request: bytes, context: Any) -> None:
        await context.write(await behave(request, context))

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            operation: Any = details.method.rpartition("/")[2]
            if operation in STREAMING:
                return grpc.unary_stream_rpc_method_handler(stream)
            return grpc.unary_unary_rpc_method_handler(behave)

    server = grpc.aio.server(handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def _refuse(speech: Speech, send: Any, seen: Seen) -> None:
    if speech.binding == "JSONRPC":
        error = {"code": -32602, "message": "the context is no UUID"}
        await reply(send, {"jsonrpc": "2.0", "id": seen.json["id"], "error": error})
    elif speech.version == "1.0":
        error = {"code": 400, "status": "INVALID_ARGUMENT", "message": "the context is no UUID"}
        await reply(send, {"error": error}, status=400)
    else:
        await reply(send, {"message": "the context is no UUID"}, status=400)


def _card(speech: Speech, url: str) -> dict[str, Any]:
    card = {"name": "Canned", "description": "Says what it was given.", "version": "1", "skills": []}
    if speech.version == "0.3":
        spoken = {"protocolVersion": "0.3.0", "preferredTransport": speech.binding, "url": url}
    else:
        interface = {"url": url, "protocolBinding": speech.binding, "protocolVersion": "1.0"}
        spoken = {"supportedInterfaces": [interface]}
    return {**card, **spoken, "capabilities": {"streaming": True}}
