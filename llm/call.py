"""The one model call: admit, find the provider, send, and settle what it used, known or estimated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Self

from llm.ports import ModelAnswer, ModelRequest, Provider
from llm.providers import failures
from registry.entries import Model
from registry.errors import HubError, UpstreamInvalid, UpstreamUnavailable
from registry.gate import Gate, Permit, Usage
from registry.identity import Principal
from registry.prices import Price, priced

BYTES_PER_TOKEN = 4
"""The usual rule of thumb, for estimates only."""

Prices = Callable[[Model], Price | None]
"""Says what a call of a model costs; None: that is not known."""

Make = Callable[[Model], ModelRequest]
"""Makes the request for the place where a model runs."""


class ModelCall:
    """One call under way. However it ends, its permit learns what the provider said it used, else an estimate."""

    __slots__ = (
        "_answer",
        "_input_bytes",
        "_permit",
        "_prices",
        "_provider",
        "_sending",
        "format",
        "model",
        "output_tokens",
        "usage",
    )

    def __init__(
        self, permit: Permit, model: Model, *, provider: Provider, request: ModelRequest, prices: Prices
    ) -> None:
        self._sending = provider.call(permit, model, request)
        self._prices = prices
        self._permit = permit
        self._provider = provider
        self._input_bytes = len(request.body)
        self.format = request.format
        self.model = model
        self.usage: Usage | None = None
        """Set by who reads the answer."""
        self.output_tokens = 0
        """What came so far, estimated; likewise."""

    async def __aenter__(self) -> Self:
        self._answer: ModelAnswer = await self._sending.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._permit.usage = self.used
        await self._sending.__aexit__(kind, error, trace)

    def chunks(self) -> AsyncIterator[bytes]:
        """The answer's event stream."""
        return self._answer.chunks()

    async def read(self) -> bytes:
        """The whole answer."""
        data = await self._answer.read()
        self.output_tokens = len(data) // BYTES_PER_TOKEN
        return data

    def reported(self, error: object) -> HubError:
        """The error with which the provider ended its stream, in its own words but without the hub's secrets."""
        found = failures.reported(self.model.name, error, secrets=self._provider.secrets(self.model))
        return found or self.invalid("it reported an error in its stream")

    def invalid(self, text: str) -> UpstreamInvalid:
        """The error of an answer that is not what it should be."""
        return UpstreamInvalid(self.model.name, text)

    @property
    def used(self) -> Usage:
        """What is known of its usage, else an estimate, and what it cost."""
        usage = self.usage
        if usage is None:
            if self.model.kind != "model":  # agents count no tokens, and say themselves what they charge
                return self._permit.usage
            usage = Usage(self._input_bytes // BYTES_PER_TOKEN, self.output_tokens, estimated=True)
        return priced(self._prices(self.model), usage)


CUT_SHORT = "its answer was cut short"
NOT_A_STREAM = "its answer is not an event stream"
NOT_AN_OBJECT = "its answer is not a JSON object"


class Models:
    """Calls models. `providers` are by the name that `Model.provider` says."""

    def __init__(self, gate: Gate, *, providers: Mapping[str, Provider], prices: Prices) -> None:
        self._gate = gate
        self._prices = prices
        self._providers = providers

    def admit(
        self, principal: Principal, model: Model, *, request_id: str, within: Permit | None = None, hops: int = 0
    ) -> Permit:
        """Let `principal` call `model`; `hops` as `Permit` has it. Raises as the gate."""
        permit = self._gate.admit(principal, model, request_id=request_id, within=within)
        permit.hops = permit.hops or hops
        return permit

    def call(self, permit: Permit, model: Model, make: Make) -> ModelCall:
        """Send one request under an admitted permit; enter the call for the length of its answer.

        `make` is asked for the request once it is known where the model runs: `ModelCall.model` says it.

        Raises, here or on entering:
            UpstreamError: no answer, or not one that could be passed on.
        """
        if model.unavailable is not None:
            raise UpstreamUnavailable(model.name, model.unavailable)
        provider = self._providers.get(model.provider)
        if provider is None:
            known = ", ".join(sorted(self._providers))
            raise UpstreamUnavailable(model.name, f"provider {model.provider!r} is not known; known are {known}")
        return ModelCall(permit, model, provider=provider, request=make(model), prices=self._prices)
