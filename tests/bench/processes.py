"""The processes of a run: started on their core, read from /proc, stopped."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import IO

TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")


class Void(Exception):
    """The run proves nothing; the text says why."""


def free_port() -> int:
    """A port nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_us(pid: int) -> float:
    """CPU time that the process has used up to now with all its threads, user and system, in microseconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK_US


def core_us(core: int) -> float:
    """CPU time that the core has spent on anything up to now, in microseconds."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in line.split()[1:9])
            return (user + nice + system + irq + softirq + steal) * TICK_US
    raise Void(f"core {core} is not in /proc/stat")


def rss_mb(pid: int) -> float:
    """Resident memory of the process in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise Void(f"process {pid} has no memory: it has ended")


def only_child(pid: int) -> int:
    """The one child of a process."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


@contextmanager
def running(
    core: int, command: list[str], log: Path, stdout: int | IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with all its threads on one core, told to end (SIGTERM) when the block is left."""
    with log.open("ab") as errors:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command], stdout=errors if stdout is None else stdout, stderr=errors
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def post(port: int, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, Message]:
    """One POST: the status, the whole body and the answer's headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read(), response.headers
    finally:
        connection.close()


def ask(port: int, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """One POST: the status and the whole body."""
    return post(port, path, body, headers)[:2]


def seconds_until_answered(
    process: subprocess.Popen[bytes], port: int, path: str, body: bytes, headers: dict[str, str]
) -> float:
    """How long it took from now until the process answered the request with 200; asks every 5 ms."""
    began = time.perf_counter()
    last = "no answer"
    while time.perf_counter() - began < 60:
        try:
            status, answer = ask(port, path, body, headers)
            if status == 200:
                return time.perf_counter() - began
            last = f"{status} {answer[:200]!r}"
        except OSError:
            pass
        if process.poll() is not None:
            raise Void(f"it ended with {process.returncode} before it answered")
        time.sleep(0.005)
    raise Void(f"not ready within 60 s: {last}")
