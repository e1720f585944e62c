"""One child process in a group of its own, within limits, that cannot outlive the supervisor. Knows nothing of MCP."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from mcp_bridge.stdio.frames import MAX_LINE_BYTES, Spec
from mcp_bridge.stdio.groups import kill_group

GRACE_S = 2.0
"""How long a child has to end after its stdin closed, and again after SIGTERM (2025-11-25, Lifecycle, Shutdown)."""

MAX_UNREAD_BYTES = 64 * 1024 * 1024
"""What a child may leave unread before it is taken for hung."""

_PR_SET_PDEATHSIG = 1
_XCPU_GRACE_S = 5
_FILES, _FILES_AT_MOST = 1024, 1 << 20


class Child:
    """A started process; `connect` before anything else."""

    def __init__(self, spec: Spec, inherited: dict[str, str]) -> None:
        """Start it.

        Raises:
            OSError: with a text that says why it cannot be started.
        """
        if not Path(spec.cwd).is_dir():
            raise OSError("its cwd does not exist")
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the operator wrote the command
                (spec.command, *spec.args),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=inherited | dict(spec.env),
                cwd=spec.cwd,
                start_new_session=True,
                preexec_fn=_limiting(spec),  # noqa: PLW1509 - the supervisor has no threads
            )
        except FileNotFoundError:
            missing = "the interpreter of its command" if Path(spec.command).is_file() else "its command"
            raise OSError(f"{missing} does not exist") from None
        except PermissionError:
            raise OSError("its command may not be executed") from None
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise OSError(f"its command cannot be started ({type(error).__name__})") from None
        self.exited = asyncio.Event()

    async def connect(self) -> None:
        """Open the pipes."""
        loop = asyncio.get_running_loop()
        self.stdout = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        self.stderr = asyncio.StreamReader()
        self._pipes: list[asyncio.BaseTransport] = []
        for reader, pipe in ((self.stdout, self._process.stdout), (self.stderr, self._process.stderr)):
            transport, _ = await loop.connect_read_pipe(partial(asyncio.StreamReaderProtocol, reader), pipe)
            self._pipes.append(transport)
        self._stdin, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, self._process.stdin)
        self._pipes.append(self._stdin)

    @property
    def pid(self) -> int:
        """Its process id, and its group's."""
        return self._process.pid

    def write(self, line: bytes) -> None:
        """Send it a line; one that does not read is killed."""
        if not self._stdin.is_closing():
            self._stdin.write(line + b"\n")
            if self._stdin.get_write_buffer_size() > MAX_UNREAD_BYTES:
                kill_group(self.pid, signal.SIGKILL)

    def reap(self) -> None:
        """Notice its end; to be called at SIGCHLD."""
        if not self.exited.is_set() and self._process.poll() is not None:
            kill_group(self.pid, signal.SIGKILL)
            self.exited.set()

    @property
    def ending(self) -> str:
        """How it ended."""
        status = self._process.returncode
        if status < 0:
            return f"ended by {signal.Signals(-status).name}"
        return f"ended with exit status {status}"

    async def end(self) -> None:
        """Close its stdin, then SIGTERM, then SIGKILL, each for the whole group."""
        self._stdin.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    await self.exited.wait()
            if self.exited.is_set():
                return
            kill_group(self.pid, number)
        await self.exited.wait()

    def close(self) -> None:
        """Close the pipes, which descendants that left the group may hold."""
        for pipe in self._pipes:
            pipe.close()


def _limiting(spec: Spec) -> Callable[[], None]:
    """What a child does before it becomes its command; everything that allocates is done before the fork."""
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    limits = (
        _limit(resource.RLIMIT_CORE, 0, 0),
        _limit(resource.RLIMIT_NOFILE, _FILES, _FILES_AT_MOST),
        _limit(resource.RLIMIT_CPU, spec.cpu_s, spec.cpu_s + _XCPU_GRACE_S),
        # not RLIMIT_AS: Node and Java reserve far more addresses than they use
        _limit(resource.RLIMIT_DATA, spec.memory_bytes, spec.memory_bytes),
    )

    def limit() -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before
                os._exit(1)
        for which, pair in limits:
            resource.setrlimit(which, pair)

    return limit


def _limit(which: int, soft: int, hard: int) -> tuple[int, tuple[int, int]]:
    """A limit, or the stricter one that is in force."""
    _, most = resource.getrlimit(which)
    if most != resource.RLIM_INFINITY:
        return which, (min(soft, most), min(hard, most))
    return which, (soft, hard)
