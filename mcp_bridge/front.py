"""What the SDK's server knows of a session of an older client, and the way its answers go.

The only module beside `server` that knows the SDK's server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from mcp_bridge.in_session import Session
from registry.egress.sse import Framer, data_of
from registry.judged import decode, encode

AsgiMessage = MutableMapping[str, Any]
Send = Callable[[AsgiMessage], Awaitable[None]]
_SESSION = "hubbub.session"


def session_of(context: Any) -> Session:
    """The session that a request of the SDK's belongs to."""
    connection = context.session._connection  # noqa: SLF001 - private in 2.3, hence the pin
    session: Session | None = connection.state.get(_SESSION)
    if session is None:
        session = connection.state[_SESSION] = Session(connection.session_id, connection.notify)
        connection.exit_stack.callback(session.close)
    return session


def declared(context: Any) -> msgspec.Raw:
    """What a server may ask of the client that shakes hands, as 2026-07-28 says it."""
    every = (context.params or {}).get("capabilities") or {}
    asked = {name: every[name] for name in ("elicitation", "sampling", "roots") if isinstance(every.get(name), dict)}
    return msgspec.Raw(encode(asked))


class PlainAnswer:
    """An ASGI `send` that turns the SDK's event stream into JSON when the answer is all that it holds.

    With something told before, a client that takes streams gets the stream; one that does not, the answer alone.
    """

    def __init__(self, send: Send, *, takes_stream: bool) -> None:
        self._send = send
        self._takes_stream = takes_stream
        self._held: AsgiMessage | None = None
        self._framer = Framer()
        self._is_over = False

    async def __call__(self, message: AsgiMessage) -> None:
        """Take one message of the SDK's."""
        if self._is_over:
            return
        if message["type"] == "http.response.start" and _is_stream(message):
            self._held = message
        elif self._held is None:
            await self._send(message)
        else:
            await self._body(self._held, message)

    async def _body(self, start: AsgiMessage, message: AsgiMessage) -> None:
        for event in self._framer.feed(message.get("body", b"")):
            data = data_of(event)
            if data and "method" not in decode(data):
                self._is_over = True
                headers = [(name, value) for name, value in start["headers"] if name.lower() not in _OF_STREAMS]
                headers.append((b"content-type", b"application/json"))
                await self._send({**start, "headers": headers})
                await self._send({"type": "http.response.body", "body": data, "more_body": False})
                return
            if self._takes_stream:  # also for a comment: the way here is kept open by it
                self._held = None
                await self._send(start)
                await self._send(message)
                return
        if not message.get("more_body", False) and not self._is_over:
            self._is_over = True
            await self._send(start)
            await self._send(message)


_OF_STREAMS = frozenset({b"content-type", b"connection", b"x-accel-buffering", b"content-length"})


def _is_stream(start: AsgiMessage) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in start["headers"]
    )
