"""Every bridge, by the official A2A client: one suite for all platforms, and for an agent that speaks A2A by itself."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agents.speech import SPEECHES
from registry.egress.http1 import Connection
from tests.bridges.kinds import KINDS, PROPERTIES
from tests.bridges.there import client_of
from tests.conftest import Hub, free_port, open_hub
from tests.foreign.environments import GROUPS, WANTED, foreign
from tests.peers.a2a_clients import Refused, SdkClient, message, open_client
from tests.peers.platforms import brain
from tests.peers.platforms.odd_front import Front, open_front
from tests.peers.platforms.platform import NOBODYS, Kind, Platform, Property
from tests.processes import hub_process, known_dead

ODD = "Grüße aus Köln \N{GRINNING FACE} \N{PARTY POPPER}!"
"""A text whose letters have more bytes than one."""


@dataclass
class Bench:
    """A hub with one agent, `there`, on a platform."""

    hub: Hub
    platform: Platform

    def client(self, secret: str | None = None) -> AbstractAsyncContextManager[SdkClient]:
        return client_of(self.hub, secret)


@asynccontextmanager
async def bench(kind: Kind, directory: Path) -> AsyncIterator[Bench]:
    async with (
        kind.open(directory) as platform,
        open_hub(directory, f"agents:\n  there: {platform.entry}\n") as hub,
    ):
        yield Bench(hub, platform)


@dataclass
class Fronted(Bench):
    """A bench whose platform is behind a front."""

    front: Front


@asynccontextmanager
async def fronted(kind: Kind, directory: Path, *, is_odd: bool = False) -> AsyncIterator[Fronted]:
    async with (
        kind.open(directory) as platform,
        open_front(kind, platform, is_odd=is_odd) as front,
        open_hub(directory, f"agents:\n  there: {front.entry}\n") as hub,
    ):
        yield Fronted(hub, platform, front)


def having(wanted: Property, *, turn: str = "") -> Any:
    """The platforms that have a property, as `of` has them."""
    assert wanted in PROPERTIES
    return of([one for one in KINDS if wanted not in one.lacks], turn)


def of(kinds: Sequence[Kind], turn: str = "") -> Any:
    """Those of these platforms whose turn it is; without an environment of their own, that is always, or in `turn`."""
    turns = {"", WANTED} if WANTED in GROUPS else {"", *GROUPS}
    kinds = [one for one in kinds if (one.group or turn) in turns]
    marked = [pytest.param(one, id=one.name, marks=_marks(one)) for one in kinds]
    return pytest.mark.parametrize("kind", marked) if marked else lambda _: None  # it is nobody's turn


def _marks(kind: Kind) -> Sequence[Any]:
    """Those of a kind that needs an environment: the tests of one environment share a process, and its platform."""
    return (*foreign, pytest.mark.xdist_group(f"bridges-{kind.proof}")) if kind.group else ()


def text_of(task: dict[str, Any]) -> str:
    return "".join(
        part.get("text", "") for artifact in task.get("artifacts", ()) for part in artifact.get("parts", ())
    ).strip()


def state_of(event: dict[str, Any]) -> str:
    update = event.get("statusUpdate") or event.get("task") or {}
    return str((update.get("status") or {}).get("state", "")).removeprefix("TASK_STATE_")


async def first_piece(events: AsyncIterator[dict[str, Any]]) -> tuple[str, str]:
    """The task's id, and what was said first: in an artifact or, as some agents tell it, in the task's status."""
    async for event in events:
        update = event.get("artifactUpdate") or event.get("statusUpdate") or {}
        said = update.get("artifact") or (update.get("status") or {}).get("message") or {}
        if text := "".join(part.get("text", "") for part in said.get("parts", ())):
            return update["taskId"], text.strip()
    raise AssertionError("nothing was said")


@having("memory")
async def test_what_was_said_in_a_context_is_known_in_it(tmp_path: Path, kind: Kind) -> None:
    async with bench(kind, tmp_path) as b, b.client() as client:
        task = (await client.send("my name is Ada"))["task"]
        assert (state_of({"task": task}), text_of(task)) == ("COMPLETED", "my name is Ada")
        again = (await client.send("recall", message_id="m-2", contextId=task["contextId"]))["task"]
        assert text_of(again) == "You said: my name is Ada"
        elsewhere = (await client.send("recall"))["task"]
        assert text_of(elsewhere) == "You said:"
        kept = await client.ask("GetTask", {"id": task["id"]})
        assert text_of(kept) == "my name is Ada"


@having("streams")
async def test_what_an_agent_says_comes_before_it_ends(tmp_path: Path, kind: Kind) -> None:
    async with bench(kind, tmp_path) as b, b.client() as client, asyncio.timeout(30):
        async with aclosing(client.follow("SendStreamingMessage", message("hold"))) as events:
            assert (await first_piece(events))[1] == "first"
            b.platform.release()
            rest = [event async for event in events]
        assert state_of(rest[-1]) == "COMPLETED"
        assert "last" in json.dumps(rest)


@having("files")
async def test_files_reach_the_agent(tmp_path: Path, kind: Kind) -> None:
    async with bench(kind, tmp_path) as b, b.client() as client:
        part = {"raw": brain.PNG, "mediaType": "image/png", "filename": "dot.png"}
        task = (await client.send("", parts=[{"text": "see"}, part]))["task"]
        assert state_of({"task": task}) == "COMPLETED"
        assert brain.PNG in json.dumps(task["artifacts"])


@having("data")
async def test_data_reach_the_agent(tmp_path: Path, kind: Kind) -> None:
    async with bench(kind, tmp_path) as b, b.client() as client:
        task = (await client.send("", parts=[{"data": {"answer": 42}}]))["task"]
        assert state_of({"task": task}) == "COMPLETED"
        assert "42" in json.dumps(task["artifacts"])


@having("failure")
async def test_a_failure_is_told_as_one_with_its_reason(tmp_path: Path, kind: Kind) -> None:
    async with bench(kind, tmp_path) as b, b.client() as client:
        task = (await client.send("fail"))["task"]
        assert state_of({"task": task}) == "FAILED"
        assert kind.reason in task["status"]["message"]["parts"][0]["text"]


@having("asks")
async def test_a_question_is_asked_and_its_answer_reaches_the_agent(tmp_path: Path, kind: Kind) -> None:
    async with bench(kind, tmp_path) as b, b.client() as client:
        task = (await client.send("ask"))["task"]
        assert state_of({"task": task}) == "INPUT_REQUIRED"
        assert brain.QUESTION in json.dumps(task["status"]["message"]["parts"])
        ids = {"taskId": task["id"], "contextId": task["contextId"]}
        done = (await client.send("blue", message_id="m-2", **ids))["task"]
        assert (done["id"], state_of({"task": done})) == (task["id"], "COMPLETED")
        assert text_of(done) == brain.told("blue")


@having("cancel")
async def test_cancelling_a_task_ends_it_on_the_platform(tmp_path: Path, kind: Kind) -> None:
    async with bench(kind, tmp_path) as b, b.client() as client, asyncio.timeout(30):
        async with aclosing(client.follow("SendStreamingMessage", message("hold"))) as events:
            task_id, _ = await first_piece(events)
            task = await client.ask("CancelTask", {"id": task_id})
        assert state_of({"task": task}) == "CANCELED"
        await b.platform.ended()


@having("streams")
async def test_who_leaves_comes_back_and_misses_nothing(tmp_path: Path, kind: Kind) -> None:
    async with bench(kind, tmp_path) as b, b.client() as client:
        async with aclosing(client.follow("SendStreamingMessage", message("hold"))) as events:
            task_id, _ = await first_piece(events)
        async with aclosing(client.follow("SubscribeToTask", {"id": task_id})) as events, asyncio.timeout(30):
            first = await anext(events)
            assert text_of(first["task"]) == "first"
            b.platform.release()
            rest = [event async for event in events]
        assert state_of(rest[-1]) == "COMPLETED"
        assert text_of(await client.ask("GetTask", {"id": task_id})) == "first last"


@having("isolation")
async def test_two_callers_share_nothing(tmp_path: Path, kind: Kind) -> None:
    async with bench(kind, tmp_path) as b, b.client() as one, b.client() as other:
        task = (await one.send("secret"))["task"]
        with pytest.raises(Refused):
            await other.ask("GetTask", {"id": task["id"]})
        with pytest.raises(Refused):
            await other.send("recall", contextId=task["contextId"])
        mine = (await other.send("recall", contextId="another"))["task"]
        assert text_of(mine) == "You said:"
        assert len(set(b.platform.sessions())) == 2


@of([one for one in KINDS if one.card])
async def test_its_card_says_what_the_platform_says_of_it(tmp_path: Path, kind: Kind) -> None:
    async with bench(kind, tmp_path) as b, b.hub.http(await b.hub.key("agent:there")) as client:
        card = await client.get("/a2a/there/.well-known/agent-card.json")
    assert kind.card in card.text


@having("odd")
async def test_answers_are_read_however_odd_their_reference_lets_them_be(
    tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = Connection.data_received

    def byte_by_byte(connection: Connection, data: bytes) -> None:
        for begin in range(len(data)):
            receive(connection, data[begin : begin + 1])

    monkeypatch.setattr(Connection, "data_received", byte_by_byte)
    async with fronted(kind, tmp_path, is_odd=True) as b, b.client() as client:
        events = await client.stream(ODD)
        assert b.front.strange or not kind.odd.among
        assert NOBODYS not in json.dumps(events)
        task = await client.ask("GetTask", {"id": events[0]["task"]["id"]})
        assert (state_of({"task": task}), text_of(task)) == ("COMPLETED", ODD)
        if "asks" not in kind.lacks:
            asked = (await client.send("ask", message_id="m-2"))["task"]
            assert brain.QUESTION in json.dumps(asked["status"]["message"]["parts"])
            ids = {"taskId": asked["id"], "contextId": asked["contextId"]}
            done = (await client.send("blue", message_id="m-3", **ids))["task"]
            assert (state_of({"task": done}), text_of(done)) == ("COMPLETED", brain.told("blue"))
        if "failure" not in kind.lacks:
            failed = (await client.send("fail", message_id="m-4"))["task"]
            assert kind.reason in failed["status"]["message"]["parts"][0]["text"]


@having("expires")
async def test_a_token_that_expires_in_mid_stream_never_has_its_work_hang_or_done_twice(
    tmp_path: Path, kind: Kind
) -> None:
    async with fronted(kind, tmp_path) as b, b.client() as client, asyncio.timeout(30):
        async with aclosing(client.follow("SendStreamingMessage", message("hold"))) as events:
            task_id, _ = await first_piece(events)
            b.front.expire()
            b.platform.release()
            with suppress(Refused):  # the stream of an agent that needs no bridge has broken
                async for _ in events:
                    pass
        state, said = await _come_of(client, task_id)
        goes_on = b.platform.expire is not None and "rejoin" not in kind.lacks
        assert state == "COMPLETED" if goes_on else state in {"COMPLETED", "FAILED", "REFUSED"}
        assert said == "first last" if state == "COMPLETED" else "there: " in said
        assert sum(b"hold" in body for body in b.front.taken) == 1, "it is done once"
        assert len(set(b.front.refused)) == len(b.front.refused), "who has no other token does not ask again"
        if b.platform.expire is not None:
            assert text_of((await client.send("after", message_id="m-2"))["task"]) == "after"


@having("renews")
async def test_a_token_that_expires_is_renewed_once_for_all(tmp_path: Path, kind: Kind) -> None:
    async with bench(kind, tmp_path) as b, b.client() as client:
        assert text_of((await client.send("one"))["task"]) == "one"
        assert b.platform.expire is not None
        b.platform.expire()
        answers = await asyncio.gather(*(client.send(f"n{n}") for n in range(5)))
        assert [text_of(one["task"]) for one in answers] == [f"n{n}" for n in range(5)]


@having("busy")
async def test_a_platform_that_is_busy_is_asked_again_or_its_caller_told_when_to(tmp_path: Path, kind: Kind) -> None:
    async with fronted(kind, tmp_path) as b, b.client() as client:
        b.front.busy()
        if kind.is_a2a:
            with pytest.raises(Refused, match=r"rate limit is reached \(HTTP 429\)"):
                await client.send("hello")
        assert text_of((await client.send("hello"))["task"]) == "hello"
        assert [status for status, *_ in b.front.refused] == [status for status, _ in kind.odd.busy]


@having("down")
async def test_a_platform_that_is_down_is_a_failure_that_names_the_agent(tmp_path: Path, kind: Kind) -> None:
    async with kind.open(tmp_path) as platform:
        entry = re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{free_port()}", platform.entry)
    async with open_hub(tmp_path, f"agents:\n  there: {entry}\n") as hub:
        secret = await hub.key("agent:there")
        body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": message("hello")}
        async with hub.http(secret) as client:
            answer = (await client.post("/a2a/there/", json=body, headers={"a2a-version": "1.0"})).json()
    said = json.dumps(answer)
    assert "there" in said
    assert "127.0.0.1" not in said
    assert "error" in answer or answer["result"]["task"]["status"]["state"] == "TASK_STATE_FAILED"


@having("rejoin", turn="frameworks")  # which has the tests of whole processes
async def test_a_hub_that_was_killed_reads_on_what_the_platform_still_does(tmp_path: Path, kind: Kind) -> None:
    async with kind.open(tmp_path) as platform, asyncio.timeout(90):
        yaml = f"agents:\n  there: {platform.entry}\n"
        async with hub_process(tmp_path, yaml) as hub:
            headers = {"authorization": f"Bearer {await hub.key('rita', 'agent:there')}"}
            async with open_client(f"{hub.url}/a2a/there/", SPEECHES[0], headers=headers) as client:
                task_id = await _begun(client)
                hub.send(signal.SIGKILL)
                await hub.child.wait()
        known_dead(tmp_path)
        async with (
            hub_process(tmp_path, yaml) as hub,
            open_client(f"{hub.url}/a2a/there/", SPEECHES[0], headers=headers) as client,
        ):
            async with aclosing(client.follow("SubscribeToTask", {"id": task_id})) as events:
                assert text_of((await anext(events))["task"]) in {"", "first"}
                platform.release()
                rest = [event async for event in events]
            assert state_of(rest[-1]) == "COMPLETED"
            assert text_of(await client.ask("GetTask", {"id": task_id})) == "first last"


async def _begun(client: SdkClient) -> str:
    """The id of a task that was seen at work, and left."""
    async with aclosing(client.follow("SendStreamingMessage", message("hold"))) as events:
        return (await first_piece(events))[0]


async def _come_of(client: SdkClient, task_id: str) -> tuple[str, str]:
    """The state of a task, and what it says: its answer, or why there is none. REFUSED: its agent cannot be asked."""
    try:
        task = await client.ask("GetTask", {"id": task_id})
    except Refused as refused:
        return "REFUSED", refused.message
    state = state_of({"task": task})
    return state, text_of(task) if state == "COMPLETED" else task["status"]["message"]["parts"][0]["text"]
