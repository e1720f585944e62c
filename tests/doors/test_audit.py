"""The audit log: what was done and refused is in it, at every door, and what is changed in it later is found."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from hub.cli import main
from registry.auditing.audit import BURST, Audit
from registry.errors import NotFound
from registry.identity import Grants, Principal
from registry.store.db import open_database
from tests.conftest import ADMIN_KEY, Hub, OpenHub
from tests.peers.mcp_hub import headers, message
from tests.processes import hubbub

YAML = "agents: {echo: {url: 'http://127.0.0.1:9'}}\nmodels: {offline: {provider: offline}}\n"
RITA = Principal("key_1", "rita", Grants(()))


async def entries(hub: Hub) -> list[dict[str, Any]]:
    """The log, oldest first."""
    await hub.services.database.committed()
    async with hub.http(ADMIN_KEY) as admin:
        found: list[dict[str, Any]] = (await admin.get("/api/audit", params={"limit": 1000})).json()["items"]
    return found[::-1]


async def test_an_administrative_act_is_in_the_log_before_it_is_answered_and_without_secrets(hub: OpenHub) -> None:
    async with hub(YAML) as running, running.http(ADMIN_KEY) as admin:
        made = await admin.post("/api/keys", json={"name": "rita", "allow": ["model:*"]})
        body = {"name": "late", "url": "http://127.0.0.1:9/mcp", "headers": {"authorization": "Bearer canary-1"}}
        await admin.post("/api/mcp-servers", json=body)
        await admin.delete("/api/keys/rita")
        await admin.delete("/api/keys/nobody")
        found = await entries(running)
    assert [
        (one["principal"], one["act"], one["object"], one["outcome"]) for one in found if one["act"] != "refused"
    ] == [
        ("admin", "POST", "/api/keys", "201"),
        ("admin", "POST", "/api/mcp-servers", "201"),
        ("admin", "DELETE", "/api/keys/rita", "204"),
        ("admin", "DELETE", "/api/keys/nobody", "404"),
    ]
    assert found[0]["detail"] == "name rita, allow, name"
    assert "canary-1" not in str(found)
    assert made.json()["key"] not in str(found)


async def test_every_route_that_changes_something_leaves_one_entry_whatever_comes_of_it(hub: OpenHub) -> None:
    async with hub(YAML) as running, running.http(ADMIN_KEY) as admin:
        paths: dict[str, Any] = (await admin.get("/openapi.json")).json()["paths"]
        asked = []
        for template, methods in paths.items():
            path = re.sub(r"\{\w+(:path)?\}", "1", template)
            for method in (one.upper() for one in methods if one != "get"):
                answer = await admin.request(method, path, json={})
                asked.append((method, path, str(answer.status_code)))
        found = [(one["act"], one["object"], one["outcome"]) for one in await entries(running)]
    assert len(asked) > 30
    assert [one for one in found if one[0] != "refused"] == asked


async def test_what_every_door_refuses_is_in_the_log_once(hub: OpenHub) -> None:
    async with hub(YAML) as running:
        async with running.http(await running.key("tool:none__*")) as http:
            send = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {}}
            await http.post("/a2a/echo", json=send)
            await http.post("/mcp", json=message("tools/call", {"name": "x__y"}), headers=headers("tools/call", "x__y"))
            for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses"):
                await http.post(path, json={"model": "offline", "messages": [], "input": "x", "max_tokens": 1})
            await http.get("/api/keys")
        async with running.http("sk-wrong") as http:
            await http.get("/v1/models")
            await http.get("/v1/models", headers={"host": "evil.example"})
            await http.get("/v1/models", headers={"origin": "https://evil.example"})
        found = [(one["principal_name"], one["object"], one["outcome"]) for one in await entries(running)]
    assert found == [
        ("key-0", "agent:echo", "NotFound"),
        ("key-0", "tool:x__y", "NotFound"),
        ("key-0", "model:offline", "NotFound"),
        ("key-0", "model:offline", "NotFound"),
        ("key-0", "model:offline", "NotFound"),
        ("key-0", "path:/api/keys", "NotFound"),
        ("", "GET /v1/models", "Unauthenticated"),
        ("", "GET /v1/models", "HostRefused"),
        ("", "GET /v1/models", "OriginRefused"),
    ]


@asynccontextmanager
async def log(directory: Path) -> AsyncIterator[Audit]:
    assert (await hubbub("migrate", directory=directory))[0] == 0
    async with open_database(f"sqlite:///{directory}/hubbub.db") as database:
        yield Audit(database, clock=lambda: 0.0)


async def test_a_flood_of_refusals_is_bounded_and_what_was_not_written_is_counted(tmp_path: Path) -> None:
    now = [0.0]
    assert (await hubbub("migrate", directory=tmp_path))[0] == 0
    async with open_database(f"sqlite:///{tmp_path}/hubbub.db") as database:
        audit = Audit(database, clock=lambda: now[0])
        for number in range(BURST + 7):
            audit.refused(RITA, NotFound("agent", str(number)))
        now[0] = 1.0
        audit.refused(RITA, NotFound("agent", "last"))
        await database.committed()
        newest = await audit.page(None, 2)
        assert [(row.outcome, row.detail[:1]) for row in newest] == [("NotFound", "N"), ("too many", "7")]
        assert (await audit.verify()).rows == BURST + 2


@pytest.mark.parametrize(
    ("change", "broken_at"),
    [
        ("UPDATE audit SET principal_name = 'otto' WHERE number = 2", 2),
        ("DELETE FROM audit WHERE number = 2", 3),
        ("DELETE FROM audit WHERE number = 1", 2),
        ("UPDATE audit SET digest = (SELECT digest FROM audit WHERE number = 1) WHERE number = 3", 3),
    ],
)
async def test_a_row_that_was_changed_or_taken_out_is_found(tmp_path: Path, change: str, broken_at: int) -> None:
    async with log(tmp_path) as audit:
        for number in range(4):
            await audit.act(RITA, "POST", f"/api/{number}", outcome="201")
        whole = await audit.verify()
        assert (whole.rows, whole.broken_at) == (4, None)
        with sqlite3.connect(tmp_path / "hubbub.db") as connection:
            connection.execute(change)
        connection.close()
        assert (await audit.verify()).broken_at == broken_at


async def test_the_command_line_verifies_and_knows_a_head_that_was_cut_off(tmp_path: Path) -> None:
    async with log(tmp_path) as audit:
        for number in range(3):
            await audit.act(RITA, "POST", f"/api/{number}", outcome="201")
        head = (await audit.verify()).head
    code, printed = await hubbub("audit", "verify", directory=tmp_path)
    assert (code, head in printed) == (0, True)
    with sqlite3.connect(tmp_path / "hubbub.db") as connection:
        connection.execute("DELETE FROM audit WHERE number = 3")
    connection.close()
    assert (await hubbub("audit", "verify", directory=tmp_path))[0] == 0
    code, printed = await hubbub("audit", "verify", "--head", head, directory=tmp_path)
    assert (code, "cut off" in printed) == (1, True)
    with sqlite3.connect(tmp_path / "hubbub.db") as connection:
        connection.execute("UPDATE audit SET outcome = '500' WHERE number = 1")
    connection.close()
    code, printed = await hubbub("audit", "verify", directory=tmp_path)
    assert (code, "entry 1" in printed) == (1, True)


ACTS = {
    "users create": ("rita", "--email", "rita@example.com"),
    "users rename": ("rita", "margarita"),
    "users allow": ("margarita", "--allow", "model:*"),
    "users limit": ("margarita", "--limit", "calls_per_day=5"),
    "users disable": ("margarita",),
    "users enable": ("margarita",),
    "teams create": ("red",),
    "teams rename": ("red", "crimson"),
    "teams allow": ("crimson",),
    "teams limit": ("crimson", "--budget", "10/month"),
    "teams add": ("crimson", "margarita"),
    "keys create": ("dev", "--allow", "model:*", "--team", "crimson"),
    "keys rotate": ("dev",),
    "keys revoke": ("dev",),
    "teams remove": ("crimson", "margarita"),
    "teams delete": ("crimson",),
    "users delete": ("margarita",),
    "secrets reseal": (),
}
"""Commands that change something, in an order in which all can."""

READS = {
    *(
        "audit list",
        "audit verify",
        "keys list",
        "secrets list",
        "users list",
        "teams list",
        "teams members",
        "agents list",
    ),
    *("mcp list", "models list", "tools list", "toolsets list", "mcp stderr", "usage", "explain", "doctor", "check"),
}
OTHERS = {"serve", "migrate", "prices update", "import"}
"""Which start the hub, or write files and a schema, and nothing of what the hub knows."""


def commands() -> Iterator[str]:
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        if isinstance(command, click.Group):
            yield from (f"{name} {below}" for below in command.commands)
        else:
            yield name


def test_every_command_that_changes_something_leaves_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(commands()) == {*ACTS, *READS, *OTHERS}
    secrets = []
    for command, arguments in ACTS.items():
        done = CliRunner().invoke(main, (*command.split(), *arguments))
        assert done.exit_code == 0, done.output
        secrets.append(done.stdout.strip())
    failed = CliRunner().invoke(main, ("users", "delete", "margarita"))
    assert failed.exit_code == 1
    with sqlite3.connect(tmp_path / "hubbub.db") as connection:
        rows = connection.execute(
            "SELECT principal, act, object, outcome, detail FROM audit ORDER BY number"
        ).fetchall()
    connection.close()
    assert [(row[1], row[3]) for row in rows] == [
        *((f"hubbub {command}", "done") for command in ACTS),
        ("hubbub users delete", "failed"),
    ]
    assert {row[0] for row in rows} == {"operator"}
    assert ("operator", "hubbub teams add", "crimson margarita", "done", "") in rows
    assert ("operator", "hubbub keys create", "dev", "done", "allow, team") in rows
    assert not any(secret in str(rows) for secret in secrets if secret.startswith("sk-"))


async def test_who_may_read_the_log(hub: OpenHub) -> None:
    async with hub(YAML) as running, running.http(await running.key("admin:keys")) as http:
        assert (await http.get("/api/audit")).status_code == 404
        assert (await http.get("/api/audit/verify")).status_code == 404
