"""Requests of clients of 2025-11-25 and older in an open session, in own code on bytes: what `fastlane` is to 2026-07-28.

The SDK opens, holds and ends sessions, and has the stream on which clients are told unasked. What a server asks during a call
is asked on the stream that the call's answer becomes then; its client answers by a POST of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import msgspec

from mcp_bridge import consent
from mcp_bridge.agent_tools import with_headers
from mcp_bridge.asking import Asked, read_request
from mcp_bridge.dispatch import Dispatch
from mcp_bridge.findable import as_tool_result
from mcp_bridge.listener import NOT_ANSWERED, NOT_ASKED, NOTHING, Listener, Unanswered
from mcp_bridge.listing import LISTS
from mcp_bridge.outcome import check_complete
from mcp_bridge.search import Chosen
from mcp_bridge.subscriptions import Subscriber
from mcp_bridge.views import View
from mcp_bridge.wire import META_CAPABILITIES, META_LOG_LEVEL, Answer, as_legacy
from registry.deadline import Cancellation
from registry.entries import Prompt
from registry.errors import ConsentNeeded, InvalidParams, InvalidRequest
from registry.identity import Principal
from registry.judged import JsonObject, RawObject, decode, encode, read_object
from registry.sealed.secrets import new_id

LISTED = frozenset(of.method for of in LISTS.values())

OF_SDK = frozenset({"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"})
"""Requests about the session itself."""

CANCELLED = -32800
CANCELLED_ANSWER = Answer(error=msgspec.Raw(encode({"code": CANCELLED, "message": "The client gave the call up."})))

Notify = Callable[[str, JsonObject | None], Awaitable[None]]


class CallCancelled(Exception):
    """The client gave the call up, or ended its session."""


class Session:
    """What the hub keeps of one session."""

    def __init__(self, session_id: str, notify: Notify) -> None:
        """`notify` sends on the stream that the client reads, if it reads one."""
        self.id = session_id
        self.principal_id = ""
        self.capabilities = NOTHING
        """Which of a server's questions its client answers, encoded."""
        self.level: str | None = None
        """What `logging/setLevel` asked for."""
        self.subscriber: Subscriber | None = None
        """What its client is told unasked; None: its handshake is not done."""
        self._notify = notify
        self._callbacks: list[Callable[[], None]] = []
        self._calls: dict[bytes, _Call] = {}
        self._questions: dict[str, asyncio.Future[JsonObject]] = {}

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
        """Tell everybody that the session has ended; its calls end with it."""
        for callback in self._callbacks:
            callback()
        self._callbacks.clear()
        for call in self._calls.values():
            call.ask()
        for question in self._questions.values():
            question.cancel()

    def call(self, request_id: msgspec.Raw) -> AbstractContextManager[None]:
        """`with`: a call that the client can cancel; it then ends with `CallCancelled`."""
        return _Call(self._calls, bytes(request_id))

    @contextmanager
    def question(self) -> Iterator[tuple[str, asyncio.Future[JsonObject]]]:
        """The id of a request to the client, and the response to come."""
        number = new_id("ask")
        response = self._questions[number] = asyncio.get_running_loop().create_future()
        try:
            yield number, response
        finally:
            del self._questions[number]

    def take(self, posted: RawObject) -> bool:
        """Take a posted message that is no request, if it is about a call or a question here."""
        if "method" not in posted:
            response = self._questions.get(_text(posted.get("id")))
            if response is not None and not response.done():
                response.set_result({name: decode(raw) for name, raw in posted.items()})
            return response is not None
        if _text(posted["method"]) != "notifications/cancelled":
            return False
        try:
            call = self._calls.get(bytes(read_object(posted["params"])["requestId"]))
        except (KeyError, InvalidRequest):
            return False
        if call is not None:
            call.ask()
        return call is not None


class _Call(Cancellation):
    """One call under way."""

    _calls: dict[bytes, _Call]
    _id: bytes

    def __enter__(self) -> None:
        self._calls[self._id] = self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if self._calls.get(self._id) is self:
            del self._calls[self._id]
        if self.taken_back(kind):
            raise CallCancelled from None


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who sent a request, what they see, and who is told what an upstream says meanwhile."""

    principal: Principal
    session: Session
    view: View
    searches: bool
    """Whether the caller is served in search mode."""
    takes_stream: bool
    """Whether it can be told, and asked, anything before its answer."""
    headers: Sequence[tuple[bytes, bytes]]
    request_id: str
    listener: Listener


async def answer(dispatch: Dispatch, caller: Caller, method: str, params: RawObject) -> bytes | Answer:
    """Return the encoded result, or an answer that is an error; raises `HubError` of any kind."""
    view = caller.view
    if method in LISTED:
        if bytes(params.get("cursor", b"null")) != b"null":
            raise InvalidParams("There is no such cursor: the list has one page.", member="cursor")
        if caller.searches and method == "tools/list":
            return encode({"tools": view.search.listed()})
        return view.legacy(method)
    members = params.copy()
    meta = _envelope(caller, members.pop("_meta", None))
    try:
        result = await _result(dispatch, caller, method, members, meta)
    except ConsentNeeded as needed:
        if consent.takes_urls(meta):
            return Answer(error=msgspec.Raw(encode(consent.error_of(needed))))
        if method != "tools/call":
            raise
        return encode(consent.result_of(needed))
    return result if isinstance(result, Answer) else encode(as_legacy(result))


async def _result(
    dispatch: Dispatch, caller: Caller, method: str, members: RawObject, meta: RawObject
) -> RawObject | Answer:
    is_chosen = False
    if caller.searches and method == "tools/call":
        searched = await caller.view.search.answer(members, dispatch.seeker(caller.principal, caller.request_id))
        if isinstance(searched, Chosen):
            is_chosen = searched.method != method  # a model's call of a prompt
            method, members = searched
        elif searched is not None:
            return searched
    asked = read_request(caller.view, method, members, meta)
    if not isinstance(asked, Asked):
        return asked
    request = with_headers(asked.callee, asked.request, caller.headers)
    found = await dispatch.relay(
        caller.principal, asked.callee, request, request_id=caller.request_id, listener=caller.listener
    )
    if found.result is None:
        return found
    check_complete(found, asked.callee)
    result = caller.view.shown(asked.callee, found.result)
    return as_tool_result(asked.callee, result) if is_chosen and isinstance(asked.callee, Prompt) else result


def _envelope(caller: Caller, meta: msgspec.Raw | None) -> RawObject:
    """The request's `_meta` with what a client of 2026-07-28 would say of itself in it."""
    said = read_object(meta, "_meta") if meta is not None and bytes(meta).startswith(b"{") else {}
    session = caller.session
    envelope = {**said, META_CAPABILITIES: session.capabilities if caller.takes_stream else NOTHING}
    if session.level is not None:
        envelope[META_LOG_LEVEL] = msgspec.Raw(encode(session.level))
    return envelope


async def ask(
    session: Session, tell: Callable[[bytes], Awaitable[None]], method: str, params: JsonObject, *, within_s: float
) -> JsonObject:
    """Ask a session's client on a stream that it reads, and return its result.

    Raises:
        Unanswered: it answered with an error, or not at all.
    """
    with session.question() as (number, response):
        await tell(encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))
        try:
            async with asyncio.timeout(within_s):
                await asyncio.wait([response])
        except TimeoutError:
            await tell(encode({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}))
            raise Unanswered(NOT_ANSWERED, "the client did not answer in time") from None
        if response.cancelled():
            raise Unanswered(NOT_ANSWERED, "the client has left")
    said = response.result()
    result, error = said.get("result"), said.get("error")
    if isinstance(result, dict):
        return result
    if isinstance(error, dict) and isinstance(error.get("code"), int):
        raise Unanswered(error["code"], str(error.get("message", "")))
    raise Unanswered(NOT_ANSWERED, "the client's answer is not MCP")


def not_asked() -> Unanswered:
    """Why a client that takes no stream is not asked."""
    return Unanswered(NOT_ASKED, "the client takes no stream, so it cannot be asked")


def _text(raw: msgspec.Raw | None) -> str:
    found = decode(raw) if raw is not None else None
    return found if isinstance(found, str) else ""
