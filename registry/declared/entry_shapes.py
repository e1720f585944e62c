"""The shapes of entries in hub.yaml and the admin API: models, MCP servers, toolsets, agents (surface.md 3). Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from registry.judged import JsonObject
from registry.limits import WARN_AT, Bounds, Span
from registry.members import (
    MAX_INSTANCES,
    FloorRule,
    GrantGlob,
    GrpcUrl,
    HeaderMap,
    Instances,
    PositiveFloat,
    PositiveInt,
    Scope,
    Shape,
    Text,
    Url,
    Usd,
    number,
)

MAX_FALLBACKS = 8
MAX_RETRIES = 10


Share = Annotated[PositiveFloat, Field(le=1)]


class BoundsShape(Shape):
    """`limits`: how much may be used in each minute, day and month of the calendar, in UTC, and at a time."""

    tokens_per_minute: PositiveInt | None = None
    tokens_per_day: PositiveInt | None = None
    tokens_per_month: PositiveInt | None = None
    calls_per_minute: PositiveInt | None = None
    calls_per_day: PositiveInt | None = None
    calls_per_month: PositiveInt | None = None
    concurrent_calls: PositiveInt | None = None
    warn_at: Share | None = None


class SessionShape(Shape):
    """How much may be used in one conversation: a session of MCP, a context of an agent."""

    calls: PositiveInt | None = None
    tokens: PositiveInt | None = None
    usd: PositiveFloat | None = None


class CallerBoundsShape(BoundsShape):
    """`limits` of whoever calls."""

    session: SessionShape = SessionShape()


class BudgetShape(Shape):
    """What may be spent in each minute, day, week, month or year of the calendar, in UTC."""

    usd: PositiveFloat
    per: Span = "month"
    warn_at: Share = WARN_AT


_MEMBERS = {name: "limits_warn_at" if name == "warn_at" else name for name in BoundsShape.model_fields}
"""What `Bounds` calls them: there `warn_at` is the budget's."""


def bounds(limits: BoundsShape, budget: BudgetShape | None) -> Bounds:
    """What both say."""
    said = {_MEMBERS[name]: value for name, value in limits.model_dump().items() if name in _MEMBERS}
    if isinstance(limits, CallerBoundsShape):
        said |= {f"session_{name}": value for name, value in limits.session.model_dump().items()}
    return Bounds(**said, **({} if budget is None else budget.model_dump()))


def shown_limits(said: Bounds) -> dict[str, Any]:
    """The members of a `CallerBoundsShape`."""
    session = {name: getattr(said, f"session_{name}") for name in SessionShape.model_fields}
    return {name: getattr(said, member) for name, member in _MEMBERS.items()} | {"session": SessionShape(**session)}


class ModelLimitsShape(Shape):
    """`limits` of a deployment: what may be asked of it."""

    requests_per_minute: PositiveInt | None = None
    tokens_per_minute: PositiveInt | None = None
    concurrency: PositiveInt | None = None


class PriceShape(Shape):
    """What a model costs, in USD for a million tokens, and `call` for each call."""

    input: Usd
    output: Usd = 0.0
    cached: Usd | None = None
    cache_write: Usd | None = None
    reasoning: Usd | None = None
    audio_input: Usd | None = None
    audio_output: Usd | None = None
    call: Usd = 0.0


class CallPriceShape(Shape):
    """What a message to an agent costs, in USD."""

    call: Usd


class ToolPriceShape(Shape):
    """What calls of a server's tools cost, in USD."""

    call: Usd | None = None
    tools: dict[Text, Usd] = {}


class DeploymentShape(Shape):
    """One of several places where a model runs."""

    provider: Text
    model: Text | None = None
    base_url: Url | None = None
    api_key: Text | None = None
    headers: HeaderMap = {}
    weight: PositiveFloat = 1.0
    limits: ModelLimitsShape = ModelLimitsShape()
    price: PriceShape | None = None


class CacheShape(Shape):
    """`cache` of a model: the same request of the same key or team is answered again with the same answer."""

    ttl_s: PositiveFloat


class ModelShape(Shape):
    """One member of `models`."""

    provider: Text | None = None
    model: Text | None = None
    base_url: Url | None = None
    api_key: Text | None = None
    headers: HeaderMap = {}
    inputs: list[Literal["image", "audio"]] | None = None
    drop_params: bool = False
    deployments: Annotated[list[DeploymentShape], Field(max_length=MAX_INSTANCES)] = []
    routing: Literal["weighted", "least_busy", "lowest_latency", "lowest_cost"] = "weighted"
    fallbacks: Annotated[list[Text], Field(max_length=MAX_FALLBACKS)] = []
    context_fallbacks: Annotated[list[Text], Field(max_length=MAX_FALLBACKS)] = []
    retries: Annotated[int, BeforeValidator(number), Field(ge=0, le=MAX_RETRIES)] = 2
    deadline_s: PositiveFloat | None = None
    cache: CacheShape | None = None
    price: PriceShape | None = None
    limits: BoundsShape = BoundsShape()
    budget: BudgetShape | None = None


class AuthShape(Shape):
    """How the hub signs in at an MCP server; which members are needed depends on the type."""

    type: Literal["client_credentials", "user_oauth", "token_exchange"]
    client_id: Text | None = None
    client_secret: Text | None = None
    issuer: Url | None = None
    token_url: Url | None = None
    scopes: list[Scope] = []
    audience: Text | None = None

    @model_validator(mode="after")
    def _fits_its_type(self) -> AuthShape:
        if self.client_id is None and self.type != "user_oauth":
            raise ValueError(f"of type {self.type} needs client_id")
        if self.client_id is None and self.client_secret is not None:
            raise ValueError("has client_secret, which belongs to a client_id")
        if self.client_secret is None and self.type == "client_credentials":
            raise ValueError("of type client_credentials needs client_secret")
        if self.token_url is not None and self.type == "user_oauth":
            raise ValueError("of type user_oauth needs issuer in the place of token_url: users sign in there too")
        if self.audience is not None and self.type != "token_exchange":
            raise ValueError("has audience, which belongs to type token_exchange")
        return self


class ServerLimitsShape(BoundsShape):
    """`limits` of a server: of all its tools together, of each, and of each of its processes if it has `command`."""

    tools: dict[Text, BoundsShape] = {}
    memory_mb: Annotated[int, Field(ge=16, le=1 << 20)] = 4096
    cpu_s: Annotated[int, Field(ge=1, le=1 << 30)] = 86_400


class ServerShape(Shape):
    """One member of `mcpServers`: the shape of Cursor and Claude, and the hub's additions."""

    type: Literal["stdio", "http", "streamable-http", "streamable_http", "streamableHttp", "sse"] | None = None
    command: Text | None = None
    args: list[str] = []
    env: dict[str, str] = {}
    env_file: Annotated[Text | None, Field(alias="envFile")] = None
    cwd: Text | None = None
    limits: ServerLimitsShape = ServerLimitsShape()
    budget: BudgetShape | None = None
    concurrency: Annotated[int, Field(ge=1, le=100_000)] = 1000
    url: Url | None = None
    headers: HeaderMap = {}
    disabled: bool = False
    allowed_tools: list[Text] | None = None
    denied_tools: list[Text] = []
    quarantine_drift: bool | None = None
    sampling: bool = False
    require_approval: FloorRule | None = None
    openapi: Text | None = None
    auth: AuthShape | None = None
    price: ToolPriceShape | None = None


_OF_PROCESSES = frozenset({"memory_mb", "cpu_s"})


def transport_fault(shape: ServerShape) -> str | None:
    """Say which members of an MCP server do not go together; None: they do."""
    if shape.command is None and shape.url is None and shape.openapi is None:
        return "needs url (Streamable HTTP), command (stdio) or openapi (a document)"
    if shape.command is not None and (shape.url is not None or shape.openapi is not None):
        return "has command, which starts a server here, and url or openapi, which reach one elsewhere"
    if shape.type is not None and (shape.type == "stdio") != (shape.command is not None):
        return f"type {shape.type} needs {'command' if shape.type == 'stdio' else 'url'}"
    process = shape.args or shape.cwd or shape.env or shape.env_file or _OF_PROCESSES & shape.limits.model_fields_set
    if shape.command is None and process:
        return "args, cwd, env, envFile, limits.memory_mb and limits.cpu_s belong to a server with command"
    if shape.url is None and (shape.auth is not None or (shape.headers and shape.openapi is None)):
        return "headers and auth belong to a server with url"
    if shape.openapi is not None and shape.type is not None:
        return "has openapi and type, which tells MCP transports apart"
    if shape.auth is not None and "authorization" in map(str.lower, shape.headers):
        return "has auth and an Authorization header; one of the two signs in"
    return None


CLIENT_ONLY = frozenset(
    {
        "alwaysAllow",
        "autoApprove",
        "description",
        "dev",
        "gallery",
        "icon",
        "name",
        "startup_timeout_sec",
        "timeout",
        "tool_timeout_sec",
        "trust",
        "version",
    }
)
"""Members of an MCP server that only a client uses. One that narrows what may be called never belongs here."""


Mode = Literal["search", "full"]
"""How tools are listed: three that search, or all."""


class ToolShape(Shape):
    """One item of a toolset's `tools`; written as a text it is `tool` alone."""

    tool: Text
    alias: Annotated[Text | None, Field(alias="as")] = None
    description: Text | None = None


class ToolsetShape(Shape):
    """One member of `toolsets`."""

    description: str | None = None
    mode: Mode | None = None
    tools: list[Annotated[ToolShape, BeforeValidator(lambda item: {"tool": item} if isinstance(item, str) else item)]]


class JwkShape(BaseModel):
    """A public key (RFC 7517); members that do not name it are left out."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)
    kty: Literal["EC", "RSA", "OKP"]
    alg: Text | None = None
    crv: Text | None = None
    x: Text | None = None
    y: Text | None = None
    n: Text | None = None
    e: Text | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> JwkShape:
        needed = {"EC": ("crv", "x", "y"), "RSA": ("n", "e"), "OKP": ("crv", "x")}[self.kty]
        if absent := [member for member in needed if getattr(self, member) is None]:
            raise ValueError(f"a key of kty {self.kty} needs {', '.join(absent)}")
        return self


class AgentShape(Shape):
    """One member of `agents`: an A2A agent, a bridge to a platform, or an agent made here."""

    url: Url | None = None
    urls: Instances | None = None
    headers: HeaderMap = {}
    auth: JsonObject | None = None
    card: Literal["public"] | None = None
    card_url: Url | None = None
    card_keys: list[JwkShape] = []
    quarantine_drift: bool = False
    grpc_url: GrpcUrl | None = None
    detach: bool = False
    share: Literal["team"] | None = None
    price: CallPriceShape | None = None
    limits: BoundsShape = BoundsShape()
    budget: BudgetShape | None = None
    bridge: Text | None = None
    assistant: Text | None = None
    options: JsonObject = {}
    model: Text | None = None
    description: Text | None = None
    instructions: str | None = None
    tools: list[GrantGlob] = []
    delegates: bool = False
