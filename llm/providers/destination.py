"""Where the requests of a model entry go and what they carry: worked out once for each configuration. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from llm.providers.row import Row
from llm.providers.table import TABLE
from llm.types import Format
from registry.entries import Headers, Model
from registry.errors import UpstreamUnavailable

MAX_DESTINATIONS = 1024
"""Kept worked out. Their number is the operator's: the names that callers ask of a wildcard share one."""

MIN_SECRET = 6
"""Shorter header values are switches and version numbers; striking them out would only garble the text."""


class Destination(NamedTuple):
    """The same object for every request of an entry, so that the way out can keep its encoded form."""

    base_url: str
    """Without a slash at its end."""
    urls: Mapping[Format, str]
    """Where requests of each format go, whether or not the service speaks it."""
    headers: Headers
    trusted: bool
    secrets: tuple[str, ...]
    """What no text of the service may show: the key, the address, and what else the operator sends along."""


class Destinations:
    """Finds destinations. `keys` are the values of the table's key variables, by variable."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._keys = keys
        self._known = lru_cache(maxsize=MAX_DESTINATIONS)(self._find)

    def of(self, model: Model) -> Destination:
        """Return the entry's destination; raises `UpstreamUnavailable`, whose text says what to set."""
        try:
            return self._known(model.provider, model.base_url, model.api_key, model.headers, model.trusted)
        except _Unusable as unusable:
            raise UpstreamUnavailable(model.name, str(unusable)) from None

    def _find(
        self, provider: str, base_url: str | None, api_key: str | None, headers: Headers, trusted: bool
    ) -> Destination:
        row = TABLE.get(provider)
        if row is None:
            raise _Unusable(f"provider {provider!r} is not known; known are {', '.join(sorted(TABLE))}")
        url = base_url or row.base_url
        if url is None:
            raise _Unusable(f"provider {provider!r} needs the model's base_url")
        if row.formats[:1] == ("messages",) and not url.rstrip("/").endswith("/v1"):
            url = f"{url.rstrip('/')}/v1"  # Anthropic's own programs take addresses without it
        # a row's own address is the hub's word, but one on this machine is not for everybody to send requests to
        trusted = trusted or (base_url is None and url.startswith("https://"))
        # the operator's key goes only to addresses that the operator wrote
        key = api_key if api_key is not None or not trusted else self._key_of(row, headers)
        host = url.partition("://")[2].partition("/")[0]
        values = (value for _, value in headers if len(value) >= MIN_SECRET)
        return Destination(
            base_url=url.rstrip("/"),
            urls=_urls(url.rstrip("/"), messages_base=row.messages_base if base_url is None else None),
            headers=_sent(headers, row, key),
            trusted=trusted,
            secrets=tuple(text for text in (key, url, host, *values) if text),
        )

    def _key_of(self, row: Row, headers: Headers) -> str | None:
        if row.key_variable is None:
            return None
        key = self._keys.get(row.key_variable)
        if not key and row.key_header not in _names(headers):
            raise _Unusable(f"it has no key; set {row.key_variable} in the hub's environment, or the model's api_key")
        return key


def _urls(base_url: str, *, messages_base: str | None) -> dict[Format, str]:
    return {
        "chat": f"{base_url}/chat/completions",
        "messages": f"{messages_base or base_url}/messages",
        "responses": f"{base_url}/responses",
    }


class _Unusable(Exception):
    """The entry cannot be called as it is configured."""


def _names(headers: Headers) -> frozenset[str]:
    return frozenset(name.lower() for name, _ in headers)


def _sent(own: Headers, row: Row, key: str | None) -> Headers:
    headers = [("content-type", "application/json")]
    if key and row.key_header not in _names(own):
        headers.append((row.key_header, f"Bearer {key}" if row.key_header == "authorization" else key))
    return (*headers, *own)
