"""Guards at the way to MCP servers: what is sent of a request, and what its caller gets of the answer.

Everything that a server says during a call passes them: its result or error, what it notifies, and what it asks the client.
What the client answers to that is sent, and so is looked at as arguments are.
"""

from __future__ import annotations

import msgspec

from mcp_bridge.headers import annotated, parameter_headers
from mcp_bridge.listener import NOT_ANSWERED, Front, Listener, Unanswered
from mcp_bridge.requests import arguments_of
from mcp_bridge.wire import Answer, Request
from registry.entries import AgentTool, Feature, Server, Tool
from registry.errors import HubError
from registry.gate import Permit
from registry.judged import JsonObject, decode, encode, unambiguous
from registry.rules.guards import read

SENT = ("arguments", "inputResponses")
"""Members of the params that are the caller's own words."""

REWRITTEN = frozenset({"tools/call", "prompts/get"})
"""Requests that may be sent otherwise than they came. In others each word says what is meant."""


async def judged(permit: Permit, callee: Feature | Server, request: Request) -> Request:
    """Ask the hub's rules and guards about a request; returns it as it may be sent.

    Raises:
        PolicyRefused, ApprovalRequired: as `Permit.judge`.
        InvalidRequest: a member stands twice in what they look at.
    """
    if request.method in REWRITTEN and "inputResponses" not in request.params:
        given = request.params.get("arguments")
        if permit.passes(b"{}" if given is None else encode(given)):
            return request
    arguments, sent = arguments_of(request), None
    if request.method not in REWRITTEN:
        await permit.judge(arguments, screening=True)
        return request
    if "inputResponses" in request.params:
        sent = unambiguous(encode({name: request.params[name] for name in SENT if name in request.params}))
    left = await permit.judge(arguments, sent=sent, rewrites=True, screening=True)
    if left is None or left is arguments or left is sent:
        return request
    if sent is None:
        left = {"arguments": left}
    headers = request.headers
    if isinstance(callee, Tool) and not isinstance(callee, AgentTool) and annotated(callee.description):
        headers = parameter_headers(decode(callee.description)["inputSchema"], left.get("arguments") or {})
    written = {name: msgspec.Raw(encode(value)) for name, value in left.items()}
    return msgspec.structs.replace(request, params={**request.params, **written}, headers=headers)


async def screened(permit: Permit, answer: Answer) -> Answer:
    """What the caller may get of an answer.

    Raises:
        GuardRefused: nothing.
        UpstreamInvalid: guards cannot look at it.
    """
    error, result = answer.error, answer.result
    if permit.clears(encode(result if error is None else error), is_json=True):
        return answer
    if error is not None:
        error = msgspec.Raw(encode(await permit.screened(read(bytes(error), permit.entry_name))))
    if result is not None:
        found = read(encode(result), permit.entry_name)
        made = await permit.screened(found)
        if made is not found:
            result = {name: msgspec.Raw(encode(value)) for name, value in made.items()}
    return Answer(result, error, answer.is_for_caller)


class Screening:
    """A listener behind the guards of a call."""

    def __init__(self, listener: Listener, permit: Permit) -> None:
        self._listener = listener
        self._permit = permit

    @property
    def front(self) -> Front | None:
        """As `Listener.front`."""
        return self._listener.front

    async def opened(self) -> None:
        """As `Listener.opened`."""
        await self._listener.opened()

    async def notified(self, message: bytes) -> None:
        """As `Listener.notified`; what a guard keeps back is not told."""
        try:
            made = await self._permit.screened(read(message, self._permit.entry_name))
        except HubError:
            return
        await self._listener.notified(encode(made))

    async def asked(self, method: str, params: JsonObject) -> JsonObject:
        """As `Listener.asked`."""
        try:
            return await self._answered(method, params)
        except HubError:
            raise Unanswered(NOT_ANSWERED, "a guard of the hub keeps it back") from None

    async def _answered(self, method: str, params: JsonObject) -> JsonObject:
        asked = await self._permit.screened(params)
        said: JsonObject = await self._permit.sending(await self._listener.asked(method, asked))
        return said


def behind_guards(listener: Listener | None, permit: Permit) -> Listener | None:
    """Who listens to a call."""
    return Screening(listener, permit) if listener is not None and permit.guards is not None else listener
