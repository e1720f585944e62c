"""Usage by team, end user and day, as JSON and as a table."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from hub.cli import main
from tests.conftest import ADMIN_KEY, Hub, OpenHub
from tests.peers.openai_upstream import Turn, openai_upstream

SAID = [{"role": "user", "content": 'my "user": x'}]


async def items(running: Hub, by: str) -> list[dict[str, Any]]:
    async with running.http(ADMIN_KEY) as admin:
        found: list[dict[str, Any]] = (await admin.get("/api/usage", params={"by": by})).json()["items"]
        return found


async def test_usage_is_asked_by_end_user_team_and_day(hub: OpenHub) -> None:
    async with openai_upstream(Turn("hi")) as upstream:
        yaml = f"models: {{m: {{provider: openai_compatible, base_url: '{upstream.url}', api_key: sk-up-000}}}}\n"
        async with hub(yaml) as running:
            red = await running.services.teams.create("red")
            async with running.http(await running.key("model:*", team="red")) as http:
                chat = {"model": "m", "messages": SAID}
                messages = {"model": "m", "max_tokens": 9, "messages": SAID}
                for path, body in (
                    ("chat/completions", {**chat, "user": "ann"}),
                    ("chat/completions", {**chat, "user": "ann", "stream": True}),
                    ("responses", {"model": "m", "input": "hi", "user": "ann", "store": False}),
                    ("messages", {**messages, "metadata": {"user_id": "bob"}}),
                    ("embeddings", {"model": "m", "input": "hi", "user": "bob"}),
                    ("chat/completions", {**chat, "user": "=1+1"}),
                    ("chat/completions", chat),
                ):
                    answer = await http.post(f"/v1/{path}", json=body)
                    assert answer.status_code == 200, answer.text
            assert {item["end_user"]: item["calls"] for item in await items(running, "end_user")} == {
                None: 1,
                "=1+1": 1,
                "ann": 3,
                "bob": 2,
            }
            assert [(item["team"], item["calls"]) for item in await items(running, "team")] == [(red.id, 7)]
            (day,) = await items(running, "day")
            assert abs((datetime.now(UTC).date() - datetime.fromisoformat(day["day"]).date()).days) <= 1
            async with running.http(ADMIN_KEY) as admin:
                table = await admin.get("/api/usage", params={"by": "end_user", "format": "csv"})
                again = await admin.get("/api/usage", params={"by": "end_user"}, headers={"accept": "text/csv"})
                wrong = await admin.get("/api/usage", params={"by": "end_user", "format": "xml"})
            assert table.headers["content-type"].startswith("text/csv")
            assert table.text == again.text
            assert {row["end_user"]: row["calls"] for row in csv.DictReader(io.StringIO(table.text))} == {
                "": "1",
                "'=1+1": "1",
                "ann": "3",
                "bob": "2",
            }
            assert wrong.status_code == 400


async def test_a_command_says_what_was_used_while_the_hub_runs(hub: OpenHub, tmp_path: Path) -> None:
    async def usage(*arguments: str) -> str:
        arguments = (*arguments, "--config", str(tmp_path / "hub.yaml"))
        done = await asyncio.to_thread(CliRunner().invoke, main, ("usage", *arguments))
        return done.stdout if done.exit_code == 0 else f"{done.exit_code}: {done.stderr}"

    async with openai_upstream(Turn("hi")) as upstream:
        yaml = (
            f"models: {{m: {{provider: openai_compatible, base_url: '{upstream.url}', price: {{input: 1}}}}}}\n"
            "agents: {gone: {url: 'http://127.0.0.1:1/'}}\n"
        )
        (tmp_path / "hub.yaml").write_text(f"hub: {{database: 'sqlite:///{tmp_path}/hubbub.db'}}\n{yaml}")
        async with hub(yaml) as running:
            red = await running.services.teams.create("red")
            async with running.http(await running.key("model:*", "agent:*", team="red")) as http:
                for user in ("ann", "=1+1"):
                    said = {"model": "m", "messages": SAID, "user": user}
                    await http.post("/v1/chat/completions", json=said, headers={"hubbub-session": f"of {user}"})
                await http.get("/a2a/gone/tasks/unknown")
            await running.services.usage.flush()
            by_model = await items(running, "team,model")
            assert [(one["team"], one["model"], one["calls"]) for one in by_model] == [(red.id, "m", 2)]
            assert json.loads(await usage("--by", "team,model", "--json"))["items"] == by_model
            assert {
                one["end_user"]: one["calls"]
                for one in csv.DictReader(io.StringIO(await usage("--by", "end_user,model", "--csv")))
            } == {"ann": "1", "'=1+1": "1"}
            table = await usage("--by", "end_user,session", "--session", "of ann", "--csv")
            found = [(one["end_user"], one["session"], one["calls"]) for one in csv.DictReader(io.StringIO(table))]
            assert found == [("ann", "of ann", "1")]
            assert await usage("--task", "of ann") == "Nothing was used.\n"
            head, row = (await usage("--by", "model")).splitlines()
            assert head.split("  ")[0] == "MODEL"
            assert " ".join(head.split()[1:]) == "CALLS ERRORS INPUT TOKENS OUTPUT TOKENS REASONING TOKENS COST USD"
            assert row.split() == ["m", "2", "0", "18", "8", "2", "0.000018"]
            tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
            assert await usage("--from", tomorrow) == "Nothing was used.\n"
            assert "by: colour is none of key, principal" in await usage("--by", "colour")
            assert "write it like 2030-01-31T00:00:00Z" in await usage("--from", "yesterday")
