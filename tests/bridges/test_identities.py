"""Who the hub is where it runs: roles of AWS, federated workloads of Google and Entra, by the official A2A client before an agent behind them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agents.bridges import aws
from tests.bridges.test_bridges import state_of
from tests.bridges.there import open_there
from tests.conftest import ADMIN_KEY, open_hub
from tests.foreign.environments import WANTED
from tests.peers.a2a_clients import SdkClient, message
from tests.peers.platforms.bedrock_agents import KEYS, checked_by_botocore
from tests.peers.platforms.clouds import ROLE, Cloud, open_cloud
from tests.peers.platforms.fronts import BASES, Front, Platform, open_front
from tests.serving import served

IDENTITIES = (
    "aws: role",
    "aws: web identity",
    "aws: container",
    "aws: instance",
    "aws: role of an instance",
    "google: file",
    "google: url",
    "google: service account",
    "entra: federated",
)


FETCHES = {"google: service account": (2, 2), "aws: role of an instance": (2, 1)}
"""What the cloud gives at first, and again: one where nothing is said."""


def auth(identity: str, cloud: Cloud) -> dict[str, Any]:
    """An agent's `auth`."""
    role = {"arn": ROLE, "external_id": "e-1"}
    token_file, sts = str(cloud.token_file), f"{cloud.url}/sts"
    match identity:
        case "aws: role":
            return aws_of(**KEYS, role=role, sts_url=sts)
        case "aws: web identity":
            return aws_of(web_identity={"role_arn": ROLE, "token_file": token_file}, sts_url=sts)
        case "aws: container":
            return aws_of(container={"url": f"{cloud.url}/container", "token_file": token_file})
        case "aws: instance":
            return aws_of(instance=True)
        case "aws: role of an instance":
            return aws_of(instance=True, role=role, sts_url=sts)
        case "entra: federated":
            ids = {"tenant_id": "tenant-1", "client_id": "hub", "authority": cloud.url}
            return {"type": "entra", **ids, "federated_token_file": token_file}
    return {"type": "google", "adc_file": str(adc_file(identity, cloud))}


def aws_of(**keys: Any) -> dict[str, Any]:
    return {"type": "aws", "region": "eu-west-1", "keys": keys}


def adc_file(identity: str, cloud: Cloud) -> Path:
    """As `gcloud iam workload-identity-pools create-cred-config` writes it."""
    source: dict[str, Any] = {"file": str(cloud.token_file)}
    if identity == "google: url":
        found = {"type": "json", "subject_token_field_name": "access_token"}
        source = {"url": f"{cloud.url}/subject", "headers": {"Metadata": "True"}, "format": found}
    described: dict[str, Any] = {
        "type": "external_account",
        "universe_domain": "googleapis.com",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{cloud.url}/google/token",
        "credential_source": source,
    }
    if identity == "google: service account":
        described["service_account_impersonation_url"] = f"{cloud.url}/google/hub:generateAccessToken"
    path = cloud.token_file.with_name("adc.json")
    path.write_text(json.dumps(described))
    return path


@asynccontextmanager
async def bench(
    directory: Path, identity: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Front, Cloud, SdkClient]]:
    platform: Platform = identity.partition(":")[0]  # type: ignore[assignment]
    async with open_cloud(directory) as cloud, open_front(platform) as front:
        monkeypatch.setattr(aws, "INSTANCE", f"{cloud.url}/latest")
        cloud.end_all()
        front.good = cloud.good
        entry = {"url": front.url + BASES[platform][0], "auth": auth(identity, cloud)}
        async with open_there(directory, json.dumps(entry)) as (_, client):
            yield front, cloud, client


@pytest.mark.parametrize("identity", IDENTITIES)
async def test_who_the_hub_is_opens_an_agent_and_is_renewed_once_for_all_when_it_ends(
    tmp_path: Path, identity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path, identity, monkeypatch) as (front, cloud, client), asyncio.timeout(30):
        assert client.card["name"] == "Scripted"
        assert state_of(await client.send("complete 1")) == "COMPLETED"
        first, again = FETCHES.get(identity, (1, 1))
        assert (cloud.issued, front.refused) == (first, 0)
        cloud.token_file.write_text("workload-2\n")  # as Kubernetes replaces it
        cloud.end_all()
        answers = await asyncio.gather(*(client.send("complete 1", message_id=f"m-{n}") for n in range(5)))
        assert [state_of(one) for one in answers] == ["COMPLETED"] * 5
        assert cloud.issued == first + again


@pytest.mark.parametrize("identity", ["aws: instance", "aws: web identity", "google: service account"])
async def test_what_ends_soon_is_not_used_any_more(
    tmp_path: Path, identity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path, identity, monkeypatch) as (front, cloud, client), asyncio.timeout(30):
        before = cloud.issued
        cloud.lasts_s = 30  # less than a request may take
        cloud.end_all()
        assert state_of(await client.send("complete 1")) == "COMPLETED"
        refused = front.refused
        assert state_of(await client.send("complete 1", message_id="m-2")) == "COMPLETED"
        assert (front.refused, cloud.issued) == (refused, before + 2 * FETCHES.get(identity, (1, 1))[1])


@pytest.mark.parametrize("identity", ["aws: role", "google: file", "entra: federated"])
async def test_a_cloud_that_gives_nothing_is_told_from_an_agent_that_refuses_and_no_secret_is_told(
    tmp_path: Path, identity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path, identity, monkeypatch) as (_, cloud, client):
        cloud.refuses = True
        cloud.end_all()
        with pytest.raises(Exception, match=r"there: it gets no credentials: .*403") as caught:
            await client.send("complete 1")
        for secret in ("workload-1", "127.0.0.1", KEYS["secret_access_key"], KEYS["session_token"]):
            assert secret not in str(caught.value)


MACHINES: dict[str, dict[str, Any]] = {
    "aws: instance": aws_of(instance=True),
    "aws: container": aws_of(container={"url": "http://169.254.170.2/v2/credentials"}),
    "aws: web identity": aws_of(web_identity={"role_arn": ROLE, "token_file": "/etc/hostname"}),
    "google: machine": {"type": "google"},
    "google: file": {"type": "google", "adc_file": "/etc/hostname"},
    "entra: machine": {"type": "entra"},
    "entra: file": {"type": "entra", "tenant_id": "t", "client_id": "c", "federated_token_file": "/etc/hostname"},
}


@pytest.mark.attack("2.1/1")
@pytest.mark.parametrize("identity", MACHINES)
async def test_what_the_machine_is_and_has_is_lent_to_no_agent_of_a_key_of_the_api(
    tmp_path: Path, identity: str
) -> None:
    """Whoever may make agents could have the hub send its own credentials, or a file of its, to an address of theirs."""
    async with served(nobody) as url, open_hub(tmp_path, "", setting="egress_allow: ['0.0.0.0/0']") as hub:
        body = {"name": "there", "url": url, "auth": MACHINES[identity]}
        async with hub.http(await hub.key("admin:agents", "agent:there")) as client:
            made = await client.post("/api/agents", json=body)
            assert made.status_code == 201, made.text
            card = await client.get("/a2a/there/.well-known/agent-card.json")
        assert "the identity of the hub's machine is for agents in hub.yaml" in card.text


@pytest.mark.attack("2.2/30")
async def test_whoever_changes_an_agents_options_is_lent_nothing_more_by_it(tmp_path: Path) -> None:
    entra = {"tenant_id": "t", "client_id": "c", "client_secret": "s"}
    async with served(nobody) as url, open_hub(tmp_path, "", setting="egress_allow: ['0.0.0.0/0']") as hub:
        body = {"name": "there", "url": url, "bridge": "azure", "assistant": "a", "options": {"entra": entra}}
        async with hub.http(ADMIN_KEY) as admin:
            assert (await admin.post("/api/agents", json=body)).status_code == 201
        mine = {"tenant_id": "t", "client_id": "c", "federated_token_file": "/etc/hostname", "authority": url}
        async with hub.http(await hub.key("admin:agents", "agent:there")) as client:
            changed = await client.patch("/api/agents/there", json={"options": {"entra": mine}})
            assert changed.status_code == 200, changed.text
            body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": message("hello")}
            said = (await client.post("/a2a/there/", json=body, headers={"a2a-version": "1.0"})).text
        assert "the identity of the hub's machine is for agents in hub.yaml" in said


async def nobody(scope: Any, _receive: Any, send: Any) -> None:
    assert scope["type"] == "lifespan", "nothing is sent"


async def test_a_file_that_is_not_there_is_told_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(tmp_path, "entra: federated", monkeypatch) as (_, cloud, client):
        cloud.token_file.unlink()
        cloud.end_all()
        with pytest.raises(Exception, match="workload-token cannot be read"):
            await client.send("complete 1")


@pytest.mark.skipif(WANTED not in {"1", "llm"}, reason="enable with: HUBBUB_FOREIGN=1 make test")
@pytest.mark.timeout(300)
async def test_botocore_signs_what_takes_a_role_in_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path, "aws: role", monkeypatch) as (_, cloud, _):
        ((_, one),) = cloud.asked
        body = base64.b64encode(one.raw).decode()
        request = {"method": "POST", "url": f"{cloud.url}/sts", "headers": one.headers, "body": body}
    asked = {"signing_name": "sts", "keys": list(KEYS.values()), "requests": [request]}
    assert (await checked_by_botocore(asked))["faults"] == []
