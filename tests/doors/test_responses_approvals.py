"""Approvals by the items of the Responses API: calls that wait, answers in the next request, with and without a store."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import ADMIN_KEY, OpenHub
from tests.doors.responses_desk import SOURCE, WEATHER, Desk, checked, client, kinds, open_desk, output, streamed
from tests.peers.mcp_servers import dual_era
from tests.peers.openai_upstream import Turn, openai_upstream
from tests.processes import hub_process

ASKS: Any = {**SOURCE, "require_approval": "always"}
UNSAID: Any = {name: value for name, value in SOURCE.items() if name != "require_approval"}
CALLS = Turn("Look:", calls=(("peer__echo", '{"text":"a"}'),))


def answer(name: str, *, approve: bool = True, **members: Any) -> Any:
    return {"type": "mcp_approval_response", "approval_request_id": name, "approve": approve, **members}


async def asked(desk: Desk, **members: Any) -> tuple[str, str]:
    """A response that asks for one approval, and the request's id."""
    events = await streamed(desk, input="hi", tools=[members.pop("source", ASKS)], **members)
    assert kinds(events)[-3:] == ["output_item.added", "output_item.done", "completed"]
    request = output(events)[-1]
    assert (request["type"], request["server_label"], request["name"]) == ("mcp_approval_request", "here", "echo")
    assert request["arguments"] == '{"text":"a"}'
    assert not any(item["type"] == "mcp_call" for item in output(events))
    assert desk.peer.calls == []
    return events[-1]["response"]["id"], request["id"]


@pytest.mark.parametrize("source", [ASKS, UNSAID], ids=["always", "unsaid"])
async def test_a_call_waits_and_is_made_when_the_caller_approves(hub: OpenHub, source: Any) -> None:
    async with open_desk(hub, CALLS, Turn("done"), Turn("more")) as desk:
        name, approval = await asked(desk, source=source)
        events = await streamed(desk, input=[answer(approval)], previous_response_id=name, tools=[source])
        call, message = output(events)
        assert (call["type"], call["approval_request_id"], call["output"]) == ("mcp_call", approval, '{"text": "a"}')
        assert message["content"][0]["text"] == "done "
        assert desk.peer.calls == [("echo", {"text": "a"})]
        roles = [one["role"] for one in desk.messages()]
        assert roles == ["user", "assistant", "tool"]
        last = events[-1]["response"]["id"]
        await desk.sdk.responses.create(model="m", input="go on", previous_response_id=last, tools=[source])
        roles = [one["role"] for one in desk.messages()]
        assert roles == ["user", "assistant", "tool", "assistant", "user"]
        with pytest.raises(openai.ConflictError):
            await desk.sdk.responses.create(
                model="m", input=[answer(approval)], previous_response_id=name, tools=[source]
            )
        assert len(desk.peer.calls) == 1


async def test_a_call_that_is_denied_is_not_made_and_the_model_hears_why(hub: OpenHub) -> None:
    async with open_desk(hub, CALLS, Turn("As you like.")) as desk:
        name, approval = await asked(desk)
        refusal = answer(approval, approve=False, reason="not today")
        events = await streamed(desk, input=[refusal], previous_response_id=name, tools=[ASKS])
        assert output(events)[0]["status"] == "failed"
        assert "not today" in desk.messages()[-1]["content"]
        assert desk.peer.calls == []


async def test_without_a_store_the_request_item_stands_in_the_input(hub: OpenHub) -> None:
    async with open_desk(hub, CALLS, Turn("done")) as desk:
        first = await desk.sdk.responses.create(model="m", input="hi", tools=[ASKS], store=False)
        said: Any = [item.to_dict() for item in first.output]
        items: Any = [{"role": "user", "content": "hi"}, *said, answer(said[-1]["id"])]
        second = await desk.sdk.responses.create(model="m", input=items, tools=[ASKS], store=False)
        assert [item.type for item in second.output] == ["mcp_call", "message"]
        assert desk.peer.calls == [("echo", {"text": "a"})]
        with desk.hub.services.database.engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM kept").scalar() == 0


async def test_tools_that_need_none_are_called_meanwhile_and_own_tools_are_the_callers(hub: OpenHub) -> None:
    some: Any = {
        **SOURCE,
        "require_approval": {"always": {"tool_names": ["echo"]}, "never": {"tool_names": ["region"]}},
    }
    both = Turn(calls=(("peer__region", '{"region":"eu"}'), ("peer__echo", '{"text":"a"}')))
    async with open_desk(hub, both, Turn(calls=(("weather", "{}"),))) as desk:
        first = await desk.sdk.responses.create(model="m", input="hi", tools=[some, WEATHER])
        assert [item.type for item in first.output] == ["mcp_list_tools", "mcp_call", "mcp_approval_request"]
        assert [name for name, _ in desk.peer.calls] == ["region"]
        second = await desk.sdk.responses.create(
            model="m",
            input=[answer(first.output[-1].id or "")],
            previous_response_id=first.id,
            tools=[some, WEATHER],
        )
        assert [item.type for item in second.output] == ["mcp_call", "function_call"]
        assert [name for name, _ in desk.peer.calls] == ["region", "echo"]


async def test_answers_are_the_callers_own_whole_and_alone(hub: OpenHub) -> None:
    twice = Turn(calls=(("peer__echo", '{"text":"a"}'), ("peer__echo", '{"text":"b"}')))
    async with open_desk(hub, twice, Turn("done")) as desk:
        first = await desk.sdk.responses.create(model="m", input="hi", tools=[ASKS])
        one, two = (item.id for item in first.output if item.type == "mcp_approval_request")
        more: Any = {"model": "m", "previous_response_id": first.id, "tools": [ASKS]}
        with pytest.raises(openai.ConflictError, match=two):
            await desk.sdk.responses.create(input=[answer(one)], **more)
        with pytest.raises(openai.BadRequestError, match="alone"):
            await desk.sdk.responses.create(input=[answer(one), {"role": "user", "content": "x"}], **more)
        stranger = await desk.hub.key("model:m", "tool:*")
        async with client(desk.hub.url, stranger) as other:
            with pytest.raises(openai.NotFoundError):
                await other.responses.create(model="m", input=[answer(one)], tools=[ASKS])
        with pytest.raises(openai.NotFoundError):
            await desk.sdk.responses.create(input=[answer("mcpr_unknown")], **more)
        assert desk.peer.calls == []
        await desk.sdk.responses.create(input=[answer(one), answer(two)], **more)
        assert len(desk.peer.calls) == 2


async def test_what_a_rule_of_the_hub_asks_for_is_answered_in_the_inbox_only(hub: OpenHub) -> None:
    async with open_desk(hub, CALLS, Turn("done"), server="require_approval: always") as desk:
        name, approval = await asked(desk, source=SOURCE)
        more: Any = {"model": "m", "input": [answer(approval)], "previous_response_id": name, "tools": [SOURCE]}
        with pytest.raises(openai.PermissionDeniedError):
            await desk.sdk.responses.create(**more)
        assert desk.peer.calls == []
        async with desk.hub.http(ADMIN_KEY) as admin:
            decided = await admin.post(f"/api/approvals/{approval}", json={"decision": "approve"})
            assert decided.status_code == 200, decided.text
        assert (await desk.sdk.responses.create(**more)).output_text == "done"
        assert desk.peer.calls == [("echo", {"text": "a"})]


async def test_a_call_that_waits_survives_kill_9(tmp_path: Path) -> None:
    async with openai_upstream(CALLS, Turn("done")) as upstream, dual_era() as peer, asyncio.timeout(120):
        yaml = (
            f"models:\n  m: {{provider: deepseek, model: up, base_url: '{upstream.url}', api_key: sk-up-00}}\n"
            f"mcpServers:\n  peer: {{url: '{peer.url}'}}\n"
        )
        async with hub_process(tmp_path, yaml) as hub:
            secret = await hub.key("ann", "model:*", "tool:*")
            async with client(hub.url, secret) as sdk:
                first = await sdk.responses.create(model="m", input="hi", tools=[ASKS])
                hub.send(signal.SIGKILL)
                await hub.child.wait()
        async with hub_process(tmp_path, yaml) as hub, client(hub.url, secret) as sdk:
            approval = first.output[-1].id or ""
            second = await sdk.responses.create(
                model="m", input=[answer(approval)], previous_response_id=first.id, tools=[ASKS]
            )
        assert second.output_text == "done"
        assert peer.calls == [("echo", {"text": "a"})]


async def decide(desk: Desk, approval: str, decision: str = "approve", **members: Any) -> None:
    """Answer in the inbox."""
    async with desk.hub.http(ADMIN_KEY) as admin:
        decided = await admin.post(f"/api/approvals/{approval}", json={"decision": decision, **members})
        assert decided.status_code == 200, decided.text


async def once(sdk: openai.AsyncOpenAI, name: str, status: str = "completed") -> Any:
    """A response that is made in the background, once it is in this state."""
    async with asyncio.timeout(30):
        while True:
            with suppress(openai.NotFoundError):  # it has not begun yet
                found = await sdk.responses.retrieve(name)
                if found.status == status:
                    return found
            await asyncio.sleep(0.01)


async def test_after_the_last_answer_of_the_inbox_the_run_goes_on_by_itself(hub: OpenHub) -> None:
    async with open_desk(hub, CALLS, Turn("done"), Turn("more"), server="require_approval: always") as desk:
        events = await streamed(desk, input="hi", tools=[SOURCE])
        first, approval = events[-1]["response"], output(events)[-1]["id"]
        (waiting,) = first["hub"]["approvals"]
        assert waiting["answerer"] == "admin"
        await decide(desk, approval)
        second = await once(desk.sdk, waiting["response_id"])
        assert (second.status, second.output_text, second.previous_response_id) == ("completed", "done ", first["id"])
        assert [item.type for item in second.output] == ["mcp_call", "message"]
        assert second.output[0].approval_request_id == approval
        assert desk.peer.calls == [("echo", {"text": "a"})]
        (said,) = (await desk.sdk.responses.input_items.list(second.id)).data
        assert (said.type, said.approval_request_id, said.approve) == ("mcp_approval_response", approval, True)
        back: Any = {"input": [answer(approval)], "previous_response_id": first["id"], "tools": [SOURCE]}
        whole = await desk.sdk.responses.create(model="m", **back)
        assert (whole.id, whole.output_text) == (second.id, "done ")
        assert (await streamed(desk, **back))[-1]["response"]["id"] == second.id
        assert len(desk.upstream.received) == 2
        await desk.sdk.responses.create(model="m", input="go on", previous_response_id=second.id, tools=[SOURCE])
        assert [one["role"] for one in desk.messages()] == ["user", "assistant", "tool", "assistant", "user"]


async def test_who_comes_back_while_it_goes_on_reads_along(hub: OpenHub) -> None:
    hold = asyncio.Event()
    async with open_desk(hub, CALLS, Turn("all is done", hold_last=hold), server="require_approval: always") as desk:
        first = await desk.sdk.responses.create(model="m", input="hi", tools=[SOURCE])
        (waiting,) = first.to_dict()["hub"]["approvals"]  # type: ignore[index]
        await decide(desk, waiting["id"])
        assert (await once(desk.sdk, waiting["response_id"], "in_progress")).background
        back: Any = {"input": [answer(waiting["id"])], "previous_response_id": first.id, "tools": [SOURCE]}
        body = {"model": "m", "stream": True, **back}
        async with (
            asyncio.timeout(30),
            desk.hub.http(desk.secret) as http,
            http.stream("POST", "/v1/responses", json=body) as stream,
        ):
            lines = []
            async for line in stream.aiter_lines():
                lines.append(line)
                if "response.output_text.delta" in line:
                    hold.set()
        events = checked(lines)
        assert (events[-1]["type"], output(events)[-1]["content"][0]["text"]) == ("response.completed", "all is done ")
        assert len(desk.peer.calls) == 1


async def test_what_is_denied_in_the_inbox_goes_on_too(hub: OpenHub) -> None:
    async with open_desk(hub, CALLS, Turn("As you like."), server="require_approval: always") as desk:
        first = await desk.sdk.responses.create(model="m", input="hi", tools=[SOURCE])
        (waiting,) = first.to_dict()["hub"]["approvals"]  # type: ignore[index]
        await decide(desk, waiting["id"], "deny", reason="not today")
        second = await once(desk.sdk, waiting["response_id"])
        assert second.output_text == "As you like. "
        assert "not today" in desk.messages()[-1]["content"]
        assert desk.peer.calls == []


async def test_what_goes_on_by_itself_in_a_conversation_is_added_to_it(hub: OpenHub) -> None:
    async with open_desk(hub, CALLS, Turn("done"), server="require_approval: always") as desk:
        talk = await desk.sdk.conversations.create()
        first = await desk.sdk.responses.create(model="m", input="hi", tools=[SOURCE], conversation=talk.id)
        (waiting,) = first.to_dict()["hub"]["approvals"]  # type: ignore[index]
        await decide(desk, waiting["id"])
        await once(desk.sdk, waiting["response_id"])
        items = (await desk.sdk.conversations.items.list(talk.id, order="asc")).data
        asking = ["message", "mcp_list_tools", "message", "mcp_approval_request"]
        assert [item.type for item in items] == [*asking, "mcp_approval_response", "mcp_call", "message"]


async def test_without_a_store_what_went_on_by_itself_is_at_rest_nowhere(hub: OpenHub) -> None:
    async with open_desk(hub, CALLS, Turn("done"), server="require_approval: always") as desk:
        first = await desk.sdk.responses.create(model="m", input="hi", tools=[SOURCE], store=False)
        said: Any = [item.to_dict() for item in first.output]
        (waiting,) = first.to_dict()["hub"]["approvals"]  # type: ignore[index]
        await decide(desk, waiting["id"])
        assert (await once(desk.sdk, waiting["response_id"])).output_text == "done "
        items: Any = [{"role": "user", "content": "hi"}, *said, answer(waiting["id"])]
        second = await desk.sdk.responses.create(model="m", input=items, tools=[SOURCE], store=False)
        assert (second.id, second.output_text) == (waiting["response_id"], "done ")
        with pytest.raises(openai.NotFoundError):
            await desk.sdk.responses.create(model="m", input="go on", previous_response_id=second.id)
        with desk.hub.services.database.engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM kept").scalar() == 0
        stranger = await desk.hub.key("model:m", "tool:*")
        async with client(desk.hub.url, stranger) as other:
            with pytest.raises(openai.NotFoundError):
                await other.responses.retrieve(second.id)


async def test_a_run_that_goes_on_by_itself_may_wait_again(hub: OpenHub) -> None:
    more = Turn(calls=(("peer__echo", '{"text":"b"}'),))
    async with open_desk(hub, CALLS, more, Turn("done"), server="require_approval: always") as desk:
        first = await desk.sdk.responses.create(model="m", input="hi", tools=[SOURCE])
        (waiting,) = first.to_dict()["hub"]["approvals"]  # type: ignore[index]
        await decide(desk, waiting["id"])
        second = await once(desk.sdk, waiting["response_id"])
        (waiting,) = second.to_dict()["hub"]["approvals"]
        await decide(desk, waiting["id"])
        third = await once(desk.sdk, waiting["response_id"])
        assert (third.output_text, third.previous_response_id) == ("done ", second.id)
        assert [arguments for _, arguments in desk.peer.calls] == [{"text": "a"}, {"text": "b"}]


async def test_what_was_decided_goes_on_by_itself_after_kill_9(tmp_path: Path) -> None:
    async with openai_upstream(CALLS, Turn("done")) as upstream, dual_era() as peer, asyncio.timeout(120):
        yaml = (
            f"models:\n  m: {{provider: deepseek, model: up, base_url: '{upstream.url}', api_key: sk-up-00}}\n"
            f"mcpServers:\n  peer: {{url: '{peer.url}', require_approval: always}}\n"
        )
        async with hub_process(tmp_path, yaml) as hub:
            secret = await hub.key("ann", "model:*", "tool:*")
            boss = await hub.key("boss", "admin:approvals")
            async with client(hub.url, secret) as sdk:
                first = await sdk.responses.create(model="m", input="hi", tools=[SOURCE])
                (waiting,) = first.to_dict()["hub"]["approvals"]  # type: ignore[index]
                hub.send(signal.SIGKILL)
                await hub.child.wait()
        async with hub_process(tmp_path, yaml) as hub, client(hub.url, secret) as sdk:
            async with hub.http(boss) as inbox:
                decided = await inbox.post(f"/api/approvals/{waiting['id']}", json={"decision": "approve"})
                assert decided.status_code == 200, decided.text
            second = await once(sdk, waiting["response_id"])
        assert second.output_text == "done "
        assert peer.calls == [("echo", {"text": "a"})]
