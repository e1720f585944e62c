"""How clients are written to: results and events in the binding and version that each speaks. Pure."""

from __future__ import annotations

from typing import Any

from agents import answers, faults, rest, translate, translate_rest03, wire
from agents.faults import Fault
from agents.records import Untranslatable
from agents.shown import Shown
from agents.speech import Ask, Operation, Speech, Version
from agents.upstream import event_down_of, event_of
from agents.wire import Envelope
from registry import judged
from registry.entries import Agent, Headers
from registry.errors import InvalidParams
from registry.judged import JsonObject


class JsonRpcClient:
    """The sender of one JSON-RPC request."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._speech = Speech("JSONRPC", envelope.version)

    def result(self, result: JsonObject) -> bytes:
        """Write a canonical result as the whole response."""
        assert self._envelope.operation is not None
        return self._response(result_down(self._envelope.version, self._envelope.operation, result))

    def event(self, entry: Agent, shown: Shown, *, echoes: bool) -> bytes:
        """Write one event of a stream; `echoes`: JSON-RPC events bear the client's request id already."""
        data, seen = shown.data, None
        if shown.speech == self._speech:
            seen = shown.seen or answers.read_event(data, wrapped=True)
        if seen is None or not seen.fits(self._envelope.version, "SubscribeToTask"):
            data = self._response(self._translated(entry, shown))  # some agents mix versions, too
        elif not echoes or seen.rpc_id != self._envelope.id:
            data = self._response(judged.read_object(data)["result"])
        return framed(shown.seq, data)

    def _translated(self, entry: Agent, shown: Shown) -> JsonObject:
        if self._envelope.version == "1.0":
            return event_of(entry, shown.speech, shown.data)
        if shown.seen is not None and shown.seen.form == "wrapped":
            return event_down_of(entry, shown.speech, shown.data)
        return translate.event_down(event_of(entry, shown.speech, shown.data))

    def _response(self, result: Any) -> bytes:
        return judged.encode({"jsonrpc": "2.0", "id": self._envelope.id, "result": result})


class RestClient:
    """The sender of one request over HTTP+JSON."""

    def __init__(self, version: Version, operation: Operation, *, user_agent: bytes = b"") -> None:
        """`user_agent` tells clients of 0.3 that encode the bytes of files twice: Python's do, and read nothing else."""
        self.version = version
        self._operation = operation
        self._speech = Speech("HTTP+JSON", version)
        self._encodes_twice = b"python" in user_agent.lower()

    @property
    def media_type(self) -> bytes:
        """Of whole results."""
        return rest.MEDIA_TYPES[self.version]

    def result(self, result: JsonObject) -> bytes:
        """Write a canonical result."""
        if self.version == "0.3" and self._operation != "GetExtendedAgentCard":
            result = translate_rest03.rest03_result_down(self._operation, result, encodes_twice=self._encodes_twice)
        return judged.encode(result)

    def event(self, entry: Agent, shown: Shown) -> bytes:
        """Write one event of a stream."""
        data = shown.data
        if shown.speech != self._speech or not self._is_readable(data):
            event = event_of(entry, shown.speech, data)
            if self.version == "0.3":
                event = translate_rest03.rest03_event_down(event, encodes_twice=self._encodes_twice)
            data = judged.encode(event)
        return framed(shown.seq, data)

    def _is_readable(self, data: bytes) -> bool:
        """Whether clients of the version have events written so; HTTP+JSON wraps in both."""
        if self.version == "0.3" and (b"fileWithBytes" in data or b"file_with_bytes" in data):
            return False  # the agent's way to encode them need not be the client's
        seen = answers.read_event(data, wrapped=False)
        return seen is not None and seen.form == "wrapped"

    def error(self, error: JsonObject, http: int | None) -> tuple[int, bytes]:
        """Write a JSON-RPC `error` as HTTP status and body; `http` is a status that says more than its code."""
        fault = Fault(error["code"], error["message"], error.get("data") or [])
        status, body = faults.write_http(fault, self.version, http)
        return status, judged.encode(body)

    def error_event(self, error: JsonObject) -> bytes:
        """Write it as the last event of a stream that has begun."""
        return rest.write_error_event(Fault(error["code"], error["message"], error.get("data") or []), self.version)


def asked(version: Version, operation: Operation, params: JsonObject, *, forwarded: Headers) -> Ask:
    """A request over HTTP+JSON in canonical form.

    Raises:
        InvalidParams: it cannot be translated.
    """
    if version == "0.3":
        try:
            params = translate_rest03.rest03_params_up(operation, params)
        except Untranslatable as error:
            raise InvalidParams(f"the request cannot be read: {error}") from None
    headers = dict(forwarded)
    extensions = headers.pop(wire.EXTENSIONS_HEADER[version], None)
    return Ask(operation=operation, params=params, version=version, extensions=extensions, trace=tuple(headers.items()))


def result_down(version: Version, operation: Operation, result: JsonObject) -> Any:
    """A canonical result as JSON-RPC of `version` has it. Cards of the hub are of both versions."""
    if version == "1.0" or operation == "GetExtendedAgentCard":
        return result
    return translate.result_down(operation, result)


def framed(seq: int, data: bytes) -> bytes:
    """One server-sent event."""
    return b"id: %d\ndata: %b\n\n" % (seq, data) if seq else b"data: %b\n\n" % data
