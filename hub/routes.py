"""Which door stands at which path (surface.md 5)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hub import errors
from hub.app import Door, Routes
from hub.doors.health import HealthDoor
from hub.services import Services


@asynccontextmanager
async def routes(services: Services) -> AsyncIterator[Routes]:
    """Hang the doors."""
    health = HealthDoor(services.database)
    live = Door(health.live, errors.problem, is_open=lambda _exchange: True)
    ready = Door(health.ready, errors.problem, is_open=lambda _exchange: True)
    yield Routes(exact={"/livez": live, "/readyz": ready}, prefixes=())
