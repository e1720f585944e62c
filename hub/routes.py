"""Which door stands at which path (surface.md 5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from agents.push_callback import PATH as PUSH_PATH
from agents.signing import JWKS_PATH
from hub import errors
from hub.app import PROBLEM, Door, Handler, Routes, jsonrpc
from hub.doors.a2a import A2ADoor
from hub.doors.admin import AdminDoor
from hub.doors.catalog import CARD_PATH, CATALOG_PATH, CatalogDoor
from hub.doors.chat import ChatDoor, ModelsDoor
from hub.doors.connect import ConnectDoor
from hub.doors.health import HealthDoor
from hub.doors.mcp import McpDoor
from hub.doors.messages import MessagesDoor
from hub.doors.passthrough import PassThroughDoor
from hub.doors.platform import PlatformDoor
from hub.doors.protected_resource import WELL_KNOWN, ResourceDoor
from hub.doors.push import PushDoor
from hub.doors.responses import ConversationsDoor, ResponsesDoor
from hub.doors.ui import HOME as UI
from hub.doors.ui import UiDoor
from hub.exchange import Exchange
from hub.services import Services
from llm.platform.operations import PATHS
from llm.providers.endpoints import PASSED_THROUGH
from mcp_bridge.oauth.connect import CALLBACK_PATH, CLIENT_PATH
from mcp_bridge.oauth.links import PATH as CONNECT_PATH
from registry.errors import MethodNotFound
from registry.identity import DoorName
from registry.judged import JsonObject


@asynccontextmanager
async def routes(services: Services, ending: asyncio.Event) -> AsyncIterator[Routes]:
    """Hang the doors, and keep the one that holds sessions running; its streams end when `ending` is set."""
    mcp = McpDoor(services.tools, services.subscriptions)
    async with asyncio.TaskGroup() as background:
        sessions = background.create_task(mcp.run())
        draining = background.create_task(_drain(services, ending))
        yield _routes(services, mcp)
        sessions.cancel()
        draining.cancel()


async def _drain(services: Services, ending: asyncio.Event) -> None:
    await ending.wait()
    services.subscriptions.drain()


def _routes(services: Services, mcp: McpDoor) -> Routes:
    registry, authenticator = services.registry, services.authenticator
    a2a = A2ADoor(services.agents, registry=registry, gate=services.gate)
    a2a_door = Door(a2a, jsonrpc(errors.a2a), "a2a", is_open=a2a.is_open)
    push = PushDoor(services.callbacks, registry=registry)
    push_door = _open_to_all(push, "a2a")
    resource = ResourceDoor(services.public_url, services.declared.hub.issuers)
    resource_door = _open_to_all(resource, "mcp")
    mcp_door = Door(mcp, jsonrpc(errors.mcp), "mcp", challenge=resource.challenge)
    connect = ConnectDoor(
        services.connect,
        authenticator=authenticator,
        keys=services.keys,
        sealer=services.sealer,
        public_url=services.public_url,
        greet=services.greet,
    )
    connect_door = _open_to_all(connect, "mcp")
    models_door = Door(ModelsDoor(lambda: registry.catalog), errors.openai, "llm")
    admin = AdminDoor(services)
    admin_door = Door(admin, errors.problem, "api", is_open=admin.is_open, media_type=PROBLEM)
    catalog = CatalogDoor(
        registry, discovery=services.discovery, publisher=services.publisher, signatures=services.signatures
    )
    catalog_door = Door(catalog, errors.problem, "a2a", is_open=catalog.is_open, media_type=PROBLEM)
    known = {"agents": lambda: _instances(services), "models": lambda: _deployments(services)}
    health = HealthDoor(services.database, authenticator, known)
    stored_doors, ui = _stored(services), _ui(services)
    model_doors = _model_doors(services, models_door)
    return Routes(
        exact={
            **model_doors,
            **{f"/v1{path}": door for path, door in model_doors.items()},
            "/v2/rerank": model_doors["/rerank"],
            **dict.fromkeys((CARD_PATH, CATALOG_PATH, JWKS_PATH), catalog_door),
            **dict.fromkeys((CALLBACK_PATH, CLIENT_PATH), connect_door),
            WELL_KNOWN: resource_door,
            UI: ui,
            "/mcp": mcp_door,
            "/livez": _open_to_all(health.live),
            "/readyz": _open_to_all(health.ready),
            "/docs": admin_door,
            "/openapi.json": admin_door,
        },
        prefixes=(
            (PUSH_PATH, push_door),
            ("/a2a/", a2a_door),
            ("/mcp/", mcp_door),
            (CONNECT_PATH, connect_door),
            (f"{WELL_KNOWN}/", resource_door),
            *((f"{version}{path}/", door) for path, door in stored_doors.items() for version in ("/v1", "")),
            ("/v1/models/", models_door),
            ("/models/", models_door),
            *_below_platform(services),
            ("/v1/", Door(_nowhere, errors.openai, "llm")),
            ("/api/", admin_door),
            (f"{UI}/", ui),
        ),
    )


def _ui(services: Services) -> Door:
    base = urlsplit(services.public_url).path.rstrip("/")
    ui = UiDoor(services.sign_ins, services.browsers, sealer=services.sealer, audit=services.audit, base=base)
    return _open_to_all(ui)


def _stored(services: Services) -> dict[str, Door]:
    """What is kept for callers between their requests."""
    return {
        "/responses": Door(ResponsesDoor(services.llm.responses), errors.openai, "llm"),
        "/conversations": Door(ConversationsDoor(services.llm.responses.conversations), errors.openai, "llm"),
    }


def _model_doors(services: Services, models: Door) -> dict[str, Door]:
    """The doors of models, by the path that each has with and without `/v1`."""
    messages = Door(MessagesDoor(services.llm.messages), errors.anthropic, "llm", id_header=b"request-id")
    return {
        "/chat/completions": Door(ChatDoor(services.llm.chat), errors.openai, "llm"),
        "/messages": messages,
        "/messages/count_tokens": messages,
        "/models": models,
        **_stored(services),
        **_pass_through(services),
    }


def _pass_through(services: Services) -> dict[str, Door]:
    answers = services.llm.pass_through
    doors = {
        f"/{endpoint}": Door(PassThroughDoor(answers, endpoint), errors.openai, "llm") for endpoint in PASSED_THROUGH
    }
    return {**doors, **dict.fromkeys((f"/{path}" for path in PATHS), _platform(services))}


def _platform(services: Services) -> Door:
    return Door(PlatformDoor(services.llm.platform, services.llm.uploads), errors.openai, "llm")


def _below_platform(services: Services) -> tuple[tuple[str, Door], ...]:
    door = _platform(services)
    return tuple((f"{start}/{path}/", door) for path in PATHS for start in ("", "/v1"))


def _instances(services: Services) -> JsonObject:
    """What is known of agents with several instances, by name; without their addresses."""
    shown = {name: services.agents.instances(agent) for name, agent in services.registry.catalog.agents.items()}
    return {
        name: [{member: one[member] for member in ("instance", "state", "calls")} for one in instances]
        for name, instances in shown.items()
        if instances
    }


def _deployments(services: Services) -> JsonObject:
    """What is known of the deployments of models that have such, by name; without their addresses."""
    models = services.registry.catalog.models
    return {name: services.llm.deployments.shown(model) for name, model in models.items() if model.deployments}


def _open_to_all(handler: Handler, name: DoorName = "api") -> Door:
    """A door that finds out itself who comes."""
    return Door(handler, errors.problem, name, is_open=lambda _exchange: True, media_type=PROBLEM)


async def _nowhere(exchange: Exchange) -> None:
    raise MethodNotFound(exchange.path)
