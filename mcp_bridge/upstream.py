"""One server behind the hub, asked in whichever revision fits its caller and itself (mcp.md 1.3).

A server that speaks both eras is asked in its caller's. Otherwise what it asks and tells is bridged: a legacy client is
asked on its session by requests, a modern one by `input_required` and a retry. 2026-07-28 over HTTP needs no connection;
older HTTP servers and stdio servers have owners of theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType

import msgspec

from mcp_bridge import modern
from mcp_bridge.feed import Feed
from mcp_bridge.handles import Handles
from mcp_bridge.legacy import is_legacy
from mcp_bridge.legacy_tasks import awaited
from mcp_bridge.line import Line
from mcp_bridge.listener import Front, Listener, declared, interactive, passed_on
from mcp_bridge.modern import NotModern
from mcp_bridge.oauth.credentials import Credential
from mcp_bridge.openapi.upstream import OpenApi
from mcp_bridge.owner import STOP_S, Owner
from mcp_bridge.parking import Parking
from mcp_bridge.rounds import (
    LASTS_S,
    METHODS,
    RETRY_MEMBERS,
    Round,
    about,
    asks,
    drive,
    input_required,
    read_retry,
    read_round,
    retried,
)
from mcp_bridge.sessions import Sessions
from mcp_bridge.ways import Stream
from mcp_bridge.wire import Answer, Request
from registry.deadline import Cancellation
from registry.egress.http import Sender
from registry.entries import Server
from registry.errors import UpstreamInvalid, UpstreamTimeout, UpstreamUnavailable
from registry.gate import Gate, Permit
from registry.identity import HUB, Principal
from registry.judged import JsonObject, decode, encode


@dataclass(frozen=True, slots=True)
class Access:
    """How a server is reached for a principal."""

    sender: Sender
    credential: Credential | None
    api: OpenApi | None
    """Of a server that is an OpenAPI document."""
    line: Line
    """Of the server's calls, whoever reaches it."""
    lists_changed: Callable[[], None]
    """Called when the server says that what it offers changed."""


class Upstream:
    """One server, ready to be asked."""

    def __init__(
        self, server: Server, owner: Owner, sessions: Sessions, *, gate: Gate, handles: Handles, access: Access
    ) -> None:
        self.server = server
        self.owner = owner
        """Of the connection that is shared, with whoever nothing can be asked of."""
        self._sessions = sessions
        self._gate = gate
        self._egress = access.sender
        self._credential = access.credential
        self._api = access.api
        self._handles = handles
        self._parking = Parking(server.name, handles)
        self._is_modern: bool | None = None
        self._is_legacy: bool | None = None
        """Whether it speaks older revisions too; not asked before an older client comes."""
        self._probing = asyncio.Lock()
        self._calls: set[_Stoppable] = set()
        self._line = access.line
        stream = Stream(server.name, self._listen, self._broken)
        self._feed = Feed(server.name, stream, lists_changed=access.lists_changed)
        """What it tells in 2026-07-28 over HTTP, without a connection."""

    @property
    def token(self) -> str:
        """The access token that the server is shown now; empty: none."""
        return self._credential.access if self._credential is not None else ""

    async def request(self, request: Request, permit: Permit, *, listener: Listener | None = None) -> Answer:
        """Ask the server, in the revision of `listener` where it speaks that, and in its own where not.

        An answer may ask a `listener` of 2026-07-28 for input; the retry comes here as another request.

        Raises:
            InvalidParams: a retry of a call that is not this one, or is over.
            Overloaded: too many calls or sessions of this kind are under way.
            UpstreamError: no answer, or the server was switched off meanwhile.
        """
        line, principal_id = self._line, permit.principal.id
        if not line.entered(principal_id):
            await line.wait(principal_id)
        try:
            if self._credential is not None and self._api is None:  # before a connection is opened in vain
                await self._credential.tokens()
            with _Stoppable(self._calls, permit.entry_name):
                answer = await self._answer(request, permit, listener)
                if asks(answer):
                    answer = await self._more(answer, request, permit, listener)
        except (UpstreamUnavailable, UpstreamTimeout):
            line.failed()
            raise
        except BaseException:
            line.undecided()
            raise
        else:
            line.answered()
        finally:
            line.leave(principal_id)
        return answer

    def _answer(self, request: Request, permit: Permit, listener: Listener | None) -> Awaitable[Answer]:
        if self._api is not None:
            return self._api.request(request, permit, self._egress)
        if not RETRY_MEMBERS.isdisjoint(request.params) and request.method != "tasks/update":
            return self._retried(request, permit, listener)
        return self._ask(request, permit, listener)

    async def _retried(self, request: Request, permit: Permit, listener: Listener | None) -> Answer:
        retry = read_retry(request)
        first, state = retry.request, None
        if retry.state is not None and listener is not None and listener.front is None:
            bound = about(first, self.server, permit.principal)
            opened = self._handles.open(retry.state, about=bound)
            if "parked" in opened:
                return await self._parking.resume(opened["parked"], retry.responses, listener, about=bound)
            state = opened["state"]
        answer = await self._ask(retried(first, retry.responses, state), permit, listener)
        return answer if not asks(answer) else await self._more(answer, first, permit, listener)

    async def _more(self, answer: Answer, request: Request, permit: Permit, listener: Listener | None) -> Answer:
        """Have a modern server's questions answered: by a legacy client now, by a modern one in a retry."""
        if listener is None:
            return answer
        if listener.front is not None:

            async def send(again: Request) -> Answer:
                return await self._ask(again, permit, listener)

            return await drive(send, request, answer, server=self.server, listener=listener)
        found = read_round(answer, request, self.server)
        if found.state is not None:
            bound = about(request, self.server, permit.principal)
            state = self._handles.seal({"state": found.state}, about=bound, lasts_s=LASTS_S)
            found = Round(found.questions, state)
        return input_required(found)

    async def _ask(self, request: Request, permit: Permit, listener: Listener | None) -> Answer:
        front = listener.front if listener is not None else None
        for _ in range(2):
            if not ((self._is_modern and front is None) or await self._mirrors_modern(front)):
                return await self._connected(request, permit, listener)
            try:
                return await modern.post(self._egress, self.server, permit=permit, request=request, listener=listener)
            except NotModern:  # replaced by an older one since it was probed; ask again
                self._is_modern = None
        raise UpstreamInvalid(permit.entry_name, "it does not settle on a protocol version")

    async def ready(self) -> None:
        """Connect if that is needed, so that a deadline after it is the server's own; raises `UpstreamError`."""
        if self._api is None and (self.server.command is not None or not await self._speaks_modern()):
            await self.owner.connection()

    async def introduction(self, permit: Permit) -> JsonObject:
        """What the server says of itself: the result of `server/discover` or `initialize`; raises `UpstreamError`."""
        if self._api is not None:
            return {"capabilities": {"tools": {}}}
        if self.server.command is None and await self._speaks_modern():
            answer = await self.request(Request(method="server/discover"), permit)
            if answer.result is None:
                raise UpstreamInvalid(self.server.name, "it answered server/discover with an error")
            return {member: decode(raw) for member, raw in answer.result.items()}
        return (await self.owner.connection()).introduction

    async def feed(self, principal: Principal, front: Front | None, capabilities: msgspec.Raw) -> Feed:
        """Where a caller hears what the server tells: over what their calls take. `capabilities` are the client's.

        Raises:
            Overloaded: too many sessions of this kind are open.
            UpstreamError: it cannot be reached.
        """
        if self._credential is not None:
            await self._credential.tokens()
        if await self._mirrors_modern(front):
            return self._feed
        found = interactive(bytes(passed_on(bytes(capabilities), sampling=self.server.sampling)))
        return (await self._owner_of(principal, front, found, asks=bytes(found) != b"{}")).feed

    def follow_lists(self, wanted: bool) -> None:
        """Have the server, which was just listed, say when its lists change, or no more."""
        if self._api is None:
            feed = self._feed if self.server.command is None and self._is_modern else self.owner.feed
            feed.follow_lists(wanted)

    async def roots_changed(self, front: Front) -> None:
        """As `Dispatch.roots_changed`."""
        owner = self._sessions.kept(front)
        if owner is not None:
            await owner.notify("notifications/roots/list_changed")

    def _broken(self) -> None:
        self._feed.broken()

    async def _listen(self, notifications: JsonObject) -> None:
        with self._gate.admit(HUB, self.server) as permit:
            try:
                await modern.listen(
                    self._egress, self.server, permit=permit, notifications=notifications, told=self._feed.told
                )
            except NotModern:
                self._is_modern = None
                raise

    async def _mirrors_modern(self, front: Front | None) -> bool:
        """Whether to ask in 2026-07-28, without a connection: the server speaks it, and its caller or it nothing else."""
        if self.server.command is not None or not await self._speaks_modern():
            return False
        if front is None:
            return True
        if self._is_legacy is None:
            async with self._probing:
                if self._is_legacy is None:
                    self._is_legacy = await self._probe(is_legacy)
        return not self._is_legacy

    async def _speaks_modern(self) -> bool:
        if self._is_modern is None:
            async with self._probing:
                if self._is_modern is None:
                    self._is_modern = not self.server.is_sse and await self._probe(modern.is_modern)
        return self._is_modern

    async def _probe(self, speaks: Callable[[Sender, Server, Permit], Awaitable[bool]]) -> bool:
        with self._gate.admit(HUB, self.server) as permit:
            try:
                async with asyncio.timeout(modern.PROBE_S):
                    return await speaks(self._egress, self.server, permit)
            except TimeoutError:
                raise UpstreamTimeout(self.server.name, "it did not say in time which version it speaks") from None

    async def _connected(self, request: Request, permit: Permit, listener: Listener | None) -> Answer:
        """Ask over a connection: the front session's own, a leased one if the caller can be asked, or the shared one."""
        capabilities = interactive(bytes(passed_on(bytes(declared(request.meta)), sampling=self.server.sampling)))
        asks = bytes(capabilities) != b"{}" and request.method in METHODS
        if listener is None or listener.front is not None or not asks:
            front = listener.front if listener is not None else None
            owner = await self._owner_of(permit.principal, front, capabilities, asks=asks)
            return await self._over(owner, request, permit, listener)
        if self.server.command is not None and (await self.owner.connection()).is_modern:
            return await self._over(self.owner, request, permit, listener)
        principal = permit.principal

        async def leased(present: Listener) -> Answer:
            async with self._sessions.lease(principal.id, capabilities) as owner:
                return await self._over(owner, request, permit, present)

        bound = about(request, self.server, principal)
        return await self._parking.call(principal.id, leased, listener, about=bound)

    async def _owner_of(
        self, principal: Principal, front: Front | None, capabilities: msgspec.Raw, *, asks: bool
    ) -> Owner:
        """The shared connection, or a front session's own: over HTTP always, else if its client can be asked something."""
        is_stdio = self.server.command is not None
        if front is None or (is_stdio and (not asks or (await self.owner.connection()).is_modern)):
            return self.owner
        return self._sessions.of_front(front, principal.id, capabilities)

    async def _over(self, owner: Owner, request: Request, permit: Permit, listener: Listener | None) -> Answer:
        from mcp_bridge.connection import UpstreamFault  # noqa: PLC0415 - loads the SDK, which costs a second

        async def send(one: Request) -> JsonObject:
            return await owner.request(one, permit, listener)

        try:
            if request.as_task and not (await owner.connection()).is_modern:
                result = await awaited(send, request, self.server.name)
            else:
                result = await send(request)
        except UpstreamFault as fault:
            return Answer(error=msgspec.Raw(encode(fault.error)))
        except UpstreamUnavailable:
            if self.server.command is None:
                self._is_modern = self._is_legacy = None  # it may come back as another
            raise
        return Answer(result={name: msgspec.Raw(encode(value)) for name, value in result.items()})

    async def stop(self, *, drain_s: float) -> None:
        """End the connections and what is parked; without `drain_s` the calls under way end now."""
        if not drain_s:
            for call in self._calls:
                call.ask()
        await self._feed.stop()
        parked = self._parking.stop(at_once=not drain_s)
        await asyncio.gather(self.owner.stop(drain_s=drain_s), self._sessions.stop(drain_s=drain_s))
        if parked:
            await asyncio.wait(parked, timeout=STOP_S)


class _Stoppable(Cancellation):
    """`with`: a call that `stop` ends at once, as one whose server was switched off. Use inside a task."""

    _calls: set[_Stoppable]
    _entry: str

    def __enter__(self) -> None:
        self._calls.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._calls.discard(self)
        if self.taken_back(kind):
            raise UpstreamUnavailable(self._entry, "it was switched off") from None
