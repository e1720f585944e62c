"""The hub's cards of agents, ready to be sent: built from the agents' own, signed, with their ETags.

Knows where the hub is and what it offers; fetches nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from agents import cards
from agents.cards import Card, Offer
from registry import judged
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


class Publisher:
    """Builds the hub's cards of all agents. One for a process."""

    def __init__(self, *, public_url: str, grpc: str | None = None, translates: bool = False) -> None:
        self._public_url = public_url.rstrip("/")
        self._grpc = grpc
        self._translates = translates

    def address(self, agent: str) -> str:
        """The agent's URL in the hub, with the slash at its end."""
        return f"{self._public_url}/a2a/{agent}/"

    def build(self, entry: Agent, card: Card) -> JsonObject:
        """Build the hub's card of an agent."""
        offer = Offer(agent=entry.name, address=self.address(entry.name), grpc=self._grpc, translates=self._translates)
        return self.signed(cards.build(card, configured=entry.url, offer=offer))

    def signed(self, built: JsonObject) -> JsonObject:
        """Make a card of 1.0 whole."""
        return cards.with_old_members(built)

    def publish(self, entry: Agent, card: Card, old: Published | None = None) -> Published:
        """Make the hub's card of an agent ready; `old` stays if nothing changed."""
        members = self.build(entry, card)
        unsigned = hashlib.sha256(judged.encode(members)).hexdigest()
        if old is not None and old.unsigned == unsigned:
            return old
        body = judged.encode(members)
        return Published(body, etag_of(body), unsigned, members)


def etag_of(body: bytes) -> str:
    """A strong ETag: it says which bytes these are (RFC 9110 §8.8.3)."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'
