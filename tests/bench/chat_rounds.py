"""What a round of the tool loop costs the hub: chats that call a tool of an MCP server again and again."""

from __future__ import annotations

import json
from typing import Any

from tests.bench import upstream
from tests.bench.bridge import Ground, wait_until
from tests.bench.cases import CALLED, CHAT_BODY, Case, expect
from tests.bench.loading import check, load, spread, write_request
from tests.bench.targets import hub, write_settings

BUDGET_US = 2000
"""Of CPU for a round: one call of the model and one of a tool."""

SOURCE = {
    "type": "mcp",
    "server_label": "bench",
    "server_url": "hub/mcp/bench",
    "require_approval": "never",
    "allowed_tools": [CALLED.partition("__")[2]],
}


def _answered(body: bytes) -> None:
    found = json.loads(body)
    expect([call["tool"] for call in found["hub"]["tool_calls"]], ["tool_007"] * upstream.TOOL_ROUNDS)
    expect(found["choices"][0]["message"]["content"], upstream.TEXT)


def _streamed(body: bytes) -> None:
    chunks = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
    calls = [call["tool"] for chunk in chunks for call in chunk.get("hub", {}).get("tool_calls", ())]
    expect(calls, ["tool_007"] * upstream.TOOL_ROUNDS)
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    expect(text, "".join(f"word{n} " for n in range(upstream.EVENTS)))


CASES = (
    Case(
        name="whole",
        path="/v1/chat/completions",
        body=upstream.encode(CHAT_BODY | {"tools": [SOURCE]}),
        check=_answered,
    ),
    Case(
        name="streamed",
        path="/v1/chat/completions",
        body=upstream.encode(CHAT_BODY | {"tools": [SOURCE], "stream": True}),
        words=upstream.EVENTS,
        check=_streamed,
    ),
)


def measure(ground: Ground) -> dict[str, Any]:
    """The CPU of a round, of whole and of streamed chats."""
    directory = ground.directory / "rounds"
    directory.mkdir()
    taken: dict[str, list[float]] = {case.name: [] for case in CASES}
    with hub(directory, ground.proxy_core, write_settings(directory, ground.upstream_port)) as (target, _):
        for case in CASES:
            wait_until(case, target)
        requests = {case.name: write_request(ground.directory, case, f"rounds-{case.name}") for case in CASES}
        for number in range(ground.rounds + 1):
            for case in CASES:
                figures = load(ground.load_core, case, target, requests[case.name], ground.seconds)
                if number:  # the first warms up
                    taken[case.name].append(figures["cpu_us"] / (upstream.TOOL_ROUNDS + 1))
        for case in CASES:
            check(case, target)
    return {"budget_us": BUDGET_US, "cases": {name: spread(each) for name, each in taken.items()}}
