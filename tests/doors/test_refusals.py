"""Each refusal at each door, in each speech and for each reason, is one entry of the audit log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest
from a2a.types import a2a_pb2
from a2a.types.a2a_pb2_grpc import A2AServiceStub
from mcp import MCPError

from hub import errors
from registry.auditing.audit import REFUSALS
from registry.errors import MethodNotFound, UpstreamError
from tests.attacks.test_bad_input import DOORS
from tests.conftest import Hub, open_hub
from tests.doors.test_audit import entries
from tests.peers.mcp_hub import McpHub, headers, message

CHAT: dict[str, Any] = {"model": "offline", "messages": [{"role": "user", "content": "hi"}]}
YAML = """
agents: {echo: {url: "http://127.0.0.1:9"}}
mcpServers: {web: {url: "http://127.0.0.1:9/mcp"}}
models: {offline: {provider: offline}, secret: {provider: offline}}
policy:
  - {name: no-tools, effect: deny, entries: ["model:offline"], when: '"tools" in arguments'}
"""
GRANTLESS = "tool:none__*"
V03 = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "message/send",
    "params": {"message": {"messageId": "m", "role": "user", "parts": []}},
}
PLAIN: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a2a": ("POST", "/a2a/echo", {"json": DOORS["a2a"].good, "headers": DOORS["a2a"].headers}),
    "a2a 0.3": ("POST", "/a2a/echo", {"json": V03}),
    "a2a over REST": ("GET", "/a2a/echo/tasks/t1", {"headers": {"a2a-version": "1.0"}}),
    "a2a 0.3 over REST": ("GET", "/a2a/echo/v1/tasks/t1", {}),
    "card": ("GET", "/a2a/echo/.well-known/agent-card.json", {}),
    "mcp": (
        "POST",
        "/mcp",
        {"json": message("tools/call", {"name": "web__x"}), "headers": headers("tools/call", "web__x")},
    ),
    "mcp at a server": ("POST", "/mcp/web", {"json": message("tools/list", {}), "headers": headers("tools/list")}),
    "chat": ("POST", "/v1/chat/completions", {"json": CHAT}),
    "messages": ("POST", "/v1/messages", {"json": {**CHAT, "max_tokens": 9}}),
    "responses": ("POST", "/v1/responses", {"json": {"model": "offline", "input": "hi"}}),
    "embeddings": ("POST", "/v1/embeddings", {"json": {"model": "offline", "input": "hi"}}),
    "a model": ("GET", "/v1/models/offline", {}),
    "a response": ("GET", "/v1/responses/resp_x", {}),
    "a file": ("GET", "/v1/files/file-x", {}),
    "api": ("GET", "/api/keys", {}),
    "nowhere": ("GET", "/nowhere", {}),
    "a callback": ("POST", "/a2a/_push/x", {"json": {}}),
}


async def refusals(hub: Hub) -> list[tuple[str, str]]:
    return [(one["principal_name"], one["outcome"]) for one in await entries(hub) if one["act"] == "refused"]


@pytest.fixture
async def opened(tmp_path: Path) -> Any:
    async with open_hub(tmp_path, YAML, grpc=True) as hub:
        yield McpHub(hub.url, hub.services, hub.gate, hub.grpc)


async def one_more(hub: Hub, ask: Callable[[], Awaitable[object]]) -> tuple[str, str]:
    """What is in the log of refusals after `ask` that was not before."""
    before = await refusals(hub)
    await ask()
    added = (await refusals(hub))[len(before) :]
    assert len(added) == 1, added
    return added[0]


async def test_who_may_not_or_is_nobody_leaves_one_entry_at_every_door(opened: McpHub) -> None:
    hub = opened
    wrong = {}
    async with hub.http(await hub.key(GRANTLESS)) as may_not, hub.http("sk-wrong") as nobody:

        async def ask(http: httpx.AsyncClient, what: str) -> None:
            method, path, sent = PLAIN[what]
            answer = await http.request(method, path, **sent)
            assert answer.status_code >= 400 or "error" in answer.json(), (what, answer.text)

        for what in PLAIN:
            is_strangers = what == "a callback"
            found = [await one_more(hub, lambda http=http, what=what: ask(http, what)) for http in (may_not, nobody)]
            expected = ["NotFound", "NotFound" if is_strangers else "Unauthenticated"]
            if [outcome for _, outcome in found] != expected or found[1][0]:
                wrong[what] = found
    assert wrong == {}


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_an_mcp_client_that_calls_what_it_may_not_leaves_one_entry(opened: McpHub, mode: str) -> None:
    async with opened.client(await opened.key(GRANTLESS), mode=mode) as client:

        async def call() -> None:
            with pytest.raises(MCPError):
                await client.call_tool("web__x", {})

        assert (await one_more(opened, call))[1] == "NotFound"


async def test_calls_over_grpc_leave_one_entry(opened: McpHub) -> None:
    secret = await opened.key(GRANTLESS)
    async with grpc.aio.insecure_channel(opened.grpc) as channel:
        stub = A2AServiceStub(channel)
        for given, outcome in ((secret, "NotFound"), ("sk-wrong", "Unauthenticated")):
            metadata = (("authorization", f"Bearer {given}"), ("a2a-version", "1.0"))

            async def call(metadata: Any = metadata) -> None:
                with pytest.raises(grpc.aio.AioRpcError):
                    await stub.GetTask(a2a_pb2.GetTaskRequest(tenant="echo", id="t1"), metadata=metadata, timeout=20)

            assert (await one_more(opened, call))[1] == outcome


async def test_pages_limits_and_rules_leave_one_entry(opened: McpHub) -> None:
    hub = opened
    paced = await hub.key("model:*", requests_per_minute=1)
    async with hub.http() as browser, hub.http(paced) as http, hub.http(await hub.key("model:*")) as ruled:
        page, home = f"{hub.url}/connect/web", {"origin": hub.url}
        assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
        for ask, outcome in (
            (lambda: browser.post(page, data={"key": "sk-wrong"}, headers=home), "Unauthenticated"),
            (lambda: browser.post(page, data={"key": paced}, headers={"origin": "null"}), "OriginRefused"),
            (lambda: browser.get("/livez", headers={"host": "evil.example"}), "HostRefused"),
            (lambda: http.post("/v1/chat/completions", json=CHAT), "RateLimited"),
            (lambda: ruled.post("/v1/chat/completions", json={**CHAT, "tools": tools}), "PolicyRefused"),
        ):
            assert (await one_more(hub, ask))[1] == outcome


def test_every_error_by_which_the_hub_itself_refuses_counts_as_a_refusal() -> None:
    refusing = {error for error, row in errors.TABLE.items() if row.status in {401, 402, 403, 404, 421, 429}}
    others = {error for error in refusing if not issubclass(error, (*REFUSALS, UpstreamError))}
    assert others == {MethodNotFound}, "a method that no protocol has is nobody's to be refused"
