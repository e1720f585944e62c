"""Agents that speak A2A behind the credentials of their clouds, by the official client: cards, calls and streams."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from agents.bridges import credentials
from agents.bridges.kinds import fault
from registry.declared.config import ConfigInvalid, read
from tests.bridges.test_bridges import state_of, text_of
from tests.bridges.there import open_there
from tests.conftest import ADMIN_KEY, Hub
from tests.foreign.environments import WANTED
from tests.peers.a2a_clients import Refused, SdkClient, message
from tests.peers.platforms import odd_front
from tests.peers.platforms import platform as platforms
from tests.peers.platforms.a2a_agent import A2A
from tests.peers.platforms.bedrock_agents import KEYS, checked_by_botocore
from tests.peers.platforms.fronts import BASES, SESSION, Front, Platform, open_front

FAULTS = {
    "{url: http://a, auth: {type: kerberos}}": "auth: Invalid value 'kerberos'",
    "{url: http://a, auth: {type: aws}}": "auth: Object missing required field `region`",
    "{url: http://a, auth: {type: aws, region: r, keys: {}}}": "web_identity, container or instance: one of them",
    "{url: http://a, auth: {type: aws, region: r, keys: {instance: true, access_key_id: a, secret_access_key: b}}}": "one of them",
    "{url: http://a, auth: {type: aws, region: r, keys: {access_key_id: a}}}": "secret_access_key go together",
    "{url: http://a, auth: {type: aws, region: r, keys: {container: {url: 'http://b/'}}}}": "neither https nor one of",
    "{url: http://a, auth: {type: google, adc_file: f, service_account: {client_email: a, private_key: b}}}": "do not go together",
    "{url: http://a, auth: {type: entra, client_secret: s}}": "an application has tenant_id, client_id and client_secret",
    "{url: http://a, auth: {type: google}, headers: {Authorization: b}}": "auth and a header authorization",
    "{url: http://a, auth: {type: google}, grpc_url: 'a:1'}": "has auth and grpc_url",
    "{url: http://a, bridge: vertex, auth: {type: google}}": "auth, which belongs to an agent that speaks A2A",
}


@asynccontextmanager
async def bench(directory: Path, platform: Platform) -> AsyncIterator[tuple[Front, Hub, SdkClient]]:
    async with open_front(platform) as front, open_there(directory, front.entry) as (hub, client):
        yield front, hub, client


@pytest.mark.parametrize("platform", BASES)
async def test_an_agent_behind_the_credentials_of_its_cloud_is_one_like_any_other(
    tmp_path: Path, platform: Platform
) -> None:
    async with bench(tmp_path, platform) as (front, hub, client), asyncio.timeout(30):
        assert client.card["name"] == "Scripted"
        done = (await client.send("complete 2"))["task"]
        assert (state_of({"task": done}), text_of(done)) == ("COMPLETED", "part 0 part 1")
        asked = (await client.send("ask", message_id="m-2"))["task"]
        ids = {"taskId": asked["id"], "contextId": asked["contextId"], "message_id": "m-3"}
        async with aclosing(client.follow("SendStreamingMessage", message("two", **ids))) as events:
            assert state_of([event async for event in events][-1]) == "COMPLETED"
        begun = client.follow("SendStreamingMessage", message("wait", message_id="m-4"))
        async with aclosing(begun) as events:
            task = (await anext(events))["task"]
            await client.ask("CancelTask", {"id": task["id"]})
        await front.agent.cancelled.wait()
        async with hub.http(ADMIN_KEY) as admin:
            shown = (await admin.get("/api/agents/there")).text
        assert "s3cret" not in shown
        assert KEYS["secret_access_key"] not in shown
    assert front.refused == 0
    assert front.issued == (0 if platform == "aws" else 1)
    if platform == "aws":
        found = [(one.body, one.headers[SESSION]) for method, one in front.requests if method == "POST"]
        sessions = [session for _, session in found]
        assert len(set(sessions)) == 3, "one for each context"
        assert sessions[1] == sessions[2], "who answers is in the context of the question"
        assert sessions[3] == sessions[4], "who cancels is in the context of the task"


@pytest.mark.parametrize("platform", ["google", "entra"])
async def test_a_token_that_expires_in_mid_stream_is_renewed_once_for_all_who_wait(
    tmp_path: Path, platform: Platform
) -> None:
    async with (
        bench(tmp_path, platform) as (front, _, client),
        asyncio.timeout(30),
        aclosing(client.follow("SendStreamingMessage", message("slow 2"))) as events,
    ):
        async for event in events:
            if state_of(event) == "WORKING":
                await front.agent.release()
            if "artifactUpdate" in event:
                break
        front.good.clear()
        others = await asyncio.gather(*(client.send("complete 1", message_id=f"m-{n}") for n in range(5)))
        assert [state_of(one) for one in others] == ["COMPLETED"] * 5
        await front.agent.release()
        assert state_of([event async for event in events][-1]) == "COMPLETED"
    assert front.issued == 2


@pytest.mark.parametrize("platform", ["google", "entra"])
async def test_a_stream_that_breaks_as_its_token_expires_is_gone_on_with_by_a_new_one(
    tmp_path: Path, platform: Platform
) -> None:
    async with open_front(platform) as front, asyncio.timeout(30):
        there = platforms.Platform(front.entry, expire=front.good.clear)
        async with (
            odd_front.open_front(A2A, there) as between,
            open_there(tmp_path, between.entry) as (_, client),
        ):
            events = client.follow("SendStreamingMessage", message("slow 2"))
            task_id = (await anext(events))["task"]["id"]
            await front.agent.release()
            while "artifactUpdate" not in await anext(events):
                pass
            between.expire()
            with pytest.raises(Refused, match="there: "):
                await anext(events)
            async with aclosing(client.follow("SubscribeToTask", {"id": task_id})) as events:
                assert (await anext(events))["task"]["id"] == task_id
                await front.agent.release()
                assert state_of([event async for event in events][-1]) == "COMPLETED"
            assert sum(b"slow 2" in body for body in between.taken) == 1
    assert front.issued == 2


@pytest.mark.parametrize(("platform", "unusual"), [("google", 30), ("entra", 30), ("entra", "nan")])
async def test_a_machines_identity_is_asked_for_its_token_and_again_before_it_ends(
    tmp_path: Path, platform: Platform, unusual: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`unusual`: less than a request may take, and what is no time at all."""
    address = "AZURE_METADATA" if platform == "entra" else "GOOGLE_METADATA"
    async with open_front(platform, of_machine=True) as front:
        monkeypatch.setattr(credentials, address, f"{front.url}/metadata/token")
        async with (
            open_there(tmp_path, front.entry) as (_, client),
        ):
            issued = front.issued
            front.lasts_s = unusual
            front.good.clear()
            assert state_of(await client.send("complete 1")) == "COMPLETED"
            assert (front.refused, front.issued) == (1, issued + 1)
            front.lasts_s = 3600
            assert state_of(await client.send("complete 1", message_id="m-2")) == "COMPLETED"
            assert state_of(await client.send("complete 1", message_id="m-3")) == "COMPLETED"
            assert (front.refused, front.issued) == (1, issued + 2)


async def test_a_refusal_is_told_without_the_token(tmp_path: Path) -> None:
    async with bench(tmp_path, "entra") as (front, hub, client):
        front.tokens = lambda _: {"access_token": "a-token-of-nobody", "expires_in": 3599}
        front.good.clear()
        body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": message("complete 1")}
        async with hub.http(await hub.key("agent:there")) as plain:
            answer = (await plain.post("/a2a/there/", json=body, headers={"a2a-version": "1.0"})).text
        assert "the upstream refused the call (HTTP 401)" in answer
        assert "a-token-of-nobody" not in answer
        assert client.card["name"] == "Scripted"


@pytest.mark.parametrize("entry", FAULTS)
def test_what_is_wrong_with_an_account_is_told_with_its_line(entry: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        read(f"agents:\n  there: {entry}\n", file="hub.yaml", environ={}, read_file=str, bridge_fault=fault)
    (found,) = caught.value.faults
    assert found.line == 2
    assert FAULTS[entry] in found.text


@pytest.mark.skipif(WANTED not in {"1", "llm"}, reason="enable with: HUBBUB_FOREIGN=1 make test")
@pytest.mark.timeout(300)
async def test_botocore_signs_what_an_a2a_agent_is_sent_in_the_same_way(tmp_path: Path) -> None:
    async with bench(tmp_path, "aws") as (front, _, client):
        task = (await client.send("complete 1"))["task"]
        await client.ask("GetTask", {"id": task["id"]})
        host = front.url
    requests = [
        {
            "method": method,
            "url": f"{host}{one.path}",
            "headers": one.headers,
            "body": base64.b64encode(one.raw).decode(),
        }
        for method, one in front.requests
    ]
    asked = {"signing_name": "bedrock-agentcore", "keys": list(KEYS.values()), "requests": requests}
    assert {json.loads(one.raw)["method"] for method, one in front.requests if method == "POST"} >= {"SendMessage"}
    assert {method for method, _ in front.requests} == {"GET", "POST"}
    assert (await checked_by_botocore(asked))["faults"] == []
