"""A provider that nobody here wrote (`oidc-provider` on Node): people sign in with its forms, and its tokens open doors."""

from __future__ import annotations

import asyncio
import html
import platform
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_plus, urljoin

import httpx

from tests.attacks.test_tokens import setting
from tests.conftest import ADMIN_KEY, Hub, free_port, open_hub
from tests.doors.test_limits import chat, use_tool
from tests.doors.test_sign_in import COOKIE, press, token_of
from tests.foreign.environments import HERE, foreign, make, process, until_it_answers
from tests.peers.mcp_servers import dual_era
from tests.peers.openai_upstream import Turn, openai_upstream

pytestmark = foreign

CLIENT = {
    "client_id": "hubbub-ui",
    "client_secret": "a secret/of the hub's, as the provider knows it",
    "scopes": ["profile", "groups"],
}
ROBOT = ("robot", "a secret of the robot's")
AUDIENCE = "https://hub.example.com/models"


_ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64"}


@dataclass
class Scene:
    """A hub, its operator, and the provider that it sends people to."""

    hub: Hub
    provider: str
    admin: httpx.AsyncClient

    async def user(self, name: str, *teams: str) -> None:
        """Make a user who is in these teams."""
        assert (await self.admin.post("/api/users", json={"name": name})).status_code == 201
        for team in teams:
            await self.admin.post("/api/teams", json={"alias": team})
            put = await self.admin.put(f"/api/teams/{team}/members/{name}", json={"role": "member"})
            assert put.status_code == 200

    async def token(self, resource: str, scope: str) -> str:
        """An access token of the robot's (RFC 8707, RFC 9068)."""
        asked = {"grant_type": "client_credentials", "resource": resource, "scope": scope}
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            answer = await http.post(f"{self.provider}/token", data=asked, auth=ROBOT)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token


@asynccontextmanager
async def scene(directory: Path, yaml: str = "", **members: object) -> AsyncIterator[Scene]:
    """Run both. The provider is on Node: 22 or newer, which npm has."""
    home = await asyncio.to_thread(make, "oidc")
    shutil.copy(HERE / "oidc_provider.mjs", home / "provider.mjs")
    node = home / "node_modules" / f"node-linux-{_ARCHITECTURES[platform.machine()]}" / "bin" / "node"
    port = free_port()
    url, lines = f"http://127.0.0.1:{port}", list[str]()
    item = {"issuer": url, "audience": AUDIENCE, **members}
    async with (
        open_hub(directory, yaml, setting=setting(item)) as hub,
        hub.http(ADMIN_KEY) as admin,
        process(node, "provider.mjs", str(port), hub.url, cwd=home, lines=lines) as child,
    ):
        await until_it_answers(child, f"{url}/.well-known/openid-configuration", lines)
        yield Scene(hub, url, admin)


def person(hub: Hub) -> httpx.AsyncClient:
    """A browser: it keeps cookies, follows redirects, and says of forms which page they are of."""

    async def say_origin(request: httpx.Request) -> None:
        request.headers.pop("origin", None)  # what a redirect leads to is not asked as the form was
        if request.method == "POST":
            request.headers["origin"] = f"{request.url.scheme}://{request.url.netloc.decode()}"

    hooks = {"request": [say_origin]}
    return httpx.AsyncClient(base_url=hub.url, trust_env=False, timeout=30, follow_redirects=True, event_hooks=hooks)


async def submit(http: httpx.AsyncClient, page: httpx.Response, **fields: str) -> httpx.Response:
    """Fill the page's form, and send it."""
    form = re.search(r'<form[^>]* action="([^"]+)"', page.text)
    assert form is not None, page.text
    hidden = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
    return await http.post(urljoin(str(page.url), html.unescape(form[1])), data={**hidden, **fields})


async def test_people_sign_in_by_the_providers_forms_and_out_again(tmp_path: Path) -> None:
    item = {"claims": {"team": "groups"}, "allow": ["admin:roles", "admin:usage"], "sign_in": CLIENT}
    async with scene(tmp_path, **item) as s, person(s.hub) as http, person(s.hub) as stranger:
        await s.user("rita", "red", "green")
        page = await http.get("/ui/sign-in")
        assert str(page.url).startswith(f"{s.provider}/interaction/")
        page = await submit(http, page, login="rita", password="x")
        assert "groups" in page.text  # what the hub asks for, on the provider's page of consent
        page = await submit(http, page)
        assert (page.url.path, page.status_code) == ("/ui", 200)
        assert "<strong>red, member</strong>" in page.text  # her groups are in UserInfo only, and blue is no team here
        assert (await http.get("/api/usage")).status_code == 200
        made = await http.post(
            "/api/keys", json={"name": "mine", "allow": []}, headers={"x-csrf-token": token_of(page)}
        )
        assert (made.status_code, made.json()["user"], made.json()["team"]) == (201, "rita", "red")
        page = await stranger.get("/ui/sign-in")
        page = await submit(stranger, await submit(stranger, page, login="eve", password="x"))
        assert (page.status_code, COOKIE in stranger.cookies) == (401, False)
        page = await press(http, await http.get("/ui"), "/ui/sign-out")
        assert "You are signed out" in page.text
        assert (await http.get("/api/usage")).status_code == 401
        again = await http.get("/ui/sign-in")  # the provider still knows her: no form
        assert "<strong>red, member</strong>" in again.text
        page = await press(http, await http.get("/ui"), "/ui/sign-out")
        [link] = re.findall(r'href="([^"]+)"[^>]*>Sign out at', page.text)
        assert link.startswith(f"{s.provider}/session/end")
        asked = await http.get(html.unescape(link))
        done = await submit(http, asked, logout="yes")
        assert done.url.path.endswith("/session/end/success"), done.text
        again = await http.get("/ui/sign-in")  # and now it does not
        assert str(again.url).startswith(f"{s.provider}/interaction/")


async def test_the_provider_holds_the_hub_to_pkce(tmp_path: Path) -> None:
    """A code without the verifier of the browser that began is worth nothing, not even with the client's secret."""
    async with scene(tmp_path, create_users=True, sign_in=CLIENT) as s, person(s.hub) as http:
        page = await submit(http, await http.get("/ui/sign-in"), login="rita", password="x")
        http.follow_redirects = False
        answer = await submit(http, page)
        while not answer.headers["location"].startswith(s.hub.url):
            answer = await http.get(answer.headers["location"])
        back = httpx.URL(answer.headers["location"])
        assert back.params["iss"] == s.provider
        form = {
            "grant_type": "authorization_code",
            "code": back.params["code"],
            "redirect_uri": f"{s.hub.url}/ui/callback",
        }
        secret = (CLIENT["client_id"], quote_plus(CLIENT["client_secret"]))
        async with httpx.AsyncClient(trust_env=False, timeout=30) as thief:
            for more in ({}, {"code_verifier": "x" * 43}):
                refused = await thief.post(f"{s.provider}/token", data={**form, **more}, auth=secret)
                assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
            plain = await thief.get(
                f"{s.provider}/auth",
                params={"client_id": CLIENT["client_id"], "response_type": "code", "scope": "openid"},
            )
            assert "PKCE" in httpx.URL(plain.headers["location"]).params["error_description"]
        assert (await http.get(back)).status_code in {303, 400}
        assert (await http.get(back)).status_code == 400


async def test_access_tokens_of_the_provider_open_the_doors_that_they_are_for(tmp_path: Path) -> None:
    async with dual_era() as peer, openai_upstream(*[Turn("hi")] * 2) as upstream:
        yaml = (
            f"mcpServers:\n  s: {{url: {peer.url}}}\n"
            f"models:\n  m: {{provider: openai, base_url: '{upstream.url}', api_key: k}}\n"
        )
        item = {"create_users": True, "scopes": {"models": ["model:*"], "tools": ["tool:*"]}}
        async with scene(tmp_path, yaml, **item) as s:
            await s.hub.services.sync.refresh("s")
            models = await s.token(AUDIENCE, "models tools")
            tools = await s.token(f"{s.hub.url}/mcp", "tools")
            other = await s.token("https://elsewhere.example.com", "models tools")
            none = await s.token(AUDIENCE, "")
            for token, chats, uses in ((models, 200, 200), (tools, 401, 200), (other, 401, 401), (none, 404, 400)):
                async with s.hub.http(token) as http:
                    assert (await chat(http)).status_code == chats
                    answer = await use_tool(http)
                    assert answer.status_code == uses
                    assert uses != 200 or "error" not in answer.json(), answer.text
