"""Signing in with a browser: who one is then, in which team, for how long, and who hears of its end."""

from __future__ import annotations

import html
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from registry.callers import sessions
from registry.declared.config import ConfigInvalid, read
from tests.attacks.test_tokens import declared, setting
from tests.conftest import ADMIN_KEY, Hub, open_hub
from tests.doors.test_limits import chat
from tests.peers.issuer import FakeIssuer, open_issuer
from tests.peers.openai_upstream import Turn, openai_upstream

COOKIE = "hubbub-session"
CLIENT = {"client_id": "hubbub-ui", "client_secret": "a secret/of the client's"}


@dataclass
class Scene:
    """A hub at whose one issuer people sign in, and its operator."""

    hub: Hub
    issuer: FakeIssuer
    admin: httpx.AsyncClient

    async def post(self, path: str, **body: Any) -> None:
        answer = await self.admin.post(path, json=body)
        assert answer.status_code in {200, 201}, answer.text

    async def put_in(self, team: str, role: str = "member", user: str = "rita") -> None:
        if (await self.admin.get(f"/api/teams/{team}")).status_code == 404:
            await self.post("/api/teams", alias=team)
        await self.admin.put(f"/api/teams/{team}/members/{user}", json={"role": role})


@asynccontextmanager
async def scene(tmp_path: Path, **members: Any) -> AsyncIterator[Scene]:
    async with (
        open_issuer() as issuer,
        open_hub(tmp_path, setting=setting(declared(issuer, **{"sign_in": CLIENT, **members}))) as hub,
        hub.http(ADMIN_KEY) as admin,
    ):
        yield Scene(hub, issuer, admin)


def browser(hub: Hub, secret: str | None = None) -> httpx.AsyncClient:
    """One that goes where it is sent, with a session's cookie or none."""
    own = {"origin": hub.url, "sec-fetch-site": "same-origin"}
    cookies = {} if secret is None else {COOKIE: secret}
    return httpx.AsyncClient(
        base_url=hub.url, headers=own, cookies=cookies, timeout=30, trust_env=False, follow_redirects=True
    )


async def sign_in(http: httpx.AsyncClient, **query: str) -> httpx.Response:
    return await http.get("/ui/sign-in", params=query)


def token_of(page: httpx.Response) -> str:
    """What the page's forms bring along."""
    found = re.search(r'name="csrf" type="hidden" value="([^"]+)"', page.text)
    assert found is not None, page.text
    return found[1]


async def press(http: httpx.AsyncClient, page: httpx.Response, path: str, **fields: str) -> httpx.Response:
    return await http.post(path, data={"csrf": token_of(page), **fields})


async def test_who_signs_in_is_who_comes_with_a_token(tmp_path: Path) -> None:
    """The same user, grants and principal; at `/api` and `/ui`."""
    async with scene(tmp_path, create_users=True, allow=["admin:usage", "model:*"]) as s:
        async with browser(s.hub) as http, s.hub.http(s.issuer.token()) as bearer:
            page = await sign_in(http)
            assert (page.status_code, page.url.path) == (200, "/ui")
            assert "rita@127.0.0.1" in page.text
            assert "admin:usage, model:*" in page.text
            assert (await http.get("/api/usage")).status_code == 200
            assert (await http.get("/api/keys")).status_code == 404
            for one in (http, bearer):
                await one.get("/api/keys")
        log = (await s.admin.get("/api/audit")).json()["items"]
        assert len({row["principal"] for row in log if row["object"] == "path:/api/keys"}) == 1
        assert [row["object"] for row in log if row["act"] == "sign-in"] == [s.issuer.named]
        [form] = s.issuer.forms
        assert form["redirect_uri"] == f"{s.hub.url}/ui/callback"


async def test_who_is_signed_in_makes_keys_that_outlast_the_session(tmp_path: Path) -> None:
    """With what they may themselves at every door, and within the issuer's limits."""
    item = {"claims": {"team": "team"}, "allow": ["admin:roles", "model:*"], "limits": {"calls_per_day": 1}}
    async with openai_upstream(Turn("hi")) as upstream, open_issuer() as issuer:
        yaml = f"models:\n  m: {{provider: openai, base_url: '{upstream.url}', api_key: k}}\n"
        file = setting(declared(issuer, sign_in=CLIENT, **item))
        async with open_hub(tmp_path, yaml, setting=file) as hub, hub.http(ADMIN_KEY) as admin, browser(hub) as http:
            await Scene(hub, issuer, admin).post("/api/users", name="rita")
            await Scene(hub, issuer, admin).put_in("red")
            issuer.identity = {"team": "red"}
            page = await sign_in(http)
            headers = {"x-csrf-token": token_of(page)}
            refused = await http.post("/api/keys", json={"name": "more", "allow": ["tool:*"]}, headers=headers)
            assert refused.status_code == 400
            made = (await http.post("/api/keys", json={"name": "mine", "allow": ["model:*"]}, headers=headers)).json()
            assert (made["user"], made["doors"], made["expires_at"]) == ("rita", None, None)
            await press(http, page, "/ui/sign-out")
            async with hub.http(made["key"]) as keyed, hub.http(issuer.token(team="red")) as bearer:
                assert (await chat(keyed)).status_code == 200
                assert [(await chat(one)).status_code for one in (keyed, bearer)] == [429, 429]


async def test_who_is_not_signed_in_is_told_where(tmp_path: Path) -> None:
    async with scene(tmp_path) as s, browser(s.hub) as http:
        page = await http.get("/ui")
        [link] = re.findall(r'href="([^"]+)">Sign in at 127.0.0.1', page.text)
        assert (await http.head(html.unescape(link), follow_redirects=False)).status_code == 303
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert "script" not in page.text
        assert (await http.get("/api/usage")).status_code == 401


async def test_somebody_without_a_user_here_is_told_so(tmp_path: Path) -> None:
    async with scene(tmp_path) as s, browser(s.hub) as http:
        page = await sign_in(http)
        assert page.status_code == 401
        assert "Ask its operator" in page.text
        assert COOKIE not in http.cookies


async def test_of_several_teams_one_is_chosen(tmp_path: Path) -> None:
    item = {"claims": {"team": "groups"}, "allow": ["admin:roles", "admin:usage"]}
    async with scene(tmp_path, **item) as s, browser(s.hub) as http:
        await s.post("/api/users", name="rita")
        for team, role in (("blue", "viewer"), ("red", "admin"), ("secret", "admin")):
            await s.put_in(team, role)
        s.issuer.identity = {"groups": ["red", "blue", "elsewhere"]}
        page = await sign_in(http)
        assert "<strong>blue, viewer</strong>" in page.text
        assert "Act in red" in page.text
        assert "secret" not in page.text
        assert [team["alias"] for team in (await http.get("/api/teams")).json()["items"]] == ["blue"]
        before = http.cookies[COOKIE]
        red = re.search(r'name="team" type="hidden" value="([^"]+)"', page.text)
        assert red is not None
        page = await press(http, page, "/ui/team", team=red[1])
        assert "<strong>red, admin</strong>" in page.text
        assert [team["alias"] for team in (await http.get("/api/teams")).json()["items"]] == ["red"]
        assert http.cookies[COOKIE] != before
        for team in ("secret", "team_none", (await s.admin.get("/api/teams/secret")).json()["id"]):
            assert (await press(http, page, "/ui/team", team=team)).status_code == 404
        async with browser(s.hub, before) as old:
            assert (await old.get("/api/teams")).status_code == 401


@pytest.mark.parametrize("has_endpoint", [True, False])
async def test_claims_that_the_id_token_lacks_are_asked_for(tmp_path: Path, has_endpoint: bool) -> None:
    async with scene(tmp_path, claims={"team": "groups"}) as s, browser(s.hub) as http:
        await s.post("/api/users", name="rita")
        await s.put_in("red")
        s.issuer.info = {"sub": "rita", "groups": ["red"]}
        s.issuer.shows = {"userinfo_endpoint": f"{s.issuer.url}/userinfo"} if has_endpoint else {}
        page = await sign_in(http)
        assert ("<strong>red, member</strong>" in page.text) == has_endpoint


async def test_userinfo_of_somebody_else_is_nobodys(tmp_path: Path) -> None:
    async with scene(tmp_path, claims={"team": "groups"}) as s, browser(s.hub) as http:
        await s.post("/api/users", name="rita")
        await s.put_in("red")
        s.issuer.info = {"sub": "eve", "groups": ["red"]}
        s.issuer.shows = {"userinfo_endpoint": f"{s.issuer.url}/userinfo"}
        assert (await sign_in(http)).status_code == 401


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_the_hub_shows_its_secret_as_the_issuer_takes_it(tmp_path: Path, method: str) -> None:
    async with scene(tmp_path, create_users=True) as s, browser(s.hub) as http:
        s.issuer.shows = {"token_endpoint_auth_methods_supported": [method]}
        assert (await sign_in(http)).status_code == 200
        [form] = s.issuer.forms
        assert form.get("client_secret") == (CLIENT["client_secret"] if method.endswith("post") else None)


async def test_signing_out_ends_the_session_and_no_other(tmp_path: Path) -> None:
    async with scene(tmp_path, create_users=True, allow=["admin:usage"]) as s:
        async with browser(s.hub) as one, browser(s.hub) as other:
            page = await sign_in(one)
            await sign_in(other)
            secret = one.cookies[COOKIE]
            page = await press(one, page, "/ui/sign-out")
            assert "You are signed out" in page.text
            assert "Sign out at" not in page.text
            assert COOKIE not in one.cookies
            async with browser(s.hub, secret) as again:
                assert (await again.get("/api/usage")).status_code == 401
                assert "Your session is over" in (await again.get("/ui")).text
            assert (await other.get("/api/usage")).status_code == 200
        log = (await s.admin.get("/api/audit")).json()["items"]
        assert len([row for row in log if row["act"] == "sign-out"]) == 1


@pytest.mark.parametrize(
    ("named", "link"),
    [
        ('{url}/"><script>?a=b', '{url}/"><script>?a=b&client_id=hubbub-ui'),
        ("http://10.0.0.1/end", None),
        ("javascript:alert(1)", None),
    ],
)
async def test_no_issuer_leads_elsewhere_by_its_page_for_signing_out(
    tmp_path: Path, named: str, link: str | None
) -> None:
    async with scene(tmp_path, create_users=True) as s, browser(s.hub) as http:
        s.issuer.shows = {"end_session_endpoint": named.format(url=s.issuer.url)}
        page = await press(http, await sign_in(http), "/ui/sign-out")
        found = re.findall(r'href="([^"]+)"[^>]*>Sign out at', page.text)
        assert [html.unescape(one) for one in found] == ([] if link is None else [link.format(url=s.issuer.url)])


@pytest.mark.parametrize("how", ["disabled", "deleted", "taken out", "another role", "team deleted"])
async def test_sessions_end_with_what_they_rest_on(tmp_path: Path, how: str) -> None:
    """At the next request, and for good: enabling the user again brings none back."""
    async with scene(tmp_path, claims={"team": "team"}, allow=["admin:roles"]) as s, browser(s.hub) as http:
        await s.post("/api/users", name="rita")
        await s.put_in("red")
        s.issuer.identity = {"team": "red"}
        await sign_in(http)
        assert (await http.get("/api/teams")).status_code == 200
        member = "/api/teams/red/members/rita"
        for method, path, body in {
            "disabled": [
                ("PATCH", "/api/users/rita", {"disabled": True}),
                ("PATCH", "/api/users/rita", {"disabled": False}),
            ],
            "deleted": [("DELETE", "/api/users/rita", None)],
            "taken out": [("DELETE", member, None), ("PUT", member, {"role": "member"})],
            "another role": [("PUT", member, {"role": "admin"})],
            "team deleted": [("DELETE", "/api/teams/red", None)],
        }[how]:
            assert (await s.admin.request(method, path, json=body)).is_success
        assert (await http.get("/api/teams")).status_code == 401


async def test_another_process_obeys_at_once(tmp_path: Path) -> None:
    async with scene(tmp_path, create_users=True, allow=["admin:usage"]) as s, browser(s.hub) as http:
        page = await sign_in(http)
        item = declared(s.issuer, create_users=True, allow=["admin:usage"], sign_in=CLIENT)
        async with open_hub(tmp_path, setting=setting(item)) as second, browser(second, http.cookies[COOKIE]) as there:
            assert (await there.get("/api/usage")).status_code == 200
            await press(http, page, "/ui/sign-out")
            assert (await there.get("/api/usage")).status_code == 401


async def test_an_issuer_where_nobody_signs_in_any_more_has_no_sessions(tmp_path: Path) -> None:
    async with scene(tmp_path, create_users=True, allow=["admin:usage"]) as s, browser(s.hub) as http:
        await sign_in(http)
        item = declared(s.issuer, create_users=True, allow=["admin:usage"])
        async with open_hub(tmp_path, setting=setting(item)) as second, browser(second, http.cookies[COOKIE]) as there:
            assert (await there.get("/api/usage")).status_code == 401


@pytest.mark.parametrize(
    ("after_s", "is_over"), [(0, False), (sessions.IDLE_S + 1, True), (sessions.LASTS_S + 1, True)]
)
async def test_a_session_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_s: float, is_over: bool
) -> None:
    async with scene(tmp_path, create_users=True, allow=["admin:usage"]) as s, browser(s.hub) as http:
        await sign_in(http)
        now = time.time
        monkeypatch.setattr(sessions, "time", SimpleNamespace(time=lambda: now() + after_s))
        assert (await http.get("/api/usage")).status_code == (401 if is_over else 200)


async def test_a_session_that_is_used_goes_on_until_its_day_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path, create_users=True, allow=["admin:usage"]) as s, browser(s.hub) as http:
        await sign_in(http)
        now, after_s, statuses = time.time, 0.0, []
        monkeypatch.setattr(sessions, "time", SimpleNamespace(time=lambda: now() + after_s))
        while after_s < sessions.LASTS_S:
            after_s += sessions.IDLE_S * 0.9
            statuses.append((await http.get("/api/usage")).status_code)
            await s.hub.services.database.committed()
    assert statuses == [200] * (len(statuses) - 1) + [401]
    assert len(statuses) == 14


async def test_a_user_has_so_many_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_OF_USER", 2)
    async with (
        scene(tmp_path, create_users=True, allow=["admin:usage"]) as s,
        browser(s.hub) as one,
        browser(s.hub) as two,
        browser(s.hub) as three,
    ):
        for http in (one, two, three):
            await sign_in(http)
        found = [(await http.get("/api/usage")).status_code for http in (one, two, three)]
    assert found == [401, 200, 200]


async def test_an_issuer_that_does_not_answer_is_said_on_the_page(tmp_path: Path) -> None:
    async with scene(tmp_path) as s, browser(s.hub) as http:
        s.issuer.is_down = True
        page = await sign_in(http)
        assert page.status_code == 503
        assert "does not answer" in page.text


async def test_an_issuer_that_fails_in_the_middle_is_said_on_the_page(tmp_path: Path) -> None:
    async with scene(tmp_path, create_users=True) as s, browser(s.hub) as http:
        http.follow_redirects = False
        to_issuer = (await sign_in(http)).headers["location"]
        back = (await http.get(to_issuer)).headers["location"]
        s.issuer.is_down = True
        page = await http.get(back)
        assert (page.status_code, "This did not work" in page.text) == (502, True)
        assert COOKIE not in http.cookies


async def test_an_issuer_that_signs_nobody_in_says_so(tmp_path: Path) -> None:
    async with scene(tmp_path, create_users=True) as s, browser(s.hub) as http:
        s.issuer.answers = {"code": None, "error": "access_denied"}
        page = await sign_in(http)
        assert (page.status_code, "did not sign you in" in page.text) == (400, True)


def test_a_client_whose_id_tokens_would_be_access_tokens_is_refused() -> None:
    item = {"issuer": "https://login.example.com", "audience": ["x", CLIENT["client_id"]], "sign_in": CLIENT}
    with pytest.raises(ConfigInvalid, match="client_id: is in audience too"):
        read(f"hub: {{{setting(item)}}}", file="hub.yaml", environ={}, read_file=str)


@pytest.mark.parametrize(
    ("url", "is_told"),
    [("https://hub.example.com", False), ("http://127.0.0.1:4000", False), ("http://hub.example.com", True)],
)
def test_sessions_that_others_could_read_are_told_of(url: str, is_told: bool) -> None:
    item = {"issuer": "https://login.example.com", "audience": "hub", "sign_in": CLIENT}
    text = f"hub: {{public_url: '{url}', {setting(item)}}}"
    notices = read(text, file="hub.yaml", environ={}, read_file=str).notices
    assert [str(one).partition("sign_in: ")[2] for one in notices] == (
        ["hub.public_url is not https: whoever reads along can be who signed in"] if is_told else []
    )
