"""Agents as models: official A2A agents behind the hub, the official OpenAI SDK before it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from agents.speech import SPEECHES, Speech
from agents.wire import HOPS_HEADER, MAX_HOPS
from tests.conftest import Hub, open_hub
from tests.peers import a2a_sdk_agents
from tests.peers.openai_upstream import Turn, openai_upstream
from tests.until import until

MODEL = "agent/research"
JSONRPC = SPEECHES[0]


def client(hub: Hub, secret: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{hub.url}/v1", api_key=secret, max_retries=0, timeout=20)


@asynccontextmanager
async def chat_before(
    directory: Path, *, speech: Speech = JSONRPC, more: str = "", **options: Any
) -> AsyncIterator[tuple[Hub, a2a_sdk_agents.Agent, openai.AsyncOpenAI]]:
    """A hub before one official agent, called `research`, and a client whose key may call it."""
    async with a2a_sdk_agents.open_agent(speech, **options) as agent:
        yaml = f"agents: {{research: {{url: {agent.card_url}}}}}\n{more}"
        async with (
            open_hub(directory, yaml, grpc=speech.binding == "GRPC") as hub,
            client(hub, await hub.key("agent:research")) as chat,
        ):
            yield hub, agent, chat


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


async def say(chat: openai.AsyncOpenAI, *messages: Any, **more: Any) -> Any:
    return await chat.chat.completions.create(model=MODEL, messages=list(messages), **more)


def sent(agent: a2a_sdk_agents.Agent) -> list[dict[str, Any]]:
    """The messages that reached the agent."""
    return [one.params["message"] for one in agent.calls if "message" in one.params]


@pytest.mark.parametrize("speech", SPEECHES, ids=lambda speech: f"{speech.binding} {speech.version}")
async def test_an_agent_answers_as_a_model(tmp_path: Path, speech: Speech) -> None:
    async with chat_before(tmp_path, speech=speech) as (hub, agent, chat):
        answer = await say(chat, user("complete 2"))
        (choice,) = answer.choices
        assert (choice.message.role, choice.message.content, choice.finish_reason) == (
            "assistant",
            "part 0 part 1 ",
            "stop",
        )
        (task_id,) = agent.emitted
        assert answer.hub["task_id"] == task_id
        assert (answer.hub["state"], bool(answer.hub["context_id"])) == ("completed", True)
        assert (await say(chat, user("message"))).choices[0].message.content == "hello"
    made = [(one.kind, one.entry_name) for one in hub.gate.permits if one.principal.name != "hub"]
    assert made == [("agent", "research")] * 2


async def test_what_an_agent_says_streams_as_it_comes(tmp_path: Path) -> None:
    async with chat_before(tmp_path) as (_, agent, chat):
        stream = await say(chat, user("slow 2"), stream=True)
        texts, chunks = [], []
        async for chunk in stream:
            chunks.append(chunk)
            text = chunk.choices[0].delta.content
            if not texts:  # nothing of it was said before the client is told that the agent began
                await agent.release()
            if text:
                texts.append(text)
                await agent.release()
        assert texts == ["part 0 ", "part 1 "]
        assert [one.choices[0].finish_reason for one in chunks if one.choices[0].finish_reason] == ["stop"]
        assert chunks[-1].hub["state"] == "completed"
        assert len({one.id for one in chunks}) == 1


async def test_a_conversation_stays_in_its_context(tmp_path: Path) -> None:
    async with chat_before(tmp_path) as (_, agent, chat):
        messages = [{"role": "system", "content": "be brief"}, user("complete 1")]
        first = await say(chat, *messages)
        messages += [first.choices[0].message.model_dump(), user("complete 2")]
        second = await say(chat, *messages)
        assert second.hub["context_id"] == first.hub["context_id"]
        assert second.hub["task_id"] != first.hub["task_id"]
        one, two = sent(agent)
        assert [part["text"] for part in one["parts"]] == ["be brief", "complete 1"]
        assert [part["text"] for part in two["parts"]] == ["complete 2"]

        again = await say(chat, *messages)  # another line of the same conversation
        assert again.hub["context_id"] != first.hub["context_id"]
        told, asked = (part["text"] for part in sent(agent)[2]["parts"])
        assert asked == "complete 2"
        assert told == "This conversation went so far:\nsystem: be brief\nuser: complete 1\nassistant: part 0 "


async def test_a_conversation_is_its_keys_own(tmp_path: Path) -> None:
    async with chat_before(tmp_path) as (hub, _, chat):
        first = await say(chat, user("message"))
        messages = [user("message"), first.choices[0].message.model_dump(), user("message")]
        async with client(hub, await hub.key("agent:*")) as other:
            foreign = await say(other, *messages)
        assert foreign.hub["context_id"] != first.hub["context_id"]
        assert (await say(chat, *messages)).hub["context_id"] == first.hub["context_id"]


@pytest.mark.parametrize("ask", ["ask", "auth"])
async def test_a_task_that_waits_is_a_turn_and_goes_on_with_the_next(tmp_path: Path, ask: str) -> None:
    async with chat_before(tmp_path) as (_, agent, chat):
        first = await say(chat, user(ask))
        (choice,) = first.choices
        assert choice.finish_reason == "stop"
        assert (choice.message.content, first.hub["state"]) in {
            ("which one?", "input-required"),
            ("sign in first", "auth-required"),
        }
        second = await say(chat, user(ask), choice.message.model_dump(), user("the blue one"))
        assert second.hub["task_id"] == first.hub["task_id"]
        assert second.hub["state"] == "completed"
        assert sent(agent)[1]["taskId"] == first.hub["task_id"]


async def test_a_failed_task_is_an_error_that_no_sdk_repeats(tmp_path: Path) -> None:
    async with chat_before(tmp_path) as (_, agent, chat):
        again = chat.with_options(max_retries=2)
        with pytest.raises(openai.APIStatusError, match="research: its task is failed: it broke") as raised:
            await say(again, user("fail"))
        assert (raised.value.status_code, raised.value.code) == (502, "task_failed")
        with pytest.raises(openai.APIError, match="it broke"):
            async for _ in await say(again, user("fail"), stream=True):
                pass
        assert agent.operations.count("SendStreamingMessage") == 2


async def test_files_go_to_the_agent_and_come_back(tmp_path: Path) -> None:
    async with chat_before(tmp_path) as (_, agent, chat):
        picture = base64.b64encode(b"\x89PNG").decode()
        answer = await say(
            chat,
            user(
                [
                    {"type": "text", "text": "files"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
                    {"type": "image_url", "image_url": {"url": "https://files.example/a.png"}},
                    {"type": "file", "file": {"file_data": "aGk=", "filename": "a.txt"}},
                    {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
                    {"type": "data", "data": {"x": 1}},
                ]
            ),
        )
        assert sent(agent)[0]["parts"] == [
            {"text": "files"},
            {"raw": picture, "mediaType": "image/png"},
            {"url": "https://files.example/a.png"},
            {"raw": "aGk=", "mediaType": "application/octet-stream", "filename": "a.txt"},
            {"raw": "aGk=", "mediaType": "audio/mpeg"},
            {"data": {"x": 1}},
        ]
        text = answer.choices[0].message.content
        assert text == (
            "[a.pdf, application/pdf]\n"
            "[https://files.example/b.txt](https://files.example/b.txt)\n"
            '```json\n{"x":1.0}\n```\n'
        )
        file, link, data = answer.hub["parts"]
        assert (file["raw"], link["url"], data["data"]) == ("aGk=", "https://files.example/b.txt", {"x": 1})


@pytest.mark.parametrize(
    ("messages", "more", "said"),
    [
        ([{"role": "assistant", "content": "hi"}], {}, "the last message must be the user's"),
        ([user([{"type": "file", "file": {"file_id": "file-1"}}])], {}, "type 'file'"),
        ([user([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}])], {}, "type 'image_url'"),
        ([{"role": "tool", "content": "x", "tool_call_id": "1"}, user("hi")], {}, "role 'tool'"),
        ([user("hi")], {"tools": [{"type": "function", "function": {"name": "f"}}]}, "takes no tools"),
    ],
)
async def test_what_no_agent_can_be_asked_is_refused(
    tmp_path: Path, messages: list[Any], more: dict[str, Any], said: str
) -> None:
    async with chat_before(tmp_path) as (_, agent, chat):
        with pytest.raises(openai.BadRequestError, match=said):
            await say(chat, *messages, **more)
        assert agent.operations == []


async def test_agents_are_listed_and_open_to_their_grants_alone(tmp_path: Path) -> None:
    async with chat_before(tmp_path, more="models: {offline: {provider: offline}}\n") as (hub, agent, chat):
        assert [one.id async for one in chat.models.list()] == [MODEL]
        assert (await chat.models.retrieve(MODEL)).id == MODEL
        async with client(hub, await hub.key("model:*")) as other:
            assert [one.id async for one in other.models.list()] == ["offline"]
            with pytest.raises(openai.NotFoundError):
                await say(other, user("complete 1"))
            with pytest.raises(openai.NotFoundError):
                await other.models.retrieve(MODEL)
        assert agent.operations == []


async def test_a_caller_who_leaves_has_the_task_cancelled(tmp_path: Path) -> None:
    async with chat_before(tmp_path) as (_, agent, chat):
        stream = await say(chat, user("wait"), stream=True)
        await anext(aiter(stream))
        await stream.close()
        await until(lambda: "CancelTask" in agent.operations)


async def test_a_conversation_goes_on_where_its_client_says(tmp_path: Path) -> None:
    async with chat_before(tmp_path) as (hub, agent, chat):
        first = await say(chat, user("ask"))
        at = {"context_id": first.hub["context_id"]}
        second = await say(chat, user("blue"), extra_body={"hub": at})
        assert second.hub["task_id"] == first.hub["task_id"]  # it waited for this
        third = await say(chat, user("message"), extra_body={"hub": at})
        assert third.hub["context_id"] == first.hub["context_id"]
        assert [one.get("taskId") for one in sent(agent)] == [None, first.hub["task_id"], None]
        async with client(hub, await hub.key("agent:*")) as other:
            for theirs in (at, {"task_id": first.hub["task_id"]}):
                with pytest.raises(openai.NotFoundError):
                    await say(other, user("message"), extra_body={"hub": theirs})
        assert len(sent(agent)) == 3


@pytest.mark.parametrize("hub_member", ['{"context_id": 1}', '{"agent": "x"}', "[]", '{"max_rounds": true}'])
async def test_a_hub_member_that_says_something_else_is_refused(tmp_path: Path, hub_member: str) -> None:
    async with chat_before(tmp_path) as (hub, _, chat), hub.http(chat.api_key) as http:
        body = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "hi"}}], "hub": {hub_member}}}'
        answer = await http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "hub")


async def test_only_agents_have_contexts(tmp_path: Path) -> None:
    async with (
        chat_before(tmp_path, more="models: {offline: {provider: offline}}\n") as (hub, *_),
        client(hub, await hub.key("model:*")) as chat,
    ):
        with pytest.raises(openai.BadRequestError, match="agents as models"):
            await chat.chat.completions.create(
                model="offline", messages=[user("hi")], extra_body={"hub": {"context_id": "c"}}
            )


async def test_a_chat_that_an_agent_makes_counts_its_hops(tmp_path: Path) -> None:
    async with chat_before(tmp_path) as (_, agent, chat):
        await say(chat, user("complete 1"), extra_headers={HOPS_HEADER: "3"})
        assert agent.calls[0].headers[HOPS_HEADER] == "4"
        with pytest.raises(openai.APIStatusError, match="in a circle"):
            await say(chat, user("complete 1"), extra_headers={HOPS_HEADER: str(MAX_HOPS)})


SOURCE = {"type": "a2a", "agent": "research"}


async def test_an_agent_is_a_tool_source_beside_others(tmp_path: Path) -> None:
    async with (
        a2a_sdk_agents.open_agent(JSONRPC) as agent,
        openai_upstream(Turn(calls=(("agent__research", '{"message": "complete 1"}'),)), Turn("done")) as upstream,
    ):
        yaml = f"""
        models: {{m: {{provider: openai, base_url: {upstream.url}, api_key: sk-up}}}}
        agents:
          research: {{url: {agent.card_url}}}
          other: {{url: {agent.card_url}}}
        """
        async with open_hub(tmp_path, yaml) as hub:
            await described(hub)
            secret = await hub.key("agent:*", "model:*")
            async with client(hub, secret) as chat:
                answer = await chat.chat.completions.create(
                    model="m", messages=[user("look it up")], tools=[SOURCE], extra_headers={HOPS_HEADER: "2"}
                )
            (called,) = answer.hub["tool_calls"]
            assert (called["server"], called["tool"], called["result"].splitlines()[0]) == (
                "agent",
                "research",
                "part 0 ",
            )
            offered = [tool["function"]["name"] for tool in upstream.received[0].body["tools"]]
            assert offered == ["agent__research"]
            assert agent.calls[0].headers[HOPS_HEADER] == "3"
            async with client(hub, await hub.key("model:*", "tool:*")) as chat:
                with pytest.raises(openai.BadRequestError, match="'agent/research' has no tools"):
                    await chat.chat.completions.create(model="m", messages=[user("hi")], tools=[SOURCE])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"type": "a2a"}, "needs agent"),
        ({"type": "a2a", "agent": "*"}, "needs agent"),
        ({"type": "A2A", "agent": "research"}, "write 'a2a'"),
        ({"type": "a2a", "agent": "research", "delegates": True}, "delegates does not belong"),
        ({"type": "a2a", "agent": "research", "allowed_tools": ["x"]}, "allowed_tools does not belong"),
        ({"type": "a2a", "Agent": "research"}, "write 'agent'"),
        ({"type": "a2a", "agent": "research", "headers": {"x": "y"}}, "headers does not belong"),
    ],
)
async def test_a_tool_source_that_says_something_else_is_refused(
    tmp_path: Path, source: dict[str, Any], said: str
) -> None:
    async with (
        chat_before(tmp_path, more="models: {offline: {provider: offline}}\n") as (hub, *_),
        client(hub, await hub.key("model:*", "agent:*")) as chat,
    ):
        with pytest.raises(openai.BadRequestError, match=said):
            await chat.chat.completions.create(model="offline", messages=[user("hi")], tools=[source])


async def described(hub: Hub) -> None:
    """Wait until the agents' cards are in the catalog."""
    await until(lambda: b"Does what it is told." in hub.services.registry.catalog.tools["agent__research"].description)


async def test_an_agent_answers_at_every_door_of_models(tmp_path: Path) -> None:
    async with chat_before(tmp_path) as (hub, agent, chat):
        response = await chat.responses.create(model=MODEL, input="complete 2", extra_headers={HOPS_HEADER: "1"})
        assert response.output_text == "part 0 part 1 "
        events = [event async for event in await chat.responses.create(model=MODEL, input="complete 2", stream=True)]
        assert "".join(one.delta for one in events if one.type == "response.output_text.delta") == "part 0 part 1 "
        async with anthropic.AsyncAnthropic(base_url=hub.url, auth_token=chat.api_key, max_retries=0) as messages:
            answer = await messages.messages.create(model=MODEL, max_tokens=99, messages=[user("complete 2")])
            assert [block.text for block in answer.content] == ["part 0 part 1 "]
            async with messages.messages.stream(model=MODEL, max_tokens=99, messages=[user("complete 2")]) as stream:
                assert await stream.get_final_text() == "part 0 part 1 "
            with pytest.raises(anthropic.APIStatusError, match="it broke"):
                await messages.messages.create(model=MODEL, max_tokens=99, messages=[user("fail")])
        assert agent.calls[0].headers[HOPS_HEADER] == "2"
    assert {permit.kind for permit in hub.gate.permits} == {"agent"}


@pytest.mark.parametrize("stream", [False, True])
async def test_every_door_goes_on_in_a_context_that_is_named(tmp_path: Path, stream: bool) -> None:
    """By the official clients' `extra_body`; another key's context is nobody's."""
    more = "models: {offline: {provider: offline}}\n"
    async with (
        chat_before(tmp_path, more=more) as (hub, agent, chat),
        anthropic.AsyncAnthropic(base_url=hub.url, auth_token=chat.api_key, max_retries=0) as messages,
    ):
        first = await say(chat, user("message"))
        at: Any = {"hub": {"context_id": first.hub["context_id"]}}

        async def respond(sdk: openai.AsyncOpenAI, model: str) -> Any:
            answer: Any = await sdk.responses.create(model=model, input="message", stream=stream, extra_body=at)
            return [event async for event in answer][-1].response if stream else answer

        async def tell(sdk: anthropic.AsyncAnthropic, model: str) -> Any:
            asked: Any = {"model": model, "max_tokens": 9, "messages": [user("message")], "extra_body": at}
            if not stream:
                return await sdk.messages.create(**asked)
            async with sdk.messages.stream(**asked) as events:
                return [event async for event in events if event.type == "message_delta"][-1]

        for answer in (await respond(chat, MODEL), await tell(messages, MODEL)):
            assert answer.hub["context_id"] == first.hub["context_id"]
        assert [one.get("contextId") for one in sent(agent)] == [None, *[first.hub["context_id"]] * 2]
        secret = await hub.key("agent:*", "model:*")
        async with (
            client(hub, secret) as other,
            anthropic.AsyncAnthropic(base_url=hub.url, auth_token=secret, max_retries=0) as others,
        ):
            for model, status in ((MODEL, 404), ("offline", 400)):
                with pytest.raises(openai.APIStatusError) as refused:
                    await respond(other, model)
                assert refused.value.status_code == status
                with pytest.raises(anthropic.APIStatusError) as told:
                    await tell(others, model)
                assert told.value.status_code == status
        assert len(sent(agent)) == 3
