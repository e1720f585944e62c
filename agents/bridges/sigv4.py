"""AWS Signature Version 4 ("Create a signed AWS API request", IAM User Guide, read 2026-11), for one service in one region."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import parse_qsl, quote

from agents.bridges.renewed import Renewed
from agents.bridges.way import Way
from registry.egress.http import Outgoing
from registry.egress.request import parse
from registry.entries import Headers

ALGORITHM = "AWS4-HMAC-SHA256"


class Keys(NamedTuple):
    """Access keys of AWS; temporary ones have a session token."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return f"Keys({self.access_key_id})"


class SigV4:
    """Signs each request by itself (agents.bridges.way.Credentials)."""

    def __init__(self, keys: Keys | Renewed[Keys], *, region: str, service: str) -> None:
        self._keys = keys
        self._scope = region, service

    async def headers(self, way: Way, outgoing: Outgoing) -> Headers:
        """Those that sign a request: all of its other headers, its address and its body. Raises `UpstreamError` when there are no keys."""
        keys = self._keys if isinstance(self._keys, Keys) else await self._keys.get(way)
        return signed(keys, self._scope, outgoing, datetime.now(UTC))

    def refused(self, sent: Headers) -> bool:
        """Forget the keys that it was signed with, if others may be had."""
        if isinstance(self._keys, Keys):
            return False
        token = dict(sent).get("x-amz-security-token")
        self._keys.forget(lambda keys: keys.session_token == token)
        return True


def signed(keys: Keys, scope: tuple[str, str], outgoing: Outgoing, now: datetime) -> Headers:
    """The headers that sign a request, whose body is whole, for a region and a service."""
    at = now.strftime("%Y%m%dT%H%M%SZ")
    added: Headers = (("x-amz-date", at),)
    if keys.session_token is not None:
        added = (*added, ("x-amz-security-token", keys.session_token))
    target = parse(outgoing.url)
    names, lines = _headers((("host", target.authority), *outgoing.headers, *added))
    body = outgoing.body or b""
    assert isinstance(body, bytes), "what is signed is whole"
    path, _, query = target.path.partition("?")
    canonical = "\n".join(
        (outgoing.method, quote(path, safe="/~"), _query(query), *lines, "", names, hashlib.sha256(body).hexdigest())
    )
    region, service = scope
    within = f"{at[:8]}/{region}/{service}/aws4_request"
    text = "\n".join((ALGORITHM, at, within, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{keys.secret_access_key}".encode()
    for step in within.split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    by = f"{ALGORITHM} Credential={keys.access_key_id}/{within}, SignedHeaders={names}, Signature={signature}"
    return (*added, ("authorization", by))


def _headers(headers: Headers) -> tuple[str, list[str]]:
    """The names of headers, and their lines, in canonical form."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(" ".join(value.split()))
    names = sorted(found)
    return ";".join(names), [f"{name}:{','.join(found[name])}" for name in names]


def _query(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    return "&".join(sorted(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs))
