"""Multi-round requests of 2026-07-28: a result that asks for input, and the retry that brings it. Pure but for asking.

A server's `requestState` reaches the caller sealed for this server, principal and request; a legacy client is asked by
requests on its session, until the server has what it needs.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from mcp_bridge.listener import Listener, Unanswered, declared, passed_on, question
from mcp_bridge.wire import Answer, Request
from registry.entries import Server
from registry.errors import InvalidParams, UpstreamInvalid
from registry.identity import Principal
from registry.judged import JsonObject, decode, encode
from registry.sealed.secrets import new_id

LASTS_S = 600.0
"""How long a caller may take to bring what it was asked for."""

MAX_ROUNDS = 10
"""How often a server may ask within one request of a legacy client."""

MAX_QUESTIONS = 32
"""How much a server may ask at once."""

METHODS = frozenset({"tools/call", "prompts/get", "resources/read"})
"""Requests whose answer may ask for input."""

RETRY_MEMBERS = frozenset({"inputResponses", "requestState"})
_INPUT_REQUIRED = msgspec.Raw(b'"input_required"')
_STATE_ONLY_S = 0.1
"""How long to wait before a retry that brings nothing but `requestState`."""

Send = Callable[[Request], Awaitable[Answer]]


class Round(msgspec.Struct, frozen=True):
    """What a server asks before it answers."""

    questions: dict[str, tuple[str, JsonObject]]
    """Method and params, by the server's own keys."""
    state: str | None = None


def asks(answer: Answer) -> bool:
    """Whether a server asks for input, in its own words."""
    return answer.result is not None and answer.result.get("resultType") == _INPUT_REQUIRED and not answer.is_for_caller


def read_round(answer: Answer, request: Request, server: Server) -> Round:
    """Read what a server asks of the caller of `request`; each question carries the server's name.

    Raises:
        UpstreamInvalid: it asks what the caller did not declare, or in no known form.
    """
    found = {name: decode(raw) for name, raw in (answer.result or {}).items()}
    asked, state = found.get("inputRequests") or {}, found.get("requestState")
    if not isinstance(asked, dict) or len(asked) > MAX_QUESTIONS or not isinstance(state, str | None):
        raise UpstreamInvalid(server.name, "it asks for input in no known form")
    capabilities = bytes(passed_on(bytes(declared(request.meta)), sampling=server.sampling))
    questions = {}
    for key, one in asked.items():
        method = one.get("method") if isinstance(one, dict) else None
        params = (one.get("params") or {}) if isinstance(one, dict) else None
        if not isinstance(method, str) or not isinstance(params, dict):
            raise UpstreamInvalid(server.name, "it asks for input in no known form")
        try:
            questions[key] = method, question(server, capabilities, method, params)
        except Unanswered:
            raise UpstreamInvalid(server.name, f"it asks for {method[:80]}, which the caller does not offer") from None
    return Round(questions, state)


def as_requests(found: Round) -> JsonObject:
    """What is asked, as `inputRequests` hold it."""
    return {key: {"method": method, "params": params} for key, (method, params) in found.questions.items()}


def input_required(found: Round) -> Answer:
    """The answer that asks a caller of 2026-07-28."""
    result: JsonObject = {"resultType": "input_required"}
    if found.questions:
        result["inputRequests"] = as_requests(found)
    if found.state is not None:
        result["requestState"] = found.state
    return Answer({name: msgspec.Raw(encode(value)) for name, value in result.items()}, is_for_caller=True)


class Retry(msgspec.Struct, frozen=True):
    """What a retried request brings beside the request itself."""

    request: Request
    """The request as it was first made."""
    responses: dict[str, JsonObject]
    state: str | None


def read_retry(request: Request) -> Retry:
    """Take a retried request apart; raises `InvalidParams`."""
    brought = {name: decode(encode(request.params[name])) for name in RETRY_MEMBERS & request.params.keys()}
    responses, state = brought.get("inputResponses") or {}, brought.get("requestState")
    if not isinstance(responses, dict) or not all(isinstance(one, dict) for one in responses.values()):
        raise InvalidParams("inputResponses must hold an object for each key.", member="inputResponses")
    if not isinstance(state, str | None):
        raise InvalidParams("requestState must be a string.", member="requestState")
    params = {name: value for name, value in request.params.items() if name not in RETRY_MEMBERS}
    return Retry(msgspec.structs.replace(request, params=params), responses, state)


def retried(request: Request, responses: Mapping[str, object], state: str | None) -> Request:
    """The request again, with what was asked for."""
    params = {**request.params, "inputResponses": responses}
    if state is not None:
        params["requestState"] = state
    return msgspec.structs.replace(request, params=params)


def about(request: Request, server: Server, principal: Principal) -> str:
    """What a handle for going on with `request` is bound to."""
    same = msgspec.json.encode([request.method, decode(encode(request.params))], order="sorted")
    return f"mcp-request/{server.name}/{principal.id}/{hashlib.sha256(same).hexdigest()}"


async def drive(send: Send, request: Request, answer: Answer, *, server: Server, listener: Listener) -> Answer:
    """Ask a legacy client what the server asks, until it answers otherwise.

    Raises:
        UpstreamInvalid: it asks too often, or as in `read_round`.
    """
    for _ in range(MAX_ROUNDS):
        found = read_round(answer, request, server)
        responses: JsonObject = {}
        if not found.questions:
            await asyncio.sleep(_STATE_ONLY_S)
        try:
            for key, (method, params) in found.questions.items():
                responses[key] = await listener.asked(method, _for_legacy(params))
        except Unanswered as error:
            return Answer(error=msgspec.Raw(encode({"code": error.code, "message": error.message})))
        answer = await send(retried(request, responses, found.state))
        if not asks(answer):
            return answer
    raise UpstreamInvalid(server.name, f"it asks for input more than {MAX_ROUNDS} times")


def _for_legacy(params: JsonObject) -> JsonObject:
    """2025-11-25 wants an id with each URL; later revisions have none."""
    if params.get("mode") == "url" and "elicitationId" not in params:
        return {**params, "elicitationId": new_id("elicitation")}
    return params
