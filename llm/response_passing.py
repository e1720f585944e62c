"""Passes requests of OpenAI's Responses API through to providers that speak it, answers as they come but for what the hub says itself.

The hub keeps what is to be kept, for all models in the same way: the provider is asked to store nothing, is told all that
came before, and its own id of the response is shown to nobody.
"""

from __future__ import annotations

from collections.abc import Sequence

from llm.call import CUT_SHORT, NOT_A_STREAM, NOT_AN_OBJECT, ModelCall
from llm.platform import references
from llm.ports import ModelRequest
from llm.response_work import Work
from llm.rounds import Caller
from llm.run import Loop
from llm.spending import hub_of
from llm.voices.responses import Outlet, failure
from llm.wire.chat import counted
from llm.wire.response_events import event
from llm.wire.responses import THE_HUBS
from llm.wire.responses_tap import ResponsesTap
from llm.wire.responses_upstream import chat_usage, sendable
from registry import judged
from registry.egress.sse import EventTooLarge
from registry.errors import HubError, ParseFailed
from registry.judged import JsonObject


class Passing:
    """One request under way."""

    def __init__(self, work: Work, outlet: Outlet) -> None:
        self._work = work
        self._outlet = outlet
        request = work.request
        conversation = None if request.conversation is None else {"id": request.conversation}
        self._said: JsonObject = {
            "id": work.id,
            "previous_response_id": request.previous,
            "conversation": conversation,
            "store": request.store,
        }
        if references.mentions(judged.encode(request.asked.get("tools"))):  # with the hub's ids, as they were asked for
            self._said["tools"] = work.head()["tools"]
        self._tap = ResponsesTap(self._said)
        self._has_begun = False

    async def run(self, loop: Loop, caller: Caller) -> None:
        """Answer; raises `HubError` before the answer began, later ones end the response as failed."""
        try:
            await self._ask(loop, caller)
        except HubError as error:
            if not self._has_begun:
                raise
            response = {
                **self._work.head(),
                "status": "failed",
                "error": failure(error, caller.request_id),
                "output": [],
            }
            last = {"type": "response.failed", "sequence_number": self._tap.events, "response": response}
            await self._outlet.end(response, [event(last)])

    async def _ask(self, loop: Loop, caller: Caller) -> None:
        model, stream = self._work.model, self._work.request.stream
        models = loop.models
        with models.admit(caller.principal, model, request_id=caller.request_id) as permit:
            async with models.call(
                permit, model, lambda to: ModelRequest(_body(self._work, to.model), stream, "responses")
            ) as call:
                for name, value in call.told:
                    caller.add_header(name, value)
                response, events = await (self._relay(call) if stream else self._read(call))
        await self._outlet.end(response, events)

    async def _read(self, call: ModelCall) -> tuple[JsonObject, Sequence[bytes]]:
        data = await call.read()
        try:
            response = judged.decode(data)
        except ParseFailed:
            response = None
        if not isinstance(response, dict) or "output" not in response:
            raise call.invalid(NOT_AN_OBJECT)
        call.usage = counted(chat_usage(response))
        return response | self._said | _hub(call), ()

    async def _relay(self, call: ModelCall) -> tuple[JsonObject, Sequence[bytes]]:
        tap = self._tap
        try:
            async for chunk in call.chunks():
                events = tap.feed(chunk)
                if events:
                    await self._begin()
                    await self._outlet.write(events)
        except EventTooLarge:
            raise call.invalid(NOT_A_STREAM) from None
        except ValueError:
            raise call.invalid(NOT_AN_OBJECT) from None
        finally:
            used = counted(chat_usage(tap.last["response"])) if tap.last is not None else None
            call.heard(used, made=tap.meter.tokens, is_whole=tap.last is not None)
        if tap.error is not None:
            raise call.reported(tap.error)
        if tap.last is None:
            raise call.invalid(CUT_SHORT)
        await self._begin()
        tap.last["response"] |= _hub(call)
        response: JsonObject = tap.last["response"]
        return response, [event(tap.last)]

    async def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            await self._outlet.start()


def _hub(call: ModelCall) -> JsonObject:
    return {"hub": hub_of({"cost_usd": call.used.cost_usd}, call.warnings)}


def _body(work: Work, upstream_model: str) -> bytes:
    request = work.request
    members: JsonObject = {name: value for name, value in request.members.items() if name not in THE_HUBS}
    members |= {"model": upstream_model, "store": False}
    if work.before or any(item.get("type") == "item_reference" for item in _listed(request.asked.get("input"))):
        members["input"] = list(sendable([*work.before, *work.items]))
    return judged.encode(members)


def _listed(value: object) -> list[JsonObject]:
    return value if isinstance(value, list) else []
