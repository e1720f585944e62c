"""Speaks to the caller of a tool loop: many rounds behind it, one answer with one id before it."""

from __future__ import annotations

import time

from llm.loop import Finished
from llm.ports import Sink
from llm.wire import chat
from registry.judged import JsonObject


class Voice:
    """One answer. A stream has one role, one finish_reason, and begins with what the caller first may see."""

    __slots__ = ("_sink", "_writer", "speaking")

    def __init__(self, sink: Sink, *, model: str, request_id: str) -> None:
        self._sink = sink
        self._writer = chat.Writer(id=f"chatcmpl-{request_id}", created=int(time.time()), model=model)
        self.speaking = False
        """Whether the stream has begun."""

    @property
    def system_fingerprint(self) -> str | None:
        """The provider's, passed on."""
        return self._writer.system_fingerprint

    @system_fingerprint.setter
    def system_fingerprint(self, given: str | None) -> None:
        self._writer.system_fingerprint = given

    async def say(self, delta: JsonObject, *, hub: JsonObject | None = None) -> None:
        """Stream a delta, or a report of executed calls; nothing for nothing."""
        if not delta and hub is None:
            return
        if not self.speaking:
            self.speaking = True
            await self._sink.start(200)
            delta = {"role": "assistant", **delta}
        await self._sink.write(self._writer.delta(delta, hub=hub))

    async def end(self, finished: Finished, *, usage_wanted: bool) -> None:
        """End the stream."""
        if not self.speaking:  # a model that said nothing at all
            await self.say({"content": ""})
        await self._sink.write(self._writer.delta({}, finish_reason=finished.finish_reason))
        if usage_wanted:
            await self._sink.write(self._writer.usage(finished.usage))
        await self._sink.write(chat.DONE)

    async def answer(self, finished: Finished) -> None:
        """Answer whole."""
        hub = chat.report(finished.outcomes)
        answer = self._writer.answer(
            finished.message, finish_reason=finished.finish_reason, usage=finished.usage, hub=hub
        )
        await self._sink.reply(200, answer)
