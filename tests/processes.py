"""A hub as its users run it: the `hubbub` command in a process of its own."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from mcp_bridge.stdio.children import connected
from mcp_bridge.stdio.frames import LEAVE, Present, encode
from tests.conftest import ADMIN_KEY, free_port

HUBBUB = str(Path(sys.executable).with_name("hubbub"))
UP_WITHIN_S = 60


@dataclass
class HubProcess:
    """A running hub. `lines` is what it printed and logged."""

    url: str
    directory: Path
    child: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    def http(self, secret: str = ADMIN_KEY) -> httpx.AsyncClient:
        """A plain client with a key."""
        headers = {"authorization": f"Bearer {secret}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    async def key(self, name: str, *allow: str, **members: object) -> str:
        """Make a key over the API."""
        async with self.http() as admin:
            made = await admin.post("/api/keys", json={"name": name, "allow": list(allow), **members})
            assert made.status_code == 201, made.text
            secret: str = made.json()["key"]
            return secret

    def send(self, number: signal.Signals) -> None:
        """Signal the hub."""
        self.child.send_signal(number)

    async def said(self, text: str) -> None:
        """Wait until it printed `text`."""
        async with asyncio.timeout(UP_WITHIN_S):
            while not any(text in line for line in self.lines):
                await asyncio.sleep(0.01)


def known_dead(directory: Path) -> None:
    """Have the database know that the hubs which wrote into it are dead; by itself it would take seconds to notice."""
    with closing(sqlite3.connect(directory / "hubbub.db")) as database, database:
        database.execute("UPDATE hub_processes SET seen_at = 0")


async def hubbub(*arguments: str, directory: Path) -> tuple[int, str]:
    """Run one command; returns its exit code and everything it printed."""
    child = await asyncio.create_subprocess_exec(
        HUBBUB, *arguments, cwd=directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    printed, _ = await child.communicate()
    return child.returncode or 0, printed.decode()


@asynccontextmanager
async def hub_process(
    directory: Path, yaml: str, *, database: str = "hubbub.db", environ: Mapping[str, str] | None = None
) -> AsyncIterator[HubProcess]:
    """Write hub.yaml into `directory`, serve it on a free port, and end the process with the block.

    `yaml` may begin with lines of the hub's own section; `environ` is added to the environment.
    """
    port = free_port()
    text = f"hub:\n  database: sqlite:///{directory}/{database}\n  admin_key: {ADMIN_KEY}\n{yaml}"
    (directory / "hub.yaml").write_text(text)
    child = await asyncio.create_subprocess_exec(
        "env",
        *(f"{name}={value}" for name, value in (environ or {}).items()),
        HUBBUB,
        "serve",
        "--port",
        str(port),
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    running = HubProcess(f"http://127.0.0.1:{port}", directory, child)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_listen(running))
        try:
            await _until_ready(running)
            yield running
        finally:
            if child.returncode is None:
                child.kill()
            await child.wait()
            await end_children(directory / database)


async def supervisor(database: Path) -> int | None:
    """The process id of the supervisor beside a database; None: there is none."""
    return await _at_supervisor(database, b"")


async def end_children(database: Path) -> None:
    """End the supervisor beside a database with its children, as the last hub that is done does."""
    await _at_supervisor(database, LEAVE + b"\n")


async def _at_supervisor(database: Path, goodbye: bytes) -> int | None:
    try:
        reader, writer = await asyncio.open_unix_connection(sock=connected(database.with_suffix(".stdio")))
    except OSError:
        return None
    try:
        writer.write(encode(Present()) + b"\n")
        pid = (await reader.readline())[1:]
        writer.write(goodbye)
        if goodbye:
            async with asyncio.timeout(20):
                await reader.read()
        return int(pid) if pid else None
    finally:
        writer.close()


async def _listen(running: HubProcess) -> None:
    assert running.child.stdout is not None
    async for line in running.child.stdout:
        running.lines.append(line.decode())


async def _until_ready(running: HubProcess) -> None:
    async with asyncio.timeout(UP_WITHIN_S), running.http() as http:
        while True:
            assert running.child.returncode is None, "".join(running.lines)
            try:
                answer = await http.get("/readyz")
            except httpx.TransportError:
                await asyncio.sleep(0.02)
                continue
            if answer.status_code == 200:
                return
