"""Who may do what over the admin API: every route for every kind of principal, and what roles reach."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from registry.access import ADMIN_NAMES
from registry.gate import Settled
from registry.identity import ROLES, KeySpec, Role
from tests.conftest import ADMIN_KEY, Hub, OpenHub

ENTRIES = {"agents": "agents", "mcp-servers": "mcp-servers", "models": "models"}
ROUTES: dict[tuple[str, str], tuple[str | None, Role | None]] = {
    ("POST", "/api/keys"): ("keys", "member"),
    ("GET", "/api/keys"): ("keys", "viewer"),
    ("GET", "/api/keys/{name}"): ("keys", "viewer"),
    ("PATCH", "/api/keys/{name}"): ("keys", "member"),
    ("DELETE", "/api/keys/{name}"): ("keys", "member"),
    ("POST", "/api/keys/{name}/rotate"): ("keys", "member"),
    ("POST", "/api/users"): ("users", None),
    ("GET", "/api/users"): ("users", None),
    ("GET", "/api/users/{user}"): ("users", None),
    ("PATCH", "/api/users/{user}"): ("users", None),
    ("DELETE", "/api/users/{user}"): ("users", None),
    ("POST", "/api/teams"): ("teams", None),
    ("GET", "/api/teams"): ("teams", "viewer"),
    ("GET", "/api/teams/{team}"): ("teams", "viewer"),
    ("PATCH", "/api/teams/{team}"): ("teams", None),
    ("DELETE", "/api/teams/{team}"): ("teams", None),
    ("GET", "/api/teams/{team}/members"): ("teams", "viewer"),
    ("PUT", "/api/teams/{team}/members/{user}"): ("teams", "admin"),
    ("DELETE", "/api/teams/{team}/members/{user}"): ("teams", "admin"),
    ("POST", "/api/toolsets"): ("mcp-servers", None),
    ("GET", "/api/toolsets"): ("mcp-servers", None),
    ("GET", "/api/toolsets/{name}"): ("mcp-servers", None),
    ("PATCH", "/api/toolsets/{name}"): ("mcp-servers", None),
    ("DELETE", "/api/toolsets/{name}"): ("mcp-servers", None),
    **{("POST", f"/api/{kind}"): (grant, None) for kind, grant in ENTRIES.items()},
    **{("GET", f"/api/{kind}"): (grant, None) for kind, grant in ENTRIES.items()},
    **{("GET", f"/api/{kind}/{{name}}"): (grant, None) for kind, grant in ENTRIES.items()},
    **{("PATCH", f"/api/{kind}/{{name}}"): (grant, None) for kind, grant in ENTRIES.items()},
    **{("DELETE", f"/api/{kind}/{{name}}"): (grant, None) for kind, grant in ENTRIES.items()},
    ("GET", "/api/agents"): (None, None),  # everybody's: those that they may call
    ("POST", "/api/agents/{name}/approve"): ("agents", None),
    ("POST", "/api/mcp-servers/{name}/approve"): ("mcp-servers", None),
    ("GET", "/api/push/dead-letters"): ("agents", None),
    ("POST", "/api/push/dead-letters/replay"): ("agents", None),
    ("POST", "/api/push/dead-letters/{letter}/replay"): ("agents", None),
    ("GET", "/api/approvals"): ("approvals", None),
    ("GET", "/api/approvals/{name}"): ("approvals", None),
    ("POST", "/api/approvals/{name}"): ("approvals", None),
    ("GET", "/api/usage"): ("usage", "viewer"),
    ("GET", "/api/audit"): ("audit", None),
    ("GET", "/api/audit/verify"): ("audit", None),
    ("GET", "/api/policy"): ("policy", None),
    ("PUT", "/api/policy"): ("policy", None),
    ("GET", "/api/policy/versions"): ("policy", None),
    ("GET", "/api/policy/versions/{number}"): ("policy", None),
    ("GET", "/api/policy/diff"): ("policy", None),
    ("POST", "/api/policy/rollback"): ("policy", None),
    ("GET", "/api/guards"): ("policy", None),
    ("POST", "/api/guards/test"): ("policy", None),
    ("GET", "/api/explain"): (None, None),  # everybody's about themselves
}
"""Which `admin:` grant opens a route, and from which role on it is open to a role; None: to all, or to none."""


@dataclass
class Scene:
    """Two teams with a user for each role in each, and their keys by `{team}-{role}`."""

    hub: Hub
    client: httpx.AsyncClient
    keys: dict[str, str]

    async def ask(self, who: str, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.keys.get(who, who)}"}
        return await self.client.request(method, path, json=body, headers=headers)

    async def acts(self, who: str, method: str, path: str, body: Any = None) -> int:
        return (await self.ask(who, method, path, body)).status_code


@pytest.fixture
async def scene(hub: OpenHub) -> AsyncIterator[Scene]:
    async with hub() as running, running.http() as client:
        keys: dict[str, str] = {"operator": ADMIN_KEY}
        services = running.services
        for team in ("red", "blue"):
            await services.teams.create(team, allow=("model:*",))
            for role in ROLES:
                name = f"{team}-{role}"
                await services.users.create(name)
                await services.teams.put_member(team, name, role)
                keys[name] = await running.key("admin:roles", "model:small", user=name, team=team)
            keys[f"{team}-calling"] = await running.key("model:*", user=f"{team}-admin", team=team)
        for name in ADMIN_NAMES:
            keys[f"clerk-{name}"] = await running.key(f"admin:{name}")
        yield Scene(running, client, keys)


def test_the_table_is_of_every_admin_name_but_those_without_a_route() -> None:
    named = {grant for grant, _ in ROUTES.values() if grant is not None}
    assert ADMIN_NAMES - named == {"roles", "metrics"}


@pytest.mark.attack("2.2/7")
async def test_every_route_is_open_to_its_grant_and_its_roles_and_to_nobody_else(scene: Scene) -> None:
    paths = (await scene.ask("operator", "GET", "/openapi.json")).json()["paths"]
    routes = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert {(method, path.replace(":path", "")) for method, path in routes} == set(ROUTES)
    wrong = []
    for (method, template), (grant, role) in ROUTES.items():
        path = template
        for name, value in (
            ("name", "absent"),
            ("team", "absent"),
            ("user", "absent"),
            ("letter", "1"),
            ("number", "1"),
        ):
            path = path.replace(f"{{{name}}}", value)
        for who in (*scene.keys, "sk-nobody-knows-this-key"):
            answer = await scene.ask(who, method, path, {} if method in {"POST", "PUT", "PATCH"} else None)
            is_refused = answer.status_code == 404 and answer.json()["detail"].startswith("No path")
            is_open = _is_open_to(who, grant, role)
            right = answer.status_code == 401 if who.startswith("sk-") else is_refused != is_open
            if not right:
                wrong.append((who, method, template, answer.status_code))
    assert wrong == []


def _is_open_to(who: str, grant: str | None, role: Role | None) -> bool:
    kind, _, name = who.partition("-")
    if grant is None or who == "operator":
        return True
    if kind == "clerk":
        return name == grant
    return role is not None and name in ROLES and ROLES.index(name) >= ROLES.index(role)


async def test_a_role_sees_its_own_team_only(scene: Scene) -> None:
    for role in ROLES:
        who = f"red-{role}"
        found = (await scene.ask(who, "GET", "/api/teams")).json()["items"]
        assert [team["alias"] for team in found] == ["red"]
        keys = (await scene.ask(who, "GET", "/api/keys")).json()["items"]
        assert {key["team"] for key in keys} == {"red"}
        assert len(keys) == 4
        other = (await scene.ask("operator", "GET", "/api/keys")).json()["items"]
        foreign = next(key["name"] for key in other if key["team"] == "blue")
        members = (await scene.ask(who, "GET", "/api/teams/red/members")).json()["items"]
        assert [(one["name"], one["role"]) for one in members] == [(f"red-{one}", one) for one in sorted(ROLES)]
        absent = await scene.ask(who, "GET", "/api/teams/none")
        for path in ("/api/teams/blue", "/api/teams/blue/members"):
            answer = await scene.ask(who, "GET", path)
            assert answer.json()["detail"].replace("blue", "none") == absent.json()["detail"]
        assert await scene.acts(who, "GET", f"/api/keys/{foreign}") == 404


async def test_a_viewer_reads_the_usage_of_its_team_only(scene: Scene) -> None:
    services = scene.hub.services
    for key in await services.keys.all_live():
        services.usage.record(Settled(1.0, key.id, key.name, "model", "small", "ok", 1.0, "", key.team_id, key.user_id))
    everything = (await scene.ask("operator", "GET", "/api/usage?by=key")).json()["items"]
    for role in ROLES:
        found = (await scene.ask(f"red-{role}", "GET", "/api/usage?by=key")).json()["items"]
        names = {key["name"] for key in (await scene.ask(f"red-{role}", "GET", "/api/keys")).json()["items"]}
        assert {row["key"] for row in found} == names
        assert len(found) < len(everything)


async def test_a_team_admin_manages_the_members_of_its_team(scene: Scene) -> None:
    path = "/api/teams/red/members/blue-viewer"
    for who in ("red-viewer", "red-member", "red-calling", "blue-admin"):
        assert await scene.acts(who, "PUT", path, {"role": "member"}) == 404
    assert (await scene.ask("red-admin", "PUT", path, {"role": "member"})).json()["role"] == "member"
    assert await scene.acts("red-admin", "PUT", path, {"role": "owner"}) == 400
    assert await scene.acts("red-admin", "PUT", "/api/teams/blue/members/red-admin", {"role": "admin"}) == 404
    assert await scene.acts("red-admin", "PUT", "/api/teams/red/members/nobody", {"role": "admin"}) == 404
    assert await scene.acts("red-admin", "DELETE", path) == 204
    assert await scene.acts("red-admin", "DELETE", path) == 404


async def test_a_member_makes_and_changes_keys_for_itself_and_an_admin_for_the_team(scene: Scene) -> None:
    made = (await scene.ask("red-member", "POST", "/api/keys", {"name": "mine", "allow": ["model:small"]})).json()
    assert (made["user"], made["team"]) == ("red-member", "red")
    given = {"name": "more", "allow": []}
    for places in (
        {"user": "red-viewer"},
        {"user": "nobody"},
        {"user": None},
        {"team": "blue"},
        {"team": "none"},
        {"team": None},
        {"user": None, "team": None},
    ):
        assert await scene.acts("red-member", "POST", "/api/keys", {**given, **places}) == 400, places
        changed = await scene.acts("red-member", "PATCH", "/api/keys/mine", places)
        assert changed == 400, places
    for places in ({"user": "blue-member"}, {"user": "nobody"}, {"team": "blue"}, {"team": None, "user": None}):
        assert await scene.acts("red-admin", "POST", "/api/keys", {**given, **places}) == 400, places
    for name, places in (
        ("teams", {}),
        ("same", {"team": "red", "user": "red-admin"}),
    ):
        made = (await scene.ask("red-admin", "POST", "/api/keys", {"name": name, "allow": [], **places})).json()
        assert (made["team"], made["user"]) == ("red", places.get("user"))
    hers = {"name": "hers", "allow": [], "user": "red-viewer", "team": "red"}
    assert await scene.acts("operator", "POST", "/api/keys", hers) == 201
    colleague = "/api/keys/hers"
    for method, path, body in (
        ("PATCH", colleague, {}),
        ("DELETE", colleague, None),
    ):
        assert await scene.acts("blue-admin", method, path, body) == 404
        assert await scene.acts("red-member", method, path, body) == 400
        assert await scene.acts("red-viewer", method, path, body) == 404
        assert await scene.acts("red-admin", method, path, body) in {200, 204}
    own = "/api/keys/mine"
    for method, path, body in (("PATCH", own, {"allow": []}), ("POST", f"{own}/rotate", {}), ("DELETE", own, None)):
        assert await scene.acts("red-member", method, path, body) in {200, 204}


@pytest.mark.attack("2.2/7", "2.2/8", defence="hub.api.keys:check_placed")
async def test_a_team_admin_gets_no_key_that_acts_as_another_user(scene: Scene) -> None:
    for user in ("red-member", "blue-member"):
        assert await scene.acts("red-admin", "PUT", f"/api/teams/red/members/{user}", {"role": "member"}) == 200
        theirs = {"name": f"as-{user}", "allow": [], "user": user}
        assert await scene.acts("red-admin", "POST", "/api/keys", theirs) == 400
        assert await scene.acts("operator", "POST", "/api/keys", {**theirs, "team": "red"}) == 201
        assert await scene.acts("red-admin", "POST", f"/api/keys/as-{user}/rotate", {}) == 400
        own = {"name": f"own-{user}", "allow": []}
        assert await scene.acts("red-admin", "POST", "/api/keys", own) == 201
        assert await scene.acts("red-admin", "PATCH", f"/api/keys/own-{user}", {"user": user}) == 400
        assert await scene.acts("red-admin", "DELETE", f"/api/keys/as-{user}") == 204


@pytest.mark.attack("2.2/7", "2.2/8", defence="registry.access:Grants.cover")
async def test_nobody_hands_out_what_they_do_not_hold(scene: Scene) -> None:
    for who, body in (
        ("red-member", {"allow": ["model:*"]}),
        ("red-member", {"allow": ["admin:keys"]}),
        ("red-member", {"allow": None}),
        ("red-admin", {"allow": ["model:large"]}),
        ("red-admin", {"allow": ["admin:*"]}),
        ("clerk-keys", {"allow": ["admin:roles"]}),
        ("clerk-keys", {"allow": [], "team": "red"}),
        ("clerk-keys", {"allow": [], "user": "red-admin"}),
        ("clerk-keys", {"allow": None}),
    ):
        assert await scene.acts(who, "POST", "/api/keys", {"name": "more", **body}) == 400, (who, body)
    for collection, name in (("users", "red-admin"), ("teams", "red")):
        who = f"clerk-{collection}"
        for allow in (["model:*"], ["admin:*"], None):
            assert await scene.acts(who, "PATCH", f"/api/{collection}/{name}", {"allow": allow}) == 400
        new = {"users": "name", "teams": "alias"}[collection]
        assert await scene.acts(who, "POST", f"/api/{collection}", {new: "new", "allow": ["model:*"]}) == 400
        assert await scene.acts(who, "POST", f"/api/{collection}", {new: "new"}) == 201
        assert await scene.acts("operator", "PATCH", f"/api/{collection}/{name}", {"allow": ["model:small"]}) == 200
        assert await scene.acts("operator", "PATCH", f"/api/{collection}/{name}", {"allow": None}) == 200
    assert await scene.acts("red-member", "POST", "/api/keys", {"name": "acts", "allow": ["admin:roles"]}) == 201
    assert await scene.acts("clerk-keys", "POST", "/api/keys/acts/rotate", {}) == 400


async def test_a_role_that_is_taken_is_gone_at_the_next_request(scene: Scene) -> None:
    assert await scene.acts("red-admin", "GET", "/api/teams/red/members") == 200
    await scene.acts("operator", "PUT", "/api/teams/red/members/red-admin", {"role": "viewer"})
    assert await scene.acts("red-admin", "DELETE", "/api/teams/red/members/red-viewer") == 404
    assert await scene.acts("red-admin", "GET", "/api/teams/red/members") == 200
    await scene.acts("operator", "DELETE", "/api/teams/red/members/red-admin")
    assert await scene.acts("red-admin", "GET", "/api/teams/red/members") == 401


async def test_a_calling_key_has_no_role_whoevers_it_is(scene: Scene) -> None:
    assert await scene.acts("red-calling", "GET", "/api/teams") == 404
    assert await scene.acts("red-calling", "GET", "/v1/models") == 200


async def test_a_key_of_the_file_is_no_more_than_absent_to_a_role_of_another_team(hub: OpenHub) -> None:
    async with hub() as running:
        await running.services.teams.create("red")
        await running.services.users.create("rita")
        await running.services.teams.put_member("red", "rita", "admin")
        secret = await running.key("admin:roles", user="rita", team="red")
        await running.services.keys.follow_file([KeySpec(name="dev", allow=(), secret="s" * 20)])
        async with running.http(secret) as role, running.http(ADMIN_KEY) as operator:
            assert (await role.delete("/api/keys/dev")).status_code == 404
            assert (await operator.delete("/api/keys/dev")).status_code == 409


@pytest.mark.parametrize("member", ["id", "created_at", "role", "is_admin", "team", "teams"])
@pytest.mark.attack("2.2/8")
async def test_no_other_member_of_a_user_or_team_can_be_written(scene: Scene, member: str) -> None:
    for collection, new, name in (("users", {"name": "new"}, "red-admin"), ("teams", {"alias": "new"}, "red")):
        assert await scene.acts("operator", "POST", f"/api/{collection}", {**new, member: "x"}) == 400
        assert await scene.acts("operator", "PATCH", f"/api/{collection}/{name}", {member: "x"}) == 400


async def test_users_are_made_listed_changed_and_deleted(scene: Scene) -> None:
    rita = {"name": "rita", "email": "rita@example.com", "allow": ["model:*"]}
    made = (await scene.ask("operator", "POST", "/api/users", rita)).json()
    assert {name: made[name] for name in rita} == rita
    assert made["disabled"] is False
    assert await scene.acts("operator", "POST", "/api/users", {"name": "rita"}) == 409
    assert await scene.acts("operator", "POST", "/api/users", {"name": "Rita"}) == 400
    assert await scene.acts("operator", "PATCH", "/api/users/rita", {"name": "red-admin"}) == 409
    page = (await scene.ask("operator", "GET", "/api/users?limit=1&after=red-viewer")).json()
    assert page == {"items": [made], "next": None}
    first = (await scene.ask("operator", "GET", "/api/users?limit=1")).json()
    assert first["next"] == first["items"][0]["name"] == "blue-admin"
    changed = await scene.ask(
        "operator", "PATCH", f"/api/users/{made['id']}", {"name": "margarita", "disabled": True, "email": None}
    )
    assert changed.json() == {**made, "name": "margarita", "disabled": True, "email": None}
    assert await scene.acts("operator", "GET", "/api/users/rita") == 404
    assert await scene.acts("operator", "DELETE", "/api/users/margarita") == 204
    assert await scene.acts("operator", "DELETE", "/api/users/margarita") == 404
