"""What the hub did in a chat before its caller's own tools were called, put back when the caller goes on.

A caller sees calls of its own tools only, so its next request lacks the rounds of the hub's. They are kept, for their
owner, under the calls that they ended with and the caller's message before: both come back with the results of the calls.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from llm.fleeting import Fleeting
from llm.pieces import Piece
from llm.ports import Voice
from llm.storing import read, written
from llm.types import Finished, Listing, Offer, ToolOutcome
from llm.wire.chat_upstream import messages_of
from registry import judged
from registry.errors import ParseFailed
from registry.identity import Principal
from registry.judged import JsonObject
from registry.sealed.kept import Kept
from registry.sealed.secrets import digest

_KIND = "rounds"
KEPT_S = 86_400.0
MAX_LOOKED_AT = 64
"""Messages with calls that are looked up, the newest: each is a read."""


class Memory:
    """Rounds of all callers. One for a process."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._fleeting = Fleeting()

    async def keep(self, said: Sequence[object], finished: Finished, owner: Principal, *, is_stored: bool) -> None:
        """Keep the rounds of an answer to the messages `said` that ends with calls of the caller's own."""
        if not finished.own or not any(turn.outcomes for turn in finished.turns):
            return
        name = _name(owner, said[-1] if said else None, [(one.id, one.name, one.arguments) for one in finished.own])
        value, expires_at = written(finished.turns), time.time() + KEPT_S
        if is_stored:
            await self._kept.put(_KIND, name, owner, value, expires_at=expires_at, anew=True)
        else:
            await self._fleeting.put(_KIND, name, owner, value, expires_at=expires_at)

    async def complete(self, said: Sequence[object], owner: Principal) -> Sequence[object]:
        """The messages with what is kept of them in its place."""
        with_calls = [at for at, message in enumerate(said) if b'"tool_calls"' in _bytes(message)][-MAX_LOOKED_AT:]
        found = {at: turns for at in with_calls if (turns := await self._rounds(said, at, owner)) is not None}
        if not found:
            return said
        whole: list[object] = []
        late: list[JsonObject] = []
        for at, message in enumerate(said):
            if late and not _is_result(message):
                whole += late
                late = []
            if at in found:
                *before, last = found[at]
                # what a tool gave beside text follows the last result, which is the caller's
                late = [last] if last["role"] == "user" else []
                whole += [*before, *(() if late else (last,))]
            else:
                whole.append(message)
        return [*whole, *late]

    async def _rounds(self, said: Sequence[object], at: int, owner: Principal) -> list[JsonObject] | None:
        try:
            calls = _calls(judged.decode(_bytes(said[at])))
        except ParseFailed:
            return None
        if not calls:
            return None
        name = _name(owner, said[at - 1] if at else None, calls)
        kept = await self._fleeting.get(_KIND, name, owner) or await self._kept.get(_KIND, name, owner)
        return None if kept is None else list(messages_of(read(kept)))


class Remembering:
    """A voice whose caller finds its rounds again (llm.ports.Voice)."""

    def __init__(
        self, voice: Voice, memory: Memory, said: Sequence[object], owner: Principal, *, is_stored: bool
    ) -> None:
        self._voice = voice
        self._memory = memory
        self._said = said
        self._owner = owner
        self._is_stored = is_stored

    async def begin(self, listings: Sequence[Listing]) -> None:
        """As the voice."""
        await self._voice.begin(listings)

    async def say(self, piece: Piece, offer: Offer | None = None) -> None:
        """As the voice."""
        await self._voice.say(piece, offer)

    async def called(self, outcome: ToolOutcome) -> None:
        """As the voice."""
        await self._voice.called(outcome)

    async def finish(self, finished: Finished) -> None:
        """Keep the rounds before the caller can come back for them."""
        await self._memory.keep(self._said, finished, self._owner, is_stored=self._is_stored)
        await self._voice.finish(finished)


def _bytes(message: object) -> bytes:
    return bytes(message) if isinstance(message, msgspec.Raw) else judged.encode(message)


def _is_result(message: object) -> bool:
    found = judged.decode(_bytes(message))
    return isinstance(found, Mapping) and found.get("role") == "tool"


def _calls(message: object) -> list[tuple[str, str, str]]:
    """Id, name and arguments of the calls of an assistant's message; empty for anything else."""
    calls = message.get("tool_calls") if isinstance(message, Mapping) and message.get("role") == "assistant" else None
    found: list[tuple[str, str, str]] = []
    for call in calls if isinstance(calls, list) else ():
        kind = call.get("type") or "function" if isinstance(call, Mapping) else None
        body = call.get(kind) if isinstance(kind, str) else None
        if not isinstance(body, Mapping):
            return []
        found.append(
            (str(call.get("id")), str(body.get("name")), str(body.get("arguments") or body.get("input") or ""))
        )
    return found


def _name(owner: Principal, before: object, calls: Sequence[tuple[str, str, str]]) -> str:
    """Under which rounds are kept: ids of calls alone are the same in many conversations with some providers."""
    message = None if before is None else judged.decode(_bytes(before))
    plain = [(name, tool, _plain(arguments)) for name, tool, arguments in calls]
    return digest(msgspec.json.encode((owner.id, message, plain), order="sorted"))


def _plain(arguments: str) -> object:
    """Arguments in no words of their own: programs read and write them anew."""
    try:
        return msgspec.json.decode(arguments)
    except (ValueError, RecursionError):
        return arguments
