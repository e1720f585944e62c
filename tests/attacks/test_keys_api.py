"""Who may make and change keys cannot gain by it what they do not hold."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.conftest import ADMIN_KEY, Hub, OpenHub

PAST = "2020-01-01T00:00:00Z"


@pytest.fixture
async def running(hub: OpenHub) -> AsyncIterator[Hub]:
    async with hub() as running:
        yield running


@pytest.fixture
async def admin(running: Hub) -> AsyncIterator[httpx.AsyncClient]:
    async with running.http(ADMIN_KEY) as client:
        yield client


@pytest.fixture
async def clerk(running: Hub) -> AsyncIterator[httpx.AsyncClient]:
    async with running.http(await running.key("admin:keys", "model:small")) as client:
        yield client


@pytest.mark.parametrize("change", [{"expires_at": None}, {"limits": {}}, {"expires_at": None, "allow": ["model:*"]}])
async def test_a_key_that_holds_more_than_its_changer_is_not_given_more_time_or_pace(
    admin: httpx.AsyncClient, clerk: httpx.AsyncClient, change: dict[str, object]
) -> None:
    body = {"name": "old", "allow": ["model:*"], "expires_at": PAST, "limits": {"requests_per_minute": 1}}
    await admin.post("/api/keys", json=body)
    before = (await admin.get("/api/keys/old")).json()
    refused = await clerk.patch("/api/keys/old", json=change)
    assert refused.status_code == 400
    assert "model:*" in refused.json()["detail"]
    assert (await admin.get("/api/keys/old")).json() == before


async def test_a_key_within_its_changers_grants_can_be_renewed(
    admin: httpx.AsyncClient, clerk: httpx.AsyncClient
) -> None:
    await admin.post("/api/keys", json={"name": "old", "allow": ["model:small"], "expires_at": PAST})
    renewed = await clerk.patch("/api/keys/old", json={"expires_at": None})
    assert renewed.json()["expires_at"] is None


async def test_a_key_can_be_narrowed_to_what_its_changer_holds(
    admin: httpx.AsyncClient, clerk: httpx.AsyncClient
) -> None:
    await admin.post("/api/keys", json={"name": "old", "allow": ["model:*"]})
    assert (await clerk.patch("/api/keys/old", json={"allow": ["model:small"]})).status_code == 200


@pytest.mark.parametrize("name", ["a/b", "..", "a\nb", "a b", "", "ключ", "a" * 65, "\u202egnp"])
async def test_a_key_has_a_name_under_which_it_can_be_revoked(admin: httpx.AsyncClient, name: str) -> None:
    refused = await admin.post("/api/keys", json={"name": name, "allow": []})
    assert refused.status_code == 400
    assert "name" in refused.json()["detail"]


@pytest.mark.parametrize("member", ["id", "owner", "digest", "is_admin", "secret", "key", "revoked_at", "created_at"])
@pytest.mark.attack("2.2/8")
async def test_no_other_member_of_a_key_can_be_written(admin: httpx.AsyncClient, member: str) -> None:
    assert (await admin.post("/api/keys", json={"name": "a", "allow": [], member: "x"})).status_code == 400
    await admin.post("/api/keys", json={"name": "b", "allow": []})
    assert (await admin.patch("/api/keys/b", json={member: "x"})).status_code == 400


@pytest.mark.parametrize("grant", ["tool:*'; DROP TABLE api_keys;--", 'model:"', "agent:%", "agent:a\x00b"])
@pytest.mark.attack("2.1/34", "2.2/3")
async def test_sql_in_grants_and_names_is_text(admin: httpx.AsyncClient, grant: str) -> None:
    made = await admin.post("/api/keys", json={"name": "a", "allow": [grant]})
    assert made.json()["allow"] == [grant]
    assert (await admin.get("/api/keys/a'%20OR%20'1'='1")).status_code == 404
    assert (await admin.get("/api/keys", params={"after": "' OR 1=1 --"})).json()["items"][0]["allow"] == [grant]


async def test_who_makes_keys_puts_none_into_a_team_without_the_grant_for_it(
    admin: httpx.AsyncClient, clerk: httpx.AsyncClient
) -> None:
    await admin.post("/api/teams", json={"alias": "red"})
    await admin.post("/api/keys", json={"name": "theirs", "allow": [], "team": "red"})
    for team in ("red", "nobodys"):
        refused = await clerk.post("/api/keys", json={"name": "spy", "allow": [], "team": team})
        assert (refused.status_code, refused.json()["detail"]) == (
            400,
            "putting keys into teams needs the grant admin:teams",
        )
    await clerk.post("/api/keys", json={"name": "spy", "allow": []})
    for name, moved in (("spy", "red"), ("theirs", None)):
        assert (await clerk.patch(f"/api/keys/{name}", json={"team": moved})).status_code == 400
    assert [(await admin.get(f"/api/keys/{name}")).json()["team"] for name in ("spy", "theirs")] == [None, "red"]
    for method, path in (("GET", "/api/teams"), ("POST", "/api/teams"), ("DELETE", "/api/teams/red")):
        assert (await clerk.request(method, path, json={"alias": "x"})).status_code == 404


async def test_teams_are_made_listed_renamed_and_deleted(admin: httpx.AsyncClient) -> None:
    red = (await admin.post("/api/teams", json={"alias": "red"})).json()
    assert red["alias"] == "red"
    assert (await admin.post("/api/teams", json={"alias": "red"})).status_code == 409
    assert (await admin.post("/api/teams", json={"alias": "Red"})).status_code == 400
    await admin.post("/api/teams", json={"alias": "blue"})
    page = (await admin.get("/api/teams", params={"limit": 1})).json()
    assert [(item["alias"], page["next"]) for item in page["items"]] == [("blue", "blue")]
    rest = (await admin.get("/api/teams", params={"after": page["next"]})).json()
    assert rest == {"items": [red], "next": None}
    assert (await admin.patch("/api/teams/red", json={"alias": "blue"})).status_code == 409
    renamed = {**red, "alias": "crimson"}
    assert (await admin.patch("/api/teams/red", json={"alias": "crimson"})).json() == renamed
    for name in ("crimson", red["id"]):
        assert (await admin.get(f"/api/teams/{name}")).json() == {**renamed, "used": []}
    assert (await admin.get("/api/teams/red")).status_code == 404
    assert (await admin.delete(f"/api/teams/{red['id']}")).status_code == 204
    assert (await admin.delete("/api/teams/crimson")).status_code == 404


@pytest.mark.parametrize(
    "limits",
    [{"tokens_per_minute": 10**30}, {"requests_per_minute": 2**53 + 1}, {"max_seconds": 1e300}, {"max_calls": 10**30}],
)
async def test_limits_that_cannot_be_counted_to_are_refused(
    admin: httpx.AsyncClient, limits: dict[str, object]
) -> None:
    refused = await admin.post("/api/keys", json={"name": "more", "allow": [], "limits": limits})
    assert refused.status_code == 400
    assert next(iter(limits)) in refused.text
    most = {"name": "most", "allow": [], "limits": dict.fromkeys(limits, 10**9)}
    assert (await admin.post("/api/keys", json=most)).status_code == 201
    assert (await admin.get("/api/keys/most")).status_code == 200


async def test_no_key_has_the_name_of_another_principal(clerk: httpx.AsyncClient) -> None:
    async def answer(name: str) -> int:
        return (await clerk.post("/api/keys", json={"name": name, "allow": ["model:small"]})).status_code

    taken = ["admin", "hub", "operator", "key_1b1b75bbf00844e05f7014b2d9d7226c"]
    assert [await answer(name) for name in taken] == [400] * 4
    assert [await answer(name) for name in ("admin2", "my-hub", "keys")] == [201] * 3


async def test_a_member_of_a_body_stands_once(running: Hub, admin: httpx.AsyncClient) -> None:
    json = {"content-type": "application/json"}
    for body in ('{"name":"k","allow":[],"allow":["admin:*"]}', '{"name":"k","allow":[],"\\u0061llow":["model:*"]}'):
        answer = await admin.post("/api/keys", content=body, headers=json)
        assert (answer.status_code, "allow stands twice" in answer.json()["detail"]) == (400, True)
    nested = '{"rules":[{"name":"r","effect":"deny","effect":"allow"}]}'
    assert (await admin.put("/api/policy", content=nested, headers=json)).status_code == 400
