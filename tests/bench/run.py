"""One run of the benchmark: the hub and nginx on one core, the upstream and the load on the other, round after round."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.cases import CASES, HUB_YAML, KEY, MANY, MANY_BUDGET_MB, MANY_STREAMS, MEMORY_BUDGET_MB, Case
from tests.bench.processes import (
    Void,
    ask,
    core_us,
    cpu_us,
    free_port,
    only_child,
    rss_mb,
    running,
    seconds_until_answered,
)

HERE = Path(__file__).parent
CONNECTIONS = 16
SETTLE_S = 0.7
"""The hub writes usage twice a second: what a measurement left behind is counted with it, not with the next."""
WARM_UP_S = 1.0


@dataclass(frozen=True, slots=True)
class Target:
    """Somebody who answers the cases."""

    name: str
    port: int
    pid: int
    core: int


def measure(directory: Path, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Run everything and report; `directory` is empty and ours.

    Raises:
        Void: something was answered wrongly, or could not be started.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Void("two cores are needed: one for the proxies, one for load and upstream")
    load_core, proxy_core = cores[:2]
    os.sched_setaffinity(0, {load_core})
    nginx_command = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if not nginx_command or not shutil.which("wrk"):
        raise Void("nginx and wrk are needed: apt-get install nginx-light wrk")
    report: dict[str, Any] = {"about": about(rounds, seconds, nginx_command)}
    with upstream(directory, load_core) as mock, nginx(directory, proxy_core, nginx_command, mock.port) as proxy:
        settings = write_settings(directory, mock.port)
        with hub(directory, proxy_core, settings) as (_, first_start_s):
            pass
        with hub(directory, proxy_core, settings) as (served, start_s):
            report["start_s"] = {"first": first_start_s, "again": start_s}
            report |= compare(directory, load_core, [mock, proxy, served], rounds=rounds, seconds=seconds)
        report["usage_rows"] = count_usage(directory)
    expected = MANY + sum(report["cases"][case.name]["hub"]["answered"] for case in CASES if recorded(case))
    if report["usage_rows"] < expected:
        raise Void(f"{expected} calls went through the hub but only {report['usage_rows']} were recorded")
    return report


def recorded(case: Case) -> bool:
    """Whether each request of the case is a call, which leaves a usage row."""
    return case.status == 200 and "list" not in case.name


def about(rounds: int, seconds: float, nginx_command: str) -> dict[str, Any]:
    """Where and with what this was measured."""
    cpus = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
    )
    nginx_version = subprocess.run([nginx_command, "-v"], capture_output=True, text=True, check=False).stderr
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git.stdout.strip(),
        "cpu": cpus[0].split(":", 1)[1].strip() if cpus else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "nginx": nginx_version.strip().rsplit("/", 1)[-1],
        "rounds": rounds,
        "seconds": seconds,
        "connections": CONNECTIONS,
    }


@contextmanager
def upstream(directory: Path, core: int) -> Iterator[Target]:
    """The mock upstream on a free port."""
    command = [sys.executable, "-m", "tests.bench.upstream"]
    with running(core, command, directory / "upstream.log", subprocess.PIPE) as process:
        assert process.stdout is not None
        yield Target("upstream", int(process.stdout.readline() or 0), process.pid, core)
        process.stdout.close()


@contextmanager
def nginx(directory: Path, core: int, command: str, upstream_port: int) -> Iterator[Target]:
    """nginx in front of the upstream; its pid is the worker's."""
    port = free_port()
    text = (HERE / "nginx.conf").read_text()
    for name, value in (("DIR", directory), ("UPSTREAM", upstream_port), ("LISTEN", port)):
        text = text.replace(f"@{name}@", str(value))
    path = directory / "nginx.conf"
    path.write_text(text)
    with running(core, [command, "-c", str(path), "-e", "stderr"], directory / "nginx.log") as process:
        first = CASES[0]
        seconds_until_answered(process, port, first.path, first.body, first.sent_headers())
        yield Target("nginx", port, only_child(process.pid), core)


def write_settings(directory: Path, upstream_port: int) -> tuple[Path, int]:
    """The hub's file, and the port it will listen on."""
    port = free_port()
    path = directory / "hub.yaml"
    path.write_text(HUB_YAML.format(directory=directory, port=port, upstream=upstream_port, key=KEY))
    return path, port


@contextmanager
def hub(directory: Path, core: int, settings: tuple[Path, int]) -> Iterator[tuple[Target, float]]:
    """A hub, and how many seconds it took until it had answered a chat."""
    path, port = settings
    command = [str(Path(sys.executable).with_name("hubbub")), "serve", "--config", str(path), "--port", str(port)]
    log = directory / "hub.log"
    with running(core, command, log) as process:
        first = CASES[0]
        try:
            start_s = seconds_until_answered(process, port, first.path, first.body, first.sent_headers())
            yield Target("hub", port, process.pid, core), start_s
        except Void as reason:
            raise Void(f"{reason}\nThe log of the hub ends with:\n{log.read_text()[-2000:]}") from None


def compare(directory: Path, core: int, targets: list[Target], *, rounds: int, seconds: float) -> dict[str, Any]:
    """Load every target with every case, in turn, and put the figures side by side."""
    served = targets[-1]
    wait_for_tools(served)
    for case in CASES:
        for target in targets:
            check(case, target)
    idle_mb = rss_mb(served.pid)
    requests = {case.name: write_request(directory, case, number) for number, case in enumerate(CASES)}
    taken: dict[str, dict[str, list[dict[str, float]]]] = {}
    for number in range(rounds + 1):
        for case in CASES:
            for target in targets:
                took = WARM_UP_S if number == 0 or target.name == "upstream" else seconds
                figures = load(core, case, target, requests[case.name], took)
                taken.setdefault(case.name, {}).setdefault(target.name, []).append(figures)
        print(f"round {number} of {rounds}" if number else "warmed up", file=sys.stderr, flush=True)
    loaded_mb = rss_mb(served.pid)
    many = many_streams(directory, core, served)
    for case in CASES:
        for target in targets:
            check(case, target)
    return {
        "memory_mb": {"idle": idle_mb, "after": loaded_mb, "budget": MEMORY_BUDGET_MB},
        "many_streams": many,
        "cases": {case.name: summed_up(case, taken[case.name]) for case in CASES},
    }


def many_streams(directory: Path, core: int, served: Target) -> dict[str, Any]:
    """Open a thousand streams, read them all to their end, and say how much memory the hub had meanwhile at most."""
    check(MANY_STREAMS, served)
    request = write_request(directory, MANY_STREAMS, len(CASES))
    command = load_command(MANY_STREAMS, served, request, seconds=0, connections=MANY)
    peak_mb = rss_mb(served.pid)
    with (directory / "many").open("w+") as output:
        process = subprocess.Popen(["taskset", "-c", str(core), *command], stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak_mb = max(peak_mb, rss_mb(served.pid))
            time.sleep(0.05)
        output.seek(0)
        told = output.read()
    if process.returncode:
        raise Void(f"{MANY_STREAMS.name}: the load failed: {told[-2000:]}")
    figures = json.loads(told)
    if figures["broken"] or figures["requests"] != MANY or figures["open_at_once"] != MANY:
        raise Void(
            f"{MANY_STREAMS.name}: {figures['open_at_once']} were open at once, {figures['requests']} came whole, "
            f"{figures['broken']} broke"
        )
    return {"streams": MANY, "peak_mb": peak_mb, "budget": MANY_BUDGET_MB, "seconds": figures["seconds"]}


def wait_for_tools(served: Target) -> None:
    """Wait until the hub knows the tools of its server."""
    case = next(case for case in CASES if "list" in case.name)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        _, body = ask(served.port, case.path, case.body, case.sent_headers())
        try:
            return case.check(body)
        except (ValueError, KeyError):
            time.sleep(0.1)
    return None


def check(case: Case, target: Target) -> None:
    """Compare one whole answer with what it must be."""
    status, body = ask(target.port, case.path, case.body, case.sent_headers())
    if status != case.status:
        raise Void(f"{case.name}: {target.name} answered {status} {body[:300]!r}")
    right = case.check_translated if case.check_translated and target.name == "hub" else case.check
    try:
        right(body)
    except (ValueError, KeyError, IndexError, TypeError) as problem:
        raise Void(f"{case.name}: {target.name} answered wrongly: {problem!r}") from problem


def write_request(directory: Path, case: Case, number: int) -> Path:
    """The case as a file: for wrk headers and body, for a stream the raw request."""
    headers = dict(case.sent_headers())
    first = ""
    if case.words:
        first = f"POST {case.path} HTTP/1.1\r\n"
        headers |= {"Host": "127.0.0.1", "Content-Length": str(len(case.body))}
    newline = "\r\n" if case.words else "\n"
    head = first + "".join(f"{name}: {value}{newline}" for name, value in headers.items()) + newline
    path = directory / f"request-{number}"
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


def load(core: int, case: Case, target: Target, request: Path, seconds: float) -> dict[str, float]:
    """Load one target with one case and say what it cost."""
    command = load_command(case, target, request, seconds=seconds, connections=CONNECTIONS)
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


def summed_up(case: Case, taken: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians over the rounds, the warm-up left out, and the ratios of each round."""
    summary: dict[str, Any] = {"budget": case.budget}
    for target, rounds in taken.items():
        measured = rounds[1:] or rounds
        figures = {
            name: median([one[name] for one in measured]) for name in ("busy", "foreign", "rps", "p50_ms", "p99_ms")
        }
        figures["cpu_us"] = spread([one["cpu_us"] for one in measured])
        figures["answered"] = sum(one["requests"] for one in rounds)
        summary[target] = figures
    pairs = zip(taken["hub"][1:], taken["nginx"][1:], strict=True)
    summary["ratio"] = spread([ours["cpu_us"] / theirs["cpu_us"] for ours, theirs in pairs])
    summary["ok"] = summary["ratio"]["median"] <= case.budget
    return summary


def spread(values: list[float]) -> dict[str, Any]:
    """All values with their median and extremes."""
    return {"median": median(values), "min": min(values), "max": max(values), "all": values}


def count_usage(directory: Path) -> int:
    """How many calls the hub has on record."""
    database = sqlite3.connect(directory / "hub.db")
    try:
        return int(database.execute("SELECT count(*) FROM usage").fetchone()[0])
    finally:
        database.close()
