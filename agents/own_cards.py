"""The card of an agent that is made here: all of it comes from its configuration. Pure."""

from __future__ import annotations

from agents.cards import TEXT_MODES, Card
from registry.access import SEPARATOR
from registry.entries import AGENT_TOOLS, Agent, Own
from registry.judged import JsonObject


def card_of(entry: Agent, own: Own) -> Card:
    """What the agent says of itself. Its skills are itself and what it was given to work with."""
    description = own.description or f"The agent {entry.name}."
    skills = [{"id": entry.name, "name": entry.name, "description": description, "tags": ["agent"]}]
    skills += [_skill(glob) for glob in own.tools]
    members: JsonObject = {
        "name": entry.name,
        "description": description,
        "version": "1",
        "capabilities": {"streaming": True},
        "defaultInputModes": [*TEXT_MODES, "image/*", "application/json"],
        "defaultOutputModes": TEXT_MODES,
        "skills": skills,
    }
    return Card({}, members)


def _skill(glob: str) -> JsonObject:
    server, _, name = glob.partition(SEPARATOR)
    if glob.startswith(AGENT_TOOLS):
        return {"id": glob, "name": name, "description": f"Asks the agent {name}.", "tags": ["agent"]}
    if not name or name == "*":
        return {"id": glob, "name": server, "description": f"Works with the tools of {server}.", "tags": ["tools"]}
    return {"id": glob, "name": name, "description": f"Works with {name} of {server}.", "tags": ["tools"]}
