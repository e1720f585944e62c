"""What the hub writes down of somebody changes nothing for others: usage, dead letters, accounts at servers.

These are not named by ids of their owners' own. So each principal asks by every way there is before somebody has them and after,
and gets the same, to the byte; who may see them sees them. (OWASP MCP Top 10: scope creep, context over-sharing)
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx

from registry.gate import Settled
from registry.identity import ROLES
from registry.spending.usage import DIMENSIONS, KINDS
from tests.attacks.every_object import _asked as asked
from tests.attacks.test_every_object import Owner, administered, answered
from tests.conftest import OpenHub
from tests.doors.test_connect import connect, crm
from tests.peers.webhook import pushing

LETTERS = "/api/push/dead-letters"


USAGE = f"/api/usage?by={','.join(DIMENSIONS.keys() - KINDS)}"
WAYS = [
    *(("GET", path) for path in ("/api/usage", "/api/usage?by=", "/api/usage?by=model", USAGE, f"{USAGE}&format=csv")),
    *(("GET", f"/api/usage?{which}") for which in ("session=talk", "task=task_1")),
    *(("GET", LETTERS), ("POST", f"{LETTERS}/1/replay"), ("POST", f"{LETTERS}/replay")),
]


async def test_what_somebody_used_and_could_not_be_told_changes_no_answer_to_others(
    hub: OpenHub, tmp_path: Path
) -> None:
    async with administered(hub) as (operator, clients, running):

        async def tried() -> dict[tuple[str, str], tuple[int, str]]:
            found = {}
            for who, client in clients.items():
                for method, path in WAYS:
                    answer = await client.request(method, path)
                    said = answer.text.replace(answer.headers["x-request-id"], "REQUEST")
                    found[who, path] = answer.status_code, said
            return found

        before = await tried()
        red = (await operator.get("/api/teams/red")).json()["id"]
        used = Settled(
            1.0, "key_1", "hidden", "model", "hidden", "ok", 1.0, "", red, "user_1", "somebody", "talk", "task_1"
        )
        running.services.usage.record(used)
        async with pushing(tmp_path, name="hubbub.db") as parts:
            rita = await parts.principal("rita")
            await parts.task(rita)
            await parts.create(rita, "http://127.0.0.1:9/")
            await parts.notify("SUBMITTED")
            [head] = await parts.outbox.heads(parts.clock.now)
            await parts.outbox.stop(head.config, "why", parts.clock.now)
        after = await tried()
        assert {who for who, path in before if before[who, path] != after[who, path]} == {
            f"red-{role}" for role in ROLES
        }
        assert {status for (_, path), (status, _) in after.items() if path.startswith(LETTERS)} == {404}
        [letter] = (await operator.get(LETTERS)).json()["items"]
        assert letter["owner"] == rita
        assert (await operator.get("/api/usage?by=model")).json()["items"][0]["calls"] == 1


ROWS = [
    asked("account", path, method, header, **params)
    for path, tool in (("/mcp", "crm__whoami"), ("/mcp/crm", "whoami"))
    for method, header, params in (
        ("tools/list", "", {}),
        ("tools/call", tool, {"name": tool, "arguments": {}}),
        ("tools/call", tool.replace("whoami", "connect_account"), {"name": tool.replace("whoami", "connect_account")}),
        ("resources/list", "", {}),
        ("prompts/list", "", {}),
    )
]


async def test_an_account_that_somebody_has_at_a_server_is_not_there_for_others(tmp_path: Path) -> None:
    async with crm(tmp_path) as (hub, peer, issuer):
        await hub.listed("crm__connect_account")
        for team in ("red", "blue"):
            await hub.services.teams.create(team)
        keys = {
            who: await hub.key("tool:*", "resource:*", "prompt:*", team=team)
            for who, team in (("owner", "red"), ("teammate", "red"), ("other team", "blue"), ("no team", None))
        }

        async def tried(who: str) -> list[Any]:
            async with httpx.AsyncClient(
                base_url=hub.url, headers={"authorization": f"Bearer {keys[who]}"}, trust_env=False, timeout=30
            ) as http:
                found = [await answered(Owner(http), row, "nobody's") for row in ROWS]
            return [(one.status, re.sub(r"/connect/[\w-]+|req_\w+", "HIDDEN", one.body)) for one in found]

        before = {who: await tried(who) for who in keys}
        issuer.provider.user = "ann"
        await connect(hub, keys["owner"])
        after = {who: await tried(who) for who in keys}
        assert [call["user"] for _, call in peer.calls] == ["ann"] * 2, "only the owner's calls went there"
        assert {who for who in keys if before[who] != after[who]} == {"owner"}
