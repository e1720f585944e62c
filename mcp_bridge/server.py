"""MCP 2025-11-25 and older towards clients, sessions included, by the SDK's low-level server as an ASGI application.

Imports the SDK: itself imported when the first such client comes. It opens, holds and ends sessions, and has their streams;
what is asked in a session is answered by `in_session`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from mcp import MCPError
from mcp.server import Server
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams

from mcp_bridge.dispatch import Dispatch
from mcp_bridge.ears import LEVELS
from mcp_bridge.front import PlainAnswer, declared, session_of
from mcp_bridge.in_session import CANCELLED, Session
from mcp_bridge.subscriptions import Hearer, Subscriptions
from mcp_bridge.wire import HUB
from registry.errors import INTERNAL, HubError, InvalidParams, MethodNotFound, Overloaded
from registry.identity import Principal
from registry.judged import JsonObject, decode

logger = logging.getLogger(__name__)

MAX_SESSIONS = 10_000
MAX_SESSIONS_OF_ONE = 1000
"""Of one principal: nobody can use them all up."""

SESSION_IDLE_S = 1800.0
MAX_BODY_BYTES = 32 * 1024 * 1024
"""The hub has measured the body before; the SDK's own 4 MiB must not undercut it."""

_CALLER = "hubbub.caller"
_ROOTS = "notifications/roots/list_changed"

_ACCEPT = (b"accept", b"application/json, text/event-stream")

AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
ErrorForm = Callable[[HubError, str], JsonObject]
HttpForm = Callable[[HubError], tuple[int, list[tuple[bytes, bytes]]] | None]
"""HTTP status and headers of an error that concerns the HTTP request too; None: it travels with 200."""


@dataclass(slots=True)
class LegacyCaller:
    """Who sent a request, and where."""

    principal: Principal
    path: str
    request_id: str
    searches: bool
    """Whether the caller is served in search mode."""
    takes_stream: bool
    """Whether it can be told anything before its answer."""
    failure: HubError | None = None
    """Why the request is refused."""
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    """Of what is done for the request; cancelled when its client leaves."""


class LegacyServer:
    """Serves older clients. `run` must be running while it is called."""

    def __init__(
        self, dispatch: Dispatch, subscriptions: Subscriptions, *, error_form: ErrorForm, http_form: HttpForm
    ) -> None:
        self._dispatch = dispatch
        self._subscriptions = subscriptions
        self._sessions: dict[str, Session] = {}
        self._error_form = error_form
        self._http_form = http_form
        server: Server[Any] = Server(
            HUB["name"], version=HUB["version"], on_list_tools=_never_list, on_call_tool=_never_call
        )
        server.middleware[:] = [self._answer]
        self._manager = StreamableHTTPSessionManager(
            server,
            session_idle_timeout=SESSION_IDLE_S,
            max_request_body_size=MAX_BODY_BYTES,
            max_sessions=MAX_SESSIONS,
        )

    async def run(self, ready: asyncio.Event) -> None:
        """Hold the sessions until cancelled; sets `ready` when requests may come."""
        async with self._manager.run():
            ready.set()
            await asyncio.Event().wait()

    def session(self, session_id: bytes, principal: Principal) -> Session | None:
        """An open session of the principal's."""
        session = self._sessions.get(session_id.decode("latin-1"))
        return session if session is not None and session.principal_id == principal.id else None

    @contextmanager
    def busy(self, session: Session) -> Iterator[None]:
        """`with`: the session is in use, as the SDK itself holds it for the requests that it answers."""
        transport = self._manager._server_instances.get(session.id)  # noqa: SLF001 - private in 2.3, hence the pin
        if transport is None or transport.idle_scope is None:
            yield
            return
        transport._requests_in_flight += 1  # noqa: SLF001
        transport.idle_scope.deadline = math.inf
        try:
            yield
        finally:
            transport._requests_in_flight -= 1  # noqa: SLF001
            if not transport._requests_in_flight:  # noqa: SLF001
                transport.idle_scope.deadline = anyio.current_time() + SESSION_IDLE_S

    async def serve(
        self,
        caller: LegacyCaller,
        scope: AsgiMessage,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer one ASGI request of an authenticated caller; a session answers the principal that opened it alone.

        Raises:
            Overloaded: it would open a session too many.
        """
        if scope["method"] == "POST" and not any(name == b"mcp-session-id" for name, _ in scope["headers"]):
            self._check_room(caller.principal)
        # the SDK compares the user of each request with the one that opened the session
        user = AuthenticatedUser(AccessToken(token="", client_id=caller.principal.id, scopes=[]))
        headers = [(name, value) for name, value in scope["headers"] if name != b"accept"]
        inner = {**scope, "headers": [*headers, _ACCEPT], "user": user, _CALLER: caller}

        async def answer(message: AsgiMessage) -> None:
            if message["type"] == "http.response.start" and scope["method"] == "DELETE" and message["status"] == 200:
                self._sessions.pop(_session_id(scope), None)  # the SDK closes it a moment after its answer
            if message["type"] == "http.response.start" and caller.failure is not None:
                form = self._http_form(caller.failure)
                if form is not None:
                    message = {**message, "status": form[0], "headers": [*message["headers"], *form[1]]}
            await send(message)

        if scope["method"] == "POST":  # a GET is a stream from its first byte
            answer = PlainAnswer(answer, takes_stream=caller.takes_stream)
        try:
            if scope["method"] == "GET":
                await self._stream(inner, receive, answer)
            else:
                await self._manager.handle_request(inner, receive, answer)
        finally:
            caller.scope.cancel()

    def _check_room(self, principal: Principal) -> None:
        """Raise `Overloaded` if the principal may open no session more."""
        owners = self._manager._session_owners.values()  # noqa: SLF001 - the SDK keeps them, and counts them all together
        if sum(owner["client_id"] == principal.id for owner in owners) >= MAX_SESSIONS_OF_ONE:
            raise Overloaded("This key has too many sessions open; end some with DELETE, or let them idle out.")
        if len(owners) >= MAX_SESSIONS:
            raise Overloaded("Too many sessions are open; try again later.")

    async def _stream(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        """Answer with the stream of what a session's client is told unasked, until it leaves or that is over."""
        session = self._sessions.get(_session_id(scope))
        over = anyio.CancelScope()
        telling: list[asyncio.Task[None]] = []

        async def tell(session: Session) -> None:
            await session.tell()
            over.cancel()

        async def answer(message: AsgiMessage) -> None:
            await send(message)
            if session is not None and message["type"] == "http.response.start" and message["status"] == 200:
                telling.append(asyncio.get_running_loop().create_task(tell(session)))

        try:
            with over:
                await self._manager.handle_request(scope, receive, answer)
        finally:
            for task in telling:
                task.cancel()

    async def _answer(self, ctx: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        if ctx.method == _ROOTS:
            await self._dispatch.roots_changed(session_of(ctx))
        if ctx.request_id is None or ctx.method == "ping":
            return await call_next(ctx)
        caller: LegacyCaller = ctx.request.scope[_CALLER]
        try:
            with caller.scope:
                if ctx.method == "initialize":
                    return {**await call_next(ctx), **self._introduce(caller, ctx)}
                return await self._of_session(caller, ctx, ctx.params or {})
        except HubError as error:
            caller.failure = error
            raise MCPError(**self._error_form(error, caller.request_id)) from None
        except MCPError:
            raise
        except Exception:  # a boundary: the SDK would tell the caller the exception's own words
            logger.exception("request failed", extra={"request_id": caller.request_id})
            raise MCPError(**self._error_form(INTERNAL, caller.request_id)) from None
        raise MCPError(CANCELLED, "The client left.")

    def _introduce(self, caller: LegacyCaller, ctx: Any) -> JsonObject:
        self._join(caller, ctx)
        said: JsonObject = decode(self._dispatch.view(caller.principal, caller.path).legacy("initialize"))
        said["capabilities"]["logging"] = {}
        return said

    def _join(self, caller: LegacyCaller, ctx: Any) -> None:
        """Tell the client of changes from now on, when it reads a stream."""
        session = session_of(ctx)
        if session.subscriber is not None:
            return
        session.principal_id, session.capabilities = caller.principal.id, declared(ctx)
        hearer = Hearer(caller.principal, caller.path, caller.searches, session, session.capabilities)
        subscriber = session.subscriber = self._subscriptions.join(hearer)
        self._sessions[session.id] = session

        def leave() -> None:
            self._subscriptions.leave(subscriber)
            self._sessions.pop(session.id, None)

        session.when_closed(leave)

    async def _of_session(self, caller: LegacyCaller, ctx: Any, params: JsonObject) -> JsonObject:
        """Answer what is about the session itself."""
        if ctx.method == "logging/setLevel":
            if params.get("level") not in LEVELS:
                raise InvalidParams(f"level must be one of {', '.join(LEVELS)}", member="level")
            session_of(ctx).level = params["level"]
            return {}
        if not ctx.method.startswith("resources/"):
            raise MethodNotFound(ctx.method)
        subscriber, uri = session_of(ctx).subscriber, params.get("uri")
        if not isinstance(uri, str) or subscriber is None:
            raise InvalidParams("uri must be a string", member="uri")
        if ctx.method == "resources/subscribe":
            await self._subscriptions.subscribe(subscriber, uri, request_id=caller.request_id)
        else:
            subscriber.unsubscribe(uri)
        return {}


def _session_id(scope: AsgiMessage) -> str:
    found: bytes = dict(scope["headers"]).get(b"mcp-session-id", b"")
    return found.decode("latin-1")


async def _never_list(_context: Any, _params: PaginatedRequestParams | None) -> ListToolsResult:
    """Stand for the capability; `in_session` answers."""
    raise AssertionError("answered before")


async def _never_call(_context: Any, _params: CallToolRequestParams) -> CallToolResult:
    """Stand for the capability; `in_session` answers."""
    raise AssertionError("answered before")
