"""Texts as vectors of one model, for the hub's own search."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec import structs

from llm import router
from llm.call import Models
from llm.platform.answers import used
from llm.platform.sending import Sending
from llm.providers.endpoints import Endpoints, Request
from llm.wire.meter import BYTES_PER_TOKEN
from registry.access import Grant, Grants
from registry.catalog import Catalog
from registry.entries import Model
from registry.errors import UpstreamInvalid
from registry.identity import HUB
from registry.judged import encode
from registry.prices import priced
from registry.search.meaning import Asker

ENDPOINT = "embeddings"
MAX_DIMENSIONS = 8192


class _Item(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Item]


_answer = msgspec.json.Decoder(_Answer)


class Embedding:
    """Makes vectors (`registry.search.meaning.Embed`). One for a process."""

    def __init__(self, name: str, catalog: Callable[[], Catalog], *, models: Models, endpoints: Endpoints) -> None:
        """`name` is that of a model of the catalog, or is covered by one with a wildcard."""
        self._name = name
        self._catalog = catalog
        self._models = models
        self._endpoints = endpoints
        self._sending = Sending(models, endpoints)

    def where(self) -> tuple[tuple[str, str | None, str], ...]:
        """What makes the vectors now: where this is another, they say something else; raises `NotFound`."""
        return tuple((place.provider, place.base_url, place.model) for place in self._entry().places())

    def _entry(self) -> Model:
        return router.find(self._catalog().models, self._name)

    async def __call__(self, texts: Sequence[str], asker: Asker) -> list[list[float]]:
        """Make a vector of each text.

        It is the asker's use, and needs no grant of theirs: the operator chose the model for whoever may search. The policy's
        rules hold. No other model stands in: its vectors would say something else.

        Raises:
            HubError: the model cannot be asked, fails, or answers with something else.
        """
        asked, principal = self._entry(), asker.principal
        if principal is not HUB:
            principal = structs.replace(principal, grants=Grants((Grant(asked.kind, asked.grant_name),)))

        given = sum(map(len, texts)) // BYTES_PER_TOKEN

        def request(model: Model) -> Request:
            self._endpoints.check(model, ENDPOINT)
            if permit.is_counted:
                self._models.expect(permit, model, given=given, made=0)
            return Request(path=ENDPOINT, body=encode({"model": model.model, "input": texts}))

        admitted = self._models.admit(principal, asked, request_id=asker.request_id, within=asker.within)
        with admitted as permit:
            permit.check({"model": asked.name, "input": list(texts)})
            permit.estimate(input_tokens=given, output_tokens=0)
            async with self._sending.answered(asked, permit, request, by_itself=True) as (model, incoming):
                data = await incoming.read()
                permit.usage = used(data) or permit.usage
                permit.charge(priced(self._models.prices(model), permit.usage).cost_usd)
                return _vectors(data, len(texts), model)


def _vectors(data: bytes, count: int, model: Model) -> list[list[float]]:
    try:
        items = sorted(_answer.decode(data).data, key=lambda item: item.index)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UpstreamInvalid(model.name, "its answer is no list of embeddings") from None
    sizes = {len(item.embedding) for item in items}
    if [item.index for item in items] != list(range(count)) or len(sizes) != 1 or not 0 < sizes.pop() <= MAX_DIMENSIONS:
        raise UpstreamInvalid(model.name, "its answer is not one embedding for each text")
    return [item.embedding for item in items]
