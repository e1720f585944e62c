"""Sends one request to where a model runs, or to another such place when that fails: what `llm.call` is to chat."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Literal

from llm.call import Models
from llm.deployments import Place
from llm.providers.endpoints import Endpoints, Request
from llm.route import Failed, Route
from registry import judged
from registry.egress.http import Incoming
from registry.entries import Model
from registry.errors import (
    HubError,
    UpstreamError,
    UpstreamLimited,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamRejected,
)
from registry.gate import Permit

Repeats = Literal["always", "undone", "unsent"]
"""After which failures a request is sent again: any that an attempt may mend; those where nothing was made, so that no image
is paid twice; those where nothing was sent, as of a body that passes only once."""


class Sending:
    """One for a process."""

    def __init__(self, models: Models, endpoints: Endpoints) -> None:
        self._models = models
        self._endpoints = endpoints

    @asynccontextmanager
    async def answered(
        self,
        asked: Model,
        permit: Permit,
        make: Callable[[Model], Request],
        *,
        said: bytes | None = None,
        repeats: Repeats = "always",
        by_itself: bool = False,
    ) -> AsyncIterator[tuple[Model, Incoming]]:
        """Ask one deployment after the other until one answers, as `llm.route` says; nothing is tried again after that.

        `said`: what rules and guards of a model that stands in are asked about; None: there is nothing that they could look at.
        `by_itself`: no other model stands in.
        """
        deployments = self._models.deployments
        route = Route(deployments, asked, find=_nobody if by_itself else self._models.find)
        while True:
            place, sent, began = None, permit.requests, route.now()
            async with AsyncExitStack() as call:
                try:
                    place, model = route.next()
                    call.enter_context(_counted(place, began))
                    incoming = await call.enter_async_context(self._endpoints.send(permit, model, make(model)))
                except HubError as error:
                    was_sent = permit.requests > sent
                    if place is not None:
                        place.failed(error, route.now(), was_sent=was_sent)
                    if not _may_repeat(error, repeats, was_sent=was_sent):
                        raise
                    failed = Failed(error, place, was_sent)
                else:
                    place.answered(route.now() - began, route.now())
                    yield model, incoming
                    place.tokens.take(route.now(), (permit.usage.input_tokens or 0) + (permit.usage.output_tokens or 0))
                    return
            await self._models.try_on(route, permit, failed, judge=partial(_judge, permit, said))


async def _judge(permit: Permit, said: bytes | None, _stand_in: Model) -> None:
    if permit.unjudged:
        await permit.judge(None if said is None else judged.unambiguous(said), asks=False)


def _may_repeat(error: HubError, repeats: Repeats, *, was_sent: bool) -> bool:
    if repeats == "always" or not was_sent or (isinstance(error, UpstreamError) and error.is_unsent):
        return True
    refused = isinstance(error, UpstreamLimited | UpstreamOverloaded | UpstreamRefused | UpstreamRejected)
    return repeats == "undone" and refused


def _nobody(_name: str) -> None:
    return None


@contextmanager
def _counted(place: Place, now: float) -> Iterator[None]:
    """Have a deployment know of a call for its length."""
    place.begin(now)
    try:
        yield
    finally:
        place.busy -= 1
