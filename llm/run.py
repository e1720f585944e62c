"""Answers one chat request: passes it through as bytes, or has the tool loop run over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llm import router
from llm.call import ModelCall, Models, asks_usage, cut_short, not_a_stream
from llm.ports import Provider, Sink, ToolExecutor
from llm.rounds import Caller, LoopLimits, Rounds, offered
from llm.wire import chat
from llm.wire.chat import ChatRequest
from llm.wire.tap import UsageTap
from registry.catalog import Catalog
from registry.egress.sse import EventTooLarge
from registry.entries import Model
from registry.gate import Gate


class Chat:
    """Answers chat completions requests. One for a process."""

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        *,
        gate: Gate,
        providers: Mapping[str, Provider],
        tools: ToolExecutor,
        public_url: str,
        limits: LoopLimits | None = None,
    ) -> None:
        """`catalog` gives the current snapshot; `providers` are by the name that `Model.provider` says."""
        self._catalog = catalog
        self._models = Models(gate, providers=providers)
        self._tools = tools
        self._public_url = public_url
        self._limits = limits or LoopLimits()

    async def answer(self, body: bytes, caller: Caller) -> None:
        """Answer one request into the caller's sink.

        Raises:
            HubError: before the answer began, or within a stream; what was written until then is whole events.
        """
        request = chat.read_request(body, public_url=self._public_url)
        model = router.find(self._catalog().models, request.model)
        if not request.sources:
            await self._pass(request, model, caller)
            return
        if not caller.principal.grants.allow("model", model.grant_name):  # tools are not looked up for the refused
            self._models.admit(caller.principal, model, request_id=caller.request_id)
        await self._tools.prepare(caller.principal)
        tools = offered(self._tools, caller.principal, sources=request.sources)
        rounds = Rounds(request, model, models=self._models, tools=self._tools, offered=tools, limits=self._limits)
        await rounds.run(caller)

    async def _pass(self, request: ChatRequest, model: Model, caller: Caller) -> None:
        """Hand the request to the provider and its answer to the caller, as bytes."""
        with self._models.admit(caller.principal, model, request_id=caller.request_id) as permit:
            body = chat.passed_on(request, model.model, ask_usage=asks_usage(model))
            async with self._models.call(permit, model, body=body, stream=request.stream) as call:
                if request.stream:
                    await _relay(call, model, caller.sink, withhold=not request.usage_wanted)
                else:
                    await caller.sink.reply(200, await call.read())


async def _relay(call: ModelCall, model: Model, sink: Sink, *, withhold: bool) -> None:
    """Pass a stream on as it comes."""
    tap = UsageTap(withhold=withhold)
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
        raise not_a_stream(model) from None
    finally:
        call.usage, call.output_tokens = tap.usage, tap.events
    if tap.error is not None:
        raise call.reported(tap.error)
    if not tap.ended():
        raise cut_short(model)
