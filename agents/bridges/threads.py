"""Classic agents of Azure AI Foundry (REST reference of Foundry projects, 2025-05-01: threads, messages, runs and their streaming events, files; read 2026-11).

A context is a thread, a message a run of the agent in it. Calls of functions that nobody there handles, and approvals of MCP tools
(`requires_action`), ask. A stream of a run that was left cannot be joined again.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

from agents.bridges.answering import asked, assent, output, said_to
from agents.bridges.bridge import (
    TOOL,
    About,
    Asks,
    EndsWhenLeft,
    Piece,
    Remember,
    Running,
    Skill,
    Step,
    Steps,
    Text,
    Turn,
    Working,
)
from agents.bridges.responses import INCOMPLETE
from agents.bridges.way import Credentials, Event, Way
from registry.errors import NotSupported, ParseFailed, UpstreamInvalid
from registry.judged import JsonObject, decode, encode

VERSION = "api-version=2025-05-01"


class Threads(EndsWhenLeft):
    """One classic agent of a project."""

    def __init__(self, project: str, agent: str, credentials: Credentials) -> None:
        self._project = project
        self._agent = agent
        self.credentials = credentials

    async def run(self, turn: Turn) -> Steps:
        """Run the agent in the context's thread (agents.bridges.bridge.Bridge)."""
        way, thread = turn.way, turn.session.get("thread")
        if thread is None:
            thread = await self._made(way, "threads", {"metadata": {"user": turn.user}})
            yield Remember({"thread": thread})
        runs = f"threads/{quote(thread, safe='')}/runs"
        waiting = turn.ref.get("waiting") if turn.is_answer else None
        if waiting:
            where = f"{runs}/{quote(str(turn.ref['run']), safe='')}/submit_tool_outputs"
            body: JsonObject = {**_answers(turn, waiting), "stream": True}
        else:
            message = {"role": "user", "content": [_content(turn, part) for part in turn.parts]}
            where, body = runs, {"assistant_id": self._agent, "additional_messages": [message], "stream": True}
        heard = _Heard(way)
        async with aclosing(self._heard(way, thread, heard, way.events("POST", self._at(where), body))) as steps:
            async for step in steps:
                yield step
        if heard.waiting:
            yield Asks([_question(call) for call in heard.waiting])

    async def cancel(self, turn: Turn) -> None:
        """Cancel a run (agents.bridges.bridge.Bridge)."""
        thread, run = (quote(str(turn.ref[name]), safe="") for name in ("thread", "run"))
        await turn.way.json("POST", self._at(f"threads/{thread}/runs/{run}/cancel"))

    async def about(self, way: Way) -> About:
        """What the project says of the agent (agents.bridges.bridge.Bridge)."""
        found = await way.json("GET", self._at(f"assistants/{quote(self._agent, safe='')}"))
        said = found if isinstance(found, dict) else {}
        name, description = str(said.get("name") or self._agent), str(said.get("description") or "")
        skill = Skill(self._agent, name, description or f"The agent {name}.", ("azure",))
        return About(description, (skill,), ("text/plain", "image/*", "application/json"))

    def _at(self, path: str) -> str:
        return f"{self._project}/{path}?{VERSION}"

    async def _made(self, way: Way, path: str, body: JsonObject) -> str:
        made = await way.json("POST", self._at(path), body)
        name = made.get("id") if isinstance(made, dict) else None
        if not isinstance(name, str):
            raise UpstreamInvalid(way.name, "it made a thread without an id")
        return name

    async def _heard(self, way: Way, thread: str, heard: _Heard, events: AsyncGenerator[Event]) -> Steps:
        """What the events of one run say, files with them."""
        async with aclosing(events):
            async for event in events:
                before = heard.ref
                for step in heard.steps(event):
                    yield step
                if heard.ref != before:
                    yield Running({"thread": thread, **heard.ref})
                while heard.files:
                    yield await self._file(way, heard.files.pop(0))
                if heard.is_over:
                    break
        if not heard.is_over:
            raise UpstreamInvalid(way.name, "its answer was cut short")

    async def _file(self, way: Way, name: str) -> Piece:
        async with way.send("GET", self._at(f"files/{quote(name, safe='')}/content")) as incoming:
            data, kind = await incoming.read(), incoming.media_type
        return Piece({"raw": base64.b64encode(data).decode(), "mediaType": kind or "application/octet-stream"})


class _Heard:
    """What the events of one run have shown."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self.ref: JsonObject = {}
        """The run, and the calls that wait."""
        self.files: list[str] = []
        """Ids of images to be fetched."""
        self.is_over = False
        self._said: set[str] = set()
        """Ids of messages that came in pieces, and come whole once more."""

    @property
    def waiting(self) -> list[JsonObject]:
        """Calls that want an answer."""
        return self.ref.get("waiting") or []

    def steps(self, event: Event) -> list[Step]:
        """What one event says; those of kinds that are not known say nothing. Raises what it says went wrong."""
        data = self._way.read(event.data) if event.data != b"[DONE]" else None
        if not isinstance(data, dict):
            return []
        if event.name == "error":
            inner = data["error"] if isinstance(data.get("error"), dict) else data
            raise UpstreamInvalid(self._way.name, str(inner.get("message") or "its stream ended with an error"))
        if event.name == "thread.message.delta":
            self._said.add(name := str(data.get("id")))
            steps = self._content((data.get("delta") or {}).get("content"), is_new=True)
            for step in steps:
                self._way.said.add(name, step.text)
            return [*steps]
        if event.name == "thread.message.completed":
            return [*self._content(data.get("content"), is_new=data.get("id") not in self._said)]
        if event.name == "thread.run.step.completed":
            return _tools(data)
        is_run = event.name.startswith("thread.run.") and not event.name.startswith("thread.run.step.")
        return self._reached(data) if is_run else []

    def _content(self, content: Any, *, is_new: bool) -> list[Text]:
        steps: list[Text] = []
        for part in content or ():
            match part:
                case {"type": "text", "text": {"value": str(text)}} if is_new:
                    steps.append(Text(text))
                case {"type": "image_file", "image_file": {"file_id": str(name)}} if is_new:
                    self.files.append(name)
        return steps

    def _reached(self, run: JsonObject) -> list[Step]:
        """How far the run is."""
        if isinstance(run.get("id"), str):
            self.ref = {"run": run["id"]}
        status = run.get("status")
        if status == "requires_action":
            action = run.get("required_action") or {}
            found = (action.get(str(action.get("type"))) or {}).get("tool_calls") or ()
            self.ref = {**self.ref, "waiting": [one for one in found if isinstance(one, dict) and "id" in one]}
        elif status in {"failed", "cancelled", "expired"}:
            why = run.get("last_error") or {}
            raise UpstreamInvalid(self._way.name, str(why.get("message") or why.get("code") or f"its run was {status}"))
        self.is_over |= status in {"completed", "incomplete", "requires_action"}
        if status == "incomplete":
            return [Working(metadata={INCOMPLETE: str((run.get("incomplete_details") or {}).get("reason"))})]
        return []


def _tools(step: JsonObject) -> list[Step]:
    """The platform's tools that a step called."""
    calls = (step.get("step_details") or {}).get("tool_calls") or ()
    return [Working(metadata={TOOL: {"name": str(one.get("name") or one["type"])}}) for one in calls if "type" in one]


def _question(call: JsonObject) -> JsonObject:
    """What a call asks (`RequiredFunctionToolCall`, `RequiredMcpToolCall`)."""
    said = call.get("function") or call
    try:
        arguments = decode(str(said.get("arguments") or "{}").encode())
    except ParseFailed:
        arguments = said.get("arguments")
    more = {"confirm": True, "server_label": call.get("server_label")} if call.get("type") == "mcp" else {}
    return asked(call["id"], said.get("name"), arguments, **more)


def _answers(turn: Turn, waiting: list[JsonObject]) -> JsonObject:
    """The caller's answer to each call that waits."""
    found: dict[str, list[JsonObject]] = {}
    for call in waiting:
        said = said_to(turn, call["id"])
        if call.get("type") == "mcp":
            found.setdefault("tool_approvals", []).append({"tool_call_id": call["id"], "approve": assent(said)[0]})
        else:
            found.setdefault("tool_outputs", []).append({"tool_call_id": call["id"], "output": output(said)})
    return {**found}


def _content(turn: Turn, part: JsonObject) -> JsonObject:
    """A part of A2A as one of a user's message."""
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if "data" in part:
        return {"type": "text", "text": encode(part["data"]).decode()}
    kind = str(part.get("mediaType") or "")
    if not kind.startswith("image/"):
        raise NotSupported(f"{turn.way.name} takes text, data and images.")
    return {"type": "image_url", "image_url": {"url": part.get("url") or f"data:{kind};base64,{part.get('raw', '')}"}}
