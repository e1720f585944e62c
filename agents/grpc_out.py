"""Calling agents that speak gRPC: channels kept, deadlines, and what goes wrong in the hub's words.

The messages are `grpc_wire`'s; here they are bytes. gRPC brings its own connections, so the rules of the way out are kept
here once more: the address guard, no proxy from the environment, no retries, an end to every wait.

Importing this module loads grpc and protobuf, so it is imported when the first agent needs it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import grpc
import grpc.aio

from agents import grpc_wire
from agents.discovery import Route
from agents.faults import Fault
from agents.grpc_wire import SERVICE
from agents.speech import Ask, Operation
from registry import judged
from registry.deadline import Deadline
from registry.discreet import MIN_SECRET, discreet
from registry.egress.http import Egress
from registry.egress.request import Target, parse
from registry.entries import Agent
from registry.errors import (
    AgentFault,
    UpstreamError,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
    unsent,
)
from registry.gate import Permit

MAX_CHANNELS = 64
"""Channels kept: each holds some 100 kB. There are more only while that many are in use."""

IDLE_MS = 30_000
"""When an unused channel closes its connection; it opens one again by itself."""

STREAMS = 100
"""Calls on one connection: many servers let no more run at once (RFC 9113 §6.5.2) and make the others wait."""

NEVER_SENT: Final = frozenset({"host", "content-type", "accept", "user-agent", "te", "connection"})
"""Headers of an entry that are gRPC's own, or mean nothing to it."""

_KEY = re.compile(r"(?!grpc-)[0-9a-z_.-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
_TOO_LARGE = "message larger than max"
"""How gRPC says that an answer was."""

_REFUSED: Final = {grpc.StatusCode.UNAUTHENTICATED: 401, grpc.StatusCode.PERMISSION_DENIED: 403}
_DECIDED: Final = frozenset(
    {grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN}
)

_Key = tuple[str, str | int, int | str, str]
"""What a channel leads to, as `Target.key`."""
_UnaryMethod = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
_StreamMethod = grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
_StreamCall = grpc.aio.UnaryStreamCall[bytes, bytes]


class Answer(NamedTuple):
    """The message that answers, and the extensions that the agent says it used."""

    body: bytes
    extensions: str | None


class Stream(NamedTuple):
    """A stream under way: `StreamResponse` messages as they come."""

    events: AsyncIterator[list[bytes]]
    extensions: str | None


class _Channel:
    """A channel, the number of calls on it, and the methods called so far. Messages pass as bytes."""

    __slots__ = ("_streams", "_unaries", "calls", "channel")

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.calls = 0
        self._unaries: dict[Operation, _UnaryMethod] = {}
        self._streams: dict[Operation, _StreamMethod] = {}

    def unary(self, operation: Operation) -> _UnaryMethod:
        found = self._unaries.get(operation)
        if found is None:
            found = self._unaries[operation] = self.channel.unary_unary(f"/{SERVICE}/{operation}")
        return found

    def stream(self, operation: Operation) -> _StreamMethod:
        found = self._streams.get(operation)
        if found is None:
            found = self._streams[operation] = self.channel.unary_stream(f"/{SERVICE}/{operation}")
        return found


class GrpcUpstream:
    """Calls agents over gRPC. One for a process; safe to use from several tasks of one event loop."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._channels: dict[_Key, list[_Channel]] = {}
        """The keys least recently used first."""

    async def unary(self, permit: Permit, entry: Agent, route: Route, ask: Ask) -> Answer:
        """Make a unary call within `permit`. When the caller leaves, the call is cancelled at the agent.

        Raises:
            AgentFault: the agent answered with an error of A2A.
            UpstreamError: it did not answer, or not in A2A.
            InvalidParams: protobuf cannot hold a parameter.
        """
        request = _written(route, ask)
        words = _Words(entry, _target(entry, route))
        metadata = _metadata(entry, route, ask)
        async with self._lent(permit, entry, words.target) as channel:
            call = channel.unary(ask.operation)(
                request, metadata=metadata, timeout=self._egress.deadlines.agent_first_byte_s
            )
            try:
                data = await call
                head = await call.initial_metadata()
            except grpc.aio.AioRpcError as error:
                raise words.told(error) from None
        return Answer(data, _extensions(head))

    @asynccontextmanager
    async def stream(self, permit: Permit, entry: Agent, route: Route, ask: Ask) -> AsyncIterator[Stream]:
        """Make a streaming call within `permit`; leaving cancels it at the agent and nothing more.

        Raises, also while events are read: as `unary`.
        """
        request = _written(route, ask)
        words = _Words(entry, _target(entry, route))
        metadata = _metadata(entry, route, ask)
        async with self._lent(permit, entry, words.target) as channel:
            call = channel.stream(ask.operation)(request, metadata=metadata)
            try:
                extensions = await self._begun(call, words)
                yield Stream(self._events(call, words), extensions)
            finally:
                call.cancel()

    async def aclose(self) -> None:
        """Close all channels; calls under way end."""
        channels = [one for many in self._channels.values() for one in many]
        self._channels.clear()
        for one in channels:
            await one.channel.close()

    async def _begun(self, call: _StreamCall, words: _Words) -> str | None:
        """Wait for the head of the answer; returns the extensions that it names."""
        try:
            with Deadline(self._egress.deadlines.agent_first_byte_s):
                return _extensions(await call.initial_metadata())
        except TimeoutError:
            raise UpstreamTimeout(words.entry.name, "it did not answer in time") from None
        except grpc.aio.AioRpcError as error:
            raise words.told(error) from None

    async def _events(self, call: _StreamCall, words: _Words) -> AsyncIterator[list[bytes]]:
        while True:
            try:
                with Deadline(self._egress.deadlines.stream_idle_s):
                    data = await call.read()
            except TimeoutError:
                raise UpstreamTimeout(words.entry.name, "it stopped sending") from None
            except grpc.aio.AioRpcError as error:
                raise words.told(error) from None
            if not isinstance(data, bytes):  # the end
                return
            yield [data]

    @asynccontextmanager
    async def _lent(self, permit: Permit, entry: Agent, target: Target) -> AsyncIterator[_Channel]:
        """Lend a connected channel."""
        if permit.due:
            await permit.reserve()
        permit.use()
        address = "" if entry.trusted else await self._egress.checked(target, entry.name)
        key = (*target.key[:3], address)
        many = self._channels.pop(key, [])
        self._channels[key] = many  # now the one used last
        one = next((one for one in many if one.calls < STREAMS), None)
        if one is None:
            one = _Channel(self._open(target, address))
            many.append(one)
        one.calls += 1
        try:
            if not await self._connect(one.channel, entry):
                permit.missed()
                if one in many:  # it would refuse all calls until its next attempt: the next call dials anew
                    many.remove(one)
                raise unsent(UpstreamUnavailable(entry.name, "it cannot be reached"))
            yield one
        finally:
            one.calls -= 1
            if not one.calls and one not in many:
                await one.channel.close()
            await self._close_surplus()

    async def _connect(self, channel: grpc.aio.Channel, entry: Agent) -> bool:
        """Wait until the channel has a connection; False: nobody is there. Nothing was sent yet."""
        state = channel.get_state(try_to_connect=True)
        if state is grpc.ChannelConnectivity.READY:
            return True
        try:
            with Deadline(self._egress.deadlines.connect_s):
                while state not in _DECIDED:
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError:
            raise unsent(UpstreamTimeout(entry.name, "it cannot be reached in time")) from None
        return state is grpc.ChannelConnectivity.READY

    def _open(self, target: Target, address: str) -> grpc.aio.Channel:
        """Make a channel to the checked `address` and nowhere else, or as the operator's network leads there."""
        egress = self._egress
        proxy = egress.proxy_url if not address else None
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", egress.max_answer_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_http_proxy", int(proxy is not None)),  # else the environment's
            ("grpc.enable_retries", 0),
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.use_local_subchannel_pool", 1),  # a second channel to an agent is a second connection
            ("grpc.client_idle_timeout_ms", IDLE_MS),
            ("grpc.primary_user_agent", "hubbub"),
            ("grpc.default_authority", target.authority),
        ]
        if proxy is not None:
            options.append(("grpc.http_proxy", proxy))
        if not address:
            where = f"dns:///{target.authority.removesuffix(f':{target.port}')}:{target.port}"
        else:
            where = f"ipv6:[{address}]:{target.port}" if ":" in address else f"ipv4:{address}:{target.port}"
        if target.scheme == "http":
            return grpc.aio.insecure_channel(where, options)
        options.append(("grpc.ssl_target_name_override", target.host))
        return grpc.aio.secure_channel(where, grpc.ssl_channel_credentials(egress.authorities()), options)

    async def _close_surplus(self) -> None:
        """Close channels that nobody uses, the ones used longest ago first, when there are too many."""
        surplus = sum(map(len, self._channels.values())) - MAX_CHANNELS
        if surplus <= 0:
            return
        idle = [(many, one) for many in self._channels.values() for one in many if not one.calls][:surplus]
        for many, one in idle:
            many.remove(one)
        self._channels = {key: many for key, many in self._channels.items() if many}
        for _, one in idle:
            await one.channel.close()


class _Words(NamedTuple):
    """Says in the hub's words what an agent answered."""

    entry: Agent
    target: Target

    def told(self, error: grpc.aio.AioRpcError) -> UpstreamError:
        """The hub's error for a status; nothing that gRPC itself says is passed on, for it names addresses."""
        name, status = self.entry.name, error.code()
        if status in _REFUSED:  # the hub's own credential was refused: that is no matter between hub and caller
            return UpstreamRefused(name, _REFUSED[status])
        said = error.details() or ""
        trailing = dict(error.trailing_metadata())
        rich = trailing.get("grpc-status-details-bin")
        fault = grpc_wire.read_fault(status.value[0], said, rich if isinstance(rich, bytes) else None)
        if fault is not None:
            return self._fault(fault)
        match status:
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return UpstreamTimeout(name, "it did not answer in time")
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                is_ours = _TOO_LARGE in said.lower()
                return UpstreamInvalid(name, "its answer is too large") if is_ours else UpstreamLimited(name, None)
            case grpc.StatusCode.UNAVAILABLE:
                return UpstreamUnavailable(name, "the connection failed, or it is not ready")
            case _:
                return UpstreamUnavailable(name, f"it failed with gRPC status {status.name}")

    def _fault(self, fault: Fault) -> AgentFault:
        clean = discreet(self.entry, judged.encode({"message": fault.message, "details": fault.details}))
        authority = self.target.authority.encode()
        said = judged.decode(clean.replace(authority, b"***") if len(authority) >= MIN_SECRET else clean)
        return AgentFault(self.entry.name, fault.code, said["message"], said["details"])


def _written(route: Route, ask: Ask) -> bytes:
    if ask.speech != route.speech or ask.raw is None:
        return grpc_wire.write_request(ask.operation, ask.params, tenant=route.tenant)
    return grpc_wire.addressed(ask.operation, ask.raw, tenant=route.tenant, context_id=ask.context_id)


def _target(entry: Agent, route: Route) -> Target:
    try:
        return parse(route.url)
    except ValueError as error:
        raise UpstreamUnavailable(entry.name, f"it cannot be called as it is configured: {error}") from None


def _metadata(entry: Agent, route: Route, ask: Ask) -> tuple[tuple[str, str], ...]:
    """Metadata of a call, from scratch: nothing of a caller's comes here but extensions and trace (a2a.md 3.7)."""
    own = [(name.lower(), value) for name, value in route.headers if name.lower() not in NEVER_SENT]
    for name, value in own:
        if not _KEY.fullmatch(name) or name.endswith("-bin") or not _VALUE.fullmatch(value):
            raise UpstreamUnavailable(entry.name, f"it cannot be called as it is configured: gRPC cannot send {name}")
    asked = [("a2a-extensions", ask.extensions or ""), *ask.trace]
    return (*own, *((name, value) for name, value in asked if value and _VALUE.fullmatch(value)))


def _extensions(head: grpc.aio.Metadata) -> str | None:
    value = dict(head).get("a2a-extensions")
    return value if isinstance(value, str) else None
