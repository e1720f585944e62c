"""Kill -9 of the hub while it delivers push notifications over TLS: every event arrives, each receiver's in order."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt

from agents.speech import Speech
from tests.peers.a2a_sdk_agents import open_agent
from tests.peers.authority import Authority
from tests.peers.http_peer import OK, Peer, listening, read_request
from tests.processes import HubProcess, hub_process

TASKS = 8
RECEIVERS = 2
JSONRPC = Speech("JSONRPC", "1.0")


@dataclass
class Receivers:
    """All receivers on one port, each a path; from `hold` on no request is answered until `release`."""

    came: dict[str, list[tuple[str, dict[str, Any]]]] = field(default_factory=dict)
    """By path: the id of each event and what it says, in the order in which they came, repetitions too."""
    open: asyncio.Event = field(default_factory=asyncio.Event)
    held: int = 0
    more: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __call__(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            token = request.headers["authorization"].partition(" ")[2]
            claims = jwt.decode(token, options={"verify_signature": False})
            async with self.more:
                self.came.setdefault(request.start.split()[1], []).append((claims["jti"], json.loads(request.body)))
                self.held += not self.open.is_set()
                self.more.notify_all()
            await self.open.wait()
            writer.write(OK)
            await writer.drain()

    async def until(self, condition: Any) -> None:
        """Wait until something is true of what came."""
        async with asyncio.timeout(60), self.more:
            await self.more.wait_for(condition)

    def events(self, path: str) -> list[dict[str, Any]]:
        """What a receiver was told, without repetitions."""
        return list(dict(self.came.get(path, [])).values())

    def is_told(self, path: str) -> bool:
        """Whether a receiver knows that its task is done."""
        last = self.events(path)[-1:]
        return bool(last) and "TASK_STATE_COMPLETED" in json.dumps(last)


def texts(events: list[dict[str, Any]]) -> list[str]:
    """All text of the artifact as a receiver pieces it together."""
    found: list[str] = []
    for event in events:
        if "task" in event:
            found = [part["text"] for one in event["task"].get("artifacts", []) for part in one["parts"]]
        elif "artifactUpdate" in event:
            update = event["artifactUpdate"]
            if not update.get("append"):
                found.clear()
            found += [part["text"] for part in update["artifact"]["parts"]]
    return found


def rpc(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def begin(http: httpx.AsyncClient, base: str) -> list[str]:
    """Have tasks that run, each with some receivers; returns the tasks' ids."""
    tasks = []
    for number in range(TASKS):
        message = {"messageId": f"m{number}", "role": "ROLE_USER", "parts": [{"text": "slow 4"}]}
        sent = rpc("SendMessage", {"message": message, "configuration": {"returnImmediately": True}})
        task = (await http.post("/a2a/echo", json=sent)).json()["result"]["task"]["id"]
        tasks.append(task)
        for one in range(RECEIVERS):
            config = {"taskId": task, "id": str(one), "url": f"{base}/{task}/{one}"}
            made = await http.post("/a2a/echo", json=rpc("CreateTaskPushNotificationConfig", config))
            assert "result" in made.json(), made.text
    return tasks


def end_leases(directory: Path) -> None:
    """Let the time pass for which the killed hub had taken what it was sending."""
    with closing(sqlite3.connect(directory / "hubbub.db")) as database, database:
        taken = database.execute("UPDATE push_outbox SET due_at = 0 WHERE attempts = 0").rowcount
    assert taken, "nothing was under way"


async def test_every_event_arrives_and_in_order_though_the_hub_was_killed(tmp_path: Path) -> None:
    authority, receivers = Authority(tmp_path), Receivers()
    trusted = tmp_path / "authority.pem"
    trusted.write_bytes(authority.pem)
    environ = {"SSL_CERT_FILE": str(trusted)}
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(open_agent(JSONRPC))
        peer = await stack.enter_async_context(listening(receivers, tls=authority.server()))
        yaml = f"  egress_allow: [127.0.0.0/8, '::1/128']\nagents:\n  echo: {{url: {agent.url}}}\n"

        def client(hub: HubProcess) -> httpx.AsyncClient:
            return httpx.AsyncClient(
                base_url=hub.url, headers={"authorization": f"Bearer {secret}"}, timeout=60, trust_env=False
            )

        async with hub_process(tmp_path, yaml, environ=environ) as hub:
            secret = await hub.key("app", "agent:*")
            async with client(hub) as http:
                tasks = await begin(http, f"https://localhost:{peer.port}")
            await agent.release(2)
            await receivers.until(lambda: receivers.held >= 4)  # under way, and not answered
            hub.send(signal.SIGKILL)
            await hub.child.wait()
        await agent.release(1)  # what the agent does meanwhile
        end_leases(tmp_path)
        receivers.open.set()
        async with hub_process(tmp_path, yaml, environ=environ) as hub:
            await agent.release(1)
            paths = [f"/{task}/{one}" for task in tasks for one in range(RECEIVERS)]
            await receivers.until(lambda: all(map(receivers.is_told, paths)))
            for task in tasks:
                for one in range(RECEIVERS):
                    events = receivers.events(f"/{task}/{one}")
                    assert texts(events) == agent.emitted[task], events
                    assert "TASK_STATE_COMPLETED" not in json.dumps(events[:-1])
            assert any(len(came) > len(dict(came)) for came in receivers.came.values()), "nothing was sent again"
