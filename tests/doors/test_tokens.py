"""Tokens of issuers at every door: who comes with one, what it may do, and how soon a change is obeyed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest
from a2a.types import a2a_pb2
from a2a.types.a2a_pb2_grpc import A2AServiceStub
from google.protobuf import json_format
from joserfc.jwk import ECKey

from registry.callers import tokens
from registry.callers.accounts import Accounts
from registry.callers.issuers import STALE_AFTER_S
from registry.identity import KeySpec
from registry.sealed.secrets import digest
from tests.attacks.test_tokens import declared, setting, status
from tests.conftest import ADMIN_KEY, Hub, open_hub
from tests.doors.test_limits import JSONRPC, chat, message, say, use_tool
from tests.peers.a2a_sdk_agents import open_agent
from tests.peers.issuer import FakeIssuer, open_issuer
from tests.peers.mcp_servers import dual_era
from tests.peers.openai_upstream import Turn, openai_upstream


class Scene:
    """A hub with one issuer, and its operator."""

    def __init__(self, hub: Hub, issuer: FakeIssuer, admin: httpx.AsyncClient) -> None:
        self.hub = hub
        self.issuer = issuer
        self.admin = admin

    async def post(self, path: str, **body: Any) -> None:
        answer = await self.admin.post(path, json=body)
        assert answer.status_code in {200, 201}, answer.text

    async def status(self, **members: Any) -> int:
        return await status(self.hub, self.issuer.token(**members))


@asynccontextmanager
async def scene(tmp_path: Path, **members: Any) -> AsyncIterator[Scene]:
    async with (
        open_issuer() as issuer,
        open_hub(tmp_path, setting=setting(declared(issuer, **members))) as hub,
        hub.http(ADMIN_KEY) as admin,
    ):
        yield Scene(hub, issuer, admin)


async def test_a_token_opens_every_door_with_what_its_scopes_give(tmp_path: Path) -> None:
    async with (
        open_issuer() as issuer,
        open_agent(JSONRPC) as agent,
        dual_era() as peer,
        openai_upstream(*[Turn("hi")] * 8) as upstream,
    ):
        scopes = {"all": ["agent:*", "tool:*", "model:*", "admin:usage"], "little": ["model:other"]}
        yaml = (
            f"agents:\n  echo: {{url: {agent.url}}}\nmcpServers:\n  s: {{url: {peer.url}}}\n"
            f"models:\n  m: {{provider: openai, base_url: '{upstream.url}', api_key: k}}\n"
        )
        item = declared(issuer, create_users=True, scopes=scopes)
        async with open_hub(tmp_path, yaml, setting=setting(item), grpc=True) as hub:
            await hub.services.sync.refresh("s")
            async with hub.http(issuer.token(scope="all other")) as http:
                for call in (say, use_tool, chat, message):
                    assert (await call(http)).status_code == 200, call
                assert (await http.get("/api/usage")).status_code == 200
                assert (await http.get("/api/keys")).status_code == 404
            async with hub.http(issuer.token(scope="little")) as http:
                assert (await chat(http)).status_code == 404
                assert (await say(http)).status_code == 404
            assert hub.grpc is not None
            async with grpc.aio.insecure_channel(hub.grpc) as channel:
                stub = A2AServiceStub(channel)
                said = a2a_pb2.SendMessageRequest(
                    tenant="echo",
                    message=a2a_pb2.Message(message_id="m", role="ROLE_USER", parts=[a2a_pb2.Part(text="hi")]),
                )
                metadata = (("a2a-version", "1.0"), ("authorization", f"Bearer {issuer.token(scope='all')}"))
                assert (await stub.SendMessage(said, metadata=metadata)).WhichOneof("payload")
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await stub.SendMessage(said, metadata=(metadata[0], ("authorization", "Bearer eyJ.e30.x")))
                assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_known_token_costs_no_look_at_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, create_users=True, allow=["model:*"]) as s:
        token = s.issuer.token()
        assert await status(s.hub, token) == 200
        assert s.hub.services.keys.cached(digest(token.encode())) is not None
        monkeypatch.setattr(Accounts, "find", None)
        assert await status(s.hub, token) == 200
        assert s.issuer.asked == 1


async def test_grants_are_those_of_the_token_its_user_and_its_team_together(tmp_path: Path) -> None:
    roles = {"reader": ["admin:users", "admin:teams"], "clerk": ["admin:keys"]}
    async with scene(tmp_path, claims={"team": "team", "roles": "realm_access.roles"}, roles=roles) as s:
        await s.post("/api/users", name="rita", allow=["admin:users", "admin:keys", "admin:audit"])
        await s.post("/api/teams", alias="red", allow=["admin:users", "admin:teams"])
        await s.admin.put("/api/teams/red/members/rita", json={"role": "member"})
        token = s.issuer.token(team="red", realm_access={"roles": ["reader", "other"]})
        assert await status(s.hub, token, "/api/users") == 200
        for path in ("/api/teams", "/api/keys", "/api/audit"):
            assert await status(s.hub, token, path) == 404
        assert await status(s.hub, s.issuer.token(team="red"), "/api/users") == 404


async def test_without_any_list_a_token_may_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path, create_users=True) as s:
        assert await status(s.hub, s.issuer.token(), "/api/users") == 404


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("red", 200),
        (["red", "everyone"], 200),
        (["red", "red"], 200),
        ("Red", 401),
        ("gone", 401),
        ("", 401),
        (None, 401),
        ([], 401),
        (["red", "blue"], 401),
        ([["red"]], 401),
        ({"red": True}, 401),
        ("blue", 401),
    ],
)
@pytest.mark.attack("2.2/8")
async def test_a_token_names_one_team_that_its_user_is_in(tmp_path: Path, named: object, expected: int) -> None:
    async with scene(tmp_path, claims={"team": "groups"}, allow=["model:*"]) as s:
        await s.post("/api/users", name="rita")
        for alias in ("red", "blue"):
            await s.post("/api/teams", alias=alias)
        await s.admin.put("/api/teams/red/members/rita", json={"role": "member"})
        assert await s.status(groups=named) == expected


async def test_a_team_is_named_by_its_id_or_its_present_alias(tmp_path: Path) -> None:
    async with scene(tmp_path, claims={"team": "team"}, create_users=True, allow=["model:*"]) as s:
        made = (await s.admin.post("/api/teams", json={"alias": "red"})).json()
        by_alias, by_id, both = (s.issuer.token(team=team) for team in ("red", made["id"], [made["id"], "red"]))
        for token in (by_alias, by_id, both):
            assert await status(s.hub, token) == 200
        await s.admin.patch("/api/teams/red", json={"alias": "blue"})
        await s.post("/api/teams", alias="red")
        assert await status(s.hub, by_alias) == 401  # the new red team: they are not in it
        assert await status(s.hub, by_id) == 200
        assert await status(s.hub, both) == 401  # now two teams


async def test_a_change_of_user_membership_or_team_is_obeyed_at_the_next_request(tmp_path: Path) -> None:
    async with scene(tmp_path, claims={"team": "team"}, allow=["model:*"]) as s:
        await s.post("/api/users", name="rita")
        await s.post("/api/teams", alias="red")
        token = s.issuer.token(team="red")
        assert await status(s.hub, token) == 401
        await s.admin.put("/api/teams/red/members/rita", json={"role": "member"})
        assert await status(s.hub, token) == 200
        await s.admin.patch("/api/users/rita", json={"disabled": True})
        assert await status(s.hub, token) == 401
        await s.admin.patch("/api/users/rita", json={"disabled": False})
        assert await status(s.hub, token) == 200
        await s.admin.delete("/api/teams/red/members/rita")
        assert await status(s.hub, token) == 401
        await s.admin.put("/api/teams/red/members/rita", json={"role": "member"})
        assert await status(s.hub, token) == 200
        await s.admin.delete("/api/teams/red")
        assert await status(s.hub, token) == 401
        await s.post("/api/teams", alias="red")
        assert await status(s.hub, token) == 401


async def test_a_membership_that_was_taken_is_not_given_back_by_a_token(tmp_path: Path) -> None:
    async with scene(tmp_path, claims={"team": "team"}, create_users=True, allow=["model:*"]) as s:
        await s.post("/api/teams", alias="red")
        assert await s.status(team="red") == 200
        [member] = (await s.admin.get("/api/teams/red/members")).json()["items"]
        await s.admin.delete(f"/api/teams/red/members/{member['name']}")
        assert await s.status(team="red") == 401


async def test_one_user_with_the_same_rights_is_one_principal_under_all_their_tokens(tmp_path: Path) -> None:
    async with scene(tmp_path, create_users=True, scopes={"a": ["model:a"], "b": ["model:b"]}) as s:
        ids = []
        for members in ({"scope": "a b"}, {"scope": "b a x"}, {"scope": "a"}, {"scope": "a", "jti": "2"}):
            token = s.issuer.token(**members)
            assert await status(s.hub, token) == 200
            principal = s.hub.services.keys.cached(digest(token.encode()))
            assert principal is not None
            ids.append(principal.id)
        assert ids[0] == ids[1] != ids[2] == ids[3]
        living = await s.hub.services.keys.living(ids)
        assert [str(grant) for grant in living[ids[2]].grants.grants] == ["model:a"]


async def test_what_stands_for_tokens_is_no_key_that_could_be_changed(tmp_path: Path) -> None:
    async with scene(tmp_path, create_users=True, allow=["model:*"]) as s:
        token = s.issuer.token()
        assert await status(s.hub, token) == 200
        principal = s.hub.services.keys.cached(digest(token.encode()))
        assert principal is not None
        assert (await s.admin.get("/api/keys")).json()["items"] == []
        for name in (principal.id, principal.name):
            assert (await s.admin.delete(f"/api/keys/{name}")).status_code == 404
            assert (await s.admin.post(f"/api/keys/{name}/rotate", json={})).status_code == 404
        assert await status(s.hub, token) == 200


async def test_a_key_in_front_of_which_stands_a_token_of_nobodys_is_a_key(tmp_path: Path) -> None:
    """What looks like a token of an issuer that is not in the file is looked for among the keys."""
    async with scene(tmp_path, create_users=True, allow=["model:*"]) as s:
        secret = s.issuer.token(iss="https://elsewhere.example")
        assert await status(s.hub, secret) == 401
        await s.hub.services.keys.create(KeySpec(name="odd", allow=("model:*",), secret=secret))
        assert await status(s.hub, secret) == 200


async def test_an_issuer_changes_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.callers.issuers.RETRY_S", 0.0)
    async with scene(tmp_path, create_users=True, allow=["model:*"]) as s:
        old = s.issuer.token()
        assert await status(s.hub, old) == 200
        s.issuer.new_key("two")
        assert await s.status(kid="two") == 200
        assert s.issuer.asked == 2
        del s.issuer.keys["one"]
        issuers = s.hub.services.authenticator._issuers
        assert issuers is not None
        await issuers.refresh()
        assert await status(s.hub, old) == 401
        assert await s.status(kid="two") == 200


async def test_an_issuer_without_key_ids_has_one_key(tmp_path: Path) -> None:
    async with scene(tmp_path, create_users=True, allow=["model:*"]) as s:
        key = s.issuer.keys["one"]
        assert isinstance(key, ECKey)
        s.issuer.shown = [{name: value for name, value in key.as_dict(private=False).items() if name != "kid"}]
        assert await s.status(kid=None) == 200
        assert await s.status(kid="one") == 401


async def test_an_issuer_that_is_down_is_believed_by_its_keys_for_a_while(tmp_path: Path) -> None:
    now = 1000.0
    async with scene(tmp_path, create_users=True, allow=["model:*"]) as s:
        services = s.hub.services
        issuers = services.authenticator._issuers
        assert issuers is not None
        [ring] = issuers.rings.values()
        ring._clock = lambda: now
        assert await s.status() == 200
        s.issuer.is_down = True
        now += STALE_AFTER_S - 1
        await issuers.refresh()
        assert await s.status(jti="2") == 200
        known = s.issuer.token(jti="3")
        assert await status(s.hub, known) == 200
        now += 20
        await issuers.refresh()
        assert await status(s.hub, known) == 503
        assert await s.status(jti="4") == 503
        s.issuer.is_down = False
        now += 20
        assert await status(s.hub, known) == 200


async def test_a_token_ends_while_it_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, create_users=True, allow=["model:*"]) as s:
        token = s.issuer.token(exp=int(time.time()) + 100)
        assert await status(s.hub, token) == 200
        real = time.time
        monkeypatch.setattr("registry.callers.levels.time.time", lambda: real() + 100 + tokens.LEEWAY_S + 1)
        assert await status(s.hub, token) == 401


@pytest.mark.parametrize(
    ("path", "well_known"),
    [
        ("/realms/a", "openid-configuration"),
        ("/realms/a", "oauth-authorization-server"),
        ("", "oauth-authorization-server"),
    ],
)
async def test_metadata_is_found_where_issuers_put_it(tmp_path: Path, path: str, well_known: str) -> None:
    async with open_issuer(path, well_known=well_known) as issuer:
        item = declared(issuer, create_users=True, allow=["model:*"])
        async with open_hub(tmp_path, setting=setting(item)) as hub:
            assert await status(hub, issuer.token()) == 200


async def test_many_first_requests_make_one_user_and_ask_once(tmp_path: Path) -> None:
    async with scene(tmp_path, create_users=True, allow=["model:*"]) as s:
        found = await asyncio.gather(*(s.status(jti=str(number)) for number in range(20)))
        assert set(found) == {200}
        assert s.issuer.asked == 1
        assert len((await s.admin.get("/api/users")).json()["items"]) == 1


async def test_what_the_file_gives_holds_from_the_next_start(tmp_path: Path) -> None:
    async with open_issuer() as issuer:
        ids: set[str] = set()
        for allow in (["model:*"], ["agent:*"]):
            item = declared(issuer, create_users=True, allow=allow)
            async with open_hub(tmp_path, setting=setting(item)) as hub:
                living = await hub.services.keys.living(ids)
                assert [[*map(str, living[known].grants.grants)] for known in ids] in ([], [allow])
                token = issuer.token()
                assert await status(hub, token) == 200
                principal = hub.services.keys.cached(digest(token.encode()))
                assert principal is not None
                ids.add(principal.id)
        assert len(ids) == 1
        async with open_hub(tmp_path) as hub:
            assert not ids & (await hub.services.keys.living(ids)).keys()
            assert await status(hub, issuer.token()) == 401


async def test_mcp_clients_are_led_to_the_issuers(tmp_path: Path) -> None:
    scopes = {"mcp.read": ["tool:*"]}
    async with scene(tmp_path, create_users=True, scopes=scopes, audience=[]) as s, s.hub.http() as http:
        refused = await http.post("/mcp/crm", json={})
        challenge = refused.headers["www-authenticate"]
        assert 'scope="mcp.read"' in challenge
        metadata = (await http.get("/.well-known/oauth-protected-resource/mcp/crm")).json()
        assert metadata["authorization_servers"] == [s.issuer.named]
        assert metadata["scopes_supported"] == ["mcp.read"]
        assert metadata["resource"] == f"{s.hub.url}/mcp/crm"


@pytest.mark.attack("2.1/18")
async def test_a_token_for_an_address_of_mcp_is_taken_there_and_below_only(tmp_path: Path) -> None:
    async with dual_era() as peer, open_issuer() as issuer:
        yaml = f"mcpServers:\n  s: {{url: {peer.url}}}\n  other: {{url: {peer.url}}}\n"
        item = {"issuer": issuer.named, "create_users": True, "allow": ["server:*", "model:*", "admin:users"]}
        async with open_hub(tmp_path, yaml, setting=setting(item)) as hub:

            async def at(audience: object) -> list[int]:
                async with hub.http(issuer.token(aud=audience)) as http:
                    asked = [(await http.get(path)).status_code for path in ("/mcp", "/mcp/s", "/mcp/other", "/mcp/s2")]
                    return [*asked, *[(await http.get(path)).status_code for path in ("/v1/models", "/api/users")]]

            whole = await at(f"{hub.url}/mcp")
            assert 401 not in whole[:4]
            assert whole[4:] == [401, 401]
            part = await at([f"{hub.url}/mcp/s", "https://elsewhere.example"])
            assert [number == 401 for number in part] == [True, False, True, True, True, True]
            for audience in (f"{hub.url}/mcpx", f"{hub.url}/", hub.url, "https://elsewhere.example/mcp"):
                assert set(await at(audience)) == {401}


async def test_only_who_brings_a_token_is_told_that_it_is_wrong(tmp_path: Path) -> None:
    """RFC 6750 §3, and nothing of the reason."""
    async with scene(tmp_path, create_users=True, allow=["model:*"]) as s:
        told = set()
        for token in (s.issuer.token(exp=1), s.issuer.token(aud="other"), "sk-nobody-knows-it", "eyJ.e30.x"):
            for path in ("/v1/models", "/mcp"):
                async with s.hub.http(token) as http, s.hub.http() as bare:
                    with_token, without = [(await one.get(path)).headers["www-authenticate"] for one in (http, bare)]
                assert with_token.startswith(f'{without}, error="invalid_token", error_description="')
                told.add(with_token.removeprefix(without))
        assert len(told) == 1


async def test_limits_of_an_issuer_bound_each_user_with_all_their_tokens(tmp_path: Path) -> None:
    async with openai_upstream(*[Turn("hi")] * 9) as upstream, open_issuer() as issuer:
        yaml = f"models:\n  m: {{provider: openai, base_url: '{upstream.url}', api_key: k}}\n"
        limits = {"limits": {"calls_per_day": 2}, "scopes": {"a": ["model:*"], "b": ["model:m"]}}
        async with open_hub(tmp_path, yaml, setting=setting(declared(issuer, create_users=True, **limits))) as hub:
            for scope, user, wanted in (
                ("a", "rita", 200),
                ("b", "rita", 200),
                ("a b", "rita", 429),
                ("a", "eve", 200),
            ):
                async with hub.http(issuer.token(scope=scope, sub=user)) as http:
                    assert (await chat(http)).status_code == wanted, (scope, user)
        more = declared(issuer, create_users=True, **{**limits, "limits": {"calls_per_day": 3}})
        async with open_hub(tmp_path, yaml, setting=setting(more)) as hub:
            for wanted in (200, 429):
                async with hub.http(issuer.token(scope="a")) as http:
                    answer = await chat(http)
                    assert answer.status_code == wanted
            assert "The issuer's calls_per_day of 3 is used up" in answer.text


@pytest.mark.parametrize("path", ["/a2a/echo/.well-known/agent-card.json", "/.well-known/agent-card.json"])
async def test_cards_name_the_issuers(tmp_path: Path, path: str) -> None:
    """As A2A 1.0 and 0.3 say it: any of them is enough, and those without metadata are in none."""
    async with open_agent(JSONRPC) as agent, open_issuer() as issuer:
        items = [
            declared(issuer, create_users=True, scopes={"talk": ["agent:*"], "read": ["model:*"]}),
            {"issuer": "https://login.example.com/", "audience": "hub"},
            {
                "issuer": "https://elsewhere.example.com",
                "audience": "hub",
                "jwks_url": "https://elsewhere.example.com/k",
            },
            {"issuer": "https://mcp.example.com"},
        ]
        yaml = f"agents:\n  echo: {{url: {agent.url}, card: public}}\n"
        async with open_hub(tmp_path, yaml, setting=setting(*items)) as hub, hub.http(ADMIN_KEY) as http:
            card = (await http.get(path)).json()
    parsed = json_format.ParseDict(card, a2a_pb2.AgentCard(), ignore_unknown_fields=True)
    urls = {
        name: scheme.open_id_connect_security_scheme.open_id_connect_url
        for name, scheme in parsed.security_schemes.items()
    }
    assert urls == {
        "hubbub": "",
        "issuer-1": f"{issuer.named}/.well-known/openid-configuration",
        "issuer-2": "https://login.example.com/.well-known/openid-configuration",
    }
    needed = [{name: [*found.list] for name, found in one.schemes.items()} for one in parsed.security_requirements]
    assert needed == [{"hubbub": [needed[0]["hubbub"][0]]}, {"issuer-1": ["talk"]}, {"issuer-2": ["openid"]}]
    if "security" in card:  # what clients of 0.3 read
        assert card["security"] == [{"hubbub": []}, {"issuer-1": ["talk"]}, {"issuer-2": ["openid"]}]
        assert card["securitySchemes"]["issuer-1"]["type"] == "openIdConnect"
        assert card["securitySchemes"]["issuer-1"]["openIdConnectUrl"] == urls["issuer-1"]
        assert card["securitySchemes"]["hubbub"]["type"] == "http"
    assert ("security" in card) == ("echo" in path)
