"""The card of an agent on a platform: what the platform says of it, and no more."""

from __future__ import annotations

from agents.bridges.bridge import About, Skill
from agents.bridges.kinds import bridge_to
from agents.bridges.way import Way
from agents.cards import TEXT_MODES, Card
from registry.egress.http import Egress
from registry.entries import Agent
from registry.gate import Permit
from registry.judged import JsonObject


async def ask_for_card(egress: Egress, permit: Permit, entry: Agent) -> Card:
    """Ask the platform; raises `HubError`."""
    bridge = bridge_to(entry)
    return card_of(entry.name, await bridge.about(Way(egress, permit, entry, bridge.credentials)))


def card_of(name: str, about: About) -> Card:
    """The card of the agent `name`."""
    description = about.description or f"The agent {name}."
    skills = about.skills or (Skill(name, name, description, ("agent",)),)
    members: JsonObject = {
        "name": name,
        "description": description,
        "version": "1",
        "capabilities": {"streaming": True},
        "defaultInputModes": list(about.input_modes),
        "defaultOutputModes": TEXT_MODES,
        "skills": [
            {"id": one.id, "name": one.name, "description": one.description, "tags": list(one.tags)} for one in skills
        ],
    }
    return Card({}, members)
