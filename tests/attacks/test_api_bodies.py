"""Bodies and queries of the admin API that it cannot read, or did not foresee: its own form, and nothing of the inside."""

from __future__ import annotations

import httpx
import pytest

from tests.conftest import ADMIN_KEY, OpenHub

JSON = {"content-type": "application/json"}
DEEP = b"[" * 5000 + b"]" * 5000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/agents", b'{"name":' + DEEP + b"}"),
        ("/api/keys", b'{"name":' + DEEP + b"}"),
        ("/api/agents", b"{"),
        ("/api/agents", b'"x"'),
        ("/api/agents", b"\xff"),
        ("/api/keys", b'{"name":"a","allow":[],"expires_at":' + b"9" * 5000 + b"}"),
        ("/api/models", b'{"name":"\\ud800x","provider":"offline"}'),
        ("/api/models", b'{"name":"x","provider":"offline","model":"\\ud800"}'),
        ("/api/agents", b'{"name":"x","url":"http://x/","headers":{"a":"\\ud800"}}'),
        ("/api/agents", b'{"name":"x","url":"http://x/","headers":{"a":"1\\r\\nx: y"}}'),
        ("/api/agents", b'{"name":"x","url":"file:///etc/passwd"}'),
        ("/api/agents", b'{"name":"x","url":"http://"}'),
        ("/api/mcp-servers", b'{"name":"x","url":"http://x/","openapi":"/etc/passwd"}'),
    ],
)
async def test_a_body_that_cannot_be_read_is_told_as_a_problem(hub: OpenHub, path: str, body: bytes) -> None:
    async with hub() as running, running.http(ADMIN_KEY) as admin:
        refused = await admin.post(path, content=body, headers=JSON)
        assert refused.status_code == 400
        problem(refused)
        assert (await admin.get(path)).json()["items"] == []


@pytest.mark.parametrize("path", ["audit?before=", "policy/versions?before=", "policy/versions/", "policy/diff?from="])
async def test_a_number_that_the_database_cannot_hold_is_refused(hub: OpenHub, path: str) -> None:
    async with hub() as running, running.http(ADMIN_KEY) as admin:
        for number in (2**63, -1, 10**40):
            problem(await admin.get(f"/api/{path}{number}"))
        assert (await admin.post("/api/policy/rollback", json={"version": 2**63})).status_code == 400


@pytest.mark.attack("2.1/21")
async def test_what_the_api_did_not_foresee_is_told_as_a_problem(hub: OpenHub, monkeypatch: pytest.MonkeyPatch) -> None:
    async def bug(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("postgres://user:hunter2@10.0.0.1/db")

    async with hub() as running, running.http(ADMIN_KEY) as admin:
        monkeypatch.setattr(running.services.keys, "page", bug)
        failed = await admin.get("/api/keys")
        assert failed.status_code == 500
        problem(failed)
        assert "hunter2" not in failed.text
        monkeypatch.undo()
        assert (await admin.get("/api/usage", params={"by": ",".join(["key"] * 3000)})).status_code == 200


def problem(answer: httpx.Response) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["requestId"] == answer.headers["x-request-id"]
