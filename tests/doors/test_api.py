"""The admin API, over HTTP against a real hub."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from registry.identity import RequestLimits
from tests.conftest import ADMIN_KEY, Hub, OpenHub

YAML = """
agents:
  research: {url: "http://127.0.0.1:9"}
models:
  offline: {provider: offline}
"""


@pytest.fixture
async def running(hub: OpenHub) -> AsyncIterator[Hub]:
    async with hub(YAML) as running:
        yield running


@pytest.fixture
async def admin(running: Hub) -> AsyncIterator[httpx.AsyncClient]:
    async with running.http(ADMIN_KEY) as client:
        yield client


async def test_a_secret_is_shown_when_it_is_made_and_never_again(admin: httpx.AsyncClient) -> None:
    made = await admin.post("/api/keys", json={"name": "rita", "allow": ["model:*"]})
    assert made.status_code == 201
    secret = made.json()["key"]
    assert secret.startswith("sk-")
    for path in ("/api/keys", "/api/keys/rita"):
        shown = await admin.get(path)
        assert shown.status_code == 200
        assert secret not in shown.text


async def test_a_revoked_key_is_refused_at_the_next_request(running: Hub, admin: httpx.AsyncClient) -> None:
    secret = (await admin.post("/api/keys", json={"name": "rita", "allow": ["admin:usage"]})).json()["key"]
    async with running.http(secret) as rita:
        assert (await rita.get("/api/usage")).status_code == 200
        assert (await admin.delete("/api/keys/rita")).status_code == 204
        refused = await rita.get("/api/usage")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "door"), [("GET", "/a2a/research"), ("POST", "/mcp"), ("GET", "/v1/models")])
async def test_each_request_on_a_connection_is_its_own_keys(
    running: Hub, admin: httpx.AsyncClient, method: str, door: str
) -> None:
    """What was shown before is remembered of a connection: for nobody else, and no longer than the key is good."""
    rita = (await admin.post("/api/keys", json={"name": "rita", "allow": []})).json()["key"]
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"} if method == "POST" else None

    async with running.http() as client:

        async def told(secret: str) -> int:
            headers = {"authorization": f"Bearer {secret}"} if secret else {}
            return (await client.request(method, door, json=body, headers=headers)).status_code

        known = await told(rita)
        assert known != 401
        assert [await told(one) for one in (rita, rita[:-1], rita, "", f"{rita}x", rita)] == [
            known,
            401,
            known,
            401,
            401,
            known,
        ]
        assert (await admin.delete("/api/keys/rita")).status_code == 204
        assert await told(rita) == 401


async def test_a_key_that_is_over_is_refused_on_the_connection_that_knows_it(
    running: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = time.time() + 3600
    async with running.http(await running.key(expires_at=over)) as client:
        assert [(await client.get("/v1/models")).status_code for _ in range(2)] == [200, 200]
        monkeypatch.setattr("registry.callers.levels.time", SimpleNamespace(time=lambda: over))
        assert (await client.get("/v1/models")).status_code == 401


async def test_a_key_made_anew_under_an_old_name_is_another_principal(admin: httpx.AsyncClient) -> None:
    first = (await admin.post("/api/keys", json={"name": "rita", "allow": []})).json()
    await admin.delete("/api/keys/rita")
    second = (await admin.post("/api/keys", json={"name": "rita", "allow": []})).json()
    assert first["id"] != second["id"]


@pytest.mark.attack("2.2/8")
async def test_nobody_makes_a_key_that_holds_more_than_they_hold(running: Hub) -> None:
    secret = await running.key("admin:keys", "tool:github__*")
    async with running.http(secret) as clerk:
        within = await clerk.post("/api/keys", json={"name": "a", "allow": ["tool:github__list_*"]})
        beyond = await clerk.post("/api/keys", json={"name": "b", "allow": ["tool:*"]})
        raised = await clerk.patch("/api/keys/a", json={"allow": ["admin:models"]})
    assert within.status_code == 201
    assert beyond.status_code == 400
    assert "tool:*" in beyond.json()["detail"]
    assert raised.status_code == 400


async def test_a_key_that_a_limited_one_makes_is_limited_likewise(running: Hub) -> None:
    limits = RequestLimits(max_calls=5, max_usd=1.0, max_total_tokens=1000)
    ending = datetime(2099, 1, 1, tzinfo=UTC)
    secret = await running.key(
        "admin:keys", requests_per_minute=60, request_limits=limits, expires_at=ending.timestamp()
    )
    async with running.http(secret) as clerk:
        made = (await clerk.post("/api/keys", json={"name": "a", "allow": [], "limits": {"max_calls": 2}})).json()
        assert not any(made["limits"].pop("session").values())
        assert {name: value for name, value in made["limits"].items() if value is not None} == {
            "requests_per_minute": 60,
            "max_calls": 2,
            "max_usd": 1.0,
            "max_total_tokens": 1000,
        }
        assert datetime.fromisoformat(made["expires_at"]) == ending
        more: Any
        for more in (
            {"limits": {"requests_per_minute": 61}},
            {"limits": {"max_usd": 1.5}},
            {"limits": {"max_total_tokens": 1001}},
            {"expires_at": "2099-01-02T00:00:00Z"},
        ):
            beyond = await clerk.post("/api/keys", json={"name": "b", "allow": [], **more})
            assert (beyond.status_code, "your own key" in beyond.json()["detail"]) == (400, True)
            assert (await clerk.patch("/api/keys/a", json=more)).status_code == 400
        changed = (await clerk.patch("/api/keys/a", json={"limits": {"max_calls": 3}, "expires_at": None})).json()
        assert (changed["limits"]["max_usd"], changed["limits"]["max_calls"]) == (1.0, 3)
        assert datetime.fromisoformat(changed["expires_at"]) == ending


async def test_it_is_known_who_made_a_key(running: Hub, admin: httpx.AsyncClient) -> None:
    clerk = (await admin.post("/api/keys", json={"name": "clerk", "allow": ["admin:keys"]})).json()
    async with running.http(clerk["key"]) as http:
        made = (await http.post("/api/keys", json={"name": "a", "allow": []})).json()
    assert (clerk["created_by"], made["created_by"]) == ("admin", clerk["id"])


async def test_a_key_says_how_its_tools_are_listed(admin: httpx.AsyncClient) -> None:
    made = await admin.post("/api/keys", json={"name": "rita", "allow": [], "mcp_mode": "search"})
    assert made.json()["mcp_mode"] == "search"
    for mode in ("full", None):
        changed = await admin.patch("/api/keys/rita", json={"mcp_mode": mode})
        assert changed.json()["mcp_mode"] == (await admin.get("/api/keys/rita")).json()["mcp_mode"] == mode
    assert (await admin.post("/api/keys", json={"name": "b", "allow": [], "mcp_mode": "some"})).status_code == 400


@pytest.mark.parametrize("path", ["/api/keys", "/api/models", "/api/mcp-servers", "/api/toolsets", "/api/usage"])
async def test_a_collection_without_its_grant_looks_like_no_path(running: Hub, path: str) -> None:
    secret = await running.key("tool:*", "model:*", "agent:*")
    async with running.http(secret) as caller:
        forbidden, absent = await caller.get(path), await caller.get("/api/nothing")
    assert forbidden.status_code == absent.status_code == 404
    assert forbidden.json()["title"] == absent.json()["title"]
    assert forbidden.headers["content-type"] == "application/problem+json"


async def test_what_the_file_owns_can_be_switched_off_but_not_changed(running: Hub, admin: httpx.AsyncClient) -> None:
    changed = await admin.patch("/api/agents/research", json={"url": "http://127.0.0.1:10"})
    assert changed.status_code == 409
    off = await admin.patch("/api/agents/research", json={"disabled": True})
    assert off.json()["disabled"] is True
    assert "research" not in running.services.registry.catalog.agents
    on = await admin.patch("/api/agents/research", json={"disabled": False})
    assert on.json()["disabled"] is False
    assert "research" in running.services.registry.catalog.agents


@pytest.mark.attack("2.1/21")
async def test_an_entrys_credentials_never_come_out(running: Hub, admin: httpx.AsyncClient) -> None:
    body = {"name": "late", "url": "http://127.0.0.1:9", "headers": {"Authorization": "Bearer hunter2hunter2"}}
    made = await admin.post("/api/agents", json=body)
    assert made.status_code == 201
    for path in ("/api/agents", "/api/agents/late"):
        shown = await admin.get(path)
        assert "Authorization" in shown.text
        assert "hunter2" not in shown.text
    stored = running.services.database.engine.raw_connection()
    try:
        dump = "\n".join(stored.driver_connection.iterdump())
    finally:
        stored.close()
    assert b"hunter2".hex().upper() not in dump
    assert "hunter2" not in dump


@pytest.mark.parametrize("member", ["command", "args", "env", "envFile", "cwd"])
@pytest.mark.attack("2.1/31", "2.2/1", "2.2/2")
async def test_a_command_line_cannot_be_registered_over_the_api(admin: httpx.AsyncClient, member: str) -> None:
    body = {"name": "evil", "url": "http://127.0.0.1:9/mcp", member: "/bin/sh"}
    refused = await admin.post("/api/mcp-servers", json=body)
    assert refused.status_code == 400
    assert member in refused.json()["detail"]


@pytest.mark.attack("2.1/31", "2.2/1", "2.2/2", defence="registry.declared.stored:_FILE_ONLY")
async def test_no_command_of_the_api_is_run(admin: httpx.AsyncClient, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    refused = await admin.post("/api/mcp-servers", json={"name": "evil", "command": "touch", "args": [str(ran)]})
    assert not ran.exists()
    assert refused.status_code == 400


@pytest.mark.attack("2.2/5")
async def test_variables_of_the_environment_cannot_be_read_over_the_api(admin: httpx.AsyncClient) -> None:
    refused = await admin.post("/api/agents", json={"name": "a", "url": "http://${HOME}"})
    assert refused.status_code == 400


async def test_faults_of_a_body_are_named_and_nothing_is_stored(admin: httpx.AsyncClient) -> None:
    for body in ({"name": "Not A Name", "url": "http://x"}, {"name": "a", "uri": "http://x"}, {"url": "http://x"}):
        refused = await admin.post("/api/agents", json=body)
        assert refused.status_code == 400, body
        assert refused.json()["detail"]
    assert [item["name"] for item in (await admin.get("/api/agents")).json()["items"]] == ["research"]


async def test_a_page_names_where_the_next_one_begins(admin: httpx.AsyncClient) -> None:
    for name in ("a", "b", "c"):
        await admin.post("/api/keys", json={"name": name, "allow": []})
    first = (await admin.get("/api/keys", params={"limit": 2})).json()
    rest = (await admin.get("/api/keys", params={"limit": 2, "after": first["next"]})).json()
    assert [key["name"] for key in first["items"] + rest["items"]] == ["a", "b", "c"]
    assert rest["next"] is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "k"}, "allow is missing"),
        ({"name": "k", "allow": [], "limits": {"calls_per_hour": 1}}, "limits.calls_per_hour: unknown key"),
        ({"name": "k", "allow": [], "budget": {"usd": 1, "per": "hour"}}, "budget.per: must be one of minute, day, "),
        ({"name": "k", "allow": [], "expires_at": "2030-01-01T00:00:00"}, "expires_at: needs a time zone, "),
        ({"name": "k", "allow": [], "networks": ["10.0.0.1/8"]}, "networks.0: must be a network"),
        ([], "the body must be an object"),
    ],
)
async def test_what_is_wrong_in_a_body_is_said_as_it_is_of_the_file(
    admin: httpx.AsyncClient, body: object, said: str
) -> None:
    refused = await admin.post("/api/keys", json=body)
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith(said)


async def test_an_expired_key_is_refused(running: Hub, admin: httpx.AsyncClient) -> None:
    body = {"name": "past", "allow": ["admin:usage"], "expires_at": "2020-01-01T00:00:00Z"}
    secret = (await admin.post("/api/keys", json=body)).json()["key"]
    async with running.http(secret) as caller:
        assert (await caller.get("/api/usage")).status_code == 401


@pytest.mark.attack("2.1/35")
async def test_the_descriptions_page_loads_nothing_from_elsewhere(running: Hub) -> None:
    async with running.http() as anybody:
        page = await anybody.get("/docs")
        policy = page.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        style = page.text.partition("<style>")[2].partition("</style>")[0]
        assert f"style-src 'sha256-{b64encode(sha256(style.encode()).digest()).decode()}';" in policy
        described = await anybody.get("/openapi.json")
    assert page.status_code == described.status_code == 200
    assert "src=" not in page.text
    assert "/api/keys" in described.json()["paths"]


@pytest.mark.attack("2.1/24")
async def test_an_admin_body_over_the_limit_is_refused_unread(running: Hub) -> None:
    async with running.http(ADMIN_KEY) as admin:
        refused = await admin.post("/api/keys", content=b"x" * (33 << 20), headers={"content-type": "application/json"})
    assert refused.status_code == 413


async def test_a_key_with_the_admin_grants_sees_usage_by_dimension(running: Hub, admin: httpx.AsyncClient) -> None:
    answer = await admin.get("/api/usage", params={"by": "kind,name", "from": "2020-01-01T00:00:00Z"})
    assert answer.json() == {"items": [], "next": None}
    unknown = await admin.get("/api/usage", params={"by": "colour"})
    assert unknown.status_code == 400


async def test_many_keys_made_at_once_are_all_there(running: Hub) -> None:
    secrets = await asyncio.gather(*(running.services.keys.create(spec) for spec in _specs(50)))
    assert len({secret for _, secret in secrets}) == 50
    assert len(await running.services.keys.all_live()) == 50


def _specs(count: int) -> list:
    from registry.identity import KeySpec

    return [KeySpec(name=f"k{number}", allow=()) for number in range(count)]
