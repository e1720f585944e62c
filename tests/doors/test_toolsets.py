"""Toolsets made through the admin API: served as those of the file, at once and after a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.declared.toolsets import SEARCH_NAMES
from tests.conftest import ADMIN_KEY
from tests.peers import mcp_servers
from tests.peers.mcp_hub import McpHub, headers, message, open_mcp_hub

FILE = "toolsets: {of_file: {tools: ['peer__*']}}\n"
DAILY = {
    "description": "What we use daily",
    "tools": ["peer__e*", {"tool": "peer__wait", "as": "pause", "description": "Waits"}],
}


@asynccontextmanager
async def hub_of(tmp_path: Path) -> AsyncIterator[tuple[McpHub, httpx.AsyncClient]]:
    async with (
        mcp_servers.dual_era() as peer,
        open_mcp_hub(tmp_path, f"mcpServers: {{peer: {{url: {peer.url}}}}}\n{FILE}") as hub,
        hub.http(ADMIN_KEY) as admin,
    ):
        await hub.listed("peer__echo")
        yield hub, admin


async def names(hub: McpHub, path: str) -> list[str] | int:
    async with hub.http(await hub.key("tool:*")) as http:
        answer = await http.post(path, json=message("tools/list"), headers=headers("tools/list"))
        if answer.status_code != 200:
            return answer.status_code
        return [tool["name"] for tool in answer.json()["result"]["tools"]]


async def test_a_toolset_is_made_served_changed_switched_off_and_deleted(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, admin):
        made = await admin.post("/api/toolsets", json={"name": "daily", **DAILY})
        assert made.status_code == 201
        shown = made.json()
        assert (shown["owner"], shown["disabled"], shown["tools"]) == ("api", False, ["peer__e*"])
        assert shown["view"]["tools"] == 2
        assert shown == (await admin.get("/api/toolsets/daily")).json()
        assert await names(hub, "/mcp/daily") == ["peer__echo", "pause"]
        listed = (await admin.get("/api/toolsets")).json()
        assert [(one["name"], one["owner"]) for one in listed["items"]] == [("daily", "api"), ("of_file", "file")]
        first = (await admin.get("/api/toolsets", params={"limit": 1})).json()
        assert [one["name"] for one in first["items"]] == [first["next"]] == ["daily"]

        changed = await admin.patch("/api/toolsets/daily", json={"mode": "search", "description": None})
        assert (changed.json()["mode"], changed.json()["description"]) == ("search", None)
        assert await names(hub, "/mcp/daily") == list(SEARCH_NAMES)
        off = await admin.patch("/api/toolsets/daily", json={"disabled": True})
        assert off.json()["disabled"] is True
        assert await names(hub, "/mcp/daily") == 404
        await admin.patch("/api/toolsets/daily", json={"disabled": False, "mode": "full"})
        assert await names(hub, "/mcp/daily") == ["peer__echo", "pause"]

        assert (await admin.delete("/api/toolsets/daily")).status_code == 204
        assert await names(hub, "/mcp/daily") == 404
        assert (await admin.get("/api/toolsets/daily")).status_code == 404
        assert (await admin.delete("/api/toolsets/daily")).status_code == 404


async def test_a_toolset_outlives_the_hub(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (_, admin):
        await admin.post("/api/toolsets", json={"name": "daily", **DAILY})
    async with hub_of(tmp_path) as (hub, _):
        assert await names(hub, "/mcp/daily") == ["peer__echo", "pause"]


async def test_the_files_toolsets_are_switched_off_but_not_changed(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, admin):
        assert (await admin.patch("/api/toolsets/of_file", json={"tools": []})).status_code == 409
        assert (await admin.delete("/api/toolsets/of_file")).status_code == 409
        assert (await admin.patch("/api/toolsets/of_file", json={"disabled": True})).json()["owner"] == "file"
        assert await names(hub, "/mcp/of_file") == 404


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({}, 400, "name is missing"),
        ({"name": "Daily", "tools": []}, 400, "name: a name has"),
        ({"name": "a"}, 400, "tools is missing"),
        ({"name": "a", "tools": [], "mode_": "search"}, 400, "did you mean 'mode'"),
        ({"name": "a", "tools": ["${HOME}"]}, 400, "read in hub.yaml only"),
        ({"name": "a", "tools": [{"tool": "peer__*", "as": "b"}]}, 400, "tools.0.tool: must be the whole name"),
        (
            {"name": "a", "tools": [{"tool": f"peer__{tool}", "as": "b"} for tool in ("echo", "wait")]},
            400,
            "tools.1.as: b is another tool's name here, in tools.0",
        ),
        ({"name": "peer", "tools": []}, 409, "declares a server named 'peer'"),
        ({"name": "of_file", "tools": []}, 409, "declares a toolset named 'of_file'"),
    ],
)
async def test_what_is_wrong_with_a_toolset_is_said(tmp_path: Path, body: Any, status: int, text: str) -> None:
    async with hub_of(tmp_path) as (hub, admin):
        refused = await admin.post("/api/toolsets", json=body)
        assert refused.status_code == status
        assert text in refused.json()["detail"]
        assert set(hub.services.registry.toolsets()) == {"of_file"}
        await admin.post("/api/toolsets", json={"name": "daily", **DAILY})
        if status == 400 and body.get("name") == "a":
            change = {member: value for member, value in {"tools": 1, **body}.items() if member != "name"}
            assert (await admin.patch("/api/toolsets/daily", json=change)).status_code == 400
            assert await names(hub, "/mcp/daily") == ["peer__echo", "pause"]


async def test_toolsets_are_made_by_those_who_may_make_servers(tmp_path: Path) -> None:
    async with hub_of(tmp_path) as (hub, _):
        for grant, status in (("admin:mcp-servers", 201), ("admin:models", 404)):
            async with hub.http(await hub.key(grant)) as http:
                made = await http.post("/api/toolsets", json={"name": "daily", **DAILY})
                assert made.status_code == status
