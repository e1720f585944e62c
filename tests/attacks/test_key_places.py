"""A key is good at its doors and from its networks; elsewhere it is answered like an unknown one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import httpx
import pytest
from a2a.types import a2a_pb2
from a2a.types.a2a_pb2_grpc import A2AServiceStub

from tests.conftest import ADMIN_KEY, Hub, OpenHub

PATHS = {
    "a2a": [("POST", "/a2a/echo"), ("GET", "/.well-known/agent-card.json"), ("GET", "/a2a/echo/tasks/x")],
    "mcp": [("POST", "/mcp"), ("POST", "/mcp/late")],
    "llm": [("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("POST", "/v1/messages"), ("POST", "/v1/nothing")],
    "api": [("GET", "/api/keys"), ("GET", "/api/usage")],
}
YAML = """
agents:
  echo: {url: "http://127.0.0.1:1/"}
"""


@pytest.fixture
async def running(hub: OpenHub) -> AsyncIterator[Hub]:
    async with hub(YAML, grpc=True) as running:
        yield running


@pytest.fixture
async def behind_proxy(hub: OpenHub) -> AsyncIterator[Hub]:
    async with hub(YAML, grpc=True, setting="trusted_proxies: [127.0.0.1/32]") as running:
        yield running


async def status(running: Hub, secret: str, method: str, path: str, **headers: str) -> int:
    async with running.http(secret) as client:
        return (await client.request(method, path, json={} if method == "POST" else None, headers=headers)).status_code


@pytest.mark.parametrize("door", list(PATHS))
async def test_a_key_for_one_door_opens_no_other(running: Hub, door: str) -> None:
    everything = ("agent:*", "server:*", "model:*", "admin:*")
    secret = await running.key(*everything, doors=(door,))
    for name, places in PATHS.items():
        for method, path in places:
            assert (await status(running, secret, method, path) != 401) == (name == door), path
    assert await status(running, secret, "GET", "/nowhere") == 401


async def test_a_key_that_is_refused_at_a_door_is_answered_as_an_unknown_one(running: Hub) -> None:
    secret = await running.key("model:*", doors=("mcp",))
    elsewhere = await running.key("model:*", networks=("192.0.2.0/24",))
    answers = []
    for key in (secret, elsewhere, "sk-unknown-unknown-unknown"):
        async with running.http(key) as client:
            answer = await client.post("/v1/chat/completions", json={"model": "x"})
            body = answer.json()["error"]
            answers.append((answer.status_code, answer.headers["www-authenticate"], body["type"], body["code"]))
    assert answers[0] == answers[1] == answers[2]


async def test_a_key_of_a_network_is_refused_from_elsewhere(running: Hub) -> None:
    inside = await running.key("model:*", networks=("10.0.0.0/8", "127.0.0.0/8"))
    outside = await running.key("model:*", networks=("10.0.0.0/8", "::1/128"))
    assert await status(running, inside, "GET", "/v1/models") == 200
    assert await status(running, outside, "GET", "/v1/models") == 401
    assert await status(running, outside, "GET", "/v1/models", **{"x-forwarded-for": "10.0.0.1"}) == 401


@pytest.mark.parametrize(
    ("forwarded", "is_inside"),
    [
        ("10.1.1.1", True),
        ("192.0.2.1", False),
        ("10.1.1.1, 192.0.2.1", False),
        ("192.0.2.1, 10.1.1.1", True),
        ("x", False),
    ],
)
@pytest.mark.attack("2.2/26")
async def test_behind_a_trusted_proxy_the_address_it_saw_counts(
    behind_proxy: Hub, forwarded: str, is_inside: bool
) -> None:
    secret = await behind_proxy.key("model:*", "agent:*", networks=("10.0.0.0/8",))
    found = await status(behind_proxy, secret, "GET", "/v1/models", **{"x-forwarded-for": forwarded})
    assert (found == 200) == is_inside
    assert await status(behind_proxy, secret, "GET", "/v1/models") == 401


@pytest.mark.parametrize(("networks", "is_inside"), [(("127.0.0.0/8",), True), (("10.0.0.0/8",), False)])
async def test_a_key_of_a_network_is_refused_from_elsewhere_over_grpc(
    running: Hub, networks: tuple[str, ...], is_inside: bool
) -> None:
    code, events = await over_grpc(running, await running.key("agent:*", networks=networks))
    assert (code != grpc.StatusCode.UNAUTHENTICATED) == (events != grpc.StatusCode.UNAUTHENTICATED) == is_inside


async def test_behind_a_trusted_proxy_the_address_it_saw_counts_over_grpc(behind_proxy: Hub) -> None:
    secret = await behind_proxy.key("agent:*", networks=("10.0.0.0/8",))
    for forwarded, is_inside in (("10.1.1.1", True), ("10.1.1.1, 192.0.2.1", False)):
        codes = await over_grpc(behind_proxy, secret, ("x-forwarded-for", forwarded))
        assert [code != grpc.StatusCode.UNAUTHENTICATED for code in codes] == [is_inside, is_inside]


async def over_grpc(running: Hub, secret: str, *more: tuple[str, str]) -> list[grpc.StatusCode]:
    """How a unary and a streaming call end; both fail, since nothing listens where the agent is said to be."""
    metadata = (("authorization", f"Bearer {secret}"), *more)
    codes = []
    assert running.grpc is not None
    async with grpc.aio.insecure_channel(running.grpc) as channel:
        stub = A2AServiceStub(channel)
        for call in (
            stub.GetTask(a2a_pb2.GetTaskRequest(tenant="echo", id="t1"), metadata=metadata),
            stub.SubscribeToTask(a2a_pb2.SubscribeToTaskRequest(tenant="echo", id="t1"), metadata=metadata),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call if not hasattr(call, "read") else await call.read()
            codes.append(raised.value.code())
    return codes


async def test_a_key_for_another_door_is_refused_over_grpc(running: Hub) -> None:
    codes = await over_grpc(running, await running.key("agent:*", doors=("llm",)))
    assert codes == [grpc.StatusCode.UNAUTHENTICATED] * 2


async def test_who_is_bound_to_doors_networks_and_a_time_hands_out_no_more(running: Hub) -> None:
    bound = {"doors": ("api", "llm"), "networks": ("127.0.0.0/8",), "expires_at": 4_000_000_000.0}
    secret = await running.key("admin:keys", "model:*", requests_per_minute=1000, **bound)
    fits = {"doors": ["llm"], "networks": ["127.0.0.1/32"], "limits": {"requests_per_minute": 10}}
    fits["expires_at"] = "2030-01-01T00:00:00Z"
    async with running.http(secret) as clerk, running.http(ADMIN_KEY) as admin:
        made = await clerk.post("/api/keys", json={"name": "fits", "allow": ["model:*"], **fits})
        assert made.status_code == 201, made.text
        for member, values in (
            ("doors", (["mcp"], ["llm", "a2a"])),
            ("networks", (["0.0.0.0/0"], ["127.0.0.1/32", "10.0.0.0/8"], ["::/0"])),
            ("expires_at", ("2999-01-01T00:00:00Z",)),
            ("limits", ({"requests_per_minute": 1001},)),
            ("allow", (None,)),
        ):
            for value in values:
                refused = await clerk.post("/api/keys", json={"name": "more", "allow": [], **fits, member: value})
                assert refused.status_code == 400, (member, value)
                refused = await clerk.patch("/api/keys/fits", json={member: value})
                assert refused.status_code == 400, (member, value)
        shown = (await admin.get("/api/keys/fits")).json()
        assert {member: shown[member] for member in ("doors", "networks")} == {
            "doors": ["llm"],
            "networks": ["127.0.0.1/32"],
        }
        inherits = await clerk.post("/api/keys", json={"name": "same", "allow": [], "limits": fits["limits"]})
        assert inherits.json()["doors"] == ["llm", "api"]
        assert inherits.json()["networks"] == ["127.0.0.0/8"]
        assert inherits.json()["expires_at"].startswith("2096-")
        strong = await admin.post("/api/keys", json={"name": "strong", "allow": ["model:*"]})
        assert strong.status_code == 201
        assert (await clerk.post("/api/keys/strong/rotate", json={})).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {"doors": []},
        {"doors": ["llm", "llm"]},
        {"doors": ["ui"]},
        {"networks": []},
        {"networks": ["10.0.0.1/8"]},
        {"networks": ["everywhere"]},
        {"networks": ["10.0.0.0/8"] * 101},
    ],
)
async def test_doors_and_networks_that_say_nothing_sensible_are_refused(running: Hub, body: dict[str, object]) -> None:
    async with running.http(ADMIN_KEY) as admin:
        assert (await admin.post("/api/keys", json={"name": "k", "allow": [], **body})).status_code == 400


async def test_a_rotated_key_works_with_both_secrets_for_a_while(running: Hub) -> None:
    async with running.http(ADMIN_KEY) as admin:
        old = (await admin.post("/api/keys", json={"name": "k", "allow": ["model:*"]})).json()
        new = (await admin.post("/api/keys/k/rotate", json={"overlap_s": 3600})).json()
        assert new["id"] == old["id"]
        assert new["key"] != old["key"]
        for secret in (old["key"], new["key"]):
            assert await status(running, secret, "GET", "/v1/models") == 200
        newest = (await admin.post("/api/keys/k/rotate", json={})).json()
        found = [await status(running, key, "GET", "/v1/models") for key in (old["key"], new["key"], newest["key"])]
        assert found == [401, 401, 200]
        for overlap in (-1, 1e9, "x"):
            assert (await admin.post("/api/keys/k/rotate", json={"overlap_s": overlap})).status_code == 400
        assert (await admin.post("/api/keys/nobody/rotate", json={})).status_code == 404


async def test_when_a_key_was_used_last_is_shown(running: Hub) -> None:
    async with running.http(ADMIN_KEY) as admin:
        made = (await admin.post("/api/keys", json={"name": "k", "allow": ["model:*"]})).json()
        assert made["last_used_at"] is None
        assert await status(running, made["key"], "GET", "/v1/models") == 200
        running.services.keys.last_use.flush()
        await running.services.database.committed()
        assert (await admin.get("/api/keys/k")).json()["last_used_at"] >= made["created_at"]


async def test_a_place_at_the_connect_page_is_a_place_at_the_mcp_door(running: Hub) -> None:
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as browser:
        for members in ({"doors": ("llm",)}, {"networks": ("10.0.0.0/8",)}):
            secret = await running.key("server:*", **members)
            answer = await browser.post("/connect/late", data={"key": secret}, headers={"origin": running.url})
            assert answer.status_code == 401
            assert "set-cookie" not in answer.headers
        secret = await running.key("server:*", doors=("mcp",), networks=("127.0.0.0/8",))
        answer = await browser.post("/connect/late", data={"key": secret}, headers={"origin": running.url})
        assert answer.status_code == 303
