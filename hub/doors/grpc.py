"""The gRPC door: A2A 1.0 on a port of its own, each agent by the `tenant` of the request (A2A 1.0 §10).

Speaks without TLS, as the HTTP doors do: it stands on the loopback address or behind a proxy that ends TLS. A browser cannot
speak gRPC, so there is no Host or Origin to check. Importing this module loads grpc and protobuf: only a hub with
`grpc_port` does it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn, Protocol, TypeVar, get_args
from urllib.parse import unquote

import grpc
import grpc.aio

from agents import grpc_wire, wire
from agents.call import Stream
from agents.faults import Fault
from agents.speech import STREAMING, Ask, Operation, Speech
from agents.spoken import event_of
from agents.upstream import Heard
from hub import errors
from hub.auth import Authenticator
from hub.http_exchange import Limits
from registry.entries import Agent
from registry.errors import INTERNAL, HubError, NotFound, UpstreamInvalid
from registry.gate import Gate, Permit
from registry.identity import Principal
from registry.registry import Registry
from registry.warnings import HEADER

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_CALLS = 10_000
"""Calls under way in the process; further ones are refused at once. The HTTP doors are bounded by file descriptors."""

MAX_STREAMS = 1000
"""Calls on one connection: a proxy sends everybody's through a few."""

MIN_PING_MS = 10_000
"""How often clients may ask whether the hub is there; gRPC's own bound of five minutes cuts off many."""

GRPC: Final = Speech("GRPC", "1.0")
STATUS: Final = {code.value[0]: code for code in grpc.StatusCode}
METHODS: Final[dict[str, Operation]] = {
    f"/{grpc_wire.SERVICE}/{operation}": operation for operation in get_args(Operation)
}

Context = grpc.aio.ServicerContext[bytes, bytes]
Metadata = tuple[tuple[str, str | bytes], ...]


class Caller(Protocol):
    """What the door asks of who calls agents: `agents.call.AgentCaller`."""

    async def ask(self, permit: Permit, entry: Agent, ask: Ask) -> Heard:
        """Make a unary call in canonical form."""

    def follow(self, permit: Permit, entry: Agent, ask: Ask) -> AbstractAsyncContextManager[Stream]:
        """Make a streaming call in canonical form."""


@dataclass(slots=True)
class _Call:
    """One call whose sender is known."""

    operation: Operation
    headers: Mapping[bytes, bytes]
    principal: Principal
    """Once the message is read, with the task that it is part of."""
    request_id: str
    warnings: list[str] = field(default_factory=list)
    """Of what is nearly used up."""

    def head(self, extensions: str | None) -> Metadata:
        """Metadata before the answer."""
        own: Metadata = (("x-request-id", self.request_id),)
        if extensions is None or not (extensions.isascii() and extensions.isprintable()):
            return own
        return (*own, ("a2a-extensions", extensions))

    def tail(self) -> Metadata:
        """Metadata behind the answer."""
        return tuple((HEADER, warning.encode("ascii", "replace").decode()) for warning in self.warnings)


class _Request:
    """A call as the authenticator asks for it. Plain: made for every call."""

    __slots__ = ("_context", "headers")
    path = ""  # tokens for one path are for none of these

    def __init__(self, headers: Mapping[bytes, bytes], context: Context) -> None:
        self.headers = headers
        self._context = context

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """All metadata, in its order."""
        return list(_pairs(self._context.invocation_metadata()))

    @property
    def peer(self) -> str | None:
        """As `hub.exchange.Exchange.peer`."""
        kind, _, place = unquote(self._context.peer()).partition(":")
        return place.rpartition(":")[0].strip("[]") if kind in {"ipv4", "ipv6"} else None


class _Answer(NamedTuple):
    """A unary call's end."""

    body: bytes
    extensions: str | None


class GrpcDoor(grpc.aio.ServerInterceptor):
    """Answers `lf.a2a.v1.A2AService`. An interceptor, since only those see a call before its message is read."""

    def __init__(self, caller: Caller, *, registry: Registry, gate: Gate, authenticator: Authenticator) -> None:
        self._caller = caller
        self._registry = registry
        self._gate = gate
        self._authenticator = authenticator
        self._numbers = itertools.count(1)
        self._start = os.urandom(6).hex()
        self._under_way: set[asyncio.Task[_Answer | HubError]] = set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Find out who calls, and choose how the call is served; unknown methods are gRPC's to refuse."""
        operation = METHODS.get(handler_call_details.method)
        if operation is None:
            return await continuation(handler_call_details)
        request_id = f"req_g{self._start}{next(self._numbers):x}"
        headers = _headers(handler_call_details.invocation_metadata)
        try:
            call = _Call(operation, headers, await self._authenticator.before_peer(headers, "a2a"), request_id)
        except HubError as error:
            self._gate.refused(None, error, request_id=request_id, where=f"gRPC {operation}")
            # no message is read of a stranger: a handler of streams reads only what it asks for
            return grpc.stream_stream_rpc_method_handler(partial(_refuse, error, request_id))
        if operation in STREAMING:
            return grpc.unary_stream_rpc_method_handler(partial(self._stream, call))
        return grpc.unary_unary_rpc_method_handler(partial(self._unary, call))

    async def _unary(self, call: _Call, data: bytes, context: Context) -> bytes:
        """Make a unary call; it is finished and recorded also when the client has left."""
        task = asyncio.create_task(self._answer(call, data, context))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        answer = await asyncio.shield(task)
        if isinstance(answer, HubError):
            await _abort(context, answer, call.request_id, call.tail())
        await context.send_initial_metadata(call.head(answer.extensions))
        context.set_trailing_metadata(call.tail())
        return answer.body

    async def _answer(self, call: _Call, data: bytes, context: Context) -> _Answer | HubError:
        with self._gate.telling(call.principal, call.request_id, call.warnings.append):
            answer = await _safely(self._ask(call, data, context), call.request_id)
        self._note(call, answer)
        return answer

    def _note(self, call: _Call, outcome: object) -> None:
        if isinstance(outcome, HubError):
            where = f"gRPC {call.operation}"
            self._gate.refused(call.principal, outcome, request_id=call.request_id, where=where)

    async def _ask(self, call: _Call, data: bytes, context: Context) -> _Answer:
        entry, ask = self._read(call, data, context)
        principal = wire.in_context(call.principal, entry, ask)
        with self._gate.admit(principal, entry, request_id=call.request_id) as permit:
            heard = await self._caller.ask(permit, entry, ask)
        if heard.data is not None:
            return _Answer(heard.data, heard.extensions)
        return _Answer(_written(entry, call.operation, heard.result or {}), heard.extensions)

    async def _stream(self, call: _Call, data: bytes, context: Context) -> None:
        """Pass a stream on until it ends or the client leaves."""
        with self._gate.telling(call.principal, call.request_id, call.warnings.append):
            outcome = await _safely(self._follow(call, data, context), call.request_id)
        self._note(call, outcome)
        if isinstance(outcome, HubError):
            await _abort(context, outcome, call.request_id, call.tail())
        context.set_trailing_metadata(call.tail())

    async def _follow(self, call: _Call, data: bytes, context: Context) -> None:
        entry, ask = self._read(call, data, context)
        principal = wire.in_context(call.principal, entry, ask)
        with self._gate.admit(principal, entry, request_id=call.request_id) as permit:
            async with self._caller.follow(permit, entry, ask) as stream, aclosing(stream.batches) as batches:
                await context.send_initial_metadata(call.head(stream.extensions))
                async for batch in batches:
                    for shown in batch:
                        data = shown.data
                        if shown.speech != GRPC:
                            data = _written(entry, call.operation, event_of(entry, shown.speech, data))
                        await context.write(data)  # waits while the client is slow

    def _read(self, call: _Call, data: bytes, context: Context) -> tuple[Agent, Ask]:
        call.principal = self._authenticator.check(call.principal, "a2a", _Request(call.headers, context))
        wire.check_version("1.0", call.headers, b"")
        tenant, params, raw = grpc_wire.read_request(call.operation, data)
        entry = self._registry.catalog.agents.get(tenant)
        if entry is None or not call.principal.grants.allow("agent", tenant):
            raise NotFound("agent", tenant)
        forwarded = wire.forwarded_headers("1.0", call.headers, call.principal.task)
        return entry, wire.asked(GRPC, call.operation, params, raw=raw, forwarded=forwarded)

    async def aclose(self) -> None:
        """End the calls whose clients have left."""
        left = list(self._under_way)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@asynccontextmanager
async def listening(
    door: GrpcDoor, *, host: str, port: int, limits: Limits, drain_s: float, ending: asyncio.Event | None = None
) -> AsyncIterator[int]:
    """Serve `door` until `ending` is set or the block ends; then let running calls end within the drain time.

    Yields the port.

    Raises:
        OSError: the address cannot be had.
    """
    server = grpc.aio.server(
        interceptors=(door,),
        maximum_concurrent_rpcs=MAX_CALLS,
        options=[
            ("grpc.so_reuseport", 0),  # else a second hub would take half the calls
            ("grpc.max_receive_message_length", limits.body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", limits.header_bytes),
            ("grpc.absolute_max_metadata_size", limits.header_bytes),
            ("grpc.max_concurrent_streams", MAX_STREAMS),
            ("grpc.keepalive_time_ms", round(limits.keep_alive_s * 1000)),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", MIN_PING_MS),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )
    try:
        bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError:
        raise OSError(f"gRPC cannot listen on port {port} of {host}") from None
    await server.start()
    draining = asyncio.create_task(_drain(server, ending, drain_s)) if ending is not None else None
    try:
        yield bound
    finally:
        await server.stop(drain_s)  # waits only, if it drains already
        if draining is not None:
            draining.cancel()
        await door.aclose()


async def _drain(server: grpc.aio.Server, ending: asyncio.Event, drain_s: float) -> None:
    await ending.wait()
    await server.stop(drain_s)


async def _safely(work: Awaitable[T], request_id: str) -> T | HubError:
    """Do the work of a call; every failure becomes an answer."""
    try:
        return await work
    except HubError as error:
        return error
    except Exception:  # the boundary: whatever the door did not foresee; gRPC would tell the caller its text
        logger.exception("request failed", extra={"request_id": request_id})
        return INTERNAL


async def _refuse(error: HubError, request_id: str, _messages: object, context: Context) -> None:
    await _abort(context, error, request_id)


async def _abort(context: Context, error: HubError, request_id: str, tail: Metadata = ()) -> NoReturn:
    """End a call with an error in the form of §10.6: a status, and its details in `grpc-status-details-bin`."""
    said = errors.a2a(error, request_id)
    status = errors.grpc_status(error)
    rich = grpc_wire.write_fault(status, Fault(said["code"], said["message"], said.get("data") or []))
    extra = tuple((name.decode(), value) for name, value in errors.extra_headers(error))
    trailing: Metadata = (("grpc-status-details-bin", rich), ("x-request-id", request_id), *extra, *tail)
    await context.abort(STATUS[status], said["message"], trailing)


def _written(entry: Agent, operation: Operation, result: dict[str, Any]) -> bytes:
    try:
        return grpc_wire.write_result(operation, result)
    except ValueError as error:
        raise UpstreamInvalid(entry.name, f"its answer {error}") from None


def _headers(metadata: Any) -> dict[bytes, bytes]:
    """Metadata as the headers they are; of repeated ones the first."""
    headers: dict[bytes, bytes] = {}
    for name, value in _pairs(metadata):
        headers.setdefault(name, value)
    return headers


def _pairs(metadata: Any) -> Iterator[tuple[bytes, bytes]]:
    for name, value in metadata or ():
        yield name.encode(), value if isinstance(value, bytes) else value.encode()
