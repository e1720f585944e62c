"""Platforms in processes of their own: each is started once for all tests of a run, and spoken to by files."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from hub.settings import environment as variables
from tests.conftest import free_port
from tests.foreign.environments import UP_WITHIN_S, python_of
from tests.peers.platforms import brain
from tests.peers.platforms.platform import Platform
from tests.until import until

NOTES = ("released", "cancelled", "sessions")
"""Files through which a platform is spoken to; none is there when a test begins."""

Command = Callable[[Path, int, Path], Sequence[str | Path]]
"""What serves, of the Python of the environment, the port and the directory; brain.py lies there."""


@dataclass
class Elsewhere(Platform):
    """A platform in a process of its own, as one test sees it."""

    url: str = ""
    directory: Path = Path()

    def release(self) -> None:
        """Let an agent go on that holds."""
        (self.directory / "released").touch()

    async def ended(self) -> None:
        """Wait until the platform has ended a run."""
        await until(lambda: (self.directory / "cancelled").exists())

    def sessions(self) -> list[str]:
        """Under which names messages came."""
        return (self.directory / "sessions").read_text().split()


@dataclass
class _Server:
    url: str
    directory: Path
    child: subprocess.Popen[bytes]


_running: dict[str, _Server] = {}


async def elsewhere(name: str, command: Command, *, ready: str, environ: Mapping[str, str] | None = None) -> Elsewhere:
    """A platform that answers a GET of `ready`, in the environment `name`, with no traces of the tests before."""
    if name not in _running:
        _running[name] = await _serve(name, command, ready, environ or {})
    server = _running[name]
    for note in NOTES:
        (server.directory / note).unlink(missing_ok=True)
    return Elsewhere(url=server.url, directory=server.directory)


def end_all() -> None:
    """End all platforms of this run."""
    for server in _running.values():
        os.killpg(server.child.pid, signal.SIGKILL)
        server.child.wait()
        shutil.rmtree(server.directory)
    _running.clear()


async def _serve(name: str, command: Command, ready: str, environ: Mapping[str, str]) -> _Server:
    python, port, directory = await python_of(name), free_port(), Path(tempfile.mkdtemp(prefix=f"{name}-"))
    shutil.copy(brain.__file__, directory)
    with (directory / "printed").open("wb") as printed:
        child = subprocess.Popen(
            command(python, port, directory),
            cwd=directory,
            env={"PATH": variables()["PATH"], "HOME": str(directory), **environ},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = _Server(f"http://127.0.0.1:{port}", directory, child)
    async with asyncio.timeout(UP_WITHIN_S), httpx.AsyncClient(trust_env=False) as http:
        while True:
            assert child.poll() is None, (directory / "printed").read_text()
            try:
                if (await http.get(f"{server.url}{ready}")).status_code == 200:
                    return server
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)  # another process: there is no event to wait for
