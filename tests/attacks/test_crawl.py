"""Every route of the route table by every method without a key: what is not listed here answers nobody."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from hub.routes import routes
from tests.attacks.test_paths import raw
from tests.conftest import Hub, OpenHub

YAML = """
agents:
  open: {url: "http://127.0.0.1:9", card: public}
  closed: {url: "http://127.0.0.1:9"}
mcpServers:
  web: {url: "http://127.0.0.1:9/mcp"}
models:
  offline: {provider: offline}
"""
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
READ = {"GET", "HEAD"}
PUBLIC = {
    "/livez": set(METHODS),
    "/readyz": set(METHODS),
    "/docs": {"GET"},
    "/openapi.json": {"GET"},
    "/a2a/open/.well-known/agent-card.json": {"GET"},
    "/.well-known/agent-card.json": {"GET"},
    "/.well-known/ai-catalog.json": {"GET"},
    "/.well-known/jwks.json": {"GET"},
    "/.well-known/oauth-protected-resource": READ,
    "/.well-known/oauth-protected-resource/mcp": READ,
    "/oauth/client.json": READ,
    "/connect/web": READ,
    "/connect/x": READ,
    "/ui": READ,
}
"""What answers without a key, by the methods that it answers. Below `/connect/` it is a form that asks for one, at `/ui` a page that says where to sign in."""

OTHERWISE = ("/connect/", "/oauth/", "/a2a/_push/", "/.well-known/", "/ui")
"""Where something else than a key is asked for, or nothing is kept: a link, a state, a session, a secret of a callback."""


async def every_path(hub: Hub) -> list[str]:
    """What the route table has: whole paths, something below each prefix, and all that the API's description names."""
    async with routes(hub.services, asyncio.Event()) as table:
        paths = {*table.exact, *(f"{prefix}x" for prefix, _ in table.prefixes), "/", "/ui", "/metrics", "/nowhere"}
    async with hub.http() as http:
        described = json.loads((await http.get("/openapi.json")).content)["paths"]
    named = {re.sub(r"\{\w+\}", "closed", path) for path in described}
    ui = {"/ui/sign-in", "/ui/callback", "/ui/sign-out", "/ui/team"}
    return sorted(paths | ui | named | PUBLIC.keys() | {"/a2a/closed/.well-known/agent-card.json", "/mcp/web"})


@pytest.mark.attack("2.2/11", "2.1/37", defence="hub.auth:Authenticator.principal")
async def test_without_a_key_only_what_is_listed_answers(hub: OpenHub) -> None:
    async with hub(YAML) as running:
        answers = {
            (method, path): int((await raw(running, path, "Content-Length: 0", method=method)).split()[1])
            for path in await every_path(running)
            for method in METHODS
        }
    assert len(answers) > 500
    down = 502  # the agent whose card is open to all
    answering = {asked for asked, status in answers.items() if status < 300 or status == down}
    assert answering == {(method, path) for path, methods in PUBLIC.items() for method in methods}
    others = {asked: status for asked, status in answers.items() if asked not in answering}
    assert not {asked for asked, status in others.items() if status != 401 and not asked[1].startswith(OTHERWISE)}
    assert set(others.values()) <= {400, 401, 403, 404, 405}


async def test_the_form_that_asks_for_a_key_does_not_say_what_is_there(hub: OpenHub) -> None:
    async with hub(YAML) as running, running.http() as http:
        there, absent = (await http.get("/connect/web")), (await http.get("/connect/nothing"))
    assert (there.status_code, there.text.replace("web", "nothing")) == (absent.status_code, absent.text)
