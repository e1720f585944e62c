"""What one process changes, another obeys with its next poll and not before: so within a fifth of a second and the poll itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from registry import registry
from tests.conftest import ADMIN_KEY, Hub, open_hub

YAML = "models:\n  small: {provider: offline}\n  large: {provider: offline}\n"


async def seen(hub: Hub, secret: str) -> list[str] | int:
    """The models that a key may call, or how it is refused."""
    hub.services.keys.mark_fresh()  # as every poll does, and none comes by itself here
    async with hub.http(secret) as http:
        answer = await http.get("/v1/models")
        if answer.status_code != 200:
            return answer.status_code
        listed = [one["id"] for one in answer.json()["data"]]
        said = {"messages": [{"role": "user", "content": "x"}]}
        called = [await http.post("/v1/chat/completions", json={**said, "model": one}) for one in ("small", "large")]
        assert [one for one, answer in zip(("small", "large"), called, strict=True) if answer.is_success] == listed
        return listed


async def test_one_poll_applies_all_that_another_process_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert registry.POLL_S <= 0.2
    async with open_hub(tmp_path, YAML) as here, here.http(ADMIN_KEY) as admin:
        monkeypatch.setattr(registry, "POLL_S", 3600)  # the first poll of each is its last
        async with open_hub(tmp_path, YAML) as there:

            async def do(method: str, path: str, body: Any = None) -> Any:
                answer: httpx.Response = await admin.request(method, f"/api/{path}", json=body)
                assert answer.is_success, answer.text
                return answer.json() if answer.content else None

            await do("POST", "teams", {"alias": "red"})
            await do("POST", "users", {"name": "rita"})
            await do("PUT", "teams/red/members/rita", {"role": "member"})
            made = await do("POST", "keys", {"name": "k", "allow": ["model:*"], "team": "red", "user": "rita"})
            secret: str = made["key"]
            now: list[str] | int = ["small", "large"]
            assert await seen(there, secret) == now
            rule = {"name": "no-large", "effect": "deny", "entries": ["model:large"]}
            for method, path, body, wanted in (
                ("PATCH", "keys/k", {"allow": ["model:small"]}, ["small"]),
                ("PATCH", "keys/k", {"allow": ["model:*"]}, ["small", "large"]),
                ("PATCH", "teams/red", {"allow": ["model:large"]}, ["large"]),
                ("PATCH", "teams/red", {"allow": None}, ["small", "large"]),
                ("PUT", "policy", {"rules": [rule]}, ["small"]),
                ("PUT", "policy", {"rules": []}, ["small", "large"]),
                ("DELETE", "teams/red/members/rita", None, 401),
                ("PUT", "teams/red/members/rita", {"role": "viewer"}, ["small", "large"]),
                ("DELETE", "keys/k", None, 401),
            ):
                await do(method, path, body)
                assert await seen(here, secret) == wanted, "by the next request here"
                assert await seen(there, secret) == now, "or something else than the poll told it"
                await there.services.registry._apply()
                assert await seen(there, secret) == wanted, "by the next request after one poll there"
                now = wanted  # type: ignore[assignment]
