"""Signing in under attack: other sites, other browsers, issuers that lie, and sessions that must not outlive or exceed themselves."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import ECKey

from hub.browsers import Browsers
from tests.attacks.test_tokens import declared, part, setting
from tests.conftest import ADMIN_KEY, Hub, open_hub
from tests.doors.test_sign_in import CLIENT, COOKIE, Scene, browser, scene, sign_in, token_of
from tests.peers.issuer import FakeIssuer, open_issuer

OPEN = {"create_users": True, "allow": ["admin:*"]}


async def begun(http: httpx.AsyncClient, **query: str) -> str:
    """Begin in a browser; returns where it is sent."""
    http.follow_redirects = False
    answer = await sign_in(http, **query)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


async def is_signed_in(http: httpx.AsyncClient) -> bool:
    return (await http.get("/api/usage")).status_code == 200


def unsigned(claims: dict[str, Any], issuer: FakeIssuer) -> str:
    return f"{part({'alg': 'none', 'kid': 'one'})}.{part(issuer.claims(**claims))}."


FORGED: dict[str, Callable[[FakeIssuer, dict[str, Any]], str]] = {
    "no nonce": lambda issuer, claims: issuer.token(**{**claims, "nonce": None}),
    "another nonce": lambda issuer, claims: issuer.token(**{**claims, "nonce": "mine"}),
    "for another client": lambda issuer, claims: issuer.token(**{**claims, "aud": "other"}),
    "for several, authorized another": lambda issuer, claims: issuer.token(
        **{**claims, "aud": [CLIENT["client_id"], "other"], "azp": "other"}
    ),
    "for several, nobody authorized": lambda issuer, claims: issuer.token(
        **{**claims, "aud": [CLIENT["client_id"], "x"]}
    ),
    "authorized another": lambda issuer, claims: issuer.token(**claims, azp="other"),
    "for the doors": lambda issuer, claims: issuer.token(**{**claims, "aud": "hub"}),
    "of another issuer": lambda issuer, claims: issuer.token(**claims, iss="https://other.example"),
    "expired": lambda issuer, claims: issuer.token(**claims, exp=int(time.time()) - 60),
    "of the future": lambda issuer, claims: issuer.token(**claims, iat=int(time.time()) + 300),
    "without a time": lambda issuer, claims: issuer.token(**claims, iat=None),
    "without a subject": lambda issuer, claims: issuer.token(**claims, sub=None),
    "an access token": lambda issuer, claims: issuer.token(**claims, h_typ="at+jwt"),
    "a logout token": lambda issuer, claims: issuer.token(**claims, h_typ="logout+jwt"),
    "alg none": lambda issuer, claims: unsigned(claims, issuer),
    "of another key": lambda issuer, claims: issuer.token(**claims, key=ECKey.generate_key("P-256")),
    "of another algorithm": lambda issuer, claims: issuer.token(**claims, kid="rsa", h_alg="PS256"),
    "no token": lambda _issuer, _claims: "x",
}


@pytest.mark.attack("2.1/17", "2.1/18")
async def test_an_id_token_that_is_not_true_or_of_another_sign_in_signs_nobody_in(tmp_path: Path) -> None:
    async with scene(tmp_path, **OPEN) as s:
        s.issuer.new_key("rsa", "RS256")
        for name, forge in FORGED.items():
            s.issuer.forge = lambda claims, forge=forge: forge(s.issuer, claims)  # type: ignore[misc]
            async with browser(s.hub) as http:
                assert (await sign_in(http)).status_code == 401, name
                assert not await is_signed_in(http), name
        s.issuer.forge = None
        async with browser(s.hub) as http:
            assert (await sign_in(http)).status_code == 200  # nor does it hurt anybody else


@pytest.mark.attack("2.1/17", "2.2/23", defence="registry.callers.sign_in:_same")
async def test_an_answer_is_of_the_browser_that_began_and_of_one_sign_in(tmp_path: Path) -> None:
    """Login CSRF: a stranger's answer signs nobody in as the stranger; a code that was seen is of no use."""
    async with scene(tmp_path, **OPEN) as s, browser(s.hub) as eve, browser(s.hub) as victim:
        of_eve = s.issuer.authorize(httpx.URL(await begun(eve)).params)
        for link in (of_eve, of_eve.replace("state=", "other="), f"{s.hub.url}/ui/callback", f"{of_eve}&state=x"):
            assert (await victim.get(link)).status_code == 400, link
        of_victim = s.issuer.authorize(httpx.URL(await begun(victim)).params)
        assert (await victim.get(of_eve)).status_code == 400
        assert not await is_signed_in(victim)
        of_victim = s.issuer.authorize(httpx.URL(await begun(victim)).params)
        assert (await eve.get(of_victim)).status_code == 400
        assert not await is_signed_in(eve)
        assert not s.issuer.forms  # no code was sent anywhere
        assert (await victim.get(of_victim)).status_code == 303
        assert await is_signed_in(victim)
        for who in (victim, eve):
            assert (await who.get(of_victim)).status_code == 400
        again = s.issuer.authorize(httpx.URL(await begun(eve)).params)
        [code] = parse_qs(urlsplit(of_victim).query)["code"]
        assert (await eve.get(re.sub("code=[^&]+", f"code={code}", again))).status_code == 400  # used before
        assert not await is_signed_in(eve)


@pytest.mark.attack("2.1/17")
async def test_a_code_of_somebody_else_cannot_be_put_into_an_own_sign_in(tmp_path: Path) -> None:
    """PKCE and the nonce: a stolen code that nobody has used is of no use in another sign-in."""
    async with scene(tmp_path, **OPEN) as s, browser(s.hub) as eve, browser(s.hub) as victim:
        stolen = parse_qs(urlsplit(s.issuer.authorize(httpx.URL(await begun(victim)).params)).query)["code"][0]
        own = s.issuer.authorize(httpx.URL(await begun(eve)).params)
        assert (await eve.get(re.sub("code=[^&]+", f"code={stolen}", own))).status_code == 400
        assert not await is_signed_in(eve)
        asked = httpx.URL(await begun(eve)).params
        assert (asked["code_challenge_method"], asked["response_type"], asked["scope"]) == ("S256", "code", "openid")


@pytest.mark.parametrize("iss", ["https://other.example", "", None])
@pytest.mark.attack("2.1/17")
async def test_an_answer_of_another_issuer_is_refused(tmp_path: Path, iss: str | None) -> None:
    """Mix-up (RFC 9207): with an issuer that says so, and with several, no answer without it."""
    async with open_issuer() as one, open_issuer() as other:
        items = [declared(issuer, sign_in=CLIENT, **OPEN) for issuer in (one, other)]
        async with open_hub(tmp_path, setting=setting(*items)) as hub, browser(hub) as http:
            for answers, status in (({"iss": iss}, 400), ({"iss": other.named}, 400), ({}, 303)):
                one.answers = answers
                answer = await http.get((await http.get(await begun(http, issuer=one.named))).headers["location"])
                assert answer.status_code == status
                assert await is_signed_in(http) == (status == 303)
        assert not other.forms


async def test_one_issuer_that_does_not_say_who_it_is_must_not_be_another(tmp_path: Path) -> None:
    async with scene(tmp_path, **OPEN) as s:
        for shows, answers, status in (
            ({}, {"iss": None}, 303),
            ({}, {"iss": "https://other.example"}, 400),
            ({"authorization_response_iss_parameter_supported": True}, {"iss": None}, 400),
        ):
            s.issuer.shows, s.issuer.answers = shows, answers
            ring = s.hub.services.issuers.rings[s.issuer.named]
            ring._tried_at = None
            await ring.refresh()
            async with browser(s.hub) as http:
                answer = await http.get((await http.get(await begun(http))).headers["location"])
                assert answer.status_code == status


@pytest.mark.attack("2.1/17", "2.2/15", defence="hub.doors.ui:_own_path")
async def test_a_sign_in_leads_to_own_pages_only(tmp_path: Path) -> None:
    async with scene(tmp_path, **OPEN) as s:
        for text in (
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "/ui\\@evil.example",
            "/uievil",
            "/ui@evil.example",
            "javascript:alert(1)",
            "/ui\r\nset-cookie: a=b",
            "/ui\t/x",
            " /ui/x",
            "/api/keys",
            "/ui/" + "x" * 600,
        ):
            async with browser(s.hub) as http:
                answer = await http.get((await http.get(await begun(http, next=text))).headers["location"])
                assert (answer.status_code, answer.headers["location"]) == (303, "/ui"), text
        async with browser(s.hub) as http:
            answer = await http.get((await http.get(await begun(http, next="/ui/tools?q=a%20b"))).headers["location"])
            assert answer.headers["location"] == "/ui/tools?q=a%20b"


@pytest.mark.attack("2.1/19")
async def test_metadata_cannot_send_the_hub_or_a_browser_inside(tmp_path: Path) -> None:
    inside = "http://169.254.169.254/latest/meta-data"
    for member in ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri"):
        directory = tmp_path / member
        directory.mkdir()
        async with scene(directory, **{**OPEN, "claims": {"roles": "lacking"}}) as s, browser(s.hub) as http:
            s.issuer.shows = {member: inside}
            assert (await sign_in(http)).status_code in {502, 503}, member
            assert COOKIE not in http.cookies


@pytest.mark.attack("2.1/15")
async def test_a_session_is_a_new_one_at_each_sign_in(tmp_path: Path) -> None:
    """Fixation: what was in the browser before is nobody's, and what it was before is over."""
    async with scene(tmp_path, **OPEN) as s, browser(s.hub, "a-secret-of-eve") as http, browser(s.hub) as eve:
        await sign_in(http)
        first = {cookie.value for cookie in http.cookies.jar if cookie.name == COOKIE} - {"a-secret-of-eve"}
        assert len(first) == 1
        await sign_in(eve)
        before = eve.cookies[COOKIE]
        await sign_in(eve)
        assert eve.cookies[COOKIE] != before
        for secret in (before, "a-secret-of-eve", f"{before}; {COOKIE}={eve.cookies[COOKIE]}"):
            async with browser(s.hub) as old:
                assert (await old.get("/api/usage", headers={"cookie": f"{COOKIE}={secret}"})).status_code == 401


@pytest.mark.attack("2.1/15", "2.2/24")
async def test_a_session_opens_the_api_and_the_ui_and_no_other_door(tmp_path: Path) -> None:
    """Nor is its secret a key, nor a key a session."""
    yaml = "agents:\n  open: {url: 'http://127.0.0.1:9'}\n"
    item = {"create_users": True, "allow": ["admin:usage", "agent:*", "model:*", "tool:*"]}
    async with open_issuer() as issuer:
        hub_setting = setting(declared(issuer, sign_in=CLIENT, **item))
        async with open_hub(tmp_path, yaml, setting=hub_setting) as hub, browser(hub) as http:
            page = await sign_in(http)
            headers = {"x-csrf-token": token_of(page)}
            assert await is_signed_in(http)
            for method, path in (
                ("GET", "/v1/models"),
                ("POST", "/v1/chat/completions"),
                ("POST", "/v1/messages"),
                ("POST", "/v1/responses"),
                ("POST", "/mcp"),
                ("GET", "/mcp"),
                ("POST", "/a2a/open"),
                ("GET", "/a2a/open/.well-known/agent-card.json"),
            ):
                assert (await http.request(method, path, headers=headers)).status_code == 401, path
            secret = http.cookies[COOKIE]
            for given in ({"authorization": f"Bearer {secret}"}, {"x-api-key": secret}):
                async with hub.http() as bare:
                    assert (await bare.get("/api/usage", headers=given)).status_code == 401
            async with browser(hub, await hub.key("admin:usage")) as keyed:
                assert not await is_signed_in(keyed)


async def every_unsafe_route(hub: Hub) -> list[tuple[str, str]]:
    async with hub.http() as http:
        paths = (await http.get("/openapi.json")).json()["paths"]
    return [
        (method.upper(), re.sub(r"\{[^}]+\}", "1", path))
        for path, methods in paths.items()
        for method in methods
        if method.upper() not in {"GET", "HEAD", "OPTIONS"}
    ]


@pytest.mark.attack("2.1/36", defence="hub.browsers:Browsers.check_site")
async def test_another_site_can_do_nothing_with_somebodys_session(tmp_path: Path) -> None:
    """On every route that changes something: whatever it sends, even if it had got hold of the token."""
    foreign: list[dict[str, str]] = [
        {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:1", "sec-fetch-site": "same-site"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {},
        {"origin": "http://friend.example"},
    ]
    async with open_issuer() as issuer:
        friends = f"{setting(declared(issuer, sign_in=CLIENT, **OPEN))}\n  allowed_origins: [http://friend.example]"
        async with open_hub(tmp_path, setting=friends) as hub, browser(hub) as http:
            page = await sign_in(http)
            routes = [
                *await every_unsafe_route(hub),
                ("POST", "/api/nowhere"),
                ("POST", "/ui/sign-out"),
                ("POST", "/ui/team"),
            ]
            assert len(routes) > 25
            cookie, token = f"{COOKIE}={http.cookies[COOKIE]}", token_of(page)
            async with hub.http() as bare:
                for method, path in routes:
                    for headers in foreign:
                        given = {**headers, "cookie": cookie, "x-csrf-token": token}
                        body: dict[str, Any] = {"data": {"csrf": token}} if path.startswith("/ui") else {"json": {}}
                        answer = await bare.request(method, path, headers=given, **body)
                        assert answer.status_code == 403, (method, path, headers)
            assert await is_signed_in(http)


@pytest.mark.attack("2.1/36", defence="hub.browsers:Browsers.check_token")
async def test_a_page_that_does_not_know_the_token_can_do_nothing(tmp_path: Path) -> None:
    """Should a browser's word about where a request comes from be wrong: the token of another session is none either."""
    async with scene(tmp_path, **OPEN) as s, browser(s.hub) as http, browser(s.hub) as other:
        await sign_in(http)
        foreign = token_of(await sign_in(other))
        for method, path in [*await every_unsafe_route(s.hub), ("POST", "/ui/sign-out"), ("POST", "/ui/team")]:
            for token in ("", foreign, http.cookies[COOKIE], "ü"):
                given = {"x-csrf-token": token.encode()} if token else {}
                body: dict[str, Any] = {"data": {"csrf": token}} if path.startswith("/ui") else {"json": {}}
                answer = await http.request(method, path, headers=given, **body)
                assert answer.status_code == 403, (method, path, token)
        assert await is_signed_in(http)


async def test_own_pages_and_keys_do_what_they_may(tmp_path: Path) -> None:
    async with scene(tmp_path, **OPEN) as s, browser(s.hub) as http:
        token = token_of(await sign_in(http))
        made = {"alias": "red"}
        assert (await http.post("/api/teams", json=made, headers={"x-csrf-token": token})).status_code == 201
        async with s.hub.http() as bare:
            by_fetch = {
                "sec-fetch-site": "same-origin",
                "x-csrf-token": token,
                "cookie": f"{COOKIE}={http.cookies[COOKIE]}",
            }
            assert (await bare.post("/api/teams", json={"alias": "blue"}, headers=by_fetch)).status_code == 201
            with_key = {"authorization": f"Bearer {ADMIN_KEY}", "cookie": by_fetch["cookie"]}
            for site in ("cross-site", "none"):
                answer = await bare.post(
                    "/api/teams", json={"alias": site}, headers={**with_key, "sec-fetch-site": site}
                )
                assert answer.status_code == 201  # no other site can make a browser send a key


@pytest.mark.attack("2.1/36")
async def test_another_site_reads_nothing_with_somebodys_session(tmp_path: Path) -> None:
    async with scene(tmp_path, **OPEN) as s, browser(s.hub) as http:
        await sign_in(http)
        for site in ("cross-site", "same-site"):
            assert (await http.get("/api/usage", headers={"sec-fetch-site": site})).status_code == 403
        answer = await http.get("/api/usage")
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.attack("2.1/36")
async def test_no_route_that_only_reads_changes_anything(tmp_path: Path) -> None:
    """GET needs no token, so every one of the API's is asked, and the database is as it was."""
    async with scene(tmp_path, **OPEN) as s, browser(s.hub) as http:
        await sign_in(http)
        await s.post("/api/teams", alias="red")
        paths = (await http.get("/openapi.json")).json()["paths"]
        for path in paths:
            await http.get(re.sub(r"\{[^}]+\}", "red", path))
        before = await _state(s)
        for path in paths:
            await http.get(re.sub(r"\{[^}]+\}", "red", path))
        assert await _state(s) == before


async def _state(s: Scene) -> dict[str, list[Any]]:
    """All rows but those of refusals, and of what was used last."""

    def read(session: Any) -> dict[str, list[Any]]:
        connection = session.connection().connection.driver_connection
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        kept = [
            name for name in tables if name not in {"audit", "usage", "api_keys", "sqlite_sequence", "hub_processes"}
        ]
        return {name: sorted(map(repr, connection.execute(f"SELECT * FROM {name}"))) for name in kept}

    await s.hub.services.database.committed()
    return await s.hub.services.database.read(read)


@pytest.mark.attack("2.1/20", "2.1/21")
async def test_what_signs_somebody_in_stands_nowhere_in_clear(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with scene(tmp_path, **OPEN) as s, browser(s.hub) as http:
        asked = httpx.URL(await begun(http)).params
        flow = http.cookies["hubbub-flow"]
        back = (await http.get(str(httpx.URL(f"{s.issuer.url}/authorization").copy_merge_params(asked)))).headers[
            "location"
        ]
        await http.get(back)
        secret = http.cookies[COOKIE]
        await s.hub.services.database.committed()
        [form] = s.issuer.forms
        kept = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
        said = [repr(record.__dict__) for record in caplog.records if record.name.startswith(("hub", "registry"))]
        for hidden in (secret, form["code"], form["code_verifier"], asked["nonce"], CLIENT["client_secret"]):
            assert hidden.encode() not in kept
            assert not [line for line in said if hidden in line]
            assert hidden not in flow
    assert CLIENT["client_secret"] not in repr(s.hub.services.declared)


@pytest.mark.parametrize(
    ("public_url", "is_secure"), [("https://hub.example.com", True), ("http://127.0.0.1:4000", False)]
)
def test_cookies_are_the_hubs_own(public_url: str, is_secure: bool) -> None:
    name, value = Browsers(None, public_url=public_url).set_cookie("hubbub-session", "x", lasts_s=60)  # type: ignore[arg-type]
    assert name == b"set-cookie"
    members = value.decode().split("; ")
    assert members[0] == ("__Host-hubbub-session=x" if is_secure else "hubbub-session=x")
    assert {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=60"} <= set(members)
    assert ("Secure" in members) == is_secure
    assert not [member for member in members if member.startswith("Domain")]
