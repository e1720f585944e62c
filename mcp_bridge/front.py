"""The session of a client of 2025-11-25 or older, as the servers behind the hub see it, and the way its answers go.

The only module beside `server` that knows the SDK's server. It leans on the SDK's request-scoped channel
(`session._request_outbound`, private in 2.3), because the typed one drops unknown members.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
from mcp import MCPError
from mcp.shared.exceptions import NoBackChannelError

from mcp_bridge.listener import ASK_S, NOT_ANSWERED, NOT_ASKED, Unanswered
from mcp_bridge.subscriptions import Subscriber
from mcp_bridge.wire import META_CAPABILITIES, META_LOG_LEVEL
from registry.egress.sse import Framer, data_of
from registry.judged import JsonObject, RawObject, decode, encode

AsgiMessage = MutableMapping[str, Any]
Send = Callable[[AsgiMessage], Awaitable[None]]
Notify = Callable[[str, JsonObject | None], Awaitable[None]]
_SESSION = "hubbub.session"


class FrontSession:
    """What the hub keeps of one session; it ends with the SDK's connection."""

    def __init__(self, session_id: str, notify: Notify) -> None:
        """`notify` sends on the stream that the client reads, if it reads one."""
        self.id = session_id
        self.level: str | None = None
        """What `logging/setLevel` asked for."""
        self.subscriber: Subscriber | None = None
        """What its client is told unasked; None: its handshake is not done."""
        self._notify = notify
        self._callbacks: list[Callable[[], None]] = []

    def when_closed(self, callback: Callable[[], None]) -> None:
        """As `Front.when_closed`."""
        self._callbacks.append(callback)

    async def tell(self) -> None:
        """Tell the client, which reads a stream, what it is to be told, until that is over."""
        assert self.subscriber is not None, "there is no stream before the handshake"
        while (news := await self.subscriber.next()) is not None:
            method, params = news
            await self._notify(method, params or None)

    def close(self) -> None:
        """Tell everybody that the session has ended."""
        for callback in self._callbacks:
            callback()
        self._callbacks.clear()


def session_of(context: Any) -> FrontSession:
    """The session that a request of the SDK's belongs to."""
    connection = context.session._connection  # noqa: SLF001 - as above
    session: FrontSession | None = connection.state.get(_SESSION)
    if session is None:
        session = connection.state[_SESSION] = FrontSession(connection.session_id, connection.notify)
        connection.exit_stack.callback(session.close)
    return session


class FrontListener:
    """The caller of one request in a session."""

    def __init__(self, context: Any, *, takes_stream: bool) -> None:
        """`takes_stream`: whether the client can be told anything before its answer."""
        self.front = session_of(context)
        self._takes_stream = takes_stream
        self._context = context
        self._outbound = context.session._request_outbound  # noqa: SLF001 - as above

    def envelope(self, meta: RawObject) -> RawObject:
        """The request's `_meta` with what a client of 2026-07-28 would say of itself in it."""
        found = self._context.session.client_capabilities
        said: JsonObject = {}
        if found is not None and self._takes_stream:
            every = found.model_dump(by_alias=True, mode="json", exclude_none=True)
            said = {name: every[name] for name in ("elicitation", "sampling", "roots") if name in every}
        envelope = {**meta, META_CAPABILITIES: msgspec.Raw(encode(said))}
        if self.front.level is not None:
            envelope[META_LOG_LEVEL] = msgspec.Raw(encode(self.front.level))
        return envelope

    async def opened(self) -> None:
        """As `Listener.opened`: the answer becomes a stream with the first thing told."""

    async def notified(self, message: bytes) -> None:
        """As `Listener.notified`."""
        if self._takes_stream:
            told = decode(message)
            await self._outbound.notify(told["method"], told.get("params"))

    async def asked(self, method: str, params: JsonObject) -> JsonObject:
        """As `Listener.asked`."""
        if not self._takes_stream:
            raise Unanswered(NOT_ASKED, "the client takes no stream, so it cannot be asked")
        try:
            answer = await self._outbound.send_raw_request(method, params, {"timeout": ASK_S[method]})
        except NoBackChannelError:
            raise Unanswered(NOT_ASKED, "the client cannot be asked here") from None
        except MCPError as error:
            raise Unanswered(error.error.code, error.error.message) from None
        except (RuntimeError, ValueError):
            raise Unanswered(NOT_ANSWERED, "the client has left") from None
        return dict(answer)


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
