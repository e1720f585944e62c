"""Models behind OpenAI-compatible services: one POST through the way out, the provider's errors turned into the hub's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import msgspec

from llm.ports import ModelRequest
from llm.providers.destination import Destination, Destinations
from registry.egress.http import Egress, Incoming, Outgoing
from registry.entries import Model
from registry.errors import (
    ParseFailed,
    UpstreamError,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamUnavailable,
)
from registry.gate import Permit
from registry.judged import JsonObject, decode

CALLERS_FAULT = frozenset({400, 404, 413, 422})
"""Statuses with which a provider speaks about the request that the caller wrote. 401, 402, 403 speak about the hub's
own account and are nobody else's business."""

MAX_ERROR_TEXT = 2000

_ADDRESS = re.compile(r"\b(?:https?|wss?)://\S+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b", re.IGNORECASE)
_RETRY_AFTER = re.compile(r"[\w ,:.+-]{1,64}", re.ASCII)


class OpenAICompatible:
    """Every row of the table. `keys` are the values of the table's key variables, by variable."""

    def __init__(self, egress: Egress, *, keys: Mapping[str, str]) -> None:
        self._egress = egress
        self._destinations = Destinations(keys)

    def call(self, permit: Permit, model: Model, request: ModelRequest) -> Call:
        """Send one request (llm.ports.Provider).

        Raises, here or on entering:
            UpstreamUnavailable: the entry cannot be called as it is configured; the text says what to set.
            UpstreamRefused: the provider refused the hub's account.
            UpstreamRejected: the provider refused what the caller asked.
            UpstreamLimited: the provider's rate limit.
            UpstreamTimeout, UpstreamInvalid, AddressRefused: as the names say.
        """
        to = self._destinations.of(model)
        outgoing = Outgoing(
            url=to.chat_url, headers=to.headers, body=request.body, trusted=to.trusted, may_stream=request.stream
        )
        return Call(self._egress.send(permit, outgoing), model, to, stream=request.stream)

    async def probe(self, permit: Permit, model: Model) -> None:
        """Ask the service what models it has: it can be reached and takes the hub's key. Costs nothing.

        Raises as `call`. A service without such a list passes: it was reached.
        """
        to = self._destinations.of(model)
        outgoing = Outgoing(url=f"{to.base_url}/models", method="GET", headers=to.headers, trusted=to.trusted)
        async with self._egress.send(permit, outgoing) as incoming:
            if incoming.status >= 500 or incoming.status in {401, 402, 403}:
                raise await failure(model, incoming, secrets=to.secrets)

    def secrets(self, model: Model) -> Sequence[str]:
        """What no text of the provider may show (llm.ports.Provider)."""
        return self._destinations.of(model).secrets


class Call:
    """One request under way: enter to send it. A class: a generator's context costs more than the rest of the way."""

    __slots__ = ("_destination", "_model", "_sending", "_stream")

    def __init__(
        self, sending: AbstractAsyncContextManager[Incoming], model: Model, destination: Destination, *, stream: bool
    ) -> None:
        self._sending = sending
        self._model = model
        self._destination = destination
        self._stream = stream

    async def __aenter__(self) -> Incoming:
        incoming = await self._sending.__aenter__()
        try:
            await self._check(incoming)
        except BaseException as error:
            await self._sending.__aexit__(type(error), error, error.__traceback__)
            raise
        return incoming

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._sending.__aexit__(kind, error, trace)

    async def _check(self, incoming: Incoming) -> None:
        if incoming.status != 200:
            raise await failure(self._model, incoming, secrets=self._destination.secrets)
        expected = "text/event-stream" if self._stream else "application/json"
        if incoming.media_type != expected:
            raise UpstreamInvalid(self._model.name, f"its answer is not {expected}")


async def failure(model: Model, incoming: Incoming, *, secrets: Sequence[str]) -> UpstreamError:
    """Turn a provider's answer that is not 200 into the hub's error."""
    status = incoming.status
    if status == 429:
        retry_after = incoming.header("retry-after")
        return UpstreamLimited(model.name, retry_after if retry_after and _RETRY_AFTER.fullmatch(retry_after) else None)
    if status >= 500:
        return UpstreamUnavailable(model.name, f"the upstream failed (HTTP {status})")
    if status in CALLERS_FAULT:
        detail = error_detail(await incoming.read(), secrets=secrets)
        if detail is not None:
            return UpstreamRejected(model.name, status, detail)
    return UpstreamRefused(model.name, status)


def error_detail(raw: bytes | msgspec.Raw, *, secrets: Sequence[str]) -> dict[str, object] | None:
    """The provider's error in OpenAI's form, without addresses and `secrets`; None: this is no error of a provider."""
    try:
        found = decode(raw)
    except ParseFailed:
        return None
    if not isinstance(found, dict):
        return None
    error = found.get("error", found)
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        return None
    message = error.get("message", error.get("detail"))
    if message is None:
        return None
    text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
    return {
        "message": _clean(text, secrets),
        **{name: _small(error, name, secrets) for name in ("type", "param", "code")},
    }


def _small(error: JsonObject, name: str, secrets: Sequence[str]) -> object:
    value = error.get(name)
    return _clean(value, secrets) if isinstance(value, str) else value if isinstance(value, int) else None


def _clean(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "…")
    return _ADDRESS.sub("…", text)[:MAX_ERROR_TEXT]
