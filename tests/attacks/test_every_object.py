"""What one has is not there for another: every route and operation that takes an id, every kind of thing, every principal.

For who may not, the answer for somebody's id is the same to the byte as for one that nobody has, but for the id itself; nothing
goes to an upstream, and the owner's things are as they were. Rows stand in `every_object`; a route or operation without one
fails here. (OWASP MCP Top 10: scope creep, context over-sharing)
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from hub.routes import routes
from registry.identity import ROLES
from tests.attacks import every_object
from tests.attacks.every_object import IT, ROWS, Row
from tests.attacks.test_legacy_mcp import session
from tests.attacks.test_roles import ROUTES
from tests.attacks.test_roles import _is_open_to as is_open_to
from tests.attacks.test_tenants_in_every_speech import Answer, seen
from tests.conftest import ADMIN_KEY, Hub, OpenHub
from tests.peers import mcp_asking
from tests.peers.a2a_agent import sdk_agent
from tests.peers.mcp_follower import Follower
from tests.peers.mcp_tasks import making_tasks
from tests.peers.mcp_waiting import ASKABLE, modern_call, read
from tests.peers.openai_endpoints import Endpoints, openai_endpoints
from tests.peers.openai_upstream import OpenAIUpstream, Turn, openai_upstream

YAML = """
agents:
  hidden: {{url: "{agent}"}}
mcpServers:
  tasks: {{url: "{tasks}"}}
  asking: {{url: "{asking}"}}
models:
  m: {{provider: openai, model: up-1, base_url: "{kept}", api_key: sk-upstream-key-000}}
  chat: {{provider: deepseek, model: up, base_url: "{chat}", api_key: sk-upstream-key-000}}
  hidden: {{provider: offline}}
toolsets:
  secret: {{tools: ["tasks__link"]}}
policy:
  - {{name: first, effect: allow, entries: ["tool:x"]}}
"""
NAMES = {"model": "hidden", "agent": "hidden", "toolset": "secret"}
"""Things that are named rather than made: those that only the owner is granted."""

OF_THE_TEAM = {
    "file",
    "batch",
    "vector store",
    "file batch",
    "upload",
    "response",
    "conversation",
    "item",
    "output",
    "model",
    "container",
}
"""What a teammate reaches too; everything else is one principal's."""

ASKS = {"type": "mcp", "server_label": "t", "server_url": "hub/mcp/tasks", "require_approval": "always"}
SAY = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}


@dataclass
class Owner:
    """Somebody with one thing of each kind."""

    http: httpx.AsyncClient
    things: dict[str, str] = field(default_factory=dict)

    async def post(self, path: str, body: Any, **more: Any) -> Any:
        answer = await self.http.post(path, **({"json": body} if body is not None else {}), **more)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def make_kept(self) -> None:
        """What providers keep."""
        things, form = self.things, {"data": {"purpose": "batch", "model": "m"}}
        line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}}
        file = await self.post("/v1/files", None, files={"file": ("x.jsonl", json.dumps(line).encode())}, **form)
        things["file"] = file["id"]
        asked = {"input_file_id": file["id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
        things["batch"] = (await self.post("/v1/batches", asked))["id"]
        store = things["vector store"] = (await self.post("/v1/vector_stores", {"file_ids": [file["id"]], "model": "m"}))["id"]  # fmt: skip
        files = await self.post(f"/v1/vector_stores/{store}/file_batches", {"file_ids": [file["id"]]})
        things["file batch"] = files["id"]
        upload = {"bytes": 6, "filename": "x", "mime_type": "text/plain", "purpose": "user_data", "model": "m"}
        things["upload"] = (await self.post("/v1/uploads", upload))["id"]
        tool = {"type": "code_interpreter", "container": {"type": "auto"}}
        ran = await self.post("/v1/responses", {"model": "m", "input": "x", "tools": [tool]})
        things["container"] = ran["output"][0]["container_id"]

    async def make_said(self) -> None:
        """What the hub keeps."""
        things = self.things
        made = await self.post("/v1/responses", {"model": "chat", "input": "hi"})
        things["response"], things["output"] = made["id"], made["output"][0]["id"]
        things["conversation"] = (await self.post("/v1/conversations", {"items": [SAY]}))["id"]
        items = (await self.http.get(f"/v1/conversations/{things['conversation']}/items")).json()["data"]
        things["item"] = items[0]["id"]

    async def make_calls(self) -> None:
        """What MCP has: a task, a call that waits for its caller, a session."""
        things = self.things
        things["task"] = (await Follower(self.http).call("tasks__confirm_delete", filename="a.txt"))["taskId"]
        body, given = modern_call("asking__ask", ASKABLE)
        things["call"] = read(await self.http.post("/mcp", json=body, headers=given))["result"]["requestState"]
        things["session"] = (await session(self.http))["mcp-session-id"]

    async def state(self) -> list[Any]:
        """Everything that is there, as its owner sees it."""
        things = self.things
        paths = [
            *("/v1/files", "/v1/batches", "/v1/vector_stores", f"/v1/vector_stores/{things['vector store']}/files"),
            f"/v1/vector_stores/{things['vector store']}/file_batches/{things['file batch']}",
            *(f"/v1/responses/{things['response']}", f"/v1/responses/{things['response']}/input_items"),
            *(f"/v1/conversations/{things['conversation']}{below}" for below in ("", "/items")),
        ]
        shown = [await self.http.get(path) for path in paths]
        assert {answer.status_code for answer in shown} == {200}
        task = await Follower(self.http).get(things["task"])
        pinged = await self.http.post(
            "/mcp",
            json={"jsonrpc": "2.0", "id": 1, "method": "ping"},
            headers={**every_object.IN_SESSION[0].headers, "mcp-session-id": things["session"]},
        )
        return [*(answer.text for answer in shown), task["status"], pinged.json()]


@dataclass
class Scene:
    """A hub, somebody with things, and others with things of their own."""

    hub: Hub
    kept: Endpoints
    chat: OpenAIUpstream
    owner: Owner
    others: dict[str, Owner]

    def heard(self) -> int:
        """What the upstreams were asked so far."""
        return len(self.kept.seen) + len(self.chat.received)


@asynccontextmanager
async def opened(hub: OpenHub) -> AsyncIterator[Scene]:
    waiting = Turn("Look:", calls=(("tasks__greet", "{}"),))
    async with (
        openai_endpoints() as kept,
        openai_upstream(*[Turn("hello")] * 3, waiting) as chat,
        making_tasks() as (tasks, _),
        mcp_asking.asking("legacy") as asking,
        sdk_agent() as agent,
        hub(YAML.format(agent=agent.url, tasks=tasks.url, asking=asking.url, kept=kept.url, chat=chat.url)) as running,
        AsyncExitStack() as stack,
    ):
        for server in ("tasks", "asking"):
            await running.services.sync.refresh(server)
        teams = {alias: (await running.services.teams.create(alias)).id for alias in ("red", "blue")}
        narrow = ("model:m", "model:chat", "tool:tasks__greet", "tool:tasks__confirm_delete", "tool:asking__*")
        people: dict[str, Owner] = {}
        for name, team, allow in (
            ("owner", teams["red"], ("model:*", "tool:*", "agent:*")),
            ("teammate", teams["red"], narrow),
            ("other team", teams["blue"], narrow),
            ("no team", None, narrow),
        ):
            secret = await running.key(*allow, team=team)
            people[name] = Owner(await stack.enter_async_context(running.http(secret)))
        for name in ("owner", "other team", "no team"):
            await people[name].make_kept()
            await people[name].make_said()
        owner = people.pop("owner")
        asked = {"model": "chat", "input": "x", "tools": [ASKS]}
        owner.things["approval"] = (await owner.post("/v1/responses", asked))["output"][-1]["id"]
        await owner.make_calls()
        owner.things |= NAMES
        yield Scene(running, kept, chat, owner, people)


def absent(name: str) -> str:
    """An id of the same form that nobody has."""
    turned = str.maketrans("0123456789abcdefghijklmnopqrstuvwxyzABCDEF", "1234567890bcdefahijklmnopqrstuvwxyzgBCDEFA")
    return name[:-6] + name[-6:].translate(turned)


async def answered(client: Owner, row: Row, name: str) -> Answer:
    """The answer to a row that names `name`, and otherwise things of the asker's own."""
    own = {"file": "file", "batch": "batch", "store": "vector store", "files": "file batch", "upload": "upload"}

    def filled(text: str) -> str:
        text = text.replace(IT, name)
        for place, kind in {**own, "item": "item", "conversation": "conversation"}.items():
            text = text.replace(f"{{{place}}}", client.things.get(kind, "x"))
        return text

    sent: dict[str, Any] = {"headers": {header: filled(value) for header, value in row.headers.items()}}
    if row.form:
        sent["files"] = {row.form: ("x", b"abc")}
    elif row.body is not None:
        sent["content"] = filled(json.dumps(row.body))
        sent["headers"] = {"content-type": "application/json", **sent["headers"]}
    found = seen(await client.http.request(row.method, filled(row.path), **sent), name)
    body = found.body
    for part in re.findall("[0-9a-f]{32}", name):  # an item's id says whose item it is
        body = body.replace(part, "*" * len(part))
    return found._replace(body=body)


@pytest.mark.attack("2.1/13", "2.1/15", "2.2/15", "2.2/19", "2.2/27", "2.2/28")
async def test_what_somebody_has_is_not_there_for_others_by_any_route(hub: OpenHub) -> None:
    async with opened(hub) as scene:
        before, heard = await scene.owner.state(), scene.heard()
        wrong = []
        for row in ROWS:
            real = scene.owner.things[row.kind]
            for who, client in scene.others.items():
                if who == "teammate" and row.kind in OF_THE_TEAM:
                    continue
                answers = [await answered(client, row, name) for name in (real, absent(real))]
                if answers[0] != answers[1] or scene.heard() != heard or answers[0].status == 500:
                    wrong.append((str(row), who, answers))
                heard = scene.heard()
        assert not wrong, "\n".join(map(str, wrong))
        assert await scene.owner.state() == before
        same = []
        for row in sorted(ROWS, key=destroys):  # or what is refused for another reason was compared
            if (row.method, row.path) in UNLIKE:
                continue
            real = scene.owner.things[row.kind]
            answers = [await answered(scene.owner, row, name) for name in (real, absent(real))]
            if answers[0] == answers[1]:
                same.append((str(row), answers[0]))
        assert not same, "\n".join(map(str, same))


UNLIKE = {
    ("GET", "/mcp"): "its stream has no end",
    ("DELETE", "/v1/vector_stores/{store}/files/{it}"): "the row before ended it",
    ("DELETE", "/v1/conversations/{conversation}/items/{it}"): "the row before ended it",
}
"""Rows that the owner does not try."""


def destroys(row: Row) -> tuple[bool, int]:
    """What ends a thing comes after what looks at it, and parts before what they are in."""
    ends = row.method == "DELETE" or row.path.endswith(("/cancel", "/complete")) or "cancel" in str(row.body)
    return ends, -row.path.count("/")


async def test_each_route_and_operation_that_takes_an_id_has_a_row(hub: OpenHub) -> None:
    async with hub("models: {m: {provider: offline}}\n") as running, routes(running.services, asyncio.Event()) as table:
        served = {*table.exact, *(prefix for prefix, _ in table.prefixes)}
    assert every_object.lacking(served) == set()
    assert every_object.operations_without_a_row() == set()


COLLECTIONS = ("keys", "users", "teams", "agents", "mcp-servers", "models", "toolsets")
MEMBERS = {
    "keys": {"allow": []},
    "agents": {"url": "http://127.0.0.1:9"},
    "mcp-servers": {"url": "http://127.0.0.1:9/mcp"},
    "models": {"provider": "offline"},
    "toolsets": {"tools": ["x__*"]},
}


@asynccontextmanager
async def administered(hub: OpenHub) -> AsyncIterator[tuple[httpx.AsyncClient, dict[str, httpx.AsyncClient], Hub]]:
    """The operator's client with one thing of a team's in each collection, and others' by `{team}-{role}` or `clerk-{grant}`."""
    async with hub() as running, AsyncExitStack() as stack:
        operator = await stack.enter_async_context(running.http(ADMIN_KEY))
        clients: dict[str, httpx.AsyncClient] = {}
        for team in ("red", "blue"):
            await running.services.teams.create(team)
            for role in ROLES:
                name = f"{team}-{role}"
                await running.services.users.create(name)
                await running.services.teams.put_member(team, name, role)
                secret = await running.key("admin:roles", user=name, team=team)
                clients[name] = await stack.enter_async_context(running.http(secret))
        calling = await running.key("model:*", user="red-admin", team="red")
        clients["red-calling"] = await stack.enter_async_context(running.http(calling))
        for grant in ("keys", "audit"):
            clients[f"clerk-{grant}"] = await stack.enter_async_context(
                running.http(await running.key(f"admin:{grant}"))
            )
        for collection in COLLECTIONS:
            naming = {
                "alias" if collection == "teams" else "name": f"hidden-{collection}",
                **MEMBERS.get(collection, {}),
            }
            made = await operator.post(f"/api/{collection}", json=naming)
            assert made.status_code == 201, made.text
        member = await operator.put("/api/teams/hidden-teams/members/hidden-users", json={"role": "member"})
        rule = {"name": "x", "effect": "deny", "entries": ["tool:x"]}
        put = await operator.put("/api/policy", json={"rules": [rule]})
        assert (member.status_code, put.status_code) == (200, 200)
        yield operator, clients, running


def named(template: str, word: str) -> str:
    """A path of the API with things that are there, or that are not, both names of one length."""
    kinds = {"{team}": "teams", "{user}": "users", "{name}": template.split("/")[2]}
    for place, kind in kinds.items():
        template = template.replace(place, f"{word}-{kind}")
    number = "1" if word == "hidden" else "9"
    return template.replace("{number}", number).replace("{letter}", number)


async def settled(operator: httpx.AsyncClient, path: str) -> str:
    """What is there, without when keys were used last."""
    return re.sub(r'"last_used_at":("[^"]*"|null)', "", (await operator.get(path)).text)


async def administers(client: httpx.AsyncClient, method: str, path: str, body: Any) -> Answer:
    """The answer without what was named."""
    answer = seen(await client.request(method, path, **({} if body is None else {"json": body})), "")
    said = answer.body.replace("hidden-", "absent-").replace("/1", "/9").replace("'1'", "'9'")
    return answer._replace(body=said)


@pytest.mark.attack("2.1/13", "2.2/7", "2.2/27")
async def test_what_is_administered_is_not_there_for_others_by_any_route_of_the_api(hub: OpenHub) -> None:
    async with administered(hub) as (operator, clients, _):
        described = (await operator.get("/openapi.json")).json()["paths"]
        rows = {
            (method.upper(), path.replace(":path", "")) for path, methods in described.items() for method in methods
        }
        assert rows == set(ROUTES)
        shown = [f"/api/{kind}" for kind in (*COLLECTIONS, "policy", "teams/hidden-teams/members")]
        before = [await settled(operator, path) for path in shown]
        wrong = []
        for (method, template), (grant, role) in sorted(ROUTES.items()):
            if "{" not in template:
                continue
            body = {"PUT": {"role": "admin"}, "PATCH": {"disabled": True}, "POST": {}}.get(method)
            for who, client in clients.items():
                if who.startswith("clerk-") and is_open_to(who, grant, role):
                    continue
                answers = [
                    await administers(client, method, named(template, word), body) for word in ("hidden", "absent")
                ]
                if answers[0] != answers[1] or answers[0].status not in {400, 404}:
                    wrong.append((who, method, template, answers))
        assert not wrong, "\n".join(map(str, wrong))
        assert [await settled(operator, path) for path in shown] == before
