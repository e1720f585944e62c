"""Entries: the agents, MCP servers, tools and models that can be called. Pure, frozen values.

What may hold a credential is not in their `repr`: it reaches logs and traces by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from registry.access import Grant, Grants, matches
from registry.floors import Floor
from registry.limits import Bounds, Limit
from registry.prices import CallPrice, Price

Owner = Literal["file", "api"]
"""Who declares the entry: hub.yaml (read-only elsewhere) or the admin API (stored in the database)."""

Headers = tuple[tuple[str, str], ...]


AGENT_TOOLS = "agent__"
"""With what the names of agents as tools begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What an agent is made of that runs here."""

    model: str
    """A name of a model of the hub."""
    description: str = ""
    """For its callers, in its card."""
    instructions: str = ""
    tools: tuple[str, ...] = ()
    """Globs over `{server}__{tool}` and `agent__{name}`."""
    delegates: bool = False
    """Its callers may use its tools through it, whatever they are granted themselves."""

    @property
    def grants(self) -> Grants:
        """What it may call at all: its tools, agents among them, and its model."""
        agents = [tool.removeprefix(AGENT_TOOLS) for tool in self.tools if tool.startswith(AGENT_TOOLS)]
        tools = [tool for tool in self.tools if not tool.startswith(AGENT_TOOLS)]
        kinds = {"agent": agents, "tool": tools, "model": [self.model]}
        return Grants(tuple(Grant(kind, glob) for kind, globs in kinds.items() for glob in globs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridged:
    """An agent on a platform that does not speak A2A."""

    kind: str
    options: bytes = field(default=b"{}", repr=False)
    """A JSON object, which the bridge understands; it may hold credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An A2A agent. `url` is its base; the card says which path serves which version.

    With several instances it stands for all of them, and `instances` for each.
    """

    kind: ClassVar[str] = "agent"
    name: str
    url: str
    headers: Headers = field(default=(), repr=False)
    owner: Owner = "file"
    trusted: bool = True
    """The operator wrote the URL; otherwise it passes the address guard."""
    public_card: bool = False
    card_url: str | None = None
    """Where its card is; None: at one of the known places below `url`."""
    card_keys: tuple[str, ...] = ()
    """JWKs, as JSON; with any, a card that none of them signed is refused."""
    quarantine_drift: bool = False
    """When its card changes it is not called until that is approved."""
    grpc_url: str | None = None
    """host:port of its gRPC; None: what its card says, on the host of `url`."""
    detach: bool = False
    """The agent ends a task whose stream is left: the hub reads on in the place of a client that leaves."""
    shared: bool = False
    """What a key of a team makes there is open to all keys of the team."""
    call_usd: float | None = None
    """What a message to it costs; None: that is not known."""
    limits: tuple[Limit, ...] = ()
    """Of all its callers together, as those of the other entries."""
    urls: tuple[str, ...] = ()
    """Where its instances are, `url` first; empty: there is `url` alone."""
    instance: str = ""
    """Which of several this is: the agent's name and its URL; empty: it stands for all, or there is one."""
    own: Own | None = None
    """What it is made of, if it is made here; then it has no URL."""
    auth: bytes | None = field(default=None, repr=False)
    """A JSON object that says with which credentials of its platform it is called, if `headers` are not all; it may hold them."""
    bridged: Bridged | None = None
    """How its platform is spoken to, if that does not speak A2A."""

    @property
    def runs_here(self) -> bool:
        """Whether its tasks are the hub's own."""
        return self.own is not None or self.bridged is not None

    @property
    def is_several(self) -> bool:
        """Whether it stands for several instances."""
        return bool(self.urls) and not self.instance

    def instances(self) -> tuple[Agent, ...]:
        """Each instance by itself; an agent with one is that."""
        if not self.is_several:
            return (self,)
        return tuple(replace(self, url=url, instance=f"{self.name} {url}") for url in self.urls)

    @property
    def grant_name(self) -> str:
        """The name that grants match."""
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """How the hub signs in at a server with OAuth 2.1. What it does not say is found at the server."""

    type: Literal["client_credentials", "user_oauth", "token_exchange"]
    client_id: str | None = None
    """Of a client registered there before; None: the hub registers itself."""
    client_secret: str | None = field(default=None, repr=False)
    issuer: str | None = None
    """The authorization server; None: the one that the server names."""
    token_url: str | None = None
    """Its token endpoint; None: the one that its metadata names."""
    scopes: tuple[str, ...] = ()
    """Empty: those that the server asks for."""
    audience: str | None = None
    """For whom an exchanged token is to be (RFC 8693 §2.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An upstream MCP server, over Streamable HTTP (`url`) or stdio (`command`), or a service that `openapi` describes."""

    kind: ClassVar[str] = "server"
    name: str
    url: str | None = None
    """With `openapi`: where the service is; None: the document says."""
    openapi: str | None = None
    """An OpenAPI document: an http address, or a file's path."""
    command: str | None = None
    args: tuple[str, ...] = field(default=(), repr=False)
    env: Headers = field(default=(), repr=False)
    cwd: str | None = None
    memory_mb: int = 4096
    """For the data of each process of `command`."""
    cpu_s: int = 86_400
    """CPU time of each process of `command`."""
    concurrency: int = 1000
    """Calls under way at a time; others wait in line."""
    headers: Headers = field(default=(), repr=False)
    auth: Auth | None = None
    """None: `headers` are all that it needs."""
    allowed_tools: tuple[str, ...] | None = None
    """Globs over the server's own tool names; None: all."""
    denied_tools: tuple[str, ...] = ()
    """Globs over the server's own tool names that are not offered, even if allowed."""
    quarantine_drift: bool | None = None
    """What is new or changed is not offered until that is approved; None: unless the server is the operator's own."""
    sampling: bool = False
    """It may have its callers' models answer it (`sampling/createMessage`)."""
    require_approval: Floor | None = None
    """Which of its tools are called in a loop only when that was approved; globs are over its own names."""
    is_sse: bool = False
    """It speaks the HTTP+SSE transport of 2024-11-05 only."""
    price: CallPrice | None = None
    limits: tuple[Limit, ...] = ()
    tool_bounds: tuple[tuple[str, Bounds], ...] = ()
    """Of each tool by itself, by globs over the server's own tool names; the first that matches holds."""
    owner: Owner = "file"
    trusted: bool = True
    unavailable: str | None = None

    @property
    def call_usd(self) -> float | None:
        """What a call costs that is of no tool."""
        return None if self.price is None else self.price.call

    def limits_of(self, feature: Feature) -> tuple[Limit, ...]:
        """The limits of one thing that it offers: its own, and those of the tool."""
        if feature.kind == "tool":
            for glob, bounds in self.tool_bounds:
                if matches(glob, feature.name):
                    return self.limits + bounds.of(f"tool {feature.grant_name}", f"{feature.grant_name}'s")
        return self.limits

    @property
    def serves_accounts(self) -> bool:
        """Whether it serves each principal by an account of their own."""
        return self.auth is not None and self.auth.type == "user_oauth"

    @property
    def quarantines(self) -> bool:
        """Whether what is new or changed is not offered until that is approved."""
        return not self.trusted if self.quarantine_drift is None else self.quarantine_drift

    def offers_tool(self, name: str) -> bool:
        """Whether the operator lets the server offer a tool of this name of its own; a denial wins."""
        allowed = self.allowed_tools is None or any(matches(glob, name) for glob in self.allowed_tools)
        return allowed and not any(matches(glob, name) for glob in self.denied_tools)

    @property
    def grant_name(self) -> str:
        """The name that grants match."""
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One thing of one server, as its server described it."""

    kind: ClassVar[str]
    """The kind of grant that it needs."""
    server: str
    name: str
    """As the server calls it: a resource by its URI, a template by its URI template."""
    exposed: str
    """As `/mcp` calls it (surface.md 6): `{server}__{name}`, shortened if need be; `{server}+{uri}`."""
    grant_name: str
    """`{server}__{name}`, never shortened."""
    description: bytes
    """The server's JSON object for it, unchanged; empty for what it did not list."""
    limits: ClassVar[tuple[Limit, ...]] = ()
    """Its server says them, and what a call costs."""
    call_usd: ClassVar[float | None] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool(Feature):
    """A tool."""

    kind: ClassVar[str] = "tool"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTool(Tool):
    """An agent as a tool: `agent__{name}`. Its server is `agent`, which no server is called."""

    kind: ClassVar[str] = "agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt(Feature):
    """A prompt."""

    kind: ClassVar[str] = "prompt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource(Feature):
    """A resource."""

    kind: ClassVar[str] = "resource"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceTemplate(Feature):
    """A resource template (RFC 6570)."""

    kind: ClassVar[str] = "resource"


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What a server says of itself before anything is asked of it."""

    capabilities: frozenset[str] = frozenset()
    extensions: frozenset[str] = frozenset()
    instructions: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """What may be asked of one deployment. None: anything."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Which deployment of a model is asked, and what is done when it fails."""

    rule: Literal["weighted", "least_busy", "lowest_latency", "lowest_cost"] = "weighted"
    retries: int = 2
    """Attempts beside one at each deployment."""
    deadline_s: float | None = None
    """By when an answer must have begun, retries included; None: the hub's own deadlines."""
    fallbacks: tuple[str, ...] = ()
    """Models that are asked in its place when it fails, in this order."""
    context_fallbacks: tuple[str, ...] = ()
    """Models that are asked in its place when the request is too long for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model name that clients use, and where it runs."""

    kind: ClassVar[str] = "model"
    name: str
    """May end in `*`: a wildcard."""
    provider: str
    model: str
    """The upstream name; for a wildcard `*` stands for what the `*` of the name matched."""
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    headers: Headers = field(default=(), repr=False)
    price: Price | None = None
    """What the operator says that it costs; None: what is known of the provider's prices holds."""
    owner: Owner = "file"
    trusted: bool = True
    unavailable: str | None = None
    inputs: tuple[Literal["image", "audio"], ...] | None = None
    """What it takes beside text; None: as far as its name tells."""
    drop_params: bool = False
    """What its provider lacks of a request is left out; else the request is refused."""
    deployments: tuple[Model, ...] = ()
    """Where it runs, if there is anything to decide: several places, a deadline, other models in its place. It then has
    the members of the first."""
    routing: Routing = Routing()
    cache_s: float | None = None
    """How long an answer is given again to the same request; None: never."""
    deployment: str = ""
    """Which of several this is: the entry's name and a number; empty: it stands for all, or is the only one."""
    weight: float = 1.0
    pace: ModelLimits = ModelLimits()
    """What may be asked of this deployment."""
    limits: tuple[Limit, ...] = ()
    call_usd: float | None = None
    """Of an agent as a model: as the agent's. What a model costs hangs on what is asked of it."""

    def places(self) -> tuple[Model, ...]:
        """Each deployment by itself; a model with one is that."""
        return self.deployments or (self,)

    @property
    def grant_name(self) -> str:
        """The name that grants match."""
        return self.name


AGENT_MODELS = "agent/"
"""With what the names of agents as models begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentModel(Model):
    """An agent as a model: `agent/{name}`. Its provider is `agent`, and its upstream name the agent's own."""

    kind: ClassVar[str] = "agent"
    routing: Routing = Routing(retries=0)
    """What was said to an agent once is not said again."""

    @property
    def grant_name(self) -> str:
        """The agent's name."""
        return self.model


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """One tool of a toolset that has another name or description there; None: as its server calls and describes it."""

    tool: str
    """`{server}__{tool}`."""
    alias: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolset:
    """A named bundle of tools across servers, served at `/mcp/{name}`."""

    name: str
    description: str | None = None
    tools: tuple[str, ...] = ()
    """Globs over `{server}__{tool}`."""
    presented: tuple[Presented, ...] = ()
    """Further tools, and those of the globs that are shown otherwise."""
    mode: Literal["search", "full"] | None = None
    """How its tools are listed when neither request nor key says so; None: all."""
    owner: Owner = "file"


ListedKind = Literal["tool", "prompt", "resource", "template", "server"]
"""What can be listed of a server; `server` is its introduction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Something that its server described in a way that cannot be offered; the others are unharmed."""

    kind: ListedKind
    server: str
    name: str
    reason: str


Entry = Agent | Server | Feature | Model
