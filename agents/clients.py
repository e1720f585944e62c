"""How clients are written to: results and events in the binding and version that each speaks. Pure."""

from __future__ import annotations

from typing import Any

from agents import answers, faults, rest, translate, translate_rest03, wire
from agents.faults import Fault
from agents.records import Untranslatable
from agents.rest import RestAsk
from agents.shown import Shown
from agents.speech import Ask, Operation, Speech, Version
from agents.spoken import event_down_of, event_of
from agents.upstream import Heard
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
        self._form = answers.event_form(self._speech)

    def result(self, heard: Heard) -> bytes:
        """Write a canonical result as the whole response."""
        assert self._envelope.operation is not None
        assert heard.result is not None
        return self._response(result_down(self._envelope.version, self._envelope.operation, heard.result))

    def events(self, entry: Agent, batch: list[Shown], *, echoes: bool) -> bytes:
        """Write events of a stream; `echoes`: JSON-RPC events bear the client's request id already."""
        rpc_id = self._envelope.id
        written = []
        for shown in batch:
            data, seen = shown.data, None
            if shown.speech == self._speech:
                seen = shown.seen or answers.read_event(data, wrapped=True)
            if seen is None or seen.form != self._form:
                data = self._response(self._translated(entry, shown))  # some agents mix versions, too
            elif not echoes or seen.rpc_id != rpc_id:
                data = self._response(judged.read_object(data)["result"])
            written.append(framed(shown.seq, data))
        return b"".join(written)

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

    def asked(self, said: RestAsk, forwarded: Headers) -> Ask:
        """The request in canonical form.

        Raises:
            InvalidParams: it cannot be translated.
        """
        params, raw = said.params, said.raw
        if self.version == "0.3":
            twice = self._encodes_twice
            try:
                params = translate_rest03.rest03_params_up(said.operation, params, encodes_twice=twice)
            except Untranslatable as error:
                raise InvalidParams(f"the request cannot be read: {error}") from None
            if raw is not None and not twice:  # agents are written to as Python reads
                raw = translate_rest03.rest03_files(raw, were_twice=False, encodes_twice=True)
        return wire.asked(self._speech, said.operation, params, raw=raw, forwarded=forwarded)

    @property
    def media_type(self) -> bytes:
        """Of whole results."""
        return rest.MEDIA_TYPES[self.version]

    def result(self, heard: Heard) -> bytes:
        """Write the body of an answer."""
        if heard.data is not None:
            return self._own(heard.data)
        result = heard.result
        assert result is not None
        if self.version == "0.3" and self._operation != "GetExtendedAgentCard":
            result = translate_rest03.rest03_result_down(self._operation, result, encodes_twice=self._encodes_twice)
        return judged.encode(result)

    def event(self, entry: Agent, shown: Shown) -> bytes:
        """Write one event of a stream."""
        data, seen = shown.data, None
        if shown.speech == self._speech:
            seen = shown.seen or answers.read_event(data, wrapped=False)
        if seen is not None and seen.fits(self._speech, "SubscribeToTask"):
            return framed(shown.seq, self._own(data))
        event = event_of(entry, shown.speech, data)
        if self.version == "0.3":
            event = translate_rest03.rest03_event_down(event, encodes_twice=self._encodes_twice)
        return framed(shown.seq, judged.encode(event))

    def _own(self, data: bytes) -> bytes:
        """What an agent of the same speech wrote, whose way to encode the bytes of files need not be the client's."""
        if self.version == "1.0":
            return data
        return translate_rest03.rest03_files(data, were_twice=True, encodes_twice=self._encodes_twice)

    def error(self, error: JsonObject, http: int | None) -> tuple[int, bytes]:
        """Write a JSON-RPC `error` as HTTP status and body; `http` is a status that says more than its code."""
        fault = Fault(error["code"], error["message"], error.get("data") or [])
        status, body = faults.write_http(fault, self.version, http)
        return status, judged.encode(body)

    def error_event(self, error: JsonObject) -> bytes:
        """Write it as the last event of a stream that has begun."""
        return rest.write_error_event(Fault(error["code"], error["message"], error.get("data") or []), self.version)


def result_down(version: Version, operation: Operation, result: JsonObject) -> Any:
    """A canonical result as JSON-RPC of `version` has it. Cards of the hub are of both versions."""
    if version == "1.0" or operation == "GetExtendedAgentCard":
        return result
    return translate.result_down(operation, result)


def framed(seq: int, data: bytes) -> bytes:
    """One server-sent event."""
    return b"id: %d\ndata: %b\n\n" % (seq, data) if seq else b"data: %b\n\n" % data
