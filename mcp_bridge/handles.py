"""Handles that the hub gives away and gets back: sealed, bound to a use, and expiring.

`about` names the use: server, principal, the request that the handle goes on with. One handed in by another principal,
for another server or with other arguments opens nothing, exactly like one that was made up.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable

from registry.errors import InvalidParams
from registry.judged import JsonObject, decode, encode
from registry.sealed.secrets import Sealer, SecretKeyInvalid


class Handles:
    """Makes and opens handles with the hub's key ring."""

    def __init__(self, sealer: Sealer, *, clock: Callable[[], float] = time.time) -> None:
        self._sealer = sealer
        self._clock = clock

    def seal(self, value: JsonObject, *, about: str, lasts_s: float) -> str:
        """Make a handle of `value` that can be opened for `lasts_s` seconds."""
        held = encode({"until": self._clock() + lasts_s, "value": value})
        return base64.urlsafe_b64encode(self._sealer.seal(held, about=about)).decode()

    def open(self, handle: str, *, about: str) -> JsonObject:
        """Return what was sealed.

        Raises:
            InvalidParams: not a handle for this use, or too old.
        """
        try:
            sealed = base64.b64decode(handle.encode(), altchars=b"-_", validate=True)
            held = decode(self._sealer.open(sealed, about=about))
        except (SecretKeyInvalid, binascii.Error, UnicodeEncodeError):
            raise refused() from None
        if held["until"] < self._clock():
            raise refused()
        value: JsonObject = held["value"]
        return value


def refused() -> InvalidParams:
    """What is said of any handle that leads nowhere, whatever the reason."""
    return InvalidParams(
        "requestState is none of this call's, or is too old: call again without it.", member="requestState"
    )
