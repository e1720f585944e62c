"""The one model call: admit, find the provider, send, and settle what it used, known or estimated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from types import TracebackType
from typing import Any, Self

from llm import screening
from llm.deployments import Deployments, Place, Prices, name_of
from llm.expected import end_user, largest_answer
from llm.ports import ModelAnswer, ModelRequest, Provider
from llm.providers import failures
from llm.route import Failed, Route
from llm.wire.meter import BYTES_PER_TOKEN
from registry import judged
from registry.deadline import Deadline
from registry.entries import Model
from registry.errors import HubError, UpstreamError, UpstreamInvalid, UpstreamTimeout, UpstreamUnavailable
from registry.gate import Gate, Permit, Usage
from registry.identity import Principal
from registry.prices import priced

_VISIBLE = bytes(code if 0x20 < code < 0x7F else 0x3F for code in range(256))
"""A wildcard's callers write a part of the name that they are told."""

Make = Callable[[Model], ModelRequest]
"""Makes the request for the place where a model runs."""


class ModelCall:
    """One call under way. However it ends, its permit learns what the provider said it used, else an estimate.

    What fails before its answer began is tried again where that is safe, here or elsewhere (llm/route.py): all attempts are
    one call under one permit.
    """

    usage: Usage | None = None
    """Set by who reads the answer."""
    output_tokens = 0
    """What came so far, estimated; likewise."""
    told: Sequence[tuple[bytes, bytes]] = ()
    """Headers that say who answered and after how many attempts; none where there was nothing to choose."""
    deployment: str | None = None
    attempts = 1
    """As of `llm.types.Reply`."""
    _place: Place | None = None
    _priced: Usage | None = None
    """What `usage` was when its cost was looked up."""
    _made: ModelRequest | None = None
    """What was made last for a provider."""
    _make_asked: Make | None = None
    """`_make` as it was for the model that was asked for, once another stands in."""
    _kept_back = 0
    """Tokens of a stream that guards look at, estimated."""

    def __init__(self, models: Models, permit: Permit, model: Model, make: Make) -> None:
        self._models = models
        self._permit = permit
        self._make = make
        self.model = model
        """Where it runs, once it is entered."""
        if not model.deployments:
            self._provider = models.provider(model)
            self._send(make(model))

    def _send(self, request: ModelRequest) -> None:
        self._made = request
        self._estimate = len(request.body) // BYTES_PER_TOKEN
        self._permit.end_user = end_user(request.body)
        if self._permit.is_counted and self.model.kind == "model":
            self._models.expect(self._permit, self.model, given=self._estimate, made=largest_answer(request.body))
        self.format = request.format
        self._sending = self._provider.call(self._permit, self.model, request)

    async def __aenter__(self) -> Self:
        if self._permit.unjudged:
            await self._judge()
        if self.model.deployments:
            await self._find_way()
        else:
            try:
                self._answer: ModelAnswer = await self._sending.__aenter__()
            except UpstreamError as error:
                await self._find_way(error)
        return self

    async def _judge(self, *, asks: bool = True) -> None:
        request = self._made or self._make(self.model)
        if self._permit.passes(request.body):
            return
        body = judged.unambiguous(request.body)
        left = await self._permit.judge(body, rewrites=True, screening=True, asks=asks)
        if left is body or left is None:
            return
        make, guards = self._make, self._permit.applying

        def redacted(to: Model) -> ModelRequest:
            request = make(to)
            return request._replace(body=screening.sent(guards, request.body, body, left))

        self._make = redacted
        if self._made is not None:
            self._send(redacted(self.model))

    async def _judge_as(self, stand_in: Model) -> None:
        """Ask rules and guards of a model that stands in, about what those of the one that was asked for left of the request."""
        self._make = self._make_asked = self._make_asked or self._make
        self.model, self._made = stand_in, None
        if self._permit.unjudged:
            await self._judge(asks=False)

    async def _find_way(self, failure: HubError | None = None) -> None:
        """Ask one deployment after the other until one answers; `failure` is the first attempt's, if there was one."""
        permit, models = self._permit, self._models
        route = models.route(self.model, permit.principal, self._make)
        place = route.first() if failure is not None else None
        sent = 0
        while True:
            if failure is not None:
                failed = Failed(failure, place, permit.requests > sent)
                await models.try_on(route, permit, failed, judge=self._judge_as)
            place, sent = None, permit.requests
            try:
                place, self.model = route.next()
                await self._ask(place, route)
            except HubError as error:
                failure = error
            else:
                break
        self.deployment, self.attempts = name_of(self.model), route.attempts
        name = self.deployment.encode("ascii", "replace").translate(_VISIBLE)
        self.told = (b"x-hub-deployment", name), (b"x-hub-attempts", b"%d" % route.attempts)

    async def _ask(self, place: Place, route: Route) -> None:
        """Ask one deployment; raises what it failed with, which its state then knows."""
        sent, began = self._permit.requests, route.now()
        place.begin(began)
        try:
            await self._begin(None if route.deadline is None else route.deadline - began)
        except BaseException as error:
            place.busy -= 1
            if isinstance(error, HubError):
                place.failed(error, route.now(), was_sent=self._permit.requests > sent)
            raise
        now = route.now()
        place.answered(now - began, now)
        place.tokens.take(now, self._estimate)
        self._place = place

    async def _begin(self, within_s: float | None) -> None:
        self._provider = self._models.provider(self.model)
        self._send(self._make(self.model))
        try:
            with nullcontext() if within_s is None else Deadline(max(0.0, within_s)):
                self._answer = await self._sending.__aenter__()
        except TimeoutError:
            raise UpstreamTimeout(self.model.name, "it did not begin to answer by its deadline_s") from None

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Coroutine[Any, Any, bool | None]:
        used = self._permit.usage = self.used
        if self._place is not None:
            self._leave(self._place, used, error)
        return self._sending.__aexit__(kind, error, trace)

    def _leave(self, place: Place, used: Usage, error: BaseException | None) -> None:
        now = self._models.deployments.clock()
        place.busy -= 1
        place.tokens.take(now, (used.input_tokens or 0) + (used.output_tokens or 0) - self._estimate)
        if isinstance(error, UpstreamError):  # its answer broke off
            place.failed(error, now, was_sent=True)

    def chunks(self) -> AsyncIterator[bytes]:
        """The answer's event stream."""
        return self._screened() if self._permit.screens else self._answer.chunks()

    async def _screened(self) -> AsyncIterator[bytes]:
        self._kept_back = 1
        stream = await screening.stream(self._permit, self._heard())
        self._kept_back = 0
        yield stream

    async def _heard(self) -> AsyncIterator[bytes]:
        async for chunk in self._answer.chunks():
            self._kept_back += len(chunk) // BYTES_PER_TOKEN
            yield chunk

    async def read(self) -> bytes:
        """The whole answer."""
        data = await self._answer.read()
        self.output_tokens = len(data) // BYTES_PER_TOKEN
        if not self._permit.screens or screening.clears(self._permit, data):
            return data
        return await screening.whole(self._permit, data)

    def heard(self, usage: Usage | None, *, made: int, is_whole: bool) -> None:
        """Note what a stream said that it used, and about how many tokens it made: what it said before its end was not all."""
        self.usage, self.output_tokens = usage, made
        if usage is not None and not is_whole:
            self.usage = usage._replace(output_tokens=max(made, usage.output_tokens or 0), estimated=True)

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
        if self.model.kind != "model":  # what agents say that they used is recorded with the models that they asked
            return self._permit.usage
        if usage is None:
            return priced(
                self._models.prices(self.model),
                Usage(self._estimate, self.output_tokens or self._kept_back, estimated=True),
            )
        if usage.cost_usd is None and usage is not self._priced:
            self.usage = self._priced = usage = priced(self._models.prices(self.model), usage)
        return usage

    @property
    def warnings(self) -> Sequence[str]:
        """As `Permit.warnings`."""
        return self._permit.warnings

    @property
    def spent(self) -> Usage:
        """As `used`, for who is told of it: what an agent asked models for, too."""
        return self.used if self.model.kind == "model" else spent_by(self._permit)


def spent_by(agent: Permit) -> Usage:
    """What the call of an agent used and cost with all that it did within, as far as that is known."""
    charged = [cost for cost in (agent.usage.cost_usd, agent.used_within.cost_usd) if cost is not None]
    return agent.used_within._replace(cost_usd=sum(charged) if charged else None)


CUT_SHORT = "its answer was cut short"
NOT_A_STREAM = "its answer is not an event stream"
NOT_AN_OBJECT = "its answer is not a JSON object"


def _nobody(_name: str) -> Model | None:
    return None


class Models:
    """Calls models. `providers` are by the name that `Model.provider` says."""

    def __init__(
        self,
        gate: Gate,
        *,
        providers: Mapping[str, Provider],
        prices: Prices,
        find: Callable[[str], Model | None] = _nobody,
        deployments: Deployments | None = None,
    ) -> None:
        """`find` finds the models that stand in for others."""
        self._gate = gate
        self._providers = providers
        self.prices = prices
        self.find = find
        self.deployments = deployments or Deployments(prices=prices)
        self.keeping: set[str] = set()
        """The ids of requests whose answers are to be kept for others; not of those that another model answers, which not all of them may ask."""

    def admit(self, principal: Principal, model: Model, *, request_id: str, within: Permit | None = None) -> Permit:
        """Let `principal` call `model`. Raises as the gate."""
        return self._gate.admit(principal, model, request_id=request_id, within=within)

    def telling(self, principal: Principal, request_id: str) -> AbstractContextManager[None]:
        """As `Gate.telling`, for answers that nobody waits for."""
        return self._gate.telling(principal, request_id)

    def warnings(self, request_id: str) -> Sequence[str]:
        """As `Permit.warnings`."""
        return self._gate.warnings(request_id)

    def screens(self, model: Model) -> bool:
        """Whether guards look at what a model answers."""
        guards = self._gate.guards.about(model.kind, model.grant_name) if self._gate.guards else None
        return guards is not None and "results" in guards.sides

    def call(self, permit: Permit, model: Model, make: Make) -> ModelCall:
        """Send one request under an admitted permit; enter the call for the length of its answer.

        `make` is asked for the request once it is known where the model runs: `ModelCall.model` says it.

        Raises, here or on entering:
            UpstreamError: no answer, or not one that could be passed on.
            DeploymentsBusy: all deployments have as many requests as they may have.
        """
        return ModelCall(self, permit, model, make)

    def expect(self, permit: Permit, model: Model, *, given: int, made: int) -> None:
        """Tell a permit with limits that a request may have so many tokens of input and of output."""
        price = self.prices(model)
        permit.expect(tokens=given + made, usd=None if price is None else price.cost(Usage(given, made)))

    async def try_on(
        self, route: Route, permit: Permit, failed: Failed, *, judge: Callable[[Model], Awaitable[object]]
    ) -> None:
        """Wait for the next attempt at a call. When another model is to be asked, its call is that of `permit` from then on.

        A model that stands in is called as its caller might call it, but for the grant: what its rules, guards, limits or budget
        are against is passed over. `judge` asks the first two, whom nobody answers.

        Raises:
            HubError: nothing is left: the failure of the model that was asked for.
        """
        while True:
            before = route.entry
            try:
                wait = route.after(failed.error, failed.place, was_sent=failed.was_sent)
            except HubError as error:
                if error is not failed.error:
                    permit.settle("error", failed.error)
                raise
            if route.entry is before:
                await self.deployments.pause(wait)
                return
            guards = route.guards = route.guards or permit.applying
            self.keeping.discard(permit.request_id)
            self._gate.pass_on(permit, route.entry, failed.error)
            try:
                await judge(route.entry)
            except HubError as error:
                failed = Failed(error, None, was_sent=False)
            else:
                permit.look_too(guards)
                return

    def provider(self, model: Model) -> Provider:
        """The provider of a deployment; raises `UpstreamUnavailable`."""
        if model.unavailable is not None:
            raise UpstreamUnavailable(model.name, model.unavailable)
        provider = self._providers.get(model.provider)
        if provider is None:
            known = ", ".join(sorted(self._providers))
            raise UpstreamUnavailable(model.name, f"provider {model.provider!r} is not known; known are {known}")
        return provider

    def route(self, entry: Model, principal: Principal, make: Make) -> Route:
        """Begin one request's way. Where there are several deployments, it leads to that of the conversation's beginning."""
        home = None
        if len(entry.deployments) > 1:
            with suppress(HubError):  # what this deployment cannot be asked, another may
                home = self.deployments.home(entry, principal.id, make(entry.deployments[0]).body)
        return Route(self.deployments, entry, find=self.find, home=home)
