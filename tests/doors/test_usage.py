"""Usage by team, end user and day, as JSON and as a table."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

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
