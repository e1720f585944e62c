"""OpenAPI documents as servers of `/mcp`, with a real service behind them (surface.md 3)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mcp_bridge.openapi import check
from mcp_bridge.openapi.answers import MAX_BINARY, MAX_TEXT
from registry.errors import UpstreamError
from tests.peers.http_peer import Peer, always, listening, never, read_request
from tests.peers.mcp_hub import McpHub, open_mcp_hub
from tests.peers.openapi_services import PIXEL, Shop, shop


def entry(running: Shop, more: str = "") -> str:
    return f"mcpServers:\n  shop: {{openapi: {running.url}/described.json{more}}}\n"


@asynccontextmanager
async def hub_with_shop(tmp_path: Path, more: str = "") -> AsyncIterator[tuple[McpHub, Shop, Any]]:
    async with shop() as running, open_mcp_hub(tmp_path, entry(running, more)) as hub:
        await listed(hub, "shop")
        async with hub.client(await hub.key("tool:*"), path="/mcp/shop") as client:
            yield hub, running, client


async def listed(hub: McpHub, server: str) -> list[str]:
    async with asyncio.timeout(20):
        while not (found := [t.name for t in hub.services.registry.catalog.tools.values() if t.server == server]):
            await asyncio.sleep(0.01)
    return sorted(found)


async def call(client: Any, name: str, **arguments: Any) -> Any:
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    full = next(full for full in tools if full.startswith(name))
    return await client.call_tool(full, arguments)


def text(result: Any) -> str:
    return "\n".join(block.text for block in result.content)


async def test_a_service_that_describes_itself_is_a_server(tmp_path: Path) -> None:
    """FastAPI's own 3.1 document; the official client checks each answer against the tool's outputSchema."""
    more = ", headers: {Authorization: Bearer the-shops-secret}"
    async with hub_with_shop(tmp_path, more) as (_, running, client):
        found = await call(client, "read_item", item_id="ä b", q=["1", "2&3"], **{"x-trace": "t"}, session="s; x=1")
        assert json.loads(text(found)) == {"id": "ä b", "q": ["1", "2&3"], "trace": "t", "session": "s%3B%20x%3D1"}
        assert found.structured_content["q"] == ["1", "2&3"]
        item = {"name": "saw", "price": 1.5, "part": {"name": "blade", "parts": [{"name": "tooth", "parts": []}]}}
        made = await call(client, "create_item", body=item)
        assert made.structured_content == {**item, "kind": "tool"}
        filled = await call(client, "fill_form", body={"name": "a&b=c", "tags": ["x", "ÿ"]})
        assert filled.structured_content == {"name": "a&b=c", "tags": ["x", "ÿ"]}
        sent = {"caption": 'a"\r\n--b', "file": base64.b64encode(b"\0\r\n--").decode()}
        uploaded = await call(client, "upload", body=sent)
        assert uploaded.structured_content == {"caption": 'a"\r\n--b', "bytes": "000d0a2d2d", "filename": "file"}
        assert (await call(client, "remove", item_id="1")).content[0].text == "HTTP 204, without content."
        assert all(seen.get("authorization") == "Bearer the-shops-secret" for seen in running.requests)
        assert all(b"sk-" not in json.dumps(seen).encode() for seen in running.requests)


async def test_a_long_check_of_arguments_holds_nobody_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is the test's: in the event loop time flies, and in a thread it stands still until it is let go."""
    begun, go_on, threads = threading.Event(), threading.Event(), []
    clock = count()

    def thread_time() -> int:
        if threading.current_thread() is not threading.main_thread() and not go_on.is_set():
            threads.append(threading.current_thread())
            begun.set()
            assert go_on.wait(60)
        return next(clock)

    async with hub_with_shop(tmp_path) as (_, running, client):
        await call(client, "many", count=1)
        sent = len(running.requests)
        monkeypatch.setattr(check, "thread_time", thread_time)
        try:
            first, second = (asyncio.create_task(call(client, "many", count=1)) for _ in range(2))
            assert await asyncio.to_thread(begun.wait, 60)
            assert (await client.list_tools()).tools
            assert not first.done()
            assert not second.done()
            first.cancel()
            assert (await client.list_tools()).tools
            assert not second.done()
            assert len(threads) == 1, "one at a time, also when nobody waits for it any more"
        finally:
            go_on.set()
        assert "cannot be checked within 2 s" in text(await second)
        assert len(running.requests) == sent
        monkeypatch.undo()
        assert not (await call(client, "many", count=1)).is_error


async def test_arguments_are_checked_before_anything_is_sent(tmp_path: Path) -> None:
    async with hub_with_shop(tmp_path) as (_, running, client):
        await call(client, "many", count=1)
        before = len(running.requests)
        bad = [
            await call(client, "create_item", body={"name": 5, "kind": "car"}),
            await call(client, "read_item", item_id="a", unknown=1),
            await call(client, "read_item", item_id="../admin"),
            await call(client, "read_item", item_id="a", **{"x-trace": "a\r\nx-evil: 1"}),
        ]
        assert all(result.is_error for result in bad)
        assert "body.name: 5 is not of type 'string'" in text(bad[0])
        assert "body.kind: 'car' is not one of" in text(bad[0])
        assert "'unknown' was unexpected" in text(bad[1])
        assert text(bad[2]).startswith("Nothing was sent: item_id: holds a slash")
        assert text(bad[3]).startswith("Nothing was sent: x-trace: a header holds printable ASCII")
        assert len(running.requests) == before


async def test_answers_of_all_kinds_keep_their_kind(tmp_path: Path) -> None:
    async with hub_with_shop(tmp_path) as (_, _running, client):
        assert text(await call(client, "text", count=2)) == "word word "
        image = (await call(client, "pixel")).content[0]
        assert (image.type, image.mime_type, base64.b64decode(image.data)) == ("image", "image/png", PIXEL)
        archive = (await call(client, "archive")).content[0]
        assert (archive.resource.mime_type, base64.b64decode(archive.resource.blob)) == ("application/zip", b"\0" * 4)
        large = await call(client, "archive", size=MAX_BINARY + 1)
        assert large.is_error
        assert "too large to pass on" in text(large)


async def test_failures_of_the_service_are_told_with_status_and_body_and_without_secrets(tmp_path: Path) -> None:
    more = ", headers: {Authorization: Bearer the-shops-secret}"
    async with hub_with_shop(tmp_path, more) as (_, running, client):
        for status in (400, 401, 404, 429, 500):
            result = await call(client, "fail", status=status)
            assert result.is_error
            assert text(result).startswith(f"HTTP {status}\n")
            assert "you sent Bearer *** to ***" in text(result)
        away = await call(client, "away")
        assert away.is_error
        assert text(away).startswith("HTTP 307\nThe service redirects to http://169.254.169.254/latest; redirects are")
        assert running.url.partition("//")[2] not in text(away)


async def test_a_large_answer_is_shaped_by_its_reader_or_shortened_with_a_note(tmp_path: Path) -> None:
    async with hub_with_shop(tmp_path) as (_, _running, client):
        chosen = await call(client, "many", count=1500, _fields=["total", "items.name"])
        assert chosen.structured_content == {"total": 1500, "items": [{"name": f"n{n}"} for n in range(1500)]}
        assert len(chosen.content) == 1
        cut = await call(client, "many", count=1500)
        assert cut.structured_content["total"] == 1500
        assert len(cut.structured_content["items"]) == 100
        assert "was shortened: at most 100 items of each list" in cut.content[1].text
        assert "_fields" in cut.content[1].text
        words = await call(client, "text", count=MAX_TEXT)
        assert len(words.content[0].text) == MAX_TEXT
        assert words.content[1].text == f"This answer of {5 * MAX_TEXT} bytes was cut after {MAX_TEXT}."


async def test_a_document_at_an_address_is_asked_for_only_when_it_changed(tmp_path: Path) -> None:
    async with hub_with_shop(tmp_path) as (hub, running, _):
        count = await hub.sync.refresh("shop")
        assert count == len(await listed(hub, "shop"))
        assert running.documents == [200, 304]


async def test_headers_go_to_a_document_only_where_the_service_is(tmp_path: Path) -> None:
    async with shop() as described, shop() as called:
        yaml = entry(described, f", url: {called.url}, headers: {{x-key: secret-of-the-shop}}")
        async with open_mcp_hub(tmp_path, yaml) as hub:
            await listed(hub, "shop")
            async with hub.client(await hub.key("tool:*"), path="/mcp/shop") as client:
                await call(client, "many", count=1)
        assert all("x-key" not in seen for seen in described.requests)
        assert [seen["x-key"] for seen in called.requests] == ["secret-of-the-shop"]


DOCUMENT = """openapi: 3.0.0
info: {title: t, version: "1"}
paths:
  /a: {get: {operationId: one, responses: {"200": {description: ok}}}}
  /b: {get: {operationId: bad, parameters: 5}}
"""


async def test_a_file_is_followed_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "api.yaml"
    path.write_text(DOCUMENT)
    async with (
        listening(always(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")) as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{api: {{openapi: {path}, url: {peer.url}base?key=k}}}}") as hub,
    ):
        assert await listed(hub, "api") == ["one"]
        bad = hub.services.registry.catalog.quarantined[0]
        assert (bad.server, bad.name) == ("api", "bad")
        assert bad.reason == "api.yaml:5: #/paths/~1b/get/parameters: must be a list"
        path.write_text(DOCUMENT.replace("one", "two"))
        os.utime(path, ns=(1, 1))
        await hub.sync.refresh("api")
        assert await listed(hub, "api") == ["two"]
        path.write_text("openapi: 2")
        with pytest.raises(UpstreamError, match=r"api: its OpenAPI document cannot be used: api\.yaml:1: #/openapi"):
            await hub.sync.refresh("api")
        async with hub.client(await hub.key("tool:*")) as client:
            await client.call_tool("api__two", {})
        assert peer.requests[-1].start == "GET /base/a?key=k HTTP/1.1"
        path.unlink()
        with pytest.raises(UpstreamError, match="its OpenAPI document cannot be read: No such file"):
            await hub.sync.refresh("api")


@pytest.mark.attack("2.2/9")
async def test_a_document_written_under_a_grant_passes_the_address_guard(tmp_path: Path) -> None:
    """A URL through the API: only the admin key's counts as the operator's own; files stay the file's."""
    async with shop() as running, open_mcp_hub(tmp_path) as hub:
        document = f"{running.url}/described.json"
        async with hub.http(await hub.key("admin:mcp-servers", "server:*")) as http:
            made = await http.post("/api/mcp-servers", json={"name": "late", "openapi": document})
            assert made.status_code == 201, made.text
            refused = await http.post("/api/mcp-servers", json={"name": "file", "openapi": "/etc/passwd"})
            assert refused.status_code == 400
        with pytest.raises(UpstreamError):
            await hub.sync.refresh("late")
        assert not running.requests


async def test_calls_go_on_while_the_document_hangs(tmp_path: Path) -> None:
    """In an older client's era, for a change."""
    hangs = asyncio.Event()

    async def answer(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            body = DOCUMENT.encode() if "/api.yaml" in request.start else b"hi"
            if len(body) > 2 and peer.requests:
                hangs.set()
                await asyncio.Event().wait()
            peer.requests.append(request)
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            )

    async with (
        listening(answer) as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{api: {{openapi: {peer.url}api.yaml}}}}") as hub,
    ):
        await listed(hub, "api")
        refreshing = asyncio.create_task(hub.sync.refresh("api"))
        await hangs.wait()
        async with hub.client(await hub.key("tool:*"), mode="legacy") as client, asyncio.timeout(10):
            assert text(await client.call_tool("api__one", {})) == "hi"
        refreshing.cancel()
        await asyncio.wait([refreshing])


async def test_switching_off_ends_a_call_under_way(tmp_path: Path) -> None:
    path = tmp_path / "api.yaml"
    path.write_text(DOCUMENT)
    async with (
        listening(never()) as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{api: {{openapi: {path}, url: '{peer.url}'}}}}") as hub,
    ):
        await listed(hub, "api")
        async with hub.client(await hub.key("tool:*")) as client:
            calling = asyncio.create_task(client.call_tool("api__one", {}))
            await peer.asked.wait()
            await hub.services.registry.switch("server", "api", on=False)
            with pytest.raises(Exception, match="switched off"):
                await calling
            async with asyncio.timeout(10):
                await peer.left.wait()
