"""What can be found at the hub: `/.well-known/agent-card.json` (the hub's own card), `ai-catalog.json` and `jwks.json`.

Each caller finds what it may use; without a key, the agents whose cards the operator opened. Nothing here waits for an
upstream: what an agent says of itself is shown once it is known.
"""

from __future__ import annotations

from collections import OrderedDict
from importlib.metadata import version
from urllib.parse import urlsplit

from agents import cards
from agents.discovery import Discovery
from agents.publishing import Published, Publisher, etag_of
from agents.signing import JWKS_PATH, Signatures
from hub.auth import secret_of
from hub.exchange import Exchange
from registry.entries import Agent, Server
from registry.errors import HttpMethodRefused
from registry.identity import NOBODY, Principal
from registry.judged import JsonObject, encode
from registry.registry import Registry

CARD_PATH = "/.well-known/agent-card.json"
CATALOG_PATH = "/.well-known/ai-catalog.json"

AGENT_CARD = "application/a2a-agent-card+json"
SERVER_CARD = "application/mcp-server-card+json"
CATALOG = b"application/ai-catalog+json"

TO_CALLER = b"private, max-age=60"
TO_ALL = b"public, max-age=300"
"""A new key signs when it has been public for so long that verifiers have it."""

VARY = b"authorization, x-api-key, x-litellm-api-key"

MAX_CARDS = 256
"""Callers whose card of the hub is remembered, with its signature."""


class CatalogDoor:
    """Answers below `/.well-known/`."""

    def __init__(
        self, registry: Registry, *, discovery: Discovery, publisher: Publisher, signatures: Signatures
    ) -> None:
        self._registry = registry
        self._discovery = discovery
        self._publisher = publisher
        self._signatures = signatures
        self._cards: OrderedDict[str, Published] = OrderedDict()
        self._version = version("hubbub")

    @staticmethod
    def is_open(exchange: Exchange) -> bool:
        """Whether the request needs no key: the hub's public keys are everybody's, and who sends no key sees little."""
        return exchange.method in {"GET", "HEAD"} and (
            exchange.path == JWKS_PATH or secret_of(exchange.headers) is None
        )

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request; raises `HttpMethodRefused`."""
        if exchange.method != "GET":
            raise HttpMethodRefused("GET")
        if exchange.path == JWKS_PATH:
            await _answer(exchange, await self._signatures.jwks(), b"application/jwk-set+json", TO_ALL)
        elif exchange.path == CATALOG_PATH:
            await _answer(exchange, encode(self._catalog(exchange.principal)), CATALOG, TO_CALLER)
        else:
            await self._publisher.open()
            card = self._card(exchange.principal)
            await _answer(exchange, card.body, b"application/json", TO_CALLER, etag=card.etag)

    def _agents(self, principal: Principal) -> list[Agent]:
        return [
            entry
            for name, entry in sorted(self._registry.catalog.agents.items())
            if principal.grants.allow("agent", name) or (principal is NOBODY and entry.public_card)
        ]

    def _servers(self, principal: Principal) -> list[Server]:
        return [
            entry
            for name, entry in sorted(self._registry.catalog.servers.items())
            if entry.unavailable is None and principal.grants.reach("tool", f"{name}__")
        ]

    def _card(self, principal: Principal) -> Published:
        """The hub's own card: each agent that the caller may use is a skill, and has its interface."""
        agents = self._agents(principal)
        built: JsonObject = {
            "name": "Hubbub",
            "description": "A hub of agents, tools and models. Each skill is an agent with an address of its own; "
            f"{self._publisher.url}{CATALOG_PATH} lists all that can be found here.",
            "version": self._version,
            "supportedInterfaces": [
                {"url": self._publisher.address(entry.name), "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
                for entry in agents
            ],
            "capabilities": {"streaming": True, "extensions": []},
            **cards.security("agent:*", self._publisher.issuers),
            "defaultInputModes": cards.TEXT_MODES,
            "defaultOutputModes": cards.TEXT_MODES,
            "skills": [
                {
                    "id": entry.name,
                    **dict(zip(("name", "description"), self._words(entry), strict=True)),
                    "tags": ["agent"],
                }
                for entry in agents
            ],
        }
        ready = self._publisher.ready(built, self._cards.get(principal.id))
        self._cards[principal.id] = ready
        self._cards.move_to_end(principal.id)
        if len(self._cards) > MAX_CARDS:
            self._cards.popitem(last=False)
        return ready

    def _catalog(self, principal: Principal) -> JsonObject:
        """An AI Catalog (specification 1.0): the agents and MCP servers that the caller may use."""
        entries = []
        for agent in self._agents(principal):
            name, description = self._words(agent)
            url = f"{self._publisher.address(agent.name)}.well-known/agent-card.json"
            entries.append(
                self._entry(f"agent:{agent.name}", name, AGENT_CARD, {"description": description, "url": url})
            )
        for server in self._servers(principal):
            card = {
                "name": server.name,
                "version": self._version,
                "remotes": [{"type": "streamable-http", "url": f"{self._publisher.url}/mcp/{server.name}"}],
            }
            entries.append(self._entry(f"mcp:{server.name}", server.name, SERVER_CARD, {"data": card}))
        host = {"displayName": "Hubbub", "identifier": self._publisher.url}
        return {"specVersion": "1.0", "host": host, "entries": entries}

    def _entry(self, what: str, name: str, media_type: str, members: JsonObject) -> JsonObject:
        identifier = f"urn:hubbub:{urlsplit(self._publisher.url).netloc}:{what}"
        # `type` is the newer drafts' word for `mediaType`
        return {"identifier": identifier, "displayName": name, "mediaType": media_type, "type": media_type, **members}

    def _words(self, entry: Agent) -> tuple[str, str]:
        """An agent's name and description: its card's when that is known, and not in question."""
        found = self._discovery.known(entry)
        if found is None or found.card is None or found.is_quarantined:
            return entry.name, entry.name
        return found.card.members["name"], found.card.members["description"]


async def _answer(exchange: Exchange, body: bytes, media_type: bytes, cache: bytes, *, etag: str | None = None) -> None:
    """Answer with a strong ETag, or 304 to who has these bytes (RFC 9110 §13.1.2)."""
    tag = (etag or etag_of(body)).encode()
    headers = [(b"etag", tag), (b"cache-control", cache)]
    if cache is TO_CALLER:
        headers.append((b"vary", VARY))
    held = exchange.headers.get(b"if-none-match", b"")
    if held.strip() == b"*" or tag in {one.strip().removeprefix(b"W/") for one in held.split(b",")}:
        await exchange.reply(304, b"", headers=headers)
    else:
        await exchange.reply(200, body, media_type=media_type, headers=headers)
