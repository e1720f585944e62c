"""Endpoints of providers beside their chat: who has which, and one request to one of them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec

from llm.providers.destination import Destinations
from llm.providers.openai import failure
from llm.providers.row import EVERY
from llm.providers.table import TABLE
from registry.egress.http import Egress, Incoming, Outgoing
from registry.entries import Model
from registry.errors import InvalidRequest, UpstreamUnavailable
from registry.gate import Permit

KEEPING = frozenset({"files", "batches", "vector_stores"})
"""Endpoints that keep something of their caller's."""

PASSED_THROUGH = frozenset(EVERY) - KEEPING
"""Endpoints that one request with a `model` uses up."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of an endpoint."""

    method: str = "POST"
    path: str
    """Behind the provider's base URL, without a slash in front; with its query."""
    body: bytes | AsyncIterator[bytes] | None = None
    media_type: str = "application/json"


class Endpoints:
    """The providers' endpoints. `keys` are the values of the table's key variables, by variable."""

    def __init__(self, egress: Egress, *, keys: Mapping[str, str]) -> None:
        self._egress = egress
        self._destinations = Destinations(keys)

    def has(self, model: Model, endpoint: str) -> bool:
        """Whether the model's provider has the endpoint, such as `audio/speech`."""
        row = TABLE.get(model.provider)
        return row is not None and endpoint in row.endpoints

    def secrets(self, model: Model) -> Sequence[str]:
        """What no text of the provider may show."""
        return self._destinations.of(model).secrets

    def keeps(self, model: Model) -> bool:
        """Whether the model's provider keeps anything for callers."""
        return any(self.has(model, endpoint) for endpoint in KEEPING)

    def name_of(self, model: Model) -> str:
        """A name for the service at which one deployment runs, the same as long as its provider and address are.

        Raises:
            UpstreamUnavailable: the entry cannot be called as it is configured.
        """
        where = f"{model.provider} {self._destinations.of(model).base_url}"
        return hashlib.sha256(where.encode()).hexdigest()[:16]

    def share_account(self, one: Model, other: Model) -> bool:
        """Whether two deployments are one account of one service, so that each knows what the other keeps."""
        here, there = self._destinations.of(one), self._destinations.of(other)
        return one is other or (here.base_url == there.base_url and here.headers == there.headers)

    def check(self, place: Model, endpoint: str) -> None:
        """Refuse a deployment whose provider lacks the endpoint.

        Raises:
            InvalidRequest: it does.
            UpstreamUnavailable: it cannot be called at all.
        """
        if place.unavailable is not None:
            raise UpstreamUnavailable(place.name, place.unavailable)
        if not self.has(place, endpoint):
            raise InvalidRequest(
                f"{place.name} runs at provider {place.provider}, which has no /{endpoint}; name another model",
                member="model",
            )

    def place(self, model: Model, endpoint: str) -> Model:
        """One of the model's deployments, by their weights, whose provider has the endpoint.

        Raises:
            InvalidRequest: none has it.
            UpstreamUnavailable: the entry cannot be called.
        """
        able = [place for place in model.places() if self.has(place, endpoint)]
        if not able or model.unavailable is not None:
            self.check(model, endpoint)
        return random.choices(able, [place.weight for place in able])[0]  # noqa: S311  # no secret hangs on it

    @asynccontextmanager
    async def send(self, permit: Permit, model: Model, request: Request) -> AsyncIterator[Incoming]:
        """Send one request under an admitted permit; the answer is one of success.

        Raises:
            UpstreamError: no answer, or the provider's refusal; as `llm.providers.openai.failure`.
        """
        to = self._destinations.of(model)
        headers = tuple(header for header in to.headers if header[0].lower() != "content-type")
        if request.body is not None:
            headers = (("content-type", request.media_type), *headers)
        if request.path.startswith("vector_stores"):
            headers = (*headers, ("openai-beta", "assistants=v2"))
        outgoing = Outgoing(
            url=f"{to.base_url}/{request.path}",
            method=request.method,
            headers=headers,
            body=request.body,
            trusted=to.trusted,
        )
        async with self._egress.send(permit, outgoing) as incoming:
            if not 200 <= incoming.status < 300:
                raise await failure(model, incoming, secrets=to.secrets)
            yield incoming
