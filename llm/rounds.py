"""Drives the tool loop over one request: what llm/loop.py decides is done here, all calls of a round at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from llm import results
from llm.call import ModelCall, Models, asks_usage, cut_short, not_a_stream
from llm.loop import CallModel, Finished, Sent, Step, conversation
from llm.ports import Sink, ToolExecutor
from llm.stream import Fold
from llm.types import OfferedTool, Reply, ToolCall, ToolOutcome
from llm.voice import Voice
from llm.wire import chat
from llm.wire.chat import ChatRequest, ToolSource
from registry import judged
from registry.access import MAX_GRANT_CHARS, Grant, Grants
from registry.egress.sse import EventTooLarge, Framer, data_of
from registry.entries import Model
from registry.errors import HubError, InvalidRequest, UpstreamInvalid, UpstreamTimeout
from registry.gate import Permit
from registry.identity import Principal
from registry.judged import JsonObject

MAX_SOURCES = 64
MAX_GLOBS = 1000
"""Of one source. Each is tried on each tool, by the one event loop that serves all callers."""


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """Bounds of one tool loop."""

    max_rounds: int = 8
    """Rounds of tool calls, unless the request asks for another number."""
    parallel_calls: int = 16
    """Calls of one round at the same time; more wait."""
    calls: int = 128
    """Calls of one round; a model that asks for more has lost its mind, or never had one."""
    reply_bytes: int = 32 * 1024 * 1024
    """One round's answer."""
    tool_s: float = 300.0
    """One tool call; the model is told when it takes longer."""
    total_s: float = 3600.0
    """The whole loop."""


class Caller(NamedTuple):
    """Who asks, and where the answer goes."""

    principal: Principal
    request_id: str
    sink: Sink


def offered(tools: ToolExecutor, principal: Principal, *, sources: Sequence[ToolSource]) -> dict[str, OfferedTool]:
    """The tools of all sources by exposed name; raises `InvalidRequest` for a source without any."""
    if len(sources) > MAX_SOURCES:
        raise InvalidRequest(f"a request may have {MAX_SOURCES} tool sources", member="tools")
    found: dict[str, OfferedTool] = {}
    for source in sources:
        allowed = _globs(source)
        usable = [tool for tool in tools.offered(principal, source.name) if _is_allowed(tool, allowed)]
        if not usable:
            raise InvalidRequest(f"tool source {source.url!r} has no tools for this request", member="tools")
        found.update((tool.exposed, tool) for tool in usable)
    return found


def _globs(source: ToolSource) -> Grants | None:
    """The source's own narrowing, in the language of grants: it takes linear time and keeps nothing of a caller's."""
    if source.allowed is None:
        return None
    if len(source.allowed) > MAX_GLOBS or any(len(glob) > MAX_GRANT_CHARS for glob in source.allowed):
        text = f"{MAX_GLOBS} names of at most {MAX_GRANT_CHARS} characters"
        raise InvalidRequest(f"allowed_tools of tool source {source.url!r} may hold {text}", member="tools")
    return Grants(tuple(Grant("tool", glob) for glob in source.allowed))


def _is_allowed(tool: OfferedTool, globs: Grants | None) -> bool:
    return globs is None or globs.allow("tool", tool.name) or globs.allow("tool", tool.exposed)


class Rounds:
    """One request with hub tools under way."""

    def __init__(
        self,
        request: ChatRequest,
        model: Model,
        *,
        models: Models,
        tools: ToolExecutor,
        offered: Mapping[str, OfferedTool],
        limits: LoopLimits,
    ) -> None:
        """`offered` are the hub's tools for this request, by exposed name.

        Raises:
            InvalidRequest: a member of the request is missing or of no use with hub tools.
        """
        self._request = request
        self._model = model
        self._models = models
        self._tools = tools
        self._offered = offered
        self._limits = limits
        self._own_tools = chat.check_loop(request, list(offered.values()))
        self._busy = asyncio.Semaphore(limits.parallel_calls)
        self._first: Permit | None = None

    async def run(self, caller: Caller) -> None:
        """Drive the loop and answer the caller; raises `HubError`, perhaps within a begun stream."""
        voice = Voice(caller.sink, model=self._request.model, request_id=caller.request_id)
        steps = conversation(self._own_tools, max_rounds=self._request.max_rounds or self._limits.max_rounds)
        try:
            async with asyncio.timeout(self._limits.total_s) as deadline:
                finished = await self._drive(steps, caller, voice)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise UpstreamTimeout(self._model.name, "the request with its tools took too long") from None
        if self._request.stream:
            await voice.end(finished, usage_wanted=self._request.usage_wanted)
        else:
            await voice.answer(finished)

    async def _drive(self, steps: Generator[Step, Sent, Finished], caller: Caller, voice: Voice) -> Finished:
        sent: Sent = None
        while True:
            try:
                step = steps.send(sent)
            except StopIteration as stop:
                finished: Finished = stop.value
                return finished
            if isinstance(step, CallModel):
                sent = await self._call_model(step, caller, voice)
            else:
                if len(step.calls) > self._limits.calls:
                    raise UpstreamInvalid(self._model.name, f"it asked for {len(step.calls)} tool calls at once")
                sent = await self._call_tools(step.calls, caller)
                if self._request.stream:
                    await voice.say({}, hub=chat.report(sent))

    async def _call_model(self, step: CallModel, caller: Caller, voice: Voice) -> Reply:
        model, request, models = self._model, self._request, self._models
        body = chat.round_body(
            request,
            model.model,
            messages=step.messages,
            tools=list(self._offered.values()),
            first=step.first,
            ask_usage=asks_usage(model),
        )
        with models.admit(caller.principal, model, request_id=caller.request_id, within=self._first) as permit:
            self._first = self._first or permit
            async with models.call(permit, model, body=body, stream=request.stream) as call:
                if request.stream:
                    return await self._stream(call, voice)
                reply = _whole(await call.read(), model)
                voice.system_fingerprint = reply.system_fingerprint
                return reply

    async def _stream(self, call: ModelCall, voice: Voice) -> Reply:
        """Show the caller what it may see of a round as it comes."""
        fold = Fold(self._own_tools.__contains__)
        framer = Framer()
        ended = False
        size = 0
        try:
            async for piece in call.chunks():
                size += len(piece)
                if size > self._limits.reply_bytes:
                    raise UpstreamInvalid(self._model.name, "its answer is too large")
                for event in framer.feed(piece):
                    data = data_of(event)
                    ended = ended or data == b"[DONE]"
                    if data and not ended:
                        await self._show(fold, data, call=call, voice=voice)
        except EventTooLarge:
            raise not_a_stream(self._model) from None
        if not ended and call.usage is None:
            raise cut_short(self._model)
        await voice.say(fold.rest())
        return fold.reply()

    async def _show(self, fold: Fold, data: bytes, *, call: ModelCall, voice: Voice) -> None:
        call.output_tokens += 1
        try:
            chunk = msgspec.json.decode(data, type=JsonObject)
            call.usage = chat.usage_of(data) or call.usage
        except (ValueError, RecursionError):
            raise UpstreamInvalid(self._model.name, "an event of its stream is not a JSON object") from None
        if chunk.get("error"):
            raise call.reported(msgspec.Raw(msgspec.json.encode(chunk["error"])))
        delta = fold.feed(chunk)
        voice.system_fingerprint = fold.system_fingerprint
        await voice.say(delta if delta or voice.speaking else {"content": ""})

    async def _call_tools(self, calls: Sequence[ToolCall], caller: Caller) -> Sequence[ToolOutcome]:
        """Execute all calls of a round at the same time; the caller's leaving cancels them."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._call_tool(call, caller.principal)) for call in calls]
        return [task.result() for task in tasks]

    async def _call_tool(self, call: ToolCall, principal: Principal) -> ToolOutcome:
        """Execute one call; whatever goes wrong with it is for the model to hear."""
        assert self._first is not None, "a model asked for this call"
        started = time.monotonic()
        arguments: JsonObject = {}
        tool = self._offered.get(call.name)
        failed = True
        try:
            if tool is None:
                text = f"There is no tool named {call.name[:100]!r}."
            else:
                arguments = _arguments(call)
                async with self._busy, asyncio.timeout(self._limits.tool_s):
                    result = await self._tools.call(principal, tool.exposed, arguments=arguments, within=self._first)
                failed = bool(result.get("isError"))
                text = results.told(result)
        except HubError as error:
            text = error.text
        except TimeoutError:
            text = f"The tool did not answer within {self._limits.tool_s:.0f} s."
        return ToolOutcome(
            call=call,
            server=tool.server if tool else None,
            tool=tool.name if tool else call.name,
            arguments=arguments,
            text=text,
            failed=failed,
            duration_ms=(time.monotonic() - started) * 1000,
        )


def _arguments(call: ToolCall) -> JsonObject:
    if not call.arguments.strip():
        return {}
    try:
        arguments = msgspec.json.decode(call.arguments, type=dict)
    except (ValueError, RecursionError):
        raise InvalidRequest("The arguments are not a JSON object; call the tool again with valid ones.") from None
    return arguments


def _whole(data: bytes, model: Model) -> Reply:
    found = judged.decode(data)
    choices = found.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise UpstreamInvalid(model.name, "its answer has no message")
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise UpstreamInvalid(model.name, "its tool calls are no list of objects")
    usage = found.get("usage")
    return Reply(
        message={name: value for name, value in message.items() if value is not None or name == "content"},
        finish_reason=choice.get("finish_reason") or "stop",
        usage=usage if isinstance(usage, dict) else {},
        system_fingerprint=found.get("system_fingerprint"),
    )
