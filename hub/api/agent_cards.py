"""What `/api/agents/{name}` says of an agent's card: whether it is as it was approved, and who signed it."""

from typing import Annotated

from fastapi import APIRouter, Depends
from msgspec import to_builtins

from hub.api.access import ServicesNow, needs
from hub.services import Services
from registry.entries import Agent
from registry.errors import CardRefused, HubError, NotFound
from registry.identity import Principal
from registry.judged import JsonObject

router = APIRouter(prefix="/agents", tags=["agents"])


@router.post("/{name}/approve")
async def approve(
    name: str, _caller: Annotated[Principal, Depends(needs("agents"))], services: ServicesNow
) -> JsonObject:
    """Approve what the agent's card says now; a quarantined agent can be called again."""
    entry = services.registry.all_of("agent").get(name)
    if not isinstance(entry, Agent):
        raise NotFound("agent", name)
    await services.discovery.approve(entry)
    return {"name": name, "card": await card_state(services, entry)}


async def card_state(services: Services, entry: Agent) -> JsonObject:
    """The state of an agent's card, asked for if it is not known.

    `state`: `approved`, `changed` (then `changed` names the parts), `absent` (the agent offers none), `refused` (no pinned
    key signed it) or `unavailable`, both with a `reason`.
    """
    url = f"{services.publisher.address(entry.name)}.well-known/agent-card.json"
    try:
        found = await services.discovery.find(entry)
    except CardRefused as error:
        return {"state": "refused", "reason": error.text, "signature": "failed", "url": url}
    except HubError as error:
        return {"state": "unavailable", "reason": error.text, "url": url}
    shown: JsonObject = {
        "state": "absent" if found.card is None else "changed" if found.changed else "approved",
        "url": url,
        "speaks": [f"{speech.binding} {speech.version}" for speech in found.routes],
    }
    if found.card is not None:
        shown["signature"] = "verified" if found.is_verified else "unverified"
        shown |= {"changed": list(found.changed), "quarantined": found.is_quarantined}
        shown["findings"] = [to_builtins(one) for one in found.findings]
    return shown
