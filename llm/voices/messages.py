"""Speaks Anthropic's Messages: many rounds behind it, one message before it, the hub's calls as blocks of its own."""

from __future__ import annotations

from collections.abc import Sequence

from llm.pieces import CallArguments, CallBegun, Opaque, Piece, Refusal, Text, Thought
from llm.ports import Sink
from llm.spending import hub_of, spent
from llm.translate.chat_to_messages import arguments
from llm.types import Finished, Listing, Offer, ToolOutcome
from llm.verdicts import pending
from llm.wire.chat import report
from llm.wire.messages import event, usage_of
from llm.wire.messages_upstream import FINISH
from registry import judged
from registry.errors import UpstreamInvalid
from registry.judged import JsonObject

_REASONS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal", "tool_calls": "tool_use"}


class MessagesVoice:
    """One answer (llm.ports.Voice). Of its content blocks one is open at a time, as in Anthropic's own streams.

    A call of a hub tool is an `mcp_tool_use` with its source's label, its result an `mcp_tool_result`.
    """

    def __init__(self, sink: Sink, *, model: str, stream: bool, request_id: str) -> None:
        self._sink = sink
        self._stream = stream
        self._message: JsonObject = {
            "id": f"msg_{request_id.removeprefix('req_')}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_of({}),
        }
        self._has_begun = False
        self._blocks: list[JsonObject] = []
        self._open: str | None = None
        """The type of the block that is open: the last one."""
        self._call: int | None = None
        """Of an open block that is a call: its place among the calls of the round."""
        self._input = ""
        self._shown: set[str] = set()
        """Ids of the hub's calls that were shown."""
        self._unshown: set[int] = set()
        """Places of calls that may wait for approval: they are shown with their results."""
        self._end: JsonObject = {}
        """How the last round ended, in its provider's words."""
        self._refused = False

    async def begin(self, listings: Sequence[Listing]) -> None:
        """Begin the stream; the message begins with the first of what is said, which may be its usage."""
        if self._stream:
            await self._sink.start(200)

    async def say(self, piece: Piece, offer: Offer | None = None) -> None:
        """Say it in the block that is open if it belongs there, else in a new one."""
        match piece:
            case Text(text) | Refusal(text):
                self._refused = self._refused or isinstance(piece, Refusal)
                if text:
                    await self._within("text", {"type": "text", "text": ""}, {"type": "text_delta", "text": text})
            case Thought(text):
                if text:
                    await self._think({"type": "thinking_delta", "thinking": text})
            case CallBegun():
                await self._begin_call(piece, offer)
            case CallArguments(index, text):
                if text:
                    await self._argue(index, text)
            case Opaque("messages", value):
                await self._pass(value)

    async def _think(self, delta: JsonObject) -> None:
        await self._within("thinking", {"type": "thinking", "thinking": "", "signature": ""}, delta)

    async def _begin_call(self, call: CallBegun, offer: Offer | None) -> None:
        self._unshown.discard(call.index)
        if offer is None:
            await self._start({"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
        elif not offer.may_wait:
            await self._show(call.id, offer, {})
        else:
            self._unshown.add(call.index)
            return
        self._call = call.index

    async def _show(self, name: str, offer: Offer, given: JsonObject) -> None:
        self._shown.add(name)
        shown = {"id": name, "name": shown_name(offer), "server_name": offer.label, "input": given}
        await self._start({"type": "mcp_tool_use", **shown})

    async def _argue(self, index: int, text: str) -> None:
        if index in self._unshown:
            return
        if index != self._call:  # its block has ended, and no provider is known to do this
            raise UpstreamInvalid(self._message["model"], "it mixed the arguments of its calls")
        self._input += text
        await self._delta({"type": "input_json_delta", "partial_json": text})

    async def _pass(self, value: JsonObject) -> None:
        """Pass on what only this format knows."""
        match value:
            case {"type": "message_start", "usage": usage}:
                if not self._has_begun:
                    self._message["usage"] |= usage
                    await self._begin_message()
            case {"type": "content_block_start", "content_block": block}:
                await self._start(block)
            case {"type": "content_block_delta", "delta": {"type": "signature_delta"} as delta}:
                await self._think(delta)
            case {"type": "content_block_delta", "delta": {"type": "citations_delta"} as delta}:
                await self._within("text", {"type": "text", "text": ""}, delta)
            case {"type": "content_block_delta", "delta": delta} if self._open is not None:
                await self._delta(delta)
            case {"type": "content_block_stop"}:
                await self._stop()
            case {"type": "message_delta", "delta": delta}:
                self._end = delta

    async def called(self, outcome: ToolOutcome) -> None:
        """Show the result of a call; what nobody was shown as a call has none."""
        if outcome.call.id not in self._shown:
            if outcome.offer is None:
                return
            await self._show(outcome.call.id, outcome.offer, outcome.arguments)
        await self._start(
            {
                "type": "mcp_tool_result",
                "tool_use_id": outcome.call.id,
                "is_error": outcome.failed,
                "content": [{"type": "text", "text": outcome.text}],
            }
        )
        await self._stop()

    async def finish(self, finished: Finished) -> None:
        """End the message, or answer whole."""
        await self._begin_message()
        await self._stop()
        ended = self._ended(finished)
        usage = usage_of(finished.usage)
        said = hub_of(spent(finished), finished.warnings)
        hub = {**finished.reply.told, **report(finished.outcomes), **said}
        if finished.waiting:
            hub["approvals"] = [pending(one) for one in finished.waiting]
        if self._stream:
            await self._write({"type": "message_delta", "delta": ended, "usage": usage, "hub": hub})
            await self._write({"type": "message_stop"})
            return
        answer = {**self._message, **ended, "content": self._blocks, "usage": usage, "hub": hub}
        await self._sink.reply(200, judged.encode(answer))

    def _ended(self, finished: Finished) -> JsonObject:
        reason = self._end.get("stop_reason")
        if reason != "tool_use" and FINISH.get(str(reason)) == finished.finish_reason:
            return {"stop_sequence": None, **self._end}
        reason = "refusal" if self._refused else _REASONS.get(finished.finish_reason, "end_turn")
        return {"stop_reason": reason, "stop_sequence": None}

    async def _within(self, kind: str, block: JsonObject, delta: JsonObject) -> None:
        if self._open != kind:
            await self._start(block)
        await self._delta(delta)

    async def _start(self, block: JsonObject) -> None:
        await self._begin_message()
        await self._stop()
        self._open = block.get("type")
        self._blocks.append(dict(block))
        await self._write(
            {"type": "content_block_start", "index": len(self._blocks) - 1, "content_block": block},
        )

    async def _delta(self, delta: JsonObject) -> None:
        block = self._blocks[-1]
        if delta.get("type") == "input_json_delta" and self._call is None:
            self._input += str(delta.get("partial_json") or "")
        elif delta.get("type") != "input_json_delta":
            _add(block, delta)
        await self._write({"type": "content_block_delta", "index": len(self._blocks) - 1, "delta": delta})

    async def _stop(self) -> None:
        if self._open is None:
            return
        if self._input:
            self._blocks[-1]["input"] = arguments(self._input)
        self._open, self._call, self._input = None, None, ""
        await self._write({"type": "content_block_stop", "index": len(self._blocks) - 1})

    async def _begin_message(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            await self._write({"type": "message_start", "message": self._message})

    async def _write(self, data: JsonObject) -> None:
        if self._stream:
            await self._sink.write(event(data))


def shown_name(offer: Offer) -> str:
    """A tool's name as its source lists it: bare in a source that is its server's, else with the server's name."""
    return offer.tool.name if offer.label == offer.tool.server else offer.tool.exposed


def _add(block: JsonObject, delta: JsonObject) -> None:
    """Add a delta to its block."""
    for name, value in delta.items():
        if name == "citation":
            block["citations"] = [*(block.get("citations") or ()), value]
        elif name in ("text", "thinking"):
            block[name] = f"{block.get(name) or ''}{value}"
        elif name != "type":
            block[name] = value
