"""Servers that want OAuth: each principal's own account, from the link to the vault, with a real authorization server."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import mcp_types as t
import pytest
from mcp import Client, MCPError
from sqlmodel import Session, select

from mcp_bridge.oauth.connect import Connect
from registry.identity import admin
from registry.store.tables.sealed import OAuthClient, StoredCredential
from tests.conftest import open_hub
from tests.peers.authorization import Authorization, authorization_server, headers_seen, machines, protected_server
from tests.peers.browser import Browser
from tests.peers.lying_server import ISSUER_PATH, lying
from tests.peers.mcp_hub import McpHub, headers, message
from tests.peers.mcp_servers import Peer
from tests.processes import hubbub

MODES = ["2026-07-28", "legacy"]


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        yield Browser(http)


@asynccontextmanager
async def opened(directory: Path, url: str, auth: str = "type: user_oauth", more: str = "") -> AsyncIterator[McpHub]:
    yaml = f"mcpServers:\n  crm:\n    url: {url}\n    auth: {{{auth}}}\n{more}"
    async with open_hub(directory, yaml, setting="egress_allow: [127.0.0.0/8]") as hub:
        yield McpHub(hub.url, hub.services, hub.gate)


@asynccontextmanager
async def crm(directory: Path) -> AsyncIterator[tuple[McpHub, Peer, Authorization]]:
    async with (
        authorization_server() as issuer,
        protected_server(issuer.url, issuer.provider) as peer,
        opened(directory, peer.url) as hub,
    ):
        yield hub, peer, issuer


async def connect(hub: McpHub, key: str, *, link: str | None = None) -> None:
    async with browser() as one:
        answer = await one.connect(link or f"{hub.url}/connect/crm", key)
        assert "crm is connected" in answer.text, answer.text


async def whoami(hub: McpHub, key: str, mode: str = "2026-07-28") -> Any:
    async with hub.client(key, mode=mode) as client:
        return await client.call_tool("crm__whoami", {})


def text_of(result: Any) -> str:
    return result.content[0].text


def link_in(text: str) -> str:
    found = re.search(r"http://\S+/connect/[\w-]+", text)
    assert found is not None, text
    return found[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.attack("2.1/18", "2.2/28")
async def test_each_principal_acts_as_itself_and_nobodys_key_goes_upstream(tmp_path: Path, mode: str) -> None:
    async with crm(tmp_path) as (hub, peer, issuer):
        keys = {name: await hub.key("tool:crm__*") for name in ("ann", "bob", "eve")}
        for name in ("ann", "bob"):
            issuer.provider.user = name
            await connect(hub, keys[name])
        for name in ("ann", "bob", "ann"):
            assert text_of(await whoami(hub, keys[name], mode)) == name
        refused = await whoami(hub, keys["eve"], mode)
        assert refused.is_error
        assert "/connect/" in text_of(refused)
        assert [call["user"] for _, call in peer.calls] == ["ann", "bob", "ann"]
        everything = headers_seen(peer) + headers_seen(issuer.seen)
        assert not any(key in everything for key in keys.values())
        assert not any(key in json.dumps([str(seen.get(":body")) for seen in peer.requests]) for key in keys.values())


async def names(hub: McpHub, key: str, *, mode: str = "2026-07-28", path: str = "/mcp") -> list[str]:
    async with hub.client(key, mode=mode, path=path) as client:
        return [tool.name for tool in (await client.list_tools()).tools]


@pytest.mark.parametrize("mode", MODES)
async def test_who_has_no_account_is_listed_a_tool_that_leads_to_one(tmp_path: Path, mode: str) -> None:
    async with crm(tmp_path) as (hub, peer, issuer):
        ann, bob = [await hub.key("tool:crm__*") for _ in range(2)]
        await hub.listed("crm__connect_account")
        for key in (ann, bob):
            assert await names(hub, key, mode=mode) == ["crm__connect_account"]
            assert await names(hub, key, mode=mode, path="/mcp/crm") == ["connect_account"]
        async with hub.client(ann, mode=mode) as client:
            asked = await client.call_tool("crm__connect_account", {})
            assert asked.is_error
            await connect(hub, ann, link=link_in(text_of(asked)))
            assert "is connected" in text_of(await client.call_tool("crm__connect_account", {}))
            assert [tool.name for tool in (await client.list_tools()).tools] == ["crm__whoami"]
        assert await names(hub, ann, mode=mode, path="/mcp/crm") == ["whoami"]
        assert await names(hub, bob, mode=mode) == ["crm__connect_account"]
        issuer.provider.tokens.clear()
        issuer.provider.refreshing.clear()
        assert (await whoami(hub, ann, mode)).is_error
        assert not [name for name, _ in peer.calls if name == "connect_account"]


async def test_a_modern_client_opens_the_link_and_its_call_goes_on(tmp_path: Path) -> None:
    async with crm(tmp_path) as (hub, _, issuer):
        await connect(hub, await hub.key("tool:crm__*"))
        key = await hub.key("tool:crm__*")
        asked = []

        async def open_it(context: Any, params: t.ElicitRequestParams) -> t.ElicitResult:
            assert isinstance(params, t.ElicitRequestURLParams)
            asked.append(params.url)
            issuer.provider.user = "bob"
            await connect(hub, key, link=params.url)
            return t.ElicitResult(action="accept")

        async with client_that_opens(hub, key, open_it, mode="2026-07-28") as client:
            assert text_of(await client.call_tool("crm__whoami", {})) == "bob"
        assert len(asked) == 1


async def test_a_call_waits_for_the_user_who_still_signs_in(tmp_path: Path) -> None:
    async with crm(tmp_path) as (hub, _, _):
        await connect(hub, await hub.key("tool:crm__*"))
        key = await hub.key("tool:crm__*")
        connecting: list[asyncio.Task[None]] = []

        async def open_it(context: Any, params: Any) -> t.ElicitResult:
            connecting.append(asyncio.create_task(connect(hub, key, link=params.url)))
            return t.ElicitResult(action="accept")

        async with client_that_opens(hub, key, open_it, mode="2026-07-28") as client:
            assert text_of(await client.call_tool("crm__whoami", {})) == "ann"
        await asyncio.gather(*connecting)
        assert len(connecting) == 1


async def test_a_user_who_declines_is_answered_and_not_asked_again(tmp_path: Path) -> None:
    async with crm(tmp_path) as (hub, peer, _):
        await connect(hub, await hub.key("tool:crm__*"))
        asked = []

        async def decline(context: Any, params: Any) -> t.ElicitResult:
            asked.append(params)
            return t.ElicitResult(action="decline")

        async with client_that_opens(hub, await hub.key("tool:crm__*"), decline, mode="2026-07-28") as client:
            assert (await client.call_tool("crm__whoami", {})).is_error
        assert len(asked) == 1
        assert not peer.calls


async def test_a_client_of_2025_11_25_gets_the_url_elicitation_error(tmp_path: Path) -> None:
    async with crm(tmp_path) as (hub, _, _):
        await connect(hub, await hub.key("tool:crm__*"))
        key = await hub.key("tool:crm__*")

        async def never(context: Any, params: Any) -> t.ElicitResult:
            raise AssertionError("the error leads the client")

        async with client_that_opens(hub, key, never, mode="legacy") as client:
            with pytest.raises(MCPError) as caught:
                await client.call_tool("crm__whoami", {})
            assert caught.value.error.code == -32042
            [elicitation] = caught.value.error.data["elicitations"]
            assert elicitation["mode"] == "url"
            await connect(hub, key, link=elicitation["url"])
            assert text_of(await client.call_tool("crm__whoami", {})) == "ann"


@asynccontextmanager
async def client_that_opens(hub: McpHub, key: str, callback: Any, *, mode: Any) -> AsyncIterator[Client]:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    given = {"authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(headers=given, trust_env=False, timeout=60) as http,
        Client(
            streamable_http_client(f"{hub.url}/mcp", http_client=http),
            mode=mode,
            cache=None,
            elicitation_callback=callback,
        ) as client,
    ):
        yield client


@pytest.mark.parametrize("mode", MODES)
async def test_an_expired_token_is_renewed_once_for_all_who_wait(tmp_path: Path, mode: str) -> None:
    async with crm(tmp_path) as (hub, _, issuer):
        key = await hub.key("tool:crm__*")
        issuer.provider.lasts_s = 30  # is renewed a minute before its end, so at each use
        await connect(hub, key)
        issuer.provider.lasts_s = 3600
        issuer.provider.refreshed = 0
        async with hub.client(key, mode=mode) as client:
            results = await asyncio.gather(*(client.call_tool("crm__whoami", {}) for _ in range(10)))
        assert [text_of(result) for result in results] == ["ann"] * 10
        assert issuer.provider.refreshed == 1


@pytest.mark.parametrize("mode", MODES)
async def test_a_token_that_the_server_refuses_in_the_middle_is_renewed(tmp_path: Path, mode: str) -> None:
    async with crm(tmp_path) as (hub, _, issuer):
        key = await hub.key("tool:crm__*")
        await connect(hub, key)
        async with hub.client(key, mode=mode) as client:
            assert text_of(await client.call_tool("crm__whoami", {})) == "ann"
            issuer.provider.tokens.clear()
            assert text_of(await client.call_tool("crm__whoami", {})) == "ann"
            issuer.provider.tokens.clear()
            issuer.provider.refreshing.clear()
            refused = await client.call_tool("crm__whoami", {})
            assert refused.is_error
            link = link_in(text_of(refused))
            await connect(hub, key, link=link)
            assert text_of(await client.call_tool("crm__whoami", {})) == "ann"


@pytest.mark.attack("2.1/20", defence="registry.sealed.secrets:Sealer")
async def test_accounts_outlive_a_restart_and_are_sealed(tmp_path: Path) -> None:
    async with authorization_server() as issuer, protected_server(issuer.url, issuer.provider) as peer:
        async with opened(tmp_path, peer.url) as hub:
            key = await hub.key("tool:crm__*")
            await connect(hub, key)
        async with opened(tmp_path, peer.url) as hub:
            assert text_of(await whoami(hub, key)) == "ann"
        stored = b"".join(path.read_bytes() for path in tmp_path.glob("hubbub.db*"))
        assert not any(token.encode() in stored for token in (*issuer.provider.tokens, *issuer.provider.refreshing))
        assert len(issuer.provider.clients) == 1


@pytest.mark.attack("2.2/30")
async def test_an_account_does_not_follow_its_server_to_another_address(tmp_path: Path) -> None:
    async with authorization_server() as issuer, protected_server(issuer.url, issuer.provider) as peer:
        async with opened(tmp_path, peer.url) as hub:
            key = await hub.key("tool:crm__*")
            await connect(hub, key)
        async with protected_server(issuer.url, issuer.provider) as other, opened(tmp_path, other.url) as hub:
            assert (await whoami(hub, key)).is_error
            assert not other.calls
            assert not any(token in headers_seen(other) for token in issuer.provider.tokens)


async def test_a_revoked_key_and_a_deleted_server_leave_no_account_behind(tmp_path: Path) -> None:
    async with (
        authorization_server() as issuer,
        protected_server(issuer.url, issuer.provider) as peer,
        open_hub(tmp_path, setting="egress_allow: [127.0.0.0/8]") as running,
    ):
        hub = McpHub(running.url, running.services, running.gate)
        body = {"url": peer.url, "auth": {"type": "user_oauth"}}
        await hub.services.registry.put("server", "crm", body, trusted=True)
        for _ in range(2):
            await connect(hub, await hub.key("tool:crm__*"))
        assert await kept(hub) == (2, 1)
        await hub.services.keys.revoke("key-0")
        assert await kept(hub) == (1, 1)
        await hub.services.registry.delete("server", "crm")
        assert await kept(hub) == (0, 0)


async def kept(hub: McpHub) -> tuple[int, int]:
    """How many accounts and registrations the vault holds."""

    def count(session: Session) -> tuple[int, int]:
        return len(session.exec(select(StoredCredential)).all()), len(session.exec(select(OAuthClient)).all())

    return await hub.services.database.read(count)


async def test_doctor_finds_no_fault_with_a_server_that_wants_each_users_account(tmp_path: Path) -> None:
    async with authorization_server() as issuer, protected_server(issuer.url, issuer.provider) as peer:
        yaml = f"mcpServers: {{crm: {{url: '{peer.url}', auth: {{type: user_oauth}}}}}}\n"
        (tmp_path / "hub.yaml").write_text(f"hub: {{database: 'sqlite:///{tmp_path}/hubbub.db'}}\n{yaml}")
        code, printed = await hubbub("doctor", directory=tmp_path)
        assert code == 0, printed
        assert "each user connects an account at /connect/crm" in printed


async def test_client_credentials_are_asked_for_once_and_again_when_refused(tmp_path: Path) -> None:
    async with machines() as issuer, protected_server(issuer.url, issuer) as peer:
        issuer.resource = peer.url
        auth = "type: client_credentials, client_id: hub, client_secret: s3cret-of-the-hub, scopes: [read]"
        async with opened(tmp_path, peer.url, auth) as hub:
            await hub.listed("crm__whoami")
            key = await hub.key("tool:*")
            assert text_of(await whoami(hub, key)) == "the hub"
            assert text_of(await whoami(hub, key, "legacy")) == "the hub"
            assert len(issuer.asked) == 1
            assert issuer.asked[0]["grant_type"] == "client_credentials"
            assert issuer.asked[0]["resource"] == peer.url
            assert issuer.asked[0]["scope"] == "read"
            assert issuer.asked[0]["authorization"].startswith("Basic ")
            issuer.tokens.clear()
            assert text_of(await whoami(hub, key)) == "the hub"
            assert len(issuer.asked) == 2
            assert "s3cret" not in headers_seen(peer)


@pytest.mark.attack("2.1/21", defence="registry.discreet:discreet")
async def test_a_token_that_a_server_quotes_in_an_error_is_not_passed_on(tmp_path: Path) -> None:
    def quoting(scope: dict[str, Any]) -> bytes:
        error = {"code": -32000, "message": f"bad: {dict(scope['headers'])[b'authorization'].decode()}"}
        return json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}).encode()

    async with machines() as issuer, protected_server(issuer.url, issuer) as peer:
        issuer.resource = peer.url
        auth = "type: client_credentials, client_id: hub, client_secret: s3cret-of-the-hub"
        async with opened(tmp_path, peer.url, auth) as hub:
            await hub.listed("crm__whoami")
            peer.instead = quoting
            async with hub.client(await hub.key("tool:*"), mode="2026-07-28") as client:
                with pytest.raises(MCPError) as caught:
                    await client.call_tool("crm__whoami", {})
            assert caught.value.error.message == "bad: Bearer ***"


async def test_a_server_that_wants_another_scope_leads_to_a_consent_that_has_both(tmp_path: Path) -> None:
    async with (
        authorization_server() as issuer,
        protected_server(issuer.url, issuer.provider) as peer,
        opened(tmp_path, peer.url) as hub,
    ):
        key = await hub.key("tool:*")
        await connect(hub, key)
        peer.needs = "write"
        refused = await whoami(hub, key)
        assert refused.is_error
        await connect(hub, key, link=link_in(text_of(refused)))
        assert text_of(await whoami(hub, key)) == "ann"
        assert [token.scopes for token in issuer.provider.tokens.values()] == [["read"], ["read", "write"]]


@pytest.mark.attack("2.1/18", "2.2/23")
async def test_a_token_is_exchanged_for_each_principal_against_what_the_hub_signs(tmp_path: Path) -> None:
    from joserfc import jwt
    from joserfc.jwk import KeySet

    async with machines() as issuer, protected_server(issuer.url, issuer) as peer:
        issuer.resource = peer.url
        auth = f"type: token_exchange, client_id: hub, client_secret: s3cret-of-the-hub, issuer: '{issuer.url}'"
        async with opened(tmp_path, peer.url, auth) as hub:
            async with hub.http() as http:
                keys = KeySet.import_key_set((await http.get("/.well-known/jwks.json")).json())

            def subject_of(form: dict[str, str]) -> str:
                claims = jwt.decode(form["subject_token"], keys, algorithms=["ES256"]).claims
                assert claims["iss"] == hub.url
                assert claims["aud"] == issuer.url
                assert claims["exp"] - claims["iat"] == 60
                return str(claims["sub"])

            issuer.subject_of = subject_of
            await hub.listed("crm__whoami")
            made = {}
            for name in ("ann", "bob"):
                secret = await hub.key("tool:*")
                made[name] = text_of(await whoami(hub, secret))
                assert secret not in json.dumps(issuer.asked)
            ids = {key.id for key in await hub.services.keys.all_live()}
            assert set(made.values()) == ids
            assert {form["grant_type"] for form in issuer.asked} == {"urn:ietf:params:oauth:grant-type:token-exchange"}


async def test_an_authorization_server_that_reads_documents_is_given_the_hubs(tmp_path: Path) -> None:
    async with lying() as liar, opened(tmp_path, f"{liar.url}/mcp") as hub:
        liar.say(ISSUER_PATH, {**liar.issuer, "client_id_metadata_document_supported": True})
        services = hub.services
        public = "https://hub.example"
        connect = Connect(services.connect._credentials, public_url=public, catalog=lambda: services.registry.catalog)
        server = connect.server(admin(), "crm")
        link = connect.open(connect.link(admin(), server).rpartition("/")[2])
        asked = parse_qs(urlsplit(await connect.begin(server, link, "browser")).query)
        document = connect.client_metadata()
        assert asked["client_id"] == [document["client_id"]] == [f"{public}/oauth/client.json"]
        assert asked["redirect_uri"] == document["redirect_uris"] == [f"{public}/oauth/callback"]
        assert "/register" not in liar.asked
        async with hub.http() as http:
            assert (await http.get("/oauth/client.json")).json()["client_id"] == f"{hub.url}/oauth/client.json"


async def test_the_hub_says_that_it_is_a_protected_resource(tmp_path: Path) -> None:
    async with open_hub(tmp_path) as hub, hub.http() as http:
        for path in ("/mcp", "/mcp/crm", "/mcp/"):
            refused = await http.post(path, json=message("tools/list"), headers=headers("tools/list"))
            assert refused.status_code == 401
            challenge = refused.headers["www-authenticate"]
            assert challenge.startswith("Bearer ")
            assert 'scope="mcp"' in challenge
            found = re.search(r'resource_metadata="([^"]+)"', challenge)
            assert found is not None
            metadata = (await http.get(found[1])).json()
            assert metadata["resource"] == f"{hub.url}{path.rstrip('/')}"
        root = (await http.get("/.well-known/oauth-protected-resource")).json()
        assert root["resource"] == f"{hub.url}/mcp"
        assert (await http.get("/.well-known/oauth-protected-resource/a2a/x")).status_code == 404
