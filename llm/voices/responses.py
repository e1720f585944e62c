"""Speaks OpenAI's Responses API: many rounds behind it, one response with one id before it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from llm.pieces import CallArguments, CallBegun, Opaque, Piece, Refusal, Text, Thought
from llm.spending import hub_of, spent
from llm.types import Finished, Listing, Offer, ToolOutcome
from llm.verdicts import pending
from llm.wire.response_events import Called, Composer, usage_of
from llm.wire.response_items import going_on
from llm.wire.response_tools import Labels
from registry.errors import ContentFiltered, ContextTooLong, HubError, LimitError, UpstreamLimited, UpstreamRejected
from registry.judged import JsonObject, encode


class Outlet(Protocol):
    """Where a response goes."""

    async def start(self) -> None:
        """It begins."""

    async def write(self, events: Sequence[bytes]) -> None:
        """Some events of a stream."""

    async def end(self, response: JsonObject, events: Sequence[bytes]) -> None:
        """The response is as it will stay, and `events` are the last ones."""


class ResponsesVoice:
    """One response (llm.ports.Voice)."""

    def __init__(
        self,
        composer: Composer,
        outlet: Outlet,
        *,
        listed: Collection[str],
        approved: Mapping[str, str],
        peculiar: Sequence[str] = (),
    ) -> None:
        """`listed` are the labels whose tools the caller was told of before: they are not listed again.

        `approved` are the approvals of calls that waited, by the calls' ids; `peculiar` is what of the request only
        providers of this format can be told.
        """
        self._peculiar = peculiar
        self._composer = composer
        self._outlet = outlet
        self._listed = listed
        self._approved = approved
        self._held: set[int] = set()
        """Calls of this round that are told of when they are made, or ask for approval: not before."""
        self._labels = Labels(())
        self.has_begun = False

    async def begin(self, listings: Sequence[Listing]) -> None:
        """Begin the response, with the tools of all sources."""
        self.has_begun = True
        self._labels = Labels(listings)
        await self._outlet.start()
        await self._write(self._composer.begin())
        for label in self._labels.offers:
            if label not in self._listed:
                await self._write(self._composer.listed(label, self._labels.listed(label)))

    async def say(self, piece: Piece, offer: Offer | None = None) -> None:
        """Show some of it."""
        composer = self._composer
        match piece:
            case Text(text):
                await self._write(composer.say("text", text))
            case Refusal(text):
                await self._write(composer.say("refusal", text))
            case Thought(text):
                await self._write(composer.say("thought", text))
            case CallBegun():
                await self._begin_call(piece, offer)
            case CallArguments(index, text):
                if index not in self._held:
                    await self._write(composer.argue(index, text))
            case Opaque("responses", told):
                await self._write(composer.relay(told))

    async def _begin_call(self, call: CallBegun, offer: Offer | None) -> None:
        self._held.discard(call.index)
        if offer is None:
            await self._write(self._composer.call(call))
        elif offer.may_wait:
            self._held.add(call.index)
        else:
            called = Called(call.id, offer.label, self._labels.shown(offer))
            await self._write(self._composer.hub_call(call.index, called))

    async def called(self, outcome: ToolOutcome) -> None:
        """Show what came of a call. What went wrong is told as the model is told it."""
        call = outcome.call.id
        if outcome.offer is not None and not self._composer.is_open(call):
            called = Called(call, outcome.offer.label, self._labels.shown(outcome.offer), self._approved.get(call))
            await self._write(self._composer.hub_call(None, called))
            await self._write(self._composer.argue_of(call, outcome.call.arguments))
        if not outcome.failed:
            await self._write(self._composer.called(call, outcome.text, None))
            return
        content = list(outcome.content) or [{"type": "text", "text": outcome.text}]
        error = {"type": "mcp_tool_execution_error", "content": content}
        await self._write(self._composer.called(call, None, error))

    async def finish(self, finished: Finished) -> None:
        """The response is complete."""
        for one in finished.waiting:
            name = self._labels.shown(one.offer)
            arguments = encode(one.arguments).decode()
            await self._write(self._composer.asked(one.offer.label, name, arguments, request_id=one.approval))
        hub: JsonObject = {**finished.reply.told, **hub_of(spent(finished), finished.warnings)}
        if self._peculiar and any(turn.reply.format != "responses" for turn in finished.fresh):
            hub["left_out"] = list(self._peculiar)
        if finished.waiting:
            hub["approvals"] = [{**pending(one), "response_id": going_on(one.run)} for one in finished.waiting]
        events = list(self._composer.end(finished.finish_reason, usage=usage_of(finished.usage), hub=hub))
        await self._outlet.end(self._composer.response(), events)

    async def fail(self, error: HubError, *, request_id: str) -> None:
        """The response ends with an error."""
        event = self._composer.stop("failed", error=failure(error, request_id))
        await self._outlet.end(self._composer.response(), [event])

    async def _write(self, events: Iterable[bytes]) -> None:
        await self._outlet.write([event for event in events if event])


def failure(error: HubError, request_id: str) -> JsonObject:
    """The `error` member of a response that failed."""
    code = "rate_limit_exceeded" if isinstance(error, LimitError | UpstreamLimited) else "server_error"
    if isinstance(error, ContextTooLong | ContentFiltered):  # OpenAI has no other codes for them here
        code = "invalid_prompt"
    rejected = isinstance(error, UpstreamRejected)
    return {"code": code, "message": error.text if rejected else f"{error.text} (request {request_id})"}
