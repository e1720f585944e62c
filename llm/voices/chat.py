"""Speaks chat completions: many rounds behind it, one answer with one id before it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from llm.pieces import CallArguments, CallBegun, Opaque, Piece, Refusal, Text, Thought
from llm.ports import Sink
from llm.spending import hub_of, spent
from llm.types import Finished, Listing, Offer, ToolOutcome
from llm.verdicts import pending
from llm.wire import chat
from llm.wire.chat_upstream import message_of
from registry.judged import JsonObject


class ChatVoice:
    """One answer (llm.ports.Voice). A stream has one role, one finish_reason, and never shows calls of the hub's tools."""

    def __init__(self, sink: Sink, request: chat.ChatRequest, *, request_id: str) -> None:
        self._sink = sink
        self._request = request
        self._writer = chat.Writer(id=f"chatcmpl-{request_id}", created=int(time.time()), model=request.model)
        self._own: dict[int, tuple[int, str]] = {}
        """Of the caller's own calls of this round: their place in the answer, and their kind."""

    async def begin(self, listings: Sequence[Listing]) -> None:
        """Begin the stream."""
        if self._request.stream:
            await self._sink.start(200)
            await self._write({"role": "assistant", "content": ""})

    async def say(self, piece: Piece, offer: Offer | None = None) -> None:
        """Stream what the caller may see of it."""
        if isinstance(piece, Opaque) and piece.format == "chat" and "system_fingerprint" in piece.value:
            self._writer.system_fingerprint = piece.value["system_fingerprint"]
        elif self._request.stream and offer is None and (delta := self._delta(piece)):
            await self._write(delta)

    def _delta(self, piece: Piece) -> JsonObject:
        match piece:
            case Text(text):
                return {"content": text}
            case Thought(text):
                return {"reasoning_content": text}
            case Refusal(text):
                return {"refusal": text}
            case Opaque("chat", members):
                return members
            case CallBegun(index, id, name, kind, extra):
                self._own[index] = (len(self._own), kind)
                body = {"name": name, "input" if kind == "custom" else "arguments": ""}
                return {"tool_calls": [{"index": self._own[index][0], "id": id, "type": kind, kind: body, **extra}]}
            case CallArguments(index, text):
                place, kind = self._own[index]
                body = {"input" if kind == "custom" else "arguments": text}
                return {"tool_calls": [{"index": place, kind: body}]}
        return {}

    async def called(self, outcome: ToolOutcome) -> None:
        """Report a call in the `hub` member of a chunk; of a whole answer at its end."""
        if self._request.stream:
            await self._write({}, hub=chat.report([outcome]))

    async def finish(self, finished: Finished) -> None:
        """End the stream, or answer whole."""
        if not self._request.stream:
            await self._sink.reply(200, self._whole(finished))
            return
        hub = hub_of(spent(finished), finished.warnings)
        if finished.waiting:
            hub["approvals"] = [pending(one) for one in finished.waiting]
        await self._sink.write(self._writer.delta({}, finish_reason=finished.finish_reason, hub=hub))
        if self._request.usage_wanted:
            await self._sink.write(self._writer.usage(finished.usage))
        await self._sink.write(chat.DONE)

    def _whole(self, finished: Finished) -> bytes:
        reply = finished.reply
        message = reply.message if reply.format == "chat" else message_of(reply.pieces)
        own = {call.id for call in finished.own}
        calls = [call for call in message.get("tool_calls") or () if call["id"] in own]
        message = {name: value for name, value in message.items() if name != "tool_calls"}
        if calls:
            message["tool_calls"] = calls
        hub = {**chat.report(finished.outcomes), **hub_of(spent(finished), finished.warnings)}
        if finished.waiting:
            hub["approvals"] = [pending(one) for one in finished.waiting]
        return self._writer.answer(message, finish_reason=finished.finish_reason, usage=finished.usage, hub=hub)

    async def _write(self, delta: JsonObject, *, hub: JsonObject | None = None) -> None:
        await self._sink.write(self._writer.delta(delta, hub=hub))
