"""A fake of classic agents of Azure AI Foundry, with threads and runs, with the suite's brain, behind Entra's tokens (responses_api).

Written from the REST reference of Foundry projects, 2025-05-01, "Agents", read 2026-11:

* Threads, "Create Thread": `metadata`; `id`, `object`, `created_at`. Assistants, "Get Agent": `name`, `description`, `model`, `instructions`, `tools`.
* Runs, "Create Run": `assistant_id`, `additional_messages` (`role`, `content` of `text` and `image_url`), `stream`; "Submit Tool Outputs To Run": `tool_outputs`
  (`tool_call_id`, `output`), `tool_approvals` (`approve`), `stream`; "Cancel Run"; `status`, `required_action` (`submit_tool_outputs`, `submit_tool_approval`), `last_error`,
  `incomplete_details`.
* "Streaming events": `thread.run.*`, `thread.run.step.*`, `thread.message.*` (`delta.content` of `text` and `image_file`), `error`, `done`.
* Files, "Get File Content".
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

from tests.conftest import served
from tests.peers.model_service import Received, read, reply, unless_left
from tests.peers.platforms import brain
from tests.peers.platforms.platform import NOBODYS, Kind, Odd, Platform, event, opening
from tests.peers.platforms.responses_api import PROJECT, Endpoint

AMONG: tuple[tuple[str, dict[str, Any]], ...] = (
    ("thread.created", {}),
    ("thread.message.created", {"content": []}),
    ("thread.message.in_progress", {"content": []}),
    ("thread.message.delta", {"delta": {"content": []}}),
    ("thread.message.delta", {"delta": {}}),
    ("thread.message.incomplete", {"content": []}),
    ("thread.run.step.created", {"status": "in_progress", "type": "message_creation"}),
    ("thread.run.step.delta", {"delta": {"step_details": {"type": "tool_calls", "tool_calls": [{"id": NOBODYS}]}}}),
    ("thread.run.step.cancelled", {"status": "cancelled"}),
    ("thread.run.step.completed", {"status": "completed", "step_details": {"type": "message_creation"}}),
)

ASKED = {"id": "call_1", "type": "function", "function": {"name": "ask_user"}}
APPROVAL = {"id": "call_2", "type": "mcp", "name": "buy", "server_label": "shop", "arguments": '{"what": "tea"}'}


class Project:
    """The project; runs wait here for what they have required."""

    def __init__(self) -> None:
        self.entra = Endpoint("", with_tokens=True)
        self.platform = Platform(expire=lambda: self.entra.good.clear())
        self.threads: dict[str, list[str]] = {}
        self.runs = 0
        self.files: dict[str, bytes] = {}
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = await read(scope, receive)

        if request.path == "/tenant-1/oauth2/v2.0/token":
            await reply(send, 200, self.entra.token(request))
        elif request.headers.get("authorization", "").removeprefix("Bearer ") not in self.entra.good:
            await reply(send, 401, {"error": {"code": "Unauthorized", "message": "the token is expired"}})
        else:
            assert parse_qs(scope["query_string"].decode()) == {"api-version": ["2025-05-01"]}
            await self._asked(request, receive, send)

    async def _asked(self, request: Received, receive: Any, send: Any) -> None:
        match request.path.removeprefix(f"{PROJECT}/").split("/"):
            case ["assistants", "asst_1"]:
                await reply(
                    send,
                    200,
                    {"id": "asst_1", "object": "assistant", "name": "Brain", "description": "Thinks.", "tools": []},
                )
            case ["threads"]:
                name = f"thread_{len(self.threads) + 1}"
                self.threads[name] = []
                await reply(
                    send, 200, {"id": name, "object": "thread", "created_at": 1, "metadata": request.body["metadata"]}
                )
            case ["files", name, "content"]:
                await reply(send, 200, self.files[name], "image/png")
            case ["threads", _, "runs", run, "cancel"]:
                self.platform.cancelled.set()
                await reply(send, 200, {"id": run, "object": "thread.run", "status": "cancelling"})
            case ["threads", thread, "runs", *rest]:
                self.asked.append(request.body)
                await unless_left(self._run(thread, rest, request.body, send), receive)
            case _:
                raise AssertionError(request.path)

    async def _run(self, thread: str, rest: list[str], body: dict[str, Any], send: Any) -> None:
        assert body["stream"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})

        async def tell(name: str, data: Any) -> None:
            text = f"event: {name}\ndata: {data if isinstance(data, str) else json.dumps(data)}\n\n"
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        if rest:
            assert rest[1:] == ["submit_tool_outputs"]
            run = rest[0]
        else:
            assert body["assistant_id"] == "asst_1"
            self.runs += 1
            run = f"run_{self.runs}"
        self.platform.named.append(thread)
        at: dict[str, Any] = {"id": run, "object": "thread.run", "thread_id": thread, "last_error": None, "later": [1]}
        await tell("thread.run.created", {**at, "status": "queued"})
        await tell("thread.of.another.year", {"id": "x"})
        await tell("thread.run.in_progress", {**at, "status": "in_progress"})
        try:
            await self._answer(self.threads[thread], body, tell)
        except brain.Question as question:
            asked = {**ASKED, "function": {**ASKED["function"], "arguments": json.dumps({"question": str(question)})}}  # type: ignore[dict-item]
            calls = {"submit_tool_outputs": {"tool_calls": [asked]}, "type": "submit_tool_outputs"}
            await tell("thread.run.requires_action", {**at, "status": "requires_action", "required_action": calls})
        except Approval:
            calls = {"submit_tool_approval": {"tool_calls": [APPROVAL]}, "type": "submit_tool_approval"}
            await tell("thread.run.requires_action", {**at, "status": "requires_action", "required_action": calls})
        except brain.Fell as error:
            failed = {"code": "server_error", "message": str(error)}
            await tell("thread.run.failed", {**at, "status": "failed", "last_error": failed})
        except Cut:
            reason = {"incomplete_details": {"reason": "max_completion_tokens"}}
            await tell("thread.run.incomplete", {**at, "status": "incomplete", **reason})
        else:
            await tell("thread.run.completed", {**at, "status": "completed", "usage": {"total_tokens": 2}})
        await tell("done", "[DONE]")
        await send({"type": "http.response.body", "body": b""})

    async def _answer(self, said: list[str], body: dict[str, Any], tell: Any) -> None:
        for output in body.get("tool_outputs", ()):
            assert output["tool_call_id"] == "call_1"
            await _say(tell, _each([brain.told(output["output"])]))
            return
        for approval in body.get("tool_approvals", ()):
            assert approval["tool_call_id"] == "call_2"
            await _say(tell, _each([f"approved: {approval['approve']}"]))
            return
        [message] = body["additional_messages"]
        assert message["role"] == "user"
        text = "".join(part["text"] for part in message["content"] if part["type"] == "text")
        if image := next(
            (part["image_url"]["url"] for part in message["content"] if part["type"] == "image_url"), None
        ):
            self.files["file_1"] = base64.b64decode(image.partition(";base64,")[2])
            part = {"type": "image_file", "image_file": {"file_id": "file_1"}}
            await tell("thread.message.completed", {"id": "msg_1", "object": "thread.message", "content": [part]})
            return
        before = list(said)
        said.append(text)
        if text == "buy":
            calls = [{"id": "c", "type": "bing_grounding", "bing_grounding": {}}]
            details = {"type": "tool_calls", "tool_calls": calls}
            await tell("thread.run.step.completed", {"id": "step_1", "status": "completed", "step_details": details})
            raise Approval
        if text == "cut":
            raise Cut
        await _say(tell, brain.say(before, text, self.platform.released.wait))


class Approval(Exception):
    """The run needs an approval."""


class Cut(Exception):
    """The run ends early."""


async def _each(pieces: list[str]) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


async def _say(tell: Any, pieces: AsyncIterator[str]) -> None:
    whole, at = "", {"id": "msg_1", "object": "thread.message.delta"}
    async for piece in pieces:
        whole += piece
        content = [{"index": 0, "type": "text", "text": {"value": piece, "annotations": []}}]
        await tell("thread.message.delta", {**at, "delta": {"role": "assistant", "content": content}})
    content = [{"type": "text", "text": {"value": whole, "annotations": []}}]
    await tell("thread.message.completed", {"id": "msg_1", "object": "thread.message", "content": content})


@asynccontextmanager
async def open_project() -> AsyncIterator[Project]:
    """A project with one classic agent."""
    project = Project()
    async with served(project) as url:
        signs_in = {"tenant_id": "tenant-1", "client_id": "hub", "client_secret": "s3cret", "authority": url}
        options = json.dumps({"api": "threads", "entra": signs_in})
        project.platform.entry = f'{{bridge: azure, url: "{url}{PROJECT}", assistant: asst_1, options: {options}}}'
        yield project


AZURE_THREADS = Kind(
    "azure, api: threads",
    opening(open_project),
    "a fake of a Foundry project and of Entra, from their references",
    {"rejoin": "a stream of a run cannot be joined again"},
    Odd(
        "events of steps and of messages come between one another, each by its id; more kinds of events may be added (Streaming events)",
        tuple(event({"id": f"{name} {NOBODYS}", **data}, name) for name, data in AMONG),
        end=event({"code": "Unauthorized", "message": "the token has expired"}, "error"),
    ),
)
