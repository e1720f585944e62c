"""The parts that call models, and what they keep between requests, put together: a piece of the composition root."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agents.as_models import PROVIDER
from agents.own.worker import Means
from hub import errors
from hub.agent_side import AgentSide, Ground, Part
from hub.mcp_side import McpSide
from hub.search_side import search_side
from llm import router
from llm.call import Models
from llm.continuing import Continuing, Failure
from llm.deployments import Deployments
from llm.known_prices import SHIPPED, KnownPrices
from llm.messages import Messages
from llm.parking import Parking
from llm.platform.embedding import Embedding
from llm.platform.objects import Platform
from llm.platform.owned import OwnedIds
from llm.platform.passthrough import PassThrough
from llm.platform.sealed_ids import SealedIds
from llm.platform.uploads import Uploads
from llm.ports import Provider
from llm.providers.anyllm import AnyLLM
from llm.providers.endpoints import Endpoints
from llm.providers.offline import Offline
from llm.providers.openai import OpenAICompatible
from llm.providers.rows import sdks
from llm.providers.table import OFFLINE, TABLE
from llm.remembering import Memory
from llm.responses import Responses
from llm.run import Chat, Loop
from llm.wire import messages as wire_messages
from llm.wire.chat import event
from registry.catalog import Catalog
from registry.errors import HubError
from registry.gate import Settled
from registry.judged import encode
from registry.registry import Registry
from registry.sealed.kept import Kept
from registry.sealed.provider_objects import ProviderObjects
from registry.spending.tasks import Tasks
from registry.tool_approvals import ToolApprovals


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmSide:
    """What doors and the admin API need of it."""

    chat: Chat
    responses: Responses
    pass_through: PassThrough
    deployments: Deployments
    messages: Messages
    platform: Platform
    uploads: Uploads
    kept: Kept
    approvals: ToolApprovals
    parts: tuple[Part, ...]
    """To be run in the background."""


def llm_side(
    ground: Ground,
    registry: Registry,
    environment: Mapping[str, str],
    agents: AgentSide,
    *,
    mcp: McpSide,
    record: Callable[[Settled], None],
) -> LlmSide:
    """Make the parts; `environment` holds the variables that provider rows may name for their keys, `record` takes usage."""

    def catalog() -> Catalog:
        return registry.catalog

    kept = Kept(ground.database, sealer=ground.sealer, days=ground.hub.limits.kept_days)
    approvals = ToolApprovals(ground.database, sealer=ground.sealer, record=record)
    endpoints = Endpoints(ground.egress, keys=environment)
    owned = OwnedIds(catalog, ids=SealedIds(ground.sealer), rows=ProviderObjects(ground.database), endpoints=endpoints)
    models = _models(ground, catalog, environment, agents, owned)
    loop = Loop(catalog, models=models, tools=mcp.dispatch, guests=mcp.guests)
    platform = Platform(catalog, gate=ground.gate, endpoints=endpoints, owned=owned)
    tasks = Tasks(ground.sealer)
    parking = Parking(approvals, kept, tasks, hours=ground.hub.limits.approval_hours)
    loop.park(parking)
    loop.bound_by(tasks)
    continuing = Continuing(parking, registry.keys.living, models.telling)
    chat = Chat(loop, public_url=ground.public_url, continuing=continuing, memory=Memory(kept))
    continuing.serve("chat", chat, _as_chat)
    messages = Messages(loop, public_url=ground.public_url, continuing=continuing)
    continuing.serve("messages", messages, _as_messages)
    responses = Responses(loop, kept=kept, parking=parking, living=registry.keys.living, public_url=ground.public_url)
    searching: tuple[Part, ...] = ()
    if (search_model := ground.hub.search_model) is not None:
        embedding = Embedding(search_model, catalog, models=models, endpoints=endpoints)
        searching = (search_side(registry, embedding, loop=loop, tools=mcp.dispatch),)
    host = agents.make_here(Means(loop, mcp.dispatch, parking, registry.keys.living), kept)
    registry.subscribe(host.follow_catalog)
    return LlmSide(
        chat=chat,
        responses=responses,
        deployments=models.deployments,
        messages=messages,
        pass_through=PassThrough(catalog, models=models, endpoints=endpoints, owned=owned),
        platform=platform,
        uploads=Uploads(platform, owned=owned),
        kept=kept,
        approvals=approvals,
        parts=(kept, approvals, continuing, responses, host, *searching),
    )


def _models(
    ground: Ground, catalog: Callable[[], Catalog], environment: Mapping[str, str], agents: AgentSide, owned: OwnedIds
) -> Models:
    providers: dict[str, Provider] = {
        **dict.fromkeys(TABLE, OpenAICompatible(ground.egress, keys=environment, ids=owned)),
        **dict.fromkeys(sdks.ROWS, AnyLLM(keys=environment, deadlines=ground.egress.deadlines)),
        OFFLINE: Offline(),
        PROVIDER: agents.as_models,
    }
    prices = KnownPrices(Path(ground.hub.prices) if ground.hub.prices else SHIPPED)
    return Models(
        ground.gate,
        providers=providers,
        prices=prices.of,
        find=lambda name: router.stand_in(catalog().models, name),
    )


def _as_chat(error: HubError, request_id: str) -> Failure:
    body = errors.openai(error, request_id)
    return Failure(errors.row_of(error).status, encode(body), event(body))


def _as_messages(error: HubError, request_id: str) -> Failure:
    body = errors.anthropic(error, request_id)
    return Failure(errors.row_of(error).status, encode(body), wire_messages.event(body))
