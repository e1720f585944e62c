"""What callers of OpenAI's Responses API call the hub's tools, and what models do. Pure.

A label that stands for one server shows its tools under their own names; one that stands for several, under the hub's.
"""

from __future__ import annotations

from collections.abc import Sequence

from llm.types import Listing, Offer
from registry.judged import JsonObject


class Labels:
    """The tools of one request, by the labels of its sources."""

    def __init__(self, listings: Sequence[Listing]) -> None:
        self.offers: dict[str, list[Offer]] = {}
        for listing in listings:
            for offer in listing.offers:
                self.offers.setdefault(offer.label, []).append(offer)
        mixed = {label for label, offers in self.offers.items() if len({offer.tool.server for offer in offers}) > 1}
        self._shown = {
            offer.tool.exposed: offer.tool.exposed if label in mixed else offer.tool.name
            for label, offers in self.offers.items()
            for offer in offers
        }
        self._exposed = {
            (label, self._shown[offer.tool.exposed]): offer.tool.exposed
            for label, offers in self.offers.items()
            for offer in offers
        }

    def shown(self, offer: Offer) -> str:
        """A tool's name under its label; one of the loop's own is in no listing and has one name."""
        return self._shown.get(offer.tool.exposed, offer.tool.exposed)

    def exposed(self, label: str, name: str) -> str:
        """The name that models know for a tool; of one that is not offered any more, the one it was called by."""
        return self._exposed.get((label, name), name)

    def of(self, label: str) -> Sequence[str]:
        """The names that models know for all tools under a label."""
        return [offer.tool.exposed for offer in self.offers.get(label, ())]

    def listed(self, label: str) -> list[JsonObject]:
        """The tools under a label as `mcp_list_tools` shows them."""
        return [_listed(offer, self.shown(offer)) for offer in self.offers[label]]


def _listed(offer: Offer, name: str) -> JsonObject:
    tool = offer.tool
    return {"name": name, "description": tool.description, "input_schema": tool.input_schema, "annotations": None}
