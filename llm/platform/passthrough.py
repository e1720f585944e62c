"""Answers requests for what models do beside chat (embeddings, images, audio, …): judged, and passed on as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from llm import router
from llm.call import Models
from llm.expected import ANSWER_TOKENS, end_user, flat, largest_answer
from llm.platform import forms, multipart
from llm.platform.answers import Answering, Origin, relay
from llm.platform.forms import Form
from llm.platform.owned import OwnedIds
from llm.platform.sending import Repeats, Sending
from llm.providers.endpoints import Endpoints, Request
from llm.wire.meter import BYTES_PER_TOKEN
from registry import judged
from registry.catalog import Catalog
from registry.entries import Model
from registry.errors import InvalidRequest
from registry.identity import Principal
from registry.prices import priced

DECIDING = frozenset({"model", "stream"})
COUNTED = frozenset({"embeddings", "completions", "rerank", "moderations"})
"""Endpoints whose input is text: what it used is estimated when the provider does not say it."""


class Visitor(NamedTuple):
    """Who asks, and where the answer goes."""

    principal: Principal
    request_id: str
    sink: Answering


class PassThrough:
    """Answers requests to `llm.providers.endpoints.PASSED_THROUGH`. One for a process."""

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        *,
        models: Models,
        endpoints: Endpoints,
        owned: OwnedIds,
    ) -> None:
        """`catalog` gives the current snapshot."""
        self._catalog = catalog
        self._models = models
        self._endpoints = endpoints
        self._owned = owned
        self._sending = Sending(models, endpoints)

    async def answer(self, endpoint: str, data: bytes, visitor: Visitor) -> None:
        """Answer a request whose body is JSON.

        Raises:
            HubError: before the answer began, or within one that is no event stream.
            StreamFailed: within an event stream.
        """
        members = judged.body(data, DECIDING)
        judged.check_spelling(members, DECIDING)
        asked = self._find(judged.read_string(members, "model"))
        given = len(data) // BYTES_PER_TOKEN

        def request(model: Model) -> Request:
            self._endpoints.check(model, endpoint)
            body = judged.encode({**members, "model": model.model})
            permit.end_user = end_user(body)
            if endpoint in COUNTED:
                permit.estimate(input_tokens=given, output_tokens=0)
            if permit.is_counted and endpoint in COUNTED:
                made = largest_answer(body) if endpoint == "completions" else 0
                self._models.expect(permit, model, given=given, made=made)
            elif permit.is_counted:
                permit.expect(tokens=given + largest_answer(body), usd=flat(self._models.prices(model)))
            return Request(path=endpoint, body=self._owned.sent(body, endpoint, model, visitor.principal))

        with self._models.admit(visitor.principal, asked, request_id=visitor.request_id) as permit:
            if permit.unjudged:
                await permit.judge(judged.unambiguous(data))
            repeats: Repeats = "always" if endpoint in COUNTED else "undone"
            async with self._sending.answered(asked, permit, request, said=data, repeats=repeats) as (model, incoming):
                origin, price = Origin(model, self._endpoints.secrets(model)), self._models.prices(model)
                try:
                    await relay(incoming, origin, permit, visitor.sink, says=endpoint == "completions")
                finally:
                    if endpoint in COUNTED:
                        permit.usage = priced(price, permit.usage)
                if endpoint not in COUNTED:
                    permit.charge(flat(price))

    async def answer_form(self, endpoint: str, form: Form, visitor: Visitor) -> None:
        """Answer a request whose body is a form with files, made with `DECIDING`; raises as `answer`."""
        asked = self._find(await form.until("model"))
        with self._models.admit(visitor.principal, asked, request_id=visitor.request_id) as permit:
            await permit.judge(None)
            boundary = multipart.new_boundary()
            body = await forms.measured(forms.written(form, boundary, without="model"))

            def request(model: Model) -> Request:
                self._endpoints.check(model, endpoint)
                permit.expect(tokens=ANSWER_TOKENS, usd=flat(self._models.prices(model)))
                whole = forms.with_field("model", model.model, body, boundary)
                return Request(path=endpoint, body=whole, media_type=multipart.media_type(boundary))

            repeats: Repeats = "undone" if isinstance(body, bytes) else "unsent"
            async with self._sending.answered(asked, permit, request, repeats=repeats) as (model, incoming):
                await relay(incoming, Origin(model, self._endpoints.secrets(model)), permit, visitor.sink)
                permit.charge(flat(self._models.prices(model)))

    def _find(self, name: str | None) -> Model:
        if not name:
            raise InvalidRequest("model is missing; GET /v1/models says which there are", member="model")
        return router.find(self._catalog().models, name)
