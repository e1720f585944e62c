"""Deployments of models as their operator meets them: the API, `/readyz` and `hubbub doctor`, on a real hub and real services."""

from __future__ import annotations

from typing import Any

import pytest

from hub.cli.probes import examine
from registry.declared.config import read
from tests.conftest import ADMIN_KEY, OpenHub
from tests.peers.openai_upstream import Turn, openai_upstream

ASK = {"messages": [{"role": "user", "content": "hello"}]}


def both(first: str, second: str) -> dict[str, Any]:
    """A model that runs at two places."""
    places = [
        {"provider": "openai", "model": "one", "base_url": first, "api_key": "sk-upstream-1", "weight": 3},
        {"provider": "openai", "model": "two", "base_url": second, "api_key": "sk-upstream-2"},
    ]
    return {"name": "both", "deployments": places, "routing": "least_busy", "fallbacks": ["offline"]}


async def test_a_model_made_by_the_api_runs_at_several_places_whose_state_its_operator_sees(hub: OpenHub) -> None:
    down, up = Turn(status=429, error=b"{}", headers={"retry-after": "200"}), Turn("well")
    async with (
        openai_upstream(down) as first,
        openai_upstream(up) as second,
        hub("models: {offline: {provider: offline}}") as running,
        running.http(ADMIN_KEY) as admin,
    ):
        made = await admin.post("/api/models", json=both(first.url, second.url))
        assert made.status_code == 201, made.text
        answer = await admin.post("/v1/chat/completions", json={"model": "both", **ASK})
        assert answer.headers["x-hub-deployment"] == "openai/two"
        shown = (await admin.get("/api/models/both")).json()
        assert "sk-upstream" not in str(shown)
        assert shown["fallbacks"] == ["offline"]
        assert [(one["deployment"], one["state"], one["weight"]) for one in shown["deployments"]] == [
            ("openai/one", "cooling", 3),
            ("openai/two", "healthy", 1),
        ]
        assert shown["deployments"][1]["latency_ms"] >= 0
        ready = (await admin.get("/readyz")).json()
        assert [one["state"] for one in ready["models"]["both"]] == ["cooling", "healthy"]
        assert first.url not in str(ready)
        async with running.http(await running.key("model:*", "admin:agents")) as http:
            assert "models" not in (await http.get("/readyz")).json()


async def test_nobody_makes_a_model_stand_in_that_they_may_not_call(hub: OpenHub) -> None:
    async with hub("models: {a: {provider: offline}, secret: {provider: offline}}") as running:
        key = await running.key("admin:models", "model:a", "model:mine")
        async with running.http(key) as http:
            for name in ("secret", "nothing"):
                body = {"name": "mine", "provider": "offline", "fallbacks": [name]}
                refused = await http.post("/api/models", json=body)
                assert (refused.status_code, refused.json()["detail"]) == (400, f"fallbacks: no model {name!r} here")
            assert (await http.post("/api/models", json=body | {"fallbacks": ["a"]})).status_code == 201
            refused = await http.patch("/api/models/mine", json={"context_fallbacks": ["secret"]})
            assert refused.status_code == 400


async def test_keys_of_deployments_do_not_move_with_an_address_that_somebody_else_writes(hub: OpenHub) -> None:
    async with openai_upstream(Turn("well")) as first, hub() as running, running.http(ADMIN_KEY) as admin:
        body = both(first.url, first.url) | {"fallbacks": []}
        assert (await admin.post("/api/models", json=body)).status_code == 201
        async with running.http(await running.key("admin:models", "model:*")) as http:
            moved = await http.patch("/api/models/both", json={"deployments": body["deployments"][:1]})
            assert moved.status_code == 200
            answer = await http.post("/v1/chat/completions", json={"model": "both", **ASK})
        assert answer.json()["error"]["code"] == "address_refused"
        assert not first.received


@pytest.mark.parametrize("fails", [False, True])
async def test_doctor_asks_each_deployment(tmp_path: Any, fails: bool) -> None:
    async with (
        openai_upstream(Turn(error=b'{"data":[]}')) as first,
        openai_upstream(Turn(status=401, error=b"{}")) as second,
    ):
        other = second if fails else first
        text = f"""
hub: {{database: "sqlite:///{tmp_path}/hubbub.db"}}
models:
  both:
    deployments:
      - {{provider: openai, model: one, base_url: "{first.url}", api_key: x}}
      - {{provider: openai, model: two, base_url: "{other.url}", api_key: x}}
"""
        declared = read(text, file="hub.yaml", environ={}, read_file=lambda name: "")
        found = {finding.probe: finding.fault for finding in await examine(declared)}
        assert found["model both 1 at openai/one"] is None
        assert (found["model both 2 at openai/two"] is not None) is fails
