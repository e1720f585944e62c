"""An MCP server as an agent (Streamable HTTP; what follows is of revision 2026-07-28, older ones: `mcp_older`): its tools are skills, a data part calls one.

What it asks for by elicitation is the task's question; its answer is the same call again, with the server's own state. A call
that the server makes a task of (extension `io.modelcontextprotocol/tasks`) is asked for until it is over, also after a restart.
Such a server knows no sessions, so a context means nothing to it.

`options`: `tool` and `argument`, what a message without a call calls: its text is that argument, a data part all of them.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from agents.bridges import mcp_older
from agents.bridges.bridge import About, Asks, Bridge, Piece, Running, Skill, Step, Steps, Text, Turn, Working
from agents.bridges.way import Way
from registry.errors import NotSupported, UpstreamInvalid, UpstreamRejected
from registry.judged import JsonObject

VERSION = "2026-07-28"
MAX_PAGES = 20
"""Of the list of tools."""

MAX_NAMED = 20
"""Tools named in a refusal."""

PROGRESS, QUESTIONS = "urn:hubbub:mcp:progress", "urn:hubbub:mcp:elicitation"
"""Of a status's metadata: a progress notification's params. Of a question's data part: what is asked, by the server's keys."""

REFUSALS = frozenset({"decline", "cancel"})
"""Texts that answer no question."""

_META = "io.modelcontextprotocol/"
TASKS = f"{_META}tasks"

MIN_POLL_S, MAX_POLL_S, POLL_S = 0.1, 60.0, 2.0
"""How often a task is asked for: as its server likes it, within these bounds, or as it is if the server does not say."""


class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What an entry's `options` may say."""

    tool: str | None = None
    argument: str | None = None

    def __post_init__(self) -> None:
        if (self.tool is None) != (self.argument is None):
            raise ValueError("tool and argument go together")


class Mcp:
    """One such server."""

    credentials = None
    rejoins = True
    """If the server made a task of the call; any other ends with its request."""

    def __init__(self, url: str, options: Options) -> None:
        self._url = url
        self._tool = options.tool
        self._argument = options.argument
        self._is_older: bool | None = None
        """Whether the server has sessions instead; None: not known yet."""

    async def run(self, turn: Turn) -> Steps:
        """Call a tool once (agents.bridges.bridge.Bridge)."""
        asked = turn.ref.get("asked") if turn.is_answer else None
        if isinstance(asked, dict) and "task" in turn.ref:
            params = {"taskId": turn.ref["task"], "inputResponses": _responses(asked, turn)}
            await self._result(turn.way, "tasks/update", params)
            steps = self._followed(turn.way, turn.ref["task"])
        else:
            steps = self._call(turn, asked)
        async with aclosing(steps):
            async for step in steps:
                yield step

    async def _call(self, turn: Turn, asked: Any) -> Steps:
        if isinstance(asked, dict):
            call: JsonObject = turn.ref["call"]
            state = {"requestState": turn.ref["state"]} if turn.ref.get("state") is not None else {}
            params = {**call, **state, "inputResponses": _responses(asked, turn)}
        else:
            call = params = await self._called(turn)
        async with aclosing(self._ask(turn.way, "tools/call", params, progress=turn.task_id)) as messages:
            async for message in messages:
                if message.get("method") == "notifications/progress":
                    yield _progress(message.get("params"))
        result = _result(turn.way, message)
        match result.get("resultType"):
            case "input_required":
                asked = result.get("inputRequests")
                yield Running({"call": call, "asked": asked, "state": result.get("requestState")})
                yield _asks(turn.way, asked)
            case "task" if isinstance(result.get("taskId"), str):
                async with aclosing(self._followed(turn.way, result["taskId"])) as steps:
                    async for step in steps:
                        yield step
            case _:
                for step in _said(turn.way, result):
                    yield step

    async def _followed(self, way: Way, task: str) -> Steps:
        """What becomes of a task of the server's, until it is over or asks."""
        yield Running({"task": task})
        told = None
        while True:
            found = await self._result(way, "tasks/get", {"taskId": task})
            match found.get("status"):
                case "completed" if isinstance(found.get("result"), dict):
                    for step in _said(way, found["result"]):
                        yield step
                    return
                case "input_required":
                    yield Running({"task": task, "asked": found.get("inputRequests")})
                    yield _asks(way, found.get("inputRequests"))
                    return
                case "working":
                    if (text := found.get("statusMessage")) != told and isinstance(text, str):
                        told = text
                        yield Working(text)
                case _:
                    raise UpstreamInvalid(way.name, _why(found))
            wanted = found.get("pollIntervalMs")
            pause = wanted / 1000 if isinstance(wanted, int | float) else POLL_S
            await asyncio.sleep(min(max(pause, MIN_POLL_S), MAX_POLL_S))

    async def cancel(self, turn: Turn) -> None:
        """Cancel a task of the server's; leaving its request has ended any other call."""
        if "task" in turn.ref:
            await self._result(turn.way, "tasks/cancel", {"taskId": turn.ref["task"]})

    async def rejoin(self, turn: Turn) -> Steps:
        """Ask for the server's task again (agents.bridges.bridge.Bridge)."""
        if "task" not in turn.ref:
            raise UpstreamInvalid(turn.way.name, "the call ended with the hub, and its server made no task of it")
        async with aclosing(self._followed(turn.way, turn.ref["task"])) as steps:
            async for step in steps:
                yield step

    async def about(self, way: Way) -> About:
        """Its tools (agents.bridges.bridge.Bridge)."""
        skills = [
            Skill(one["name"], str(one.get("title") or one["name"]), str(one.get("description") or ""), ("mcp",))
            for one in await self._tools(way)
        ]
        modes = ("application/json",) if self._tool is None else ("text/plain", "application/json")
        return About("Calls the tool that a data part names.", tuple(skills), modes)

    async def _called(self, turn: Turn) -> JsonObject:
        """What a message calls: name and arguments; raises `NotSupported`."""
        for part in turn.parts:
            data = part.get("data")
            if isinstance(data, dict) and isinstance(data.get("tool"), str):
                arguments = data.get("arguments", {})
                if isinstance(arguments, dict):
                    return {"name": data["tool"], "arguments": arguments}
        if self._tool is not None and self._argument is not None:
            said = next((part["data"] for part in turn.parts if isinstance(part.get("data"), dict)), None)
            text = "\n".join(part["text"] for part in turn.parts if isinstance(part.get("text"), str))
            return {"name": self._tool, "arguments": {self._argument: text} if said is None else said}
        tools = [one["name"] for one in await self._tools(turn.way)]
        more = f" and {len(tools) - MAX_NAMED} more" if len(tools) > MAX_NAMED else ""
        raise NotSupported(
            f'{turn.way.name} takes a data part, {{"tool": NAME, "arguments": {{…}}}}. '
            f"Its tools are {', '.join(tools[:MAX_NAMED])}{more}."
        )

    async def _tools(self, way: Way) -> list[JsonObject]:
        tools: list[JsonObject] = []
        params: JsonObject = {}
        for _ in range(MAX_PAGES):
            found = await self._result(way, "tools/list", params)
            listed = found.get("tools")
            tools += [one for one in listed or () if isinstance(one, dict) and isinstance(one.get("name"), str)]
            if not isinstance(found.get("nextCursor"), str):
                break
            params = {"cursor": found["nextCursor"]}
        return tools

    async def _result(self, way: Way, method: str, params: JsonObject) -> JsonObject:
        async with aclosing(self._ask(way, method, params)) as messages:
            *_, message = [one async for one in messages]
        return _result(way, message)

    async def _ask(
        self, way: Way, method: str, params: JsonObject, *, progress: str | None = None
    ) -> AsyncGenerator[JsonObject]:
        """Send one request; gives back the notifications that come, and the response last."""
        if self._is_older is None:
            self._is_older = await self._refuses_discovery(way)
        ask = mcp_older.ask if self._is_older else _ask
        async with aclosing(ask(way, self._url, method, params, progress=progress)) as messages:
            async for message in messages:
                yield message

    async def _refuses_discovery(self, way: Way) -> bool:
        try:
            async with aclosing(_ask(way, self._url, "server/discover", {})) as messages:
                *_, message = [one async for one in messages]
        except (UpstreamRejected, UpstreamInvalid):
            return True
        return "result" not in message


def make(url: str, options: dict[str, Any]) -> Bridge:
    """Make the bridge (agents.bridges.bridge.Make)."""
    return Mcp(url, msgspec.convert(options, Options))


async def _ask(
    way: Way, url: str, method: str, params: JsonObject, *, progress: str | None = None
) -> AsyncGenerator[JsonObject]:
    """Send one request of 2026-07-28; as `mcp_older.ask`."""
    meta = {
        f"{_META}protocolVersion": VERSION,
        f"{_META}clientInfo": {"name": "hubbub", "version": "1"},
        f"{_META}clientCapabilities": {
            "elicitation": {"form": {}, "url": {}},
            "extensions": {TASKS: {}},
        },
        **({"progressToken": progress} if progress is not None else {}),
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    name = params.get("name") or params.get("taskId")
    headers = (
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", VERSION),
        ("mcp-method", method),
        *((("mcp-name", _header(name)),) if isinstance(name, str) else ()),
    )
    async with (
        way.send("POST", url, body, headers=headers) as incoming,
        aclosing(mcp_older.messages(way, incoming)) as messages,
    ):
        async for message in messages:
            yield message
            if message.get("id") == 1 and "method" not in message:
                return
    raise UpstreamInvalid(way.name, "its answer was cut short")


def _header(name: str) -> str:
    """A name as the value of a header; one that is not plain ASCII in base64, as the revision wants it."""
    if name.isascii() and name.isprintable() and name == name.strip():
        return name
    return f"=?base64?{base64.b64encode(name.encode()).decode()}?="


def _result(way: Way, message: JsonObject) -> JsonObject:
    error, result = message.get("error"), message.get("result")
    if isinstance(error, dict):
        raise UpstreamInvalid(way.name, str(error.get("message") or "it answered with an error")[:500])
    if not isinstance(result, dict):
        raise UpstreamInvalid(way.name, "its answer is not MCP")
    return result


def _why(task: JsonObject) -> str:
    """Why a task of the server's gave no result."""
    error = task.get("error")
    said = error.get("message") if isinstance(error, dict) else task.get("statusMessage")
    return str(said or f"its task is {task.get('status')}")[:500]


def _progress(params: Any) -> Working:
    told = params if isinstance(params, dict) else {}
    text = told.get("message")
    shown = {name: told[name] for name in ("progress", "total", "message") if name in told}
    return Working(text if isinstance(text, str) else None, {PROGRESS: shown})


def _asks(way: Way, asked: Any) -> Asks:
    """The questions as text, and as data with their schemas."""
    if not isinstance(asked, dict) or not asked:
        raise UpstreamInvalid(way.name, "it asks for input in no known form")
    texts, questions = [], {}
    for key, one in asked.items():
        params = one.get("params") if isinstance(one, dict) else None
        if not isinstance(params, dict) or one.get("method") != "elicitation/create":
            raise UpstreamInvalid(way.name, "it asks for what an agent's caller cannot be asked")
        where = f" {params['url']}" if isinstance(params.get("url"), str) else ""
        texts.append({"text": f"{params.get('message') or 'It waits for an answer.'}{where}"})
        questions[key] = params
    return Asks([*texts, {"data": {QUESTIONS: questions}}])


def _responses(asked: JsonObject, turn: Turn) -> JsonObject:
    """The caller's answer to each question: a data part has the members that are asked for, a text is the only one."""
    data = next((part["data"] for part in turn.parts if isinstance(part.get("data"), dict)), None)
    text = " ".join(part["text"] for part in turn.parts if isinstance(part.get("text"), str)).strip()
    found: JsonObject = {}
    for key, one in asked.items():
        params = one["params"]
        if params.get("mode") == "url":
            found[key] = {"action": text.lower() if text.lower() in REFUSALS else "accept"}
            continue
        members = (params.get("requestedSchema") or {}).get("properties") or {}
        content = data if data is None or len(asked) == 1 else data.get(key)
        if content is None and text.lower() in REFUSALS:
            found[key] = {"action": text.lower()}
            continue
        if content is None and len(members) == 1:
            content = {name: _typed(schema, text) for name, schema in members.items()}
        if not isinstance(content, dict):
            raise NotSupported(f"{turn.way.name} is answered by a data part with {', '.join(members)}.")
        found[key] = {"action": "accept", "content": content}
    return found


def _typed(schema: JsonObject, text: str) -> Any:
    """A text as what a schema wants, as far as it can be read so; the server judges it."""
    kind = str(schema.get("type"))
    if kind == "boolean":
        return text.lower() in {"yes", "y", "ok", "true"}
    try:
        return {"integer": int, "number": float}.get(kind, str)(text)
    except ValueError:
        return text


def _said(way: Way, result: JsonObject) -> Sequence[Step]:
    """What a call gave; raises `UpstreamInvalid` if it failed."""
    blocks = [one for one in result.get("content") or () if isinstance(one, dict)]
    if result.get("isError") is True:
        texts = [one["text"] for one in blocks if isinstance(one.get("text"), str)]
        raise UpstreamInvalid(way.name, " ".join(texts)[:500] or "its tool failed")
    steps = [step for block in blocks if (step := _shown(block)) is not None]
    if result.get("structuredContent") is not None:
        steps.append(Piece({"data": result["structuredContent"]}))
    return steps


def _shown(block: JsonObject) -> Step | None:
    """A content block as a step; None: of a kind that is not known."""
    match block:
        case {"type": "text", "text": str(text)}:
            return Text(text)
        case {"type": "image" | "audio", "data": str(data)}:
            return Piece({"raw": data, "mediaType": str(block.get("mimeType") or "application/octet-stream")})
        case {"type": "resource_link", "uri": str(uri)}:
            return Piece({"url": uri, **_described(block)})
        case {"type": "resource", "resource": {"blob": str(data)}}:
            return Piece({"raw": data, **_described(block["resource"])})
        case {"type": "resource", "resource": {"text": str(text)}}:
            return Text(text)
    return None


def _described(resource: JsonObject) -> JsonObject:
    """Media type and name of a file."""
    name = resource.get("name") or str(resource.get("uri", "")).rpartition("/")[2]
    kind = resource.get("mimeType")
    return {**({"mediaType": kind} if isinstance(kind, str) else {}), **({"filename": name} if name else {})}
