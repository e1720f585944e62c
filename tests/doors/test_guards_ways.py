"""Guards hold whatever the way is: what is sent, and what comes back, through everything that the hub calls.

Each way says an e-mail address and has it said back. Without a guard it arrives on both sides, so each row can fail.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mcp_types as t
import pytest

from agents.speech import SPEECHES
from hub import Hub
from registry.errors import GuardRefused
from registry.rules.guard_kinds import build
from registry.rules.guards import Action, Guard, Guards, GuardSpec, Side
from tests.conftest import open_hub
from tests.peers import mcp_servers
from tests.peers.a2a_clients import message, open_client
from tests.peers.a2a_sdk_agents import open_agent
from tests.peers.mcp_asking import asking
from tests.peers.mcp_follower import OVER, Follower
from tests.peers.mcp_hub import McpHub
from tests.peers.mcp_tasks import making_tasks
from tests.peers.openai_upstream import OpenAIUpstream, Turn, openai_upstream
from tests.peers.openapi_services import shop
from tests.until import until

ROOT = Path(__file__).parents[2]
MAIL = "jo@example.org"


@dataclass
class Bench:
    """What a way goes through."""

    hub: McpHub
    key: str
    model: OpenAIUpstream
    agent: Any

    async def guard(self, *of: Side, action: Action = "redact") -> None:
        """Have servers and agents guarded on these sides; on none: not at all."""
        spec = GuardSpec("mail", action, ("server:*", "agent:*"), of, type="pii")
        guard = Guard.of(spec, build("pii", {"kinds": ["email"]}))
        registry = self.hub.services.registry
        # as if the file said so: what is put at the gate alone is gone when a server's list comes
        await registry.follow_file(replace(registry._declared, guards=Guards([guard]) if of else None))


Way = Callable[[Bench], Awaitable[tuple[str, str]]]
"""Says the address, and returns what the other side got and what came back."""


async def _elicited(_context: Any, _params: Any) -> t.ElicitResult:
    return t.ElicitResult(action="accept", content={"name": MAIL})


async def _sampled(_context: Any, _params: Any) -> t.CreateMessageResult:
    return t.CreateMessageResult(role="assistant", content=t.TextContent(type="text", text=MAIL), model="m")


def tool(name: str, mode: str = "auto", **arguments: Any) -> Way:
    """Calls the tool whose name begins so, which says what it got, or what it was answered."""

    async def way(bench: Bench) -> tuple[str, str]:
        options = {"elicitation_callback": _elicited, "sampling_callback": _sampled}
        async with bench.hub.client(bench.key, mode=mode, **options) as client:
            full = next(one for one in bench.hub.services.registry.catalog.tools if one.startswith(name))
            result = await client.call_tool(full, arguments)
        return (result.model_dump_json(),) * 2

    return way


async def becomes_a_task(bench: Bench) -> tuple[str, str]:
    async with bench.hub.http(bench.key) as http:
        follower = Follower(http)
        made = await follower.call("tasks__slow_compute", label=MAIL)
        over = await follower.until(made["taskId"], *OVER)
    return (json.dumps(over),) * 2


async def answers_a_task(bench: Bench) -> tuple[str, str]:
    async with bench.hub.http(bench.key) as http:
        follower = Follower(http)
        made = await follower.call("tasks__multi_input")
        waiting = await follower.until(made["taskId"], "input_required")
        responses = {key: {"action": "accept", "content": {"x": MAIL}} for key in waiting["inputRequests"]}
        refused = await follower.update(made["taskId"], **responses)
        if "code" in refused:  # what is redacted cannot be an answer
            await follower.cancel(made["taskId"])
            return json.dumps(refused), json.dumps(refused)
        over = await follower.until(made["taskId"], *OVER)
    return (json.dumps(over),) * 2


async def a_chat_that_calls_two_at_once(bench: Bench) -> tuple[str, str]:
    said = json.dumps({"text": MAIL})
    bench.model.turns = [Turn(calls=(("http__echo", said), ("stdio__echo", said))), Turn("done")]
    asked = {"model": "m", "tools": [{"type": "mcp", "server_label": "hub", "server_url": "hub/mcp"}]}
    async with bench.hub.http(bench.key) as http:
        answer = await http.post("/v1/chat/completions", json={**asked, "messages": [{"role": "user", "content": "x"}]})
        assert answer.status_code == 200, answer.text
    results = [one["content"] for one in bench.model.received[-1].body["messages"] if one["role"] == "tool"]
    assert len(results) == 2
    assert len(set(map(bool, (MAIL in one for one in results)))) == 1, "both or none"
    return (json.dumps(results),) * 2


def an_agent(client: Any) -> Way:
    async def way(bench: Bench) -> tuple[str, str]:
        headers = {"authorization": f"Bearer {bench.key}"}
        async with open_client(f"{bench.hub.url}/a2a/echo/", client, headers=headers) as sdk:
            task = (await sdk.ask("SendMessage", message(f"echo {MAIL}")))["task"]
        return json.dumps((await bench.agent.task(task["id"]))["artifacts"]), json.dumps(task["artifacts"])

    return way


async def an_agent_made_here(bench: Bench) -> tuple[str, str]:
    bench.model.turns = [Turn(f"to {MAIL}")]
    headers = {"authorization": f"Bearer {bench.key}"}
    async with open_client(f"{bench.hub.url}/a2a/helper/", SPEECHES[0], headers=headers) as sdk:
        task = (await sdk.ask("SendMessage", message(f"say {MAIL}")))["task"]
    return json.dumps(bench.model.received[-1].body["messages"]), json.dumps(task)


def answers_an_agent(mode: str) -> Way:
    async def way(bench: Bench) -> tuple[str, str]:
        before = len(bench.agent.calls)
        async with bench.hub.client(bench.key, mode=mode, elicitation_callback=_answered) as client:
            await client.call_tool("agent__echo", {"message": "ask"})
        sent = [str(one.params) for one in bench.agent.calls[before:] if one.operation == "SendStreamingMessage"]
        return sent[1] if len(sent) > 1 else "", MAIL  # it does not say it back

    return way


async def _answered(_context: Any, params: Any) -> t.ElicitResult:
    return t.ElicitResult(action="accept", content={next(iter(params.requested_schema["properties"])): MAIL})


WAYS: dict[str, Way] = {
    "http, 2026-07-28": tool("http__echo", text=MAIL),
    "http, older client": tool("http__echo", mode="legacy", text=MAIL),
    "older server": tool("old__echo", text=MAIL),
    "stdio": tool("stdio__echo", text=MAIL),
    "stdio, older client": tool("stdio__echo", mode="legacy", text=MAIL),
    "elicitation": tool("ask__ask"),
    "elicitation, older client": tool("ask__ask", mode="legacy"),
    "elicitation, older server": tool("asklegacy__ask"),
    "elicitation over stdio": tool("stdio__ask"),
    "sampling, older server and client": tool("asklegacy__sample", mode="legacy"),
    "sampling, older client": tool("ask__sample", mode="legacy"),
    "an answer to an agent": answers_an_agent("auto"),
    "an answer to an agent, older client": answers_an_agent("legacy"),
    "a task": becomes_a_task,
    "an answer to a task": answers_a_task,
    "OpenAPI": tool("shop__read_item", item_id=MAIL),
    "a chat, two at once": a_chat_that_calls_two_at_once,
    "agent over gRPC": an_agent(SPEECHES[2]),
    "agent over JSON-RPC": an_agent(SPEECHES[0]),
    "agent made here": an_agent_made_here,
}


@asynccontextmanager
async def bench_of(directory: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        opened = stack.enter_async_context
        http, old = await opened(mcp_servers.dual_era()), await opened(mcp_servers.legacy_only())
        ask, asklegacy = await opened(asking("both")), await opened(asking("legacy"))
        (tasks, _), running = await opened(making_tasks()), await opened(shop())
        model, agent = await opened(openai_upstream(Turn("x"))), await opened(open_agent(SPEECHES[2]))
        servers: dict[str, Any] = {
            name: {"url": peer.url}
            for name, peer in (("http", http), ("old", old), ("ask", ask), ("asklegacy", asklegacy), ("tasks", tasks))
        }
        stdio = ["-m", "tests.peers.mcp_asking", "stdio"]
        servers["stdio"] = {"command": sys.executable, "args": stdio, "cwd": str(ROOT)}
        servers["shop"] = {"openapi": f"{running.url}/described.json"}
        sections = {
            "mcpServers": {name: {**server, "sampling": True} for name, server in servers.items()},
            "agents": {"echo": {"url": agent.url}, "helper": {"model": "m", "description": "Helps."}},
            "models": {"m": {"provider": "openai", "base_url": model.url, "api_key": "sk-up"}},
        }
        yaml = "".join(f"{name}: {json.dumps(value)}\n" for name, value in sections.items())
        found = await opened(open_hub(directory, yaml, grpc=True))
        hub = McpHub(found.url, found.services, found.gate)
        await hub.listed("http__echo", "old__echo", "stdio__echo", "ask__ask", "asklegacy__ask", "tasks__greet")
        await until(lambda: any(name.startswith("shop__") for name in hub.services.registry.catalog.tools))
        yield Bench(hub, await hub.key("server:*", "agent:*", "model:*", "tool:*"), model, agent)


@pytest.mark.attack("2.1/12", "2.2/25")
async def test_guards_hold_whatever_the_way_is(tmp_path: Path) -> None:
    wrong: list[str] = []
    async with bench_of(tmp_path) as bench:
        for name, way in WAYS.items():
            for of in ((), ("arguments",), ("results",)):
                await bench.guard(*of)
                async with asyncio.timeout(60):
                    got, shown = await way(bench)
                said = MAIL in got, MAIL in shown
                wanted = {(): (True, True), ("arguments",): (False, None), ("results",): (None, False)}[of]
                if shown == MAIL:
                    wanted = wanted[0], None
                if any(want is not None and want != found for want, found in zip(wanted, said, strict=True)):
                    wrong.append(f"{name}, guarded {of}: {got[:300]} | {shown[:300]}")
    assert wrong == []


async def test_guards_hold_in_a_program_of_its_own() -> None:
    guards = {"mail": {"type": "pii", "kinds": ["email"], "action": "redact", "of": ["arguments"]}}
    block = {"mail": {**guards["mail"], "action": "block", "of": ["results"], "entries": ["agent:*", "server:*"]}}
    async with mcp_servers.dual_era() as server, open_agent(SPEECHES[0]) as agent:
        given = {"mcpServers": {"s": {"url": server.url}}, "agents": {"echo": {"url": agent.url}}}
        async with Hub.open({**given, "guards": guards}) as hub:
            await hub.call_tool("s__echo", {"text": MAIL})
            said = await hub.send_message("echo", f"echo {MAIL}")
        assert server.calls == [("echo", {"text": "[redacted: mail]"})]
        assert MAIL not in str(said)
        assert "[redacted: mail]" in str(said)
        async with Hub.open({**given, "guards": block}) as hub:
            with pytest.raises(GuardRefused):
                await hub.call_tool("s__echo", {"text": MAIL})
            with pytest.raises(GuardRefused):
                await hub.send_message("echo", f"echo {MAIL}")
