"""The OpenAI doors: `POST /v1/chat/completions` and `GET /v1/models`, each also without `/v1`."""

from __future__ import annotations

from collections.abc import Callable

from agents import wire
from hub import errors
from hub.exchange import Exchange
from llm import router
from llm.rounds import Caller
from llm.run import Chat
from llm.wire import chat
from registry.catalog import Catalog
from registry.errors import HttpMethodRefused, HubError, NotFound
from registry.judged import encode


class ChatDoor:
    """`POST /v1/chat/completions`. A client that leaves cancels the model and the tools that run for it."""

    def __init__(self, answers: Chat) -> None:
        self._answers = answers

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request; an error within a begun stream ends it with an error event and without `[DONE]`."""
        if exchange.method != "POST":
            raise HttpMethodRefused("POST")
        body = await exchange.body()
        with exchange.until_gone():
            try:
                await self._answers.answer(body, caller_of(exchange), exchange)
            except HubError as error:
                if not exchange.started:
                    raise
                await exchange.write(chat.event(errors.openai(error, exchange.request_id)))


def caller_of(exchange: Exchange) -> Caller:
    """Who asks for a model; raises `TooManyHops` and `InvalidRequest` as agents' doors do."""
    headers = exchange.headers
    wire.hops(headers)
    caching = headers.get(b"cache-control")
    is_fresh = caching is not None and b"no-cache" in caching.lower()
    return Caller(exchange.principal, exchange.request_id, None, is_fresh, exchange.add_header)


class ModelsDoor:
    """`GET /v1/models` and `GET /v1/models/{model}`: what the key may use."""

    def __init__(self, catalog: Callable[[], Catalog]) -> None:
        self._catalog = catalog

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        if exchange.method != "GET":
            raise HttpMethodRefused("GET")
        models = self._catalog().models
        name = exchange.path.partition("/models")[2].strip("/")
        if not name:
            await exchange.reply(200, chat.models(list(router.listing(models, exchange.principal))))
            return
        entry = router.find(models, name)
        if entry.unavailable is not None or not exchange.principal.grants.allow(entry.kind, entry.grant_name):
            raise NotFound("model", name)
        await exchange.reply(200, encode(chat.model(entry.name)))
