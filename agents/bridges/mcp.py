"""An MCP server as an agent: its tools are skills, a data part calls one.

What it asks for by elicitation is the task's question. A server of revision 2026-07-28 is answered by the same call again, with
its own state; an older one waits in the session of the call (`mcp_older`). A call that the server makes a task of (extension
`io.modelcontextprotocol/tasks`) is asked for until it is over, also after a restart. A context means nothing to a server.

`options`: `tool` and `argument`, what a message without a call calls: its text is that argument, a data part all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from enum import Enum
from typing import Any

import msgspec

from agents.bridges import mcp_modern, mcp_older
from agents.bridges.answering import text_of
from agents.bridges.bridge import About, Asks, Bridge, Running, Skill, Steps, Turn, Waits, Working
from agents.bridges.mcp_words import ELICIT, progress, questions, required, responses, result_in, said, why
from agents.bridges.way import Way
from registry.errors import NotSupported, UpstreamInvalid, UpstreamRejected
from registry.judged import JsonObject

MAX_PAGES = 20
"""Of the list of tools."""

MAX_NAMED = 20
"""Tools named in a refusal."""

MIN_POLL_S, MAX_POLL_S, POLL_S = 0.1, 60.0, 2.0
"""How often a task is asked for: as its server likes it, within these bounds, or as it is if the server does not say."""


OLDEST_REFUSALS = frozenset({400, 404, 405})
"""With what a server of 2024-11-05 refuses a POST where its stream is (MCP 2025-11-25, Transports, "Backwards Compatibility")."""


class Era(Enum):
    """How a server is spoken to."""

    MODERN = "2026-07-28"
    SESSIONS = "2025-11-25"
    """And before, over Streamable HTTP."""
    SSE = "2024-11-05"
    """Over its two streams."""


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
        self._era: Era | None = None
        """None: not known yet."""

    async def run(self, turn: Turn) -> Steps:
        """Call a tool once (agents.bridges.bridge.Bridge)."""
        asked = turn.ref.get("asked") if turn.is_answer else None
        if isinstance(asked, dict) and "task" in turn.ref:
            params = {"taskId": turn.ref["task"], "inputResponses": responses(asked, turn)}
            await self._result(turn.way, "tasks/update", params)
            steps = self._followed(turn.way, turn.ref["task"])
        elif isinstance(asked, dict):
            steps = self._called(turn, turn.ref["call"], asked)
        else:
            steps = self._called(turn, await self._call_in(turn), None)
        async with aclosing(steps):
            try:
                async for step in steps:
                    yield step
            except UpstreamRejected:
                self._era = None  # it may be another server by now
                raise

    async def _called(self, turn: Turn, call: JsonObject, asked: JsonObject | None) -> Steps:
        """Call a tool; `asked` is what an earlier call of it asked for, which is answered now."""
        answers = responses(asked, turn) if asked is not None else {}
        if await self._era_of(turn.way) is not Era.MODERN:
            if any(one["action"] != "accept" for one in answers.values()):
                raise UpstreamInvalid(turn.way.name, "it cannot be called without what was declined")
            steps = self._called_in_session(turn, call)
        else:
            state = {"requestState": turn.ref["state"]} if turn.ref.get("state") is not None else {}
            steps = self._called_once(turn, call, {**state, "inputResponses": answers} if asked is not None else {})
        async with aclosing(steps):
            async for step in steps:
                yield step

    async def _called_once(self, turn: Turn, call: JsonObject, answers: JsonObject) -> Steps:
        """Call a tool of a server of 2026-07-28, with the answers to what it asked before."""
        way = turn.way
        sent = mcp_modern.ask(way, self._url, "tools/call", {**call, **answers}, progress=turn.task_id)
        async with aclosing(sent) as messages:
            async for message in messages:
                if (told := progress(message, turn.task_id)) is not None:
                    yield told
        result = result_in(way, message)
        match result.get("resultType"):
            case "input_required":
                asked = result.get("inputRequests")
                yield Running({"call": call, "asked": asked, "state": result.get("requestState")})
                yield Asks(questions(way, asked))
            case "task" if isinstance(result.get("taskId"), str):
                async with aclosing(self._followed(way, result["taskId"])) as steps:
                    async for step in steps:
                        yield step
            case _:
                for step in said(way, result):
                    yield step

    async def _called_in_session(self, turn: Turn, call: JsonObject) -> Steps:
        """Call a tool of an older server, which waits for the answers to what it asks."""
        way, is_sse = turn.way, self._era is Era.SSE
        async with (
            mcp_older.opened(way, self._url, is_sse=is_sse, may_ask=True) as session,
            aclosing(session.ask("tools/call", call, progress=turn.task_id)) as messages,
        ):
            async for message in messages:
                if (told := progress(message, turn.task_id)) is not None:
                    yield told
                elif message.get("method") == ELICIT:
                    waits = Waits(questions(way, {ELICIT: message}))
                    yield waits
                    await session.answer(message, responses({ELICIT: message}, waits.answer)[ELICIT])
        if (asked := required(message)) is not None:
            yield Running({"call": call, "asked": asked})
            yield Asks(questions(way, asked))
            return
        for step in said(way, result_in(way, message)):
            yield step

    async def _followed(self, way: Way, task: str) -> Steps:
        """What becomes of a task of the server's, until it is over or asks."""
        yield Running({"task": task})
        told = None
        while True:
            found = await self._result(way, "tasks/get", {"taskId": task})
            match found.get("status"):
                case "completed" if isinstance(found.get("result"), dict):
                    for step in said(way, found["result"]):
                        yield step
                    return
                case "input_required":
                    yield Running({"task": task, "asked": found.get("inputRequests")})
                    yield Asks(questions(way, found.get("inputRequests")))
                    return
                case "working":
                    if (text := found.get("statusMessage")) != told and isinstance(text, str):
                        told = text
                        yield Working(text)
                case _:
                    raise UpstreamInvalid(way.name, why(found))
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

    async def _call_in(self, turn: Turn) -> JsonObject:
        """What a message calls: name and arguments; raises `NotSupported`."""
        for part in turn.parts:
            data = part.get("data")
            if isinstance(data, dict) and isinstance(data.get("tool"), str):
                arguments = data.get("arguments", {})
                if isinstance(arguments, dict):
                    return {"name": data["tool"], "arguments": arguments}
        if self._tool is not None and self._argument is not None:
            data = next((part["data"] for part in turn.parts if isinstance(part.get("data"), dict)), None)
            return {"name": self._tool, "arguments": {self._argument: text_of(turn)} if data is None else data}
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
        """What a request gave that asks nobody."""
        era = await self._era_of(way)
        if era is Era.MODERN:
            return result_in(way, await _last(mcp_modern.ask(way, self._url, method, params)))
        async with mcp_older.opened(way, self._url, is_sse=era is Era.SSE, may_ask=False) as session:
            return result_in(way, await _last(session.ask(method, params)))

    async def _era_of(self, way: Way) -> Era:
        """How the server is spoken to, as it is found out once; raises `UpstreamError` if it cannot be."""
        if self._era is None:
            self._era = await self._probed(way)
        return self._era

    async def _probed(self, way: Way) -> Era:
        with suppress(UpstreamRejected, UpstreamInvalid):
            if "result" in await _last(mcp_modern.ask(way, self._url, "server/discover", {})):
                return Era.MODERN
        try:
            async with mcp_older.opened(way, self._url, is_sse=False, may_ask=False):
                return Era.SESSIONS
        except UpstreamRejected as error:
            if error.status not in OLDEST_REFUSALS:
                raise
        async with mcp_older.opened(way, self._url, is_sse=True, may_ask=False):
            return Era.SSE


async def _last(messages: AsyncGenerator[JsonObject]) -> JsonObject:
    """The response, after whatever came before it."""
    async with aclosing(messages):
        async for message in messages:  # noqa: B007  # it is the last one that counts
            pass
    return message


def make(url: str, options: dict[str, Any]) -> Bridge:
    """Make the bridge (agents.bridges.bridge.Make)."""
    return Mcp(url, msgspec.convert(options, Options))
