"""What the comparison with nginx does not show of MCP: many servers against one, and another proxy in Python."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.bench import upstream
from tests.bench.cases import ARGUMENTS, CASES, Case, check_tool_result, expect, mcp, mcp_headers, rpc_result
from tests.bench.loading import check, load, spread, write_request
from tests.bench.processes import ask, free_port, rss_mb, running, seconds_until_answered
from tests.bench.targets import HERE, Target, hub, write_settings

SERVERS = 100
"""Of the larger of two hubs; the other has one of them."""

HUB_YAML = """\
hub:
  database: sqlite:///{directory}/hub.db
models:
  bench: {{provider: openai, model: upstream-model, base_url: "http://127.0.0.1:{upstream}/v1", api_key: sk-upstream}}
keys:
  - name: bench
    key: {key}
    allow: ["tool:*", "model:bench"]
    limits: {{requests_per_minute: 1000000000}}
mcpServers:
"""
SERVER_YAML = '  server-{number}: {{{{url: "http://127.0.0.1:{{upstream}}/mcp/{number}"}}}}\n'

ROUNDS_OF_OTHERS, OTHERS_S, OTHERS_CONNECTIONS = 3, 5.0, 4
"""Another proxy needs a tenth of a second for a call; with more at once they would take longer than the load waits."""

FASTMCP = HERE.parents[1] / ".foreign/fastmcp/bin/python"
"""Made by `make foreign`."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Where it is measured, and how."""

    directory: Path
    load_core: int
    proxy_core: int
    upstream_port: int
    rounds: int
    seconds: float


def _found(body: bytes) -> None:
    expect(bool(json.loads(rpc_result(body)["content"][0]["text"])["found"]), True)


def _listed(servers: int) -> Case:
    def all_of_them(body: bytes) -> None:
        expect(len(rpc_result(body)["tools"]), servers * upstream.TOOLS_EACH)

    return Case(
        name="tools/list", path="/mcp", body=mcp("tools/list"), headers=mcp_headers("tools/list"), check=all_of_them
    )


def _cases(servers: int) -> list[Case]:
    called = "server-0__tool_0007"
    question = {"query": "where is record 7 and how many are left"}
    return [
        Case(
            name="tools/call",
            path="/mcp",
            body=mcp("tools/call", name=called, arguments=ARGUMENTS),
            headers=mcp_headers("tools/call", called),
            check=check_tool_result,
        ),
        Case(
            name="search_tools",
            path="/mcp",
            body=mcp("tools/call", name="search_tools", arguments=question),
            headers=mcp_headers("tools/call", "search_tools") | {"x-hubbub-mcp-mode": "search"},
            check=_found,
        ),
        _listed(servers),
    ]


def many_tools(ground: Ground) -> dict[str, Any]:
    """The CPU of calls, searches and lists with one server behind the hub and with SERVERS, in turn."""
    counts = (1, SERVERS)
    taken: dict[str, dict[int, list[float]]] = {}
    with ExitStack() as stack:
        hubs = {servers: stack.enter_context(_hub(ground, servers)) for servers in counts}
        requests = {
            (servers, case.name): write_request(ground.directory, case, f"{case.name.replace('/', '-')}-{servers}")
            for servers in counts
            for case in _cases(servers)
        }
        for number in range(ground.rounds + 1):
            for servers, target in hubs.items():
                for case in _cases(servers):
                    figures = load(ground.load_core, case, target, requests[servers, case.name], ground.seconds)
                    if number:  # the first round warms up
                        taken.setdefault(case.name, {}).setdefault(servers, []).append(figures["cpu_us"])
        memory = {servers: rss_mb(target.pid) for servers, target in hubs.items()}
    return {
        "servers": SERVERS,
        "tools": SERVERS * upstream.TOOLS_EACH,
        "memory_mb": {"one": memory[1], "many": memory[SERVERS]},
        "cases": {
            name: {
                "one": spread(by[1]),
                "many": spread(by[SERVERS]),
                "ratio": spread([many / one for one, many in zip(by[1], by[SERVERS], strict=True)]),
            }
            for name, by in taken.items()
        },
    }


@contextmanager
def _hub(ground: Ground, servers: int) -> Iterator[Target]:
    """A hub that knows the tools of so many servers."""
    directory = ground.directory / f"hub-{servers}"
    directory.mkdir()
    text = HUB_YAML + "".join(SERVER_YAML.format(number=number) for number in range(servers))
    settings = write_settings(directory, ground.upstream_port, text)
    with hub(directory, ground.proxy_core, settings) as (target, _):
        for case in _cases(servers):
            wait_until(case, target)
        yield target


def wait_until(case: Case, target: Target) -> None:
    """Wait until the target answers a case as it must; raises `Void` if it never does."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        _, body = ask(target.port, case.path, case.body, case.sent_headers())
        try:
            return case.check(body)
        except (ValueError, KeyError):
            time.sleep(0.1)
    return check(case, target)


def fastmcp(ground: Ground, nginx: Target) -> dict[str, Any] | None:
    """What a call costs FastMCP's proxy, beside nginx; None: it is not installed.

    In front of a server of TOOLS_EACH tools: it lists them anew for each call, with 500 of them for half a second.
    """
    if not FASTMCP.exists():
        return None
    called = next(case for case in CASES if case.name == "MCP tools/call")
    case = replace(
        called,
        name="fastmcp",
        body=mcp("tools/call", name="tool_0007", arguments=ARGUMENTS),
        headers=mcp_headers("tools/call", "tool_0007"),
    )
    request = write_request(ground.directory, case, case.name)
    port = free_port()
    command = [
        str(FASTMCP),
        "-I",
        str(HERE / "fastmcp_proxy.py"),
        f"http://127.0.0.1:{ground.upstream_port}/mcp/0",
        str(port),
    ]
    version = subprocess.run(
        [str(FASTMCP), "-I", "-c", "import fastmcp; print(fastmcp.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    taken: list[tuple[float, float]] = []
    with running(ground.proxy_core, command, ground.directory / "fastmcp.log") as process:
        seconds_until_answered(process, port, case.path, case.body, case.sent_headers())
        target = Target("fastmcp", port, process.pid, ground.proxy_core)
        check(case, target)
        for _ in range(ROUNDS_OF_OTHERS):
            theirs, passed = (
                load(ground.load_core, case, one, request, OTHERS_S, connections=OTHERS_CONNECTIONS)
                for one in (target, nginx)
            )
            taken.append((theirs["cpu_us"], passed["cpu_us"]))
    return {
        "version": version,
        "cpu_us": spread([theirs for theirs, _ in taken]),
        "ratio": spread([theirs / nginx_us for theirs, nginx_us in taken]),
    }
