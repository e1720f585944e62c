"""OpenAI's doors `/v1/responses` and `/v1/conversations`, each also without `/v1`."""

from __future__ import annotations

from urllib.parse import parse_qs

from hub.doors.chat import caller_of
from hub.exchange import Exchange
from llm.conversations import Conversations
from llm.responses import Responses
from llm.wire.response_items import Page
from registry.errors import HttpMethodRefused, InvalidRequest, MethodNotFound
from registry.judged import JsonObject, encode


class ResponsesDoor:
    """Responses: made, and looked at again. A client that leaves cancels its response unless it is made in the background."""

    def __init__(self, responses: Responses) -> None:
        self._responses = responses

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        name, _, rest = exchange.path.partition("/responses")[2].strip("/").partition("/")
        if not name:
            _demand(exchange, "POST")
            body = await exchange.body()
            with exchange.until_gone():
                await self._responses.answer(body, caller_of(exchange), exchange)
        elif not rest and exchange.method == "GET" and _query(exchange, "stream") == "true":
            with exchange.until_gone():
                await self._responses.follow(name, _after(exchange), exchange.principal, exchange)
        else:
            await exchange.reply(200, encode(await self._about(exchange, name, rest)))

    async def _about(self, exchange: Exchange, name: str, rest: str) -> JsonObject:
        principal = exchange.principal
        if rest == "cancel":
            _demand(exchange, "POST")
            return await self._responses.cancel(name, principal)
        if rest == "input_items":
            _demand(exchange, "GET")
            return await self._responses.input_items(name, Page.of(exchange.query), principal)
        if rest:
            raise MethodNotFound(exchange.path)
        _demand(exchange, "GET", "DELETE")
        act = self._responses.retrieve if exchange.method == "GET" else self._responses.delete
        return await act(name, principal)


class ConversationsDoor:
    """Conversations and their items."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        name, _, rest = exchange.path.partition("/conversations")[2].strip("/").partition("/")
        kind, _, item = rest.partition("/")
        if rest and kind != "items":
            raise MethodNotFound(exchange.path)
        if not name:
            _demand(exchange, "POST")
            answer = await self._conversations.create(await exchange.body(), exchange.principal)
        elif not rest:
            answer = await self._one(exchange, name)
        else:
            answer = await self._items(exchange, name, item)
        await exchange.reply(200, encode(answer))

    async def _one(self, exchange: Exchange, name: str) -> JsonObject:
        _demand(exchange, "GET", "POST", "DELETE")
        if exchange.method == "POST":
            return await self._conversations.update(name, await exchange.body(), exchange.principal)
        act = self._conversations.retrieve if exchange.method == "GET" else self._conversations.delete
        return await act(name, exchange.principal)

    async def _items(self, exchange: Exchange, name: str, item: str) -> JsonObject:
        conversations, principal = self._conversations, exchange.principal
        if item:
            _demand(exchange, "GET", "DELETE")
            act = conversations.item if exchange.method == "GET" else conversations.delete_item
            return await act(name, item, principal)
        _demand(exchange, "GET", "POST")
        if exchange.method == "POST":
            return await conversations.add_items(name, await exchange.body(), principal)
        return await conversations.items(name, Page.of(exchange.query), principal)


def _demand(exchange: Exchange, *methods: str) -> None:
    if exchange.method not in methods:
        raise HttpMethodRefused(", ".join(methods))


def _query(exchange: Exchange, name: str) -> str | None:
    return parse_qs(exchange.query.decode("latin-1")).get(name, [None])[-1]


def _after(exchange: Exchange) -> int:
    """The number of the last event that the client has; -1: none."""
    given = _query(exchange, "starting_after")
    if given is None:
        return -1
    if not given.isdecimal() or len(given) > 9:
        raise InvalidRequest("starting_after must be the number of an event", member="starting_after")
    return int(given)
