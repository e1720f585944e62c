"""One run of the benchmark: the hub and nginx on one core, the upstream and the load on the other, round after round."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import bridge, bridged, chat_rounds, gate, obeyed
from tests.bench.cases import CASES, EVERYTHING_YAML, MANY, MANY_STREAMS, MEMORY_BUDGET_MB, Case
from tests.bench.loading import CONNECTIONS, check, load, session, spread, write_request
from tests.bench.many import many_streams
from tests.bench.processes import Void, rss_mb
from tests.bench.targets import HERE, Target, hub, nginx, upstream, write_settings

WARM_UP_S = 1.0
NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")


def measure(directory: Path, *, rounds: int, seconds: float, only: str = "") -> dict[str, Any]:
    """Run everything and report; `directory` is empty and ours. `only` leaves out whatever has not this word in its name.

    Raises:
        Void: something was answered wrongly, or could not be started.
    """
    report: dict[str, Any] = {"about": about(rounds, seconds)}
    if only != "gate":
        report |= measure_served(directory, rounds=rounds, seconds=seconds, only=only)
    if only in "gate":
        report["gate"] = gate.measure(directory, rounds)
    return report


def measure_served(directory: Path, *, rounds: int, seconds: float, only: str) -> dict[str, Any]:
    """All that is asked of processes; raises as `measure`."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Void("two cores are needed: one for the proxies, one for load and upstream")
    load_core, proxy_core = cores[:2]
    os.sched_setaffinity(0, {load_core})
    if not NGINX or not shutil.which("wrk"):
        raise Void("nginx and wrk are needed: apt-get install nginx-light wrk")
    report: dict[str, Any] = {}
    cases = [case for case in CASES if only in case.name]
    with upstream(directory, load_core) as mock, nginx(directory, proxy_core, NGINX, mock.port) as proxy:
        ground = bridge.Ground(directory, load_core, proxy_core, mock.port, rounds, seconds)
        if cases:
            report |= compare_all(ground, mock, proxy, cases)
        if not only:
            report["many_tools"] = bridge.many_tools(ground)
            report["chat_rounds"] = chat_rounds.measure(ground)
            report["fastmcp"] = bridge.fastmcp(ground, proxy)
        if only in "bridged":
            report["bridged"] = bridged.measure(ground)
        if only in "obeyed":
            report["obeyed"] = obeyed.measure(directory, (load_core, proxy_core), mock.port)
    return report


def compare_all(ground: bridge.Ground, mock: Target, proxy: Target, cases: list[Case]) -> dict[str, Any]:
    """Start the hubs, and compare each with nginx in the cases that are sent to it."""
    directory, core, everything = ground.directory, ground.proxy_core, ground.directory / "everything"
    everything.mkdir()
    settings = write_settings(directory, mock.port)
    further = write_settings(everything, mock.port, EVERYTHING_YAML)
    with hub(directory, core, settings) as (_, first_start_s):
        pass
    with hub(directory, core, settings) as (served, start_s), hub(everything, core, further) as (guarded, _):
        report = {"start_s": {"first": first_start_s, "again": start_s}}
        report |= compare(ground, [mock, proxy], {False: served, True: guarded}, cases)
    for has_everything, place in ((False, directory), (True, everything)):
        rows = count_usage(place)
        asked = [case.name for case in cases if recorded(case) and case.has_everything is has_everything]
        expected = sum(report["cases"][name]["hub"]["answered"] for name in asked)
        expected += MANY if "many_streams" in report and not has_everything else 0
        if rows < expected:
            raise Void(f"{expected} calls went through the hub but only {rows} were recorded")
    return report


def recorded(case: Case) -> bool:
    """Whether each request of the case is a call, which leaves a usage row."""
    return case.status == 200 and "list" not in case.name


def about(rounds: int, seconds: float) -> dict[str, Any]:
    """Where and with what this was measured."""
    cpus = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
    )
    nginx_version = subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=False).stderr if NGINX else ""
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


def compare(ground: bridge.Ground, others: list[Target], hubs: dict[bool, Target], cases: list[Case]) -> dict[str, Any]:
    """Load every target with every case, in turn, and put the figures side by side."""
    directory, core, served = ground.directory, ground.load_core, hubs[False]
    listing = next(case for case in CASES if "list" in case.name)
    for target in hubs.values():
        bridge.wait_until(listing, target)
    asked = [(case, target) for case in cases for target in (*others, hubs[case.has_everything])]
    idle_mb = rss_mb(served.pid)
    for case, target in asked:
        check(case, target)
    touched_mb = rss_mb(served.pid)
    requests = {
        (case.name, target.name): write_request(directory, case, f"{number}-{target.name}", session(case, target))
        for number, (case, target) in enumerate(asked)
    }
    taken: dict[str, dict[str, list[dict[str, float]]]] = {}
    for number in range(ground.rounds + 1):
        for case, target in asked:
            took = WARM_UP_S if number == 0 or target.name == "upstream" else ground.seconds
            figures = load(core, case, target, requests[case.name, target.name], took)
            taken.setdefault(case.name, {}).setdefault(target.name, []).append(figures)
        print(f"round {number} of {ground.rounds}" if number else "warmed up", file=sys.stderr, flush=True)
    loaded_mb = rss_mb(served.pid)
    whole = {} if len(cases) < len(CASES) else {"many_streams": many_streams(directory, core, served, MANY_STREAMS)}
    for case, target in asked:
        check(case, target)
    return whole | {
        "memory_mb": {"idle": idle_mb, "touched": touched_mb, "after": loaded_mb, "budget": MEMORY_BUDGET_MB},
        "cases": {case.name: summed_up(case, taken[case.name]) for case in cases},
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


def count_usage(directory: Path) -> int:
    """How many calls the hub has on record."""
    database = sqlite3.connect(directory / "hub.db")
    try:
        return int(database.execute("SELECT count(*) FROM usage").fetchone()[0])
    finally:
        database.close()
