"""Turns bench.json into the table of docs/benchmarks.md: `python -m tests.bench.tables bench.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HEAD = """\
| case | hub µs/request | nginx µs/request | ratio (min-max) | budget | | hub req/s | p50 ms | p99 ms | nginx req/s |
|---|---:|---:|---:|---:|---|---:|---:|---:|---:|"""


def markdown(report: dict[str, Any]) -> str:
    """The whole report: one row a case, then memory, start and where it was measured; only what is in it."""
    rows = [HEAD, *(row(name, case) for name, case in report["cases"].items()), ""] if "cases" in report else []
    rows += memory(report) if "many_streams" in report else []
    about = report["about"]
    rows += [
        f"{about['rounds']} rounds of {about['seconds']:g} s, {about['connections']} connections, {about['cpu']}, "
        f"Linux {about['kernel']}, Python {about['python']}, nginx {about['nginx']}, "
        f"commit {about['commit']}, {about['at'][:10]}.",
    ]
    rows += gate(report["gate"]) if "gate" in report else []
    rows += many_tools(report) + chat_rounds(report) + fastmcp(report) if "many_tools" in report else []
    rows += bridged(report["bridged"]) if "bridged" in report else []
    rows += obeyed(report["obeyed"]) if "obeyed" in report else []
    rows += disturbed(report) + slow_upstream(report) if "cases" in report else []
    return "\n".join(rows)


def memory(report: dict[str, Any]) -> list[str]:
    """What the hub takes of memory, and how long it takes to start."""
    used, many, start = report["memory_mb"], report["many_streams"], report["start_s"]
    return [
        f"Memory of the hub: {used['idle']:.0f} MB idle (at most {used['budget']}: "
        f"{verdict(used['idle'] <= used['budget'])}), {used['touched']:.0f} MB after one request of each kind, {used['after']:.0f} MB after the load, "
        f"{many['peak_mb']:.0f} MB with {many['streams']:,} A2A streams at once (at most {many['budget']}: "
        f"{verdict(many['peak_mb'] < many['budget'])}). "
        f"From start to the first answered chat: {start['again']:.2f} s, {start['first']:.2f} s with a new database.",
        "",
    ]


def gate(found: dict[str, Any]) -> list[str]:
    """What the gate takes by itself."""
    at, most = str(found["budget_at"]), found["budget_us"]
    first = next(iter(found["variants"].values()))
    rows = [
        "",
        f"| the gate alone, µs CPU a call | {' | '.join(f'{count} under way' for count in first['cpu_us'])} | budget | |",
        f"|---|{'---:|' * len(first['cpu_us'])}---:|---|",
    ]
    for name, variant in found["variants"].items():
        costs = " | ".join(
            f"{cpu['median']:.0f} ({cpu['min']:.0f}-{cpu['max']:.0f})" for cpu in variant["cpu_us"].values()
        )
        held = f"{most} at {at} | {verdict(variant['cpu_us'][at]['median'] <= most)}" if variant["has_budget"] else "|"
        rows.append(f"| {name} | {costs} | {held} |")
    return [*rows, "", parts(list(found["variants"].values()), at)]


def parts(variants: list[dict[str, Any]], at: str) -> str:
    """What each part of the gate adds to what is there without it."""
    key, limits, rules, everything, many, text = (one["cpu_us"][at]["median"] for one in variants)
    return (
        f"By parts, at {at} under way: key, grant and usage record {key:.0f} µs, limits and budget {limits - key:.0f}, rules {rules - limits:.0f}, "
        f"guards {everything - rules:.0f}, those over twice 4 KiB of text {text - rules:.0f}. "
        f"With all keys, teams and grants {many / everything:.2f} times as much as with one of each."
    )


def many_tools(report: dict[str, Any]) -> list[str]:
    """What the number of servers and tools costs."""
    found = report["many_tools"]
    memory = found["memory_mb"]
    return [
        "",
        f"| MCP with {found['tools']:,} tools of {found['servers']} servers | µs/request with one server | with all | "
        "ratio (min-max) |",
        "|---|---:|---:|---:|",
        *(
            f"| {name} | {by['one']['median']:,.0f} | {by['many']['median']:,.0f} "
            f"| {by['ratio']['median']:.2f} ({by['ratio']['min']:.2f}-{by['ratio']['max']:.2f}) |"
            for name, by in found["cases"].items()
        ),
        "",
        f"`tools/list` grows with what it lists, {found['servers']} times as much. "
        f"Memory after the load: {memory['one']:.0f} MB with one server, {memory['many']:.0f} MB with all.",
    ]


def chat_rounds(report: dict[str, Any]) -> list[str]:
    """What the tool loop costs."""
    found = report["chat_rounds"]
    cases = ", ".join(
        f"{name} {cpu['median']:,.0f} µs ({cpu['min']:,.0f}-{cpu['max']:,.0f})" for name, cpu in found["cases"].items()
    )
    holds = all(cpu["median"] <= found["budget_us"] for cpu in found["cases"].values())
    return [
        "",
        f"A round of a chat that calls tools, that is one call of the model and one of an MCP tool: {cases} "
        f"(at most {found['budget_us']:,}: {verdict(holds)}).",
    ]


def bridged(found: dict[str, Any]) -> list[str]:
    """What streams of agents on other platforms take of memory."""
    most = max(found["peak_mb"].values())
    return [
        "",
        f"Memory of a hub with {found['streams']} bridged streams at once, each of 256 KiB, of {', '.join(found['peak_mb'])} "
        f"in turn: {most:.0f} MB (at most {found['budget']}: {verdict(most < found['budget'])}).",
    ]


def obeyed(found: dict[str, Any]) -> list[str]:
    """How soon one process obeys another."""
    kinds = ", ".join(f"{kind} {took['max']:,.0f} ms ({took['median']:,.0f})" for kind, took in found["ms"].items())
    holds = all(took["max"] <= found["budget_ms"] for took in found["ms"].values())
    return [
        "",
        f"From a change in one process of the hub to the first request that another obeys it by, both under load, the longest "
        f"of {found['changes']} (median): {kinds} (at most {found['budget_ms']:,}: {verdict(holds)}). "
        "In the process where it was made, the next request obeys.",
    ]


def fastmcp(report: dict[str, Any]) -> list[str]:
    """The other proxy in Python."""
    found = report["fastmcp"]
    if found is None:
        return ["", "FastMCP's proxy was not there to be compared with (`make foreign`)."]
    cpu, ratio = found["cpu_us"], found["ratio"]
    return [
        "",
        f"The same `tools/call` through the proxy of FastMCP {found['version']}, in front of a server with 50 tools: "
        f"{cpu['median']:,.0f} µs, "
        f"{ratio['median']:.0f} ({ratio['min']:.0f}-{ratio['max']:.0f}) times nginx.",
    ]


def row(name: str, case: dict[str, Any]) -> str:
    """One case."""
    hub, nginx, ratio = case["hub"], case["nginx"], case["ratio"]
    return (
        f"| {name} | {hub['cpu_us']['median']:,.0f} | {nginx['cpu_us']['median']:,.0f} "
        f"| {ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f}) | {case['budget']:g} | {verdict(case['ok'])} "
        f"| {hub['rps']:,.0f} | {hub['p50_ms']:.2f} | {hub['p99_ms']:.2f} | {nginx['rps']:,.0f} |"
    )


def verdict(holds: bool) -> str:
    """What stands beside a budget."""
    return "ok" if holds else "over"


def disturbed(report: dict[str, Any]) -> list[str]:
    """A warning when others worked on the proxies' core: they empty its caches, which costs the hub more than nginx."""
    foreign = max(case[target]["foreign"] for case in report["cases"].values() for target in ("nginx", "hub"))
    return ["", f"Other processes took up to {foreign:.0%} of the core: not for comparison."] if foreign > 0.1 else []


def slow_upstream(report: dict[str, Any]) -> list[str]:
    """A warning for each case in which nginx waited for the upstream: its batches were smaller than under full load."""
    waited = [
        f"{name} ({case['nginx']['busy']:.0%} busy; upstream alone {case['upstream']['rps']:,.0f} req/s)"
        for name, case in report["cases"].items()
        if case["nginx"]["busy"] < 0.9 and "stream" not in name
    ]
    return (
        ["", f"nginx was not at its limit, because upstream and load were, in: {'; '.join(waited)}."] if waited else []
    )


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text())))
