"""Bad input at every door: a clear error in the door's own form, and the next request works."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.conftest import Hub, OpenHub
from tests.peers.a2a_agent import reply, rough_agent, simple_card, task
from tests.peers.openai_upstream import Turn, openai_upstream

MODERN = {
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/call",
    "mcp-name": "nothing",
    "accept": "application/json, text/event-stream",
}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}


@dataclass(frozen=True)
class DoorUnderTest:
    """A door, a good request to it, and how it speaks of errors."""

    path: str
    good: dict[str, Any]
    headers: dict[str, str]

    def code(self, answer: httpx.Response) -> Any:
        """The error's code in the door's form; fails when the answer is not in that form."""
        body = answer.json()
        if self.path.startswith("/v1"):
            assert set(body["error"]) == {"message", "type", "param", "code"}
            return body["error"]["type"]
        assert body["jsonrpc"] == "2.0"
        return body["error"]["code"]


DOORS = {
    "chat": DoorUnderTest("/v1/chat/completions", {"model": "up", "messages": [{"role": "user", "content": "hi"}]}, {}),
    "a2a": DoorUnderTest(
        "/a2a/echo",
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "SendMessage",
            "params": {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}},
        },
        {"a2a-version": "1.0"},
    ),
    "mcp": DoorUnderTest(
        "/mcp",
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "nothing", "_meta": META}},
        MODERN,
    ),
}
PARSE_ERROR = {"chat": "invalid_request_error", "a2a": -32700, "mcp": -32700}


@pytest.fixture
async def running(hub: OpenHub) -> AsyncIterator[Hub]:
    async def answer(request: Any, send: Any) -> None:
        await reply(send, {"jsonrpc": "2.0", "id": 1, "result": {"task": task("t1")}})

    async with (
        rough_agent(answer, simple_card("1.0")) as agent,
        openai_upstream(*[Turn("hello")] * 4) as upstream,
        hub(
            f"agents:\n  echo: {{url: {agent.url}}}\n"
            f"models:\n  up: {{provider: openai_compatible, base_url: {upstream.url}}}\n"
        ) as opened,
    ):
        yield opened


@pytest.fixture(params=DOORS)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


async def post(running: Hub, door: DoorUnderTest, body: bytes, **headers: str) -> httpx.Response:
    secret = await running.key("agent:*", "model:*", "tool:*", "server:*")
    async with running.http(secret) as http:
        sent = {"content-type": "application/json", **door.headers, **headers}
        answer = await http.post(door.path, content=body, headers=sent)
        again = await http.post(door.path, json=door.good, headers=door.headers)
    assert again.status_code == (200 if door.path != "/mcp" else 400), "the next request must work"
    assert answer.headers["x-request-id"].startswith("req_")
    return answer


@pytest.mark.parametrize("body", [b"", b"{", b"{}x", b"\xff\xfe", b'{"a":nul}', b"\xef\xbb\xbf{}"], ids=repr)
async def test_malformed_json_is_told_in_the_doors_form(running: Hub, name: str, body: bytes) -> None:
    answer = await post(running, DOORS[name], body)
    assert DOORS[name].code(answer) == PARSE_ERROR[name]


@pytest.mark.attack("2.1/27")
async def test_a_body_nested_a_thousand_deep_is_refused(running: Hub, name: str) -> None:
    deep = b'{"x":' * 1000 + b"1" + b"}" * 1000
    answer = await post(running, DOORS[name], deep)
    assert DOORS[name].code(answer) == PARSE_ERROR[name]


@pytest.mark.attack("2.1/24", "2.1/25", "2.2/25")
async def test_a_body_of_twenty_megabytes_is_served_and_one_over_the_limit_is_not(running: Hub, name: str) -> None:
    door = DOORS[name]
    large = json.dumps({**door.good, "padding": "x" * (20 << 20)}).encode()
    answer = await post(running, door, large)
    assert answer.status_code != 413
    too_large = await post(running, door, b" " * (33 << 20))
    assert too_large.status_code == 413
    assert door.code(too_large)


@pytest.mark.attack("2.1/24", defence="hub.http_exchange:HttpExchange.any_body")
async def test_a_body_without_a_length_is_bounded_too(running: Hub, name: str) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(34):
            yield b" " * (1 << 20)

    door = DOORS[name]
    secret = await running.key("agent:*", "model:*", "server:*")
    async with running.http(secret) as http:
        try:
            answer = await http.post(
                door.path, content=endless(), headers={"content-type": "application/json", **door.headers}
            )
        except httpx.WriteError:
            return  # the hub had closed before everything was sent
    assert answer.status_code == 413


async def test_another_media_type_is_refused(running: Hub, name: str) -> None:
    answer = await post(running, DOORS[name], b"model=x", **{"content-type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 415
    assert DOORS[name].code(answer)


async def test_a_wrong_http_method_is_refused_with_what_is_allowed(running: Hub, name: str) -> None:
    secret = await running.key("agent:*", "model:*", "server:*")
    async with running.http(secret) as http:
        answer = await http.request("PUT", DOORS[name].path, json={}, headers=DOORS[name].headers)
    assert answer.status_code == 405
    assert "POST" in answer.headers["allow"]


@pytest.mark.attack("2.2/3", "2.2/11")
async def test_without_a_key_every_door_challenges_in_its_form(running: Hub, name: str) -> None:
    for headers in (
        {},
        {"authorization": "Bearer sk-wrong"},
        {"authorization": "Basic eDp5"},
        {"x-api-key": "' OR 1=1"},
    ):
        async with running.http() as http:
            answer = await http.post(
                DOORS[name].path, json=DOORS[name].good, headers={**DOORS[name].headers, **headers}
            )
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert DOORS[name].code(answer)


@pytest.mark.attack("2.1/5", "2.1/36", "2.2/14")
async def test_a_foreign_host_and_a_foreign_origin_are_refused_before_the_key_is_looked_at(
    running: Hub, name: str
) -> None:
    async with running.http() as http:
        host = await http.post(DOORS[name].path, json={}, headers={"host": "evil.example"})
        origin = await http.post(DOORS[name].path, json={}, headers={"origin": "https://evil.example"})
    assert (host.status_code, origin.status_code) == (421, 403)
    assert DOORS[name].code(host)
    assert DOORS[name].code(origin)


@pytest.mark.attack("2.1/24")
async def test_headers_over_the_limit_are_refused(running: Hub, name: str) -> None:
    async with running.http() as http:
        answer = await http.post(DOORS[name].path, json={}, headers={"x-padding": "x" * (65 << 10)})
    assert answer.status_code in {400, 431}


async def test_every_route_but_the_named_ones_needs_a_key(running: Hub) -> None:
    opened = {"/livez", "/readyz", "/docs", "/openapi.json", "/ui"}
    paths = [
        "/",
        "/api/keys",
        "/api/agents",
        "/api/mcp-servers",
        "/api/models",
        "/api/usage",
        "/mcp",
        "/mcp/x",
        "/a2a/echo",
    ]
    paths += [
        "/a2a/echo/.well-known/agent-card.json",
        "/v1/models",
        "/models",
        "/v1/chat/completions",
        "/metrics",
    ]
    async with running.http() as http:
        assert {path: (await http.get(path)).status_code for path in paths} == dict.fromkeys(paths, 401)
        assert {path: (await http.get(path)).status_code for path in opened} == dict.fromkeys(opened, 200)


@pytest.mark.attack("2.1/6")
async def test_no_door_redirects(running: Hub) -> None:
    secret = await running.key("agent:*", "model:*", "server:*")
    async with running.http(secret) as http:
        for path in ("/a2a/echo", "/a2a/echo/", "/mcp", "/mcp/", "/v1/models", "/api/keys/", "/docs/"):
            assert (await http.get(path)).status_code not in range(300, 400), path
