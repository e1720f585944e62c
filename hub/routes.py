"""Which door stands at which path (surface.md 5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agents.call import AgentCaller
from agents.discovery import Discovery
from agents.ledger import Ledger
from hub import errors
from hub.app import PROBLEM, Door, Routes, jsonrpc
from hub.doors.a2a import A2ADoor
from hub.doors.admin import AdminDoor
from hub.doors.health import HealthDoor
from hub.services import Services
from registry.ownership import Ownership


@asynccontextmanager
async def routes(services: Services) -> AsyncIterator[Routes]:
    """Hang the doors."""
    health = HealthDoor(services.database)
    admin = AdminDoor(services)
    admin_door = Door(admin, errors.problem, is_open=admin.is_open, media_type=PROBLEM)
    live = Door(health.live, errors.problem, is_open=lambda _exchange: True, media_type=PROBLEM)
    ready = Door(health.ready, errors.problem, is_open=lambda _exchange: True, media_type=PROBLEM)
    discovery = Discovery(services.egress, gate=services.gate, public_url=services.public_url)
    caller = AgentCaller(services.egress, discovery=discovery, ledger=Ledger(Ownership(services.database)))
    a2a = A2ADoor(caller, registry=services.registry, gate=services.gate)
    a2a_door = Door(a2a, jsonrpc(errors.a2a), is_open=a2a.is_open)
    async with asyncio.TaskGroup() as tasks:
        finding = tasks.create_task(discovery.run())
        yield Routes(
            exact={"/livez": live, "/readyz": ready, "/docs": admin_door, "/openapi.json": admin_door},
            prefixes=(("/api/", admin_door), ("/a2a/", a2a_door)),
        )
        finding.cancel()
