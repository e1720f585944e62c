"""What `llm` needs of others, said by `llm`: tools to execute, a model to call, somewhere to answer. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from llm.pieces import Piece
from llm.types import Finished, Format, Guest, Listing, Offer, OfferedTool, ToolOutcome
from registry.entries import Headers, Model
from registry.gate import Permit
from registry.identity import Principal
from registry.judged import JsonObject


class ToolExecutor(Protocol):
    """Lists and calls the hub's tools for a principal."""

    async def prepare(self, principal: Principal, sources: Sequence[str | None]) -> None:
        """Wait a while until all is known that `offered` is to say of each source."""

    def offered(self, principal: Principal, source: str | None) -> Sequence[OfferedTool]:
        """The tools of a server or toolset that `principal` may use; None: of all.

        Empty for an unknown source, as for one that is not the principal's.
        """

    async def guarded(self, principal: Principal, name: str, *, arguments: JsonObject, within: Permit) -> JsonObject:
        """What the hub's guards leave of the arguments of a call that is to be approved; raises `HubError` where it cannot be made."""

    async def call(self, principal: Principal, name: str, *, arguments: JsonObject, within: Permit) -> JsonObject:
        """Call a tool by its exposed name and return MCP's decoded CallToolResult; raises `HubError`."""


class Guests(Protocol):
    """Lets in servers elsewhere that requests bring along."""

    def visit(
        self, principal: Principal, *, url: str, label: str | None, headers: Headers
    ) -> AbstractAsyncContextManager[Guest]:
        """Connect to one for the length of a request; entering raises `HubError`."""


class ModelRequest(NamedTuple):
    """What is sent to a provider: one request in one of its formats, whose `model` is already the upstream's."""

    body: bytes
    stream: bool
    format: Format = "chat"
    headers: Headers = ()
    """Further ones of the format's, which the caller sent."""
    path: str = ""
    """Behind the format's own path, for another operation than an answer."""


class ModelAnswer(Protocol):
    """A model's successful answer in the format of its request."""

    async def read(self) -> bytes:
        """The whole body, of a request without `stream`."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The event stream as it comes, cut anywhere; raises `UpstreamError` when it ends early."""


class Provider(Protocol):
    """Calls models of one kind of service."""

    def call(self, permit: Permit, model: Model, request: ModelRequest) -> AbstractAsyncContextManager[ModelAnswer]:
        """Send one request; it or entering raises `UpstreamError`."""

    def secrets(self, model: Model) -> Sequence[str]:
        """What no text of the provider may show to a caller: the model's key and address."""


class Sink(Protocol):
    """Where the answer goes: the part of `hub.exchange.Exchange` that `llm` uses."""

    async def reply(self, status: int, body: bytes) -> None:
        """Answer whole."""

    async def start(self, status: int) -> None:
        """Begin an event stream."""

    async def write(self, chunk: bytes) -> None:
        """Send a piece of it."""


class Voice(Protocol):
    """How the loop speaks to a caller, in the format of its door, streaming or whole. Each method waits for a slow reader."""

    async def begin(self, listings: Sequence[Listing]) -> None:
        """The first model has begun to answer: from here on, what goes wrong is told within the answer."""

    async def say(self, piece: Piece, offer: Offer | None = None) -> None:
        """Something of the answer, of any round. With `offer` it is a call of that tool of the hub, else the caller's own."""

    async def called(self, outcome: ToolOutcome) -> None:
        """A call of the hub has ended; those of one round end in any order."""

    async def finish(self, finished: Finished) -> None:
        """The answer is complete."""
