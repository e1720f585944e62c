"""What `llm` needs of others, said by `llm`: tools to execute, a model to call, somewhere to answer. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from llm.types import OfferedTool
from registry.entries import Model
from registry.gate import Permit
from registry.identity import Principal
from registry.judged import JsonObject


class ToolExecutor(Protocol):
    """Lists and calls the hub's tools for a principal."""

    async def prepare(self, principal: Principal) -> None:
        """Wait a while until all is known that `offered` is to say."""

    def offered(self, principal: Principal, source: str | None) -> Sequence[OfferedTool]:
        """The tools of a server or toolset that `principal` may use; None: of all.

        Empty for an unknown source, as for one that is not the principal's.
        """

    async def call(self, principal: Principal, name: str, *, arguments: JsonObject, within: Permit) -> JsonObject:
        """Call a tool by its exposed name and return MCP's decoded CallToolResult; raises `HubError`."""


class ModelAnswer(Protocol):
    """A model's successful answer in OpenAI's chat completions format."""

    async def read(self) -> bytes:
        """The whole body, of a request without `stream`."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The event stream as it comes, cut anywhere; raises `UpstreamError` when it ends early."""


class Provider(Protocol):
    """Calls models of one kind of service."""

    def call(
        self, permit: Permit, model: Model, *, body: bytes, stream: bool
    ) -> AbstractAsyncContextManager[ModelAnswer]:
        """Send one chat completions request whose `model` is already the upstream's; it or entering raises `UpstreamError`."""

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
