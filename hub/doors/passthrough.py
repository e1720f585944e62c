"""The doors of what models do beside chat: `/v1/embeddings`, `/v1/images/…`, `/v1/audio/…`, `/v1/rerank` and the like."""

from __future__ import annotations

from hub.exchange import Exchange
from llm import multipart
from llm.forms import Form
from llm.passthrough import DECIDING, PassThrough, Visitor
from registry.errors import HttpMethodRefused


class PassThroughDoor:
    """`POST` to one endpoint. A client that leaves cancels what runs for it."""

    def __init__(self, answers: PassThrough, endpoint: str) -> None:
        self._answers = answers
        self._endpoint = endpoint

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request, whose body is JSON or a form; an error within a begun answer cuts it."""
        if exchange.method != "POST":
            raise HttpMethodRefused("POST")
        visitor = Visitor(exchange.principal, exchange.request_id, exchange)
        kind = exchange.headers.get(b"content-type", b"")
        if multipart.is_form(kind):
            boundary = multipart.boundary_of(kind)
            async with exchange.until_gone(), Form(boundary, exchange.pieces(), once=DECIDING) as form:
                await self._answers.answer_form(self._endpoint, form, visitor)
            return
        body = await exchange.body()
        async with exchange.until_gone():
            await self._answers.answer(self._endpoint, body, visitor)
