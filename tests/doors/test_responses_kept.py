"""What is kept between requests to `/v1/responses`: chains, conversations, background; whose it is, and that it is nowhere else."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from llm import background
from tests.conftest import OpenHub
from tests.doors.responses_desk import SOURCE, Desk, checked, client, kinds, open_desk
from tests.peers.openai_upstream import Turn, openai_upstream
from tests.processes import hub_process

SAY: Any = {"role": "user", "content": "more"}


def roles(messages: list[dict[str, Any]]) -> list[str]:
    return [message["role"] for message in messages]


async def test_a_response_is_retrieved_listed_and_deleted(hub: OpenHub) -> None:
    async with open_desk(hub, Turn("hello")) as desk:
        made = await desk.sdk.responses.create(model="m", input=[SAY, {"role": "user", "content": "please"}])
        found = await desk.sdk.responses.retrieve(made.id)
        assert found.to_dict() == made.to_dict()
        pages = desk.sdk.responses.input_items.list(made.id, order="asc", limit=1)
        texts = [item.content[0].text async for item in pages]  # type: ignore[union-attr]
        assert texts == ["more", "please"]
        newest = await desk.sdk.responses.input_items.list(made.id)
        assert newest.data[0].content[0].text == "please"  # type: ignore[union-attr]
        await desk.sdk.responses.delete(made.id)
        for gone in (desk.sdk.responses.retrieve, desk.sdk.responses.delete, desk.sdk.responses.cancel):
            with pytest.raises(openai.NotFoundError) as absent:
                await gone(made.id)
            assert absent.value.code == "response_not_found"


async def test_a_chain_tells_the_model_everything_before_but_instructions(hub: OpenHub) -> None:
    turns = (Turn(calls=(("peer__echo", "{}"),)), Turn("one"), Turn("two"), Turn("three"))
    async with open_desk(hub, *turns) as desk:
        first = await desk.sdk.responses.create(model="m", input="hi", instructions="be brief", tools=[SOURCE])
        second = await desk.sdk.responses.create(model="m", input=[SAY], previous_response_id=first.id, stream=True)
        events = [event async for event in second]
        name = events[0].response.id  # type: ignore[union-attr]
        third = await desk.sdk.responses.create(model="m", input=[SAY], previous_response_id=name)
        assert third.output_text == "three"
        assert roles(desk.messages()) == ["user", "assistant", "tool", "assistant", "user", "assistant", "user"]
        await desk.sdk.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            await desk.sdk.responses.create(model="m", input=[SAY], previous_response_id=third.id)


async def test_an_item_is_referred_to_by_its_id(hub: OpenHub) -> None:
    async with open_desk(hub, Turn("hello"), Turn("ok")) as desk:
        made = await desk.sdk.responses.create(model="m", input="hi")
        reference: Any = {"type": "item_reference", "id": made.output[0].id}
        await desk.sdk.responses.create(model="m", input=[reference, SAY])
        assert [message["content"] for message in desk.messages()] == ["hello", "more"]
        stranger = await desk.hub.key("model:m")
        async with client(desk.hub.url, stranger) as other:
            with pytest.raises(openai.NotFoundError):
                await other.responses.create(model="m", input=[reference, SAY])


async def test_store_false_leaves_nothing_at_rest(hub: OpenHub, tmp_path: Path) -> None:
    async with open_desk(hub, Turn("zanzibar"), Turn("zanzibar")) as desk:
        made = await desk.sdk.responses.create(model="m", input="quagga", store=False)
        assert not any(made.id.encode() in file.read_bytes() for file in tmp_path.glob("hubbub.db*"))
        with pytest.raises(openai.NotFoundError):
            await desk.sdk.responses.retrieve(made.id)
        with pytest.raises(openai.NotFoundError):
            await desk.sdk.responses.create(model="m", input="x", previous_response_id=made.id)
        engine = desk.hub.services.database.engine
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM kept").scalar() == 0
        await desk.sdk.responses.create(model="m", input="quagga")  # what is stored is sealed
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM kept").scalar() == 1
        for file in tmp_path.glob("hubbub.db*"):
            data = file.read_bytes()
            assert b"zanzibar" not in data
            assert b"quagga" not in data


async def test_what_is_kept_is_kept_as_long_as_is_set(hub: OpenHub) -> None:
    async with open_desk(hub, Turn("hello"), setting="limits: {kept_days: 2}") as desk:
        await desk.sdk.responses.create(model="m", input="hi")
        with desk.hub.services.database.engine.connect() as connection:
            (left,) = connection.exec_driver_sql("SELECT expires_at - created_at FROM kept").scalars()
        assert left == pytest.approx(2 * 86_400, abs=1)


@pytest.mark.attack("2.2/27", defence="registry.sealed.kept:_find")
async def test_what_is_kept_is_absent_for_strangers_and_shared_with_the_team(hub: OpenHub) -> None:
    async with open_desk(hub, *[Turn("hello") for _ in range(20)]) as desk:
        services = desk.hub.services
        team = (await services.teams.create("red")).id
        ann, bob, cat = [await desk.hub.key("model:m", team=one) for one in (team, team, None)]
        async with client(desk.hub.url, ann) as a, client(desk.hub.url, bob) as b, client(desk.hub.url, cat) as c:
            made = await a.responses.create(model="m", input="hi")
            talk = await a.conversations.create(items=[SAY])
            (item,) = (await a.conversations.items.list(talk.id)).data
            assert (await b.responses.retrieve(made.id)).id == made.id
            assert (await b.conversations.retrieve(talk.id)).id == talk.id
            strange: list[Any] = [
                lambda: c.responses.retrieve(made.id),
                lambda: c.responses.retrieve(made.id, stream=True),
                lambda: c.responses.delete(made.id),
                lambda: c.responses.cancel(made.id),
                lambda: c.responses.input_items.list(made.id),
                lambda: c.responses.create(model="m", input="x", previous_response_id=made.id),
                lambda: c.responses.create(model="m", input="x", conversation=talk.id),
                lambda: c.conversations.retrieve(talk.id),
                lambda: c.conversations.update(talk.id, metadata={}),
                lambda: c.conversations.delete(talk.id),
                lambda: c.conversations.items.list(talk.id),
                lambda: c.conversations.items.create(talk.id, items=[SAY]),
                lambda: c.conversations.items.retrieve(item.id, conversation_id=talk.id),
                lambda: c.conversations.items.delete(item.id, conversation_id=talk.id),
            ]
            for ask in strange:
                with pytest.raises(openai.NotFoundError) as refused:
                    await ask()
                said = refused.value.message.replace(made.id, "ID").replace(talk.id, "ID")
                assert "No response 'ID' here." in said or "No conversation 'ID' here." in said
            await b.responses.delete(made.id)
            await b.conversations.delete(talk.id)


async def test_a_conversation_is_kept_and_added_to_by_responses(hub: OpenHub) -> None:
    async with open_desk(hub, Turn("one"), Turn(calls=(("peer__echo", "{}"),)), Turn("two")) as desk:
        talk = await desk.sdk.conversations.create(metadata={"topic": "x"}, items=[{"role": "system", "content": "be"}])
        assert (await desk.sdk.conversations.update(talk.id, metadata={"topic": "y"})).metadata == {"topic": "y"}
        first = await desk.sdk.responses.create(model="m", input="hi", conversation=talk.id)
        assert first.conversation is not None
        assert first.conversation.id == talk.id
        await desk.sdk.responses.create(model="m", input=[SAY], conversation={"id": talk.id}, tools=[SOURCE])
        assert roles(desk.messages()) == ["system", "user", "assistant", "user", "assistant", "tool"]
        items = [item async for item in desk.sdk.conversations.items.list(talk.id, order="asc", limit=2)]
        said = ["message", "message", "message", "message", "mcp_list_tools", "mcp_call", "message"]
        assert [item.type for item in items] == said
        assert len({item.id for item in items}) == len(items)
        one = await desk.sdk.conversations.items.retrieve(items[1].id or "", conversation_id=talk.id)
        assert one == items[1]
        await desk.sdk.conversations.items.delete(items[1].id or "", conversation_id=talk.id)
        (added,) = (await desk.sdk.conversations.items.create(talk.id, items=[SAY])).data
        left = [item.id async for item in desk.sdk.conversations.items.list(talk.id, order="asc")]
        assert left == [*(item.id for item in items if item != items[1]), added.id]
        assert (await desk.sdk.conversations.delete(talk.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await desk.sdk.conversations.retrieve(talk.id)


async def test_one_response_at_a_time_is_made_in_a_conversation(hub: OpenHub) -> None:
    async with open_desk(hub, Turn(calls=(("peer__wait", "{}"),)), Turn("one"), Turn("two")) as desk:
        talk = await desk.sdk.conversations.create()
        asked: Any = {"model": "m", "input": "hi", "conversation": talk.id, "tools": [SOURCE]}
        async with asyncio.timeout(20):
            first = asyncio.create_task(desk.sdk.responses.create(**asked))
            await desk.peer.waiting.wait()
            with pytest.raises(openai.ConflictError):
                await desk.sdk.responses.create(**asked)
            desk.peer.release.set()
            await first
            assert (await desk.sdk.responses.create(**asked)).output_text == "two"


BACKGROUND: Any = {"model": "m", "input": "hi", "tools": [SOURCE], "background": True}
WAITS = Turn(calls=(("peer__wait", "{}"),))


async def ended(desk: Desk, name: str) -> Response:
    """The response, when nobody works on it any more."""
    run = desk.hub.services.llm.responses._runs.find(name)
    if run is not None and run.task is not None:
        await asyncio.wait([run.task])
    return await desk.sdk.responses.retrieve(name)


async def test_a_background_response_is_there_at_once_and_complete_later(hub: OpenHub) -> None:
    async with open_desk(hub, WAITS, Turn("done")) as desk, asyncio.timeout(20):
        queued = await desk.sdk.responses.create(**BACKGROUND)
        assert (queued.status, queued.output) == ("queued", [])
        await desk.peer.waiting.wait()
        assert (await desk.sdk.responses.retrieve(queued.id)).status == "in_progress"
        with pytest.raises(openai.BadRequestError, match="not complete"):
            await desk.sdk.responses.create(model="m", input="x", previous_response_id=queued.id)
        desk.peer.release.set()
        found = await ended(desk, queued.id)
        assert (found.status, found.output_text) == ("completed", "done")
        with pytest.raises(openai.BadRequestError, match="stream"):
            await desk.sdk.responses.retrieve(queued.id, stream=True)


async def test_a_background_stream_goes_on_without_its_client_and_is_followed_from_anywhere(hub: OpenHub) -> None:
    async with open_desk(hub, WAITS, Turn("done")) as desk, asyncio.timeout(20):
        stream = await desk.sdk.responses.create(**BACKGROUND, stream=True)
        name, last = "", 0
        async for event in stream:
            last = event.sequence_number
            if event.type == "response.queued":
                name = event.response.id
            if event.type == "response.mcp_call.in_progress":
                break
        await desk.peer.waiting.wait()
        await stream.close()
        rest = await desk.sdk.responses.retrieve(name, stream=True, starting_after=last)
        desk.peer.release.set()
        numbers = [event.sequence_number async for event in rest]
        assert numbers == list(range(last + 1, last + 1 + len(numbers)))
        assert not desk.peer.cancelled.is_set()
        assert (await ended(desk, name)).output_text == "done "
        async with desk.hub.http(desk.secret) as http:
            lines = (await http.get(f"/v1/responses/{name}?stream=true")).text.splitlines()
            events = checked(lines)
            assert kinds(events)[:3] == ["created", "queued", "in_progress"]
            assert len(events) == numbers[-1] + 1
            late = (await http.get(f"/v1/responses/{name}?stream=true&starting_after={numbers[-1] - 1}")).text
            assert late.count("data: ") == 1
            assert (await http.get(f"/v1/responses/{name}?stream=true&starting_after=x")).status_code == 400


@pytest.mark.parametrize("stream", [True, False])
async def test_a_background_response_is_cancelled_with_its_tools(hub: OpenHub, stream: bool) -> None:
    async with open_desk(hub, WAITS) as desk, asyncio.timeout(20):
        if stream:
            events = await desk.sdk.responses.create(**BACKGROUND, stream=True)
            name = (await anext(aiter(events))).response.id
        else:
            name = (await desk.sdk.responses.create(**BACKGROUND)).id
        await desk.peer.waiting.wait()
        cancelled = await desk.sdk.responses.cancel(name)
        await desk.peer.cancelled.wait()
        assert cancelled.status == "cancelled"
        assert [item.type for item in cancelled.output] == ["mcp_list_tools", "mcp_call"]
        assert (await desk.sdk.responses.retrieve(name)).status == "cancelled"
        assert (await desk.sdk.responses.cancel(name)).status == "cancelled"


async def test_what_was_not_made_in_the_background_cannot_be_cancelled(hub: OpenHub) -> None:
    async with open_desk(hub, Turn("hello")) as desk:
        made = await desk.sdk.responses.create(model="m", input="hi")
        with pytest.raises(openai.BadRequestError, match="background"):
            await desk.sdk.responses.cancel(made.id)


async def test_a_response_that_is_deleted_is_not_worked_on_any_more(hub: OpenHub) -> None:
    async with open_desk(hub, WAITS) as desk, asyncio.timeout(20):
        made = await desk.sdk.responses.create(**BACKGROUND)
        await desk.peer.waiting.wait()
        await desk.sdk.responses.delete(made.id)
        await desk.peer.cancelled.wait()
        with pytest.raises(openai.NotFoundError):
            await desk.sdk.responses.retrieve(made.id)


async def test_a_background_response_that_fails_says_why(hub: OpenHub) -> None:
    async with open_desk(hub, Turn(status=429, error=b"{}")) as desk, asyncio.timeout(20):
        made = await desk.sdk.responses.create(model="m", input="hi", background=True)
        failed = await ended(desk, made.id)
        assert failed.status == "failed"
        assert failed.error is not None
        assert failed.error.code == "rate_limit_exceeded"


async def test_a_key_has_so_many_responses_in_the_background_and_no_more(
    hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "MAX_RUNS_OF_ONE", 2)
    async with open_desk(hub, WAITS) as desk, asyncio.timeout(20):
        made = [await desk.sdk.responses.create(**BACKGROUND) for _ in range(2)]
        with pytest.raises(openai.InternalServerError, match="background"):
            await desk.sdk.responses.create(**BACKGROUND)
        await desk.sdk.responses.cancel(made[0].id)
        await desk.sdk.responses.create(**BACKGROUND)


async def test_a_response_that_was_worked_on_at_kill_9_has_failed_and_what_was_complete_is_there(
    tmp_path: Path,
) -> None:
    never = asyncio.Event()
    async with openai_upstream(Turn("done"), Turn("never", hold_last=never)) as upstream, asyncio.timeout(120):
        yaml = f"models:\n  m: {{provider: deepseek, model: up, base_url: '{upstream.url}', api_key: sk-up-00}}\n"
        async with hub_process(tmp_path, yaml) as hub:
            secret = await hub.key("ann", "model:*")
            async with client(hub.url, secret) as sdk:
                done = await sdk.responses.create(model="m", input="hi")
                cut = await sdk.responses.create(model="m", input="hi", background=True, stream=True)
                running = (await anext(aiter(cut))).response.id  # type: ignore[union-attr]
                await upstream.came(2)
                hub.send(signal.SIGKILL)
                await hub.child.wait()
        async with hub_process(tmp_path, yaml) as hub, client(hub.url, secret) as sdk:
            assert (await sdk.responses.retrieve(done.id)).output_text == "done"
            failed = await sdk.responses.retrieve(running)
            assert failed.status == "failed"
            assert failed.error is not None
            assert "before it was complete" in failed.error.message
            events = [event.type async for event in await sdk.responses.retrieve(running, stream=True)]
            assert events == ["response.failed"]
            assert (await sdk.responses.cancel(running)).status == "failed"
