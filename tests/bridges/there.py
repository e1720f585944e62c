"""A hub with one agent, `there`, and an official client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agents.speech import SPEECHES
from tests.conftest import Hub, open_hub
from tests.peers.a2a_clients import SdkClient, open_client


@asynccontextmanager
async def client_of(hub: Hub, secret: str | None = None) -> AsyncIterator[SdkClient]:
    """A client of the agent, with this key or one of its own."""
    headers = {"authorization": f"Bearer {secret or await hub.key('agent:there')}"}
    async with open_client(f"{hub.url}/a2a/there/", SPEECHES[0], headers=headers) as client:
        yield client


@asynccontextmanager
async def open_there(directory: Path, entry: str) -> AsyncIterator[tuple[Hub, SdkClient]]:
    """The agent is what `entry` says, as it stands in the file."""
    async with open_hub(directory, f"agents:\n  there: {entry}\n") as hub, client_of(hub) as client:
        yield hub, client
