"""From the shapes of agents, MCP servers and models to their entries; refuses members that do not go together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from registry.declared.entry_shapes import (
    AgentShape,
    DeploymentShape,
    ModelShape,
    PriceShape,
    ServerShape,
    ToolPriceShape,
    bounds,
    transport_fault,
)
from registry.declared.platforms import a2a_address
from registry.entries import Agent, Auth, Bridged, Model, ModelLimits, Own, Owner, Routing, Server
from registry.judged import encode
from registry.prices import CallPrice, Price


def _check(shape: AgentShape) -> None:
    """Refuse members that do not go together."""
    own = {"description", "instructions", "tools", "delegates"} & shape.model_fields_set
    if shape.model is not None:
        if elsewhere := sorted(_ELSEWHERE & shape.model_fields_set):
            raise ValueError(
                f"has model, which makes an agent here, and {elsewhere[0]}, which belongs to one that is elsewhere"
            )
    elif own:
        raise ValueError(f"{', '.join(sorted(own))} belong to an agent made here, which needs model")
    elif shape.bridge is not None:
        if shape.url is None:
            raise ValueError("has bridge, and needs url: the address of the agent's platform")
        own_a2a = {"urls"} if a2a_address(shape) else _OF_A2A
        if a2a := sorted(own_a2a & shape.model_fields_set):
            raise ValueError(f"has bridge, and {a2a[0]}, which belongs to an agent that speaks A2A")
    elif shape.assistant is not None or shape.options:
        raise ValueError("assistant and options belong to a bridge")
    elif shape.url is not None and shape.urls is not None:
        raise ValueError("has url and urls; an agent with several instances has urls alone")
    elif shape.url is None and shape.urls is None:
        raise ValueError(
            "needs url (an A2A agent; urls for several instances of it), bridge (a platform) or model (an agent made here)"
        )


def _agent(name: str, shape: AgentShape, _env: dict[str, str], owner: Owner, trusted: bool) -> Agent:
    _check(shape)
    urls = tuple(shape.urls or ())
    if urls and shape.grpc_url is not None:
        raise ValueError("has urls and grpc_url, which is one address; each instance's card says its port of gRPC")
    if shape.auth is not None and shape.grpc_url is not None:
        raise ValueError("has auth and grpc_url; the credentials of platforms are for HTTP")
    return Agent(
        name=name,
        url=a2a_address(shape) or shape.url or (urls[0] if urls else ""),
        urls=urls,
        headers=tuple(shape.headers.items()),
        owner=owner,
        trusted=trusted,
        public_card=shape.card == "public",
        card_url=shape.card_url,
        card_keys=tuple(key.model_dump_json(exclude_none=True) for key in shape.card_keys),
        quarantine_drift=shape.quarantine_drift,
        grpc_url=shape.grpc_url,
        detach=shape.detach,
        shared=shape.share == "team",
        call_usd=shape.price.call if shape.price is not None else None if shape.model is None else 0.0,
        limits=bounds(shape.limits, shape.budget).of(f"agent {name}", f"{name}'s"),
        auth=encode(shape.auth) if shape.auth is not None else None,
        own=_own(shape),
        bridged=_bridged(shape),
    )


_ELSEWHERE = frozenset(
    {
        "url",
        "urls",
        "bridge",
        "assistant",
        "options",
        "headers",
        "auth",
        "card_url",
        "card_keys",
        "quarantine_drift",
        "grpc_url",
        "detach",
    }
)


_OF_A2A = frozenset({"auth", "urls", "card_url", "card_keys", "quarantine_drift", "grpc_url", "detach"})


def _bridged(shape: AgentShape) -> Bridged | None:
    if shape.bridge is None or a2a_address(shape):
        return None
    assistant = {"assistant": shape.assistant} if shape.assistant is not None else {}
    return Bridged(kind=shape.bridge, options=encode({**shape.options, **assistant}))


def _own(shape: AgentShape) -> Own | None:
    if shape.model is None:
        return None
    return Own(
        model=shape.model,
        description=shape.description or "",
        instructions=shape.instructions or "",
        tools=tuple(shape.tools),
        delegates=shape.delegates,
    )


def _server(name: str, shape: ServerShape, env: dict[str, str], owner: Owner, trusted: bool) -> Server:
    if text := transport_fault(shape):
        raise ValueError(text)
    unavailable = None
    if shape.disabled:
        unavailable = "it is disabled"
    return Server(
        name=name,
        url=shape.url,
        openapi=shape.openapi,
        command=shape.command,
        args=tuple(shape.args),
        env=tuple(env.items()),
        cwd=shape.cwd,
        memory_mb=shape.limits.memory_mb,
        cpu_s=shape.limits.cpu_s,
        concurrency=shape.concurrency,
        headers=tuple(shape.headers.items()),
        auth=None if shape.auth is None else Auth(**{**shape.auth.model_dump(), "scopes": tuple(shape.auth.scopes)}),
        allowed_tools=None if shape.allowed_tools is None else tuple(shape.allowed_tools),
        denied_tools=tuple(shape.denied_tools),
        quarantine_drift=shape.quarantine_drift,
        sampling=shape.sampling,
        require_approval=shape.require_approval,
        is_sse=shape.type == "sse",
        price=_call_price(shape.price),
        limits=bounds(shape.limits, shape.budget).of(f"server {name}", f"{name}'s"),
        tool_bounds=tuple((glob, bounds(one, None)) for glob, one in shape.limits.tools.items()),
        owner=owner,
        trusted=trusted,
        unavailable=unavailable,
    )


def _model(name: str, shape: ModelShape, _env: dict[str, str], owner: Owner, trusted: bool) -> Model:
    own = {"provider", "base_url", "api_key", "headers"} & shape.model_fields_set
    if shape.deployments and own:
        raise ValueError(f"has deployments and {', '.join(sorted(own))}; each deployment has its own")
    if not shape.deployments and "routing" in shape.model_fields_set:
        raise ValueError("has routing, which chooses among deployments, and no deployments")
    if not shape.deployments and shape.provider is None:
        raise ValueError("provider is missing")
    places: Sequence[ModelShape | DeploymentShape] = shape.deployments or [shape]
    found = [_place(name, place, shape) for place in places]
    entry = Model(
        **found[0],
        owner=owner,
        trusted=trusted,
        routing=Routing(
            rule=shape.routing,
            retries=shape.retries,
            deadline_s=shape.deadline_s,
            fallbacks=tuple(shape.fallbacks),
            context_fallbacks=tuple(shape.context_fallbacks),
        ),
        limits=bounds(shape.limits, shape.budget).of(f"model {name}", f"{name}'s"),
        inputs=None if shape.inputs is None else tuple(shape.inputs),
        cache_s=None if shape.cache is None else shape.cache.ttl_s,
    )
    if not (shape.deployments or shape.fallbacks or shape.context_fallbacks or shape.deadline_s):
        return entry
    deployments = [
        replace(entry, **members, deployment=f"{name} {number}") for number, members in enumerate(found, start=1)
    ]
    for at, place in enumerate(shape.deployments):
        pace = ModelLimits(**place.limits.model_dump())
        deployments[at] = replace(deployments[at], weight=place.weight, pace=pace)
    return replace(entry, deployments=tuple(deployments))


def _place(name: str, shape: ModelShape | DeploymentShape, model: ModelShape) -> dict[str, Any]:
    """The members that say where a model runs, how it is asked and what it costs."""
    upstream = shape.model or model.model or ("*" if name.endswith("*") else name)
    if "*" in upstream and not name.endswith("*"):
        raise ValueError("model has a *, which stands for what the * of the name matched; this name has none")
    return {
        "name": name,
        "provider": shape.provider,
        "model": upstream,
        "base_url": shape.base_url,
        "api_key": shape.api_key,
        "headers": tuple(shape.headers.items()),
        "price": _price(shape.price or model.price),
        "drop_params": model.drop_params,
    }


def _price(shape: PriceShape | None) -> Price | None:
    return None if shape is None else Price(**shape.model_dump())


def _call_price(shape: ToolPriceShape | None) -> CallPrice | None:
    return None if shape is None else CallPrice(call=shape.call, tools=tuple(shape.tools.items()))


ENTRIES: dict[str, Callable[[str, Any, dict[str, str], Owner, bool], Agent | Server | Model]] = {
    "agents": _agent,
    "mcpServers": _server,
    "models": _model,
}
