"""Exposed tool names (surface.md 6). Pure, and a function of server and tool alone: a name never depends on others."""

from __future__ import annotations

import base64
import hashlib
import re

MAX_LENGTH = 47
"""Clients add a prefix of their own (`mcp__hub__`) and model APIs stop at 64."""

HASH_LENGTH = 10
"""Base32 characters, 50 bits. A server's name (at most 32), `__`, `_` and the hash always fit."""

_ALLOWED = re.compile(r"[A-Za-z0-9_-]+")
_REPLACED = re.compile(r"[^A-Za-z0-9_-]")
_HASHED = re.compile(rf"_[a-z2-7]{{{HASH_LENGTH}}}\Z")


def exposed_name(server: str, tool: str) -> str:
    """Return the name under which the aggregate offers `tool` of `server`.

    `{server}__{tool}` wherever that is short, clean and unmistakable; else it is cut and ends in a hash of the whole.
    A name that itself looks hashed is hashed too, and so is a tool whose leading underscore could belong to a server
    (`a` + `_b`, `a_` + `b`): plain names and hashed names never meet.
    """
    plain = f"{server}__{tool}"
    clean = _ALLOWED.fullmatch(tool) is not None and not tool.startswith("_")
    if clean and len(plain) <= MAX_LENGTH and _HASHED.search(plain) is None:
        return plain
    digest = hashlib.sha256(f"{server}\0{tool}".encode("utf-8", "surrogatepass")).digest()
    suffix = base64.b32encode(digest)[:HASH_LENGTH].decode().lower()
    return f"{_REPLACED.sub('_', plain)[: MAX_LENGTH - HASH_LENGTH - 1]}_{suffix}"
