"""Fakes of the Responses API with the suite's brain: of an OpenAI-compatible endpoint, and of an Azure AI Foundry project behind Entra.

Written from the published references, all read 2026-11:

* OpenAI, API reference, Responses, "Create a model response": `input` (`message` with `input_text`, `input_image`; `function_call_output` with
  `call_id`, `output`; `mcp_approval_response` with `approval_request_id`, `approve`, `reason`), `model`, `stream`, `background`, `store`,
  `previous_response_id`, `conversation`, `user`; "Get a model response": `stream`, `starting_after`; "Cancel a response": only of the background.
* the same, "Streaming events": `type`, `sequence_number`, `response` (`id`, `status`, `error`, `output`), `item`, `item_id`, `output_index`,
  `content_index`, `delta`, `obfuscation`.
* the same, Conversations, "Create a conversation": `metadata`; `id`, `object`.
* Azure AI Foundry, REST reference of projects, v1: `/openai/v1/conversations`, `/openai/v1/responses` with `agent_reference` (`type`, `name`,
  `version`), `/agents/NAME?api-version=v1` (`versions.latest.description`).
* Microsoft identity platform, "client credentials flow": `grant_type`, `client_id`, `client_secret`, `scope`; `access_token`, `expires_in`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from tests.conftest import served
from tests.peers.model_service import Received, read, reply
from tests.peers.openai_upstream import sse
from tests.peers.platforms import brain
from tests.peers.platforms.platform import NOBODYS, Kind, Odd, Platform, event, opening

PROJECT = "/api/projects/p"
ASKED = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "ask_user", "status": "completed"}
APPROVAL = {"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "shop", "name": "buy"}


@dataclass
class Response:
    """One response, and all events of it that there were."""

    id: str
    said: list[str]
    """By the user, until it."""
    events: list[dict[str, Any]] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    is_over: bool = False
    work: asyncio.Task[None] | None = None

    async def tell(self, kind: str, **members: Any) -> None:
        """Add an event, numbered."""
        self.events.append({"type": kind, "sequence_number": len(self.events), **members})
        async with self.news:
            self.news.notify_all()

    async def reach(self, status: str, **members: Any) -> None:
        """Say how far it is."""
        self.is_over = status != "in_progress"
        response = {"id": self.id, "object": "response", "status": status, "output": [], "error": None, **members}
        await self.tell(f"response.{status}", response=response)


class Endpoint:
    """Responses, conversations and tokens; `cut_after`: streams break once they have said so many events."""

    def __init__(self, base: str, *, with_tokens: bool, background: bool = True) -> None:
        self.base, self.with_tokens = base, with_tokens
        self.good: set[str] = set()
        self.platform = Platform(expire=self.good.clear if with_tokens else None)
        self.issued = 0
        self.conversations: dict[str, list[str]] = {}
        self.responses: dict[str, Response] = {}
        self.asked: list[dict[str, Any]] = []
        self.cut_after: int | None = None
        self.background = background

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = await read(scope, receive)
        query = parse_qs(scope["query_string"].decode())

        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        path, method = request.path.removeprefix(self.base), scope["method"]
        if request.path == "/tenant-1/oauth2/v2.0/token":
            await reply(send, 200, self.token(request))
        elif self.with_tokens and token not in self.good:
            await reply(send, 401, {"error": {"code": "401", "message": "the token is expired"}})
        elif request.path == f"{PROJECT}/agents/brain":
            assert query == {"api-version": ["v1"]}
            newest = {
                "object": "agent.version",
                "version": "3",
                "description": "Thinks.",
                "definition": {"kind": "prompt"},
            }
            await reply(send, 200, {"object": "agent", "id": "brain", "name": "brain", "versions": {"latest": newest}})
        elif path == "/conversations":
            name = f"conv_{len(self.conversations) + 1}"
            self.conversations[name] = []
            await reply(send, 200, {"id": name, "object": "conversation", "metadata": request.body["metadata"]})
        elif path == "/responses":
            await self._stream(self._created(request.body), 0, send)
        else:
            name, _, verb = path.removeprefix("/responses/").partition("/")
            response = self.responses[name]
            if verb == "cancel":
                assert method == "POST"
                assert response.work is not None
                response.work.cancel()
                self.platform.cancelled.set()
                await reply(send, 200, {"id": name, "object": "response", "status": "cancelled"})
            else:
                assert (method, verb, query["stream"]) == ("GET", "", ["true"])
                await self._stream(response, int(query["starting_after"][0]) + 1, send)

    def token(self, request: Received) -> dict[str, Any]:
        form = {name: value for name, (value,) in parse_qs(request.raw.decode()).items()}
        wanted = {"grant_type": "client_credentials", "client_id": "hub", "client_secret": "s3cret"}
        assert form == {**wanted, "scope": "https://ai.azure.com/.default"}
        self.issued += 1
        self.good.add(f"token-{self.issued}")
        return {
            "token_type": "Bearer",
            "expires_in": 3599,
            "ext_expires_in": 3599,
            "access_token": f"token-{self.issued}",
        }

    def _created(self, body: dict[str, Any]) -> Response:
        kept = (True, True) if self.background else (None, None)
        assert (body["stream"], body.get("background"), body.get("store")) == (True, *kept)
        self.asked.append(body)
        if self.with_tokens:
            assert body["agent_reference"] == {"type": "agent_reference", "name": "brain"}
            assert "model" not in body, "the agent has one"
            said = self.conversations[body["conversation"]]
            self.platform.named.append(body["conversation"])
        else:
            assert body["model"] == "m"
            previous = body.get("previous_response_id")
            said = list(self.responses[previous].said) if previous else []
            self.platform.named.append(body["user"])
        response = Response(f"resp_{len(self.responses) + 1}", said)
        self.responses[response.id] = response
        response.work = asyncio.create_task(self._work(response, body["input"]))
        return response

    async def _stream(self, response: Response, number: int, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        last = None if self.cut_after is None else number + self.cut_after
        while True:
            async with response.news:
                while number >= len(response.events) and not response.is_over:
                    await response.news.wait()
            if number == last:
                raise ConnectionAbortedError("as the script says")
            if number >= len(response.events):
                break
            await send({"type": "http.response.body", "body": sse(response.events[number]), "more_body": True})
            number += 1
        await send({"type": "http.response.body", "body": b""})

    async def _work(self, response: Response, asked: list[dict[str, Any]]) -> None:
        """What the agent does."""
        await response.tell("response.created", response={"id": response.id, "status": "queued", "output": []})
        await response.reach("in_progress")
        await response.tell("response.nobody_knows", item={"type": "later"})
        answer = asked[0].get("output")
        if asked[0]["type" if "type" in asked[0] else "role"] == "mcp_approval_response":
            assert asked[0]["approval_request_id"] == APPROVAL["id"]
            answer = f"{asked[0]['approve']}: {asked[0].get('reason')}"
        content = asked[0].get("content", ())
        text = "".join(part["text"] for part in content if part["type"] == "input_text")
        image = next((part["image_url"] for part in content if part["type"] == "input_image"), None)
        try:
            if image is not None:
                _, _, data = image.partition(";base64,")
                await self._item(response, {"type": "image_generation_call", "id": "ig_1", "result": data})
            elif answer is not None:
                await self._say(response, [brain.told(answer)])
            elif text == "buy":
                await self._item(response, {"type": "mcp_call", "id": "mcp_1", "name": "look", "server_label": "shop"})
                await self._item(response, {**APPROVAL, "arguments": '{"what": "tea"}'})
            elif text == "cut":
                await response.reach("incomplete", incomplete_details={"reason": "max_output_tokens"})
                return
            else:
                before = list(response.said)
                response.said.append(text)
                await self._say(response, brain.say(before, text, self.platform.released.wait))
        except brain.Question as question:
            await self._item(response, {**ASKED, "arguments": json.dumps({"question": str(question)})})
        except brain.Fell as error:
            await response.reach("failed", error={"code": "server_error", "message": str(error)})
            return
        await response.reach("completed", usage={"input_tokens": 1, "output_tokens": 1, "total_tokens": 2})

    async def _item(self, response: Response, item: dict[str, Any]) -> None:
        await response.tell("response.output_item.added", output_index=0, item={**item, "status": "in_progress"})
        await response.tell("response.output_item.done", output_index=0, item=item)

    async def _say(self, response: Response, pieces: Any) -> None:
        whole, where = "", {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
        await response.tell("response.output_item.added", output_index=0, item=message)
        async for piece in pieces if not isinstance(pieces, list) else _each(pieces):
            whole += piece
            await response.tell("response.output_text.delta", **where, delta=piece, logprobs=[], obfuscation="x7")
        part = {"type": "output_text", "text": whole, "annotations": []}
        await response.tell("response.output_text.done", **where, text=whole)
        await response.tell("response.output_item.done", output_index=0, item={**message, "content": [part]})


async def _each(pieces: list[str]) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


@asynccontextmanager
async def open_endpoint(*, with_tokens: bool, background: bool = True) -> AsyncIterator[Endpoint]:
    """Either, with all that it was asked."""
    endpoint = Endpoint(
        f"{PROJECT}/openai/v1" if with_tokens else "/v1", with_tokens=with_tokens, background=background
    )
    async with served(endpoint) as url:
        signs_in = {"tenant_id": "tenant-1", "client_id": "hub", "client_secret": "s3cret", "authority": url}
        endpoint.platform.entry = (
            f'{{bridge: azure, url: "{url}{PROJECT}", assistant: brain, options: {json.dumps({"entra": signs_in, "background": background})}}}'
            if with_tokens
            else f'{{bridge: openai, url: "{url}/v1", options: {{model: m, api: responses, background: true}}}}'
        )
        yield endpoint
        for response in endpoint.responses.values():
            assert response.work is not None
            response.work.cancel()


AMONG: tuple[dict[str, Any], ...] = (
    {"type": "response.later", "item_id": "msg_1", "delta": NOBODYS},
    {"type": "response.output_item.added", "output_index": 7, "item": {"type": "reasoning", "id": "rs_gone"}},
    {"type": "response.reasoning_summary_text.delta", "item_id": "rs_gone", "output_index": 7, "delta": NOBODYS},
    {"type": "response.output_item.done", "output_index": 7, "item": {"type": "reasoning", "id": "rs_gone"}},
    {"type": "response.output_text.annotation.added", "item_id": "msg_gone", "output_index": 8, "annotation": {}},
    {"type": "response.function_call_arguments.delta", "item_id": "fc_gone", "output_index": 9, "delta": "{"},
    {"type": "response.content_part.done", "item_id": "msg_gone", "part": {"type": "output_text", "text": NOBODYS}},
)
"""Of items that nobody knows, and of no number: they are the next one's neighbours."""

ODD = Odd(
    "events of items come between one another, each by its `item_id` and in the order of its `sequence_number`; one that was seen may come again where a stream is "
    "read on (Responses, Streaming events)",
    tuple(event(one, one["type"]) for one in AMONG),
    (
        event(
            {"type": "response.output_text.delta", "item_id": "msg_1", "delta": NOBODYS}, "response.output_text.delta"
        ),
    ),
)

AZURE = Kind(
    "azure",
    opening(partial(open_endpoint, with_tokens=True)),
    "a fake of a Foundry project and of Entra, from their references",
    {},
    ODD,
)

OPENAI_RESPONSES = Kind(
    "openai, api: responses",
    opening(partial(open_endpoint, with_tokens=False)),
    "a fake, from the API reference; `background: true`",
    {"renews": "its keys do not expire by themselves"},
    ODD,
)
