"""The callback door, called by the official SDK's own sender and by hand; and the dead letters in the admin API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.server.context import ServerCallContext
from a2a.server.tasks import BasePushNotificationSender, InMemoryPushNotificationConfigStore
from a2a.types import TaskPushNotificationConfig, TaskState, TaskStatus, TaskStatusUpdateEvent
from google.protobuf.json_format import ParseDict

from agents.push_callback import PATH
from hub import errors
from hub.app import PROBLEM, App, Door, House, Routes
from hub.auth import Authenticator
from hub.doors.push import PushDoor
from hub.hosts import Hosts
from hub.http_exchange import Limits
from hub.serve import server
from registry.auditing.audit import Audit
from registry.callers.keys import Keys
from registry.gate import Gate
from registry.registry import Registry
from registry.sealed.secrets import Sealer
from tests.conftest import ADMIN_KEY, Embedded, OpenHub, free_socket, run
from tests.peers.webhook import AGENT, SEALING_KEY, Pushing, pushing, status

YAML = f"agents:\n  {AGENT.name}: {{url: '{AGENT.url}'}}\n"


@dataclass
class Called:
    """A hub with nothing but the callback door, and one configuration that an agent may call for."""

    hub: Pushing
    http: httpx.AsyncClient
    config: dict[str, Any]
    """What the agent was told."""

    @property
    def path(self) -> str:
        return str(self.config["url"]).removeprefix("https://hub.example")

    async def post(self, path: str | None = None, **options: Any) -> httpx.Response:
        members = {"json": status("WORKING"), "headers": {"x-a2a-notification-token": self.config["token"]}}
        return await self.http.post(path or self.path, **{**members, **options})


@asynccontextmanager
async def front(hub: Pushing) -> AsyncIterator[str]:
    """Serve the door alone."""
    registry = Registry(hub.database, Sealer([SEALING_KEY]), hub.keys)
    await registry.put("agent", AGENT.name, {"url": "https://agents.example/research"}, trusted=True)
    door = Door(PushDoor(hub.callbacks, registry=registry), errors.problem, "a2a", lambda _: True, PROBLEM)

    @asynccontextmanager
    async def opener() -> AsyncIterator[House]:
        yield House(
            routes=Routes(exact={}, prefixes=((PATH, door),)),
            authenticator=Authenticator(Keys(hub.database)),
            hosts=Hosts("http://127.0.0.1", bound_to="127.0.0.1"),
            limits=Limits(body_bytes=64 * 1024),
            audit=Audit(hub.database),
            gate=Gate(lambda _settled: None),
        )

    sock = free_socket()
    port = sock.getsockname()[1]
    async with run(Embedded(server(App(opener), host="127.0.0.1", port=port, drain_s=2).config), sock):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
async def called(tmp_path: Path) -> AsyncIterator[Called]:
    async with pushing(tmp_path) as hub, front(hub) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        rita = await hub.principal("rita")
        await hub.task(rita)
        await hub.create(rita, "http://127.0.0.1:9/")
        yield Called(hub, http, await hub.callbacks.callback(rita, AGENT, "t1", "t1"))


async def test_the_official_sdks_agent_tells_the_hub(called: Called) -> None:
    store = InMemoryPushNotificationConfigStore()
    config = {**called.config, "url": str(called.http.base_url.join(called.path))}
    await store.set_info("t1", ParseDict(config, TaskPushNotificationConfig()), ServerCallContext())
    update = TaskStatusUpdateEvent(
        task_id="t1", context_id="c1", status=TaskStatus(state=TaskState.TASK_STATE_COMPLETED)
    )
    await BasePushNotificationSender(called.http, store).send_notification("t1", update)
    [(agent, task_id, event)] = called.hub.events
    assert (agent, task_id) == (AGENT.name, "t1")
    assert event["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "task", "id": "t1", "contextId": "c1", "status": {"state": "completed"}},
        {"id": "t1", "contextId": "c1", "status": {"state": "TASK_STATE_COMPLETED"}},
        {"task": {"id": "t1", "contextId": "c1", "status": {"state": "TASK_STATE_COMPLETED"}}},
    ],
    ids=["0.3", "bare", "1.0"],
)
async def test_a_task_of_either_version_is_taken(called: Called, body: dict[str, Any]) -> None:
    answer = await called.post(json=body)
    assert (answer.status_code, answer.json()) == (202, {})
    [(_, _, event)] = called.hub.events
    assert event["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_the_secret_may_come_as_bearer_or_as_token(called: Called) -> None:
    secret = called.config["token"]
    assert called.config["authentication"] == {"scheme": "Bearer", "credentials": secret}
    for headers in ({"authorization": f"Bearer {secret}"}, {"x-a2a-notification-token": secret}):
        assert (await called.post(headers=headers)).status_code == 202


async def test_what_came_is_passed_on_to_the_clients_receiver_only_by_the_one_who_handles_events(
    called: Called,
) -> None:
    await called.post()
    assert await called.hub.count("push_outbox") == 0
    assert len(called.hub.events) == 1


@pytest.mark.attack("2.1/39")
async def test_everything_that_is_wrong_is_answered_like_an_unknown_address(called: Called) -> None:
    other = {"statusUpdate": {**status("WORKING")["statusUpdate"], "taskId": "t2"}}
    headers = {"x-a2a-notification-token": called.config["token"]}
    answers = [
        await called.post(f"{PATH}{'0' * 32}"),
        await called.post(f"{PATH}x"),
        await called.post(PATH),
        await called.post(f"{called.path}/more"),
        await called.post(headers={}),
        await called.post(headers={"authorization": "Bearer"}),
        await called.post(headers={"x-a2a-notification-token": "wrong"}),
        await called.post(headers={"authorization": f"Bearer {ADMIN_KEY}"}),
        await called.post(json=other),
        await called.post(json={"kind": "nothing"}),
        await called.post(json=[1]),
        await called.post(json=None, content=b"{", headers=headers),
        await called.post(json=None, content=b"[" * 100_000, headers=headers),
        await called.post(json=None, content=b'{"a":"\xff"}', headers=headers),
        await called.post(json=None, content=b"a=1", headers={**headers, "content-type": "text/plain"}),
        await called.http.get(called.path, headers=headers),
        await called.http.put(called.path, headers=headers, json=status("WORKING")),
    ]
    seen = set()
    for answer in answers:
        body = answer.json()
        assert body.pop("requestId")
        assert body.pop("detail").startswith("No path '/a2a/_push/")
        seen.add((answer.status_code, answer.headers["content-type"], str(body)))
    assert len(seen) == 1
    assert answers[0].status_code == 404
    assert called.hub.events == []


@pytest.mark.attack("2.1/39")
async def test_a_body_is_not_read_of_who_does_not_know_the_secret(called: Called) -> None:
    base = called.http.base_url
    reader, writer = await asyncio.open_connection(base.host, base.port)
    head = f"POST {called.path} HTTP/1.1\r\nhost: {base.host}\r\ncontent-length: 60000\r\n\r\n"
    writer.write(head.encode() + b"{")
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 404")
    writer.close()


async def test_an_address_given_out_anew_makes_the_one_before_void(called: Called) -> None:
    [receiver] = called.hub.configs.of_task(AGENT.name, "t1")
    again = await called.hub.callbacks.callback(receiver.owner, AGENT, "t1", "t1")
    assert (await called.post()).status_code == 404
    called.config = again
    assert (await called.post()).status_code == 202


async def test_an_address_made_before_its_task_is_good_once_the_configuration_is_stored(called: Called) -> None:
    given = called.hub.callbacks.new()
    called.config = given.config
    assert (await called.post()).status_code == 404
    [receiver] = called.hub.configs.of_task(AGENT.name, "t1")
    config = {"url": "http://127.0.0.1:9/"}
    await called.hub.push.create(receiver.owner, AGENT, "t1", config, version="1.0", callback=given.kept)
    assert (await called.post()).status_code == 202


async def test_an_address_of_a_deleted_configuration_or_agent_is_unknown(called: Called) -> None:
    [receiver] = called.hub.configs.of_task(AGENT.name, "t1")
    await called.hub.push.delete(receiver.owner, AGENT, "t1", "t1")
    assert (await called.post()).status_code == 404


# -- dead letters


async def test_dead_letters_are_listed_page_by_page_and_replayed(hub: OpenHub, tmp_path: Path) -> None:
    async with hub(YAML) as running, running.http(ADMIN_KEY) as admin:
        async with pushing(tmp_path, name="hubbub.db") as parts:
            rita = await parts.principal("rita")
            await parts.task(rita)
            await parts.create(rita, "http://127.0.0.1:9/secret-path")
            await parts.notify("SUBMITTED", "WORKING", "COMPLETED")
            [head] = await parts.outbox.heads(parts.clock.now)
            await parts.outbox.stop(head.config, "why", parts.clock.now)
        first = (await admin.get("/api/push/dead-letters?limit=2")).json()
        rest = (await admin.get(f"/api/push/dead-letters?after={first['next']}")).json()
        assert [len(first["items"]), len(rest["items"]), rest["next"]] == [2, 1, None]
        letter = first["items"][0]
        assert (letter["agent"], letter["task_id"], letter["config_id"]) == (AGENT.name, "t1", "t1")
        assert (letter["owner"], letter["reason"]) == (rita, "why")
        assert "secret-path" not in str(first)
        path = f"/api/push/dead-letters/{letter['id']}/replay"
        assert (await admin.post(path)).json() == {"replayed": 1}
        assert (await admin.post(path)).status_code == 404
        assert (await admin.post("/api/push/dead-letters/replay")).json() == {"replayed": 2}
        assert (await admin.get("/api/push/dead-letters")).json() == {"items": [], "next": None}


async def test_dead_letters_without_their_grant_look_like_no_path(hub: OpenHub) -> None:
    async with hub() as running:
        async with running.http(await running.key("agent:*", "admin:usage")) as caller:
            forbidden = await caller.get("/api/push/dead-letters")
            replayed = await caller.post("/api/push/dead-letters/replay")
        async with running.http(await running.key("admin:agents")) as clerk:
            assert (await clerk.get("/api/push/dead-letters")).status_code == 200
            assert (await clerk.post("/api/push/dead-letters/99999999999999999999/replay")).status_code == 400
    assert forbidden.status_code == replayed.status_code == 404
