"""The one agent call: check whose it is, send it, note what comes back, hand it on.

Owns no cards (`discovery`), no owners (`ledger`), no events (`streams`), nothing of push (`push_wishes`). Where client and
agent speak the same, bytes are passed on; else the call is made in canonical form. A unary call is finished and recorded once
it was sent, whoever still listens; a stream that is left only closes its connection. A task is cancelled at the agent only if
its time is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple

from agents import answers, screening, wire
from agents.answers import Answer, Sighting
from agents.discovery import Discovery, Found, Published, Route
from agents.instances import Instances, answered
from agents.judging import judged_ask, left_of, rewritten
from agents.pages import Pages
from agents.push_wishes import PushWishes
from agents.quirks import Quirk
from agents.shown import Shown, is_over
from agents.speech import PUSH, SPEECHES, Ask, Operation, Speech
from agents.streams import Begun, Streams
from agents.upstream import Heard, extensions_of, whole
from agents.watching import Watching
from agents.wire import Request
from registry import judged
from registry.discreet import discreet
from registry.egress.http import Egress, Outgoing
from registry.entries import Agent, Headers
from registry.errors import UpstreamError, UpstreamInvalid, UpstreamTimeout, unsent
from registry.gate import Permit
from registry.judged import JsonObject

MADE_HERE: frozenset[Operation] = PUSH | {"ListTasks", "GetExtendedAgentCard"}
"""Operations whose answers are the hub's own, or built anew by it."""

OWN_WORDS: frozenset[Operation] = PUSH | {"GetExtendedAgentCard"}
"""Operations in whose answers guards have nothing to look at: what the caller configured, and a card that the hub signs."""

FROM_ALL: frozenset[Operation | None] = PUSH | {"ListTasks"}
"""Operations that are about no single instance of an agent."""

MESSAGES: frozenset[Operation | None] = frozenset({"SendMessage", "SendStreamingMessage"})  # all that limits count

JSONRPC_SPEECHES = {"1.0": Speech("JSONRPC", "1.0"), "0.3": Speech("JSONRPC", "0.3")}


class Stream(NamedTuple):
    """A stream under way."""

    batches: AsyncGenerator[list[Shown]]
    extensions: str | None = None
    echoes: bool = False
    """JSON-RPC events bear the client's own request id."""


class AgentCaller:
    """Calls agents. One for a process; safe to use from several tasks."""

    def __init__(
        self,
        egress: Egress,
        *,
        discovery: Discovery,
        streams: Streams,
        wishes: PushWishes,
        instances: Instances,
        watching: Watching,
    ) -> None:
        self._watching = watching
        self._egress = egress
        self._discovery = discovery
        self._ledger = streams.ledger
        self._upstream = streams.upstream
        self._streams = streams
        self._push = streams.push
        self._wishes = wishes
        self._instances = instances
        most = egress.max_answer_bytes
        self._pages = Pages(self._upstream, ledger=self._ledger, instances=instances, find=self._find, max_bytes=most)

    async def card(self, entry: Agent) -> Published:
        """The hub's card of an agent.

        Raises:
            UpstreamError: the agent cannot be asked, or offers no card.
        """
        published = (await self._find(entry)).published
        if published is None:
            raise UpstreamInvalid(entry.name, "it offers no agent card")
        return published

    def quirks(self, entry: Agent) -> list[Quirk]:
        """What the agent was seen to do otherwise than A2A says, since the hub started."""
        return self._upstream.quirks.of(entry)

    def instances(self, entry: Agent) -> list[JsonObject]:
        """How the instances of an agent do, if it has several."""
        return self._instances.shown(entry)

    def call(self, permit: Permit, entry: Agent, request: Request, forwarded: Headers) -> Coroutine[None, None, Heard]:
        """Make a JSON-RPC client's unary call within `permit`. Every id in the reply is recorded before this returns.

        Raises:
            NotFound: a task or context of the request is not the caller's.
            UpstreamError: the agent failed, or showed what is somebody else's.
        """
        call = self._judged if permit.unjudged else self._passed
        return call(permit, entry, request, forwarded)

    async def _judged(self, permit: Permit, entry: Agent, request: Request, forwarded: Headers) -> Heard:
        """As `call`, where rules or guards are to be asked."""
        ask = await left_of(permit, request, forwarded)
        operation, speech = request.envelope.operation, JSONRPC_SPEECHES[request.envelope.version]
        assert operation is not None
        if ask is None:
            heard = self._passed(permit, entry, request, forwarded)
        else:
            heard = self._asked(permit, entry, request, ask)
        return await self._screened(permit, entry, speech, operation, heard)

    async def _passed(self, permit: Permit, entry: Agent, request: Request, forwarded: Headers) -> Heard:
        """As `call`, before guards looked at what comes back."""
        operation, speech = request.envelope.operation, JSONRPC_SPEECHES[request.envelope.version]
        permit.due = permit.due and operation in MESSAGES
        if entry.urls and entry.is_several and operation not in FROM_ALL:
            again = lambda one: answered(self._passed(permit, one, request, forwarded))  # noqa: E731
            async with self._instances.lend(permit, entry, request, again) as heard:
                return heard
        route = (self._discovery.remembered(entry) or await self._find(entry)).choose(speech)
        if route.speech != speech or operation in MADE_HERE or request.push is not None or permit.is_timed:
            return await self._asked(permit, entry, request, wire.canonical(request, forwarded))
        permit.join(await self._ledger.check(entry.name, permit.principal, request))
        if entry.auth is not None or self._upstream.contexts.matter(entry, request):
            return await self._asked(permit, entry, request, wire.canonical(request, forwarded))
        async with self._egress.send(permit, self._outgoing(entry, route, request, forwarded)) as incoming:
            body = await whole(entry, route.speech, incoming)
            extensions = extensions_of(incoming)
        answer = answers.read_answer(body)
        if answer is None:
            raise UpstreamInvalid(entry.name, "its answer is not A2A JSON-RPC")
        body = _with_id(body, answer, request)
        seen = answer.seen
        if seen is None:
            return Heard(None, extensions, discreet(entry, judged.encode(judged.decode(body))))  # escapes could hide it
        await self._record(permit, entry, request, seen)
        permit.join(seen.context_id)
        if entry.call_usd is not None and operation == "SendMessage":
            permit.charge(entry.call_usd)
        if _waits(operation, seen) and wire.wants_end(params := wire.canonical(request, ()).params):
            assert seen.task_id is not None
            return Heard({"task": await self._settled(permit, entry, route, seen.task_id, params)}, extensions)
        if seen.fits(speech, operation):
            return Heard(None, extensions, body, is_json=True)
        assert operation is not None
        return Heard(self._upstream.result_of(entry, speech, operation, body), extensions)

    async def _asked(self, permit: Permit, entry: Agent, request: Request, ask: Ask) -> Heard:
        heard = await self._answer(permit, entry, ask)
        answer = answers.read_answer(heard.data) if heard.data is not None else None
        if answer is None:
            return heard
        assert heard.data is not None
        return Heard(None, heard.extensions, _with_id(heard.data, answer, request), heard.seen)

    async def ask(self, permit: Permit, entry: Agent, ask: Ask) -> Heard:
        """Make a unary call within `permit`, in canonical form where client and agent differ; as `call`.

        Raises:
            AgentFault: the agent answered with an error.
            HubError: as `call`.
        """
        if permit.unjudged:
            ask = await judged_ask(permit, ask)
        if not permit.screens:
            return await self._answer(permit, entry, ask)
        return await self._screened(permit, entry, ask.speech, ask.operation, self._answer(permit, entry, ask))

    async def _screened(
        self,
        permit: Permit,
        entry: Agent,
        speech: Speech | None,
        operation: Operation,
        answer: Coroutine[None, None, Heard],
    ) -> Heard:
        """What guards leave of an answer to an operation."""
        if permit.screens and operation in OWN_WORDS:
            permit.says_own_words()
        if not permit.screens:
            return await answer
        try:
            heard = await answer
            result = heard.result
            if result is None:
                assert speech is not None, "bytes are for a client of the agent's speech"
                assert heard.data is not None, "an answer is one of both"
                if screening.is_clear(permit, speech, heard.data, is_json=heard.is_json):
                    return heard
                result = self._upstream.result_of(entry, speech, operation, heard.data)
        except UpstreamError as error:
            raise await screening.fault(permit, error) from None
        return Heard(await screening.whole(permit, result), heard.extensions)

    async def _answer(self, permit: Permit, entry: Agent, ask: Ask) -> Heard:
        """As `ask`, before guards looked at it."""
        named = wire.named_in(ask)
        permit.due = permit.due and ask.operation in MESSAGES
        if entry.is_several and ask.operation not in FROM_ALL:
            again = lambda one: answered(self._answer(permit, one, ask))  # noqa: E731
            async with self._instances.lend(permit, entry, named, again) as heard:
                return heard
        found = await self._find(entry)
        if ask.operation in PUSH:
            return Heard(await self._wishes.answer(permit, entry, ask))
        permit.join(await self._ledger.check(entry.name, permit.principal, named))
        if ask.operation == "ListTasks":
            return Heard(await self._pages.page(permit, entry, ask))
        return await self._ask(permit, found, ask)

    async def _ask(self, permit: Permit, found: Found, ask: Ask) -> Heard:
        """Ask the agent itself; what the request names is the caller's."""
        entry, named = found.entry, wire.named_in(ask)
        route = found.choose(ask.speech or SPEECHES[0])
        ask, config = await self._wishes.taken_out(entry, ask)
        # a task that may have to be cancelled is to be known before it is done
        follows = permit.is_timed and ask.operation == "SendMessage" and not entry.detach and wire.wants_end(ask.params)
        heard = await self._upstream.unary(permit, entry, route, wire.at_once(ask) if follows else ask)
        if ask.operation == "GetExtendedAgentCard":
            card = await self._discovery.rebuild(entry, heard.result or {})
            if card is None:
                raise UpstreamInvalid(entry.name, "its extended agent card cannot be read")
            return Heard(card, heard.extensions)
        seen = heard.seen
        if ask.operation in wire.ABOUT_ONE_TASK and seen.task_id not in {None, named.task_id}:
            raise UpstreamInvalid(entry.name, "it answered with another task")
        await self._ledger.record(
            entry.name, permit.principal, seen, context_id=named.context_id, instance=entry.instance
        )
        permit.join(seen.context_id)
        if ask.operation == "SendMessage":
            permit.charge(entry.call_usd)
        if config is not None and seen.task_id is not None:
            result = heard.result
            if result is None:
                result = self._upstream.result_of(entry, route.speech, ask.operation, heard.data or b"")
            await self._wishes.tell(permit, entry, ask, seen, config=config, result=result)
        if _waits(ask.operation, seen) and wire.wants_end(ask.params):
            assert seen.task_id is not None
            task = await self._settled(permit, entry, route, seen.task_id, ask.params, follows=follows)
            return Heard({"task": task}, heard.extensions)
        if heard.result is not None and ask.operation == "GetTask" and ask.params.get("historyLength") == 0:
            heard.result.pop("history", None)  # 0.3 knows no such 0
        return heard

    @asynccontextmanager
    async def stream(
        self, permit: Permit, entry: Agent, request: Request, forwarded: Headers, *, after: int | None = None
    ) -> AsyncIterator[Stream]:
        """Make a JSON-RPC client's streaming call within `permit`; leaving closes the connection and nothing more.

        `after` is the number of the last event that a returning subscriber has.

        Raises:
            HubError: as `call`; also while the events are read, after some of them came.
        """
        if permit.unjudged and (ask := await rewritten(permit, request, forwarded)) is not None:
            async with self.follow(permit, entry, ask, after=after) as stream:
                yield stream
            return
        permit.due = permit.due and request.envelope.operation in MESSAGES
        if entry.is_several:
            again = lambda one: self.stream(permit, one, request, forwarded, after=after)  # noqa: E731
            async with self._instances.lend(permit, entry, request, again) as stream:
                yield stream
            return
        wanted = JSONRPC_SPEECHES[request.envelope.version]
        route = (await self._find(entry)).choose(wanted)
        operation = request.envelope.operation
        if operation == "SendStreamingMessage":
            permit.join(await self._ledger.check(entry.name, permit.principal, request))
        is_passed = route.speech == wanted and operation == "SendStreamingMessage" and request.push is None
        if not is_passed or entry.auth is not None or self._upstream.contexts.matter(entry, request):
            async with self.follow(permit, entry, wire.canonical(request, forwarded), after=after) as stream:
                yield stream
            return
        if entry.detach:
            shown = self._whole_stream(permit, entry, route, wire.canonical(request, forwarded), _no_receiver)
            yield Stream(self._streams.detached(entry, shown))
            return
        async with self._egress.send(permit, self._outgoing(entry, route, request, forwarded)) as incoming:
            events = self._upstream.events(entry, route.speech, incoming)
            permit.charge(entry.call_usd)
            shown = self._streams.lead(permit, entry, events, request.context_id)
            yield Stream(shown, events.extensions, echoes=True)

    @asynccontextmanager
    async def follow(
        self, permit: Permit, entry: Agent, ask: Ask, *, after: int | None = None
    ) -> AsyncIterator[Stream]:
        """Make a streaming call in canonical form; as `stream`."""
        if permit.unjudged:
            ask = await judged_ask(permit, ask)
        if not permit.screens:
            async with self._followed(permit, entry, ask, after=after) as stream:
                yield stream
            return
        # from the beginning: guards look at what was shown together with what comes
        async with self._followed(permit, entry, ask, after=None if after is None else 0) as stream:
            yield Stream(screening.events(permit, entry, stream.batches, after), stream.extensions)

    @asynccontextmanager
    async def _followed(self, permit: Permit, entry: Agent, ask: Ask, *, after: int | None) -> AsyncIterator[Stream]:
        """As `follow`, before guards looked at it."""
        named = wire.named_in(ask)
        permit.due = permit.due and ask.operation in MESSAGES
        if entry.is_several:
            again = lambda one: self._followed(permit, one, ask, after=after)  # noqa: E731
            async with self._instances.lend(permit, entry, named, again) as stream:
                yield stream
            return
        found = await self._find(entry)
        permit.join(await self._ledger.check(entry.name, permit.principal, named))
        route = found.choose(ask.speech or SPEECHES[0])
        if ask.operation == "SubscribeToTask":
            assert named.task_id is not None
            shown = self._streams.resume(permit, entry, route, named.task_id, after)
            yield Stream(self._watching.heard(permit.principal, entry, named, shown))
            return
        ask, config = await self._wishes.taken_out(entry, ask)

        async def begun(task_id: str) -> None:
            if config is not None:
                await self._push.create(permit.principal.id, entry, task_id, config, version=ask.version)

        if entry.detach:
            shown = self._whole_stream(permit, entry, route, ask, begun)
            yield Stream(self._streams.detached(entry, shown))
            return
        async with self._upstream.stream(permit, entry, route, ask) as events:
            permit.charge(entry.call_usd)
            shown = self._streams.lead(permit, entry, events, named.context_id, begun=begun)
            yield Stream(shown, events.extensions)

    async def _whole_stream(
        self, permit: Permit, entry: Agent, route: Route, ask: Ask, begun: Begun
    ) -> AsyncGenerator[list[Shown]]:
        """A stream with its connection, for an agent that ends a task when it is left."""
        async with self._upstream.stream(permit, entry, route, ask) as events:
            permit.charge(entry.call_usd)
            context_id = wire.named_in(ask).context_id
            async with aclosing(self._streams.lead(permit, entry, events, context_id, begun=begun)) as batches:
                async for batch in batches:
                    yield batch

    async def _find(self, entry: Agent) -> Found:
        try:
            return await self._discovery.find(entry)
        except UpstreamError as error:
            raise unsent(error) from None

    def _outgoing(self, entry: Agent, route: Route, request: Request, forwarded: Headers) -> Outgoing:
        return Outgoing(
            url=route.url,
            headers=route.headers + forwarded,
            body=request.encode(route.tenant),
            trusted=entry.trusted,
            first_byte_s=self._egress.deadlines.agent_first_byte_s,
            may_stream=request.envelope.streams,
        )

    def _record(self, permit: Permit, entry: Agent, request: Request, seen: Sighting) -> Awaitable[bool]:
        if request.envelope.operation in wire.ABOUT_ONE_TASK and seen.task_id not in {None, request.task_id}:
            raise UpstreamInvalid(entry.name, "it answered with another task")
        return self._ledger.record(
            entry.name, permit.principal, seen, context_id=request.context_id, instance=entry.instance
        )

    async def _settled(
        self, permit: Permit, entry: Agent, route: Route, task_id: str, params: JsonObject, *, follows: bool = False
    ) -> JsonObject:
        """Wait in the place of an agent that answers before its task is done; `params` are those of the message."""
        length = (params.get("configuration") or {}).get("historyLength")
        try:
            async with asyncio.timeout(self._egress.deadlines.agent_first_byte_s):
                wait = self._streams.tasks.followed if follows else self._streams.tasks.settled
                task = await wait(permit, entry, route, task_id, history_length=length)
        except TimeoutError:
            raise UpstreamTimeout(entry.name, "its task is not done in time; ask for it later") from None
        except asyncio.CancelledError:
            if permit.is_over:
                self._streams.give_up(entry.name, task_id)
            raise
        await self._ledger.record(entry.name, permit.principal, answers.sighting_of(task), instance=entry.instance)
        return task


async def _no_receiver(_task_id: str) -> None:
    """Nobody is to be sent a task's events."""


def _waits(operation: Operation | None, seen: Sighting) -> bool:
    """Whether an agent answered a message before its task was done, which it may only if it was asked to (A2A 1.0 §3.2.2)."""
    return (
        operation == "SendMessage" and seen.task_id is not None and seen.state is not None and not is_over(seen.state)
    )


def _with_id(body: bytes, answer: Answer, request: Request) -> bytes:
    """The response under the client's own id, which some agents write otherwise."""
    if answer.id == request.envelope.id:
        return body
    response = judged.read_object(body)
    response["id"] = request.envelope.id
    return judged.encode(response)
