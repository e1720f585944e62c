"""`/api/agents`, `/api/mcp-servers`, `/api/models`: the same five calls for each kind of entry.

Bodies are the maps of hub.yaml plus `name`. What the file declares is shown and can be switched off, but not changed.
Secrets go in and never come out.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends
from msgspec import to_builtins

from agents.bridges.kinds import fault
from hub.api.access import JsonBody, PageSize, ServicesNow, lists, needs, read_disabled
from hub.api.agent_cards import card_state
from hub.api.toolsets import view_cost
from hub.services import Services
from mcp_bridge.stdio.frames import Shown
from registry.access import EVERYTHING, Grants, matches
from registry.catalog import Catalog
from registry.declared.stored import stored_entry
from registry.entries import Agent, Model, Server
from registry.errors import Conflict, InvalidRequest, NotFound
from registry.identity import Principal
from registry.judged import JsonObject
from registry.registry import EntryKind

EXAMPLES: dict[EntryKind, JsonObject] = {
    "agent": {"name": "research", "url": "https://agents.example/research"},
    "server": {"name": "late", "url": "https://tools.example/mcp"},
    "model": {"name": "gpt-4o", "provider": "openai", "api_key": "…"},
}

ADDRESSES = frozenset({"url", "base_url", "card_url", "grpc_url", "urls", "auth", "options", "deployments"})
"""Members with addresses in them; `auth` and `options` may name files of the hub's machine too, and its identity."""

DESTINATION = ADDRESSES | {"provider"}
"""Members that say where an entry is, and so where its credentials go."""

CREDENTIALS = frozenset({"headers", "api_key", "auth", "deployments", "options"})


def routers() -> list[APIRouter]:
    """One router for each kind."""
    return [_router("agent", "agents"), _router("server", "mcp-servers"), _router("model", "models")]


def _router(kind: EntryKind, collection: str) -> APIRouter:
    router = APIRouter(prefix=f"/{collection}", tags=[collection])
    caller_of = Annotated[Principal, Depends(needs(collection))]
    example = {"examples": [EXAMPLES[kind]]}

    @router.post("", status_code=201, openapi_extra={"requestBody": {"content": {"application/json": example}}})
    async def create(body: JsonBody, caller: caller_of, services: ServicesNow) -> JsonObject:
        name = body.pop("name", None)
        if not isinstance(name, str):
            raise InvalidRequest("name is missing", member="name")
        if kind == "model":
            _check_stand_ins(services, body, caller)
        _judge_lending(kind, name, body, caller)
        await services.registry.put(kind, name, body, trusted=caller.is_admin)
        if kind == "server":
            await services.greet(name)
        return _public(services, kind, _find(services, kind, name))

    @router.get("")
    async def listed(
        caller: Annotated[Principal, Depends(lists(kind, collection))],
        services: ServicesNow,
        after: str = "",
        limit: PageSize = 100,
    ) -> JsonObject:
        is_admin = caller.grants.allow("admin", collection)
        entries = services.registry.all_of(kind) if is_admin else _callable(services, caller)
        names = sorted(name for name in entries if name > after)
        items = [(_public if is_admin else _offered)(services, kind, entries[name]) for name in names[:limit]]
        return {"items": items, "next": names[limit - 1] if len(names) > limit else None}

    @router.get("/{name:path}")
    async def one(name: str, _caller: caller_of, services: ServicesNow) -> JsonObject:
        entry = _find(services, kind, name)
        return _public(services, kind, entry) | await _at_present(services, entry)

    @router.patch("/{name:path}")
    async def change(name: str, body: JsonBody, caller: caller_of, services: ServicesNow) -> JsonObject:
        return await _change(services, (kind, name), body, caller)

    @router.delete("/{name:path}", status_code=204)
    async def remove(name: str, _caller: caller_of, services: ServicesNow) -> None:
        await services.registry.delete(kind, name)

    return router


async def _change(services: Services, key: tuple[EntryKind, str], body: JsonObject, caller: Principal) -> JsonObject:
    kind, name = key
    entry = _find(services, kind, name)
    disabled = read_disabled(body)
    if body:
        stored = await services.registry.body(kind, name)
        if stored is None or entry.owner == "file":
            raise Conflict(f"The {kind} {name!r} is declared in the file; change it there.")
        trusted = _judge_move(entry, stored, body, caller)
        if kind == "model":
            _check_stand_ins(services, body, caller)
        _judge_lending(kind, name, {**stored, **body}, caller)
        await services.registry.replace(kind, name, {**stored, **body}, trusted=trusted)
    if disabled is not None:
        await services.registry.switch(kind, name, on=not disabled)
    if kind == "server" and not disabled:
        await services.greet(name)
    return _public(services, kind, _find(services, kind, name))


def _judge_move(entry: Agent | Server | Model, stored: JsonObject, body: JsonObject, caller: Principal) -> bool:
    """Say whether a changed entry's address counts as the operator's: as whose it was, unless this change writes it.

    Raises:
        InvalidRequest: it would carry credentials that the caller has not seen to where the caller says.
    """
    if caller.is_admin and DESTINATION & body.keys():  # addresses that somebody else wrote stay somebody else's
        return entry.trusted or not (ADDRESSES & stored.keys()) - body.keys()
    if all(body[member] == stored.get(member) for member in DESTINATION & body.keys()):
        return entry.trusted
    kept = sorted(member for member in CREDENTIALS if stored.get(member) and member not in body)
    if kept:
        raise InvalidRequest(f"give {' and '.join(kept)} anew: credentials do not move with an entry", member=kept[0])
    return False


def _judge_lending(kind: EntryKind, name: str, body: JsonObject, caller: Principal) -> None:
    """Refuse an own agent through which its callers would get what its maker does not hold.

    Raises:
        InvalidRequest: that, or the body is wrong.
    """
    entry = stored_entry(kind, name, body, trusted=False)
    if not isinstance(entry, Agent):
        return
    if wrong := fault(entry):
        raise InvalidRequest(wrong, member="options" if entry.auth is None else "auth")
    if entry.own is None:
        return
    lent = entry.own.grants.grants
    for grant in lent if entry.own.delegates else (grant for grant in lent if grant.kind == "model"):
        if not caller.grants.cover(Grants((grant,))):
            raise InvalidRequest(f"callers of the agent would get {grant}, which you do not hold", member="model")


async def _at_present(services: Services, entry: Agent | Server | Model) -> JsonObject:
    """What is known of one entry beside what was written of it."""
    if isinstance(entry, Agent):
        return {"card": await card_state(services, entry), "quirks": services.agents.quirks(entry)}
    shown: JsonObject = {}
    if isinstance(entry, Server):
        shown["trust"] = await services.registry.trust(entry)
        shown["view"] = view_cost(services.registry.catalog, EVERYTHING, entry.name).model_dump()
        if entry.command is not None:
            shown["process"] = _process(await services.children.show(), entry.name)
    return shown


def _process(shown: Mapping[str, Shown], server: str) -> JsonObject:
    """Which children run for a server, and the last that they wrote to stderr."""
    of = shown.get(server, Shown(running=[], lines=[]))
    return {"running": [{"pid": one.pid, "since": one.since} for one in of.running], "stderr": of.lines}


def _find(services: Services, kind: EntryKind, name: str) -> Agent | Server | Model:
    found = services.registry.all_of(kind).get(name)
    if found is None:
        raise NotFound(kind, name)
    return found


def _public(services: Services, kind: EntryKind, entry: Agent | Server | Model) -> JsonObject:
    """An entry as the API shows it: no header values, no keys, no environment."""
    catalog = services.registry.catalog
    shown: JsonObject = {
        "name": entry.name,
        "owner": entry.owner,
        "disabled": (kind, entry.name) in catalog.switched_off,
        "shadowed": (kind, entry.name) in catalog.shadowed,
        "unavailable": None if isinstance(entry, Agent) else entry.unavailable,
        "headers": sorted(name for name, _ in entry.headers),
    }
    if isinstance(entry, Model):
        shown |= {
            "provider": entry.provider,
            "model": entry.model,
            "base_url": entry.base_url,
            "price": to_builtins(entry.price),
            **_routed(services, entry),
        }
    elif isinstance(entry, Server):
        shown |= {"url": entry.url, "command": entry.command, "require_approval": entry.require_approval}
        shown["quarantine_drift"] = entry.quarantines
        shown["price"] = None if entry.price is None else {"call": entry.price.call, "tools": dict(entry.price.tools)}
        shown |= _features(catalog, entry.name)
    else:
        shown |= {"url": entry.url, "share": "team" if entry.shared else None}
        shown["price"] = None if entry.call_usd is None else {"call": entry.call_usd}
        if entry.urls:
            shown["instances"] = services.agents.instances(entry)
        if entry.own is not None:
            shown |= asdict(entry.own)
        if entry.bridged is not None:
            shown["bridge"] = entry.bridged.kind
    return shown


def _routed(services: Services, model: Model) -> JsonObject:
    """Where a model runs and what stands in for it, as far as there is anything to choose."""
    shown: JsonObject = {}
    if model.deployments:
        states = services.llm.deployments.shown(model)
        shown["deployments"] = [
            {**state, "base_url": place.base_url, "weight": place.weight}
            for place, state in zip(model.deployments, states, strict=True)
        ]
    for member in ("fallbacks", "context_fallbacks"):
        if names := getattr(model.routing, member):
            shown[member] = list(names)
    return shown


def _check_stand_ins(services: Services, body: JsonObject, caller: Principal) -> None:
    """Let nobody have a model stood in for by one that they may not call: its grant is not asked for then.

    Raises:
        InvalidRequest: there is none of this name, or not for this caller.
    """
    for member in ("fallbacks", "context_fallbacks"):
        names = body.get(member)
        for name in names if isinstance(names, list) else ():
            is_known = any(matches(known, str(name)) for known in services.registry.all_of("model"))
            if not is_known or not caller.grants.allow("model", str(name)):
                raise InvalidRequest(f"{member}: no model {str(name)[:100]!r} here", member=member)


def _callable(services: Services, caller: Principal) -> dict[str, Agent | Server | Model]:
    """The agents that the caller may call."""
    agents = services.registry.catalog.agents
    return {name: entry for name, entry in agents.items() if caller.grants.allow("agent", name)}


def _offered(services: Services, _kind: EntryKind, entry: Agent | Server | Model) -> JsonObject:
    """An agent as those see it who may only call it."""
    assert isinstance(entry, Agent), "of these only"
    found = services.discovery.known(entry)
    card = found.card if found is not None and not found.is_quarantined else None
    address = f"{services.publisher.address(entry.name)}.well-known/agent-card.json"
    return {"name": entry.name, "description": card.members["description"] if card else None, "card": address}


def _features(catalog: Catalog, server: str) -> JsonObject:
    """What a server offers, by the names that `/mcp` shows, and what of it cannot be offered, with the reason."""
    shown: JsonObject = {
        "tools": catalog.tools,
        "prompts": catalog.prompts,
        "resources": catalog.resources,
        "templates": catalog.templates,
    }
    for kind, features in shown.items():
        shown[kind] = [exposed for exposed, feature in features.items() if feature.server == server]
    bad = [found for found in catalog.quarantined if found.server == server]
    shown["quarantined"] = {
        found.name if found.kind == "tool" else f"{found.kind} {found.name}": found.reason for found in bad
    }
    return shown
