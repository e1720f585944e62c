"""Secrets: made, hashed, and sealed at rest (AES-256-GCM, key ring: the first key seals, all open)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import secrets
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

KEY_BYTES = 32
_NONCE_BYTES = 12


class SecretKeyInvalid(ValueError):
    """A sealing key that cannot be used, or a seal that no key of the ring opens."""


def new_api_key() -> str:
    """Make an API key: `sk-` and 256 random bits, base64url."""
    return f"sk-{secrets.token_urlsafe(32)}"


def new_id(prefix: str) -> str:
    """Make an id that is never reused: `{prefix}_` and 128 random bits."""
    return f"{prefix}_{secrets.token_hex(16)}"


def digest(secret: bytes) -> str:
    """What is stored of a secret: its SHA-256 in hex. Enough for secrets of 256 random bits."""
    return hashlib.sha256(secret).hexdigest()


class Sealer:
    """Seals values at rest; `about` binds a seal to its place, so that it cannot be moved to another."""

    def __init__(self, keys: list[bytes]) -> None:
        # imported here: a hub without stored entries needs no cryptography to start
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        self._keys = keys
        self._ring = [AESGCM(key) for key in keys]

    def seal(self, value: bytes, *, about: str) -> bytes:
        """Encrypt `value`."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._ring[0].encrypt(nonce, value, about.encode())

    def open(self, sealed: bytes, *, about: str) -> bytes:
        """Decrypt a seal made for `about`.

        Raises:
            SecretKeyInvalid: no key opens it here.
        """
        found = self.find(sealed, about=about)
        if found is None:
            raise SecretKeyInvalid(f"no key of hub.secret_keys opens what is stored for {about!r}")
        return found[1]

    def find(self, sealed: bytes, *, about: str) -> tuple[int, bytes] | None:
        """Decrypt a seal; with it comes the place in the ring of the key that opens it. None: none does."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415  # as in __init__

        for number, cipher in enumerate(self._ring):
            try:
                return number, cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], about.encode())
            except (InvalidTag, ValueError):  # ValueError: cut so short that its nonce is not whole
                continue
        return None

    @cached_property
    def _same(self) -> list[AESSIV]:
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV  # noqa: PLC0415  # as in __init__

        return [AESSIV(hashlib.sha512(b"seals that are the same each time" + key).digest()) for key in self._keys]

    def seal_same(self, value: bytes, *, about: str) -> bytes:
        """Encrypt `value` so that the same value has the same seal (AES-SIV, RFC 5297): for ids."""
        return self._same[0].encrypt(value, [about.encode()])

    def open_same(self, sealed: bytes, *, about: str) -> bytes:
        """Decrypt what `seal_same` made for `about`.

        Raises:
            SecretKeyInvalid: no key opens it here.
        """
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415  # as in __init__

        for cipher in self._same:
            try:
                return cipher.decrypt(sealed, [about.encode()])
            except (InvalidTag, ValueError):  # ValueError: too short for a seal
                continue
        raise SecretKeyInvalid(f"no key of hub.secret_keys opens this for {about!r}")


def read_keys(texts: list[str]) -> list[bytes]:
    """Derive sealing keys from configured texts.

    Raises:
        SecretKeyInvalid: a text is too short to be a key.
    """
    if any(len(text) < KEY_BYTES for text in texts):
        raise SecretKeyInvalid(f"hub.secret_keys: a key needs at least {KEY_BYTES} characters")
    return [hashlib.sha256(text.encode()).digest() for text in texts]


def key_file(path: Path) -> list[bytes]:
    """Read the key from a 0600 file, made on first use.

    Raises:
        SecretKeyInvalid: the file can be read by others, or does not hold a key.
    """
    if not path.exists():
        _make_key_file(path)
    if path.stat().st_mode & 0o077:
        raise SecretKeyInvalid(f"{path} can be read by others: chmod 600 {path}")
    try:
        key = base64.urlsafe_b64decode(path.read_bytes())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise SecretKeyInvalid(f"{path} does not hold a key")
    return [key]


def _make_key_file(path: Path) -> None:
    """Make the file whole or not at all: of several processes that start together, one makes it, all read it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)))
            file.flush()
            os.fsync(file.fileno())  # what it seals is lost without it
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)  # the counterpart of mkstemp
