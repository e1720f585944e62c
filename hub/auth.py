"""Who is it: from the request's headers to a principal. Fails closed; decides nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from registry.errors import Unauthenticated
from registry.identity import Principal
from registry.keys import Keys
from registry.secrets import digest

MAX_SECRET_BYTES = 4096
"""Longer credentials are none of ours; hashing them would be work for nothing."""


def secret_of(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The API key of a request: `x-litellm-api-key` (with or without `Bearer`), `Authorization: Bearer`, `x-api-key`."""
    secret = headers.get(b"x-litellm-api-key") or headers.get(b"authorization")
    if secret is None:
        return headers.get(b"x-api-key")
    scheme, space, rest = secret.partition(b" ")
    if space and scheme.lower() == b"bearer":
        return rest.strip()
    return secret if headers.get(b"x-litellm-api-key") else headers.get(b"x-api-key")


class Authenticator:
    """Finds the principal of a request."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def principal(self, headers: Mapping[bytes, bytes]) -> Principal:
        """The request's principal.

        Raises:
            Unauthenticated: no key, or one that is unknown, revoked or expired.
            Overloaded: the hub cannot tell at the moment.
        """
        secret = secret_of(headers)
        if not secret or len(secret) > MAX_SECRET_BYTES:
            raise Unauthenticated
        hashed = digest(secret)
        found = self._keys.cached(hashed) or await self._keys.find(hashed)
        if found is None:
            raise Unauthenticated
        return found
