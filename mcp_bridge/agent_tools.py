"""Calls of agents as tools, for clients of every era: one message and what comes of it, progress, questions, the end.

What an agent asks before it goes on is put to the caller's person if the client can: on the session of an older client, by
`input_required` and a retry for 2026-07-28. Nothing of the hub's waits meanwhile: the task waits at its agent. To all
others the answer says that the task waits, and a call with its id goes on. Knows no A2A; `Agents` does.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from mcp_bridge import agent_shapes, agent_tasks, tasks
from mcp_bridge.agent_questions import ASK, MAX_QUESTION, answer_in, question_of
from mcp_bridge.agent_shapes import BadArguments, Said, Turn
from mcp_bridge.handles import Handles, refused
from mcp_bridge.listener import Listener, Unanswered
from mcp_bridge.rounds import LASTS_S, MAX_ROUNDS, RETRY_MEMBERS, Round, input_required, read_retry
from mcp_bridge.screening import behind_guards, judged
from mcp_bridge.wire import Answer, Request, notification_message
from registry.catalog import Catalog
from registry.entries import Agent, AgentTool, Feature, Headers, Server
from registry.errors import NotFound, UpstreamUnavailable
from registry.gate import Gate, Permit
from registry.identity import Principal
from registry.judged import JsonObject, decode, encode
from registry.registry import Registry
from registry.sealed.secrets import new_id

KEY = "hubbub/answer"
"""Of the input request for what an agent asks."""

MAX_TOLD = 1000
"""Characters of a progress message."""

STOP_S = 25.0
"""How long calls may take to cancel their tasks when the hub stops."""

PATIENCE_S = 5.0
"""How long a call waits before it becomes a task, for a client that follows tasks."""


class Agents(agent_tasks.Agents, Protocol):
    """Talks with agents."""

    async def take(self, permit: Permit, entry: Agent, saying: Said, hearer: Hearer) -> Turn:
        """Say something and return what comes of it; cancelled, it has the task cancelled. Raises `HubError`."""


class Hearer(Protocol):
    """Who waits for what comes of a message."""

    async def told(self, text: str) -> None:
        """Something came, in a few words; empty: there are no words in it."""

    @property
    def patience_s(self) -> float | None:
        """After how long a task that is still under way is left to itself; None: when the hub's patience ends."""


class _Waiting(NamedTuple):
    """A turn that waits for its caller's person, as a handle keeps it."""

    state: str
    task_id: str | None
    context_id: str | None
    parts: Sequence[JsonObject]
    artifacts: Sequence[JsonObject] = ()


class AgentTools:
    """Calls agents for the callers of their tools. One for a process."""

    def __init__(self, registry: Registry, *, gate: Gate, agents: Agents, handles: Handles) -> None:
        self._registry = registry
        self._gate = gate
        self._agents = agents
        self._handles = handles
        self._calls: dict[asyncio.Task[Answer], tuple[str, asyncio.Event]] = {}
        """Those under way: the agent's name, and what is set when the call is over for its caller."""
        registry.subscribe(self._follow)

    async def call(
        self,
        principal: Principal,
        tool: AgentTool,
        request: Request,
        *,
        request_id: str = "",
        within: Permit | None = None,
        listener: Listener | None = None,
    ) -> Answer:
        """Answer a `tools/call`, or what is asked about a task that one became. A caller who leaves has the task cancelled, which goes on after this was cancelled.

        Raises:
            NotFound: the agent, or the task or context of the call, is not the caller's.
            InvalidParams: a retry of a call that is not this one.
            HubError: as `Gate.admit` and `Agents.take`.
        """
        call = _Call(principal, tool, request, listener, request_id=request_id, within=within)
        over = asyncio.Event()
        work = asyncio.create_task(self._answer(call))
        self._calls[work] = tool.name, over
        work.add_done_callback(self._done)
        try:
            await over.wait()
        except asyncio.CancelledError:
            work.cancel()
            raise
        if not work.done() or work.cancelled():  # cancelling its task may take a while yet
            raise UpstreamUnavailable(tool.name, "it was switched off")
        return work.result()

    async def aclose(self) -> None:
        """End all calls, and wait until their tasks are cancelled."""
        for work in self._calls:
            work.cancel()
        if self._calls:
            await asyncio.wait(list(self._calls), timeout=STOP_S)

    def _done(self, work: asyncio.Task[Answer]) -> None:
        _, over = self._calls.pop(work)
        over.set()
        if not work.cancelled():
            work.exception()  # its caller may have left

    def _follow(self, _old: Catalog, new: Catalog) -> None:
        for work, (name, over) in self._calls.items():
            if name not in new.agents:
                work.cancel()
                over.set()

    async def _answer(self, call: _Call) -> Answer:
        entry = self._registry.catalog.agents.get(call.tool.name)
        if entry is None:
            raise NotFound("tool", call.tool.exposed)
        with self._gate.admit(call.principal, call.tool, request_id=call.request_id, within=call.within) as permit:
            if permit.unjudged:
                call.request = await judged(permit, call.tool, call.request)
                call.guard(permit)
            permit.bound(entry.limits, entry.call_usd)
            if call.request.method in tasks.METHODS:
                return await agent_tasks.follow(self._agents, permit, entry, call.tool, call.request)
            try:
                said = self._said(call)
            except BadArguments as error:
                return Answer(agent_shapes.bad_arguments(error))
            if isinstance(said, Answer):
                return said
            return await self._converse(permit, entry, call, said)

    async def _converse(self, permit: Permit, entry: Agent, call: _Call, said: Said) -> Answer:
        """Take turns with an agent until it has done, or somebody else must go on."""
        for asked_before in itertools.count():
            turn = await self._agents.take(permit, entry, said, call)
            if call.patience_s is not None and turn.state in agent_tasks.UNDER_WAY and turn.task_id is not None:
                return Answer(agent_tasks.made(turn))
            asked = call.question(turn)
            if asked is None or asked_before == MAX_ROUNDS:
                break
            if call.is_modern:
                return self._asking(call, _kept(turn), asked)
            try:
                response = await call.asked(asked)
            except Unanswered:
                break
            except asyncio.CancelledError:
                await self._agents.cancel(permit, entry, turn.task_id or "")
                raise
            text = answer_in(response, asked)
            if text is None:
                break
            said = Said(text, turn.task_id, turn.context_id, said.headers)
        return Answer(agent_shapes.result_of(call.tool, turn))

    def _asking(self, call: _Call, waiting: _Waiting, asked: JsonObject) -> Answer:
        state = self._handles.seal(waiting._asdict(), about=call.about, lasts_s=LASTS_S)
        return input_required(Round({KEY: (ASK, asked)}, state))

    def _said(self, call: _Call) -> Said | Answer:
        """What the caller says now; an answer where there is nothing to be said to the agent.

        Raises:
            BadArguments: the model must mend them.
            InvalidParams: it is a retry of none of this caller's calls.
        """
        said = agent_shapes.read_said(call.request.params.get("arguments"), call.headers)
        if not call.is_modern or RETRY_MEMBERS.isdisjoint(call.request.params):
            return said
        retry = read_retry(call.request)
        if retry.state is None:
            raise refused()
        waiting = _Waiting(**self._handles.open(retry.state, about=call.about))
        asked = call.question(waiting)
        if asked is None:
            return Answer(agent_shapes.result_of(call.tool, waiting))
        if KEY not in retry.responses:
            return self._asking(call, waiting, asked)
        text = answer_in(retry.responses[KEY], asked)
        if text is None:
            return Answer(agent_shapes.result_of(call.tool, waiting))
        return Said(text, waiting.task_id, waiting.context_id, call.headers)


class _Call:
    """One `tools/call` of an agent's tool."""

    def __init__(
        self,
        principal: Principal,
        tool: AgentTool,
        request: Request,
        listener: Listener | None,
        *,
        request_id: str,
        within: Permit | None,
    ) -> None:
        self.principal = principal
        self.tool = tool
        self.request = request
        self.request_id = request_id
        self.within = within
        self.is_modern = listener is not None and listener.front is None
        self.headers = {name.lower().encode(): value.encode("latin-1") for name, value in request.headers}
        self._listener = listener
        self._told = 0

    @property
    def patience_s(self) -> float | None:
        """As `Hearer.patience_s`."""
        return PATIENCE_S if self.is_modern and tasks.declares(self.request.meta) else None

    @property
    def about(self) -> str:
        """What a handle for going on with the call is bound to."""
        arguments = decode(encode(self.request.params.get("arguments")))
        same = hashlib.sha256(msgspec.json.encode(arguments, order="sorted")).hexdigest()
        return f"mcp-agent/{self.tool.name}/{self.principal.id}/{same}"

    def guard(self, permit: Permit) -> None:
        """Have the call's guards look at what its caller is told and asked meanwhile, and at what it answers."""
        self._listener = behind_guards(self._listener, permit)

    async def told(self, text: str) -> None:
        """Tell the caller that something came of the message."""
        token = self.request.meta.get("progressToken")
        if self._listener is None:
            return
        await self._listener.opened()
        if token is None:
            return
        self._told += 1
        params: dict[str, object] = {"progressToken": token, "progress": self._told}
        if text:
            params["message"] = text[:MAX_TOLD]
        await self._listener.notified(notification_message("notifications/progress", params))

    def question(self, turn: Turn) -> JsonObject | None:
        """What the caller's person is asked when a turn waits for them; None: it does not, or they cannot be asked."""
        return question_of(self.tool, turn, self.request.meta) if self._listener is not None else None

    async def asked(self, asked: JsonObject) -> JsonObject:
        """Ask the person of an older client; raises `Unanswered`."""
        assert self._listener is not None, "there is a question"
        params = asked if asked["mode"] == "form" else {**asked, "elicitationId": new_id("elicitation")}
        return await self._listener.asked(ASK, params)


def with_headers(callee: Feature | Server, request: Request, headers: Sequence[tuple[bytes, bytes]]) -> Request:
    """A request of an agent's tool with its caller's HTTP headers; any other as it is."""
    if not isinstance(callee, AgentTool):
        return request
    return msgspec.structs.replace(request, headers=as_texts(headers))


def as_texts(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    """HTTP headers as requests hold them."""
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)


def _kept(turn: Turn) -> _Waiting:
    """What is needed of a turn to ask again, and to say later that it waits."""
    text = agent_shapes.text_of(turn.parts)[:MAX_QUESTION]
    return _Waiting(turn.state, turn.task_id, turn.context_id, [{"text": text}])
