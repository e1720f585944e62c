"""OAuth towards MCP servers under attack: lying servers and metadata, stolen links and answers, foreign browsers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from tests.conftest import ADMIN_KEY, Hub, open_hub
from tests.peers.authorization import authorization_server, protected_server
from tests.peers.browser import Browser
from tests.peers.lying_server import ISSUER_PATH, RESOURCE_PATH, Liar, lying

METADATA = "http://169.254.169.254/latest/meta-data"


@asynccontextmanager
async def opened(directory: Path, url: str) -> AsyncIterator[tuple[Hub, str]]:
    yaml = f"mcpServers: {{crm: {{url: '{url}', auth: {{type: user_oauth}}}}}}\n"
    async with open_hub(directory, yaml, setting="egress_allow: [127.0.0.0/8]") as hub:
        yield hub, await hub.key("tool:crm__*")


@asynccontextmanager
async def lied_to(directory: Path) -> AsyncIterator[tuple[Liar, Hub, str, Browser]]:
    async with lying() as liar, opened(directory, f"{liar.url}/mcp") as (hub, key), browser() as one:
        yield liar, hub, key, one


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        yield Browser(http)


async def logged_in(one: Browser, hub: Hub, key: str) -> httpx.Response:
    """Go as far as the consent page, or what comes in its place."""
    await one.open(f"{hub.url}/connect/crm")
    return await one.send(key=key)


async def allowed(one: Browser, hub: Hub, key: str) -> dict[str, str]:
    """Consent, and return what the authorization server is asked; nothing is followed."""
    await logged_in(one, hub, key)
    answer = await one.send(answer="allow", follow=False)
    assert answer.status_code == 303, answer.text
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


async def test_an_honest_one_connects(tmp_path: Path) -> None:
    """So that the refusals below are of what is wrong in each."""
    async with lied_to(tmp_path) as (liar, hub, key, one):
        asked = await allowed(one, hub, key)
        answer = await one.open(f"{hub.url}/oauth/callback?{urlencode({'code': 'c', 'state': asked['state']})}")
        assert "crm is connected" in answer.text
        form = liar.forms[liar.asked.index("/token")]
        assert form["resource"] == asked["resource"] == f"{liar.url}/mcp"
        assert form["redirect_uri"] == asked["redirect_uri"] == f"{hub.url}/oauth/callback"


@pytest.mark.parametrize(
    ("path", "document"),
    [
        (ISSUER_PATH, {"issuer": "https://somebody.example"}),
        (ISSUER_PATH, {"authorization_endpoint": METADATA}),
        (ISSUER_PATH, {"authorization_endpoint": "javascript:alert(1)"}),
        (RESOURCE_PATH, {"authorization_servers": [METADATA]}),
        (ISSUER_PATH, {"registration_endpoint": METADATA}),
        (ISSUER_PATH, {"authorization_endpoint": "http://evil.invalid/authorize"}),
        (ISSUER_PATH, {"authorization_endpoint": "https://user@127.0.0.1/authorize"}),
        (ISSUER_PATH, {"token_endpoint": METADATA}),
        (ISSUER_PATH, {"code_challenge_methods_supported": ["plain"]}),
        (ISSUER_PATH, {"code_challenge_methods_supported": None}),
        (RESOURCE_PATH, {"resource": "https://somebody.example/mcp"}),
    ],
)
@pytest.mark.attack("2.2/16")
@pytest.mark.attack("2.1/19", defence="mcp_bridge.oauth.discovery:issuers_match")
@pytest.mark.attack("2.2/20", defence="mcp_bridge.oauth.fetch:check_browsable")
async def test_metadata_that_leads_elsewhere_leads_nowhere(tmp_path: Path, path: str, document: dict[str, Any]) -> None:
    async with lied_to(tmp_path) as (liar, hub, key, one):
        honest = liar.resource if path == RESOURCE_PATH else liar.issuer
        liar.say(path, {**honest, **document})
        answer = await logged_in(one, hub, key)
        if 'value="allow"' in answer.text:
            answer = await one.send(answer="allow", follow=False)
        if answer.status_code == 303:
            state = parse_qs(urlsplit(answer.headers["location"]).query)["state"][0]
            answer = await one.open(f"{hub.url}/oauth/callback?{urlencode({'code': 'c', 'state': state})}")
        assert answer.status_code == 502
        assert "This did not work" in answer.text
        assert "169.254" not in answer.text
        assert "evil" not in answer.text


@pytest.mark.attack("2.1/19", "2.2/16")
async def test_a_challenge_cannot_point_into_the_network(tmp_path: Path) -> None:
    async with lied_to(tmp_path) as (liar, hub, key, one):
        liar.say("/mcp", {}, 401, **{"www-authenticate": f'Bearer resource_metadata="{METADATA}"'})
        answer = await logged_in(one, hub, key)
        assert answer.status_code == 502
        assert "not public" in answer.text


@pytest.mark.attack("2.1/19", "2.2/16", defence="registry.egress.guard:Guard.resolve")
async def test_a_challenge_cannot_point_at_another_server_of_the_network(tmp_path: Path) -> None:
    async with lying() as liar, lying() as inner, browser() as one:
        yaml = f"mcpServers: {{crm: {{url: '{liar.url}/mcp', auth: {{type: user_oauth}}}}}}\n"
        async with open_hub(tmp_path, yaml) as hub:  # opens no network
            named = f'Bearer resource_metadata="{inner.url}{RESOURCE_PATH}"'
            liar.say("/mcp", {}, 401, **{"www-authenticate": named})
            answer = await logged_in(one, hub, await hub.key("tool:crm__*"))
            assert inner.asked == []
            assert answer.status_code == 502


@pytest.mark.parametrize("path", [RESOURCE_PATH, ISSUER_PATH])
@pytest.mark.attack("2.1/2", "2.1/19", "2.1/30")
async def test_huge_metadata_is_not_read_and_redirects_are_not_followed(tmp_path: Path, path: str) -> None:
    async with lied_to(tmp_path) as (liar, hub, key, one):
        liar.say(path, b"[" * 1_000_000)
        assert (await logged_in(one, hub, key)).status_code == 502
        liar.say(path, b"", 302, location=f"{liar.url}/elsewhere")
        liar.say("/elsewhere", liar.resource if path == RESOURCE_PATH else liar.issuer)
        await logged_in(one, hub, key)
        assert "/elsewhere" not in liar.asked


@pytest.mark.attack("2.1/17")
async def test_an_answer_of_another_issuer_is_refused_before_the_code_is_sent(tmp_path: Path) -> None:
    async with lied_to(tmp_path) as (liar, hub, key, one):
        for is_sent, iss in ((False, "https://somebody.example"), (True, "https://somebody.example"), (True, None)):
            liar.say(ISSUER_PATH, {**liar.issuer, "authorization_response_iss_parameter_supported": is_sent})
            asked = await allowed(one, hub, key)
            given = {"code": "c", "state": asked["state"]} | ({"iss": iss} if iss else {})
            answer = await one.open(f"{hub.url}/oauth/callback?{urlencode(given)}")
            assert answer.status_code == 400
            assert "another authorization server" in answer.text
        assert "/token" not in liar.asked


@pytest.mark.attack("2.1/17", "2.2/15", "2.2/23", defence="mcp_bridge.oauth.connect:_is_begun_by")
async def test_a_state_is_good_once_and_only_in_the_browser_and_for_the_key_that_began(tmp_path: Path) -> None:
    async with lied_to(tmp_path) as (liar, hub, key, one), browser() as other, browser() as third:
        asked = await allowed(one, hub, key)
        callback = f"{hub.url}/oauth/callback?{urlencode({'code': 'c', 'state': asked['state']})}"
        assert (await third.open(callback)).status_code == 400  # no cookie at all: not even looked at
        assert (await one.open(callback)).status_code == 200
        assert (await one.open(callback)).status_code == 400
        for intruder in (key, await hub.key("tool:crm__*")):  # the same key in another browser, and another key
            asked = await allowed(one, hub, key)
            await logged_in(other, hub, intruder)
            callback = f"{hub.url}/oauth/callback?{urlencode({'code': 'c', 'state': asked['state']})}"
            assert (await other.open(callback)).status_code == 400
            assert (await one.open(callback)).status_code == 400  # and it is spent
        assert [form.get("grant_type") for form in liar.forms].count("authorization_code") == 1


@pytest.mark.attack("2.1/17", "2.2/23")
async def test_a_link_is_good_once_for_its_own_key(tmp_path: Path) -> None:
    async with lied_to(tmp_path) as (liar, hub, key, one), browser() as other:
        await logged_in(one, hub, key)
        link = one.url
        stranger = await hub.key("tool:crm__*")
        assert 'name="key"' in (await other.open(link)).text
        assert (await other.send(key=stranger)).status_code == 404
        await logged_in(other, hub, stranger)
        assert "another key" in (await other.open(link)).text
        assert liar.url not in other.page
        assert (await one.send(answer="allow", follow=False)).status_code == 303
        await one.open(link)
        assert "used before" in (await one.send(answer="allow", follow=False)).text
        for forged in (
            f"{link[:-9]}{link[-8:]}",
            f"{link}xx",
            f"{hub.url}/connect/{'A' * 200}",
            f"{hub.url}/connect/a%0d%0ab",
        ):
            assert (await one.open(forged)).status_code == 400


@pytest.mark.attack("2.1/36")
async def test_forms_are_taken_from_the_hubs_own_pages_only(tmp_path: Path) -> None:
    async with lied_to(tmp_path) as (_, hub, key, one):
        await logged_in(one, hub, key)
        for origin in ("https://evil.example", "null", None):
            answer = await one.send(answer="allow", follow=False, origin=origin)
            assert answer.status_code == 403
        assert (await one.send(answer="allow", csrf="0" * 64, follow=False)).status_code == 400


@pytest.mark.attack("2.1/35")
async def test_pages_cannot_be_framed_run_nothing_and_are_not_kept(tmp_path: Path) -> None:
    async with lied_to(tmp_path) as (liar, hub, key, one):
        login = await one.open(f"{hub.url}/connect/crm")
        consent = await one.send(key=key)
        for page in (login, consent):
            policy = page.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "script" not in page.text + policy
            assert page.headers["cache-control"] == "no-store"
            assert page.headers["x-content-type-options"] == "nosniff"
        assert f"form-action 'self' {liar.url};" in consent.headers["content-security-policy"]
        assert key not in consent.text


@pytest.mark.attack("2.2/5", "2.2/23")
@pytest.mark.attack("2.1/35", "2.2/21", defence="hub.doors.connect_pages:escape")
async def test_what_servers_are_called_and_want_is_text_and_no_html(tmp_path: Path) -> None:
    async with lied_to(tmp_path) as (liar, hub, key, one):
        liar.say(RESOURCE_PATH, {**liar.resource, "scopes_supported": ["<script>alert(1)</script>"]})
        assert "&lt;script&gt;" in (await logged_in(one, hub, key)).text


@pytest.mark.attack("2.2/10")
async def test_a_revoked_key_and_one_without_grant_connect_nothing(tmp_path: Path) -> None:
    async with lied_to(tmp_path) as (liar, hub, key, one):
        other = await hub.key("tool:github__*")
        assert (await logged_in(one, hub, other)).status_code == 404
        asked = await allowed(one, hub, key)
        [name] = [made.name for made in await hub.services.keys.all_live() if "crm" in made.grants]
        await hub.services.keys.revoke(name)
        answer = await one.open(f"{hub.url}/oauth/callback?{urlencode({'code': 'c', 'state': asked['state']})}")
        assert answer.status_code == 400
        assert "/token" not in liar.asked


@pytest.mark.parametrize(
    "given",
    [
        b"no json",
        b'{"access_token": "", "token_type": "Bearer"}',
        b'{"access_token": "a\\r\\nx-evil: 1", "token_type": "Bearer"}',
        b'{"access_token": "a", "token_type": "mac"}',
        b'{"access_token": ["a"], "token_type": "Bearer"}',
        b"[" * 100_000,
    ],
)
async def test_what_is_no_bearer_token_is_not_kept(tmp_path: Path, given: bytes) -> None:
    async with lied_to(tmp_path) as (liar, hub, key, one):
        liar.say("/token", given)
        asked = await allowed(one, hub, key)
        answer = await one.open(f"{hub.url}/oauth/callback?{urlencode({'code': 'c', 'state': asked['state']})}")
        assert answer.status_code == 502


async def test_a_user_who_says_no_there_is_told_so(tmp_path: Path) -> None:
    async with lied_to(tmp_path) as (liar, hub, key, one):
        asked = await allowed(one, hub, key)
        given = {"error": "access_denied", "error_description": "<b>evil</b>", "state": asked["state"]}
        answer = await one.open(f"{hub.url}/oauth/callback?{urlencode(given)}")
        assert answer.status_code == 400
        assert "did not agree" in answer.text
        assert "evil" not in answer.text
        assert "/token" not in liar.asked


@pytest.mark.attack("2.1/1", "2.1/19")
async def test_who_may_change_servers_cannot_make_the_hub_reach_inside_by_auth(tmp_path: Path) -> None:
    async with (
        authorization_server() as issuer,
        protected_server(issuer.url, issuer.provider) as peer,
        open_hub(tmp_path) as hub,  # opens no network
        hub.http(ADMIN_KEY) as operator,
        hub.http(await hub.key("admin:mcp-servers", "tool:*")) as other,
    ):
        auth = {"type": "client_credentials", "client_id": "x", "client_secret": "y" * 20}
        await operator.post("/api/mcp-servers", json={"name": "crm", "url": peer.url, "auth": auth})
        before = len(issuer.seen.requests)
        inside = {**auth, "token_url": f"{issuer.url}/token"}
        changed = await other.patch("/api/mcp-servers/crm", json={"auth": inside})
        assert changed.status_code == 200, changed.text
        assert len(issuer.seen.requests) == before
        assert not hub.services.registry.catalog.servers["crm"].trusted
