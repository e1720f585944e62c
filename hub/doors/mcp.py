"""The MCP door: `/mcp`, `/mcp/{server}`, `/mcp/{toolset}`, both eras of the protocol on the same paths.

Decides per request which era a client speaks (mcp.md 1.3) and answers in its form. The tools, and who may use them,
are `mcp_bridge`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from hub import errors
from hub.exchange import Exchange, Header
from mcp_bridge import in_session
from mcp_bridge.asking import need_of
from mcp_bridge.dispatch import Dispatch
from mcp_bridge.fastlane import LOCAL, Caller, FastLane, Posted, listed, method_of, read_body, read_message
from mcp_bridge.listener import ASK_S, NOT_ASKED, Unanswered
from mcp_bridge.listening import LISTEN, Filter, acknowledged, ended, read_filter, told
from mcp_bridge.search import MODE_HEADER
from mcp_bridge.subscriptions import Hearer, Subscriptions
from mcp_bridge.tasks import NOT_DECLARED, declares
from mcp_bridge.views import View
from mcp_bridge.wire import HTTP_STATUS, LEGACY, META_VERSION, Answer, error_message, result_message
from registry.errors import HttpMethodRefused, HubError, InvalidRequest, NotFound, Overloaded
from registry.identity import Principal
from registry.judged import JsonObject, decode
from registry.sealed.secrets import digest

if TYPE_CHECKING:
    from mcp_bridge.server import LegacyServer

PREFIX = "/mcp"
LOAD_S = 30.0
"""How long loading the SDK may take on a slow machine, once."""

OPEN_S = 15.0
"""How long a call in a session is silent before its answer becomes a stream."""

_NO_ID = b"null"
_LEGACY = frozenset(version.encode() for version in LEGACY)
_META_VERSION = f'"{META_VERSION}"'.encode()


class McpDoor:
    """One MCP server to its clients, made of all servers behind the hub."""

    def __init__(self, dispatch: Dispatch, subscriptions: Subscriptions) -> None:
        self._dispatch = dispatch
        self._subscriptions = subscriptions
        self._lane = FastLane(dispatch)
        self._legacy_wanted = asyncio.Event()
        self._legacy_ready = asyncio.Event()
        self._legacy: LegacyServer | None = None

    async def run(self) -> None:
        """Hold the sessions of older clients until cancelled; the SDK, some 25 MB, is loaded when the first comes."""
        await self._legacy_wanted.wait()
        legacy = await asyncio.to_thread(_load)
        self._legacy = legacy(self._dispatch, self._subscriptions, error_form=errors.mcp, http_form=_http_form)
        await self._legacy.run(self._legacy_ready)

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        path = _path(exchange)
        version = exchange.headers.get(b"mcp-protocol-version", b"").strip(b" \t")
        is_legacy = version in _LEGACY or (not version and b"mcp-session-id" in exchange.headers)
        try:
            posted = read_body(await exchange.body()) if exchange.method == "POST" else None
            if self._dispatch.prepares:
                await self._prepare(exchange.principal, path, posted)
            view = self._dispatch.view(exchange.principal, path)
            if posted is None:
                if not is_legacy or exchange.method not in {"GET", "DELETE"}:
                    raise HttpMethodRefused("POST")
                await self._serve_legacy(exchange, path, searches=False)
                return
            searches = view.searches(exchange.headers.get(MODE_HEADER), exchange.principal.mcp_mode)
        except HubError as error:
            await _refuse(exchange, error, _NO_ID)
            return
        if is_legacy or (not version and _META_VERSION not in bytes(posted.top.get("params", b""))):
            if not await self._in_session(exchange, posted, view, searches=searches):
                await self._serve_legacy(exchange, path, searches=searches)
        else:
            await self._serve_modern(exchange, posted, view, searches=searches)

    async def _prepare(self, principal: Principal, path: str, posted: Posted | None) -> None:
        """Wait a while for what is not known yet of that which a request is about."""
        need = need_of(posted.top, posted.params) if posted is not None else None
        paths = (path,) if need is not None and need.any else ()
        await self._dispatch.prepare(principal, paths, named=need.named if need is not None else None)

    async def _serve_modern(self, exchange: Exchange, posted: Posted, view: View, *, searches: bool) -> None:
        request_id = posted.top.get("id")
        if request_id is None:
            await exchange.reply(202, b"")
            return
        answer = _Answering(exchange, request_id)
        try:
            _check_id(request_id)
        except HubError as error:
            await _refuse(exchange, error, _NO_ID)
            return
        try:
            message = read_message(posted, exchange.headers, exchange.raw_headers)
            caller = Caller(
                principal=exchange.principal,
                view=view,
                searches=searches,
                headers=exchange.raw_headers,
                request_id=exchange.request_id,
                listener=answer,
            )
            if message.method == LISTEN:
                hearer = Hearer(exchange.principal, _path(exchange), searches, meta=message.meta)
                wanted = read_filter(message.params)
                if wanted.tasks and not declares(message.meta):
                    await answer.give(NOT_DECLARED)
                else:
                    await self._listen(exchange, request_id, hearer, wanted)
                return
            if message.method in LOCAL:
                result: bytes | Answer = listed(message, caller)
            else:
                with exchange.until_gone():
                    result = await self._lane.answer(message, caller)
        except HubError as error:
            await answer.refuse(error)
        else:
            await answer.give(result)

    async def _listen(self, exchange: Exchange, request_id: msgspec.Raw, hearer: Hearer, asked: Filter) -> None:
        """Answer with a stream of changes, until the client leaves, its key is revoked or the hub stops."""
        with self._subscriptions.listening(hearer, asked) as (subscriber, wanted):
            await exchange.start(200)
            with exchange.until_gone():
                await exchange.write(_event(acknowledged(request_id, wanted)))
                while (news := await subscriber.next()) is not None:
                    await exchange.write(_event(told(request_id, *news)))
                await exchange.write(_event(b"".join(result_message(request_id, ended(request_id)))))

    async def _in_session(self, exchange: Exchange, posted: Posted, view: View, *, searches: bool) -> bool:
        """Answer what is posted in a session of the caller's; False: that is the SDK's to do."""
        session_id = exchange.headers.get(b"mcp-session-id")
        if self._legacy is None or session_id is None:
            return False
        session = self._legacy.session(session_id, exchange.principal)
        if session is None:
            return False
        request_id = posted.top.get("id")
        if request_id is None or "method" not in posted.top:
            taken = session.take(posted.top)
            if taken:
                await exchange.reply(202, b"")
            return taken
        answer = _InSession(exchange, request_id, session)
        try:
            _check_id(request_id)
            method = method_of(posted.top)
            if method in in_session.OF_SDK:
                return False
            caller = in_session.Caller(
                principal=exchange.principal.in_session("mcp", digest(session_id)),
                session=session,
                view=view,
                searches=searches,
                takes_stream=answer.takes_stream,
                headers=exchange.raw_headers,
                request_id=exchange.request_id,
                listener=answer,
            )
            with self._legacy.busy(session):
                if method in in_session.LISTED:
                    result = await in_session.answer(self._dispatch, caller, method, posted.params)
                else:
                    with exchange.until_gone(), answer.kept_open(), session.call(request_id):
                        result = await in_session.answer(self._dispatch, caller, method, posted.params)
        except in_session.CallCancelled:
            await answer.give(in_session.CANCELLED_ANSWER)
        except HubError as error:
            await answer.refuse(error)
        else:
            await answer.give(result)
        return True

    async def _serve_legacy(self, exchange: Exchange, path: str, *, searches: bool) -> None:
        self._legacy_wanted.set()
        try:
            async with asyncio.timeout(LOAD_S):
                await self._legacy_ready.wait()
        except TimeoutError:
            await _refuse(exchange, Overloaded("The hub is still starting; try again."), _NO_ID)
            return
        assert self._legacy is not None
        from mcp_bridge.server import LegacyCaller  # noqa: PLC0415 - loads the SDK; loaded by `run` before

        takes_stream = _takes_stream(exchange)
        caller = LegacyCaller(exchange.principal, path, exchange.request_id, searches, takes_stream=takes_stream)
        scope, receive, send = exchange.asgi()
        try:
            await self._legacy.serve(caller, scope, receive, send)
        except Overloaded as error:
            await _refuse(exchange, error, _NO_ID)


class _Answering:
    """One modern request's answer: JSON, or an event stream once the upstream says something before its result."""

    __slots__ = ("_exchange", "_id", "front")

    def __init__(self, exchange: Exchange, request_id: msgspec.Raw) -> None:
        self.front: in_session.Session | None = None
        self._exchange = exchange
        self._id = request_id

    async def opened(self) -> None:
        """As `Listener.opened`."""
        if not self._exchange.started:
            await self._exchange.start(200)

    async def notified(self, message: bytes) -> None:
        """As `Listener.notified`."""
        await self.opened()
        await self._exchange.write(_event(message))

    async def asked(self, method: str, params: JsonObject) -> JsonObject:
        """As `Listener.asked`: never called, it has no `front`."""
        raise Unanswered(NOT_ASKED, "a client of 2026-07-28 is asked by input_required")

    def give(self, result: bytes | Answer) -> Awaitable[None]:
        """Answer with a result, or with the upstream's own error."""
        if isinstance(result, Answer):
            assert result.error is not None, "the lane encodes results"
            return self._end(HTTP_STATUS.get(result.error_code, 200), error_message(self._id, result.error))
        return self._end(200, result_message(self._id, result))

    async def refuse(self, error: HubError) -> None:
        """Answer with an error of the hub's."""
        self._exchange.failure = error
        if self._exchange.started:
            await self._end(200, error_message(self._id, errors.mcp(error, self._exchange.request_id)))
        else:
            await _refuse(self._exchange, error, self._id)

    def _end(self, status: int, message: bytes | tuple[bytes, ...]) -> Awaitable[None]:
        if self._exchange.started:
            return self._exchange.write(_event(b"".join(message) if isinstance(message, tuple) else message))
        return self._exchange.reply(status, message)


class _InSession(_Answering):
    """The same for a request in a session, whose client can be asked on the stream; all errors are JSON-RPC's own."""

    __slots__ = ("_session", "takes_stream")

    def __init__(self, exchange: Exchange, request_id: msgspec.Raw, session: in_session.Session) -> None:
        super().__init__(exchange, request_id)
        self.front = self._session = session
        self.takes_stream = _takes_stream(exchange)
        """Whether the client can be told anything before its answer."""

    async def opened(self) -> None:
        """As `Listener.opened`: the answer becomes a stream with the first thing told."""

    async def notified(self, message: bytes) -> None:
        """As `Listener.notified`."""
        if self.takes_stream:
            await super().opened()
            await self._exchange.write(_event(message))

    async def asked(self, method: str, params: JsonObject) -> JsonObject:
        """As `Listener.asked`."""
        if not self.takes_stream:
            raise in_session.not_asked()
        return await in_session.ask(self._session, self.notified, method, params, within_s=ASK_S[method])

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """`with`: an answer that is not there after a while becomes a stream, so that no proxy cuts a silent connection."""
        loop = asyncio.get_running_loop()
        opening: list[asyncio.Task[None]] = []
        timer = loop.call_later(OPEN_S, lambda: opening.append(loop.create_task(super(_InSession, self).opened())))
        try:
            yield
        finally:
            timer.cancel()

    def give(self, result: bytes | Answer) -> Awaitable[None]:
        """Answer with a result, or with an error, of whatever kind."""
        if isinstance(result, Answer):
            assert result.error is not None, "results are encoded"
            return self._end(200, error_message(self._id, result.error))
        return self._end(200, result_message(self._id, result))

    async def refuse(self, error: HubError) -> None:
        """Answer with an error of the hub's."""
        self._exchange.failure = error
        row = errors.row_of(error)
        message = error_message(self._id, errors.mcp(error, self._exchange.request_id))
        if self._exchange.started or not row.http:
            await self._end(200, message)
        else:
            await self._exchange.reply(row.status, message, headers=errors.extra_headers(error))


def _takes_stream(exchange: Exchange) -> bool:
    accepted = exchange.headers.get(b"accept", b"")
    return b"text/event-stream" in accepted or b"*/*" in accepted or b"text/*" in accepted


def _path(exchange: Exchange) -> str:
    return exchange.path.removeprefix(PREFIX).strip("/")


def _event(message: bytes) -> bytes:
    """Frame a message; raw line ends in JSON stand between its tokens only, and would end the data."""
    return b"event: message\ndata: %b\n\n" % message.replace(b"\n", b" ").replace(b"\r", b" ")


def _check_id(request_id: msgspec.Raw) -> None:
    """Refuse an id that is neither string nor integer; null is not one (2026-07-28, Base Protocol, Requests)."""
    value = decode(request_id)
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise InvalidRequest("id must be a string or an integer", member="id")


def _http_form(error: HubError) -> tuple[int, list[Header]] | None:
    row = errors.row_of(error)
    return (row.status, errors.extra_headers(error)) if row.http else None


async def _refuse(exchange: Exchange, error: HubError, request_id: bytes | msgspec.Raw) -> None:
    exchange.failure = error
    row = errors.row_of(error)
    status = row.status if row.http else HTTP_STATUS.get(row.mcp, 200)
    if isinstance(error, NotFound) and error.kind == "server":
        status = 404  # the path leads nowhere
    message = error_message(request_id, errors.mcp(error, exchange.request_id))
    await exchange.reply(status, message, headers=errors.extra_headers(error))


def _load() -> type[LegacyServer]:
    from mcp_bridge.server import LegacyServer  # noqa: PLC0415 - loads the SDK, which costs a second

    return LegacyServer
