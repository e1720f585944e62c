"""What a task has said of its artifacts, kept in pieces as it came: no answer has to be in memory whole to grow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby

import msgspec

from agents import snapshot
from registry.judged import JsonObject, encode

_piece = msgspec.json.Decoder(list[JsonObject])

Put = Callable[[int, bytes], Awaitable[None]]
Get = Callable[[int], Awaitable[bytes | None]]


class Pieces:
    """Those of one task, numbered from 0."""

    def __init__(self, count: int, *, put: Put, get: Get) -> None:
        """`count` are kept."""
        self.count = count
        self._put = put
        self._get = get

    async def append(self, updates: Sequence[JsonObject]) -> None:
        """Keep `artifactUpdate`s as one piece."""
        if updates:
            await self._put(self.count, encode(updates))
            self.count += 1

    async def onto(self, task: JsonObject, unkept: Sequence[JsonObject]) -> JsonObject:
        """`task`, grown by all that is kept now, and by what is not yet."""
        for number in range(self.count):
            found = await self._get(number)
            for update in _piece.decode(found) if found is not None else ():
                snapshot.apply(task, update)
        for update in unkept:
            snapshot.apply(task, update)
        return task


def folded(updates: Sequence[JsonObject]) -> list[JsonObject]:
    """Updates that come to the same, as few as can be: one for those of an artifact that follow one another."""
    found = []
    for _, group in groupby(updates, key=lambda one: one["artifactUpdate"]["artifact"]["artifactId"]):
        first, *more = [one["artifactUpdate"] for one in group]
        parts = [part for one in (first, *more) for part in one["artifact"]["parts"]]
        found.append({"artifactUpdate": {**first, "artifact": {**first["artifact"], "parts": joined(parts)}}})
    return found


def joined(parts: Sequence[JsonObject]) -> list[JsonObject]:
    """Parts of an artifact with the texts that follow one another as one."""
    found: list[JsonObject] = []
    for is_text, group in groupby(parts, key=lambda part: part.keys() == {"text"}):
        some = list(group)
        found += [{"text": "".join(part["text"] for part in some)}] if is_text else some
    return found


def own_copy(task: JsonObject) -> JsonObject:
    """A task that may grow by itself."""
    whole = snapshot.apply(None, {"task": task})
    assert whole is not None, "it is one"
    return whole
