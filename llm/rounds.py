"""Drives the tool loop over one request: what llm/loop.py decides is done here, all calls of a round at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from llm import results
from llm.bounds import Bounds
from llm.call import CUT_SHORT, NOT_A_STREAM, NOT_AN_OBJECT, ModelCall, Models
from llm.demands import Rules
from llm.dialects import AnswerInvalid, Dialects, Fold, Round, StreamFault
from llm.loop import CallModel, CallTools, Sent, Step, conversation
from llm.parking import Parking
from llm.pieces import SAID, CallArguments, CallBegun, Piece
from llm.ports import ModelRequest, ToolExecutor, Voice
from llm.providers.inputs import inputs_of
from llm.providers.parameters import fit_round
from llm.providers.table import asks_usage, formats_of
from llm.toolbox import Order, Toolbox
from llm.types import Ask, CallIds, Finished, Held, Listing, Offer, Reply, ToolCall, ToolOutcome, Turn, Waiting
from llm.wire.chat import counted
from llm.wire.hub_member import check_talk
from llm.wire.meter import BYTES_PER_TOKEN
from registry.egress.sse import EventTooLarge, Framer, data_of
from registry.entries import Model
from registry.errors import ApprovalRefused, HubError, InvalidRequest, ParseFailed, UpstreamInvalid, UpstreamTimeout
from registry.gate import Permit
from registry.identity import Principal
from registry.judged import JsonObject
from registry.search.finding import Seeker
from registry.search.meaning import Asker, Meanings


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """Bounds of one tool loop."""

    max_rounds: int = 8
    """Rounds of tool calls, unless the request asks for another number."""
    parallel_calls: int = 16
    """Calls of one round at the same time; more wait."""
    calls: int = 128
    """Calls of one round; a model that asks for more has lost its mind, or never had one."""
    reply_bytes: int = 32 * 1024 * 1024
    """One round's answer."""
    tool_s: float = 300.0
    """One tool call; the model is told when it takes longer."""
    total_s: float = 3600.0
    """The whole loop."""


class Caller(NamedTuple):
    """Who asks."""

    principal: Principal
    request_id: str
    within: Permit | None = None
    """The permit of the call of an own agent that this is; None: it is nobody's part."""
    is_fresh: bool = False
    """An answer that was kept will not do."""
    add_header: Callable[[bytes, bytes], None] = lambda _name, _value: None
    """Has the answer, which has not begun, say something more in its head; the last of a name counts."""


@dataclass(frozen=True, slots=True)
class Workbench:
    """What every run of the loop works with. One for a process."""

    models: Models
    tools: ToolExecutor
    dialects: Dialects
    limits: LoopLimits
    parking: Parking | None = None
    """None: calls that need approval are not made."""
    meanings: Meanings | None = None
    """What tools mean; None: they are searched by words alone."""


class Rounds:
    """One request under way."""

    def __init__(self, ask: Ask, model: Model, bench: Workbench, listings: Sequence[Listing], rules: Rules) -> None:
        """`listings` are the hub's tools for this request, by source; raises `InvalidRequest` for two tools of one name."""
        self._ask = ask
        self._model = model
        self._bench = bench
        self._limits = bench.limits
        self._toolbox = Toolbox(listings, ask.own_names)
        self._takes = inputs_of(model)
        self._busy = asyncio.Semaphore(bench.limits.parallel_calls)
        self._ids = CallIds()
        self._started = time.monotonic()
        self._has_begun = False
        self._tools_ran = False
        self._asked: list[Permit] = []
        """Those of the rounds; calls of tools are within the last."""
        self._rules = rules
        self._decided: dict[str, str] = {}
        """Approvals that were answered, by the ids of their calls."""
        self._kept_back: dict[str, HubError] = {}
        """Why calls that were to be approved are not made whoever approves them, by their ids."""
        self._reserved: Permit | None = None
        """For the first call of the model; calls of tools may come before it."""
        if ask.parked is not None:
            self._decided = {one.call.id: one.approval for one in ask.parked.held.waiting}
            for turn in (*ask.parked.turns, Turn(ask.parked.reply, ())):
                for call in turn.reply.calls:
                    self._ids.unique(call.id)

    async def run(self, caller: Caller, voice: Voice) -> None:
        """Drive the loop and answer the caller; raises `HubError`, perhaps within a begun answer."""
        parked = self._ask.parked
        if parked is not None and self._bench.parking is not None:
            resumed = self._bench.parking.resumed(parked, caller.principal, caller.within)
            caller = caller._replace(principal=resumed)
        bounds = self._bounds = Bounds(
            self._ask.limits,
            caller.principal.request_limits,
            rounds=self._limits.max_rounds,
            seconds=self._limits.total_s,
            before=parked.used if parked is not None else None,
        )
        steps = conversation(self._ask.is_own, max_rounds=bounds.rounds, parked=parked)
        try:
            finished = await self._in_time(self._drive(steps, caller, voice), bounds.seconds_left)
        except HubError as error:
            error.tools_ran = self._tools_ran
            raise
        if self._asked:
            finished = replace(finished, charged_usd=self._charged_usd, warnings=tuple(self._asked[0].warnings))
        await voice.finish(finished)

    async def _in_time(self, run: Awaitable[Finished], seconds: float) -> Finished:
        try:
            async with asyncio.timeout(seconds) as deadline:
                return await run
        except TimeoutError:
            if not deadline.expired():
                raise
            raise UpstreamTimeout(self._model.name, "the request with its tools took too long") from None

    async def _drive(self, steps: Generator[Step, Sent, Finished], caller: Caller, voice: Voice) -> Finished:
        sent: Sent = None
        if self._ask.parked is not None:
            self._reserved = self._admit(caller)
        try:
            while True:
                try:
                    step = steps.send(sent)
                except StopIteration as stop:
                    finished: Finished = stop.value
                    return await self._park(finished) if finished.waiting else finished
                if isinstance(step, CallModel):
                    sent = await self._call_model(step.turns, caller, voice)
                else:
                    self._tools_ran = True
                    sent = await self._call_tools(step, caller, voice)
        finally:
            if self._reserved is not None:
                self._reserved.settle("cancelled")

    def _admit(self, caller: Caller) -> Permit:
        within = self._asked[0] if self._asked else caller.within
        models, of = self._bench.models, caller.request_id
        self._asked.append(models.admit(caller.principal, self._model, request_id=of, within=within))
        return self._asked[-1]

    async def _park(self, finished: Finished) -> Finished:
        assert self._asked, "a model asked for these calls"
        assert self._bench.parking is not None, "nothing is held without"
        assert self._ask.ticket is not None, "nothing is held without"
        deeds = [self._rules.deed(one.offer.tool, one.arguments) for one in finished.waiting]
        used = self._bounds.used(time.monotonic() - self._started, self._charged_usd)
        return await self._bench.parking.park(finished, deeds, self._asked[0], self._ask.ticket, used)

    @property
    def _charged_usd(self) -> float:
        """What its calls of tools cost."""
        return sum(one.charged_within for one in self._asked)

    async def _call_model(self, turns: Sequence[Turn], caller: Caller, voice: Voice) -> Reply:
        ask, models = self._ask, self._bench.models
        self._bounds.check_next(turns, self._charged_usd)

        def make(model: Model) -> ModelRequest:
            formats = formats_of(model)
            spoken = ask.prompt.format if ask.prompt.format in formats else formats[0]
            dialects = self._bench.dialects
            prompt = dialects.prompt(ask.prompt, spoken)
            if ask.talk is not None:
                check_talk(ask.talk, model)
                prompt = replace(prompt, members={**prompt.members, "hub": ask.talk})
            asked = Round(
                prompt=prompt,
                turns=turns,
                offers=self._toolbox.shown(turns),
                model=model,
                stream=ask.stream,
                asks_usage=asks_usage(model),
            )
            fitted = fit_round(asked) if spoken == "chat" else asked
            return ModelRequest(dialects.by_format[spoken].body(fitted), ask.stream, spoken, prompt.headers)

        admitted, self._reserved = self._reserved or self._admit(caller), None
        with admitted as permit:
            async with models.call(permit, self._model, make) as call:
                for name, value in call.told:
                    caller.add_header(name, value)
                listener = _Listener(ask, self._toolbox, voice)
                reply = await (self._stream(call, listener) if ask.stream else self._read(call, listener))
                return replace(
                    reply,
                    model=call.model.name,
                    used=call.spent,
                    told=reply.told if call.model.kind == "agent" else {},
                    deployment=call.deployment,
                    attempts=call.attempts,
                )

    async def _read(self, call: ModelCall, listener: _Listener) -> Reply:
        data = await call.read()
        dialect = self._bench.dialects.by_format[call.format]
        try:
            reply = dialect.read(data, self._ids)
        except AnswerInvalid as error:
            raise call.invalid(str(error)) from None
        except StreamFault as fault:
            raise call.reported(fault.error) from None
        except (ValueError, ParseFailed):
            raise call.invalid(NOT_AN_OBJECT) from None
        call.usage = counted(reply.usage)
        await self._begin(listener.voice)
        await listener.hear(dialect.shown(reply))
        return reply

    async def _stream(self, call: ModelCall, listener: _Listener) -> Reply:
        """Show the caller what it may see of a round as it comes."""
        fold = self._bench.dialects.by_format[call.format].fold(self._ids)
        framer = Framer()
        size = 0
        try:
            async for piece in call.chunks():
                size += len(piece)
                if size > self._limits.reply_bytes:
                    raise call.invalid("its answer is too large")
                for event in framer.feed(piece):
                    if data := data_of(event):
                        await self._hear(fold, data, call=call, listener=listener)
        except EventTooLarge:
            raise call.invalid(NOT_A_STREAM) from None
        finally:
            call.heard(counted(fold.usage), made=call.output_tokens, is_whole=fold.ended)
        if not fold.ended:
            raise call.invalid(CUT_SHORT)
        await self._begin(listener.voice)
        await listener.hear(fold.rest())
        return fold.reply()

    async def _hear(self, fold: Fold, data: bytes, *, call: ModelCall, listener: _Listener) -> None:
        try:
            pieces = fold.feed(data)
        except StreamFault as fault:
            raise call.reported(fault.error) from None
        except (ValueError, RecursionError):
            raise call.invalid("an event of its stream is not a JSON object") from None
        said = sum(len(piece.text.encode()) for piece in pieces if isinstance(piece, SAID))
        call.output_tokens += max(1, said // BYTES_PER_TOKEN)
        await self._begin(listener.voice)
        await listener.hear(pieces)

    async def _begin(self, voice: Voice) -> None:
        if not self._has_begun:
            self._has_begun = True
            await voice.begin(self._toolbox.listings)

    async def _call_tools(self, step: CallTools, caller: Caller, voice: Voice) -> Sequence[ToolOutcome] | Held:
        """Execute all calls of a round at the same time, but those that wait; the caller's leaving cancels them."""
        if len(step.calls) > self._limits.calls:
            raise UpstreamInvalid(self._model.name, f"it asked for {len(step.calls)} tool calls at once")
        speaking = asyncio.Lock()
        await self._begin(voice)  # of a run that is gone on with, tools come first
        waiting = await self._hold(step, caller.principal)
        held = {one.call.id for one in waiting}

        async def run(call: ToolCall) -> ToolOutcome:
            outcome = await self._call_tool(call, step.turns, caller.principal)
            async with speaking:
                await voice.called(outcome)
            return outcome

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(call)) for call in step.calls if call.id not in held]
        outcomes = [task.result() for task in tasks]
        return Held(outcomes, waiting) if waiting else outcomes

    async def _hold(self, step: CallTools, principal: Principal) -> list[Waiting]:
        """The calls that wait for approval, where it can be asked for, as guards leave them.

        Not beside calls of the caller's own tools: its next request brings their results, and is another.
        """
        if step.with_own or self._ask.ticket is None or self._bench.parking is None:
            return []
        found: list[Waiting] = []
        for call in step.calls:
            with suppress(InvalidRequest):  # which the model hears
                order = self._toolbox.order(call, step.turns)
                offer = order.offer if order.said is None and call.id not in self._decided else None
                if offer is None or not offer.may_wait:
                    continue
                answerer = self._rules.answerer(offer, order.arguments)
                if answerer is not None:
                    offer = replace(offer, answerer=answerer)
                    try:
                        left = await self._guarded(offer, order.arguments, principal)
                        found.append(Waiting(call, offer, left))
                    except HubError as error:
                        self._kept_back[call.id] = error
        return found

    async def _approve(self, call: ToolCall, offer: Offer, arguments: JsonObject, principal: Principal) -> Principal:
        """Let a call be made, by whom this returns; raises `ApprovalRefused`, for the model to hear."""
        approval = self._decided.get(call.id)
        if approval is not None and self._bench.parking is not None:
            left = await self._guarded(offer, arguments, principal)
            await self._bench.parking.admit(approval, self._rules.deed(offer.tool, left), principal)
            return self._rules.approved(offer, arguments, principal)
        if offer.answerer is not None:
            again = self._ask.ticket is not None and self._bench.parking is not None
            text = ", and was not made: make it again by itself" if again else ", which cannot be asked for here"
            raise ApprovalRefused(f"This call needs approval{text}.")
        return principal

    async def _call_tool(self, call: ToolCall, turns: Sequence[Turn], principal: Principal) -> ToolOutcome:
        """Execute one call; whatever goes wrong with it is for the model to hear."""
        started = time.monotonic()
        order = Order(self._toolbox.find(call.name), {})
        text, failed = "", True
        content: Sequence[JsonObject] = ()
        try:
            order = self._toolbox.order(call, turns)
            if order.query is not None:
                order = replace(order, said=await self._toolbox.search(order.query, self._seeker(principal)))
            if order.said is None and order.offer is not None:
                if (error := self._kept_back.get(call.id)) is not None:
                    raise error
                principal = await self._approve(call, order.offer, order.arguments, principal)
                if refusal := self._bounds.take_call():
                    raise InvalidRequest(refusal)
                result = await self._execute(order.offer, order.arguments, principal)
                text, failed = results.told(result, self._takes), bool(result.get("isError"))
                content = results.media(result, self._takes)
            else:
                text, failed = order.said or "", order.failed
        except HubError as error:
            text = error.text
        except TimeoutError:
            text = f"The tool did not answer within {self._limits.tool_s:.0f} s."
        said = results.cut(text, call.id) if order.said is None else text
        return ToolOutcome(
            call=call,
            offer=order.offer,
            arguments=order.arguments,
            text=said,
            failed=failed,
            duration_ms=(time.monotonic() - started) * 1000,
            content=content,
            whole=None if said is text else text,
        )

    def _seeker(self, principal: Principal) -> Seeker | None:
        meanings = self._bench.meanings
        return (
            None
            if meanings is None
            else Seeker(meanings, Asker(principal, within=self._asked[-1] if self._asked else None))
        )

    async def _guarded(self, offer: Offer, arguments: JsonObject, principal: Principal) -> JsonObject:
        """What guards leave of the arguments of a call; raises `HubError` where it cannot be made."""
        tools = offer.guest or self._bench.tools
        return await tools.guarded(principal, offer.tool.exposed, arguments=arguments, within=self._asked[-1])

    async def _execute(self, offer: Offer, arguments: JsonObject, principal: Principal) -> JsonObject:
        async with self._busy, asyncio.timeout(self._limits.tool_s):
            tools = offer.guest or self._bench.tools
            return await tools.call(principal, offer.tool.exposed, arguments=arguments, within=self._asked[-1])


class _Listener:
    """Tells a voice of one round which calls are of the hub's tools; of a tool that nobody has it is told nothing."""

    def __init__(self, ask: Ask, toolbox: Toolbox, voice: Voice) -> None:
        self._ask = ask
        self._toolbox = toolbox
        self._calls: dict[int, Offer | None] = {}
        self.voice = voice

    async def hear(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, CallBegun):
                offer = self._toolbox.find(piece.name)
                if offer is not None or self._ask.is_own(piece.name):
                    self._calls[piece.index] = offer
            if not isinstance(piece, CallBegun | CallArguments):
                await self.voice.say(piece)
            elif piece.index in self._calls:
                await self.voice.say(piece, self._calls[piece.index])
