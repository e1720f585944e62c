"""LangGraph's server by its own API (docs.langchain.com, LangGraph Server API, read 2026-11; run against langgraph-api).

A context is a thread, a task a run of an assistant on it; `interrupt` asks, `Command(resume=…)` answers. A run goes on when
its reader leaves, and is read on from the last event that was seen.

`assistant`: the assistant's id, or that of its graph.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from agents.bridges.bridge import About, Asks, Bridge, Piece, Remember, Running, Skill, Step, Steps, Text, Turn, Working
from agents.bridges.way import Event, Way
from registry.errors import UpstreamInvalid, UpstreamRefused, UpstreamRejected, UpstreamTimeout, UpstreamUnavailable
from registry.judged import JsonObject, encode

MODES = ("messages-tuple", "updates", "custom")
REJOINS = 5
"""How often a stream that broke is read on before the task is given up."""

CUSTOM = "urn:hubbub:langgraph:custom"
"""The member of a status's metadata that has what a graph writes by `get_stream_writer`."""


class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What an entry's `options` may say."""

    assistant: str
    api: Literal["runs"] = "runs"
    """Its own; with `a2a` there is no bridge (registry.declared.platforms)."""


class LangGraph:
    """One assistant."""

    credentials = None
    rejoins = True

    def __init__(self, url: str, options: Options) -> None:
        self._url = url.rstrip("/")
        self._assistant = options.assistant

    async def run(self, turn: Turn) -> Steps:
        """Start a run on the context's thread (agents.bridges.bridge.Bridge)."""
        thread = turn.session.get("thread")
        if thread is None:
            made = await turn.way.json("POST", f"{self._url}/threads", {"metadata": {"user": turn.user}})
            thread = _text(made, "thread_id", turn.way)
            yield Remember({"thread": thread})
        body: JsonObject = {
            "assistant_id": self._assistant,
            "stream_mode": list(MODES),
            "on_disconnect": "continue",
            "stream_resumable": True,
            "multitask_strategy": "enqueue",
            **({"command": {"resume": _answer(turn)}} if turn.is_answer else {"input": _input(turn)}),
        }
        url = f"{self._url}/threads/{quote(thread, safe='')}/runs/stream"
        events = turn.way.events("POST", url, body)
        async with aclosing(self._read(turn, {"thread": thread}, events)) as steps:
            async for step in steps:
                yield step

    async def rejoin(self, turn: Turn) -> Steps:
        """Read a run on (agents.bridges.bridge.Bridge)."""
        async with aclosing(self._read(turn, turn.ref, self._again(turn.way, turn.ref))) as steps:
            async for step in steps:
                yield step

    async def cancel(self, turn: Turn) -> None:
        """Cancel a run, and wait until it is (agents.bridges.bridge.Bridge)."""
        if "run" in turn.ref:
            await turn.way.json("POST", f"{self._run(turn.ref)}/cancel?wait=true&action=interrupt")

    async def about(self, way: Way) -> About:
        """What the server says of the assistant (agents.bridges.bridge.Bridge)."""
        try:
            found = await way.json("GET", f"{self._url}/assistants/{quote(self._assistant, safe='')}")
        except (UpstreamRejected, UpstreamRefused):  # it is the id of a graph
            listed = await way.json("POST", f"{self._url}/assistants/search", {"graph_id": self._assistant, "limit": 1})
            found = listed[0] if isinstance(listed, list) and listed else {}
        name = str(found.get("name") or self._assistant) if isinstance(found, dict) else self._assistant
        said = str(found.get("description") or "") if isinstance(found, dict) else ""
        modes = ("text/plain", "image/*", "application/json")
        return About(said, (Skill(self._assistant, name, said or f"The assistant {name}.", ("langgraph",)),), modes)

    def _run(self, ref: JsonObject) -> str:
        return f"{self._url}/threads/{quote(str(ref['thread']), safe='')}/runs/{quote(str(ref['run']), safe='')}"

    def _again(self, way: Way, ref: JsonObject) -> AsyncGenerator[Event]:
        """The events of a run behind the last that was seen, and those that come."""
        last = (("last-event-id", str(ref["last"])),) if ref.get("last") else (("last-event-id", "-1"),)
        return way.events("GET", f"{self._run(ref)}/stream?cancel_on_disconnect=false", headers=last)

    async def _read(self, turn: Turn, ref: JsonObject, events: AsyncGenerator[Event]) -> Steps:
        """Read a run to its end, as often as its stream breaks."""
        reading = _Reading(turn.way)
        for tries_left in reversed(range(REJOINS)):
            try:
                async with aclosing(events):
                    async for event in events:
                        for step in reading.steps(event):
                            yield step
                        if reading.run is not None and (event.id or "run" not in ref):
                            ref = {**ref, "run": reading.run, "last": event.id or ref.get("last", "")}
                            yield Running(ref)
                break
            except (UpstreamInvalid, UpstreamTimeout, UpstreamUnavailable):
                if "run" not in ref or not tries_left or reading.has_failed:
                    raise
                events = self._again(turn.way, ref)
        async for step in self._end(turn.way, ref, reading):
            yield step

    async def _end(self, way: Way, ref: JsonObject, reading: _Reading) -> Steps:
        """How the run ended, for what its events may not have said."""
        if reading.asks is not None:
            yield reading.asks
            return
        if "run" not in ref:
            raise UpstreamInvalid(way.name, "its stream named no run")
        run = await way.json("GET", self._run(ref))
        status = run.get("status") if isinstance(run, dict) else None
        if status in {"error", "timeout"}:
            raise UpstreamInvalid(way.name, f"its run ended with {status}")
        if status == "interrupted":
            thread = f"{self._url}/threads/{quote(str(ref['thread']), safe='')}"
            state = await way.json("GET", f"{thread}/state")
            tasks = state.get("tasks") if isinstance(state, dict) else None
            found = [one for task in tasks or () for one in task.get("interrupts") or ()]
            yield _asks(found)


class _Reading:
    """What the events of one run have shown."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self.run: str | None = None
        self.asks: Asks | None = None
        self.has_failed = False
        self._in_pieces: set[str] = set()
        """Ids of the messages that came in pieces, which may come whole again."""

    def steps(self, event: Event) -> list[Step]:
        """What one event says; those of kinds that are not known say nothing."""
        data = self._way.read(event.data)
        match event.name.partition("|")[0]:  # behind the bar: of which subgraph
            case "metadata" if isinstance(data, dict) and isinstance(data.get("run_id"), str):
                self.run = data["run_id"]
            case "messages" if isinstance(data, list) and data and isinstance(data[0], dict):
                return self._said(data[0])
            case "updates" if isinstance(data, dict) and "__interrupt__" in data:
                self.asks = _asks(data["__interrupt__"])
            case "custom":
                return [Working(metadata={CUSTOM: data})]
            case "error":
                self.has_failed = True
                said = [data.get("error"), data.get("message")] if isinstance(data, dict) else [data]
                raise UpstreamInvalid(self._way.name, ": ".join(str(one) for one in said if one) or "its run failed")
        return []

    def _said(self, message: JsonObject) -> list[Step]:
        kind, name = message.get("type"), str(message.get("id") or "")
        if kind == "AIMessageChunk":
            self._in_pieces.add(name)
        elif kind != "ai" or name in self._in_pieces:
            return []
        content = message.get("content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content or ()
        steps = [step for block in blocks if isinstance(block, dict) and (step := _shown(block)) is not None]
        for step in steps:
            if isinstance(step, Text):
                self._way.said.add(name, step.text)
        return steps


def make(url: str, options: dict[str, Any]) -> Bridge:
    """Make the bridge (agents.bridges.bridge.Make)."""
    return LangGraph(url, msgspec.convert(options, Options))


def _asks(interrupts: Any) -> Asks:
    """What a graph asks: a text as text, anything else as data."""
    values = [one.get("value") for one in interrupts if isinstance(one, dict)] if isinstance(interrupts, list) else []
    return Asks([{"text": one} if isinstance(one, str) else {"data": one} for one in values])


def _answer(turn: Turn) -> Any:
    """What resumes a graph: the one text or the one value that its caller answers with, or all parts."""
    parts = [part["text"] if "text" in part else part.get("data", part) for part in turn.parts]
    return parts[0] if len(parts) == 1 else parts


def _input(turn: Turn) -> JsonObject:
    return {"messages": [{"role": "human", "content": [_block(part) for part in turn.parts]}]}


def _block(part: JsonObject) -> JsonObject:
    """A part as a content block of LangChain."""
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if "data" in part:
        return {"type": "text", "text": encode(part["data"]).decode()}
    kind = str(part.get("mediaType") or "application/octet-stream")
    if kind.startswith("image/"):
        url = part.get("url") or f"data:{kind};base64,{part.get('raw', '')}"
        return {"type": "image_url", "image_url": {"url": url}}
    where = {"url": part["url"]} if "url" in part else {"base64": part.get("raw", "")}
    name = {"filename": part["filename"]} if part.get("filename") else {}
    return {"type": "file", "mime_type": kind, **where, **name}


def _shown(block: JsonObject) -> Step | None:
    """A content block as a step; None: it is none for the caller, such as a call of a tool."""
    match block:
        case {"type": "text", "text": str(text)}:
            return Text(text)
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return Piece(_file(url))
        case {"type": "image" | "file" | "audio" | "video", "base64": str(data)}:
            return Piece({"raw": data, "mediaType": str(block.get("mime_type") or "application/octet-stream")})
        case {"type": "image" | "file" | "audio" | "video", "url": str(url)}:
            return Piece(_file(url))
    return None


def _file(url: str) -> JsonObject:
    head, comma, data = url.partition(";base64,")
    if comma and head.startswith("data:"):
        return {"raw": data, "mediaType": head.removeprefix("data:")}
    return {"url": url}


def _text(answer: Any, member: str, way: Way) -> str:
    found = answer.get(member) if isinstance(answer, dict) else None
    if not isinstance(found, str):
        raise UpstreamInvalid(way.name, f"its answer has no {member}")
    return found
