"""Calling agents over gRPC: the official SDK's agent, and raw servers for what it never does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from agents import grpc_out, grpc_wire
from agents.discovery import Route
from agents.faults import Fault
from agents.grpc_out import GrpcUpstream
from agents.speech import STREAMING, Ask, Operation, Speech
from registry.egress.guard import Guard
from registry.egress.http import Deadlines, Egress
from registry.entries import Agent
from registry.errors import (
    AddressRefused,
    AgentFault,
    UpstreamError,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from registry.gate import Permit
from registry.identity import HUB
from tests.peers.a2a_sdk_agents import open_agent
from tests.peers.authority import LOCALHOST, Authority
from tests.peers.http_peer import forward, listening
from tests.recording import RecordingGate

GRPC = Speech("GRPC", "1.0")
OPERATIONS: tuple[Operation, ...] = ("GetTask", "SubscribeToTask")
ENTRY = Agent(name="echo", url="http://127.0.0.1:1/")


@asynccontextmanager
async def way_out(deadlines: Deadlines | None = None, **options: Any) -> AsyncIterator[GrpcUpstream]:
    egress = Egress(deadlines, **options)
    upstream = GrpcUpstream(egress)
    try:
        async with asyncio.timeout(30):
            yield upstream
    finally:
        await upstream.aclose()
        await egress.aclose()


@asynccontextmanager
async def permit() -> AsyncIterator[Permit]:
    gate = RecordingGate(lambda _: None)
    with gate.admit(HUB, ENTRY) as given:
        yield given
    gate.check()


def route(address: str, *headers: tuple[str, str], tenant: str | None = None) -> Route:
    return Route(f"http://{address}", (*headers, ("a2a-version", "1.0")), tenant, GRPC)


def said(text: str, **message: Any) -> dict[str, Any]:
    return {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}], **message}}


async def ask(
    upstream: GrpcUpstream, where: Route, operation: Operation = "GetTask", entry: Agent = ENTRY, **params: Any
) -> dict[str, Any]:
    async with permit() as given:
        answer = await upstream.unary(given, entry, where, Ask(operation=operation, params=params))
        return grpc_wire.read_result(operation, answer.body)


async def follow(upstream: GrpcUpstream, where: Route, operation: Operation, **params: Any) -> list[dict[str, Any]]:
    async with (
        permit() as given,
        upstream.stream(given, ENTRY, where, Ask(operation=operation, params=params)) as stream,
    ):
        return [event_in(batch) async for batch in stream.events]


def event_in(batch: list[bytes]) -> dict[str, Any]:
    (data,) = batch
    return grpc_wire.read_result("SubscribeToTask", data)


Behave = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]


@asynccontextmanager
async def raw_agent(
    behave: Behave, credentials: grpc.ServerCredentials | None = None, port: int = 0
) -> AsyncIterator[str]:
    """Serve every method with `behave`, which writes events or returns a response; yields host:port."""

    class Any_(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            if details.method.endswith(("SendStreamingMessage", "SubscribeToTask")):
                return grpc.unary_stream_rpc_method_handler(behave)
            return grpc.unary_unary_rpc_method_handler(behave)

    server = grpc.aio.server(handlers=[Any_()])
    where = f"127.0.0.1:{port}"
    port = server.add_secure_port(where, credentials) if credentials else server.add_insecure_port(where)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def address_of(agent: Any) -> str:
    """Where the SDK's agent listens, as its card says."""
    import httpx

    async with httpx.AsyncClient(trust_env=False) as http:
        card = (await http.get(agent.card_url)).json()
    return card["supportedInterfaces"][0]["url"]


# -- the official SDK's agent


async def test_every_unary_operation_reaches_the_official_agent() -> None:
    async with open_agent(GRPC, push=True, extended=True) as agent, way_out() as upstream:
        where = route(await address_of(agent))
        sent = {**said("complete 2"), "metadata": {"count": 3}}
        task = (await ask(upstream, where, "SendMessage", **sent))["task"]
        assert task["status"]["state"] == "TASK_STATE_COMPLETED"
        assert [part["text"] for part in task["artifacts"][0]["parts"]] == ["part 0 ", "part 1 "]
        task_id = task["id"]
        assert (await ask(upstream, where, "GetTask", id=task_id, historyLength=0)).get("history") is None
        listed = await ask(upstream, where, "ListTasks", contextId=task["contextId"])
        assert [one["id"] for one in listed["tasks"]] == [task_id]
        config = {"taskId": task_id, "id": "p", "url": "http://127.0.0.1:9/hook", "token": "t"}
        assert await ask(upstream, where, "CreateTaskPushNotificationConfig", **config) == config
        assert await ask(upstream, where, "GetTaskPushNotificationConfig", taskId=task_id, id="p") == config
        assert (await ask(upstream, where, "ListTaskPushNotificationConfigs", taskId=task_id))["configs"] == [config]
        assert await ask(upstream, where, "DeleteTaskPushNotificationConfig", taskId=task_id, id="p") == {}
        card = await ask(upstream, where, "GetExtendedAgentCard")
        assert [skill["id"] for skill in card["skills"]] == ["do", "secret"]
        with pytest.raises(AgentFault) as raised:
            await ask(upstream, where, "CancelTask", id=task_id)
        assert raised.value.code == -32002
        assert agent.operations[0] == "SendMessage"


async def test_stream_of_the_official_agent_comes_event_by_event() -> None:
    async with open_agent(GRPC) as agent, way_out() as upstream, permit() as given:
        request = Ask(operation="SendStreamingMessage", params=said("slow 2"))
        async with upstream.stream(given, ENTRY, route(await address_of(agent)), request) as stream:
            events = [event_in(await anext(stream.events)) for _ in range(2)]
            assert [*events[0]] == ["task"]
            assert events[1]["statusUpdate"]["status"]["state"] == "TASK_STATE_WORKING"
            for index in range(2):
                await agent.release()
                event = event_in(await anext(stream.events))
                assert event["artifactUpdate"]["artifact"]["parts"] == [{"text": f"part {index} "}]
            rest = [event_in(batch) async for batch in stream.events]
        assert rest[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
        assert given.requests == 1


async def test_task_that_is_not_there_is_the_agents_own_fault() -> None:
    async with open_agent(GRPC) as agent, way_out() as upstream:
        where = route(await address_of(agent))
        with pytest.raises(AgentFault) as raised:
            await ask(upstream, where, "GetTask", id="nope")
        assert raised.value.code == -32001
        assert raised.value.details[0]["reason"] == "TASK_NOT_FOUND"
        with pytest.raises(AgentFault) as raised:
            await follow(upstream, where, "SubscribeToTask", id="nope")
        assert raised.value.code == -32001


async def test_operation_that_an_agent_lacks_is_not_supported() -> None:
    async with open_agent(GRPC, lacking={"ListTasks"}) as agent, way_out() as upstream:
        with pytest.raises(AgentFault) as raised:
            await ask(upstream, route(await address_of(agent)), "ListTasks")
        assert raised.value.code == -32004


async def test_headers_of_the_entry_version_extensions_and_trace_go_as_metadata() -> None:
    trace = (("traceparent", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"),)
    async with open_agent(GRPC) as agent, way_out() as upstream, permit() as given:
        headers = (("Authorization", "Bearer secret"), ("X-Mine", "1"), ("Host", "other"), ("Accept", "a/b"))
        where = route(await address_of(agent), *headers, tenant="their-tenant")
        request = Ask(operation="SendMessage", params=said("message"), extensions="urn:a,urn:b", trace=trace)
        await upstream.unary(given, ENTRY, where, request)
        (call,) = agent.calls
        assert call.params["tenant"] == "their-tenant"
        assert call.headers.pop("user-agent").startswith("hubbub ")
        assert call.headers == {
            "authorization": "Bearer secret",
            "x-mine": "1",
            "a2a-version": "1.0",
            "a2a-extensions": "urn:a,urn:b",
            **dict(trace),
        }


async def test_leaving_a_stream_or_a_call_cancels_it_at_the_agent() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def behave(_request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.send_initial_metadata(())
        asked.set()
        try:
            return await silent(b"", context)
        finally:
            left.set()

    async with raw_agent(behave) as address, way_out() as upstream:
        async with permit() as given:
            request = Ask(operation="SubscribeToTask", params={"id": "t"})
            async with upstream.stream(given, ENTRY, route(address), request):
                await asked.wait()
            await left.wait()
        asked.clear()
        left.clear()
        call = asyncio.create_task(ask(upstream, route(address), id="t"))
        await asked.wait()
        call.cancel()
        await left.wait()
        assert [one.calls for many in upstream._channels.values() for one in many] == [0]


# -- what can go wrong


async def silent(_request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


def refusing(code: grpc.StatusCode, text: str, **options: Any) -> Behave:
    async def behave(_request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.abort(code, text, **options)
        raise AssertionError

    return behave


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, UpstreamRefused),
        (grpc.StatusCode.PERMISSION_DENIED, UpstreamRefused),
        (grpc.StatusCode.UNAVAILABLE, UpstreamUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, UpstreamTimeout),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, UpstreamLimited),
        (grpc.StatusCode.INTERNAL, UpstreamUnavailable),
        (grpc.StatusCode.UNKNOWN, UpstreamUnavailable),
        (grpc.StatusCode.CANCELLED, UpstreamUnavailable),
    ],
)
async def test_status_that_is_none_of_a2as_is_told_without_its_text(
    code: grpc.StatusCode, error: type[UpstreamError]
) -> None:
    async with raw_agent(refusing(code, "at 10.1.2.3:50051 with sk-secret")) as address, way_out() as upstream:
        for operation in OPERATIONS:
            call = follow if operation in STREAMING else ask
            with pytest.raises(error) as raised:
                await call(upstream, route(address), operation, id="t")
            assert "10.1" not in raised.value.text
            assert "secret" not in raised.value.text


async def test_fault_does_not_show_the_hubs_credential_or_the_agents_address() -> None:
    entry = Agent(name="echo", url="http://127.0.0.1:1/", headers=(("authorization", "Bearer sk-0123456789"),))
    seen: list[str] = []

    async def behave(_request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        text = f"sk-0123456789 was sent to {seen[0]}"
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "INVALID_PARAMS",
            "domain": "a2a-protocol.org",
            "metadata": {"at": text},
        }
        rich = grpc_wire.write_fault(3, Fault(-32602, text, [info]))
        context.set_trailing_metadata((("grpc-status-details-bin", rich),))
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)
        raise AssertionError

    async with raw_agent(behave) as address, way_out() as upstream:
        seen.append(address)
        with pytest.raises(AgentFault) as raised:
            await ask(upstream, route(address), entry=entry, id="t")
    assert raised.value.code == -32602
    assert raised.value.text == "*** was sent to ***"
    assert raised.value.details[0]["metadata"] == {"at": "*** was sent to ***"}


async def test_extensions_that_the_agent_used_are_told() -> None:
    async def behave(_request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.send_initial_metadata((("a2a-extensions", "urn:a"),))
        return b""

    async def behave_streaming(_request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.send_initial_metadata((("a2a-extensions", "urn:a"),))
        await context.write(grpc_wire.write_result("SubscribeToTask", {"task": {"id": "t"}}))
        return b""

    async with raw_agent(behave) as address, way_out() as upstream, permit() as given:
        assert (await upstream.unary(given, ENTRY, route(address), Ask(operation="GetTask"))).extensions == "urn:a"
    async with raw_agent(behave_streaming) as address, way_out() as upstream, permit() as given:
        request = Ask(operation="SubscribeToTask", params={"id": "t"})
        async with upstream.stream(given, ENTRY, route(address), request) as stream:
            assert stream.extensions == "urn:a"
            assert [event_in(batch) async for batch in stream.events] == [{"task": {"id": "t"}}]


async def test_answer_that_is_too_large_is_invalid() -> None:
    async def huge(_request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        return bytes(2000)

    async with raw_agent(huge) as address, way_out(max_answer_bytes=1000) as upstream:
        with pytest.raises(UpstreamInvalid, match="too large"):
            await ask(upstream, route(address), id="t")


async def test_every_wait_ends() -> None:
    soon = Deadlines(connect_s=0.2, agent_first_byte_s=0.2, stream_idle_s=0.2)

    async def begins(_request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.write(grpc_wire.write_result("SubscribeToTask", {"task": {"id": "t"}}))
        return await silent(b"", context)

    async with raw_agent(silent) as address, way_out(soon) as upstream:
        with pytest.raises(UpstreamTimeout, match="did not answer"):
            await ask(upstream, route(address), id="t")
        with pytest.raises(UpstreamTimeout, match="did not answer"):
            await follow(upstream, route(address), "SubscribeToTask", id="t")
    async with raw_agent(begins) as address, way_out(soon) as upstream:
        with pytest.raises(UpstreamTimeout, match="stopped sending"):
            await follow(upstream, route(address), "SubscribeToTask", id="t")
    async with accepting_only() as address, way_out(soon) as upstream:
        with pytest.raises(UpstreamTimeout, match="cannot be reached in time"):
            await ask(upstream, route(address), id="t")


@asynccontextmanager
async def accepting_only() -> AsyncIterator[str]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield f"127.0.0.1:{sock.getsockname()[1]}"


async def test_agent_that_is_down_is_unavailable_and_reached_as_soon_as_it_is_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    where = route(f"127.0.0.1:{port}")
    async with way_out() as upstream:
        for _ in range(3):
            with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
                await ask(upstream, where, id="t")
        async with raw_agent(task, port=port):
            assert await ask(upstream, where, id="t") == {"id": "t"}


async def task(_request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
    return grpc_wire.write_result("GetTask", {"id": "t"})


# -- where it may go


@pytest.mark.attack("2.1/1")
async def test_address_that_the_operator_did_not_write_is_guarded() -> None:
    entry = Agent(name="theirs", url="http://127.0.0.1:1/", trusted=False)
    async with raw_agent(task) as address:
        async with way_out() as upstream:
            with pytest.raises(AddressRefused):
                await ask(upstream, route(address), entry=entry, id="t")
        async with way_out(guard=Guard((ip_network("127.0.0.0/8"),))) as upstream:
            assert await ask(upstream, route(address), entry=entry, id="t") == {"id": "t"}


@pytest.mark.attack("2.1/3")
async def test_name_that_the_operator_did_not_write_is_dialled_at_the_address_that_was_checked() -> None:
    async def behave(_request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return grpc_wire.write_result("GetTask", {"id": context.peer()})

    entry = Agent(name="theirs", url="http://localhost:1/", trusted=False)
    async with (
        raw_agent(behave) as address,
        way_out(guard=Guard((ip_network("127.0.0.0/8"), ip_network("::1/128")))) as up,
    ):
        port = address.rpartition(":")[2]
        found = await ask(up, route(f"localhost:{port}"), entry=entry, id="t")
        assert found["id"].startswith("ipv4:127.0.0.1:")
        (key,) = up._channels
        assert key == ("http", "localhost", int(port), "127.0.0.1")


async def test_tls_is_checked_against_the_hubs_authorities_and_the_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.server(LOCALHOST)
    pem = (tmp_path / "peer.pem").read_bytes()
    start = pem.index(b"-----BEGIN PRIVATE KEY")
    credentials = grpc.ssl_server_credentials([(pem[start:], pem[:start])])
    untrusted = Agent(name="theirs", url="https://localhost/", trusted=False)
    async with raw_agent(task, credentials) as address:
        port = address.rpartition(":")[2]
        where = Route(f"https://localhost:{port}", (), None, GRPC)
        guard = Guard((ip_network("127.0.0.0/8"), ip_network("::1/128")))
        async with way_out(tls=authority.client(), guard=guard) as upstream:
            for entry in (ENTRY, untrusted):
                assert await ask(upstream, where, entry=entry, id="t") == {"id": "t"}
            with pytest.raises(UpstreamUnavailable):
                await ask(upstream, Route(f"https://{address}", (), None, GRPC), id="t")
        async with way_out() as upstream:
            with pytest.raises(UpstreamUnavailable):
                await ask(upstream, where, id="t")


async def test_the_operators_proxy_is_used_and_the_environments_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("grpc_proxy", "http://127.0.0.1:9")
    async with raw_agent(task) as address, listening(forward) as proxy:
        async with way_out() as upstream:
            assert await ask(upstream, route(address), id="t") == {"id": "t"}
        async with way_out(proxy=f"http://me:secret@127.0.0.1:{proxy.port}") as upstream:
            assert await ask(upstream, route(address), id="t") == {"id": "t"}
        (request,) = proxy.requests
        assert request.start == f"CONNECT {address} HTTP/1.1"
        assert request.headers["proxy-authorization"] == "Basic bWU6c2VjcmV0"


@pytest.mark.parametrize("header", [("x-bad-bin", "1"), ("x!y", "1"), ("grpc-timeout", "1"), ("x", "gr\xf6\xdfe")])
async def test_header_that_grpc_cannot_send_makes_the_agent_unavailable(header: tuple[str, str]) -> None:
    async with way_out() as upstream:
        with pytest.raises(UpstreamUnavailable, match="as it is configured"):
            await ask(upstream, route("127.0.0.1:1", header), id="t")


# -- channels


async def test_calls_share_connections_and_unused_channels_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_out, "STREAMS", 2)
    monkeypatch.setattr(grpc_out, "MAX_CHANNELS", 1)
    go, peers = asyncio.Event(), []

    async def behave(_request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        peers.append(context.peer())
        await go.wait()
        return grpc_wire.write_result("GetTask", {"id": "t"})

    async with raw_agent(behave) as address, raw_agent(task) as other, way_out() as upstream:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(ask(upstream, route(address), id="t"))
            while len(peers) < 4:
                await asyncio.sleep(0)
            go.set()
        assert len(set(peers)) == 2
        await ask(upstream, route(address), id="t")
        assert len(set(peers)) == 2
        assert sum(map(len, upstream._channels.values())) == 1
        await ask(upstream, route(other), id="t")
        assert [key[2] for key in upstream._channels] == [int(other.rpartition(":")[2])]
