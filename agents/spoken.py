"""What an agent is told, written in its speech, and what it says, read. Sends nothing.

An error that the agent itself answered is an `AgentFault`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from agents import answers, faults, rest, translate, translate_rest03, wire
from agents.answers import Sighting
from agents.discovery import Route
from agents.records import Untranslatable
from agents.speech import Ask, Operation, Speech
from registry import judged
from registry.discreet import discreet
from registry.entries import Agent
from registry.errors import AgentFault, InvalidParams, ParseFailed, UpstreamInvalid
from registry.judged import JsonObject

JSONRPC_ID = 1
"""The id of the hub's own JSON-RPC requests: each is alone on its connection."""

OLD_REST = Speech("HTTP+JSON", "0.3")


def written(route: Route, ask: Ask) -> tuple[str, str, bytes | None]:
    """Write a request in the route's speech: HTTP method, URL and body.

    Raises:
        InvalidParams: the agent's version has no words for it.
    """
    try:
        return _written_as(route, ask)
    except Untranslatable as error:  # what its client said, and no reader has looked at yet
        raise InvalidParams(f"the request cannot be said in A2A {route.speech.version}: {error}") from None


def _written_as(route: Route, ask: Ask) -> tuple[str, str, bytes | None]:
    binding, version = route.speech
    raw = _raw(ask) if route.speech == ask.speech else None
    if binding == "JSONRPC":
        params: Mapping[str, Any] | None
        if raw is not None:
            params = judged.read_object(raw)
        else:
            params = ask.params if version == "1.0" else translate.params_down(ask.operation, ask.params)
        if route.tenant:
            params = {**(params or {}), "tenant": route.tenant}
        method = ask.operation if version == "1.0" else wire.OLD_METHODS[ask.operation]
        body: JsonObject = {"jsonrpc": "2.0", "id": JSONRPC_ID, "method": method}
        if params is not None:
            body["params"] = params
        return "POST", route.url, judged.encode(body)
    params = ask.params if version == "1.0" else translate_rest03.rest03_params_down(ask.operation, ask.params)
    return rest.write_request(route.url, version, ask.operation, params, route.tenant, raw)


def _raw(ask: Ask) -> bytes | None:
    """What a client wrote, with the context that its agent is told."""
    if ask.raw is None or ask.context_id is None:
        return ask.raw
    params = judged.read_object(ask.raw)
    name = "message" if "message" in params else "request"  # as Python writes HTTP+JSON of 0.3
    message = judged.read_object(params[name])
    message["context_id" if "context_id" in message else "contextId"] = msgspec.Raw(judged.encode(ask.context_id))
    return judged.encode({**params, name: message})


def event_of(entry: Agent, speech: Speech, data: bytes) -> JsonObject:
    """Read an event's data as a canonical `StreamResponse`; raises as `agents.upstream.Upstream.result_of`."""
    return canonical_of(entry, speech, "SubscribeToTask", said_in(entry, speech, "SubscribeToTask", data))


def event_down_of(entry: Agent, speech: Speech, data: bytes) -> JsonObject:
    """Read the data of an event that is wrapped as 1.0 has it as 0.3 has it; raises as `event_of`.

    The way down understands what the way up does, so going up first would only take time.
    """
    said = said_in(entry, speech, "SubscribeToTask", data)
    if len(said) != 1 or speech == OLD_REST:  # whose parts only its own way up understands
        said = canonical_of(entry, speech, "SubscribeToTask", said)
    try:
        return translate.event_down(said)
    except Untranslatable:
        raise UpstreamInvalid(entry.name, "its answer is not A2A") from None


def seen_in(entry: Agent, speech: Speech, operation: Operation, data: bytes) -> Sighting | None:
    """What an answer or an event shows; None: it is an error, or not A2A."""
    if speech.binding == "GRPC":
        data = judged.encode(said_in(entry, speech, operation, data))
    return answers.read_event(data, wrapped=speech.binding == "JSONRPC")


def said_in(entry: Agent, speech: Speech, operation: Operation, body: bytes) -> Any:
    """What an agent says, decoded.

    Raises:
        AgentFault: it is an error.
        UpstreamInvalid: it is none of its speech.
    """
    if speech.binding == "GRPC":
        from agents.grpc_wire import read_result  # noqa: PLC0415 - loads grpc and protobuf, for those who need it

        try:
            return read_result(operation, body)
        except ValueError as error:
            raise UpstreamInvalid(entry.name, f"its answer {error}") from None
    try:
        judged.check_size(body)
        said = judged.decode(body) if body else {}
    except ParseFailed:
        raise UpstreamInvalid(entry.name, "its answer is not A2A") from None
    if speech.binding == "JSONRPC":
        if not isinstance(said, dict) or ("result" not in said and "error" not in said):
            raise UpstreamInvalid(entry.name, "its answer is not A2A JSON-RPC")
        if said.get("error") is not None:
            raise _fault(entry, faults.read_jsonrpc(judged.decode(discreet(entry, judged.encode(said["error"])))))
        return said.get("result")
    if isinstance(said, dict) and faults.read_said(said) is not None:
        raise _fault(entry, faults.read_said(judged.decode(discreet(entry, judged.encode(said)))))
    return said


def canonical_of(entry: Agent, speech: Speech, operation: Operation, said: Any) -> JsonObject:
    """What an agent says in canonical form; raises `UpstreamInvalid` if it is not A2A."""
    try:
        if speech == OLD_REST:
            return translate_rest03.rest03_result_up(operation, said)
        return translate.result_up(operation, said)
    except Untranslatable:
        raise UpstreamInvalid(entry.name, "its answer is not A2A") from None


def _fault(entry: Agent, read: tuple[int, str, list[JsonObject]] | None) -> Exception:
    if read is None:
        return UpstreamInvalid(entry.name, "its error is not one of A2A")
    return AgentFault(entry.name, *read)
