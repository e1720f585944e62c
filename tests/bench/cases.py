"""The cases: what is sent, what must come back, and what it may cost. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.bench import upstream

KEY = "sk-bench-00000000000000000000000000000"
RPC_ID = "call-1"
MCP_VERSION = "2026-07-28"

HUB_YAML = """\
hub:
  database: sqlite:///{directory}/hub.db
  public_url: http://127.0.0.1:{port}
models:
  bench: {{provider: openai, model: upstream-model, base_url: "http://127.0.0.1:{upstream}/v1", api_key: sk-upstream}}
mcpServers:
  bench: {{url: "http://127.0.0.1:{upstream}/mcp"}}
agents:
  bench: {{url: "http://127.0.0.1:{upstream}/a2a/bench"}}
  slow: {{url: "http://127.0.0.1:{upstream}/a2a/slow"}}
keys:
  - name: bench
    key: {key}
    allow: ["tool:bench__*", "agent:bench", "agent:slow", "model:bench"]
    limits: {{requests_per_minute: 1000000000}}
"""
"""What the hub runs with: its defaults, a key with narrow grants, a limit that is counted and never reached."""


EVERYTHING_YAML = """\
hub:
  database: sqlite:///{directory}/hub.db
models:
  bench:
    provider: openai
    model: upstream-model
    base_url: "http://127.0.0.1:{upstream}/v1"
    api_key: sk-upstream
    price: {{input: 1, output: 2}}
    limits: {{tokens_per_day: 1000000000000, concurrent_calls: 100000}}
mcpServers:
  bench: {{url: "http://127.0.0.1:{upstream}/mcp", price: {{call: 0.001}}, limits: {{calls_per_day: 1000000000}}}}
agents:
  bench: {{url: "http://127.0.0.1:{upstream}/a2a/bench", price: {{call: 0.001}}, limits: {{calls_per_day: 1000000000}}}}
policy:
  - {{name: others, effect: deny, entries: ["agent:other", "tool:other__*"]}}
  - {{name: owners, effect: deny, when: "has(arguments.owner) && arguments.owner != 'acme'"}}
guards:
  secrets: {{type: secrets, action: redact}}
  pii: {{type: pii, action: redact}}
keys:
  - name: bench
    key: {key}
    allow: ["tool:bench__*", "agent:bench", "model:bench"]
    limits: {{requests_per_minute: 1000000000, calls_per_day: 1000000000, tokens_per_day: 1000000000000}}
    budget: {{usd: 1000000, per: month}}
"""
"""Limits, a budget, rules and guards too: all are asked about each call, and none is against it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request, sent alike to the hub, to nginx and to the upstream."""

    name: str
    path: str
    body: bytes
    check: Callable[[bytes], None]
    """Raises when a body is not what it must be."""
    budget: float = 0
    """The hub's CPU a request, at most, in multiples of nginx's."""
    key: str = KEY
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    opens_session: bool = False
    """The request belongs to a session, which has to be opened first where there are any."""
    has_everything: bool = False
    """Sent to a hub with limits, a budget, rules and guards."""
    words: int = 0
    """The pieces of a streamed answer that say `word`; 0: it is not streamed."""
    check_translated: Callable[[bytes], None] | None = None
    """The same of the hub's own answers, where it says otherwise what the others pass on."""

    def sent_headers(self) -> dict[str, str]:
        """All headers but those that every HTTP client writes itself."""
        return {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Authorization": f"Bearer {self.key}",
            **self.headers,
        }


def expect(found: Any, wanted: Any) -> None:
    """Raise unless both are the same."""
    if found != wanted:
        raise ValueError(f"expected {str(wanted)[:300]} but got {str(found)[:300]}")


def check_chat(body: bytes) -> None:
    """The model may be called by either of its names, and the hub may say what it cost; everything else is the upstream's."""
    found = json.loads(body)
    found.pop("hub", None)
    expect(found | {"model": None}, upstream.CHAT | {"model": None})


def check_stream(body: bytes) -> None:
    """All events in order, nothing beside them but the end and perhaps the usage."""
    events = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
    expect(events[-1], b"[DONE]")
    deltas = [choice["delta"] for event in events[:-1] for choice in json.loads(event)["choices"]]
    expect("".join(delta["content"] for delta in deltas), "".join(f"word{n} " for n in range(upstream.EVENTS)))


def rpc_result(body: bytes) -> Any:
    """The result of a JSON-RPC answer to our id."""
    found = json.loads(body)
    expect(found.get("id"), RPC_ID)
    if "result" not in found:
        raise ValueError(f"no result but {body[:300]!r}")
    return found["result"]


def check_task(body: bytes) -> None:
    """A completed task with the upstream's text."""
    task = rpc_result(body)["task"]
    expect(task["status"]["state"], "TASK_STATE_COMPLETED")
    expect(task["artifacts"][0]["parts"], [{"text": upstream.TASK_TEXT}])


def read_events(body: bytes) -> list[Any]:
    """The results of a stream of JSON-RPC answers."""
    return [rpc_result(line[6:]) for line in body.splitlines() if line.startswith(b"data: ")]


def check_task_stream(body: bytes) -> None:
    """A2A 1.0: the task, that it is worked on, its artifact in pieces, and that it is completed."""
    task, working, *chunks, completed = (one for event in read_events(body) for one in event.items())
    expect(task[0], "task")
    expect(len(task[1]["history"]), 1)
    expect([name for name, _ in chunks], ["artifactUpdate"] * upstream.ARTIFACT_CHUNKS)
    expect([one["artifact"]["parts"][0]["text"] for _, one in chunks], WORDS)
    for (name, update), state in ((working, "WORKING"), (completed, "COMPLETED")):
        expect((name, update["status"]["state"]), ("statusUpdate", f"TASK_STATE_{state}"))
    expect({one["taskId"] for _, one in (working, *chunks, completed)}, {task[1]["id"]})


def check_task_stream_03(body: bytes) -> None:
    """The same as A2A 0.3 has it."""
    task, working, *chunks, completed = read_events(body)
    expect((task["kind"], task["status"]["state"], len(task["history"])), ("task", "submitted", 1))
    expect([one["kind"] for one in chunks], ["artifact-update"] * upstream.ARTIFACT_CHUNKS)
    expect([one["artifact"]["parts"][0] for one in chunks], [{"kind": "text", "text": word} for word in WORDS])
    expect((working["kind"], working["status"]["state"], working["final"]), ("status-update", "working", False))
    expect((completed["status"]["state"], completed["final"]), ("completed", True))
    expect({one["taskId"] for one in (working, *chunks, completed)}, {task["id"]})


def check_tool_result(body: bytes) -> None:
    """The result as the upstream wrote it."""
    found = rpc_result(body)
    expect({name: found.get(name) for name in upstream.TOOL_RESULT}, upstream.TOOL_RESULT)


def check_legacy_tool_result(body: bytes) -> None:
    """The same for a client of 2025-11-25, which knows no `resultType`."""
    wanted = upstream.TOOL_RESULT.copy()
    del wanted["resultType"]
    expect(rpc_result(body), wanted)


def check_tool_list(body: bytes) -> None:
    """All tools in one answer; the hub's names begin with the server's, and it lists its agents too."""
    found = [tool for tool in rpc_result(body)["tools"] if not tool["name"].startswith("agent__")]
    tools = [tool | {"name": tool["name"].removeprefix("bench__")} for tool in found]
    expect(tools, upstream.TOOL_LIST)


def check_refusal(body: bytes) -> None:
    """An error object."""
    if "error" not in json.loads(body):
        raise ValueError(f"no error but {body[:300]!r}")


def rpc(method: str, params: dict[str, Any]) -> bytes:
    """A JSON-RPC request."""
    return upstream.encode({"jsonrpc": "2.0", "id": RPC_ID, "method": method, "params": params})


def mcp(method: str, **params: Any) -> bytes:
    """A request of MCP's revision 2026-07-28."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MCP_VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
    }
    return rpc(method, params | {"_meta": meta})


INITIALIZE = rpc(
    "initialize",
    {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}},
)
INITIALIZED = upstream.encode({"jsonrpc": "2.0", "method": "notifications/initialized"})


def mcp_headers(method: str, name: str | None = None) -> dict[str, str]:
    """What the revision wants as headers."""
    named = {"Mcp-Name": name} if name else {}
    return {"MCP-Protocol-Version": MCP_VERSION, "Mcp-Method": method, **named}


QUESTION = "Which of the records have to be ordered again this week, and from whom? " * 7
CHAT_BODY = {"model": "bench", "messages": [{"role": "user", "content": QUESTION}]}
CALLED = "bench__tool_007"
ARGUMENTS = {"argument_0": "7", "argument_1": "today"}
MESSAGE = {"messageId": "6f1c9b1e-0000-4000-8000-000000000001", "role": "ROLE_USER", "parts": [{"text": QUESTION}]}

MESSAGE_03 = {"kind": "message", "messageId": MESSAGE["messageId"], "role": "user"} | {
    "parts": [{"kind": "text", "text": QUESTION}]
}
WORDS = [f"word{number} " for number in range(upstream.ARTIFACT_CHUNKS)]

_PLAIN = (
    Case(name="chat", path="/v1/chat/completions", body=upstream.encode(CHAT_BODY), budget=10, check=check_chat),
    Case(
        name="A2A SendMessage",
        path="/a2a/bench",
        body=rpc("SendMessage", {"message": MESSAGE}),
        headers={"A2A-Version": "1.0"},
        budget=7,
        check=check_task,
    ),
    Case(
        name="MCP tools/call",
        path="/mcp",
        body=mcp("tools/call", name=CALLED, arguments=ARGUMENTS),
        headers=mcp_headers("tools/call", CALLED),
        budget=8,
        check=check_tool_result,
    ),
    Case(
        name="MCP tools/call of 2025-11-25",
        path="/mcp",
        body=rpc("tools/call", {"name": CALLED, "arguments": ARGUMENTS}),
        headers={"MCP-Protocol-Version": "2025-11-25"},
        opens_session=True,
        budget=20,
        check=check_tool_result,
        check_translated=check_legacy_tool_result,
    ),
    Case(
        name="MCP tools/list of 500",
        path="/mcp",
        body=mcp("tools/list"),
        headers=mcp_headers("tools/list"),
        budget=1.5,
        check=check_tool_list,
    ),
    Case(
        name="refused key",
        path="/v1/chat/completions",
        body=upstream.encode(CHAT_BODY),
        key=upstream.WRONG_KEY,
        status=401,
        budget=5,
        check=check_refusal,
    ),
    Case(
        name="chat stream of 50 events",
        path="/v1/chat/completions",
        body=upstream.encode(CHAT_BODY | {"stream": True}),
        words=upstream.EVENTS,
        budget=3,
        check=check_stream,
    ),
    Case(
        name="A2A stream of 50 events",
        path="/a2a/bench",
        body=rpc("SendStreamingMessage", {"message": MESSAGE}),
        headers={"A2A-Version": "1.0"},
        words=upstream.ARTIFACT_CHUNKS,
        budget=3,
        check=check_task_stream,
    ),
    Case(
        name="A2A stream of 50, 0.3 to 1.0",
        path="/a2a/bench",
        body=rpc("message/stream", {"message": MESSAGE_03}),
        words=upstream.ARTIFACT_CHUNKS,
        budget=4.5,
        check=check_task_stream,
        check_translated=check_task_stream_03,
    ),
)
CASES = (
    *_PLAIN,
    *(replace(one, name=f"{one.name}, everything on", has_everything=True) for one in _PLAIN[:3]),
)
MANY_STREAMS = Case(
    name="1,000 streams at once",
    path="/a2a/slow",
    body=rpc("SendStreamingMessage", {"message": MESSAGE}),
    headers={"A2A-Version": "1.0"},
    words=upstream.ARTIFACT_CHUNKS,
    check=check_task_stream,
)
"""Not compared: all are open at the same time, while the hub's memory is looked at."""
MANY = 1000
MANY_BUDGET_MB = 300
MEMORY_BUDGET_MB = 120
