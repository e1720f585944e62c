"""Kill -9 of the hub while a chat waits for approval: after a restart it is approved and ends."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.peers.mcp_servers import dual_era
from tests.peers.openai_upstream import Turn, openai_upstream
from tests.processes import HubProcess, hub_process

TOOL: Any = {"type": "mcp", "server_label": "bank", "server_url": "hub/mcp/bank"}
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "pay"}], "tools": [TOOL]}


async def ask(hub: HubProcess, secret: str, stream: bool, **go_on: str) -> tuple[str, dict[str, Any]]:
    """What is said, and the hub's report."""
    more = {"extra_body": {"hub": go_on}} if go_on else {}
    async with openai.AsyncOpenAI(base_url=f"{hub.url}/v1", api_key=secret, max_retries=0, timeout=30) as sdk:
        answer: Any = await sdk.chat.completions.create(**BODY, stream=stream, **more)
        if not stream:
            return answer.choices[0].message.content, answer.hub
        text, report = "", {}
        async for chunk in answer:
            text += chunk.choices[0].delta.content or ""
            report |= getattr(chunk, "hub", None) or {}
        return text.strip(), report


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_that_waits_survives_and_is_approved_after_a_restart(tmp_path: Path, stream: bool) -> None:
    async with AsyncExitStack() as stack:
        bank = await stack.enter_async_context(dual_era(tools=("pay",)))
        upstream = await stack.enter_async_context(
            openai_upstream(Turn(calls=(("bank__pay", '{"text":"5"}'),)), Turn("Paid."))
        )
        yaml = f"""
models:
  m: {{provider: openai, model: up, base_url: '{upstream.url}', api_key: sk-upstream-key-000}}
mcpServers:
  bank: {{url: '{bank.url}', require_approval: always}}
"""
        async with hub_process(tmp_path, yaml) as hub:
            secret, boss = await hub.key("caller", "model:*", "tool:*"), await hub.key("boss", "admin:approvals")
            async with hub.http() as admin, asyncio.timeout(30):
                while not (await admin.get("/api/mcp-servers/bank")).json()["tools"]:
                    await asyncio.sleep(0.05)
            _, report = await ask(hub, secret, stream)
            (waiting,) = report["approvals"]
            hub.send(signal.SIGKILL)
            await hub.child.wait()
        async with hub_process(tmp_path, yaml) as hub:
            _, report = await ask(hub, secret, stream, approval_id=waiting["id"])
            assert report["approvals"] == [waiting]
            async with hub.http(boss) as inbox:
                (found,) = (await inbox.get("/api/approvals")).json()["items"]
                assert (found["id"], found["arguments"]) == (waiting["id"], {"text": "5"})
                decided = await inbox.post(f"/api/approvals/{found['id']}", json={"decision": "approve"})
                assert decided.status_code == 200
            text, report = await ask(hub, secret, stream, approval_id=waiting["id"])
            assert text == "Paid."
            hub.send(signal.SIGKILL)
            await hub.child.wait()
        async with hub_process(tmp_path, yaml) as hub:  # what it came to is kept for its caller
            assert (await ask(hub, secret, stream, approval_id=waiting["id"]))[0] == "Paid."
        assert bank.calls == [("pay", {"text": "5"})]
        assert len(upstream.received) == 2


async def test_a_run_that_was_cut_off_while_it_went_on_calls_nothing_twice(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        bank = await stack.enter_async_context(dual_era(tools=("wait",)))
        upstream = await stack.enter_async_context(openai_upstream(Turn(calls=(("bank__wait", "{}"),)), Turn("Done.")))
        yaml = f"""
models:
  m: {{provider: openai, model: up, base_url: '{upstream.url}', api_key: sk-upstream-key-000}}
mcpServers:
  bank: {{url: '{bank.url}', require_approval: always}}
"""
        async with hub_process(tmp_path, yaml) as hub:
            secret, boss = await hub.key("caller", "model:*", "tool:*"), await hub.key("boss", "admin:approvals")
            async with hub.http() as admin, asyncio.timeout(30):
                while not (await admin.get("/api/mcp-servers/bank")).json()["tools"]:
                    await asyncio.sleep(0.05)
            _, report = await ask(hub, secret, False)
            (waiting,) = report["approvals"]
            async with hub.http(boss) as inbox, asyncio.timeout(30):
                await inbox.post(f"/api/approvals/{waiting['id']}", json={"decision": "approve"})
                await bank.waiting.wait()
            hub.send(signal.SIGKILL)
            await hub.child.wait()
        async with hub_process(tmp_path, yaml) as hub:
            with pytest.raises(openai.ConflictError, match="interrupted"):
                await ask(hub, secret, False, approval_id=waiting["id"])
        assert len(bank.calls) == 1


async def test_a_run_is_as_bound_after_a_restart_as_it_was_when_it_was_put_down(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        bank = await stack.enter_async_context(dual_era(tools=("look", "pay")))
        calls = Turn(calls=(("bank__look", '{"text":"who"}'), ("bank__pay", '{"text":"5"}')))
        upstream = await stack.enter_async_context(openai_upstream(calls, Turn("Paid.")))
        yaml = f"""
models:
  m: {{provider: openai, model: up, base_url: '{upstream.url}', api_key: sk-upstream-key-000}}
mcpServers:
  bank: {{url: '{bank.url}', require_approval: [pay]}}
policy: [{{name: no, effect: deny, entries: ["tool:bank__pay"], when: "tree.hops != 3"}}]
"""
        async with hub_process(tmp_path, yaml) as hub:
            secret = await hub.key("caller", "model:*", "tool:*", limits={"session": {"calls": 3}, "max_calls": 2})
            boss = await hub.key("boss", "admin:approvals")
            async with hub.http() as admin, asyncio.timeout(30):
                while not (await admin.get("/api/mcp-servers/bank")).json()["tools"]:
                    await asyncio.sleep(0.05)
            async with hub.http(secret) as http:
                http.headers.update({"hubbub-session": "one", "hubbub-hops": "3"})
                (waiting,) = (await http.post("/v1/chat/completions", json={**BODY, "stream": False})).json()["hub"][
                    "approvals"
                ]
            task = bank.requests[-1]["hubbub-task"]
            hub.send(signal.SIGKILL)
            await hub.child.wait()
        async with hub_process(tmp_path, yaml) as hub:
            async with hub.http(boss) as inbox:
                decided = await inbox.post(f"/api/approvals/{waiting['id']}", json={"decision": "approve"})
                assert decided.status_code == 200
            with pytest.raises(openai.RateLimitError, match="session calls of 3 is used up in this conversation"):
                await ask(hub, secret, False, approval_id=waiting["id"])
        assert [name for name, _ in bank.calls] == ["look", "pay"]
        assert bank.requests[-1]["hubbub-task"] == task
