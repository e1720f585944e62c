"""Two hub processes on one database: what one changes of a key, user, team, membership or the policy, the other obeys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import hub_process

YAML = """
models:
  small: {provider: offline}
  large: {provider: offline}
"""
SOON_S = 10
"""Within a second on a quiet machine: changes are looked for every 200 ms."""


@dataclass
class Two:
    """The administrator's clients of both processes."""

    here: httpx.AsyncClient
    there: httpx.AsyncClient

    async def models(self, client: httpx.AsyncClient, secret: str) -> list[str] | int:
        """The models that a key sees at a process, or how it is refused."""
        answer = await client.get("/v1/models", headers={"authorization": f"Bearer {secret}"})
        return [one["id"] for one in answer.json()["data"]] if answer.status_code == 200 else answer.status_code

    async def do(self, method: str, path: str, body: Any = None) -> Any:
        """Change something here."""
        answer = await self.here.request(method, path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    async def obey(self, secret: str, seen: list[str] | int) -> None:
        """The change holds here at the next request, and there soon."""
        assert await self.models(self.here, secret) == seen
        async with asyncio.timeout(SOON_S):
            while await self.models(self.there, secret) != seen:
                await asyncio.sleep(0.02)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    async with AsyncExitStack() as stack:
        hubs = [await stack.enter_async_context(hub_process(tmp_path, YAML)) for _ in range(2)]
        clients = [await stack.enter_async_context(hub.http()) for hub in hubs]
        yield Two(*clients)


async def test_every_change_is_obeyed_here_at_once_and_there_within_a_second(two: Two) -> None:
    await two.do("POST", "/api/users", {"name": "rita"})
    team = await two.do("POST", "/api/teams", {"alias": "red"})
    await two.do("PUT", "/api/teams/red/members/rita", {"role": "member"})
    new = {"name": "k", "allow": ["model:*"], "user": "rita", "team": "red"}
    secret = (await two.do("POST", "/api/keys", new))["key"]
    both = ["small", "large"]
    await two.obey(secret, both)
    for method, path, body, seen in (
        ("PATCH", "/api/teams/red", {"allow": ["model:small"]}, ["small"]),
        ("PATCH", "/api/users/rita", {"allow": ["model:large"]}, []),
        ("PATCH", "/api/teams/red", {"allow": None}, ["large"]),
        ("PATCH", "/api/users/rita", {"allow": None}, both),
        ("PATCH", "/api/keys/k", {"allow": ["model:small"]}, ["small"]),
        ("PATCH", "/api/users/rita", {"disabled": True}, 401),
        ("PATCH", "/api/users/rita", {"disabled": False, "name": "margarita"}, ["small"]),
        ("DELETE", "/api/teams/red/members/margarita", None, 401),
        ("PUT", "/api/teams/red/members/margarita", {"role": "viewer"}, ["small"]),
        ("PATCH", "/api/keys/k", {"networks": ["192.0.2.0/24"]}, 401),
        ("PATCH", "/api/keys/k", {"networks": None, "doors": ["mcp"]}, 401),
        ("PATCH", "/api/keys/k", {"doors": None}, ["small"]),
        ("PATCH", "/api/teams/red", {"alias": "crimson"}, ["small"]),
        ("PUT", "/api/policy", {"rules": [{"name": "x", "effect": "deny", "entries": ["model:small"]}]}, []),
        ("PUT", "/api/policy", {"rules": []}, ["small"]),
    ):
        await two.do(method, path, body)
        await two.obey(secret, seen)
    rotated = (await two.do("POST", "/api/keys/k/rotate", {"overlap_s": 3600}))["key"]
    await two.obey(rotated, ["small"])
    await two.obey(secret, ["small"])
    newest = (await two.do("POST", "/api/keys/k/rotate", {}))["key"]
    for ended in (secret, rotated):
        await two.obey(ended, 401)
    await two.do("DELETE", f"/api/teams/{team['id']}")
    await two.obey(newest, 401)


async def test_a_users_keys_end_with_the_user_in_every_process(two: Two) -> None:
    await two.do("POST", "/api/users", {"name": "rita"})
    secret = (await two.do("POST", "/api/keys", {"name": "k", "allow": ["model:small"], "user": "rita"}))["key"]
    await two.obey(secret, ["small"])
    await two.do("DELETE", "/api/users/rita")
    await two.obey(secret, 401)
    await two.do("POST", "/api/users", {"name": "rita"})
    await two.obey(secret, 401)


async def test_of_two_processes_that_give_one_alias_at_once_one_is_told_of_the_other(two: Two) -> None:
    async def post(client: httpx.AsyncClient) -> int:
        return (await client.post("/api/teams", json={"alias": "red"})).status_code

    made = await asyncio.gather(*(post(client) for client in (two.here, two.there) * 5))
    assert sorted(made) == [201, *[409] * 9]
    for number in range(5):
        for name in ("one", "two"):
            await two.do("POST", "/api/teams", {"alias": f"{name}{number}"})
        renamed = await asyncio.gather(
            two.here.patch(f"/api/teams/one{number}", json={"alias": f"same{number}"}),
            two.there.patch(f"/api/teams/two{number}", json={"alias": f"same{number}"}),
        )
        assert sorted(answer.status_code for answer in renamed) == [200, 409]
    aliases = [team["alias"] for team in (await two.do("GET", "/api/teams"))["items"]]
    assert len(aliases) == len(set(aliases)) == 11


async def test_no_process_finds_a_team_under_an_alias_that_it_had(two: Two) -> None:
    red = await two.do("POST", "/api/teams", {"alias": "red", "allow": ["model:small"]})
    secret = (await two.do("POST", "/api/keys", {"name": "k", "allow": ["model:*"], "team": "red"}))["key"]
    await two.obey(secret, ["small"])

    async def seen(client: httpx.AsyncClient, alias: str) -> str | int:
        answer = await client.get(f"/api/teams/{alias}")
        found: str | int = answer.json()["id"] if answer.status_code == 200 else answer.status_code
        return found

    await two.do("PATCH", "/api/teams/red", {"alias": "crimson"})
    for client in (two.here, two.there):  # without a wait: no process keeps an alias
        assert [await seen(client, alias) for alias in ("red", "crimson")] == [404, red["id"]]
        assert (await client.get("/api/keys/k")).json()["team"] == "crimson"
    second = await two.do("POST", "/api/teams", {"alias": "red", "allow": ["model:*"]})
    for client in (two.there, two.here):
        assert [await seen(client, alias) for alias in ("red", "crimson")] == [second["id"], red["id"]]
        assert await two.models(client, secret) == ["small"]
    await two.do("DELETE", "/api/teams/crimson")
    third = await two.do("POST", "/api/teams", {"alias": "crimson"})
    assert len({red["id"], second["id"], third["id"]}) == 3
    await two.obey(secret, 401)
    assert (await two.there.get("/api/teams/crimson/members")).json() == {"items": [], "next": None}
