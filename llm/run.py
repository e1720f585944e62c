"""Answers requests: the loop for a door of any format, and chat completions, passed through as bytes where that is possible."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from msgspec import structs

from llm import router
from llm.call import CUT_SHORT, NOT_A_STREAM, NOT_AN_OBJECT, ModelCall, Models
from llm.continuing import Continuing, Request
from llm.demands import Rules
from llm.dialects import Dialects
from llm.exact_cache import ExactCache
from llm.offering import offered, visits
from llm.parking import Parking
from llm.ports import Guests, ModelRequest, Sink, ToolExecutor, Voice
from llm.providers.parameters import fit
from llm.providers.table import asks_usage, formats_of
from llm.remembering import Memory, Remembering
from llm.rounds import Caller, LoopLimits, Rounds, Workbench
from llm.spending import with_hub
from llm.translate import chat_to_messages, messages_to_chat, responses_to_chat
from llm.types import Ask, Format, Listing, Parked, Ticket, ToolSource, Waiting
from llm.verdicts import same, waits
from llm.voices.chat import ChatVoice
from llm.wire import chat
from llm.wire.chat import ChatRequest
from llm.wire.chat_upstream import ChatDialect
from llm.wire.head import is_stored
from llm.wire.messages_upstream import MessagesDialect
from llm.wire.responses_upstream import ResponsesDialect
from llm.wire.tap import UsageTap
from registry.catalog import Catalog
from registry.egress.sse import EventTooLarge
from registry.entries import Model, Server
from registry.gate import Usage
from registry.identity import HUBS_LIMITS, RequestLimits
from registry.search.meaning import Meanings
from registry.spending.tasks import Tasks

DIALECTS = Dialects(
    by_format={"chat": ChatDialect(), "messages": MessagesDialect(), "responses": ResponsesDialect()},
    translations={
        ("chat", "messages"): chat_to_messages.prompt,
        ("messages", "chat"): messages_to_chat.prompt,
        ("responses", "chat"): responses_to_chat.prompt,
        ("responses", "messages"): lambda asked: chat_to_messages.prompt(responses_to_chat.prompt(asked)),
    },
)


class Loop:
    """Answers what doors of any format ask. One for a process."""

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        *,
        models: Models,
        tools: ToolExecutor,
        guests: Guests,
        limits: LoopLimits | None = None,
    ) -> None:
        """`catalog` gives the current snapshot."""
        self._catalog = catalog
        self.models = models
        self.cache = ExactCache(models)
        self._guests = guests
        self._bench = Workbench(self.models, tools, DIALECTS, limits or LoopLimits())
        self._tasks: Tasks | None = None

    def park(self, parking: Parking) -> None:
        """Let calls wait for approval that need it; until then they are not made."""
        self._bench = replace(self._bench, parking=parking)

    def bound_by(self, tasks: Tasks) -> None:
        """Let what requests say of themselves bound what is called for them; until then it bounds their rounds."""
        self._tasks = tasks

    def bounded(self, caller: Caller, bounds: RequestLimits) -> Caller:
        """Who asks, with the task of a request that says `bounds` of itself; raises `TooManyHops`."""
        if self._tasks is None or bounds is HUBS_LIMITS:
            return caller
        return caller._replace(principal=self._tasks.narrowed(caller.principal, bounds))

    def search_by(self, meanings: Meanings) -> None:
        """Let models search tools by what they mean, too."""
        self._bench = replace(self._bench, meanings=meanings)

    def find(self, name: str) -> Model:
        """The entry that a model's name means; raises `NotFound`."""
        return router.find(self._catalog().models, name)

    def speaks(self, model: Model, wanted: Format) -> bool:
        """Whether all places where a request for the model may go speak a format, so that its bytes can pass."""
        names = (*model.routing.fallbacks, *model.routing.context_fallbacks)
        if not names and not model.deployments:
            return wanted in formats_of(model)
        others = map(self.models.find, names)
        places = [*model.places(), *(place for other in others if other is not None for place in other.places())]
        return all(wanted in formats_of(place) for place in places)

    def check(self, ask: Ask, model: Model) -> None:
        """Refuse what the first place where a request may go cannot be told, before anybody waits for it; raises `InvalidRequest`."""
        formats = formats_of(model.places()[0])
        if ask.prompt.format not in formats:
            DIALECTS.prompt(ask.prompt, formats[0])

    async def answer(self, ask: Ask, model: Model, caller: Caller, *, voice: Voice) -> None:
        """Run the loop over one request and have `voice` say what comes of it.

        Raises:
            HubError: before the answer began, or within it; what was said until then is whole.
        """
        async with self.listings(ask.sources, model, caller) as listings:
            await self.run(ask, model, caller, voice, listings)

    @asynccontextmanager
    async def listings(
        self, sources: Sequence[ToolSource], model: Model, caller: Caller, *, unsaid_approval: bool = False
    ) -> AsyncIterator[Sequence[Listing]]:
        """What the sources of a request for `model` offer, for its length, and which calls wait for approval.

        `unsaid_approval`: calls of sources that do not say so wait.

        Raises:
            NotFound: the caller may not use the model.
            InvalidRequest: a source has no tools for it.
        """
        if not sources:
            yield ()
            return
        if not caller.principal.grants.allow(model.kind, model.grant_name):
            self.models.admit(
                caller.principal, model, request_id=caller.request_id
            )  # refuses before tools are looked up
        tools = self._bench.tools
        await tools.prepare(caller.principal, [source.name for source in sources if source.foreign is None])
        async with visits(self._guests, caller.principal, sources) as found:
            listings = offered(tools, caller.principal, sources=sources, visits=found)
            yield Rules(self._servers, caller.principal, listings).over(unsaid=unsaid_approval)

    async def run(self, ask: Ask, model: Model, caller: Caller, voice: Voice, listings: Sequence[Listing]) -> None:
        """As `answer`, with what the sources offer."""
        rules = Rules(self._servers, caller.principal, listings)
        await Rounds(ask, model, self._bench, listings, rules).run(caller, voice)

    def _servers(self) -> Mapping[str, Server]:
        return self._catalog().servers


class Chat:
    """Answers chat completions requests. One for a process."""

    def __init__(
        self, loop: Loop, *, public_url: str, continuing: Continuing | None = None, memory: Memory | None = None
    ) -> None:
        """Without `continuing`, calls that need approval are not made; without `memory`, rounds before own calls are forgotten."""
        self._loop = loop
        self._public_url = public_url
        self._continuing = continuing
        self._memory = memory

    async def answer(self, body: bytes, caller: Caller, sink: Sink) -> None:
        """Answer one request into `sink`.

        Raises:
            HubError: before the answer began, or within a stream; what was written until then is whole events.
        """
        request = chat.read_request(body, public_url=self._public_url)
        if request.hub.answer is not None and self._continuing is not None:
            await self._continuing.go_on(Request("chat", body, request.hub.answer), caller, sink)
            return
        model, caller = self._loop.find(request.model), self._loop.bounded(caller, request.hub.limits)
        if not request.sources and self._loop.speaks(model, "chat"):
            answer = partial(self._pass, request, model, caller)
        else:
            answer = partial(self._run, request, body, caller)
        if model.cache_s is None or request.sources:
            await answer(sink)
        else:
            await self._loop.cache.answer("chat", body, model=model, caller=caller, sink=sink, answer=answer)

    async def _run(
        self, request: ChatRequest, body: bytes, caller: Caller, sink: Sink, parked: Parked | None = None
    ) -> None:
        """Have the loop answer, or go on with what is parked."""
        ask, model = chat.ask_of(request), self._loop.find(request.model)
        voice: Voice = _voice(sink, request, caller)
        stored, principal = is_stored(request.members), caller.principal
        if self._continuing is not None:
            ticket = Ticket("chat", lambda: body, is_fleeting=not stored)
            ask = replace(ask, ticket=ticket, parked=parked)
        if request.sources and self._memory is not None:
            said = ask.prompt.messages
            ask = replace(ask, prompt=replace(ask.prompt, messages=await self._memory.complete(said, principal)))
            voice = Remembering(voice, self._memory, said, principal, is_stored=stored)
        await self._loop.answer(ask, model, caller, voice=voice)

    def same(self, body: bytes) -> str:
        """As `llm.continuing.Resumable`."""
        return same(body)

    async def resume(self, body: bytes, parked: Parked, caller: Caller, sink: Sink) -> None:
        """Go on with a run; raises as `answer`."""
        await self._run(chat.read_request(body, public_url=self._public_url), body, caller, sink, parked)

    async def wait(self, body: bytes, waiting: Sequence[Waiting], caller: Caller, sink: Sink) -> None:
        """Answer that these calls still wait."""
        voice = _voice(sink, chat.read_request(body, public_url=self._public_url), caller)
        await voice.begin(())
        await voice.finish(waits(waiting))

    async def _pass(self, request: ChatRequest, model: Model, caller: Caller, sink: Sink) -> None:
        """Hand the request to the provider and its answer to the caller, as bytes."""

        def make(to: Model) -> ModelRequest:
            members = fit(to, request.members)
            fitted = request if members is request.members else structs.replace(request, members=members)
            body = chat.passed_on(fitted, to, ask_usage=asks_usage(to))
            return ModelRequest(body, request.stream)

        models = self._loop.models
        with models.admit(caller.principal, model, request_id=caller.request_id) as permit:
            async with models.call(permit, model, make) as call:
                for name, value in call.told:
                    caller.add_header(name, value)
                if request.stream:
                    await _relay(call, sink, withhold=not request.usage_wanted)
                    return
                data = await call.read()
                try:
                    call.usage = chat.usage_of(data)
                except ValueError:
                    raise call.invalid(NOT_AN_OBJECT) from None
                await sink.reply(200, with_hub(data, call.used.cost_usd, call.warnings))


def _voice(sink: Sink, request: ChatRequest, caller: Caller) -> ChatVoice:
    return ChatVoice(sink, request, request_id=caller.request_id)


async def _relay(call: ModelCall, sink: Sink, *, withhold: bool) -> None:
    """Pass a stream on as it comes."""

    def finish(event: bytes, usage: Usage) -> bytes:
        call.usage = usage
        return with_hub(event, call.used.cost_usd, call.warnings)

    tap = UsageTap(withhold=withhold, finish=finish)
    feed, write = tap.feed, sink.write
    started = False
    try:
        async for chunk in call.chunks():
            passed = feed(chunk)
            if passed:
                if not started:
                    await sink.start(200)
                    started = True
                await write(passed)
    except EventTooLarge:
        raise call.invalid(NOT_A_STREAM) from None
    finally:
        call.heard(tap.usage, made=tap.meter.tokens, is_whole=tap.ended())
    if tap.error is not None:
        raise call.reported(tap.error)
    if not tap.ended():
        raise call.invalid(CUT_SHORT)
