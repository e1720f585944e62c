"""A chat desk: the chat and models doors over a real server, with a recording gate, a scripted upstream and tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest

from hub import errors
from hub.doors.chat import ChatDoor, ModelsDoor
from hub.exchange import ClientGone
from hub.http_exchange import HttpExchange
from llm import router
from llm.call import Models
from llm.deployments import Deployments
from llm.known_prices import KnownPrices
from llm.providers.offline import Offline
from llm.providers.openai import OpenAICompatible
from llm.providers.table import TABLE
from llm.rounds import LoopLimits
from llm.run import Chat, Loop
from registry.access import Grants
from registry.catalog import Catalog
from registry.egress.http import Deadlines, Egress
from registry.entries import Model
from registry.errors import HubError, InvalidRequest
from registry.gate import Permit
from registry.identity import HUBS_LIMITS, Principal, RequestLimits
from registry.judged import encode
from registry.limits import Pace
from tests.conftest import served_exchanges
from tests.peers.openai_upstream import OpenAIUpstream, Turn, openai_upstream
from tests.recording import RecordingGate

PUBLIC_URL = "https://hub.example"


@dataclass(frozen=True)
class ToolOffered:
    """A tool as the port describes it."""

    server: str
    name: str
    description: str = ""
    input_schema: dict[str, Any] = field(default_factory=lambda: {"type": "object"})
    annotations: dict[str, Any] = field(default_factory=dict)

    @property
    def exposed(self) -> str:
        return f"{self.server}__{self.name}"

    kind = "tool"
    limits = ()
    call_usd = None

    @property
    def grant_name(self) -> str:
        return self.exposed


class Nobody:
    """Lets in no server from elsewhere."""

    @asynccontextmanager
    async def visit(self, principal: Principal, *, url: str, label: str | None, headers: Any) -> AsyncIterator[Any]:
        raise InvalidRequest(f"tool source {url!r} is not served here", member="tools")
        yield


class Workshop:
    """An executor whose tools are functions of this test, called through the gate as the MCP bridge does it."""

    def __init__(self) -> None:
        self.gate: RecordingGate | None = None
        self.tools: dict[str, tuple[ToolOffered, Callable[..., Any]]] = {}
        self.called: list[tuple[str, dict[str, Any]]] = []
        self.cancelled = asyncio.Event()

    def add(self, server: str, name: str, function: Callable[..., Any], **members: Any) -> None:
        tool = ToolOffered(server, name, **members)
        self.tools[tool.exposed] = (tool, function)

    async def prepare(self, principal: Principal, sources: Sequence[str | None]) -> None:
        pass

    def offered(self, principal: Principal, source: str | None) -> Sequence[ToolOffered]:
        return [
            tool
            for tool, _ in self.tools.values()
            if source in (None, tool.server) and principal.grants.allow("tool", tool.exposed)
        ]

    async def guarded(
        self, principal: Principal, name: str, *, arguments: dict[str, Any], within: Permit
    ) -> dict[str, Any]:
        return arguments

    async def call(self, principal: Principal, name: str, *, arguments: dict[str, Any], within: Permit) -> Any:
        tool, function = self.tools[name]
        assert self.gate is not None
        with self.gate.admit(principal, tool, within=within):
            self.called.append((name, arguments))
            try:
                said = function(**arguments)
                said = await said if asyncio.iscoroutine(said) else said
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return said if isinstance(said, dict) else {"content": [{"type": "text", "text": str(said)}]}


class Time:
    """The time by which models are routed: it passes in pauses only, and at a test's word."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        self.chance = 0.999

    async def pause(self, seconds: float) -> None:
        if seconds:
            self.pauses.append(seconds)
            self.now += seconds

    def deployments(self, **options: Any) -> Deployments:
        return Deployments(clock=lambda: self.now, pause=self.pause, chance=lambda: self.chance, **options)


@dataclass
class Desk:
    """What a test gets."""

    url: str
    client: openai.AsyncOpenAI
    upstream: OpenAIUpstream
    gate: RecordingGate
    workshop: Workshop
    models: dict[str, Model]
    grants: list[str]
    time: Time


@asynccontextmanager
async def open_desk(
    *turns: Turn,
    limits: LoopLimits | None = None,
    per_minute: int | None = None,
    request_limits: RequestLimits = HUBS_LIMITS,
) -> AsyncIterator[Desk]:
    """Serve the doors with a model `m` at a scripted upstream, and `offline`."""
    grants = ["model:*", "tool:*"]
    workshop, time = Workshop(), Time()
    settled: list[Any] = []
    gate = workshop.gate = RecordingGate(settled.append)
    gate.settled = settled
    egress = Egress(Deadlines(connect_s=2, first_byte_s=20))
    keys = {"OPENAI_API_KEY": "sk-environment-key"}
    provider = OpenAICompatible(egress, keys=keys)
    async with openai_upstream(*turns) as upstream:
        models = {
            "m": Model(name="m", provider="openai", model="up-1", base_url=upstream.url, api_key="sk-upstream-secret"),
            "w/*": Model(name="w/*", provider="openai", model="*", base_url=upstream.url),
            "mistral": Model(name="mistral", provider="mistral", model="x", base_url=upstream.url, api_key="k"),
            "offline": Model(name="offline", provider="offline", model="offline"),
        }
        loop = Loop(
            lambda: Catalog(number=1, models=models),
            models=Models(
                gate,
                providers={**dict.fromkeys(TABLE, provider), "offline": Offline()},
                prices=KnownPrices().of,
                find=lambda name: router.stand_in(models, name),
                deployments=time.deployments(),
            ),
            tools=workshop,
            guests=Nobody(),
            limits=limits,
        )
        chat = Chat(loop, public_url=PUBLIC_URL)
        doors = {
            "/v1/chat/completions": ChatDoor(chat),
            "/v1/models": ModelsDoor(lambda: Catalog(number=1, models=models)),
        }

        async def serve(exchange: HttpExchange) -> None:
            exchange.request_id = "req_1"
            exchange.principal = Principal(
                id="key_1",
                name="k",
                grants=Grants.parse(tuple(grants)),
                paces=() if per_minute is None else (Pace("key_1", "the key's", per_minute),),
                request_limits=request_limits,
            )
            door = doors["/v1/models" if exchange.path.startswith("/v1/models") else exchange.path]
            try:
                await door(exchange)
                exchange.finish()
            except ClientGone:
                pass
            except HubError as error:
                status = errors.row_of(error).status
                body = encode(errors.openai(error, "req_1"))
                await exchange.reply(status, body, headers=errors.extra_headers(error))
            finally:
                exchange.stop()

        async with (
            served_exchanges(serve) as url,
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-test", max_retries=0, timeout=20) as client,
        ):
            try:
                yield Desk(url, client, upstream, gate, workshop, models, grants, time)
            finally:
                await egress.aclose()
    gate.check()


@pytest.fixture
def desk() -> Callable[..., Any]:
    """`async with desk(Turn(...)) as d:` serves the doors."""
    return open_desk
