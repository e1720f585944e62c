"""What guards make of events in pieces: each text is looked at whole, and half a secret is not shown after the other half."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agents import screening
from agents.screening import Waiting
from agents.shown import Shown
from agents.speech import CANONICAL
from registry.entries import Agent
from registry.errors import UpstreamInvalid
from registry.rules.guard_kinds import build
from registry.rules.guards import Guard, GuardSpec, look_now

AGENT = Agent(name="echo", url="http://agent.example")
IDS = {"taskId": "t", "contextId": "c"}


class Redacting:
    """Replaces `jo@example.org` by `#`, as a permit with such a guard does."""

    guard = Guard.of(GuardSpec("mail", "redact"), build("pii", {"kinds": ["email"]}))

    async def screened(self, value: Any) -> Any:
        return look_now([self.guard], "results", value, approved=False).value


def piece(text: str, *, append: bool = True, last: bool = False, name: str = "a") -> dict[str, Any]:
    artifact = {"artifactId": name, "parts": [{"text": text}] if text else []}
    return {"artifactUpdate": {**IDS, "artifact": artifact, "append": append, "lastChunk": last}}


def status(state: str, *texts: str) -> dict[str, Any]:
    words = {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": text} for text in texts]}
    return {"statusUpdate": {**IDS, "status": {"state": f"TASK_STATE_{state}", "message": words}}}


def task(*texts: str) -> dict[str, Any]:
    artifact = {"artifactId": "a", "parts": [{"text": text} for text in texts]}
    return {"task": {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_WORKING"}, "artifacts": [artifact]}}


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [value["text"]] if "text" in value else [text for item in value.values() for text in texts(item)]
    return [text for item in value for text in texts(item)] if isinstance(value, list) else []


async def shown(*batches: list[dict[str, Any]]) -> list[list[str]]:
    """The texts that are shown after each batch, and when there are no more."""
    waiting, number, found = Waiting(Redacting(), AGENT), 0, []
    for batch in batches:
        numbered = [Shown(number + at, CANONICAL, json.dumps(event).encode()) for at, event in enumerate(batch, 1)]
        number += len(batch)
        found.append(texts([json.loads(one.data) for one in await waiting.take(numbered)]))
    return [*found, texts([json.loads(one.data) for one in await waiting.rest()])]


HALF, OTHER = "to jo@exam", "ple.org, now"
MAIL = "[redacted: mail]"


@pytest.mark.parametrize(
    ("batches", "left"),
    [
        ([[piece(HALF)], [piece(OTHER, last=True)]], [[], [f"to {MAIL}, now", ""], []]),
        ([[piece(HALF)], [piece(OTHER)], [status("COMPLETED", "x")]], [[], [], [f"to {MAIL}, now", "", "x"], []]),
        ([[piece(HALF)], [piece(OTHER)]], [[], [], [f"to {MAIL}, now", ""]]),
        ([[piece(HALF), piece("b", name="b", last=True), piece(OTHER, last=True)]], [[f"to {MAIL}, now", "b", ""], []]),
        ([[piece(HALF), status("WORKING", "w")], [piece(OTHER, last=True)]], [[], [f"to {MAIL}, now", "w", ""], []]),
        ([[piece(HALF, last=True)], [piece(OTHER, last=True)]], [[HALF], ["[redacted]"], []]),
        ([[piece(HALF + OTHER, last=True)], [piece("!", last=True)]], [[f"to {MAIL}, now"], ["!"], []]),
        ([[piece(HALF, last=True)], [piece(OTHER, append=False, last=True)]], [[HALF], [OTHER], []]),
        ([[task("so ", HALF)], [piece(OTHER, last=True)]], [["so ", HALF], ["[redacted]"], []]),
        ([[task(HALF, OTHER)], [piece("!", last=True)]], [[f"to {MAIL}, now", ""], ["!"], []]),
        ([[status("WORKING", HALF, OTHER)]], [[f"to {MAIL}, now", ""], []]),
        ([[piece("", last=True)], [piece("a", last=True)]], [[], ["a"], []]),
    ],
    ids=[
        "until it is closed",
        "until its task is over",
        "until the stream ends",
        "beside another one",
        "before a status",
        "appended to what was closed",
        "appended to what was redacted",
        "written anew",
        "appended to a task's",
        "appended to a redacted task's",
        "a message in parts",
        "without parts",
    ],
)
async def test_a_text_in_pieces_is_looked_at_whole(batches: list[list[Any]], left: list[list[str]]) -> None:
    assert await shown(*batches) == left


async def test_what_needs_not_wait_does_not() -> None:
    events = [[task("a")], [status("WORKING", "b")], [piece("c", last=True)], [status("COMPLETED", "d")]]
    assert await shown(*events) == [["a"], ["b"], ["c"], ["d"], []]


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "MAX_BYTES", 1000)
    with pytest.raises(UpstreamInvalid, match="larger than 1000 bytes"):
        await shown([piece("x" * 600)], [piece("x" * 600)])
    with pytest.raises(UpstreamInvalid, match="larger than 1000 bytes"):
        await shown(*([piece("x" * 600, name=name, last=True)] for name in "abc"))
    assert await shown(*([status("WORKING", "x" * 600)] for _ in "abc"))
