"""Anthropic's door: `POST /v1/messages` and `POST /v1/messages/count_tokens`, each also without `/v1`."""

from __future__ import annotations

import re

from hub import errors
from hub.doors.chat import caller_of
from hub.exchange import Exchange
from llm.messages import Messages
from llm.wire.messages import PING, event
from registry.entries import Headers
from registry.errors import HttpMethodRefused, HubError, InvalidRequest

_PASSED = ("anthropic-beta", "anthropic-version")
"""Headers that go on to a provider of the same format. The others say who calls, and with what program."""

_VALUE = re.compile(rb"[\w ,.:-]{1,2000}", re.ASCII)


class MessagesDoor:
    """Answers and counts. A client that leaves cancels the model and the tools that run for it."""

    def __init__(self, answers: Messages) -> None:
        self._answers = answers

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request; an error within a begun stream ends it with an `error` event."""
        if exchange.method != "POST":
            raise HttpMethodRefused("POST")
        headers = _passed(exchange)
        body = await exchange.body()
        caller = caller_of(exchange)
        with exchange.until_gone():
            if exchange.path.endswith("/count_tokens"):
                await self._answers.count(body, caller, exchange, headers=headers)
                return
            try:
                await self._answers.answer(body, caller, _Pinged(exchange), headers=headers)
            except HubError as error:
                if not exchange.started:
                    raise
                await exchange.write(event(errors.anthropic(error, exchange.request_id)))


class _Pinged:
    """The exchange as `llm` writes to it (llm.ports.Sink); a silent stream gets Anthropic's `ping`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.write = exchange.write

    async def reply(self, status: int, body: bytes) -> None:
        """Answer whole."""
        await self._exchange.reply(status, body)

    async def start(self, status: int) -> None:
        """Begin the stream."""
        await self._exchange.start(status, idle=PING)


def _passed(exchange: Exchange) -> Headers:
    """The headers that go on; of a name that stands several times all values."""
    found: list[tuple[str, str]] = []
    for name in _PASSED:
        values = [value for given, value in exchange.raw_headers if given.lower() == name.encode()]
        if not values:
            continue
        value = b",".join(values)
        if _VALUE.fullmatch(value) is None:
            raise InvalidRequest(f"The {name} header is not a list of names.")
        found.append((name, value.decode()))
    return tuple(found)
