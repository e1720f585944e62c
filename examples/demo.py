"""`make demo`: the hub's three jobs on real parts, with the official clients. Ends by itself with `--once`.

Starts an A2A agent (a2a-sdk), a published MCP server over stdio (mcp-server-time), an MCP server over HTTP (mcp SDK) and
the hub with all three; makes a key; then talks through the hub as an A2A client, an MCP client and an OpenAI client.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import httpx2
from a2a.client import A2ACardResolver, ClientConfig, create_client
from a2a.helpers import get_stream_response_text, new_text_message
from a2a.types import Role, SendMessageRequest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from openai import AsyncOpenAI

HERE = Path(__file__).parent
READY_WITHIN_S = 60
QUESTION = "What is the current time in the timezone 'Europe/Berlin'? Also add a note with the text 'water the plants'."


class DemoFailed(Exception):
    """A job did not do what it should; the text says which and why."""


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@asynccontextmanager
async def process(*command: str, env: dict[str, str] | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program of the demo; it ends with the block."""
    child = await asyncio.create_subprocess_exec(*command, env={**os.environ, **(env or {})}, cwd=HERE.parent)  # noqa: TID251  # the demo starts programs
    try:
        yield child
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGTERM)
            await child.wait()


async def until_answered(url: str, what: str) -> None:
    """Wait until `url` answers anything at all."""
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(READY_WITHIN_S):
        while True:
            try:
                await http.get(url)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
            else:
                print(f"  {what} is up")
                return


def say(title: str) -> None:
    """Print a heading."""
    print(f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n{title}", flush=True)


async def talk_to_the_agent(base: str, key: str) -> None:
    """A streamed A2A conversation through the hub."""
    say("1. An A2A client talks to a registered agent: /a2a/storyteller")
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(headers=headers, timeout=60, trust_env=False) as http:
        card = await A2ACardResolver(http, f"{base}/a2a/storyteller").get_agent_card()
        print(f"  card: {card.name}, at {card.supported_interfaces[0].url}")
        client = await create_client(card, ClientConfig(httpx_client=http))
        message = new_text_message("a fox who liked ports", role=Role.ROLE_USER)
        print("  asked:    a fox who liked ports\n  answered: ", end="")
        told = ""
        async for event in client.send_message(SendMessageRequest(message=message)):
            if event.HasField("artifact_update"):
                told += get_stream_response_text(event)
                print(get_stream_response_text(event), end="", flush=True)
        print()
    if "a fox who liked ports" not in told:
        raise DemoFailed(f"the agent's story does not speak of the fox: {told!r}")


async def use_the_tools(base: str, key: str) -> None:
    """List and call tools of both servers through one MCP endpoint."""
    say("2. An MCP client uses tools of several servers: /mcp")
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http:
        async with asyncio.timeout(READY_WITHIN_S):  # the hub lists its servers in the background after its start
            while True:
                async with Client(streamable_http_client(f"{base}/mcp", http_client=http)) as client:
                    names = [tool.name for tool in (await client.list_tools()).tools]
                if {"time__get_current_time", "notes__add_note"} <= set(names):
                    break
                await asyncio.sleep(0.1)
        print(f"  tools:    {', '.join(names)}")
        async with Client(streamable_http_client(f"{base}/mcp", http_client=http)) as client:
            for name, arguments in (
                ("time__get_current_time", {"timezone": "Asia/Tokyo"}),
                ("notes__add_note", {"text": "the hub works"}),
            ):
                result = await client.call_tool(name, arguments)
                said = " ".join(part.text for part in result.content if part.type == "text")
                print(f"  called:   {name}({arguments})\n  answered: {' '.join(said.split())}")
                if result.is_error:
                    raise DemoFailed(f"{name} failed: {said}")


async def chat_with_tools(base: str, key: str) -> None:
    """A streamed chat whose model calls a tool of each server, executed by the hub."""
    say("3. A chat request carries MCP tools: /v1/chat/completions")
    print(f"  asked:    {QUESTION}\n  answered: ", end="")
    called: list[str] = []
    async with AsyncOpenAI(base_url=f"{base}/v1", api_key=key) as client:
        stream = await client.chat.completions.create(
            model="assistant",
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
            tools=[
                {"type": "mcp", "server_label": "hub", "server_url": "hub/mcp", "require_approval": "never"}  # type: ignore[list-item]  # the hub's own tool type
            ],
        )
        async for chunk in stream:
            for choice in chunk.choices:
                print(choice.delta.content or "", end="", flush=True)
            executed = ((chunk.model_extra or {}).get("hub") or {}).get("tool_calls", [])
            called += [f"{call['server']}.{call['tool']}" for call in executed]
    print(f"\n  the hub called: {', '.join(called)}")
    if {name.partition(".")[0] for name in called} != {"time", "notes"}:
        raise DemoFailed(f"expected a call of each server, got {called}")


def by_hand(base: str, key: str) -> None:
    """Print how to do the same without this program."""
    say("By hand")
    print(f"""  curl -s {base}/v1/chat/completions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
    -d '{{"model": "assistant", "messages": [{{"role": "user", "content": "What is the current time in Europe/Berlin?"}}],
         "tools": [{{"type": "mcp", "server_label": "hub", "server_url": "hub/mcp/time", "require_approval": "never"}}]}}'
  curl -s {base}/a2a/storyteller/.well-known/agent-card.json -H 'Authorization: Bearer {key}'

  Cursor (~/.cursor/mcp.json), Claude and others:
  {{"mcpServers": {{"hub": {{"url": "{base}/mcp", "headers": {{"Authorization": "Bearer {key}"}}}}}}}}

  Python:
  from openai import OpenAI
  client = OpenAI(base_url="{base}/v1", api_key="{key}")
  tools = [{{"type": "mcp", "server_label": "hub", "server_url": "hub/mcp", "require_approval": "never"}}]
  answer = client.chat.completions.create(model="assistant", tools=tools,
      messages=[{{"role": "user", "content": "What is the current time in Europe/Berlin?"}}])
  print(answer.choices[0].message.content)""")


async def make_key(base: str, admin_key: str) -> str:
    """Make a key that may use everything registered here."""
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {admin_key}"}, timeout=60, trust_env=False) as http:
        body = {"name": "demo", "allow": ["agent:*", "tool:*", "model:*"]}
        answer = await http.post(f"{base}/api/keys", json=body)
        if answer.status_code != 201:
            raise DemoFailed(f"the key could not be made: {answer.status_code} {answer.text}")
        key: str = answer.json()["key"]
        return key


async def demo(port: int, *, once: bool) -> None:
    """Start everything, do the three jobs, then serve on or stop."""
    base, agent_port, notes_port = f"http://127.0.0.1:{port}", free_port(), free_port()
    if working := asyncio.current_task():  # a demo that is told to end ends what it started
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    real = bool(os.environ.get("OPENAI_API_KEY"))  # noqa: TID251  # as the README says
    with tempfile.TemporaryDirectory() as directory:
        env = {
            "DEMO_DIR": directory,
            "DEMO_ADMIN_KEY": f"sk-{secrets.token_urlsafe(32)}",
            "DEMO_AGENT_URL": f"http://127.0.0.1:{agent_port}",
            "DEMO_NOTES_URL": f"http://127.0.0.1:{notes_port}",
            "DEMO_PYTHON": sys.executable,
            "DEMO_PROVIDER": "openai" if real else "offline",
            "DEMO_MODEL": "gpt-4o-mini" if real else "offline",
        }
        say("Starting an A2A agent, an MCP server and the hub")
        python = sys.executable
        hubbub = str(Path(python).with_name("hubbub"))
        config = str(HERE / "hub.yaml")
        async with AsyncExitStack() as stack:
            start = stack.enter_async_context
            await start(process(python, "-m", "examples.storyteller", "--port", str(agent_port)))
            await start(process(python, "-m", "examples.notes_server", "--port", str(notes_port)))
            await until_answered(env["DEMO_AGENT_URL"], "the agent")
            await until_answered(env["DEMO_NOTES_URL"], "the MCP server 'notes'")
            hub = await start(process(hubbub, "serve", "--config", config, "--port", str(port), env=env))
            await until_answered(f"{base}/readyz", "the hub")
            if hub.returncode is not None:
                raise DemoFailed(f"the hub ended with {hub.returncode}: is port {port} taken?")
            key = await make_key(base, env["DEMO_ADMIN_KEY"])
            await talk_to_the_agent(base, key)
            await use_the_tools(base, key)
            await chat_with_tools(base, key)
            by_hand(base, key)
            if not once:
                say(f"Serving on {base} with the key {key}; Ctrl-C ends everything")
                await hub.wait()


def main() -> None:
    """Run the demo; exit 1 with the reason when a job fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=4000)
    parser.add_argument("--once", action="store_true", help="stop after the three jobs")
    options = parser.parse_args()
    try:
        asyncio.run(demo(options.port, once=options.once))
    except (DemoFailed, TimeoutError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"demo failed: {error or type(error).__name__}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        print()


if __name__ == "__main__":
    main()
