"""Agents that the official clients fail with directly, through a hub: every client works with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from tests.conftest import ADMIN_KEY, Hub, OpenHub
from tests.foreign.environments import foreign, open_fasta2a, open_langgraph
from tests.foreign.through import ALL, Kind, body, state, texts, through

pytestmark = foreign


@asynccontextmanager
async def fasta2a(hub: OpenHub) -> AsyncIterator[Hub]:
    async with open_fasta2a() as agent, hub(f"agents:\n  odd: {{url: {agent.url}}}\n", grpc=True) as running:
        yield running


@asynccontextmanager
async def langgraph(hub: OpenHub, directory: Path) -> AsyncIterator[Hub]:
    async with (
        open_langgraph(directory) as agent,
        hub(f"agents:\n  odd: {{url: {agent.url}}}\n", grpc=True) as running,
    ):
        yield running


async def works(running: Hub, kind: Kind, *, says: str) -> None:
    """Send, read again, go on, and stream; every answer `says` the text."""
    async with through(running, "odd", kind) as client:
        task = await client.send("hi")
        assert (state(task), "".join(texts(task))) == ("COMPLETED", says)
        again = await client.ask("GetTask", {"id": task["id"]})
        assert (again["id"], state(again)) == (task["id"], "COMPLETED")
        assert texts(again) == texts(task)
        second = await client.send("hi", contextId=task["contextId"])
        assert (state(second), second["contextId"]) == ("COMPLETED", task["contextId"])
        events = await client.stream("hi")
        assert all(body(event) for event in events), "an empty event"
        assert state(events[-1]) == "COMPLETED"
        shown = [text for event in events for text in texts(event)]
        assert says in {shown[-1], "".join(shown)}


async def quirks(running: Hub) -> list[str]:
    async with running.http(ADMIN_KEY) as http:
        shown: list[str] = (await http.get("/api/agents/odd")).json()["quirks"]
    return shown


async def test_every_client_works_with_fasta2a_whose_quirks_are_shown(hub: OpenHub) -> None:
    async with fasta2a(hub) as running:
        assert await quirks(running) == []
        for kind in ALL:
            await works(running, kind, says="hello from testmodel")
        assert await quirks(running) == ["naive_timestamps", "nonblocking"]


async def test_every_client_works_with_langgraph_whose_quirks_are_shown(hub: OpenHub, tmp_path: Path) -> None:
    async with langgraph(hub, tmp_path) as running:
        for kind in ALL:
            await works(running, kind, says="you said: hi")
        assert await quirks(running) == ["bare_events", "colon_ids", "mixed_versions", "odd_places"]


async def test_every_client_answers_a_question_of_langgraph(hub: OpenHub, tmp_path: Path) -> None:
    async with langgraph(hub, tmp_path) as running:
        for kind in ALL:
            async with through(running, "odd", kind) as client:
                asked = await client.send("ask")
                assert state(asked) == "INPUT_REQUIRED"
                done = await client.send("this one", taskId=asked["id"], contextId=asked["contextId"])
                assert (state(done), texts(done)) == ("COMPLETED", ["you said: this one"])


async def test_every_client_subscribes_to_a_task_of_langgraph_which_cannot(hub: OpenHub, tmp_path: Path) -> None:
    async with langgraph(hub, tmp_path) as running:
        for kind in ALL:
            async with through(running, "odd", kind) as client:
                asked = await client.send("ask")
                async with aclosing(client.follow("SubscribeToTask", {"id": asked["id"]})) as events:
                    first = await anext(events)
                assert (body(first)["id"], state(first)) == (asked["id"], "INPUT_REQUIRED")
        assert "no_subscribe" in await quirks(running)


async def test_every_client_names_contexts_of_langgraph_as_it_likes(hub: OpenHub, tmp_path: Path) -> None:
    async with langgraph(hub, tmp_path) as running:
        for kind in ALL:
            async with through(running, "odd", kind) as client:
                room = f"room of {kind}"
                sent = await client.send("hi", contextId=room)
                shown = [body(event)["contextId"] for event in await client.stream("hi", contextId=room)]
                again = await client.ask("GetTask", {"id": sent["id"]})
                assert {sent["contextId"], again["contextId"], *shown} == {room}
        assert "uuid_contexts" in await quirks(running)
