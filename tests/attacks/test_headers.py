"""Headers by which browsers are told what not to do with answers of the hub, at every door."""

from __future__ import annotations

import httpx
import pytest

from hub.auth import CREDENTIALS
from hub.http11 import SECURITY_HEADERS, Front
from hub.http_exchange import Limits
from tests.conftest import ADMIN_KEY, OpenHub

PATHS = ["/livez", "/nowhere", "/mcp", "/a2a/x", "/v1/models", "/api/keys", "/docs", "/.well-known/jwks.json"]


@pytest.mark.attack("2.1/35")
@pytest.mark.parametrize("path", PATHS)
async def test_no_answer_may_be_taken_for_another_media_type(hub: OpenHub, path: str) -> None:
    async with hub() as running:
        for secret in (None, ADMIN_KEY):
            async with running.http(secret) as http:
                answer = await http.get(path)
                assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
                assert "strict-transport-security" not in answer.headers  # clients come by http


def test_where_clients_come_by_https_browsers_are_told_to_stay_with_it() -> None:
    class State:
        default_headers = ((b"date", b"now"),)

    async def serve(_exchange: object) -> None:
        raise AssertionError("nobody calls")

    written = Front(serve, lambda: Limits(is_https=True)).fixed(State())
    assert written == b"".join(b"%b: %b\r\n" % one for one in ((b"date", b"now"), *SECURITY_HEADERS))


async def test_answers_of_the_admin_api_are_stored_nowhere(hub: OpenHub) -> None:
    async with hub() as running, running.http(ADMIN_KEY) as admin:
        made: httpx.Response = await admin.post("/api/keys", json={"name": "rita", "allow": ["model:*"]})
        for answer in (made, await admin.get("/api/keys"), await admin.get("/api/nowhere")):
            assert answer.headers["cache-control"] == "no-store"


@pytest.mark.attack("2.1/22", defence="hub.app:repeated_credential")
@pytest.mark.parametrize("name", [name.decode() for name in CREDENTIALS])
@pytest.mark.parametrize("path", ["/api/keys", "/v1/models"])
async def test_two_credentials_in_headers_of_one_name_are_refused(hub: OpenHub, path: str, name: str) -> None:
    async with hub() as running, running.http() as http:
        bearer = f"Bearer {ADMIN_KEY}" if name == "authorization" else ADMIN_KEY
        for values in ((bearer, "Bearer sk-other"), ("Bearer sk-other", bearer)):
            answer = await http.get(path, headers=[(name, value) for value in values])
            assert answer.status_code == 400
            assert f"{name} is there more than once" in answer.text
        assert (await http.get(path, headers=[(name, bearer), ("x-a", "1"), ("x-a", "2")])).status_code == 200
