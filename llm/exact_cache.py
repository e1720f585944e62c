"""Answers that are given again to exactly the same request, where a model's entry says so (`cache`). In memory, bounded.

Kept is what was sent: whole answers that came to their end, and streams as bytes. Nobody sees what another key or team was
answered, and what ran tools of the hub is never kept: its answer depends on more than the request.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from llm.call import Models
from llm.ports import Sink
from llm.rounds import Caller
from llm.types import Format
from registry import judged
from registry.entries import Model
from registry.gate import Usage

MAX_BYTES = 64 * 1024 * 1024
"""Of all answers; those that were not asked for longest go first."""

MAX_ANSWER_BYTES = 4 * 1024 * 1024

OVERHEAD_BYTES = 2048
"""Of each, about."""

HEADER = b"x-hub-cache"

Key = tuple[Format, str, Model, bytes]
"""The door's format, whose it is, the model as it is configured, and the request."""


@dataclass(slots=True)
class _Kept:
    status: int
    body: bytes
    is_stream: bool
    until: float


class _Recorder:
    """Passes an answer on and notes it (llm.ports.Sink)."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.status = 0
        self.is_stream = False
        self.parts: list[bytes] = []
        self.size = 0

    async def reply(self, status: int, body: bytes) -> None:
        self.status = status
        self._note(body)
        await self._sink.reply(status, body)

    async def start(self, status: int) -> None:
        self.status, self.is_stream = status, True
        await self._sink.start(status)

    async def write(self, chunk: bytes) -> None:
        self._note(chunk)
        await self._sink.write(chunk)

    def _note(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > MAX_ANSWER_BYTES:
            self.parts.clear()
        else:
            self.parts.append(data)


class ExactCache:
    """Answers of all models. One for a process."""

    def __init__(self, models: Models, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._models = models
        self._clock = clock
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._size = 0

    async def answer(
        self,
        form: Format,
        body: bytes,
        *,
        model: Model,
        caller: Caller,
        sink: Sink,
        answer: Callable[[Sink], Awaitable[None]],
    ) -> None:
        """Answer a request from memory, or let `answer` do it and keep what it says; a request that wants a new answer gets one.

        Raises:
            HubError: as the gate, and as `answer`.
        """
        if self._models.screens(model):  # for each caller otherwise
            await answer(sink)
            return
        principal = caller.principal
        key = form, principal.team_id or principal.id, model, hashlib.sha256(body).digest()
        found = None if caller.is_fresh else self._find(key)
        if found is None:
            caller.add_header(HEADER, b"miss")
            recorder, keeping = _Recorder(sink), self._models.keeping
            keeping.add(caller.request_id)
            try:
                await answer(recorder)
            finally:
                is_own = caller.request_id in keeping
                keeping.discard(caller.request_id)
            is_warned = self._models.warnings(caller.request_id)  # which is this caller's affair, and of now
            if recorder.status == 200 and recorder.size <= MAX_ANSWER_BYTES and is_own and not is_warned:
                body = b"".join(recorder.parts)
                self._keep(key, _Kept(200, body, recorder.is_stream, self._clock() + (model.cache_s or 0.0)))
            return
        permit = self._models.admit(principal, model, request_id=caller.request_id)
        if permit.unjudged:
            await permit.judge(judged.unambiguous(body), rewrites=True)
        permit.usage = Usage(input_tokens=0, output_tokens=0, cost_usd=0.0)
        permit.settle("cached")
        caller.add_header(HEADER, b"hit")
        if found.is_stream:
            await sink.start(found.status)
            await sink.write(found.body)
        else:
            await sink.reply(found.status, found.body)

    def _find(self, key: Key) -> _Kept | None:
        found = self._kept.get(key)
        if found is not None and found.until <= self._clock():
            self._drop(key)
            return None
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def _keep(self, key: Key, kept: _Kept) -> None:
        self._drop(key)
        self._kept[key] = kept
        self._size += len(kept.body) + OVERHEAD_BYTES
        while self._size > MAX_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Key) -> None:
        gone = self._kept.pop(key, None)
        self._size -= len(gone.body) + OVERHEAD_BYTES if gone is not None else 0
