"""The hub's cards of agents, ready to be sent: built from the agents' own, signed, with their ETags.

Knows where the hub is and what it offers; fetches nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from agents import cards
from agents.cards import Card, Offer
from agents.signing import Signatures, Signer
from registry import judged
from registry.callers.tokens import Issuer
from registry.entries import Agent
from registry.judged import JsonObject


@dataclass(frozen=True, slots=True)
class Published:
    """A card of the hub's, ready to be sent."""

    body: bytes
    etag: str
    unsigned: str
    """Digest of what the card says. Signatures are never the same twice, so what did not change keeps its old one."""
    members: JsonObject
    """What it says, without signatures."""


class Publisher:
    """Builds the hub's cards of all agents. One for a process."""

    def __init__(
        self,
        *,
        public_url: str,
        signatures: Signatures | None = None,
        grpc: str | None = None,
        issuers: Iterable[Issuer] = (),
    ) -> None:
        self.url = public_url.rstrip("/")
        """The hub's own."""
        self._signatures = signatures
        self._signer: Signer | None = None
        self._grpc = grpc
        self.issuers = tuple(one for one in issuers if one.audience and one.jwks_url is None)
        """Those whose metadata says where to get tokens that are taken at the doors of agents."""

    async def open(self) -> None:
        """Make ready to sign. Without signatures of the hub (as `hubbub doctor`) nothing is signed."""
        if self._signer is None and self._signatures is not None:
            self._signer = await self._signatures.signer()

    def address(self, agent: str) -> str:
        """The agent's URL in the hub, with the slash at its end."""
        return f"{self.url}/a2a/{agent}/"

    def build(self, entry: Agent, card: Card) -> JsonObject:
        """Build the hub's card of an agent, signed."""
        return self.signed(self._unsigned(entry, card))

    def _unsigned(self, entry: Agent, card: Card) -> JsonObject:
        offer = Offer(agent=entry.name, address=self.address(entry.name), grpc=self._grpc, issuers=self.issuers)
        return cards.build(card, configured=entry.url, offer=offer)

    def signed(self, built: JsonObject) -> JsonObject:
        """Sign a card of 1.0, and add what clients of 0.3 read: that is no part of what is signed."""
        signature = self._signer.card_signature(built) if self._signer is not None else None
        return cards.with_old_members({**built, "signatures": [signature]} if signature is not None else built)

    def publish(self, entry: Agent, card: Card, old: Published | None = None) -> Published:
        """Make the hub's card of an agent ready; `old` stays if it says the same."""
        return self.ready(self._unsigned(entry, card), old)

    def ready(self, built: JsonObject, old: Published | None = None) -> Published:
        """Make a card of 1.0 ready to be sent; `old` stays if it says the same."""
        unsigned = hashlib.sha256(judged.encode(built)).hexdigest()
        if old is not None and old.unsigned == unsigned:
            return old
        body = judged.encode(self.signed(built))
        return Published(body, etag_of(body), unsigned, built)


def etag_of(body: bytes) -> str:
    """A strong ETag: it says which bytes these are (RFC 9110 §8.8.3)."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'
