"""Agents of the official a2a-sdk, each speaking exactly one of the five speeches, scripted by what the user says.

An agent of 0.3 knows nothing of 1.0: its card, its methods, its paths and its push posts are those of 0.3 alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
from a2a.compat.v0_3.conversions import to_compat_agent_card, to_compat_task
from a2a.helpers import new_data_part, new_task_from_user_message, new_text_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.context import ServerCallContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.request_handlers.grpc_handler import GrpcHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.routes.jsonrpc_dispatcher import JSONRPC03Adapter  # at its own home it cannot be imported first
from a2a.server.routes.rest_routes import REST03Adapter
from a2a.server.tasks import (
    BasePushNotificationSender,
    InMemoryPushNotificationConfigStore,
    InMemoryTaskStore,
    TaskUpdater,
)
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Part, Role
from a2a.types.a2a_pb2_grpc import add_A2AServiceServicer_to_server
from a2a.utils.errors import MethodNotFoundError, UnsupportedOperationError
from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from agents.speech import STREAMING, Operation, Speech
from tests.conftest import free_socket, served

METHODS: dict[Operation, str] = {
    "SendMessage": "on_message_send",
    "SendStreamingMessage": "on_message_send_stream",
    "GetTask": "on_get_task",
    "ListTasks": "on_list_tasks",
    "CancelTask": "on_cancel_task",
    "SubscribeToTask": "on_subscribe_to_task",
    "CreateTaskPushNotificationConfig": "on_create_task_push_notification_config",
    "GetTaskPushNotificationConfig": "on_get_task_push_notification_config",
    "ListTaskPushNotificationConfigs": "on_list_task_push_notification_configs",
    "DeleteTaskPushNotificationConfig": "on_delete_task_push_notification_config",
    "GetExtendedAgentCard": "on_get_extended_agent_card",
}
"""The SDK's names of the operations."""


@dataclass(frozen=True)
class Call:
    """One operation that reached an agent, whatever it was said in."""

    operation: Operation
    params: dict[str, Any]
    """In the JSON of 1.0."""
    headers: dict[str, str]
    """HTTP headers or gRPC metadata, names in lower case."""


@dataclass
class Wire:
    """One HTTP request or gRPC call as it arrived, before the SDK looked at it."""

    target: str
    """Method, path and query; the gRPC method."""
    headers: dict[str, str]
    body: bytes = b""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the other side went before the answer was complete."""


@dataclass
class Agent:
    """A running agent: where it is, what reached it, and the strings a test pulls."""

    speech: Speech
    url: str
    """Where its card is found."""
    store: InMemoryTaskStore
    calls: list[Call] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    """Lets `wait` go on."""
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it was asked to cancel a task."""
    emitted: dict[str, list[str]] = field(default_factory=dict)
    """Texts of the artifact chunks of each task, in the order in which the executor sent them."""
    relay: Callable[[dict[str, str]], Awaitable[str]] | None = None
    """What `relay` does with the headers it came with; the task fails with the words that it returns."""
    activated: str | None = None
    """The extensions that it says it used, in its version's header: the SDK has no words for it."""
    _released: int = 0
    _turn: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def card_url(self) -> str:
        return f"{self.url}/.well-known/agent-card.json"

    @property
    def operations(self) -> list[Operation]:
        """What was asked of it, in order."""
        return [call.operation for call in self.calls]

    @property
    def heard(self) -> str:
        """Everything that reached it: targets, headers and bodies."""
        lines = (f"{one.target}\n{one.headers}\n{one.body.decode(errors='replace')}\n" for one in self.wires)
        return "".join(lines) + "".join(json.dumps(call.params) + "\n" for call in self.calls)

    @property
    def disconnects(self) -> list[Wire]:
        """The requests whose sender went before the answer was complete."""
        return [one for one in self.wires if one.left.is_set()]

    async def release(self, count: int = 1) -> None:
        """Let every `slow` task send this many further artifacts."""
        async with self._turn:
            self._released += count
            self._turn.notify_all()

    async def allowed(self, before: int, index: int) -> None:
        """Wait until `release` was called for artifact `index` of a task that began after `before` releases."""
        async with self._turn:
            await self._turn.wait_for(lambda: self._released - before > index)

    async def task(self, task_id: str) -> dict[str, Any]:
        """The agent's own record of a task."""
        found = await self.store.get(task_id, ServerCallContext())
        assert found is not None
        return MessageToDict(found)


class Scripted(AgentExecutor):
    """Does what the first word of the user's text says; anything else is done like `complete 1`."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    async def execute(self, context: RequestContext, queue: EventQueue) -> None:
        word, _, argument = context.get_user_input().partition(" ")
        before = self.agent._released
        if word == "message":
            await queue.enqueue_event(
                new_text_message("hello", context_id=context.context_id, role=Role.ROLE_AGENT),
            )
            return
        task = context.current_task
        if task is None:
            task = new_task_from_user_message(context.message)
            task.id, task.context_id = context.task_id, context.context_id
            await queue.enqueue_event(task)
            step = getattr(self, f"do_{word}", self.do_complete)
        else:
            step = self.do_complete
        updater = TaskUpdater(queue, task.id, task.context_id)
        await updater.start_work()
        await step(updater, context=context, count=int(argument) if argument.isdigit() else 1, before=before)

    async def cancel(self, context: RequestContext, queue: EventQueue) -> None:
        await TaskUpdater(queue, context.task_id, context.context_id).cancel()
        self.agent.cancelled.set()

    async def say(self, updater: TaskUpdater, index: int, count: int) -> None:
        text = f"part {index} "
        self.agent.emitted.setdefault(updater.task_id, []).append(text)
        await updater.add_artifact(
            [new_text_part(text)],
            artifact_id="result",
            name="Result",
            append=index > 0,
            last_chunk=index == count - 1,
        )

    async def do_complete(self, updater: TaskUpdater, *, count: int, **_: Any) -> None:
        for index in range(count):
            await self.say(updater, index, count)
        await updater.complete()

    async def do_slow(self, updater: TaskUpdater, *, count: int, before: int, **_: Any) -> None:
        for index in range(count):
            await self.agent.allowed(before, index)
            await self.say(updater, index, count)
        await updater.complete()

    async def do_wait(self, updater: TaskUpdater, **_: Any) -> None:
        await self.agent.go.wait()
        await self.say(updater, 0, 1)
        await updater.complete()

    async def do_ask(self, updater: TaskUpdater, **_: Any) -> None:
        await updater.requires_input(updater.new_agent_message([new_text_part("which one?")]))

    async def do_later(self, updater: TaskUpdater, **_: Any) -> None:
        await self.agent.go.wait()
        await self.do_ask(updater)

    async def do_auth(self, updater: TaskUpdater, *, context: RequestContext, **_: Any) -> None:
        """Want a sign-in, at the address that the user named if they did."""
        at = context.get_user_input().removeprefix("auth")
        await updater.requires_auth(updater.new_agent_message([new_text_part(f"sign in first{at}")]))

    async def do_files(self, updater: TaskUpdater, **_: Any) -> None:
        """Make a file, a link to one and something for programs."""
        file = Part(raw=b"hi", media_type="application/pdf", filename="a.pdf")
        link = Part(url="https://files.example/b.txt", media_type="text/plain")
        await updater.add_artifact([file, link, new_data_part({"x": 1})], artifact_id="files")
        await updater.complete()

    async def do_relay(self, updater: TaskUpdater, *, context: RequestContext, **_: Any) -> None:
        assert self.agent.relay is not None
        words = await self.agent.relay(_headers(context.call_context))
        await updater.failed(updater.new_agent_message([new_text_part(words)]))

    async def do_fail(self, updater: TaskUpdater, **_: Any) -> None:
        await updater.failed(updater.new_agent_message([new_text_part("it broke")]))

    async def do_reject(self, updater: TaskUpdater, **_: Any) -> None:
        await updater.reject(updater.new_agent_message([new_text_part("not my job")]))

    async def do_echo(self, updater: TaskUpdater, *, context: RequestContext, **_: Any) -> None:
        metadata = {"message": MessageToDict(context.message.metadata), "request": context.metadata}
        await updater.add_artifact(
            list(context.message.parts), artifact_id="echo", name="Echo", metadata=metadata, last_chunk=True
        )
        await updater.complete()

    async def do_history(self, updater: TaskUpdater, *, count: int, **_: Any) -> None:
        """Say `count` things while working; each becomes part of the history with the next."""
        for index in range(count):
            await updater.start_work(updater.new_agent_message([new_text_part(f"step {index}")]))
        await updater.complete()


class Handler(DefaultRequestHandler):
    """The SDK's handler, noting every call and lacking what it is told to lack."""

    def __init__(self, agent: Agent, lacking: Collection[Operation], **options: Any) -> None:
        super().__init__(**options)
        self.agent = agent
        self.lacking = lacking

    async def note(self, operation: Operation, params: Any, context: ServerCallContext) -> None:
        self.agent.calls.append(Call(operation, MessageToDict(params), _headers(context)))
        if operation not in self.lacking:
            return
        if self.agent.speech.binding == "GRPC":
            await context.state["grpc_context"].abort(grpc.StatusCode.UNIMPLEMENTED, "not built")
        raise MethodNotFoundError if self.agent.speech.binding == "JSONRPC" else UnsupportedOperationError


def _noted(operation: Operation) -> Callable[..., Any]:
    original = getattr(DefaultRequestHandler, METHODS[operation])

    async def ask(self: Handler, params: Any, context: ServerCallContext) -> Any:
        await self.note(operation, params, context)
        return await original(self, params, context)

    async def follow(self: Handler, params: Any, context: ServerCallContext) -> AsyncIterator[Any]:
        await self.note(operation, params, context)
        async for event in original(self, params, context):
            yield event

    return follow if operation in STREAMING else ask


for _operation, _method in METHODS.items():
    setattr(Handler, _method, _noted(_operation))


def _headers(context: ServerCallContext) -> dict[str, str]:
    if "headers" in context.state:
        return dict(context.state["headers"])
    return _metadata(context.state["grpc_context"])


def _metadata(context: grpc.aio.ServicerContext) -> dict[str, str]:
    pairs = context.invocation_metadata() or ()
    return {key: value if isinstance(value, str) else value.decode() for key, value in pairs}


class Sender03(BasePushNotificationSender):
    """Posts as the SDK of 0.3 did: the whole Task in its 0.3 form, and no credentials."""

    def __init__(self, http: httpx.AsyncClient, configs: InMemoryPushNotificationConfigStore, agent: Agent) -> None:
        super().__init__(http, configs)
        self._agent = agent

    async def _dispatch_notification(self, event: Any, push_info: Any, task_id: str) -> bool:
        found = await self._agent.store.get(task_id, ServerCallContext())
        assert found is not None
        headers = {"X-A2A-Notification-Token": push_info.token} if push_info.token else {}
        body = to_compat_task(found).model_dump(mode="json", by_alias=True, exclude_none=True)
        answer = await self._client.post(push_info.url, json=body, headers=headers)
        return answer.is_success


class NotingGrpcHandler(GrpcHandler):
    """The SDK's gRPC service, noting what arrives and who leaves early."""

    def __init__(self, agent: Agent, handler: Handler) -> None:
        super().__init__(handler)
        self._agent = agent

    async def _handle_unary(self, request: Any, context: grpc.aio.ServicerContext, *rest: Any) -> Any:
        with self._noted(request, context):
            await self._say_activated(context)
            return await super()._handle_unary(request, context, *rest)

    async def _handle_stream(self, request: Any, context: grpc.aio.ServicerContext, *rest: Any) -> AsyncIterator[Any]:
        with self._noted(request, context):
            await self._say_activated(context)
            async for event in super()._handle_stream(request, context, *rest):
                yield event

    async def _say_activated(self, context: grpc.aio.ServicerContext) -> None:
        if self._agent.activated:
            await context.send_initial_metadata((("a2a-extensions", self._agent.activated),))

    @contextmanager
    def _noted(self, request: Any, context: grpc.aio.ServicerContext) -> Iterator[None]:
        wire = Wire(type(request).__name__, _metadata(context), json.dumps(MessageToDict(request)).encode())
        self._agent.wires.append(wire)
        try:
            yield
        finally:
            serving = asyncio.current_task()
            if serving and serving.cancelling():  # the SDK swallows the CancelledError of a call whose client left
                wire.left.set()


def _noting_http(agent: Agent, app: Any) -> Any:
    """Note every HTTP request with its body, and who leaves before the answer is complete."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        query = f"?{scope['query_string'].decode()}" if scope["query_string"] else ""
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        wire = Wire(f"{scope['method']} {scope['path']}{query}", headers)
        agent.wires.append(wire)
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        answered = False

        async def listen() -> None:
            while True:
                message = await receive()
                wire.body += message.get("body", b"")
                gone = message["type"] == "http.disconnect"
                if gone and not answered:
                    wire.left.set()
                arrived.put_nowait(message)
                if gone:
                    return

        async def answer(message: Any) -> None:
            nonlocal answered
            answered = answered or (message["type"] == "http.response.body" and not message.get("more_body"))
            if agent.activated and message["type"] == "http.response.start":
                name = b"a2a-extensions" if agent.speech.version == "1.0" else b"x-a2a-extensions"
                message["headers"] = [*message["headers"], (name, agent.activated.encode())]
            await send(message)

        listening = asyncio.create_task(listen())
        try:
            await app(scope, arrived.get, answer)
        finally:
            listening.cancel()

    return wrapped


def agent_card(url: str, interface: AgentInterface, *, push: bool, extended: bool, streaming: bool) -> AgentCard:
    """The card of an agent with this one interface."""
    return AgentCard(
        name="Scripted",
        description="Does what it is told.",
        version="1.0.0",
        documentation_url=f"{url}/docs",
        supported_interfaces=[interface],
        capabilities=AgentCapabilities(streaming=streaming, push_notifications=push, extended_agent_card=extended),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="do", name="Do", description="Does it.", tags=["test"])],
    )


def _card_routes(card: AgentCard, speech: Speech) -> list[BaseRoute]:
    if speech.version == "1.0":
        return [*create_agent_card_routes(card)]
    document = to_compat_agent_card(card).model_dump(mode="json", by_alias=True, exclude_none=True)

    async def serve_card(_request: Request) -> Response:
        return JSONResponse(document)

    return [Route("/.well-known/agent-card.json", serve_card, methods=["GET"])]


def _jsonrpc_03(handler: Handler) -> list[BaseRoute]:
    adapter = JSONRPC03Adapter(handler)

    async def serve_call(request: Request) -> Response:
        body = await request.json()
        if adapter.supports_method(body["method"]):
            return await adapter.handle_request(body.get("id"), body["method"], body, request)
        error = {"code": -32601, "message": "Method not found"}
        return JSONResponse({"jsonrpc": "2.0", "id": body.get("id"), "error": error})

    return [Route("/rpc", serve_call, methods=["POST"])]


def _rest_03(handler: Handler) -> list[BaseRoute]:
    routes = REST03Adapter(handler).routes()
    return [Mount("/rest", routes=[Route(path, serve, methods=[verb]) for (path, verb), serve in routes.items()])]


ROUTES: dict[Speech, Callable[[Handler], list[BaseRoute]]] = {
    Speech("JSONRPC", "1.0"): lambda handler: [*create_jsonrpc_routes(handler, rpc_url="/rpc")],
    Speech("JSONRPC", "0.3"): _jsonrpc_03,
    Speech("HTTP+JSON", "1.0"): lambda handler: [Mount("/rest", routes=create_rest_routes(handler))],
    Speech("HTTP+JSON", "0.3"): _rest_03,
    Speech("GRPC", "1.0"): lambda _handler: [],
}

PATHS = {"JSONRPC": "/rpc", "HTTP+JSON": "/rest"}


@asynccontextmanager
async def open_agent(
    speech: Speech,
    *,
    push: bool = False,
    extended: bool = False,
    streaming: bool = True,
    lacking: Collection[Operation] = (),
    guard: Callable[[Any], Awaitable[bool]] | None = None,
    port: int = 0,
) -> AsyncIterator[Agent]:
    """Serve an agent that speaks only `speech`.

    `push`: it posts notifications itself. `extended`: it has an extended card with the skill `secret`. `lacking`: these
    operations are answered as one that was never built: -32601, UnsupportedOperation or UNIMPLEMENTED. `guard`: gets
    the URL of a push configuration and says whether the agent takes it. `port`: where one was that is started again.
    """
    sock = free_socket(port)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    agent = Agent(speech, url, InMemoryTaskStore())
    async with AsyncExitStack() as stack:
        server = grpc.aio.server() if speech.binding == "GRPC" else None
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}" if server else url + PATHS[speech.binding]
        interface = AgentInterface(url=address, protocol_binding=speech.binding, protocol_version=speech.version)
        card = agent_card(url, interface, push=push, extended=extended, streaming=streaming)
        configs = InMemoryPushNotificationConfigStore() if push else None
        handler = Handler(
            agent,
            lacking,
            agent_executor=Scripted(agent),
            task_store=agent.store,
            agent_card=card,
            extended_agent_card=_extended(card) if extended else None,
            push_config_store=configs,
            push_sender=await _sender(agent, configs, stack) if configs else None,
            push_url_validator=guard,
        )
        stack.push_async_callback(handler.aclose)
        if server:
            add_A2AServiceServicer_to_server(NotingGrpcHandler(agent, handler), server)
            await server.start()
            stack.push_async_callback(server.stop, 0)
        routes = [*_card_routes(card, speech), *ROUTES[speech](handler)]
        await stack.enter_async_context(served(_noting_http(agent, Starlette(routes=routes)), sock))
        yield agent


async def _sender(
    agent: Agent, configs: InMemoryPushNotificationConfigStore, stack: AsyncExitStack
) -> BasePushNotificationSender:
    http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
    if agent.speech.version == "0.3":
        return Sender03(http, configs, agent)
    return BasePushNotificationSender(http, configs)


def _extended(card: AgentCard) -> AgentCard:
    fuller = AgentCard()
    fuller.CopyFrom(card)
    fuller.skills.append(AgentSkill(id="secret", name="Secret", description="For friends.", tags=["test"]))
    return fuller
