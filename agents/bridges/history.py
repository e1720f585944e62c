"""What was said in a context, for platforms that remember nothing and are told all of it with each message.

It is JSON in the platform's own words, cut into parts of which the long ones are on the context's shelf: neither what was said before nor
the answer that comes is in memory whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Sequence

import msgspec

from agents.bridges.bridge import Shelf, Turn
from agents.bridges.way import JsonPieces
from registry.errors import UpstreamInvalid
from registry.judged import JsonObject, encode

MAX_BYTES = 1024 * 1024
"""Of what was said in a context: what was said first is forgotten first, and with a turn that is longer all."""

HELD_BYTES = 16 * 1024
"""What is in memory of what is being said, and what of what was said stands in the session itself."""

SHORT = 128

SAID = "said"
"""The session's member that has it."""


class Kept(msgspec.Struct, frozen=True):
    """A part that is on the shelf."""

    name: str
    size: int


Part = str | Kept
"""Of JSON that is cut anywhere between two letters."""


class Notes:
    """What is said in one turn, as it comes: several texts of JSON that grow side by side."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._kept: dict[Hashable, list[Part]] = {}
        self._held: dict[Hashable, bytearray] = {}
        self._held_bytes = 0
        self._size = 0

    @property
    def is_full(self) -> bool:
        """Whether it is too long to be remembered: then nothing of it is noted."""
        return self._size > MAX_BYTES

    async def write(self, name: Hashable, json: bytes) -> None:
        """Let a text grow."""
        self._size += len(json)
        if self.is_full:
            await self._discard()
            return
        self._held.setdefault(name, bytearray()).extend(json)
        self._held_bytes += len(json)
        while self._held_bytes > HELD_BYTES:
            longest = max(self._held, key=lambda one: len(self._held[one]))
            part = bytes(self._held.pop(longest))
            self._held_bytes -= len(part)
            self._kept.setdefault(longest, []).extend(await _put(self._shelf, part))

    async def say(self, name: Hashable, text: str) -> None:
        """Let a text grow that is within a string of JSON."""
        await self.write(name, encode(text)[1:-1])

    def __contains__(self, name: Hashable) -> bool:
        """Whether something was noted under a name."""
        return name in self._kept or name in self._held

    def parts(self, name: Hashable) -> list[Part]:
        """A text as it is now."""
        return [*self._kept.get(name, ()), self._held.get(name, b"").decode()]

    async def _discard(self) -> None:
        kept, self._kept, self._held, self._held_bytes = self._kept, {}, {}, 0
        for parts in kept.values():
            await _drop(self._shelf, parts)


class History:
    """All of it, oldest first: some turns together, as many as are forgotten together, their messages with commas between."""

    def __init__(self, turn: Turn) -> None:
        self._name = turn.way.name
        self._shelf = turn.shelf
        self._said = msgspec.convert(turn.session.get(SAID, []), list[list[Part]])
        self._forgotten: list[Part] = []

    def asked(
        self, body: JsonObject, before: Sequence[JsonObject], now: Sequence[JsonObject]
    ) -> JsonObject | JsonPieces:
        """A request's `body` with `messages`: all that was said, between those that are told `before` it and `now`."""
        messages = joined([*map(_whole, before), *self._said, *map(_whole, now)])
        if all(isinstance(part, str) for part in messages):
            return {**body, "messages": msgspec.Raw(f"[{''.join(map(str, messages))}]".encode())}
        head = encode({**body, "messages": []}).decode().removesuffix("]}")
        return lambda: _Read(self._name, self._shelf, [head, *messages, "]}"])

    async def add(self, notes: Notes, messages: Sequence[Sequence[Part]], *, goes_on: bool = False) -> None:
        """Remember messages too, which were noted in a turn; `goes_on`: in the one before."""
        if notes.is_full:
            self.forget()
        else:
            await self._add(joined(messages), goes_on=goes_on)

    async def replace(self, messages: Sequence[JsonObject]) -> None:
        """Remember these, and nothing else."""
        self.forget()
        for number, message in enumerate(messages):
            await self._add(_whole(message), goes_on=number > 0 and message.get("role") != "user")

    def forget(self) -> None:
        """Remember nothing of it."""
        while self._said:
            self._forgotten += self._said.pop()

    @property
    def session(self) -> JsonObject:
        """What `Turn.session` is to have of it."""
        return {
            SAID: [
                [part if isinstance(part, str) else msgspec.to_builtins(part) for part in said] for said in self._said
            ]
        }

    async def tidy(self) -> None:
        """Take what is forgotten off the shelf, once the session does not name it any more."""
        await _drop(self._shelf, self._forgotten)

    async def _add(self, added: list[Part], *, goes_on: bool) -> None:
        if not added or (goes_on and not self._said):  # what a tool gave means nothing without its call
            return
        if goes_on or (self._said and _size(self._said[-1]) < HELD_BYTES):
            added = joined([self._said.pop(), added])
        elif self._said:
            self._said[-1] = await self._shelved(self._said[-1])
        added = _merged(added)
        if sum(len(part) for part in added if isinstance(part, str)) >= HELD_BYTES:
            added = await self._shelved(added)
        self._said.append(added)
        while sum(map(_size, self._said)) > MAX_BYTES:
            self._forgotten += self._said.pop(0)

    async def _shelved(self, parts: list[Part]) -> list[Part]:
        """The same, with none in the session but those that are as short as the names of others."""
        found: list[Part] = []
        for part in parts:
            if isinstance(part, str) and len(part) > SHORT:
                found += await _put(self._shelf, part.encode())
            else:
                found.append(part)
        return found


class _Read:
    """The bytes of parts, each when it is wanted."""

    def __init__(self, agent: str, shelf: Shelf, parts: Sequence[Part]) -> None:
        self._agent = agent
        self._shelf = shelf
        self._parts = iter(parts)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        part = next(self._parts, None)
        if part is None:
            raise StopAsyncIteration
        if isinstance(part, str):
            return part.encode()
        found = await self._shelf.get(part.name)
        if found is None:
            raise UpstreamInvalid(self._agent, "what was said in this context cannot be read any more; begin another")
        return found


def _size(parts: Sequence[Part]) -> int:
    return sum(len(part.encode()) if isinstance(part, str) else part.size for part in parts)


def _whole(message: JsonObject) -> list[Part]:
    return [encode(message).decode()]


def joined(messages: Sequence[Sequence[Part]]) -> list[Part]:
    """Some that stand in one list."""
    return [part for message in messages for part in (",", *message)][1:]


def _merged(parts: Sequence[Part]) -> list[Part]:
    """The same, as few as they can be."""
    found: list[Part] = []
    for part in parts:
        if isinstance(part, str) and found and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return found


async def _put(shelf: Shelf, data: bytes) -> list[Kept]:
    """Keep what is long in pieces that can be read one after the other."""
    pieces = [data[begin : begin + HELD_BYTES] for begin in range(0, len(data), HELD_BYTES)]
    return [Kept(await shelf.put(piece), len(piece)) for piece in pieces]


async def _drop(shelf: Shelf, parts: Sequence[Part]) -> None:
    for part in parts:
        if isinstance(part, Kept):
            await shelf.drop(part.name)
