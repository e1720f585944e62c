"""The process that keeps the stdio servers of one hub: `python -m mcp_bridge.stdio.supervisor FD LINGER_S`.

Serves the hub's processes on the listening unix socket FD, and only those of its own user. It ends with all children:
at once when the last hub says that it is done, and LINGER_S seconds after the last one was lost. Imports little, because
it stays in memory.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import sys
from collections import OrderedDict, deque
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count

import msgspec

from mcp_bridge.stdio import frames
from mcp_bridge.stdio.child import Child
from mcp_bridge.stdio.frames import ENDED, LEAVE, MESSAGE, OPENED, WROTE, Open, Present, Running, Show, Shown, Spec
from mcp_bridge.stdio.relay import SERVER, Lines, NotMessage, Relay

KEPT_LINES = 200
KEPT_SERVERS = 1000
MAX_KEPT_LINE = 2000

MIN_SECRET_LENGTH = 6
"""Shorter values of a server's environment are words like `true`, not secrets."""

LAST_WORDS_S = 1.0
"""How long an ended child's pipes are read on: a descendant that left its group may hold them open."""

STALLED_S = 10.0
"""How long a client may not read what its child answers."""

MAX_UNSENT_ERRORS = 1024 * 1024
ASK_S = 10.0


class Household:
    """One child and those who talk to it."""

    def __init__(self, spec: Spec, inherited: dict[str, str], *, is_shared: bool, lines: deque[str]) -> None:
        """Start the child; raises `OSError`."""
        self.child = Child(spec, inherited)
        self.name = spec.name
        self.is_shared = is_shared
        self.since = _now()
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()
        self.is_ending = False
        self.lonely: asyncio.TimerHandle | None = None
        """Ends it, unless somebody comes back."""
        self._secrets = [value for _, value in spec.env if len(value) >= MIN_SECRET_LENGTH]
        self._lines = lines
        self._relay = Relay()
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._numbers = count(SERVER + 1)
        self._ending: asyncio.Task[None] | None = None
        lines.append(f"{self.since} started, process {self.child.pid}")

    @property
    def is_empty(self) -> bool:
        """Whether nobody talks to the child."""
        return not self._writers

    async def run(self) -> None:
        """Carry lines until the child has ended."""
        await self.child.connect()
        self.ready.set()
        pumps = [asyncio.create_task(self._answers()), asyncio.create_task(self._errors())]
        await self.child.exited.wait()
        await asyncio.wait(pumps, timeout=LAST_WORDS_S)
        for pump in pumps:
            pump.cancel()
        self.child.close()
        self._lines.append(f"{_now()} {self.child.ending}")
        for writer in self._writers.values():
            writer.write(ENDED + self.child.ending.encode() + b"\n")
            writer.close()
        self.ended.set()

    async def end(self) -> None:
        """End the child, and return when it has ended."""
        self.is_ending = True
        if self._ending is None:
            self._ending = asyncio.create_task(self.child.end())
        await self.ended.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Carry one client's lines; returns whether it said that it leaves."""
        number = next(self._numbers)
        self._writers[number] = writer
        self._relay.clients.append(number)
        is_leaving = False
        with suppress(ValueError, ConnectionError):
            while not is_leaving and (line := await reader.readline()):
                if line[:1] == MESSAGE:
                    self._send(self._relay.from_client(number, line[1:-1]))
                is_leaving = line[:1] == LEAVE
        del self._writers[number]
        self._send(self._relay.leave(number))
        return is_leaving

    def _send(self, lines: Lines) -> None:
        for to, line in lines:
            if to == SERVER:
                self.child.write(line)
            elif to in self._writers:
                self._writers[to].write(MESSAGE + line + b"\n")

    async def _answers(self) -> None:
        with suppress(ConnectionError, ValueError):  # the second: a line that no hub would take
            while line := await self.child.stdout.readline():
                try:
                    lines = self._relay.from_server(line.rstrip(b"\r\n"))
                except NotMessage:
                    self._wrote(line)
                    continue
                self._send(lines)
                for to, _ in lines:
                    if to in self._writers:
                        await _drained(self._writers[to])
        if not self.child.exited.is_set():
            self._lines.append(
                f"{_now()} closed its stdout, or wrote a line of more than {frames.MAX_LINE_BYTES} bytes"
            )
            self.is_ending = True
            await self.child.end()

    async def _errors(self) -> None:
        rest = b""
        with suppress(ConnectionError):
            while chunk := await self.child.stderr.read(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._wrote(line)
                if len(rest) > 65536:
                    self._wrote(rest)
                    rest = b""
        if rest:
            self._wrote(rest)

    def _wrote(self, line: bytes) -> None:
        """Keep a line that the child wrote and that is no answer, and tell one client."""
        text = line.decode(errors="replace").strip("\r\n")
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = text[:MAX_KEPT_LINE]
        self._lines.append(text)
        writer = next(iter(self._writers.values()), None)
        if writer is not None and writer.transport.get_write_buffer_size() < MAX_UNSENT_ERRORS:
            writer.write(WROTE + text.encode(errors="replace").replace(b"\r", b" ") + b"\n")


class Supervisor:
    """The children, and the hubs that they are kept for."""

    def __init__(self, *, linger_s: float) -> None:
        self.done = asyncio.Event()
        self._linger_s = linger_s
        self._households: set[Household] = set()
        self._shared: dict[Spec, Household] = {}
        self._lines: OrderedDict[str, deque[str]] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._hubs = 0
        self._loop = asyncio.get_running_loop()
        self._lonely = self._loop.call_later(linger_s, self._give_up)

    def reap(self) -> None:
        """Look which children have ended."""
        for household in self._households:
            household.child.reap()

    async def end(self) -> None:
        """End all children."""
        await asyncio.gather(*(household.end() for household in list(self._households)))

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            if not _is_own(writer.get_extra_info("socket")):
                return
            with suppress(ValueError, ConnectionError, TimeoutError, msgspec.DecodeError):
                async with asyncio.timeout(ASK_S):
                    ask = frames.decode_ask(await reader.readline())
                match ask:
                    case Present():
                        await self._keep_present(reader, writer)
                    case Open():
                        await self._open(ask, reader, writer)
                    case Show():
                        writer.write(frames.encode(self._shown()) + b"\n")
        finally:
            writer.close()

    async def _keep_present(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._hubs += 1
        self._lonely.cancel()
        writer.write(OPENED + b"%d\n" % os.getpid())
        try:
            line = await reader.readline()
        finally:
            self._hubs -= 1
            if not self._hubs:
                self._lonely = self._loop.call_later(self._linger_s, self._give_up)
        if line[:1] == LEAVE and not self._hubs:
            self.done.set()
            await self.end()

    async def _open(self, ask: Open, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            household = self._household(ask)
        except OSError as error:
            self._lines_of(ask.spec.name).append(f"{_now()} cannot be started: {error}")
            writer.write(ENDED + str(error).encode(errors="replace") + b"\n")
            return
        await household.ready.wait()
        if household.ended.is_set():
            writer.write(ENDED + household.child.ending.encode() + b"\n")
            return
        writer.write(OPENED + b"%d\n" % household.child.pid)
        left = await household.serve(reader, writer)
        if not household.is_empty or household.ended.is_set():
            return
        if left or not household.is_shared:
            self._forget(ask.spec, household)
            await household.end()
        else:
            household.lonely = self._loop.call_later(self._linger_s, self._abandon, ask.spec, household)

    def _household(self, ask: Open) -> Household:
        household = self._shared.get(ask.spec) if ask.is_shared else None
        if household is not None and not household.is_ending and not household.child.exited.is_set():
            if household.lonely is not None:
                household.lonely.cancel()
            return household
        lines = self._lines_of(ask.spec.name)
        household = Household(ask.spec, ask.inherited, is_shared=ask.is_shared, lines=lines)
        self._households.add(household)
        if ask.is_shared:
            self._shared[ask.spec] = household
        self._spawn(household, ask.spec)
        return household

    def _spawn(self, household: Household, spec: Spec) -> None:
        async def run() -> None:
            await household.run()
            self._households.discard(household)
            self._forget(spec, household)

        task = self._loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _forget(self, spec: Spec, household: Household) -> None:
        household.is_ending = True
        if self._shared.get(spec) is household:
            del self._shared[spec]

    def _give_up(self) -> None:
        """End, unless a hub that has not said that it is there talks to a child."""
        if all(household.is_empty for household in self._households):
            self.done.set()
        else:
            self._lonely = self._loop.call_later(self._linger_s, self._give_up)

    def _abandon(self, spec: Spec, household: Household) -> None:
        """End a child that nobody came back to."""
        if household.is_empty and not household.is_ending:
            self._forget(spec, household)
            task = self._loop.create_task(household.end())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _lines_of(self, name: str) -> deque[str]:
        lines = self._lines.setdefault(name, deque(maxlen=KEPT_LINES))
        self._lines.move_to_end(name)
        if len(self._lines) > KEPT_SERVERS:
            self._lines.popitem(last=False)
        return lines

    def _shown(self) -> dict[str, Shown]:
        running: dict[str, list[Running]] = {}
        for household in self._households:
            one = Running(pid=household.child.pid, since=household.since, is_shared=household.is_shared)
            running.setdefault(household.name, []).append(one)
        return {name: Shown(running=running.get(name, []), lines=list(lines)) for name, lines in self._lines.items()}


async def _drained(writer: asyncio.StreamWriter) -> None:
    """Wait until a client has read most of what it was sent; one that does not read is left behind."""
    try:
        async with asyncio.timeout(STALLED_S):
            await writer.drain()
    except (TimeoutError, ConnectionError):
        writer.transport.abort()


def _is_own(connected: socket.socket) -> bool:
    """Whether the other end is a process of the same user; the private directory lets nobody else near anyway."""
    if sys.platform != "linux":
        return True
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", credentials)[1] in {os.geteuid(), 0}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


async def supervise(listener: socket.socket, linger_s: float) -> None:
    """Serve until there is no hub any more."""
    supervisor = Supervisor(linger_s=linger_s)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, supervisor.reap)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.done.set)
    server = await asyncio.start_unix_server(supervisor.accept, sock=listener, limit=frames.MAX_LINE_BYTES)
    await supervisor.done.wait()
    server.close()  # first: a hub that comes now starts another supervisor
    await supervisor.end()


def main() -> None:
    """Leave the hub's side, and supervise."""
    if os.fork():
        os._exit(0)  # a grandchild: who started it need not wait for it
    listener = socket.socket(fileno=int(sys.argv[1]))
    asyncio.run(supervise(listener, float(sys.argv[2])))


if __name__ == "__main__":
    main()
