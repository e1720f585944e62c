"""What the machine lends that the hub runs on: files with tokens, and addresses that only it can ask. For agents that the operator wrote."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agents.bridges.way import Way
from registry.entries import Headers
from registry.errors import UpstreamUnavailable

MAX_FILE_BYTES = 64 * 1024


async def file(way: Way, path: str) -> str:
    """The text of a file, as it is now: such tokens are replaced by others.

    Raises:
        UpstreamUnavailable: it cannot be read, or the agent is nobody's to lend it to.
    """
    way.of_machine()  # who may not ask the machine may not read its files
    try:
        data = await asyncio.to_thread(_read, path)
        return data.decode().strip()
    except (OSError, ValueError):
        raise UpstreamUnavailable(way.name, f"it cannot be called as it is configured: {path} cannot be read") from None


async def text(way: Way, method: str, url: str, *, headers: Headers) -> str:
    """What an address answers that only the machine can ask; raises `UpstreamError`."""
    async with way.of_machine().send(method, url, headers=headers) as incoming:
        return (await incoming.read()).decode(errors="replace").strip()


def _read(path: str) -> bytes:
    with Path(path).open("rb") as found:
        data = found.read(MAX_FILE_BYTES + 1)
    if not data.strip() or len(data) > MAX_FILE_BYTES:
        raise ValueError("it holds no token")
    return data
