"""The doors of what models do beside chat: `/v1/embeddings`, `/v1/images/…`, `/v1/audio/…`, `/v1/rerank` and the like."""

from __future__ import annotations

from hub import errors
from hub.exchange import Exchange
from llm.platform import multipart
from llm.platform.answers import StreamFailed
from llm.platform.forms import Form
from llm.platform.passthrough import DECIDING, PassThrough, Visitor
from llm.wire import chat
from registry.errors import HttpMethodRefused


class PassThroughDoor:
    """`POST` to one endpoint. A client that leaves cancels what runs for it."""

    def __init__(self, answers: PassThrough, endpoint: str) -> None:
        self._answers = answers
        self._endpoint = endpoint

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request, whose body is JSON or a form.

        An error within a begun event stream ends it with an error event, within another answer it cuts it.
        """
        if exchange.method != "POST":
            raise HttpMethodRefused("POST")
        try:
            await self._answer(exchange)
        except StreamFailed as failed:
            await exchange.write(chat.event(errors.openai(failed.error, exchange.request_id)))

    async def _answer(self, exchange: Exchange) -> None:
        visitor = Visitor(exchange.principal, exchange.request_id, exchange)
        kind = exchange.headers.get(b"content-type", b"")
        if multipart.is_form(kind):
            boundary = multipart.boundary_of(kind)
            with exchange.until_gone():
                async with Form(boundary, exchange.pieces(), once=DECIDING) as form:
                    await self._answers.answer_form(self._endpoint, form, visitor)
            return
        body = await exchange.body()
        with exchange.until_gone():
            await self._answers.answer(self._endpoint, body, visitor)
