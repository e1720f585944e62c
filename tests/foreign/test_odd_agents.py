"""Agents that the official clients fail with directly, through a hub: every client works with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial

from tests.conftest import ADMIN_KEY, Hub, OpenHub
from tests.foreign.environments import foreign, open_fasta2a
from tests.foreign.through import ALL, Kind, body, state, texts, through
from tests.peers.platforms.langgraph_server import a2a_url

pytestmark = foreign


@asynccontextmanager
async def fasta2a(hub: OpenHub) -> AsyncIterator[Hub]:
    async with open_fasta2a() as agent, hub(f"agents:\n  odd: {{url: {agent.url}}}\n", grpc=True) as running:
        yield running


@asynccontextmanager
async def langgraph(hub: OpenHub) -> AsyncIterator[Hub]:
    async with hub(f"agents:\n  odd: {{url: {await a2a_url()}}}\n", grpc=True) as running:
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


async def each(use: Callable[[Kind], Awaitable[None]]) -> None:
    """Use all clients at once, for these agents take their time; Node's by themselves: no process begins well while gRPC is at work."""
    for language in ("python", "js"):
        async with asyncio.TaskGroup() as tasks:
            for kind in ALL:
                if kind.language == language:
                    tasks.create_task(use(kind))


async def test_every_client_works_with_fasta2a_whose_quirks_are_shown(hub: OpenHub) -> None:
    async with fasta2a(hub) as running:
        assert await quirks(running) == []
        await each(partial(works, running, says="hello from testmodel"))
        assert await quirks(running) == ["naive_timestamps", "nonblocking"]


async def test_every_client_works_with_langgraph_whose_quirks_are_shown(hub: OpenHub) -> None:
    async with langgraph(hub) as running:
        await each(partial(works, running, says="hi"))
        assert await quirks(running) == ["bare_events", "colon_ids", "mixed_versions", "odd_places"]


async def test_every_client_answers_a_question_of_langgraph(hub: OpenHub) -> None:
    async def answers(kind: Kind) -> None:
        async with through(running, "odd", kind) as client:
            asked = await client.send("ask")
            assert state(asked) == "INPUT_REQUIRED"
            done = await client.send("this one", taskId=asked["id"], contextId=asked["contextId"])
            assert (state(done), texts(done)) == ("COMPLETED", ["You said this one"])

    async with langgraph(hub) as running:
        await each(answers)


async def test_every_client_subscribes_to_a_task_of_langgraph_which_cannot(hub: OpenHub) -> None:
    async def subscribes(kind: Kind) -> None:
        async with through(running, "odd", kind) as client:
            asked = await client.send("ask")
            async with aclosing(client.follow("SubscribeToTask", {"id": asked["id"]})) as events:
                first = await anext(events)
            assert (body(first)["id"], state(first)) == (asked["id"], "INPUT_REQUIRED")

    async with langgraph(hub) as running:
        await each(subscribes)
        assert "no_subscribe" in await quirks(running)


async def test_every_client_names_contexts_of_langgraph_as_it_likes(hub: OpenHub) -> None:
    async def names(kind: Kind) -> None:
        async with through(running, "odd", kind) as client:
            room = f"room of {kind}"
            sent = await client.send("hi", contextId=room)
            shown = [body(event)["contextId"] for event in await client.stream("hi", contextId=room)]
            again = await client.ask("GetTask", {"id": sent["id"]})
            assert {sent["contextId"], again["contextId"], *shown} == {room}

    async with langgraph(hub) as running:
        await each(names)
        assert "uuid_contexts" in await quirks(running)
