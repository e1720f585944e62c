"""Push notifications on a real database, to a real receiver: what arrives, in which order, and when it is given up."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agents import push_delivery
from agents.push_delivery import AT_ONCE_EACH, GIVE_UP_S, Answer, Buried, Postponed, judge, seconds_until
from registry.errors import InvalidParams, NotFound
from registry.ledger import outbox as outbox_module
from registry.ledger.outbox import LEASE_S, OVERFLOW, Due, replay
from registry.ledger.push import Destination, PushConfigs
from registry.sealed.secrets import Sealer
from tests.peers.http_peer import listening, never
from tests.peers.webhook import AGENT, SEALING_KEY, Notice, Pushing, pushing, verified, webhook


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Pushing]:
    async with pushing(tmp_path) as opened:
        yield opened


@pytest.fixture
async def rita(hub: Pushing) -> str:
    owner = await hub.principal("rita")
    await hub.task(owner)
    return owner


def origin(url: str) -> str:
    return f"http://{urlsplit(url).netloc}"


def states(notices: list[Notice]) -> list[str]:
    return [one.json["statusUpdate"]["status"]["state"].removeprefix("TASK_STATE_") for one in notices]


async def test_an_event_arrives_as_a_stream_response_that_the_hub_signed(hub: Pushing, rita: str) -> None:
    async with webhook() as hook, hub.running():
        await hub.create(rita, hook.url)
        await hub.notify("WORKING")
        [notice] = await hook.wait(1)
    assert notice.headers["content-type"] == "application/a2a+json"
    assert states([notice]) == ["WORKING"]
    assert "a2a-hub-signature" not in notice.headers
    scheme, _, token = notice.headers["authorization"].partition(" ")
    claims = verified(token, origin(hook.url))
    assert scheme == "Bearer"
    assert claims["taskId"] == "t1"
    assert claims["sha256"] == hashlib.sha256(notice.body).hexdigest()
    assert claims["exp"] - claims["iat"] == 300


async def test_the_clients_own_credentials_and_token_are_shown_and_the_signature_beside_them(
    hub: Pushing, rita: str
) -> None:
    async with webhook() as hook, hub.running():
        config = {"token": "tok-1", "authentication": {"scheme": "Basic", "credentials": "cml0YQ=="}}
        await hub.create(rita, hook.url, **config)
        await hub.notify("WORKING")
        [notice] = await hook.wait(1)
    assert notice.headers["authorization"] == "Basic cml0YQ=="
    assert notice.headers["x-a2a-notification-token"] == "tok-1"
    assert verified(notice.headers["a2a-hub-signature"], origin(hook.url))["taskId"] == "t1"


async def test_a_receiver_of_0_3_gets_the_task_in_its_own_form(hub: Pushing, rita: str) -> None:
    task = {
        "id": "t1",
        "contextId": "c1",
        "status": {"state": "TASK_STATE_INPUT_REQUIRED"},
        "artifacts": [{"artifactId": "a", "parts": [{"text": "x"}]}],
    }
    update = {"artifactUpdate": {"taskId": "t1", "contextId": "c1", "artifact": task["artifacts"][0]}}
    async with webhook() as hook, hub.running():
        await hub.create(rita, hook.url, version="0.3")
        assert hub.push.versions(AGENT.name, "t1") == {"0.3"}
        await hub.push.notify(AGENT.name, "t1", update, task=task)
        await hub.notify("COMPLETED")
        first, last = await hook.wait(2)
    assert first.headers["content-type"] == "application/json"
    assert first.json["kind"] == "task"
    assert first.json["status"]["state"] == "input-required"
    assert first.json["artifacts"][0]["parts"] == [{"kind": "text", "text": "x"}]
    assert (last.json["id"], last.json["status"]["state"]) == ("t1", "completed")


async def test_an_event_arrives_after_three_failures_and_the_later_ones_after_it(hub: Pushing, rita: str) -> None:
    async with webhook(500, 302, 503) as hook, hub.running():
        await hub.create(rita, hook.url)
        await hub.notify("SUBMITTED", "WORKING", "COMPLETED")
        for attempt, wait in enumerate((1.3, 6.1, 36.1), 1):
            await hook.wait(attempt)
            await hub.later(wait)
        came = await hook.wait(6)
    assert states(came) == ["SUBMITTED"] * 4 + ["WORKING", "COMPLETED"]
    tokens = [one.headers["authorization"].split()[1] for one in came[:5]]
    ids = [verified(token, origin(hook.url), leeway_s=60)["jti"] for token in tokens]
    assert len(set(ids[:4])) == 1  # by which a receiver knows a repetition
    assert ids[4] != ids[0]
    assert await hub.count("push_outbox") == 0


async def test_nothing_is_tried_again_before_its_time(hub: Pushing, rita: str) -> None:
    async with webhook((503, {"retry-after": "7"})) as hook, hub.running():
        await hub.create(rita, hook.url)
        await hub.notify("WORKING")
        await hook.wait(1)
        await hub.settled()
        assert await hub.outbox.heads(hub.clock.now + 6.9) == []
        await hub.later(7.1)
        assert len(await hook.wait(2)) == 2


async def test_what_is_pending_is_delivered_in_order_after_a_restart(tmp_path: Path) -> None:
    async with webhook(500) as hook:
        async with pushing(tmp_path) as before:
            rita = await before.principal("rita")
            await before.task(rita)
            await before.create(rita, hook.url)
            async with before.running():
                await before.notify("SUBMITTED")
                await hook.wait(1)
                await before.settled()
                await before.notify("WORKING")
            await before.notify("COMPLETED")  # written, and the process dies before anything is sent
        async with pushing(tmp_path) as after:
            after.clock.now += 2
            async with after.running():
                assert states(await hook.wait(4)) == ["SUBMITTED", "SUBMITTED", "WORKING", "COMPLETED"]
                await after.settled()
                assert await after.count("push_outbox") == 0
                await after.notify("FAILED")
                assert states(await hook.wait(5))[-1] == "FAILED"


async def test_what_a_killed_process_was_sending_is_sent_again_once_its_lease_ended(tmp_path: Path) -> None:
    async with webhook() as hook, pushing(tmp_path) as hub:
        rita = await hub.principal("rita")
        await hub.task(rita)
        await hub.create(rita, hook.url)
        await hub.notify("WORKING")
        [head] = await hub.outbox.heads(hub.clock.now)
        assert await hub.outbox.take(head.config, hub.clock.now) is not None  # and killed
        assert await hub.outbox.take(head.config, hub.clock.now) is None  # another process leaves it alone
        async with hub.running():
            await hub.later(LEASE_S + 1)
            assert states(await hook.wait(1)) == ["WORKING"]


@pytest.mark.parametrize("while_", ["it is taken", "it is sent"])
async def test_what_a_hub_sends_while_it_stops_is_sent_by_the_next_at_once(
    hub: Pushing, rita: str, while_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease is for those that die: who stops gives back, even what it was about to take."""
    stopping = asyncio.Event()
    take, attempt = hub.outbox.take, hub.courier._attempt

    async def taking(config: int, now: float) -> Due | None:
        if while_ == "it is taken":
            asyncio.get_running_loop().call_soon(stopping.set)
        return await take(config, now)

    async def attempting(due: Due) -> Answer:
        answer = await attempt(due)
        stopping.set()  # it has arrived, and nobody knows yet
        await asyncio.Event().wait()
        return answer

    async with webhook() as hook:
        await hub.create(rita, hook.url)
        await hub.notify("WORKING")
        monkeypatch.setattr(hub.outbox, "take", taking)
        monkeypatch.setattr(hub.courier, "_attempt", attempting)
        async with hub.running():
            await stopping.wait()
        monkeypatch.undo()
        [head] = await hub.outbox.heads(hub.clock.now)
        assert await hub.outbox.take(head.config, hub.clock.now) is not None


async def test_a_receiver_that_is_gone_gets_nothing_more_until_a_replay(hub: Pushing, rita: str) -> None:
    async with webhook(410) as hook, hub.running():
        await hub.create(rita, hook.url)
        await hub.notify("SUBMITTED", "WORKING")
        await hook.wait(1)
        await hub.settled()
        await hub.notify("COMPLETED")
        await hub.settled()
        dead = await hub.dead()
        assert [letter.reason for letter in dead] == ["the receiver is gone (HTTP 410)"] * 3
        assert len(hook.came) == 1
        assert await hub.database.write(lambda session: replay(session, hub.clock.now)) == 3
        await hub.later(0)
        assert states((await hook.wait(4))[1:]) == ["SUBMITTED", "WORKING", "COMPLETED"]
        await hub.notify("FAILED")
        assert states(await hook.wait(5))[-1] == "FAILED"
    assert await hub.dead() == []


async def test_a_receiver_that_answers_404_three_times_on_end_is_given_up(hub: Pushing, rita: str) -> None:
    async with webhook(404, 500, 404, 404, 404) as hook, hub.running():
        await hub.create(rita, hook.url)
        await hub.notify("WORKING")
        for attempt in range(1, 5):
            await hook.wait(attempt)
            await hub.later(800)
        await hook.wait(5)
        await hub.settled()
        [letter] = await hub.dead()
        assert "404" in letter.reason
        await hub.later(800)
        assert await hub.outbox.heads(hub.clock.now) == []


async def test_one_dead_letter_can_be_replayed_alone(hub: Pushing, rita: str) -> None:
    async with webhook() as hook:
        await hub.create(rita, hook.url)
        await hub.notify("SUBMITTED", "WORKING")
        [head] = await hub.outbox.heads(hub.clock.now)
        await hub.outbox.stop(head.config, "test", hub.clock.now)
        first, second = await hub.dead()
        assert await hub.database.write(lambda session: replay(session, hub.clock.now, only=second.id)) == 1
        async with hub.running():
            assert states(await hook.wait(1)) == ["WORKING"]
            await hub.settled()
        assert [letter.id for letter in await hub.dead()] == [first.id]
        assert await hub.database.write(lambda session: replay(session, hub.clock.now, only=9999)) == 0


async def test_of_too_many_that_wait_the_oldest_are_given_up(
    hub: Pushing, rita: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "MAX_PENDING", 2)
    await hub.create(rita, "http://127.0.0.1:9/")
    await hub.create(rita, "http://127.0.0.1:9/", id="other")
    await hub.notify("SUBMITTED", "WORKING", "COMPLETED")
    dead = await hub.dead()
    assert [(letter.config_id, letter.reason) for letter in dead] == [("t1", OVERFLOW), ("other", OVERFLOW)]
    monkeypatch.setattr(outbox_module, "MAX_ALL", 1)
    await hub.outbox.trim(hub.clock.now)
    assert len(await hub.dead()) == 5
    monkeypatch.setattr(outbox_module, "MAX_DEAD_BYTES", dead[-1].size + 1)
    await hub.outbox.trim(hub.clock.now)
    assert len(await hub.dead()) == 1
    assert await hub.count("push_outbox") == 2


async def test_too_many_bytes_are_too_many(hub: Pushing, rita: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "MAX_PENDING_BYTES", 300)
    await hub.create(rita, "http://127.0.0.1:9/")
    await hub.notify("SUBMITTED", "WORKING", "COMPLETED", "FAILED")
    waiting = await hub.count("push_outbox WHERE reason IS NULL")
    assert (waiting, len(await hub.dead())) == (3, 1)


@pytest.mark.attack("2.1/39")
async def test_who_may_no_longer_call_the_agent_hears_no_more_of_it(hub: Pushing) -> None:
    for task_id, name in (("t1", "revoked"), ("t2", "narrowed"), ("t3", "expired")):
        owner = await hub.principal(name)
        await hub.task(owner, task_id)
        await hub.create(owner, "http://127.0.0.1:9/", task_id)
    await hub.keys.revoke("revoked")
    await hub.keys.update("narrowed", grants='["agent:other"]')
    await hub.keys.update("expired", expires_at=hub.clock.now - 1)
    for task_id in ("t1", "t2", "t3"):
        await hub.notify("WORKING", task_id=task_id)
        for head in await hub.outbox.heads(hub.clock.now):
            assert await hub.outbox.take(head.config, hub.clock.now) is None
    reasons = {letter.task_id: letter.reason for letter in await hub.dead()}
    assert reasons == {
        "t1": "the key that asked for it is revoked or has expired",
        "t2": "the key that asked for it may not call the agent any more",
        "t3": "the key that asked for it is revoked or has expired",
    }


async def test_slow_receivers_of_one_owner_leave_room_for_anothers(hub: Pushing, rita: str) -> None:
    other = await hub.principal("otto")
    await hub.task(other, "t2")
    async with listening(never()) as slow, webhook() as hook, hub.running():
        for number in range(AT_ONCE_EACH + 4):
            await hub.create(rita, slow.url, id=str(number))
        await hub.create(other, hook.url, "t2")
        await hub.notify("WORKING")
        await hub.notify("WORKING", task_id="t2")
        assert len(await hook.wait(1)) == 1
        assert len(hub.courier._running) <= AT_ONCE_EACH + 1


async def test_a_receiver_with_much_to_get_takes_turns(
    hub: Pushing, rita: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_delivery, "TURN", 1)
    monkeypatch.setattr(push_delivery, "AT_ONCE", 1)
    async with webhook() as hook, webhook() as other:
        await hub.create(rita, hook.url, id="a")
        await hub.create(rita, other.url, id="b")
        await hub.notify("SUBMITTED", "WORKING", "COMPLETED")
        async with hub.running():
            assert states(await hook.wait(3)) == states(await other.wait(3)) == ["SUBMITTED", "WORKING", "COMPLETED"]


async def test_a_task_without_receivers_costs_no_row(hub: Pushing) -> None:
    await hub.notify("WORKING")
    assert hub.push.versions(AGENT.name, "t1") == frozenset()
    assert await hub.count("push_outbox") == 0


# -- configurations


async def test_a_configuration_comes_back_without_its_secrets(hub: Pushing, rita: str) -> None:
    config = {"id": "c", "token": "tok-secret", "authentication": {"scheme": "Bearer", "credentials": "cred-secret"}}
    made = await hub.create(rita, "http://127.0.0.1:9/hook", **config)
    assert made == {
        "id": "c",
        "taskId": "t1",
        "url": "http://127.0.0.1:9/hook",
        "authentication": {"scheme": "Bearer"},
    }
    assert await hub.push.get(rita, AGENT, "t1", "c") == made
    assert await hub.push.list(rita, AGENT, "t1") == {"configs": [made], "nextPageToken": ""}


@pytest.mark.attack("2.1/20", "2.1/21")
async def test_no_secret_of_a_configuration_stands_in_the_database_or_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = ("tok-secret", "cred-secret", "url-secret")
    async with webhook(500, 410) as hook, pushing(tmp_path) as hub:
        rita = await hub.principal("rita")
        await hub.task(rita)
        authentication = {"scheme": "Bearer", "credentials": secrets[1]}
        await hub.create(rita, f"{hook.url}?key={secrets[2]}", token=secrets[0], authentication=authentication)
        async with hub.running():
            await hub.notify("WORKING")
            await hook.wait(1)
            await hub.later(2)
            await hook.wait(2)
            await hub.settled()
        assert await hub.dead()
        [(receiver, destination)] = await hub.configs.of_owner(rita, AGENT.name, "t1")
        said = [
            str(vars(record)) for record in caplog.records if not record.name.startswith("uvicorn")
        ]  # the receiver's
        written = "".join((*said, repr(receiver), repr(destination)))
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert all(secret not in written and secret.encode() not in kept for secret in secrets)


async def test_a_configuration_of_the_same_id_takes_the_place_of_the_first_and_gets_what_waits(
    hub: Pushing, rita: str
) -> None:
    async with webhook() as hook:
        await hub.create(rita, "http://127.0.0.1:9/")
        await hub.notify("SUBMITTED")
        await hub.create(rita, hook.url, id="t1")  # the id that one without an id has
        async with hub.running():
            assert states(await hook.wait(1)) == ["SUBMITTED"]
            await hub.notify("WORKING")
            assert states(await hook.wait(2))[-1] == "WORKING"
        assert await hub.count("push_configs") == 1


async def test_a_deleted_configuration_is_gone_with_all_that_waits(hub: Pushing, rita: str) -> None:
    await hub.create(rita, "http://127.0.0.1:9/")
    await hub.notify("WORKING")
    for _ in range(2):
        assert await hub.push.delete(rita, AGENT, "t1", "t1") == {}
    with pytest.raises(NotFound):
        await hub.push.get(rita, AGENT, "t1", "t1")
    assert await hub.push.list(rita, AGENT, "t1") == {"configs": [], "nextPageToken": ""}
    await hub.notify("COMPLETED")
    assert await hub.count("push_outbox") == 0


async def test_a_configuration_of_another_task_than_the_named_one_is_refused(hub: Pushing, rita: str) -> None:
    with pytest.raises(InvalidParams):
        await hub.create(rita, "http://127.0.0.1:9/", taskId="t2")


async def test_another_process_learns_what_was_made_and_removed_here(hub: Pushing, rita: str) -> None:
    other = PushConfigs(hub.database, sealer=Sealer([SEALING_KEY]))
    for _ in range(2):
        await hub.create(rita, "http://127.0.0.1:9/")  # the second time under a new row
        await other.refresh()
        assert other.of_task(AGENT.name, "t1") == hub.configs.of_task(AGENT.name, "t1")
    given = await hub.callbacks.callback(rita, AGENT, "t1", "t1")
    assert await other.of_callback(given["id"]) == hub.configs.of_task(AGENT.name, "t1")[0]
    await hub.push.delete(rita, AGENT, "t1", "t1")
    await other.refresh()
    assert other.of_task(AGENT.name, "t1") == ()


async def test_configurations_go_with_their_tasks(hub: Pushing, rita: str) -> None:
    await hub.create(rita, "http://127.0.0.1:9/")
    await hub.notify("WORKING")

    def age(session: object, table: str) -> None:
        session.connection().exec_driver_sql(table)  # type: ignore[attr-defined]

    await hub.database.write(lambda session: age(session, "UPDATE push_configs SET created_at = 0"))
    await hub.configs.forget_tasks()
    assert await hub.count("push_configs") == 1
    await hub.database.write(lambda session: age(session, "DELETE FROM tasks"))
    await hub.configs.forget_tasks()
    assert await hub.count("push_configs") == await hub.count("push_outbox") == 0


# -- what becomes of a notification


def due(**members: object) -> Due:
    known = {
        "id": 1,
        "config": 1,
        "agent": "a",
        "task_id": "t",
        "version": "1.0",
        "destination": Destination(url="https://x.example/"),
        "event_id": "e",
        "body": b"{}",
        "attempts": 0,
        "missing": 0,
        "since": 0.0,
    }
    return Due(**{**known, **members})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attempts", "wait"), [(0, 1.0), (1, 5.0), (2, 30.0), (3, 120.0), (4, 600.0), (5, 600.0), (90, 600.0)]
)
def test_waits_grow_to_ten_minutes(attempts: int, wait: float) -> None:
    assert judge(due(attempts=attempts), Answer(500, "HTTP 500"), 100.0) == Postponed(100.0 + wait, 0)


@pytest.mark.parametrize("status", [200, 202, 204])
def test_any_success_is_an_acknowledgement(status: int) -> None:
    assert judge(due(), Answer(status, ""), 1.0) is None


@pytest.mark.parametrize("status", [None, 301, 302, 307, 308, 400, 401, 403, 429, 500])
def test_everything_else_is_tried_again_for_a_day(status: int | None) -> None:
    answer = Answer(status, "why")
    assert isinstance(judge(due(attempts=9), answer, GIVE_UP_S - 700), Postponed)
    assert judge(due(attempts=9), answer, GIVE_UP_S - 500) == Buried("not delivered within a day: why")


def test_the_receivers_wish_to_be_left_alone_is_kept() -> None:
    assert judge(due(), Answer(429, "", "90"), 100.0) == Postponed(190.0, 0)
    assert judge(due(attempts=4), Answer(503, "", "3"), 100.0) == Postponed(700.0, 0)
    assert isinstance(judge(due(), Answer(503, "", "999999999999"), 100.0), Buried)
    assert seconds_until(formatdate(1_700_000_060, usegmt=True), 1_700_000_000.0) == 60.0


@pytest.mark.parametrize("text", [None, "", "soon", "-5", "1e9", "\u0663", "Mon, 99 Foo 2026 99:99:99 GMT"])
def test_a_wish_that_cannot_be_read_is_none(text: str | None) -> None:
    assert seconds_until(text, 0.0) == 0.0
