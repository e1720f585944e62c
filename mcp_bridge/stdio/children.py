"""A hub's side of the supervisor: finds the one that runs beside the database or starts it, and opens children there."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mcp_bridge.stdio import frames
from mcp_bridge.stdio.frames import ENDED, LEAVE, MAX_LINE_BYTES, OPENED, SOCKET, Ask, Open, Present, Show, Shown, Spec
from mcp_bridge.stdio.groups import kill_group
from registry.entries import Server
from registry.errors import UpstreamUnavailable

logger = logging.getLogger(__name__)

INHERITED = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")
"""What a child may know of the hub's environment."""

LINGER_S = 60.0
"""How long children stay without a hub: one that was killed is back by then."""

TRIES = 3
"""How often a supervisor is looked for: one may be about to end when it is found."""

START_S = 10.0
LOST_S = 1.0
STOP_S = 8.0
"""How long a supervisor may take to end its children: thrice their own grace, and something."""

_LOG = "supervisor.log"


@dataclass(frozen=True, slots=True)
class Attached:
    """A connection to one child."""

    pid: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Children:
    """The children of one hub's servers; the supervisor is started when the first is needed."""

    def __init__(self, directory: Path, environment: Mapping[str, str], *, linger_s: float = LINGER_S) -> None:
        """`directory` is the hub's own, made private; `environment` the hub's own, of which children see little."""
        self._directory = directory.absolute()
        self._inherited = {name: environment[name] for name in INHERITED if name in environment}
        self._linger_s = linger_s
        self._starting = asyncio.Lock()
        self._present: asyncio.Task[None] | None = None
        """Ends with the supervisor."""
        self._writer: asyncio.StreamWriter | None = None
        self._attached: set[int] = set()

    async def open(self, server: Server, *, is_shared: bool) -> Attached:
        """Talk to a server's child: the one for all, or one of one's own. To be given back with `left`.

        Raises:
            UpstreamUnavailable: it cannot be started, and why.
        """
        ask = Open(spec=_spec(server), inherited=self._inherited, is_shared=is_shared)
        for _ in range(TRIES):
            try:
                await self._be_present()
                reader, writer = await self._dial(ask)
            except (OSError, subprocess.SubprocessError) as error:
                logger.warning("no supervisor", extra={"directory": str(self._directory), "reason": str(error)})
                continue
            line = b""
            try:
                with suppress(ConnectionError):
                    line = await reader.readline()
            finally:
                if line[:1] != OPENED:
                    writer.close()
            if line[:1] == OPENED:
                pid = int(line[1:])
                self._attached.add(pid)
                return Attached(pid, reader, writer)
            if line[:1] == ENDED:
                raise UpstreamUnavailable(server.name, line[1:-1].decode(errors="replace"))
        raise UpstreamUnavailable(server.name, "the process that keeps stdio servers cannot be started")

    async def left(self, attached: Attached, *, is_lost: bool) -> None:
        """Take note that a connection is over.

        With `is_lost` it broke, perhaps because the supervisor was killed: what is left of the child's group is killed then.
        """
        if is_lost and self._present is not None:
            await asyncio.wait([self._present], timeout=LOST_S)
        self._attached.discard(attached.pid)

    async def show(self) -> dict[str, Shown]:
        """What is known of children, by their servers' names; nothing, when no supervisor runs."""
        try:
            reader, writer = await asyncio.open_unix_connection(sock=connected(self._directory), limit=MAX_LINE_BYTES)
        except OSError:
            return {}
        try:
            async with asyncio.timeout(START_S):
                writer.write(frames.encode(Show()) + b"\n")
                return frames.decode_shown(await reader.readline())
        except (OSError, ValueError, msgspec.DecodeError):
            return {}
        finally:
            writer.close()

    async def aclose(self) -> None:
        """Say that this hub is done, and wait for what ends with that."""
        present, self._present = self._present, None
        if present is None or present.done() or self._writer is None:
            return
        self._attached.clear()
        with suppress(RuntimeError):  # uvloop's word for a connection that has just been lost
            self._writer.write(LEAVE + b"\n")
        await asyncio.wait([present], timeout=STOP_S)
        present.cancel()
        await asyncio.gather(present, return_exceptions=True)

    async def _be_present(self) -> None:
        """Have the supervisor know of this hub, starting it if need be; raises `OSError`."""
        async with self._starting:
            if self._present is not None and not self._present.done():
                return
            reader, writer = await self._dial(Present())
            line = b""
            try:
                line = await reader.readline()
            finally:
                if line[:1] != OPENED:
                    writer.close()
            if line[:1] != OPENED:
                raise ConnectionError("it was about to end")
            self._writer = writer
            self._present = asyncio.create_task(self._watch(reader, writer))

    async def _watch(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Wait for the supervisor's end, and see that children do not outlive it."""
        try:
            with suppress(ConnectionError, ValueError):
                await reader.readline()
            for pid in self._attached:
                kill_group(pid, signal.SIGKILL)
        finally:
            writer.close()

    async def _dial(self, ask: Ask) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reaching = asyncio.get_running_loop().run_in_executor(None, _reach, self._directory, self._linger_s)
        try:
            connected = await asyncio.shield(reaching)
        except asyncio.CancelledError:
            reaching.add_done_callback(_close)
            raise
        reader, writer = await asyncio.open_unix_connection(sock=connected, limit=MAX_LINE_BYTES)
        writer.write(frames.encode(ask) + b"\n")
        return reader, writer


def _close(reaching: asyncio.Future[socket.socket]) -> None:
    if not reaching.cancelled() and reaching.exception() is None:
        reaching.result().close()


def _spec(server: Server) -> Spec:
    assert server.command is not None
    return Spec(
        name=server.name,
        command=server.command,
        args=server.args,
        env=server.env,
        cwd=str(Path(server.cwd or ".").expanduser().absolute()),
        memory_bytes=server.memory_mb * 1024 * 1024,
        cpu_s=server.cpu_s,
    )


def _reach(directory: Path, linger_s: float) -> socket.socket:
    """Connect to the supervisor of a directory, starting it if there is none; to be run in a thread.

    Raises:
        OSError: it cannot be started, or the directory is not private.
    """
    import fcntl  # noqa: PLC0415 - systems that lack it start without stdio servers

    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{directory} must be a directory of the hub's user with mode 0700")
    with suppress(FileNotFoundError, ConnectionRefusedError):
        return connected(directory)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of those who start one at the same time, the first does
        with suppress(FileNotFoundError, ConnectionRefusedError):
            return connected(directory)
        _start(directory, linger_s)
        return connected(directory)


def _start(directory: Path, linger_s: float) -> None:
    (directory / SOCKET).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener, _address(directory) as address:
        listener.bind(address)
        listener.listen(128)
        arguments = ["-P", "-m", "mcp_bridge.stdio.supervisor", str(listener.fileno()), str(linger_s)]
        with (directory / _LOG).open("w") as log:
            subprocess.run(  # noqa: S603 - this program itself
                [sys.executable, *arguments],
                env={"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path)},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno()],
                start_new_session=True,
                timeout=START_S,
                check=False,  # one that did not come up does not answer either
            )


def connected(directory: Path) -> socket.socket:
    """Connect to the supervisor of a directory; raises `OSError`."""
    connected = socket.socket(socket.AF_UNIX)
    try:
        with _address(directory) as address:
            connected.connect(address)
    except BaseException:
        connected.close()
        raise
    return connected


@contextmanager
def _address(directory: Path) -> Iterator[str]:
    """The socket's address, short enough for a unix socket (108 bytes) wherever the directory is."""
    if sys.platform != "linux":
        yield str(directory / SOCKET)
        return
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET}"
    finally:
        os.close(handle)
