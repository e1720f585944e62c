"""What a server says with a refusal: the `Bearer` challenge of `WWW-Authenticate` (RFC 6750 §3, RFC 9728 §5.1). Pure."""

from __future__ import annotations

import re

import msgspec

_SCOPES = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")


class Challenge(msgspec.Struct, frozen=True):
    """A challenge. None: the member is absent."""

    resource_metadata: str | None = None
    scope: str | None = None
    error: str | None = None

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that it asks for."""
        return tuple(self.scope.split(" ")) if self.scope else ()


def read_challenge(header: str) -> Challenge:
    """Read a `WWW-Authenticate` header; what cannot be read is as if absent."""
    _, bearer, rest = header.lower().partition("bearer ")
    text = header[len(header) - len(rest) :] if bearer else ""

    def member(name: str) -> str | None:
        found = re.search(rf'(?:^|[\s,]){name}=(?:"([^"]*)"|([^\s,"]+))', text)
        return None if found is None else found[1] or found[2] or None

    scope = member("scope")
    return Challenge(
        member("resource_metadata"), scope if scope and _SCOPES.fullmatch(scope) else None, member("error")
    )
