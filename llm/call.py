"""The one model call: admit, find the provider, send, and settle what it used, known or estimated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Self

import msgspec

from llm.ports import ModelAnswer, Provider
from llm.providers.openai import error_detail
from llm.providers.table import TABLE
from llm.wire import chat
from registry.entries import Model
from registry.errors import HubError, UpstreamInvalid, UpstreamRejected, UpstreamUnavailable
from registry.gate import Gate, Permit, Usage
from registry.identity import Principal

BYTES_PER_TOKEN = 4
"""The usual rule of thumb, for estimates only."""


class ModelCall:
    """One call under way. However it ends, its permit learns what the provider said it used, else an estimate."""

    __slots__ = ("_answer", "_input_bytes", "_model", "_permit", "_provider", "_sending", "output_tokens", "usage")

    def __init__(self, permit: Permit, model: Model, *, provider: Provider, body: bytes, stream: bool) -> None:
        self._sending = provider.call(permit, model, body=body, stream=stream)
        self._permit = permit
        self._model = model
        self._provider = provider
        self._input_bytes = len(body)
        self.usage: Usage | None = None
        self.output_tokens = 0
        """What came so far, estimated."""

    async def __aenter__(self) -> Self:
        self._answer: ModelAnswer = await self._sending.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._meter()
        await self._sending.__aexit__(kind, error, trace)

    def chunks(self) -> AsyncIterator[bytes]:
        """The answer's event stream; its reader keeps `usage` and `output_tokens`."""
        return self._answer.chunks()

    async def read(self) -> bytes:
        """The whole answer, which is a JSON object; raises `UpstreamInvalid` for anything else."""
        data = await self._answer.read()
        self.output_tokens = len(data) // BYTES_PER_TOKEN
        try:
            self.usage = chat.usage_of(data)
        except ValueError:
            raise UpstreamInvalid(self._model.name, "its answer is not a JSON object") from None
        return data

    def reported(self, error: msgspec.Raw) -> HubError:
        """The error with which the provider ended its stream, in its own words but without the hub's secrets."""
        secrets = self._provider.secrets(self._model)
        detail = error_detail(b'{"error":' + bytes(error) + b"}", secrets=secrets)
        if detail is None:
            return UpstreamInvalid(self._model.name, "it reported an error in its stream")
        return UpstreamRejected(self._model.name, 502, detail)

    def _meter(self) -> None:
        """Hand the permit what is known of the usage."""
        if self.usage is not None:
            self._permit.usage = self.usage
        else:
            estimate = self._input_bytes // BYTES_PER_TOKEN
            self._permit.estimate(input_tokens=estimate, output_tokens=self.output_tokens)


class Models:
    """Calls models. `providers` are by the name that `Model.provider` says."""

    def __init__(self, gate: Gate, *, providers: Mapping[str, Provider]) -> None:
        self._gate = gate
        self._providers = providers

    def admit(self, principal: Principal, model: Model, *, request_id: str, within: Permit | None = None) -> Permit:
        """Let `principal` call `model`; raises as the gate."""
        return self._gate.admit(principal, model, request_id=request_id, within=within)

    def call(self, permit: Permit, model: Model, *, body: bytes, stream: bool) -> ModelCall:
        """Send one chat completions request under an admitted permit; enter the call for the length of its answer.

        Raises, here or on entering:
            UpstreamError: no answer, or not one that could be passed on.
        """
        if model.unavailable is not None:
            raise UpstreamUnavailable(model.name, model.unavailable)
        provider = self._providers.get(model.provider)
        if provider is None:
            known = ", ".join(sorted(self._providers))
            raise UpstreamUnavailable(model.name, f"provider {model.provider!r} is not known; known are {known}")
        return ModelCall(permit, model, provider=provider, body=body, stream=stream)


def asks_usage(model: Model) -> bool:
    """Whether the model's provider understands `stream_options.include_usage`."""
    row = TABLE.get(model.provider)
    return row is None or row.takes_stream_options


def cut_short(model: Model) -> UpstreamInvalid:
    """The error of a stream that ended before it was complete."""
    return UpstreamInvalid(model.name, "its answer was cut short")


def not_a_stream(model: Model) -> UpstreamInvalid:
    """The error of an answer that should be an event stream and is something else."""
    return UpstreamInvalid(model.name, "its answer is not an event stream")
