"""A desk for Anthropic's format: its door and OpenAI's, over scripted upstreams of both formats, with both official clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
import openai

from hub import errors
from hub.doors.chat import ChatDoor
from hub.doors.messages import MessagesDoor
from hub.exchange import ClientGone
from hub.http_exchange import HttpExchange
from llm import router
from llm.call import Models
from llm.known_prices import KnownPrices
from llm.messages import Messages
from llm.providers.openai import OpenAICompatible
from llm.providers.table import TABLE
from llm.rounds import LoopLimits
from llm.run import Chat, Loop
from registry.access import Grants
from registry.catalog import Catalog
from registry.egress.http import Deadlines, Egress
from registry.entries import Model
from registry.errors import HubError
from registry.identity import Principal
from registry.judged import encode
from tests.conftest import served_exchanges
from tests.llm.conftest import PUBLIC_URL, Nobody, Time, Workshop
from tests.peers.anthropic_upstream import KEY, AnthropicUpstream, Said, anthropic_upstream
from tests.peers.openai_upstream import OpenAIUpstream, Turn, openai_upstream
from tests.recording import RecordingGate


@dataclass
class MessagesDesk:
    """What a test gets. Model `claude` is at the upstream of Anthropic's format, `gpt` at that of OpenAI's."""

    url: str
    client: anthropic.AsyncAnthropic
    chat: openai.AsyncOpenAI
    claude: AnthropicUpstream
    gpt: OpenAIUpstream
    gate: RecordingGate
    workshop: Workshop
    models: dict[str, Model]


@asynccontextmanager
async def messages_desk(
    *said: Said, turns: tuple[Turn, ...] = (Turn("hi"),), limits: LoopLimits | None = None
) -> AsyncIterator[MessagesDesk]:
    """Serve both doors."""
    workshop = Workshop()
    settled: list[Any] = []
    gate = workshop.gate = RecordingGate(settled.append)
    gate.settled = settled
    egress = Egress(Deadlines(connect_s=2, first_byte_s=20))
    provider = OpenAICompatible(egress, keys={})
    async with anthropic_upstream(*(said or (Said("hi"),))) as claude, openai_upstream(*turns) as gpt:
        models = {
            "claude": Model(name="claude", provider="anthropic", model="claude-up", base_url=claude.url, api_key=KEY),
            "gpt": Model(name="gpt", provider="openai", model="gpt-up", base_url=gpt.url, api_key="sk-openai-secret"),
        }
        loop = Loop(
            lambda: Catalog(number=1, models=models),
            models=Models(
                gate,
                providers=dict.fromkeys(TABLE, provider),
                prices=KnownPrices().of,
                find=lambda name: router.stand_in(models, name),
                deployments=Time().deployments(),
            ),
            tools=workshop,
            guests=Nobody(),
            limits=limits,
        )
        messages = MessagesDoor(Messages(loop, public_url=PUBLIC_URL))
        doors = {
            "/v1/chat/completions": (ChatDoor(Chat(loop, public_url=PUBLIC_URL)), errors.openai),
            "/v1/messages": (messages, errors.anthropic),
            "/v1/messages/count_tokens": (messages, errors.anthropic),
        }

        async def serve(exchange: HttpExchange) -> None:
            exchange.request_id = "req_1"
            exchange.principal = Principal(id="key_1", name="k", grants=Grants.parse(("model:*", "tool:*")))
            door, form = doors[exchange.path]
            try:
                await door(exchange)
                exchange.finish()
            except ClientGone:
                pass
            except HubError as error:
                body = encode(form(error, "req_1"))
                await exchange.reply(errors.row_of(error).status, body, headers=errors.extra_headers(error))
            finally:
                exchange.stop()

        async with (
            served_exchanges(serve) as url,
            anthropic.AsyncAnthropic(
                base_url=url, api_key="sk-test", max_retries=0, timeout=20, _strict_response_validation=True
            ) as client,
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-test", max_retries=0, timeout=20) as chat,
        ):
            try:
                yield MessagesDesk(url, client, chat, claude, gpt, gate, workshop, models)
            finally:
                await egress.aclose()
    gate.check()
