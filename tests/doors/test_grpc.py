"""The gRPC door, driven by the official SDK's stub and client; behind it canned answers, or a whole hub."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest
from a2a.types import a2a_pb2
from a2a.types.a2a_pb2_grpc import A2AServiceStub
from google.protobuf.json_format import MessageToDict, ParseDict
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from agents.call import Stream
from agents.grpc_wire import SERVICE
from agents.shown import Shown
from agents.speech import CANONICAL, STREAMING, Ask, Operation, Speech
from agents.upstream import Heard
from hub.auth import Authenticator
from hub.doors.grpc import GrpcDoor, listening
from hub.http_exchange import Limits
from registry import errors
from registry.entries import Agent
from registry.errors import AgentFault, HubError
from registry.gate import Permit
from registry.judged import encode
from tests.agents.test_grpc_wire import REQUESTS, RESULTS
from tests.conftest import Hub, OpenHub, free_port
from tests.peers.a2a_clients import Refused, message, open_client
from tests.peers.a2a_sdk_agents import open_agent

GRPC = Speech("GRPC", "1.0")
TASK = {"id": "t1", "status": {"state": "TASK_STATE_WORKING"}}
YAML = "agents:\n  echo: {url: http://127.0.0.1:1/}\n  other: {url: http://127.0.0.1:1/}\n"


@dataclass
class Canned:
    """Answers what it is told to: the part of `AgentCaller` that the door asks for."""

    result: dict[str, Any] = field(default_factory=dict)
    events: Callable[[], AsyncIterator[dict[str, Any]]] | None = None
    extensions: str | None = None
    error: Exception | None = None
    first: Callable[[], Awaitable[Any]] | None = None
    """Awaited before a unary answer."""
    asks: list[tuple[str, Ask]] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, permit: Permit, entry: Agent, ask: Ask) -> Heard:
        self.asks.append((entry.name, ask))
        if self.first is not None:
            await self.first()
        if self.error is not None:
            raise self.error
        self.ended.set()
        return Heard(self.result, self.extensions)

    @asynccontextmanager
    async def follow(self, permit: Permit, entry: Agent, ask: Ask) -> AsyncIterator[Stream]:
        self.asks.append((entry.name, ask))
        try:
            yield Stream(self._batches(), self.extensions)
        finally:
            self.ended.set()

    async def _batches(self) -> AsyncGenerator[list[Shown]]:
        if self.events is not None:
            async for event in self.events():
                yield [Shown(1, CANONICAL, encode(event))]
        if self.error is not None:
            raise self.error


@dataclass
class Client:
    """The official stub, with a key of its own."""

    channel: grpc.aio.Channel
    stub: Any
    secret: str
    running: Hub
    address: str

    def metadata(self, *more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.secret}"), ("a2a-version", "1.0"), *more)

    def call(self, operation: Operation, request: Any, *more: tuple[str, str]) -> Any:
        return getattr(self.stub, operation)(request, metadata=self.metadata(*more), timeout=20)

    def get(self, *more: tuple[str, str], tenant: str = "echo") -> Any:
        return self.call("GetTask", a2a_pb2.GetTaskRequest(tenant=tenant, id="t1"), *more)

    def follow(self) -> Any:
        return self.call("SubscribeToTask", a2a_pb2.SubscribeToTaskRequest(tenant="echo", id="t1"))


@asynccontextmanager
async def door(
    hub: OpenHub, caller: Canned, *allow: str, limits: Limits | None = None, drain_s: float = 0
) -> AsyncIterator[Client]:
    async with hub(YAML) as running, asyncio.timeout(60):
        services = running.services
        made = GrpcDoor(
            caller, registry=services.registry, gate=services.gate, authenticator=Authenticator(services.keys)
        )
        secret = await running.key(*(allow or ("agent:echo",)))
        async with listening(made, host="127.0.0.1", port=0, limits=limits or Limits(), drain_s=drain_s) as port:
            address = f"127.0.0.1:{port}"
            async with grpc.aio.insecure_channel(address) as channel:
                yield Client(channel, A2AServiceStub(channel), secret, running, address)


async def refused(call: Any) -> tuple[grpc.StatusCode, str, error_details_pb2.ErrorInfo]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call if not hasattr(call, "__aiter__") else [event async for event in call]
    trailing = dict(raised.value.trailing_metadata())
    info = error_details_pb2.ErrorInfo()
    assert Status.FromString(trailing["grpc-status-details-bin"]).details[0].Unpack(info)
    assert trailing["x-request-id"] == info.metadata["requestId"]
    return raised.value.code(), raised.value.details(), info


# -- what goes in and comes out


@pytest.mark.parametrize(("operation", "result"), RESULTS)
async def test_official_stub_gets_what_the_caller_answered(
    hub: OpenHub, operation: Operation, result: dict[str, Any]
) -> None:
    async def events() -> AsyncIterator[dict[str, Any]]:
        yield result

    caller = Canned(result=result, events=events)
    async with door(hub, caller) as client:
        method = next(one for one in a2a_pb2.DESCRIPTOR.services_by_name["A2AService"].methods if one.name == operation)
        request = ParseDict({**REQUESTS[operation], "tenant": "echo"}, getattr(a2a_pb2, method.input_type.name)())
        call = client.call(operation, request)
        answers = [answer async for answer in call] if operation in STREAMING else [await call]
        expected = type(answers[0])()
        assert answers == [ParseDict(result, expected)]
    ((name, ask),) = caller.asks
    assert (name, ask.operation, ask.params) == ("echo", operation, REQUESTS[operation])


async def test_extensions_and_trace_go_through_and_credentials_do_not(hub: OpenHub) -> None:
    trace = (("traceparent", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"), ("tracestate", "a=b"))
    caller = Canned(result=TASK, extensions="urn:used")
    async with door(hub, caller) as client:
        call = client.get(("a2a-extensions", "urn:a,urn:b"), ("x-mine", "1"), *trace)
        await call
        head = dict(await call.initial_metadata())
        stream = client.call(
            "SubscribeToTask", a2a_pb2.SubscribeToTaskRequest(tenant="echo", id="t1"), ("a2a-extensions", "urn:a")
        )
        assert dict(await stream.initial_metadata())["a2a-extensions"] == "urn:used"
    assert head["a2a-extensions"] == "urn:used"
    assert head["x-request-id"].startswith("req_")
    (_, ask), (_, followed) = caller.asks
    assert (ask.extensions, ask.trace, followed.extensions) == ("urn:a,urn:b", (*trace, ("hubbub-hops", "1")), "urn:a")


async def test_answer_that_protobuf_cannot_hold_is_the_agents_fault(hub: OpenHub) -> None:
    async with door(hub, Canned(result={"id": 5})) as client:
        code, text, info = await refused(client.get())
    assert (code, info.reason) == (grpc.StatusCode.INTERNAL, "INVALID_AGENT_RESPONSE")
    assert text.startswith("echo: ")


# -- who may


async def test_without_a_valid_key_nothing_is_answered(hub: OpenHub) -> None:
    caller = Canned(result=TASK)
    async with door(hub, caller) as client:
        for metadata in ((), (("authorization", "Bearer sk-wrong"),), (("x-api-key", "sk-wrong"),)):
            for operation in ("GetTask", "SubscribeToTask"):
                call = getattr(client.stub, operation)(a2a_pb2.GetTaskRequest(tenant="echo", id="t"), metadata=metadata)
                code, _, info = await refused(call)
                assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
        assert caller.asks == []
        call = client.stub.GetTask(
            a2a_pb2.GetTaskRequest(tenant="echo", id="t1"), metadata=(("x-api-key", client.secret),)
        )
        assert (await call).id == "t1"


async def test_message_of_a_stranger_is_not_read(hub: OpenHub) -> None:
    async with door(hub, Canned(result=TASK), limits=Limits(body_bytes=1000)) as client:
        method = client.channel.unary_unary(f"/{SERVICE}/GetTask")
        code, _, _ = await refused(method(bytes(2000)))  # too large, as whoever reads it would say
        assert code is grpc.StatusCode.UNAUTHENTICATED


async def test_no_tenant_an_unknown_agent_and_a_forbidden_one_are_one_answer(hub: OpenHub) -> None:
    caller = Canned(result=TASK)
    async with door(hub, caller) as client:
        answers = []
        for tenant in ("", "nobody", "other", "echo/other", "Echo"):
            code, text, info = await refused(client.get(tenant=tenant))
            info.metadata.clear()
            answers.append((code, text.replace(repr(tenant), "''"), info))
    assert answers == [answers[0]] * 5
    assert answers[0][0] is grpc.StatusCode.NOT_FOUND
    assert caller.asks == []


async def test_version_of_another_major_is_refused_and_an_absent_one_is_not(hub: OpenHub) -> None:
    async with door(hub, Canned(result=TASK)) as client:
        for version in ("0.3", "2.0"):
            call = client.stub.GetTask(
                a2a_pb2.GetTaskRequest(tenant="echo", id="t1"),
                metadata=(("authorization", f"Bearer {client.secret}"), ("a2a-version", version)),
            )
            code, _, info = await refused(call)
            assert (code, info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VERSION_NOT_SUPPORTED")
        call = client.stub.GetTask(
            a2a_pb2.GetTaskRequest(tenant="echo", id="t1"), metadata=(("authorization", f"Bearer {client.secret}"),)
        )
        assert (await call).id == "t1"


async def test_methods_and_services_that_are_not_there_are_unimplemented(hub: OpenHub) -> None:
    async with door(hub, Canned(result=TASK)) as client:
        for path in (f"/{SERVICE}/Nothing", "/a2a.v1.A2AService/GetTask", "/"):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await client.channel.unary_unary(path)(b"", metadata=client.metadata())
            assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_message_that_is_too_large_or_no_message_is_refused(hub: OpenHub) -> None:
    async with door(hub, Canned(result=TASK), limits=Limits(body_bytes=1000)) as client:
        method = client.channel.unary_unary(f"/{SERVICE}/GetTask")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await method(bytes(2000), metadata=client.metadata())
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        code, _, info = await refused(method(b"\xff", metadata=client.metadata()))
        assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


# -- what goes wrong


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (AgentFault("echo", -32002, "too late"), grpc.StatusCode.FAILED_PRECONDITION, "TASK_NOT_CANCELABLE"),
        (errors.NotFound("task", "t1"), grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND"),
        (errors.InvalidParams("no"), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PARAMS"),
        (errors.NotSupported("no"), grpc.StatusCode.FAILED_PRECONDITION, "UNSUPPORTED_OPERATION"),
        (errors.RateLimited(7), grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED"),
        (errors.Overloaded("no"), grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
        (errors.UpstreamUnavailable("echo", "down"), grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE"),
        (errors.UpstreamTimeout("echo", "slow"), grpc.StatusCode.DEADLINE_EXCEEDED, "UPSTREAM_TIMEOUT"),
        (errors.UpstreamRefused("echo", 401), grpc.StatusCode.UNAVAILABLE, "UPSTREAM_REFUSED"),
        (errors.UpstreamInvalid("echo", "odd"), grpc.StatusCode.INTERNAL, "INVALID_AGENT_RESPONSE"),
        (ValueError("secret"), grpc.StatusCode.INTERNAL, "INTERNAL_ERROR"),
    ],
)
async def test_every_error_has_its_status_and_its_reason(
    hub: OpenHub, error: Exception, code: grpc.StatusCode, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with door(hub, Canned(error=error)) as client:
        for call in (client.get(), client.follow()):
            if isinstance(error, AgentFault):
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await call if call.__class__.__name__ == "UnaryUnaryCall" else [one async for one in call]
                assert (raised.value.code(), raised.value.details()) == (code, "too late")
                continue
            found, text, info = await refused(call)
            assert (found, info.reason, info.domain) == (code, reason, "a2a-protocol.org")
            assert text == (error.text if isinstance(error, HubError) else errors.INTERNAL.text)
    assert ("request failed" in caplog.text) == (not isinstance(error, HubError))


async def test_pace_of_a_key_is_told_with_the_time_to_wait(hub: OpenHub) -> None:
    async with door(hub, Canned(error=errors.RateLimited(6.2))) as client:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await client.get()
        assert dict(raised.value.trailing_metadata())["retry-after"] == "7"


async def test_stream_that_fails_shows_what_came_before(hub: OpenHub) -> None:
    async def events() -> AsyncIterator[dict[str, Any]]:
        yield {"task": TASK}
        raise errors.UpstreamTimeout("echo", "it stopped sending")

    async with door(hub, Canned(events=events)) as client:
        call = client.follow()
        assert (await call.read()).task.id == "t1"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


# -- who leaves, who is slow, who stops


async def test_client_that_leaves_a_stream_ends_it(hub: OpenHub) -> None:
    async def events() -> AsyncIterator[dict[str, Any]]:
        yield {"task": TASK}
        await asyncio.get_running_loop().create_future()

    caller = Canned(events=events)
    async with door(hub, caller) as client:
        call = client.follow()
        await call.read()
        call.cancel()
        await caller.ended.wait()


async def test_client_that_leaves_a_call_does_not_end_it(hub: OpenHub) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        begun.set()
        await go.wait()

    caller = Canned(result=TASK, first=first)
    async with door(hub, caller) as client:
        call = client.get()
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        caller.first = None
        assert (await client.get()).id == "t1"
        caller.ended.clear()
        go.set()
        await caller.ended.wait()


async def test_slow_reader_slows_the_agent_down(hub: OpenHub) -> None:
    sent = 0

    async def events() -> AsyncIterator[dict[str, Any]]:
        nonlocal sent
        while True:
            yield {"message": {"messageId": "m", "parts": [{"text": "x" * 500_000}]}}
            sent += 1

    caller = Canned(result=TASK, events=events)
    async with door(hub, caller) as client:
        call = client.follow()
        await call.read()
        before = -1
        while before != sent:  # until it stands still
            before = sent
            for _ in range(20):
                await client.get()
        assert sent < 20
        call.cancel()
        await caller.ended.wait()


async def test_calls_under_way_may_end_before_the_door_closes(hub: OpenHub) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        begun.set()
        await go.wait()

    caller = Canned(result=TASK, first=first)
    async with hub(YAML) as running, asyncio.timeout(30):
        services = running.services
        made = GrpcDoor(
            caller, registry=services.registry, gate=services.gate, authenticator=Authenticator(services.keys)
        )
        secret = await running.key("agent:echo")
        closing = asyncio.Event()

        async def serve() -> None:
            async with listening(made, host="127.0.0.1", port=port, limits=Limits(), drain_s=20):
                await closing.wait()

        port = free_port()
        serving = asyncio.create_task(serve())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = A2AServiceStub(channel).GetTask(
                a2a_pb2.GetTaskRequest(tenant="echo", id="t1"),
                metadata=(("authorization", f"Bearer {secret}"),),
                wait_for_ready=True,
            )
            await begun.wait()
            closing.set()
            go.set()
            assert (await call).id == "t1"
            await serving


async def test_calls_that_do_not_end_are_ended_after_the_drain_time(hub: OpenHub) -> None:
    async def never() -> None:
        await asyncio.get_running_loop().create_future()

    async def events() -> AsyncIterator[dict[str, Any]]:
        yield {"task": TASK}
        await never()

    caller = Canned(first=never, events=events)
    async with door(hub, caller, drain_s=0.1) as client:
        stream, call = client.follow(), client.get()
        await stream.read()
        while len(caller.asks) < 2:
            await asyncio.sleep(0)
    assert call.done()
    assert caller.ended.is_set()


async def test_port_that_is_taken_is_told(hub: OpenHub) -> None:
    async with door(hub, Canned()) as client:
        port = int(client.address.rpartition(":")[2])
        made = GrpcDoor(
            Canned(),
            registry=client.running.services.registry,
            gate=client.running.gate,
            authenticator=Authenticator(client.running.services.keys),
        )
        with pytest.raises(OSError, match=str(port)):
            async with listening(made, host="127.0.0.1", port=port, limits=Limits(), drain_s=0):
                pass


# -- a whole hub


def test_hub_that_speaks_no_grpc_does_not_load_it() -> None:
    code = "import sys, hub.serve; print({'grpc', 'a2a', 'google.protobuf'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


async def test_official_client_finds_the_door_by_the_agents_card(hub: OpenHub) -> None:
    async with (
        open_agent(Speech("JSONRPC", "1.0")) as agent,
        hub(f"agents:\n  echo: {{url: {agent.url}}}\n", grpc=True) as running,
    ):
        headers = {"authorization": f"Bearer {await running.key('agent:echo')}"}
        async with open_client(f"{running.url}/a2a/echo/", GRPC, headers=headers) as client:
            (interface,) = [one for one in client.card["supportedInterfaces"] if one["protocolBinding"] == "GRPC"]
            assert interface == {
                "url": running.grpc,
                "protocolBinding": "GRPC",
                "protocolVersion": "1.0",
                "tenant": "echo",
            }
            task = (await client.send("complete 2"))["task"]
            assert task["status"]["state"] == "TASK_STATE_COMPLETED"
            with pytest.raises(Refused) as raised:
                await client.ask("GetTask", {"id": "nope"})
            assert raised.value.name == "TaskNotFoundError"


async def test_tasks_of_one_caller_do_not_exist_for_another(hub: OpenHub) -> None:
    async with (
        open_agent(GRPC) as agent,
        hub(f"agents:\n  echo: {{url: {agent.url}}}\n", grpc=True) as running,
    ):
        keys = [await running.key("agent:echo") for _ in range(2)]
        async with grpc.aio.insecure_channel(running.grpc) as channel:
            stub = A2AServiceStub(channel)
            mine, theirs = ((("authorization", f"Bearer {key}"), ("a2a-version", "1.0")) for key in keys)
            request = ParseDict({**message("complete 1"), "tenant": "echo"}, a2a_pb2.SendMessageRequest())
            task = (await stub.SendMessage(request, metadata=mine)).task
            assert (await stub.GetTask(a2a_pb2.GetTaskRequest(tenant="echo", id=task.id), metadata=mine)).id == task.id
            answers = []
            for task_id in (task.id, "0" * len(task.id)):
                call = stub.GetTask(a2a_pb2.GetTaskRequest(tenant="echo", id=task_id), metadata=theirs)
                code, text, info = await refused(call)
                info.metadata.clear()
                answers.append((code, text.replace(task_id, ""), MessageToDict(info)))
            assert answers[0] == answers[1]
            assert not (await stub.ListTasks(a2a_pb2.ListTasksRequest(tenant="echo"), metadata=theirs)).tasks
