"""Answers requests in Anthropic's Messages format: passed through as bytes where that is possible, else by the loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from llm.call import CUT_SHORT, NOT_A_STREAM, NOT_AN_OBJECT, ModelCall
from llm.continuing import Continuing, Request
from llm.ports import ModelRequest, Sink
from llm.rounds import Caller
from llm.run import Loop
from llm.spending import with_hub
from llm.types import Parked, Ticket, Waiting
from llm.verdicts import same, waits
from llm.voices.messages import MessagesVoice
from llm.wire import messages
from llm.wire.chat import counted
from llm.wire.messages import MessagesRequest
from llm.wire.messages_tap import MessagesTap, usage_in
from llm.wire.meter import BYTES_PER_TOKEN
from registry.egress.sse import EventTooLarge
from registry.entries import Headers, Model
from registry.gate import Usage
from registry.judged import JsonObject, encode, unambiguous

FREE = Usage(input_tokens=0, output_tokens=0)
"""What counting uses."""


class Messages:
    """Answers Messages requests and counts their tokens. One for a process."""

    def __init__(self, loop: Loop, *, public_url: str, continuing: Continuing | None = None) -> None:
        """Without `continuing`, calls that need approval are not made."""
        self._loop = loop
        self._public_url = public_url
        self._continuing = continuing

    async def answer(self, body: bytes, caller: Caller, sink: Sink, *, headers: Headers = ()) -> None:
        """Answer one request into `sink`. `headers` go on to a provider of the same format.

        Raises:
            HubError: before the answer began, or within a stream; what was written until then is whole events.
        """
        request = messages.read_request(body, public_url=self._public_url)
        if request.hub.answer is not None and self._continuing is not None:
            await self._continuing.go_on(Request("messages", _about(headers, body), request.hub.answer), caller, sink)
            return
        model, caller = self._loop.find(request.model), self._loop.bounded(caller, request.hub.limits)

        async def answer(to: Sink) -> None:
            await self._answer(request, body, model, caller, sink=to, headers=headers)

        if model.cache_s is None or request.sources or request.has_hub_calls:
            await answer(sink)
        else:
            asked = body + repr(headers).encode()  # betas change what is answered
            await self._loop.cache.answer("messages", asked, model=model, caller=caller, sink=sink, answer=answer)

    async def _answer(
        self, request: MessagesRequest, body: bytes, model: Model, caller: Caller, *, sink: Sink, headers: Headers
    ) -> None:
        if not request.sources and not request.has_hub_calls and self._loop.speaks(model, "messages"):
            await self._pass(request, model, caller, sink, headers)
            return
        ticket = None if self._continuing is None else Ticket("messages", lambda: _about(headers, body))
        ask = replace(messages.ask_of(request, headers), ticket=ticket)
        await self._loop.answer(ask, model, caller, voice=_voice(sink, request, caller))

    def same(self, body: bytes) -> str:
        """As `llm.continuing.Resumable`; bodies come with their headers here and below."""
        return same(_read(body)[1])

    async def resume(self, body: bytes, parked: Parked, caller: Caller, sink: Sink) -> None:
        """Go on with a run; raises as `answer`."""
        headers, text = _read(body)
        request = messages.read_request(text, public_url=self._public_url)
        ask = replace(messages.ask_of(request, headers), ticket=Ticket("messages", lambda: body), parked=parked)
        await self._loop.answer(ask, self._loop.find(request.model), caller, voice=_voice(sink, request, caller))

    async def wait(self, body: bytes, waiting: Sequence[Waiting], caller: Caller, sink: Sink) -> None:
        """Answer that these calls still wait."""
        request = messages.read_request(_read(body)[1], public_url=self._public_url)
        voice = _voice(sink, request, caller)
        await voice.begin(())
        await voice.finish(waits(waiting))

    async def _pass(self, request: MessagesRequest, model: Model, caller: Caller, sink: Sink, headers: Headers) -> None:
        """Hand the request to the provider and its answer to the caller, as bytes."""

        def make(to: Model) -> ModelRequest:
            return ModelRequest(messages.passed_on(request, to), request.stream, "messages", headers)

        models = self._loop.models
        with models.admit(caller.principal, model, request_id=caller.request_id) as permit:
            async with models.call(permit, model, make) as call:
                for name, value in call.told:
                    caller.add_header(name, value)
                if request.stream:
                    await _relay(call, sink)
                    return
                data = await call.read()
                try:
                    call.usage = counted(usage_in(data))
                except ValueError:
                    raise call.invalid(NOT_AN_OBJECT) from None
                await sink.reply(200, with_hub(data, call.used.cost_usd, call.warnings))

    async def count(self, body: bytes, caller: Caller, sink: Sink, *, headers: Headers = ()) -> None:
        """Count the tokens of a request: its provider does if it speaks this format, else the count is an estimate."""
        request = messages.read_request(body, public_url=self._public_url)
        model = self._loop.find(request.model)
        models = self._loop.models
        with models.admit(caller.principal, model, request_id=caller.request_id) as permit:
            permit.usage = FREE
            if request.sources or request.has_hub_calls or not self._loop.speaks(model, "messages"):
                if permit.unjudged:
                    await permit.judge(unambiguous(body), rewrites=True, screening=True)
                await sink.reply(200, _estimated(body))
                return

            def make(to: Model) -> ModelRequest:
                return ModelRequest(messages.passed_on(request, to), False, "messages", headers, "/count_tokens")

            async with models.call(permit, model, make) as call:
                data = await call.read()
                call.usage = FREE
                await sink.reply(200, data)


def _about(headers: Headers, body: bytes) -> bytes:
    return msgspec.msgpack.encode((headers, body))


def _read(about: bytes) -> tuple[Headers, bytes]:
    return msgspec.msgpack.decode(about, type=tuple[Headers, bytes])


def _voice(sink: Sink, request: MessagesRequest, caller: Caller) -> MessagesVoice:
    return MessagesVoice(sink, model=request.model, stream=request.stream, request_id=caller.request_id)


def _estimated(body: bytes) -> bytes:
    tokens = max(1, len(body) // BYTES_PER_TOKEN)
    return encode({"input_tokens": tokens, "hub": {"estimated": True}})


async def _relay(call: ModelCall, sink: Sink) -> None:
    """Pass a stream on as it comes."""

    def finish(event: bytes, usage: JsonObject) -> bytes:
        call.usage = counted(usage)
        return with_hub(event, call.used.cost_usd, call.warnings)

    tap = MessagesTap(finish)
    started = False
    try:
        async for chunk in call.chunks():
            passed = tap.feed(chunk)
            if passed:
                if not started:
                    await sink.start(200)
                    started = True
                await sink.write(passed)
    except EventTooLarge:
        raise call.invalid(NOT_A_STREAM) from None
    finally:
        call.heard(counted(tap.usage), made=tap.meter.tokens, is_whole=tap.ended)
    if tap.error is not None:
        raise call.reported(tap.error)
    if not tap.ended:
        raise call.invalid(CUT_SHORT)
