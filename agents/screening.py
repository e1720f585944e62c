"""Guards over what agents answer: whole answers, and events on their way to one reader. What is kept of a task is as its agent said it.

Texts that readers put together are looked at together: the parts of a message, those of an artifact, and what later events
append to it. One that was redacted stands whole in the place of its first piece. Events wait for the end of an artifact
that comes in pieces, in their order, and for nothing else. What guards looked at is what goes on, in canonical form.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, suppress
from typing import Any, Protocol

from msgspec import UNSET

from agents.shown import Shown, is_over
from agents.speech import CANONICAL, Speech
from agents.spoken import event_of
from registry.egress.sse import MAX_EVENT_BYTES
from registry.entries import Agent
from registry.errors import AgentFault, GuardRefused, HubError, NotSupported, UpstreamError, UpstreamInvalid
from registry.gate import Permit
from registry.judged import JsonObject, decode, encode, plain
from registry.rules.judging import Posted

MAX_BYTES = MAX_EVENT_BYTES
"""Of events that wait, and of the texts of a task's artifacts."""

MARK = "[redacted]"
"""In the place of what goes on with a text whose end turned out to be what guards redact, after its beginning was shown."""


_TEXT = re.compile(rb'"text"[ \t\r\n]*:')


class Screen(Protocol):
    """What guards leave of a value; as `registry.gate.Permit` has it."""

    async def screened(self, value: Any) -> Any:
        """Raises `GuardRefused`: nothing."""


def is_clear(permit: Permit, speech: Speech, data: bytes, *, is_json: bool) -> bool:
    """Whether guards surely find nothing in an answer, so that it goes on as it came; False: they have to look at it.

    `is_json`: all of it was read as JSON before.
    """
    if speech.binding == "GRPC":
        return False
    if data.count(b'"text"') > 1 and len(_TEXT.findall(data)) > 1:  # some may be put together
        said = plain(data)
        if said is UNSET or any(_all_parts(said)):
            return False
    return permit.clears(data, is_as_seen=False, is_json=is_json)


async def whole(screen: Screen, result: JsonObject) -> JsonObject:
    """What the caller may get of a canonical result.

    Raises:
        GuardRefused: nothing.
    """
    made: JsonObject = decode(encode(result))
    await _joined(screen, [_Text(parts) for parts in _all_parts(made)])
    left: JsonObject = await screen.screened(made)
    return left


async def fault(screen: Screen, error: HubError) -> HubError:
    """What the caller may hear of an error; raises as `whole`."""
    if not isinstance(error, AgentFault):
        return error
    said = {"message": error.message, "details": error.details}
    left = await screen.screened(said)
    return error if left is said else AgentFault(error.entry, error.code, left["message"], left["details"])


async def events(
    screen: Screen, entry: Agent, batches: AsyncGenerator[list[Shown]], after: int | None
) -> AsyncGenerator[list[Shown]]:
    """What the caller may get of a stream; `after` as of a subscription, of which `batches` are all from the first on.

    Raises:
        GuardRefused: no more of it.
        NotSupported: its subscriber has seen all of it.
        HubError: as the stream does.
    """
    waiting, failure, last = Waiting(screen, entry), None, after or 0
    is_news = after is None
    async with aclosing(batches):
        while True:
            try:
                batch = await anext(batches)
            except StopAsyncIteration:
                break
            except HubError as error:
                failure = error
                break
            shown = [one for one in await waiting.take(batch) if not one.seq or one.seq > last]
            is_news = is_news or bool(shown)
            if shown or not batch:
                yield shown
    shown = [one for one in await waiting.rest() if not one.seq or one.seq > last]
    if shown:
        yield shown
    if failure is not None:
        raise await fault(screen, failure)
    if not (is_news or shown):
        raise NotSupported("the task is finished; nothing more comes of it")


async def posted(screen: Posted, entry: Agent, kept: AsyncIterator[list[Shown]], first: int) -> list[JsonObject]:
    """What may be posted of a task's events, now that those from number `first` on are kept; `kept` are all."""
    waiting = Waiting(screen, entry)
    told: list[JsonObject] = []
    async for batch in kept:
        for one in batch:
            screen.is_told = one.seq >= first
            with suppress(GuardRefused, UpstreamError):
                ready = await waiting.take([one])
                told += [decode(shown.data) for shown in ready if screen.is_told]
    return told


def is_piece(event: JsonObject) -> bool:
    """Whether an event waits for others."""
    return "artifactUpdate" in event and event["artifactUpdate"].get("lastChunk") is not True


class _Text:
    """A text in pieces: text parts in the order in which they came."""

    def __init__(self, parts: list[JsonObject], before: _Text | None = None) -> None:
        self.parts = parts
        self._before: str = before.said if before is not None else ""
        self._shown: str = before.left if before is not None else ""
        """What guards left of `_before`."""
        self.said: str = self._before
        self.left: str = self._shown
        """What guards left of `said`."""

    def take(self) -> str:
        """All of it."""
        self.said = self.left = self._before + "".join(part["text"] for part in self.parts)
        return self.said

    def leave(self, text: object) -> None:
        """Have the parts say what guards left of it."""
        self.left = text if isinstance(text, str) else MARK
        if self.left == self.said or not self.parts:
            return
        for part in self.parts:
            part["text"] = ""
        goes_on = self.left.startswith(self._shown)
        self.parts[0]["text"] = self.left[len(self._shown) :] if goes_on else MARK


async def _joined(screen: Screen, texts: list[_Text]) -> None:
    said = [text.take() for text in texts]
    for text, left in zip(texts, await screen.screened(said), strict=True):
        text.leave(left)


class Waiting:
    """Events of one task, or of one message, on their way to one reader."""

    def __init__(self, screen: Screen, entry: Agent) -> None:
        self._screen = screen
        self._entry = entry
        self._held: list[tuple[int, JsonObject]] = []
        self._held_bytes = 0
        self._open: set[str] = set()
        """Artifacts of which more is to come."""
        self._artifacts: dict[str, _Text] = {}
        """What was said of each, as far as it was shown."""

    async def take(self, batch: list[Shown]) -> list[Shown]:
        """Take events that came together, and return those that need not wait any more.

        Raises:
            GuardRefused: none of those may be shown.
            UpstreamInvalid: they are not A2A, or too much.
        """
        ready = 0
        for shown in batch:
            event = event_of(self._entry, shown.speech, shown.data)
            self._held.append((shown.seq, event))
            self._held_bytes += len(shown.data)
            self._look(event)
            if not self._open:
                ready = len(self._held)
        if ready:
            self._held_bytes = sum(len(shown.data) for shown in batch[len(batch) - len(self._held) + ready :])
        if self._held_bytes + sum(len(text.said) for text in self._artifacts.values()) > MAX_BYTES:
            reason = f"its artifacts are larger than {MAX_BYTES} bytes, and guards look at them"
            raise UpstreamInvalid(self._entry.name, reason)
        released, self._held = self._held[:ready], self._held[ready:]
        return await self._screened(released) if released else []

    async def rest(self) -> list[Shown]:
        """Return all that waits: nothing more comes; raises as `take`."""
        released, self._held = self._held, []
        return await self._screened(released)

    def _look(self, event: JsonObject) -> None:
        update = event.get("artifactUpdate")
        if isinstance(update, dict):
            (self._open.add if is_piece(event) else self._open.discard)(_name(update.get("artifact")))
            return
        status = (event.get("statusUpdate") or event.get("task") or {}).get("status") or {}
        if is_over(status.get("state")):
            self._open.clear()

    async def _screened(self, released: list[tuple[int, JsonObject]]) -> list[Shown]:
        texts: list[_Text] = []
        begun: set[str] = set()
        for _, event in released:
            self._collect(event, texts, begun)
        await _joined(self._screen, texts)
        left = await self._screen.screened([event for _, event in released])
        return [Shown(seq, CANONICAL, encode(event)) for (seq, _), event in zip(released, left, strict=True)]

    def _collect(self, event: JsonObject, texts: list[_Text], begun: set[str]) -> None:
        """Note the texts of an event; `begun`: the artifacts of which some stand in `texts`, to which more is added."""
        update = event.get("artifactUpdate")
        if not isinstance(update, dict):
            for artifact in (event.get("task") or {}).get("artifacts") or []:
                self._artifacts[_name(artifact)] = _Text(list(_texts(artifact)))
                begun.add(_name(artifact))
                texts.append(self._artifacts[_name(artifact)])
            texts += [_Text(parts) for parts in _all_parts({**event, "task": _without_artifacts(event.get("task"))})]
            return
        name, parts = _name(update.get("artifact")), list(_texts(update.get("artifact")))
        if update.get("append") and name in begun:
            self._artifacts[name].parts += parts
            return
        self._artifacts[name] = _Text(parts, self._artifacts.get(name) if update.get("append") else None)
        begun.add(name)
        texts.append(self._artifacts[name])


def _without_artifacts(task: object) -> object:
    return {name: value for name, value in task.items() if name != "artifacts"} if isinstance(task, dict) else None


def _name(artifact: object) -> str:
    return repr(artifact.get("artifactId") if isinstance(artifact, dict) else None)


def _texts(owner: object) -> Iterator[JsonObject]:
    """The text parts of a message or an artifact."""
    parts = owner.get("parts") if isinstance(owner, dict) else None
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part


def _all_parts(value: object) -> Iterator[list[JsonObject]]:
    """The text parts of each message and artifact in a value that has several."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            if len(parts := list(_texts(one))) > 1:
                yield parts
            left += one.values()
        elif isinstance(one, list):
            left += one
