"""The bridge put together: pool, sync and dispatch, opened and closed in the right order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mcp_bridge.dispatch import Dispatch
from mcp_bridge.pool import Pool
from mcp_bridge.sync import Sync
from registry.egress.http import Egress
from registry.gate import Gate
from registry.registry import Registry


@dataclass(frozen=True, slots=True)
class Bridge:
    """Everything of the MCP bridge that others use."""

    pool: Pool
    sync: Sync
    dispatch: Dispatch


@asynccontextmanager
async def open_bridge(
    registry: Registry, *, gate: Gate, egress: Egress, environment: Mapping[str, str]
) -> AsyncIterator[Bridge]:
    """Keep tool lists true while open; at the end no connection and no child is left."""
    pool = Pool(registry, gate=gate, egress=egress, environment=environment)
    sync = Sync(registry, gate=gate, pool=pool)
    async with asyncio.TaskGroup() as tasks:
        syncing = tasks.create_task(sync.run(), name="tool lists")
        try:
            yield Bridge(pool, sync, Dispatch(registry, gate=gate, pool=pool))
        finally:
            syncing.cancel()
            await pool.aclose()
