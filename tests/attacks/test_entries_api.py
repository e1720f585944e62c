"""Entries changed by somebody else than who wrote them: credentials stay with their address, trust with its author."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from registry.registry import EntryKind
from tests.conftest import ADMIN_KEY, Hub, OpenHub

SECRET = "Bearer hunter2hunter2"

WRITTEN: list[tuple[EntryKind, str, dict[str, Any]]] = [
    ("agent", "agents", {"url": "http://127.0.0.1:9/", "headers": {"Authorization": SECRET}}),
    ("server", "mcp-servers", {"url": "http://127.0.0.1:9/mcp", "headers": {"Authorization": SECRET}}),
    ("model", "models", {"provider": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": SECRET}),
]
KINDS = pytest.mark.parametrize(("kind", "collection", "body"), WRITTEN, ids=[kind for kind, _, _ in WRITTEN])


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
    async with running.http(await running.key("admin:agents", "admin:mcp-servers", "admin:models")) as client:
        yield client


def moved(kind: str) -> dict[str, Any]:
    return {"base_url" if kind == "model" else "url": "http://evil.example/"}


@KINDS
@pytest.mark.attack("2.2/30", defence="hub.api.entries:_judge_move")
async def test_who_moves_an_entry_does_not_take_its_credentials_along(
    running: Hub, admin: httpx.AsyncClient, clerk: httpx.AsyncClient, kind: EntryKind, collection: str, body: Any
) -> None:
    await admin.post(f"/api/{collection}", json={"name": "theirs", **body})
    before = running.services.registry.all_of(kind)["theirs"]
    refused = await clerk.patch(f"/api/{collection}/theirs", json=moved(kind))
    assert refused.status_code == 400
    assert "anew" in refused.json()["detail"]
    assert running.services.registry.all_of(kind)["theirs"] == before


@KINDS
async def test_an_entry_moved_with_new_credentials_keeps_none_of_the_old(
    running: Hub, admin: httpx.AsyncClient, clerk: httpx.AsyncClient, kind: EntryKind, collection: str, body: Any
) -> None:
    await admin.post(f"/api/{collection}", json={"name": "theirs", **body})
    anew = {"api_key": "sk-of-the-clerk-000"} if kind == "model" else {"headers": {"X-Key": "of-the-clerk"}}
    changed = await clerk.patch(f"/api/{collection}/theirs", json={**moved(kind), **anew})
    assert changed.status_code == 200
    entry = running.services.registry.all_of(kind)["theirs"]
    assert not entry.trusted
    assert SECRET not in {value for _, value in entry.headers} | {getattr(entry, "api_key", None)}


@pytest.mark.attack("2.2/30")
async def test_a_models_key_does_not_go_to_another_provider(admin: httpx.AsyncClient, clerk: httpx.AsyncClient) -> None:
    await admin.post("/api/models", json={"name": "theirs", "provider": "openai", "api_key": SECRET})
    refused = await clerk.patch("/api/models/theirs", json={"provider": "ollama"})
    assert refused.status_code == 400


@KINDS
@pytest.mark.attack("2.1/1")
async def test_an_address_stays_its_authors_when_the_operator_changes_something_else(
    running: Hub, admin: httpx.AsyncClient, clerk: httpx.AsyncClient, kind: EntryKind, collection: str, body: Any
) -> None:
    await clerk.post(f"/api/{collection}", json={"name": "late", **body})
    await admin.patch(f"/api/{collection}/late", json={"headers": {"X-Tag": "of-the-operator"}})
    assert not running.services.registry.all_of(kind)["late"].trusted
    await admin.patch(f"/api/{collection}/late", json=moved(kind))
    assert running.services.registry.all_of(kind)["late"].trusted


@KINDS
async def test_an_address_stays_the_operators_when_somebody_changes_something_else(
    running: Hub, admin: httpx.AsyncClient, clerk: httpx.AsyncClient, kind: EntryKind, collection: str, body: Any
) -> None:
    await admin.post(f"/api/{collection}", json={"name": "early", **body})
    await clerk.patch(f"/api/{collection}/early", json={"headers": {"X-Tag": "of-the-clerk"}})
    assert running.services.registry.all_of(kind)["early"].trusted


@pytest.mark.parametrize("provider", ["vllm", "ollama", "llamacpp", "lmstudio"])
@pytest.mark.attack("2.1/1")
async def test_a_provider_on_this_machine_is_the_operators_to_name(
    running: Hub, admin: httpx.AsyncClient, clerk: httpx.AsyncClient, provider: str
) -> None:
    await clerk.post("/api/models", json={"name": "theirs", "provider": provider})
    await admin.post("/api/models", json={"name": "ours", "provider": provider})
    codes = {}
    async with running.http(await running.key("model:*")) as http:
        for name in ("theirs", "ours"):
            answer = await http.post("/v1/chat/completions", json={"model": name, "messages": []})
            codes[name] = answer.json()["error"]["code"]
    assert codes["theirs"] == "address_refused"
    assert codes["ours"] != "address_refused"
