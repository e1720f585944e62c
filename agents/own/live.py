"""A task of an own agent under way: its events in A2A 1.0, for all who watch it, and the loop's voice that makes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime

from agents import answers, snapshot
from agents.shown import is_over
from llm.pieces import Piece, Refusal, Text
from llm.types import Finished, Listing, Offer, ToolOutcome
from registry.identity import Principal
from registry.judged import JsonObject, encode

ARTIFACT = "answer"

TOOL = "urn:hubbub:tool"
"""The member of a status's metadata that names the tool that was called last."""


class Live:
    """One task. It begins when its agent does, or goes on when it is answered."""

    def __init__(self, task: JsonObject, owner: Principal | None = None) -> None:
        """`task` has at least an id and a context; `owner` is who begins it, if it is new."""
        self.owner = owner
        self.asker = ""
        """For whom it works now, by id."""
        self.work: asyncio.Task[None] | None = None
        self.is_cancelled = False
        """Its caller wants it to end."""
        self.over = asyncio.Event()
        self.task: JsonObject = {**task}
        self._events: list[bytes] = []
        self._changed = asyncio.Event()

    @property
    def id(self) -> str:
        """The task's."""
        return str(self.task["id"])

    @property
    def context_id(self) -> str:
        """Its context's."""
        return str(self.task["contextId"])

    def reach(self, state: str, text: str | None = None, *, metadata: JsonObject | None = None) -> None:
        """Say that the task is in a state now, and what the agent says to it."""
        status: JsonObject = {"state": f"TASK_STATE_{state}", "timestamp": now()}
        if text is not None:
            status["message"] = self._message(text)
        update = {"taskId": self.id, "contextId": self.context_id, "status": status}
        self._tell({"statusUpdate": {**update, "metadata": metadata} if metadata else update})

    def note(self, metadata: JsonObject) -> None:
        """Change what the task's metadata says."""
        self.reach("WORKING", metadata=metadata)

    def _message(self, text: str) -> JsonObject:
        # the same words are the same message: who is told twice is not told of two
        name = f"{self.id}-{len(self.task.get('history') or ())}"
        ids = {"taskId": self.id, "contextId": self.context_id}
        return {"messageId": name, "role": "ROLE_AGENT", "parts": [{"text": text}], **ids}

    def write(self, text: str) -> None:
        """Say more of the answer."""
        has_begun = any(one["artifactId"] == self._artifact for one in self.task.get("artifacts") or ())
        artifact = {"artifactId": self._artifact, "name": "Answer", "parts": [{"text": text}]}
        update = {"taskId": self.id, "contextId": self.context_id, "artifact": artifact, "append": has_begun}
        self._tell({"artifactUpdate": update})

    @property
    def _artifact(self) -> str:
        """The answer to each message is one of its own."""
        asked = sum(message.get("role") == "ROLE_USER" for message in self.task.get("history") or ())
        return ARTIFACT if asked <= 1 else f"{ARTIFACT}-{asked}"

    def _tell(self, event: JsonObject) -> None:
        snapshot.apply(self.task, event)
        self._events.append(encode(event))
        self._change()

    def _change(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def end(self) -> None:
        """Nothing more comes until somebody answers."""
        self.over.set()
        self._change()

    async def follow(self) -> AsyncGenerator[list[bytes]]:
        """The task as it is, and what comes of it."""
        at = len(self._events)
        yield [encode({"task": self.task})]
        while True:
            changed = self._changed
            batch = self._events[at:]
            if batch:
                at += len(batch)
                yield batch
            elif self.over.is_set():
                return
            else:
                await changed.wait()


def now() -> str:
    """The time as A2A writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown(task: JsonObject, history_length: object = None) -> JsonObject:
    """A task for its caller: the pieces of a finished answer as one, and as much history as is asked for (§3.2.4)."""
    found = dict(task)
    if is_over(answers.sighting_of(task).state):
        found["artifacts"] = [{**one, "parts": [_joined(one["parts"])]} for one in task.get("artifacts") or ()]
    if not found.get("artifacts"):
        found.pop("artifacts", None)
    if history_length == 0:
        found.pop("history", None)
    elif isinstance(history_length, int) and history_length > 0:
        found["history"] = (task.get("history") or [])[-history_length:]
    return found


def _joined(parts: Sequence[JsonObject]) -> JsonObject:
    return {"text": "".join(part["text"] for part in parts)}


class AgentVoice:
    """How the loop speaks to who watches a task (llm.ports.Voice)."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._texts: list[str] = []
        self._is_new_round = False
        self.finished: Finished | None = None

    @property
    def text(self) -> str:
        """All that was said."""
        return "".join(self._texts)

    async def begin(self, _listings: Sequence[Listing]) -> None:
        """The task is at work already."""

    async def say(self, piece: Piece, _offer: Offer | None = None) -> None:
        """Write the answer's text, and leave out what is between the model and its tools."""
        if not isinstance(piece, Text | Refusal) or not piece.text:
            return
        text = f"\n\n{piece.text}" if self._is_new_round and self._texts else piece.text
        self._is_new_round = False
        self._texts.append(text)
        self._live.write(text)

    async def called(self, outcome: ToolOutcome) -> None:
        """Say which tool was called; its result is for the model."""
        self._is_new_round = True
        told = {"name": outcome.call.name, "failed": outcome.failed}
        self._live.reach("WORKING", metadata={TOOL: told})

    async def finish(self, finished: Finished) -> None:
        """Note how it ended."""
        self.finished = finished
