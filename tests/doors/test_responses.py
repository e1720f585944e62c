"""`/v1/responses` of a whole hub: the official SDK in strict mode, a scripted model, a real MCP server behind the tools."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from llm import toolbox
from tests.conftest import OpenHub
from tests.doors.responses_desk import SOURCE, WEATHER, client, kinds, open_desk, output, streamed
from tests.peers.anthropic_upstream import KEY, SIGNATURE, Said, anthropic_upstream
from tests.peers.mcp_servers import dual_era
from tests.peers.openai_upstream import Turn, chunk, sse

MESSAGE = ["output_item.added", "content_part.added", "output_text.done", "content_part.done", "output_item.done"]
LISTED = ["output_item.added", "mcp_list_tools.in_progress", "mcp_list_tools.completed", "output_item.done"]
CALLED = ["mcp_call_arguments.done", "mcp_call.completed", "output_item.done"]
BEGUN = ["created", "in_progress"]


async def test_a_text_is_streamed_as_one_message(hub: OpenHub) -> None:
    async with open_desk(hub, Turn("hello to you")) as desk:
        events = await streamed(desk, input="hi", instructions="be brief")
        assert kinds(events) == [*BEGUN, *MESSAGE, "completed"]
        (message,) = output(events)
        assert message["content"][0]["text"] == "hello to you "
        assert events[-1]["response"]["usage"] == {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 4,
            "output_tokens_details": {"reasoning_tokens": 1},
            "total_tokens": 13,
        }
        assert desk.messages() == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]


async def test_the_whole_answer_says_the_same_as_the_stream(hub: OpenHub) -> None:
    turns = [Turn(calls=(("peer__echo", '{"text":"a"}'),)), Turn("done")]
    async with open_desk(hub, *turns, *turns) as desk:
        response = await desk.sdk.responses.create(model="m", input="hi", tools=[SOURCE], metadata={"a": "b"})
        events = await streamed(desk, input="hi", tools=[SOURCE], metadata={"a": "b"})
        assert response.output_text == "done"
        whole, last = response.model_dump(exclude_unset=True), events[-1]["response"]
        assert [item["type"] for item in whole["output"]] == ["mcp_list_tools", "mcp_call", "message"]
        for one in (whole, last):
            for item in one["output"]:
                del item["id"]
            one["output"][-1]["content"][0]["text"] = one["output"][-1]["content"][0]["text"].strip()
        assert whole["hub"]["usage"]["rounds"][0]["output_tokens"] == 4
        different = {name for name in whole if whole[name] != last[name]}
        assert different <= {"id", "created_at", "completed_at"}


async def test_a_round_shows_its_tools_its_call_and_its_result_in_order(hub: OpenHub) -> None:
    async with open_desk(hub, Turn("Look:", calls=(("peer__echo", '{"text":"a"}'),)), Turn("done")) as desk:
        events = await streamed(desk, input="hi", tools=[SOURCE])
        called = ["output_item.added", "mcp_call.in_progress", *CALLED]
        # the text ends when the call begins
        assert kinds(events) == [*BEGUN, *LISTED, *MESSAGE, *called, *MESSAGE, "completed"]
        listed, _, call, _ = output(events)
        assert (listed["server_label"], call["server_label"], call["name"]) == ("here", "here", "echo")
        assert {tool["name"] for tool in listed["tools"]} == {"echo", "wait", "tell", "region", "fail"}
        assert (call["arguments"], call["output"], call["error"]) == ('{"text":"a"}', '{"text": "a"}', None)
        assert desk.peer.calls == [("echo", {"text": "a"})]
        assert events[-1]["response"]["usage"]["total_tokens"] == 26


async def test_three_rounds_are_one_lifecycle(hub: OpenHub) -> None:
    calls = [Turn(calls=(("peer__echo", f'{{"text":"{number}"}}'),)) for number in range(3)]
    async with open_desk(hub, *calls, Turn("done")) as desk:
        events = await streamed(desk, input="hi", tools=[SOURCE])
        assert [item["type"] for item in output(events)] == ["mcp_list_tools", *["mcp_call"] * 3, "message"]
        assert [arguments["text"] for _, arguments in desk.peer.calls] == ["0", "1", "2"]
        assert [message["role"] for message in desk.messages()] == ["user", *["assistant", "tool"] * 3]


async def test_parallel_calls_end_in_any_order_and_stand_in_theirs(hub: OpenHub) -> None:
    both = Turn(calls=(("peer__wait", '{"text":"slow"}'), ("peer__echo", '{"text":"fast"}')))
    async with open_desk(hub, both, Turn("done")) as desk:
        async with asyncio.timeout(20), desk.sdk.responses.stream(model="m", input="hi", tools=[SOURCE]) as stream:
            ended: list[int] = []
            async for event in stream:
                if event.type == "response.mcp_call.completed":
                    ended.append(event.output_index)
                    desk.peer.release.set()
            response = await stream.get_final_response()
        assert ended == [2, 1]
        assert [item.name for item in response.output if item.type == "mcp_call"] == ["wait", "echo"]


async def test_own_tools_beside_the_hubs_are_the_callers_to_run(hub: OpenHub) -> None:
    both = Turn(calls=(("peer__echo", '{"text":"a"}'), ("weather", '{"city":"Oslo"}')))
    async with open_desk(hub, both, Turn("It rains.")) as desk:
        events = await streamed(desk, input="hi", tools=[SOURCE, WEATHER])
        _, hubs, own = output(events)
        assert (hubs["status"], own["name"], own["arguments"]) == ("completed", "weather", '{"city":"Oslo"}')
        assert events[-1]["type"] == "response.completed"
        result: Any = {"type": "function_call_output", "call_id": own["call_id"], "output": "rain"}
        name = events[-1]["response"]["id"]
        response = await desk.sdk.responses.create(
            model="m", previous_response_id=name, input=[result], tools=[SOURCE, WEATHER]
        )
        assert response.output_text == "It rains."
        assert [item.type for item in response.output] == ["message"]  # its tools were listed before
        told = desk.messages()
        assert [message["role"] for message in told] == ["user", "assistant", "tool", "assistant", "tool"]
        assert [message["content"] for message in told if message["role"] == "tool"] == ['{"text": "a"}', "rain"]
        assert told[1]["tool_calls"][0]["function"]["name"] == "peer__echo"


async def test_a_tool_that_fails_is_a_call_that_failed_and_the_model_goes_on(hub: OpenHub) -> None:
    async with open_desk(hub, Turn(calls=(("peer__fail", "{}"),)), Turn("It failed.")) as desk:
        events = await streamed(desk, input="hi", tools=[SOURCE])
        assert "mcp_call.failed" in kinds(events)
        call = output(events)[1]
        assert (call["status"], call["output"], call["error"]["type"]) == ("failed", None, "mcp_tool_execution_error")
        assert "secret path" not in str(events)


async def test_tools_of_the_loops_own_are_calls_like_others(hub: OpenHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolbox, "MANY_TOOLS", 1)
    turns = (Turn(calls=(("hub__search_tools", '{"query":"echo"}'),)), Turn("done"), Turn("more"))
    async with open_desk(hub, *turns) as desk:
        events = await streamed(desk, input="hi", tools=[SOURCE])
        call = output(events)[1]
        assert (call["server_label"], call["name"], call["status"]) == ("hub", "hub__search_tools", "completed")
        name = events[-1]["response"]["id"]
        await desk.sdk.responses.create(model="m", previous_response_id=name, input="hi", tools=[SOURCE])
        assert desk.messages()[1]["tool_calls"][0]["function"]["name"] == "hub__search_tools"


async def test_a_stream_that_is_cut_fails_once_and_keeps_what_was_said(hub: OpenHub) -> None:
    async with open_desk(hub, Turn("one two three", cut_after=3)) as desk:
        events = await streamed(desk, input="hi")
        assert kinds(events)[-1] == "failed"
        response = events[-1]["response"]
        assert (response["error"]["code"], response["status"]) == ("server_error", "failed")
        assert response["output"][0]["status"] == "incomplete"
        assert (await desk.sdk.responses.retrieve(response["id"])).status == "failed"


async def test_a_conversation_that_grows_too_long_by_its_tools_fails_as_a_prompt_that_cannot_be_answered(
    hub: OpenHub,
) -> None:
    too_long = Turn(status=400, error=b'{"error":{"message":"maximum context length is 8","code":"x"}}')
    async with open_desk(hub, Turn(calls=(("peer__echo", '{"text":"a"}'),)), too_long) as desk:
        events = await streamed(desk, input="hi", tools=[SOURCE])
        error = events[-1]["response"]["error"]
        assert (kinds(events)[-1], error["code"]) == ("failed", "invalid_prompt")
        assert "maximum context length is 8" in error["message"]


async def test_a_model_that_refuses_before_it_begins_is_an_http_error(hub: OpenHub) -> None:
    async with open_desk(hub, Turn(status=429, error=b"{}", headers={"retry-after": "30"})) as desk:
        for stream in (True, False):
            with pytest.raises(openai.RateLimitError) as limited:
                await desk.sdk.responses.create(model="m", input="hi", stream=stream)
            assert limited.value.response.headers["retry-after"] == "30"


async def test_an_answer_that_was_too_long_is_incomplete(hub: OpenHub) -> None:
    body = {"model": "up"}
    raw = (chunk(body, {"content": "cut"}), chunk(body, {}, "length"), b"data: [DONE]\n\n")
    async with open_desk(hub, Turn(raw=raw)) as desk:
        events = await streamed(desk, input="hi", max_output_tokens=1)
        assert events[-1]["type"] == "response.incomplete"
        assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
        assert output(events)[0]["status"] == "incomplete"


async def test_thoughts_and_refusals_have_items_of_their_own(hub: OpenHub) -> None:
    body = {"model": "up"}
    deltas = [{"reasoning_content": "Hm, "}, {"reasoning_content": "no."}, {"content": "I "}, {"refusal": "will not"}]
    raw = (*(chunk(body, delta) for delta in deltas), chunk(body, {}, "stop"), b"data: [DONE]\n\n")
    async with open_desk(hub, Turn(raw=raw)) as desk:
        events = await streamed(desk, input="hi", reasoning={"effort": "low", "summary": "auto"})
        thought, message = output(events)
        assert thought["summary"] == [{"type": "summary_text", "text": "Hm, no."}]
        assert [part["type"] for part in message["content"]] == ["output_text", "refusal"]
        assert desk.upstream.received[0].body["reasoning_effort"] == "low"


async def test_usage_counts_what_was_cached_and_thought(hub: OpenHub) -> None:
    body = {"model": "up"}
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 12},
    }
    raw = (chunk(body, {"content": "x"}, "stop"), sse({"choices": [], "usage": usage}), b"data: [DONE]\n\n")
    async with open_desk(hub, Turn(raw=raw)) as desk:
        said = (await streamed(desk, input="hi"))[-1]["response"]["usage"]
        assert (said["input_tokens"], said["input_tokens_details"]["cached_tokens"]) == (100, 64)
        assert (said["output_tokens"], said["output_tokens_details"]["reasoning_tokens"]) == (20, 12)


async def test_the_first_word_is_there_before_the_last_is_made(hub: OpenHub) -> None:
    last = asyncio.Event()
    async with open_desk(hub, Turn("one two", hold_last=last)) as desk:
        async with asyncio.timeout(20):
            stream = await desk.sdk.responses.create(model="m", input="hi", stream=True)
            async for event in stream:
                if event.type == "response.output_text.delta":
                    last.set()


async def test_a_client_that_leaves_cancels_model_and_tools_and_nothing_is_kept(hub: OpenHub) -> None:
    async with open_desk(hub, Turn(calls=(("peer__wait", "{}"),)), Turn("done")) as desk:
        async with asyncio.timeout(20):
            stream = await desk.sdk.responses.create(model="m", input="hi", tools=[SOURCE], stream=True)
            name = ""
            async for event in stream:
                if event.type == "response.created":
                    name = event.response.id
                if event.type == "response.mcp_call.in_progress":
                    break
            await desk.peer.waiting.wait()
            await stream.close()
            await desk.peer.cancelled.wait()
        with pytest.raises(openai.NotFoundError):
            await desk.sdk.responses.retrieve(name)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"tools": [{"type": "web_search"}]}, "web_search"),
        ({"tools": [{**SOURCE, "require_approval": "sometimes"}]}, "require_approval"),
        ({"hub": {"approval_id": "mcpr_x"}}, "mcp_approval_response"),
        ({"hub": {"context_id": "c"}}, "agents as models"),
        ({"input": [{"type": "computer_call"}]}, "computer_call"),
        ({"input": [{"role": "robot", "content": "x"}]}, "role"),
        ({"input": []}, "input is required"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"previous_response_id": "resp_x", "conversation": "conv_x"}, "exclude"),
        ({"background": True, "store": False}, "stored"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"Store": False}, "write 'store'"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "No item"),
        ({"previous_response_id": "resp_x"}, "No response"),
        ({"conversation": "conv_x"}, "No conversation"),
        ({"model": "other"}, "No model"),
    ],
)
async def test_what_cannot_be_done_is_said_by_name(hub: OpenHub, asked: dict[str, Any], words: str) -> None:
    async with open_desk(hub, Turn("never")) as desk, desk.hub.http(desk.secret) as http:
        answer = await http.post("/v1/responses", json={"model": "m", "input": "hi", **asked})
        assert answer.status_code in (400, 404), answer.text
        assert words in answer.json()["error"]["message"]
        assert desk.upstream.received == []


async def test_what_chat_completions_call_otherwise_is_renamed(hub: OpenHub) -> None:
    async with open_desk(hub, Turn("ok")) as desk:
        schema = {"type": "object", "properties": {}, "additionalProperties": False}
        image = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}
        response = await desk.sdk.responses.create(
            model="m",
            input=[{"role": "user", "content": [{"type": "input_text", "text": "see"}, image]}],  # type: ignore[list-item]
            text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}},
            max_output_tokens=64,
            tools=[WEATHER],
            tool_choice={"type": "function", "name": "weather"},
            parallel_tool_calls=False,
            extra_body={"seed": 4},
        )
        assert response.text is not None
        sent = desk.upstream.received[0].body
        assert sent["messages"][0]["content"] == [
            {"type": "text", "text": "see"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
        ]
        assert sent["response_format"] == {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": schema, "strict": True},
        }
        assert sent["tools"][0]["function"]["name"] == "weather"
        assert sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
        assert (sent["seed"], sent["parallel_tool_calls"]) == (4, False)
        assert {"max_output_tokens", "input", "text", "store"}.isdisjoint(sent)


async def test_also_without_v1_and_for_a_key_without_the_model_it_is_absent(hub: OpenHub) -> None:
    async with open_desk(hub, Turn("ok")) as desk:
        stranger = await desk.hub.key("model:other")
        async with desk.hub.http(desk.secret) as http:
            answer = await http.post("/responses", json={"model": "m", "input": "hi"})
            assert answer.status_code == 200
            assert (await http.get(f"/responses/{answer.json()['id']}")).json() == answer.json()
        async with client(desk.hub.url, stranger) as sdk:
            with pytest.raises(openai.NotFoundError) as absent:
                await sdk.responses.create(model="m", input="hi", background=True)
            assert absent.value.code == "model_not_found"


async def test_max_tool_calls_is_kept(hub: OpenHub) -> None:
    both = Turn(calls=(("peer__echo", '{"text":"a"}'), ("peer__echo", '{"text":"b"}')))
    async with open_desk(hub, both, Turn("done")) as desk:
        response = await desk.sdk.responses.create(model="m", input="hi", tools=[SOURCE], max_tool_calls=1)
        assert response.max_tool_calls == 1
        assert len(desk.peer.calls) == 1
        assert [bool(item.error) for item in response.output if item.type == "mcp_call"] == [False, True]


async def test_a_model_of_anthropics_format_is_asked_in_it_and_its_thoughts_go_back(hub: OpenHub) -> None:
    script = [
        Said(thinking="Hm.", text="Look:", calls=(("peer__echo", {"text": "a"}),)),
        Said(text="done"),
        Said(text="more"),
    ]
    async with anthropic_upstream(*script) as upstream, dual_era() as peer:
        model = f"m: {{provider: anthropic, model: up, base_url: '{upstream.url}', api_key: {KEY}}}"
        async with hub(f"models:\n  {model}\nmcpServers:\n  peer: {{url: '{peer.url}'}}\n") as running:
            await running.services.sync.refresh("peer")
            async with client(running.url, await running.key("model:m", "tool:*")) as sdk:
                first = await sdk.responses.create(model="m", input="hi", instructions="be brief", tools=[SOURCE])
                said = ["mcp_list_tools", "reasoning", "message", "mcp_call", "message"]
                assert [item.type for item in first.output] == said
                assert first.usage is not None
                assert first.usage.output_tokens == 14
                again = upstream.received[1].body
                assert again["system"] == "be brief"
                assert again["messages"][1]["content"][0]["signature"] == SIGNATURE
                assert again["messages"][2]["content"][0]["type"] == "tool_result"
                more: Any = {"input": "go on", "previous_response_id": first.id, "tools": [SOURCE]}
                second = await sdk.responses.create(model="m", **more)
                assert second.output_text == "more"
