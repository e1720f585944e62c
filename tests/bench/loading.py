"""One measurement: a target is loaded with a case, and what that cost it is read."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.cases import INITIALIZE, INITIALIZED, Case
from tests.bench.processes import Void, ask, core_us, cpu_us, post
from tests.bench.targets import HERE, Target

CONNECTIONS = 16
SETTLE_S = 0.7
"""The hub writes usage twice a second: what a measurement left behind is counted with it, not with the next."""


def session(case: Case, target: Target) -> dict[str, str]:
    """The headers of a new session, where the case has sessions and the target too."""
    if not case.opens_session:
        return {}
    _, _, answered = post(target.port, case.path, INITIALIZE, case.sent_headers())
    if answered["mcp-session-id"] is None:
        return {}
    headers = {"Mcp-Session-Id": answered["mcp-session-id"]}
    post(target.port, case.path, INITIALIZED, case.sent_headers() | headers)
    return headers


def check(case: Case, target: Target) -> None:
    """Compare one whole answer with what it must be."""
    status, body = ask(target.port, case.path, case.body, case.sent_headers() | session(case, target))
    if status != case.status:
        raise Void(f"{case.name}: {target.name} answered {status} {body[:300]!r}")
    right = case.check_translated if case.check_translated and target.name == "hub" else case.check
    try:
        right(body)
    except (ValueError, KeyError, IndexError, TypeError) as problem:
        raise Void(f"{case.name}: {target.name} answered wrongly: {problem!r}") from problem


def write_request(directory: Path, case: Case, name: str, more: Mapping[str, str] | None = None) -> Path:
    """The case as a file, with headers of the target: for wrk headers and body, for a stream the raw request."""
    headers = {**case.sent_headers(), **(more or {})}
    first = ""
    if case.words:
        first = f"POST {case.path} HTTP/1.1\r\n"
        headers |= {"Host": "127.0.0.1", "Content-Length": str(len(case.body))}
    newline = "\r\n" if case.words else "\n"
    head = first + "".join(f"{name}: {value}{newline}" for name, value in headers.items()) + newline
    path = directory / f"request-{name}"
    path.write_bytes(head.encode() + case.body)
    return path


def load_command(case: Case, target: Target, request: Path, *, seconds: float, connections: int) -> list[str]:
    """The command that loads a target with a case and prints what came back."""
    if case.words:
        numbers = (connections, seconds, case.words)
        return [sys.executable, "-m", "tests.bench.streams", str(target.port), str(request), *map(str, numbers)]
    url = f"http://127.0.0.1:{target.port}{case.path}"
    options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}", "-s", str(HERE / "load.lua")]
    return ["wrk", *options, url, "--", str(request)]


def load(
    core: int, case: Case, target: Target, request: Path, seconds: float, *, connections: int = CONNECTIONS
) -> dict[str, float]:
    """Load one target with one case and say what it cost."""
    command = load_command(case, target, request, seconds=seconds, connections=connections)
    began, core_before, cpu_before = time.perf_counter(), core_us(target.core), cpu_us(target.pid)
    output = subprocess.run(["taskset", "-c", str(core), *command], capture_output=True, text=True, check=False)
    if target.name == "hub":
        time.sleep(SETTLE_S)
    cpu = cpu_us(target.pid) - cpu_before
    foreign = core_us(target.core) - core_before - cpu
    took_us = (time.perf_counter() - began) * 1e6
    if output.returncode:
        raise Void(f"{case.name}: the load failed: {output.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(output.stdout.strip().splitlines()[-1])
    requests = figures["requests"]
    wrong = figures["refused"] if case.status < 400 else requests - figures["refused"]
    if wrong or figures["broken"] or not requests:
        raise Void(
            f"{case.name}: {target.name}: of {requests} answers {wrong} had the wrong status, {figures['broken']} broke"
        )
    return {
        "cpu_us": cpu / requests,
        "busy": cpu / 1e6 / figures["seconds"],
        "foreign": max(0.0, foreign / took_us),
        "rps": requests / figures["seconds"],
        "p50_ms": figures["p50_ms"],
        "p99_ms": figures["p99_ms"],
        "requests": requests,
    }


def spread(values: list[float]) -> dict[str, Any]:
    """All values with their median and extremes."""
    return {"median": median(values), "min": min(values), "max": max(values), "all": values}
