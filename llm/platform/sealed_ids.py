"""The hub's own ids of what providers keep for callers (files, batches, vector stores): sealed, so that nobody can make one.

An id says whose the thing is and where; the same thing has the same id each time that it is shown. It is opened in one
place, here, into fields; what is forged, cut, of another kind, or somebody else's is one answer.
"""

from __future__ import annotations

import base64
import binascii
from typing import Literal

import msgspec

from registry.errors import NotFound
from registry.identity import Principal
from registry.sealed.secrets import Sealer, SecretKeyInvalid

Kind = (
    Literal["file", "batch", "vector store", "file batch", "upload", "part", "container", "audio"]
    | Literal["prompt", "skill", "voice", "thread", "response"]
)

PREFIXES: dict[Kind, str] = {
    "file": "file-",
    "batch": "batch_",
    "vector store": "vs_",
    "file batch": "vsfb_",
    "upload": "upload_",
    "part": "part_",
    "container": "cntr_",
    "audio": "audio_",
    "prompt": "pmpt_",
    "skill": "skill_",
    "voice": "voice_",
    "thread": "msg_",
    "response": "resp_",
}
"""As OpenAI begins them, whose SDKs and examples look at that."""

MAX_CHARS = 4096


class Owned(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """What an id says. New members change `VERSION`."""

    owner: str
    """The principal's id."""
    team: str | None
    model: str
    """The name of the model whose provider has it, as it was asked for."""
    place: str
    """Which deployment of that model: `llm.providers.endpoints.Endpoints.name_of`."""
    name: str
    """As the provider calls it."""
    purpose: str = ""
    """Of a file: what it was uploaded for, and so how it was judged."""
    uses: tuple[int, int] = (0, 0)
    """Of a batch and its input: tokens of input and of output that it may use, estimated as for single requests."""


VERSION = 2
_decode = msgspec.msgpack.Decoder(Owned).decode


class SealedIds:
    """Makes and opens ids. One for a process."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def made(self, kind: Kind, owned: Owned) -> str:
        """The id of a thing."""
        sealed = self._sealer.seal_same(msgspec.msgpack.encode(owned), about=_about(kind))
        return PREFIXES[kind] + base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def opened(self, kind: Kind, text: str, principal: Principal) -> Owned:
        """What an id says, if the thing is open to `principal`.

        Raises:
            NotFound: it is not, or this is no id of that kind.
        """
        owned = self._read(kind, text)
        if owned is None or not (owned.owner == principal.id or (owned.team or "") == principal.team_id):
            raise NotFound(kind, text)
        return owned

    def _read(self, kind: Kind, text: str) -> Owned | None:
        prefix = PREFIXES[kind]
        if not text.startswith(prefix) or len(text) > MAX_CHARS or not text.isascii():
            return None
        body = text[len(prefix) :].encode()
        try:
            sealed = base64.b64decode(body + b"=" * (-len(body) % 4), altchars=b"-_", validate=True)
            if base64.urlsafe_b64encode(sealed).rstrip(b"=") != body:  # one thing, one spelling
                return None
            return _decode(self._sealer.open_same(sealed, about=_about(kind)))
        except (binascii.Error, SecretKeyInvalid, msgspec.DecodeError, UnicodeDecodeError):
            return None


def _about(kind: Kind) -> str:
    return f"id {VERSION} {kind}"
