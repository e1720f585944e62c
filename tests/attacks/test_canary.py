"""Secrets planted wherever the hub keeps one, and a run through every door with all its failures: none comes out.

Looked at: every answer with its headers, every log record with its extras and traces, what is printed, the database
file byte for byte, and the upstreams: each sees its own credential and nobody's else.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.attacks.test_legacy_mcp import LEGACY, session
from tests.attacks.test_two_tenants import new, old, rpc
from tests.conftest import served
from tests.peers.mcp_hub import McpHub, open_mcp_hub
from tests.peers.mcp_hub import headers as modern_headers
from tests.peers.mcp_hub import message as modern

PLACES = ("agent", "server", "model", "modelheader", "variable", "env", "arg", "admin", "file", "late", "sealing")
PLACES += ("client", "granted", "push", "hook")
CANARIES = {place: f"canary-{place}-6f1b9c2e5d7a4803" for place in PLACES}

YAML = """
hub:
  database: sqlite:///{directory}/hubbub.db
  admin_key: {admin}
  secret_keys: ["{sealing}-0123456789-0123456789"]
  egress_allow: [127.0.0.0/8]
agents:
  echo: {{url: "{url}/agent", headers: {{Authorization: "Bearer {agent}"}}}}
  gone: {{url: "http://127.0.0.1:9/agent", headers: {{Authorization: "Bearer {agent}"}}}}
mcpServers:
  web: {{url: "{url}/mcp", headers: {{Authorization: "Bearer {server}"}}}}
  gone: {{url: "http://127.0.0.1:9/mcp", headers: {{Authorization: "Bearer {server}"}}}}
  bank: {{url: "{url}/mcp", auth: {{type: client_credentials, client_id: x, client_secret: "{client}", token_url: "{url}/token"}}}}
  child: {{command: "{python}", args: [{child}, "--token={arg}"], env: {{TOKEN: "{env}"}}}}
  crash: {{command: "{python}", args: ["-c", "import os; raise SystemExit(os.environ['TOKEN'])"], env: {{TOKEN: "{env}"}}}}
  absent: {{command: "/nowhere/nothing", args: ["{arg}"], env: {{TOKEN: "{env}"}}}}
models:
  m: {{provider: openai, base_url: "{url}/v1", api_key: "{model}", headers: {{X-Extra: "{modelheader}"}}}}
  v: {{provider: groq, base_url: "{url}/v1"}}
  gone: {{provider: openai, base_url: "http://127.0.0.1:9/v1", api_key: "{model}"}}
  offline: {{provider: offline}}
keys:
  - {{name: file, key: "{file}", allow: ["agent:*", "tool:*", "model:*"]}}
"""

CHILD = """
import asyncio, os, sys
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
import mcp_types as t
print("token is", os.environ["TOKEN"], file=sys.stderr, flush=True)
async def list_tools(ctx, params):
    return t.ListToolsResult(tools=[t.Tool(name="hello", input_schema={"type": "object"})])
async def call_tool(ctx, params):
    return t.CallToolResult(content=[t.TextContent(type="text", text="hello")])
async def main():
    server = Server("child", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())
asyncio.run(main())
"""

FAILURES = ["none", "401", "403", "404", "429", "500", "302", "garbage", "html", "cut", "empty", "400"]


@dataclass
class Upstream:
    """An upstream of every kind that fails as it is told, and quotes the credential it was sent while it does."""

    failure: str = "none"
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Path, and all headers as text."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        sent = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append((scope["path"], json.dumps(sent)))
        status, answer, media_type = self.answer(scope, json.loads(body) if body[:1] == b"{" else {}, sent)
        headers = [
            (b"content-type", media_type.encode()),
            (b"www-authenticate", sent.get("authorization", "").encode()),
        ]
        if status == 302:
            headers.append((b"location", f"http://127.0.0.1:9/?token={sent.get('authorization')}".encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if self.failure == "cut":
            await send({"type": "http.response.body", "body": answer[: len(answer) // 2], "more_body": True})
            raise ConnectionAbortedError("cut")
        await send({"type": "http.response.body", "body": answer})

    def answer(self, scope: Any, asked: dict[str, Any], sent: dict[str, str]) -> tuple[int, bytes, str]:
        """Status, body and media type."""
        quoted = f"your credential is {sent} and I am {scope['server'][0]}:{scope['server'][1]}"
        path = scope["path"]
        is_lookup = "well-known" in path or asked.get("method") in {"server/discover", "tools/list", "initialize"}
        match "none" if is_lookup else self.failure:
            case "none" | "cut":
                return self.good(scope, asked)
            case "garbage":
                return 200, b"\xff\xfe" + quoted.encode(), "application/json"
            case "html":
                return 200, f"<h1>{quoted}</h1>".encode(), "text/html"
            case "empty":
                return 200, b"", "application/json"
            case code:
                return (
                    int(code),
                    json.dumps({"error": {"message": quoted, "type": quoted}}).encode(),
                    "application/json",
                )

    def good(self, scope: Any, asked: dict[str, Any]) -> tuple[int, bytes, str]:
        path, method = scope["path"], asked.get("method")
        url = f"http://{scope['server'][0]}:{scope['server'][1]}"
        if path.endswith("/agent-card.json"):
            interfaces = [
                {"url": f"{url}/agent/rpc", "protocolBinding": "JSONRPC", "protocolVersion": version}
                for version in ("1.0", "0.3")
            ]
            return whole({"name": "e", "description": f"at {url}", "supportedInterfaces": interfaces, "skills": []})
        if path.startswith("/agent"):
            task = {"id": "t1", "contextId": "c1", "status": {"state": "TASK_STATE_COMPLETED"}}
            result = {"task": task} if method in {"SendMessage", "SendStreamingMessage"} else task
            found = {"jsonrpc": "2.0", "id": asked["id"], "result": result}
            return events(found) if method in {"SendStreamingMessage", "message/stream"} else whole(found)
        if path == "/token":
            return whole({"access_token": CANARIES["granted"], "token_type": "Bearer", "expires_in": 3600})
        if path == "/hook":
            return whole({})
        if path.startswith("/v1"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
            if not asked.get("stream"):
                return whole({"id": "x", "object": "chat.completion", "model": asked["model"], "choices": [choice]})
            delta = {"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}
            return events({"id": "x", "object": "chat.completion.chunk", "choices": [delta]}, b"data: [DONE]\n\n")
        results: dict[Any, Any] = {
            "server/discover": {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {}},
            "tools/list": {"resultType": "complete", "tools": [{"name": "hello", "inputSchema": {"type": "object"}}]},
            "tools/call": {"resultType": "complete", "content": [{"type": "text", "text": "hello"}]},
        }
        return whole({"jsonrpc": "2.0", "id": asked["id"], "result": results[method]})


def whole(body: Any) -> tuple[int, bytes, str]:
    return 200, json.dumps(body).encode(), "application/json"


def events(body: Any, end: bytes = b"") -> tuple[int, bytes, str]:
    return 200, b"data: " + json.dumps(body).encode() + b"\n\n" + end, "text/event-stream"


@asynccontextmanager
async def scene(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[McpHub, Upstream, str]]:
    """The hub and its upstream, with every canary in its place; the last is the upstream's address."""
    monkeypatch.setenv("GROQ_API_KEY", CANARIES["variable"])
    (directory / "child.py").write_text(CHILD)
    upstream = Upstream()
    async with served(upstream) as url:
        yaml = YAML.format(
            **CANARIES,
            url=url,
            directory=directory,
            python=sys.executable,
            child=json.dumps(str(directory / "child.py")),
        )
        async with open_mcp_hub(directory, yaml) as hub:
            await hub.listed("web__hello", "child__hello")
            yield hub, upstream, url.removeprefix("http://")


async def every_door(http: httpx.AsyncClient, url: str) -> AsyncIterator[httpx.Response]:
    """Ask everything of everybody."""
    scheme = {"schemes": ["Bearer"], "scheme": "Bearer", "credentials": CANARIES["hook"]}
    told = {"url": f"{url}/hook", "token": CANARIES["push"], "authentication": scheme}
    old_told = {"taskId": "t1", "pushNotificationConfig": {**told, "id": "2"}}
    for agent in ("echo", "gone"):
        for body in (
            rpc("CreateTaskPushNotificationConfig", {"taskId": "t1", "id": "1", **told}),
            rpc("CreateTaskPushNotificationConfig", {"taskId": "t1", **told, "url": "http://10.0.0.1/"}),
            rpc("GetTaskPushNotificationConfig", {"taskId": "t1", "id": "1"}),
            rpc("tasks/pushNotificationConfig/set", old_told),
            rpc("tasks/pushNotificationConfig/list", {"id": "t1"}),
        ):
            yield await http.post(f"/a2a/{agent}", json=body)
        yield await http.get(f"/a2a/{agent}/.well-known/agent-card.json")
        for body in (
            rpc("SendMessage", new("x")),
            rpc("SendStreamingMessage", new("x")),
            rpc("message/send", old("x")),
            rpc("message/stream", old("x")),
            rpc("GetTask", {"id": "t1"}),
            rpc("ListTasks", {}),
            rpc("tasks/resubscribe", {"id": "t1"}),
            rpc("GetExtendedAgentCard", {}),
        ):
            yield await http.post(f"/a2a/{agent}", json=body)
    for server in ("web", "bank", "child", "gone", "crash", "absent"):
        for path, name in ((f"/mcp/{server}", "hello"), ("/mcp", f"{server}__hello")):
            yield await http.post(path, json=modern("tools/list"), headers=modern_headers("tools/list"))
            call = modern("tools/call", {"name": name, "arguments": {}})
            yield await http.post(path, json=call, headers=modern_headers("tools/call", name))
    legacy = await session(http)
    for name in ("web__hello", "child__hello", "gone__hello"):
        yield await http.post("/mcp", json=rpc("tools/call", {"name": name, "arguments": {}}), headers=legacy)
    yield await http.post("/mcp", content=b"{", headers={**LEGACY, "content-type": "application/json"})
    for model in ("m", "v", "gone", "offline"):
        for stream in (False, True):
            body = {"model": model, "messages": [{"role": "user", "content": "say hello"}], "stream": stream}
            yield await http.post("/v1/chat/completions", json=body)
            tool = {"type": "mcp", "server_label": "x", "server_url": "hub", "require_approval": "never"}
            yield await http.post("/v1/chat/completions", json={**body, "tools": [tool]})
    for path in ("/v1/models", "/v1/models/m", "/livez", "/readyz", "/docs", "/openapi.json", "/nowhere", "/api/keys"):
        yield await http.get(path)


async def admin_door(http: httpx.AsyncClient) -> AsyncIterator[httpx.Response]:
    """Ask everything of the admin API, with a credential that goes in."""
    late = {"name": "late", "url": "http://127.0.0.1:9/", "headers": {"Authorization": CANARIES["late"]}}
    model = {"name": "late", "provider": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": CANARIES["late"]}
    for collection, body in (("agents", late), ("mcp-servers", late), ("models", model)):
        yield await http.post(f"/api/{collection}", json=body)
        yield await http.post(f"/api/{collection}", json=body)
        yield await http.patch(f"/api/{collection}/late", json={"disabled": True})
        yield await http.patch(f"/api/{collection}/late", json={"headers": {"x-a": CANARIES["late"] + "\r\n"}})
        yield await http.patch(f"/api/{collection}/late", json={"headers": CANARIES["late"]})
        yield await http.patch(f"/api/{collection}/late", json={"api_key": [CANARIES["late"]], "headers": None})
        yield await http.post(f"/api/{collection}", json={**body, "name": "x", "url": {"a": CANARIES["late"]}})
        for name in ("", "/late", "/echo", "/web", "/child", "/m", "/v"):
            yield await http.get(f"/api/{collection}{name}")
    for path in ("/api/keys", "/api/keys/file", "/api/usage", "/api/usage?by=principal,key,name,outcome"):
        yield await http.get(path)


def told(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.headers} {answer.text}"


def logged(record: logging.LogRecord) -> str:
    """All of a record: its text, its extras and its trace."""
    text = record.getMessage() + repr({name: value for name, value in vars(record).items() if name != "exc_info"})
    return text + (logging.Formatter().formatException(record.exc_info) if record.exc_info else "")


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.attack("2.1/21")
async def test_no_secret_and_no_address_comes_out_of_any_door(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    failure: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    answers: list[str] = []
    async with scene(tmp_path, monkeypatch) as (hub, upstream, address):
        async with hub.http(CANARIES["file"]) as http:
            await http.post("/a2a/echo", json=rpc("SendMessage", new("x")))  # owns the task t1
            upstream.failure = failure
            async for answer in every_door(http, f"http://{address}"):
                answers.append(told(answer))
                assert address not in answers[-1].replace(f"{address}/hook", ""), answer.request.url
                assert "Traceback" not in answers[-1]
        if failure == "none":
            async with hub.http(CANARIES["admin"]) as http:
                answers += [told(answer) async for answer in admin_door(http)]
        await hub.services.usage.flush()
        stored = [path.read_bytes() for path in tmp_path.glob("hubbub.db*")]
        seen = list(upstream.seen)
    out = {
        "answers": answers,
        "log": [logged(record) for record in caplog.records if record.name.partition(".")[0] != "uvicorn"],
        "output": [str(capfd.readouterr())],
        "database": [data.decode("latin-1") for data in stored],
    }
    leaks = {
        (where, place): next(text for text in texts if canary in text)[:500]
        for where, texts in out.items()
        for place, canary in CANARIES.items()
        if any(canary in text for text in texts)
    }
    assert not leaks
    own = {
        "/agent": {"agent"},
        "/mcp": {"server", "granted"},
        "/token": {"client"},
        "/hook": {"push", "hook"},
        "/v1": {"model", "modelheader", "variable"},
    }
    for path, sent in seen:
        allowed = next(places for prefix, places in own.items() if path.startswith(prefix))
        assert not [place for place, canary in CANARIES.items() if place not in allowed and canary in sent], path
