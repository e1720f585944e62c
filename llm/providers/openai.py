"""Models behind OpenAI-compatible services: one POST through the way out, the provider's errors turned into the hub's."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec

from llm.providers.table import TABLE, Row
from registry.egress.http import Egress, Incoming, Outgoing
from registry.entries import Headers, Model
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
MIN_SECRET = 6
"""Shorter header values are switches and version numbers; striking them out would only garble the text."""

_ADDRESS = re.compile(r"\b(?:https?|wss?)://\S+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b", re.IGNORECASE)
_RETRY_AFTER = re.compile(r"[\w ,:.+-]{1,64}", re.ASCII)


class OpenAICompatible:
    """Every row of the table. `keys` are the values of the table's key variables, by variable."""

    def __init__(self, egress: Egress, *, keys: Mapping[str, str]) -> None:
        self._egress = egress
        self._keys = keys

    @asynccontextmanager
    async def call(self, permit: Permit, model: Model, *, body: bytes, stream: bool) -> AsyncIterator[Incoming]:
        """Send one request (llm.ports.Provider).

        Raises, on entering:
            UpstreamUnavailable: the entry cannot be called as it is configured; the text says what to set.
            UpstreamRefused: the provider refused the hub's account.
            UpstreamRejected: the provider refused what the caller asked.
            UpstreamLimited: the provider's rate limit.
            UpstreamTimeout, UpstreamInvalid, AddressRefused: as the names say.
        """
        row = row_of(model)
        base_url = base_url_of(model, row)
        key = self._key_of(model, row)
        outgoing = Outgoing(
            url=f"{base_url.rstrip('/')}/chat/completions",
            headers=_headers(model, row, key),
            body=body,
            trusted=model.trusted or model.base_url is None,
            may_stream=stream,
        )
        async with self._egress.send(permit, outgoing) as incoming:
            if incoming.status != 200:
                raise await failure(model, incoming, secrets=self.secrets(model))
            expected = "text/event-stream" if stream else "application/json"
            if incoming.media_type != expected:
                raise UpstreamInvalid(model.name, f"its answer is not {expected}")
            yield incoming

    async def probe(self, permit: Permit, model: Model) -> None:
        """Ask the service what models it has: it can be reached and takes the hub's key. Costs nothing.

        Raises as `call`. A service without such a list passes: it was reached.
        """
        row = row_of(model)
        base_url = base_url_of(model, row)
        key = self._key_of(model, row)
        outgoing = Outgoing(
            url=f"{base_url.rstrip('/')}/models",
            method="GET",
            headers=_headers(model, row, key),
            trusted=model.trusted or model.base_url is None,
        )
        async with self._egress.send(permit, outgoing) as incoming:
            if incoming.status >= 500 or incoming.status in {401, 402, 403}:
                raise await failure(model, incoming, secrets=self.secrets(model))

    def secrets(self, model: Model) -> Sequence[str]:
        """What no text of the provider may show: the key, the address, and what else the operator sends along."""
        row = row_of(model)
        base_url = base_url_of(model, row)
        host = base_url.partition("://")[2].partition("/")[0]
        values = (value for _, value in model.headers if len(value) >= MIN_SECRET)
        return [text for text in (self._key_of(model, row), base_url, host, *values) if text]

    def _key_of(self, model: Model, row: Row) -> str | None:
        if model.api_key is not None or row.key_variable is None:
            return model.api_key
        if not model.trusted and model.base_url is not None:
            return None  # the operator's key goes only to addresses that the operator wrote
        key = self._keys.get(row.key_variable)
        if not key and not any(name.lower() == row.key_header for name, _ in model.headers):
            raise UpstreamUnavailable(
                model.name, f"it has no key; set {row.key_variable} in the hub's environment, or the model's api_key"
            )
        return key


def row_of(model: Model) -> Row:
    """The model's row; raises `UpstreamUnavailable` for a provider that is not in the table."""
    row = TABLE.get(model.provider)
    if row is None:
        known = ", ".join(sorted(TABLE))
        raise UpstreamUnavailable(model.name, f"provider {model.provider!r} is not known; known are {known}")
    return row


def base_url_of(model: Model, row: Row) -> str:
    """Where the model is; raises `UpstreamUnavailable` when neither the entry nor the row says so."""
    base_url = model.base_url or row.base_url
    if base_url is None:
        raise UpstreamUnavailable(model.name, f"provider {model.provider!r} needs the model's base_url")
    return base_url


def _headers(model: Model, row: Row, key: str | None) -> Headers:
    headers = [("content-type", "application/json")]
    own = {name.lower() for name, _ in model.headers}
    if key and row.key_header not in own:
        headers.append((row.key_header, f"Bearer {key}" if row.key_header == "authorization" else key))
    return (*headers, *model.headers)


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
