"""Two principals, every operation, every field that holds an id, in each of the five speeches: what is one's is not there for
the other. A foreign id and one that nobody has are asked for side by side, and the two answers are the same to the byte but
for the id itself. Timing is not compared.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args

import grpc
import grpc.aio
import httpx
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.rpc import error_details_pb2  # noqa: F401 - its types stand in the details
from google.rpc.status_pb2 import Status

from agents.discovery import Route
from agents.grpc_wire import SERVICE
from agents.listing import DEFAULT_SIZE
from agents.speech import SPEECHES, STREAMING, Ask, Operation, Speech
from agents.spoken import written
from registry.judged import encode
from tests.conftest import Hub, OpenHub
from tests.peers.a2a_clients import REQUESTS
from tests.peers.a2a_sdk_agents import Agent, open_agent

JSONRPC, GRPC = SPEECHES[0], Speech("GRPC", "1.0")
HOOK = "http://127.0.0.1:9/hook"
CONFIGURED = "alices-config"


class Answer(NamedTuple):
    """All that a client is told, without what differs between any two answers."""

    status: object
    """HTTP's; over gRPC the code and its message."""
    heads: tuple[object, ...]
    """Headers; over gRPC initial and trailing metadata."""
    body: str

    @property
    def text(self) -> str:
        return f"{self.status}{self.heads}{self.body}"


@dataclass
class Tenant:
    """A principal, asking in one speech or another."""

    http: httpx.AsyncClient
    channel: grpc.aio.Channel
    secret: str
    trace: str = ""
    """`traceparent` of every request, by which an agent shows who had it asked."""
    tasks: dict[str, str] = field(default_factory=dict)
    """Ids by what the agent was told."""
    contexts: dict[str, str] = field(default_factory=dict)

    async def ask(
        self,
        speech: Speech,
        operation: Operation,
        params: dict[str, Any],
        *,
        agent: str = "echo",
        headers: Mapping[str, str] | None = None,
        asked: str = "",
    ) -> Answer:
        """Ask, and return the whole answer; `asked` is the id that is written over in it."""
        async with asyncio.timeout(30):
            if speech == GRPC:
                return await self._over_grpc(operation, {"tenant": agent, **params}, asked)
            route = Route(f"/a2a/{agent}", (), speech=speech)
            method, url, body = written(route, Ask(operation=operation, params=params))
            sent = {
                "content-type": "application/json",
                "a2a-version": speech.version,
                "traceparent": self.trace,
                **(headers or {}),
            }
            return seen(await self.http.request(method, url, content=body, headers=sent), asked)

    async def _over_grpc(self, operation: Operation, params: dict[str, Any], asked: str) -> Answer:
        metadata = (("authorization", f"Bearer {self.secret}"), ("a2a-version", "1.0"), ("traceparent", self.trace))
        request = ParseDict(params, REQUESTS[operation][1]()).SerializeToString()
        streams = operation in STREAMING
        call: Any = (self.channel.unary_stream if streams else self.channel.unary_unary)(f"/{SERVICE}/{operation}")(
            request, metadata=metadata
        )
        body = b""
        with suppress(grpc.aio.AioRpcError):
            body = b"".join([event async for event in call]) if streams else await call
        ends = [dict(await call.initial_metadata()), dict(await call.trailing_metadata() or ())]
        own_id = str({**ends[0], **ends[1]}["x-request-id"])

        def plain(value: str | bytes) -> str:
            text = str(MessageToDict(Status.FromString(value))) if isinstance(value, bytes) else value
            return text.replace(own_id, "REQUEST").replace(asked or "\0", "*" * len(asked))

        heads = tuple((name, plain(value)) for end in ends for name, value in sorted(end.items()))
        status = (await call.code(), plain(await call.details() or ""))
        return Answer(status, heads, body.decode("latin-1").replace(asked or "\0", "*" * len(asked)))

    async def begin(self, *words: str) -> None:
        """Have tasks that are given up to here, each with a receiver."""
        for word in words:
            message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": word}]}
            params = {"message": message, "configuration": {"returnImmediately": True}}
            answer = await self.ask(JSONRPC, "SendMessage", params)
            task = json.loads(answer.body)["result"]["task"]
            self.tasks[word], self.contexts[word] = task["id"], task["contextId"]
            config = {"taskId": task["id"], "id": CONFIGURED, "url": HOOK, "token": "alices-token"}
            await self.ask(JSONRPC, "CreateTaskPushNotificationConfig", config)


def seen(answer: httpx.Response, asked: str) -> Answer:
    request_id = answer.headers["x-request-id"]

    def blank(text: str) -> str:
        return text.replace(request_id, "REQUEST").replace(asked or "\0", "*" * len(asked))

    body = blank(answer.text)
    heads = {name: blank(value) for name, value in answer.headers.items() if name != "date"}
    if "content-length" in heads:  # counted without the request's own id, which grows
        counted = int(heads["content-length"]) - len(request_id) * answer.text.count(request_id)
        heads["content-length"] = str(counted)
    return Answer(answer.status_code, tuple(sorted(heads.items())), body)


class Scene(NamedTuple):
    """A hub with an agent that both may call, and one that only Alice may."""

    hub: Hub
    agent: Agent
    alice: Tenant
    bob: Tenant


@asynccontextmanager
async def tenant(hub: Hub, *allow: str) -> AsyncIterator[Tenant]:
    secret = await hub.key(*allow)
    assert hub.grpc
    async with hub.http(secret) as http, grpc.aio.insecure_channel(hub.grpc) as channel:
        yield Tenant(http, channel, secret)


@pytest.fixture
async def scene(hub: OpenHub) -> AsyncIterator[Scene]:
    async with open_agent(JSONRPC, extended=True) as agent:
        yaml = f"agents:\n  echo: {{url: '{agent.url}'}}\n  private: {{url: '{agent.url}'}}\n"
        async with (
            hub(yaml, setting="egress_allow: [127.0.0.0/8]", grpc=True) as running,
            tenant(running, "agent:*") as alice,
            tenant(running, "agent:echo") as bob,
        ):
            await alice.begin("complete 1", "ask", "wait")
            await bob.begin("ask")
            bob.trace = f"00-{uuid.uuid4().hex}-00f067aa0ba902b7-01"
            yield Scene(running, agent, alice, bob)


def message(**members: Any) -> dict[str, Any]:
    return {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}], **members}}


def pushed(**members: Any) -> dict[str, Any]:
    return {**message(), "configuration": {"taskPushNotificationConfig": {"url": HOOK, **members}}}


ID, OWN, TOKEN = "{id}", "{own}", "{token}"

TASK_FIELDS: tuple[tuple[Operation, dict[str, Any]], ...] = (
    ("GetTask", {"id": ID}),
    ("GetTask", {"id": ID, "historyLength": 0}),
    ("CancelTask", {"id": ID}),
    ("SubscribeToTask", {"id": ID}),
    ("SendMessage", message(taskId=ID)),
    ("SendStreamingMessage", message(taskId=ID)),
    ("SendMessage", {**pushed(), **message(taskId=ID)}),
    ("SendStreamingMessage", {**pushed(), **message(taskId=ID)}),
    ("SendMessage", message(referenceTaskIds=[ID])),
    ("SendStreamingMessage", message(referenceTaskIds=[ID])),
    ("SendMessage", message(taskId=OWN, referenceTaskIds=[OWN, ID])),
    ("SendMessage", pushed(taskId=ID)),
    ("SendStreamingMessage", pushed(taskId=ID)),
    ("CreateTaskPushNotificationConfig", {"taskId": ID, "url": HOOK}),
    ("CreateTaskPushNotificationConfig", {"taskId": ID, "id": CONFIGURED, "url": HOOK}),
    ("CreateTaskPushNotificationConfig", {"taskId": ID, "id": "c", "url": "http://169.254.169.254/"}),
    ("GetTaskPushNotificationConfig", {"taskId": ID, "id": CONFIGURED}),
    ("ListTaskPushNotificationConfigs", {"taskId": ID}),
    ("DeleteTaskPushNotificationConfig", {"taskId": ID, "id": CONFIGURED}),
)
"""Every member that names a task."""

NO_INLINE_TASK = frozenset({Speech("JSONRPC", "0.3"), Speech("HTTP+JSON", "0.3")})
"""Configurations of 0.3 that come with a message name no task."""

CONTEXT_FIELDS: tuple[tuple[Operation, dict[str, Any]], ...] = (
    ("ListTasks", {"contextId": ID}),
    ("SendMessage", message(taskId=OWN, contextId=ID)),
    ("SendStreamingMessage", message(taskId=OWN, contextId=ID)),
)
"""Every member that names a context, but for the context of a new task: there a client may make one up."""

CONFIG_FIELDS: tuple[tuple[Operation, dict[str, Any]], ...] = (
    ("GetTaskPushNotificationConfig", {"taskId": OWN, "id": ID}),
    ("DeleteTaskPushNotificationConfig", {"taskId": OWN, "id": ID}),
    ("CreateTaskPushNotificationConfig", {"taskId": OWN, "id": ID, "url": HOOK}),
)
"""Every member that names a push configuration, of a task of the asker's own."""


def filled(params: dict[str, Any], named: str, own: str) -> dict[str, Any]:
    filled: dict[str, Any] = json.loads(json.dumps(params).replace(ID, named).replace(OWN, own))
    return filled


speeches = pytest.mark.parametrize("speech", SPEECHES, ids=str)


@speeches
@pytest.mark.attack("2.1/14", "2.2/32", "2.2/33", "2.2/36")
async def test_another_tenants_task_is_not_there_in_any_field(scene: Scene, speech: Speech) -> None:
    alice, bob = scene.alice, scene.bob
    for operation, params in TASK_FIELDS:
        if speech in NO_INLINE_TASK and ID in str(params.get("configuration")):
            continue
        for word, foreign in alice.tasks.items():
            for headers in ({}, {"last-event-id": "0"}, {"last-event-id": "1"})[: 3 if operation in STREAMING else 1]:
                absent = str(uuid.uuid4())
                answers = [
                    await bob.ask(speech, operation, filled(params, one, bob.tasks["ask"]), headers=headers, asked=one)
                    for one in (foreign, absent)
                ]
                assert answers[0] == answers[1], (operation, word, headers)
                told = answers[0].text
                assert "alices-token" not in told
                assert not any(known in told for known in (*alice.tasks.values(), *alice.contexts.values()))
    assert scene.bob.trace not in scene.agent.heard, "the agent was asked"


@speeches
@pytest.mark.attack("2.1/14", "2.2/33")
async def test_another_tenants_context_is_not_there_in_any_field(scene: Scene, speech: Speech) -> None:
    for operation, params in CONTEXT_FIELDS:
        for word, foreign in scene.alice.contexts.items():
            answers = [
                await scene.bob.ask(speech, operation, filled(params, one, scene.bob.tasks["ask"]), asked=one)
                for one in (foreign, str(uuid.uuid4()))
            ]
            assert answers[0] == answers[1], (operation, word)
    assert scene.bob.trace not in scene.agent.heard, "the agent was asked"


@speeches
@pytest.mark.attack("2.2/32")
async def test_a_new_task_in_another_tenants_context_is_refused_and_says_nothing_of_it(
    scene: Scene, speech: Speech
) -> None:
    for operation in ("SendMessage", "SendStreamingMessage"):
        for context_id in scene.alice.contexts.values():
            answer = await scene.bob.ask(speech, operation, message(contextId=context_id), asked=context_id)
            assert "No context" in answer.text
            assert not any(known in answer.text for known in scene.alice.tasks.values())
    assert scene.bob.trace not in scene.agent.heard, "the agent was asked"


@speeches
@pytest.mark.attack("2.1/39", "2.2/33", "2.2/35")
async def test_another_tenants_push_configuration_is_not_there(scene: Scene, speech: Speech) -> None:
    own = scene.bob.tasks["ask"]
    await scene.bob.ask(JSONRPC, "DeleteTaskPushNotificationConfig", {"taskId": own, "id": CONFIGURED})
    for operation, params in CONFIG_FIELDS:
        answers = [
            await scene.bob.ask(speech, operation, filled(params, one, own), asked=one)
            for one in (CONFIGURED, "absent-config")
        ]
        assert answers[0] == answers[1], operation
    listed = [await scene.bob.ask(speech, "ListTaskPushNotificationConfigs", {"taskId": own})]
    assert all("alices-token" not in answer.text for answer in listed)


@speeches
@pytest.mark.attack("2.1/14")
async def test_a_page_token_of_another_tenants_list_opens_nothing(scene: Scene, speech: Speech) -> None:
    page = await scene.alice.ask(JSONRPC, "ListTasks", {"pageSize": 1})
    result = json.loads(page.body)["result"]
    token, last = result["nextPageToken"], result["tasks"][0]["id"]
    at, _ = json.loads(base64.urlsafe_b64decode(token))
    absent = base64.urlsafe_b64encode(encode([at, str(uuid.uuid4())])).decode()
    answers = []
    for one in (token, absent):
        answer = await scene.bob.ask(speech, "ListTasks", {"pageToken": one, "pageSize": DEFAULT_SIZE}, asked=one)
        assert not any(known in answer.text for known in (last, *scene.alice.tasks.values()))
        answers.append(answer)
    assert answers[0] == answers[1]


@speeches
async def test_the_owner_is_answered_otherwise_than_who_asks_for_nothing(scene: Scene, speech: Speech) -> None:
    """Or the tests above would compare what is refused for another reason."""
    alice, own = scene.alice, scene.alice.tasks["complete 1"]
    for operation, params in TASK_FIELDS:
        if ID in str(params.get("configuration")):
            continue
        theirs, nobodys = [
            await alice.ask(speech, operation, filled(params, one, alice.tasks["ask"]), asked=one)
            for one in (own, str(uuid.uuid4()))
        ]
        assert "No task" in nobodys.text, operation
        assert "No task" not in theirs.text, operation


@speeches
async def test_what_the_other_tried_leaves_the_owners_tasks_as_they_were(scene: Scene, speech: Speech) -> None:
    alice, bob = scene.alice, scene.bob

    async def state() -> list[Answer]:
        listed = await alice.ask(speech, "ListTasks", {"includeArtifacts": True})
        pushed = [
            await alice.ask(speech, "ListTaskPushNotificationConfigs", {"taskId": one}) for one in alice.tasks.values()
        ]
        return [listed, *pushed]

    before = await state()
    for operation, params in TASK_FIELDS:
        for foreign in alice.tasks.values():
            if speech not in NO_INLINE_TASK or ID not in str(params.get("configuration")):
                await bob.ask(speech, operation, filled(params, foreign, bob.tasks["ask"]))
    assert await state() == before
    own = json.loads((await bob.ask(JSONRPC, "ListTasks", {})).body)["result"]
    assert [one["id"] for one in own["tasks"]] == [bob.tasks["ask"]]


EVERY: dict[Operation, dict[str, Any]] = {**dict(TASK_FIELDS), "ListTasks": {}}
EVERY |= {"SendMessage": message(), "SendStreamingMessage": message(), "GetExtendedAgentCard": {}}


@speeches
@pytest.mark.parametrize("task", ["complete 1", None])
@pytest.mark.attack("2.1/13")
async def test_an_agent_that_is_not_granted_is_not_there(scene: Scene, speech: Speech, task: str | None) -> None:
    named = scene.alice.tasks[task] if task else str(uuid.uuid4())
    for operation in get_args(Operation):
        answers = [
            await scene.bob.ask(
                speech, operation, filled(EVERY[operation], named, scene.bob.tasks["ask"]), agent=name, asked=name
            )
            for name in ("private", "missing")
        ]
        assert answers[0] == answers[1], operation
    assert scene.bob.trace not in scene.agent.heard, "the agent was asked"


async def test_cards_and_catalogues_do_not_say_that_another_agent_is_there(scene: Scene) -> None:
    http = scene.bob.http
    for path in ("/.well-known/agent-card.json", "/.well-known/agent.json", "/extendedAgentCard", "/v1/card", "", "/"):
        for headers in ({}, {"if-none-match": "*"}, {"accept": "text/html"}, {"authorization": "Bearer sk-wrong"}):
            for verb in ("GET", "HEAD", "POST", "OPTIONS", "DELETE"):
                answers = [
                    seen(await http.request(verb, f"/a2a/{name}{path}", headers=headers), name)
                    for name in ("private", "missing")
                ]
                assert answers[0] == answers[1], (verb, path, headers)
    for path in ("/.well-known/ai-catalog.json", "/.well-known/agent-card.json", "/api/agents", "/v1/models"):
        assert "private" not in (await http.get(path)).text, path
    assert "private" in (await scene.alice.http.get("/.well-known/ai-catalog.json")).text


async def test_a_tenant_that_is_an_agents_name_says_nothing_of_the_agent(scene: Scene) -> None:
    """But for gRPC, where it is how an agent is named: as above."""
    own = scene.bob.tasks["ask"]
    for operation in get_args(Operation):
        params = filled(EVERY[operation], own, own)
        answers = [
            await scene.bob.ask(JSONRPC, operation, {**params, "tenant": name}, asked=name)
            for name in ("private", "missing")
        ]
        assert answers[0] == answers[1], operation
    for below in ("tasks", "message:send", f"tasks/{own}", f"tasks/{own}/pushNotificationConfigs"):
        for place in (f"/a2a/echo/{{}}/{below}", f"/a2a/echo/{below}?tenant={{}}", f"/a2a/echo/v1/{{}}/{below}"):
            both = [seen(await scene.bob.http.get(place.format(name)), name) for name in ("private", "missing")]
            assert both[0] == both[1], place
