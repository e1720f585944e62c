"""The shape of hub.yaml (surface.md 3) and of the admin API's bodies, as pydantic models. Pure; decides nothing else.

Everything that the surface promises is a member here, also what this version cannot do yet: `registry.declared.config` says so.
"""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails

from registry.callers.tokens import Algorithm
from registry.declared.entry_shapes import (
    AgentShape,
    AuthShape,
    BoundsShape,
    BudgetShape,
    CacheShape,
    CallerBoundsShape,
    CallPriceShape,
    DeploymentShape,
    JwkShape,
    Mode,
    ModelLimitsShape,
    ModelShape,
    PriceShape,
    ServerLimitsShape,
    ServerShape,
    SessionShape,
    ToolPriceShape,
    ToolsetShape,
    ToolShape,
)
from registry.limits import MOST
from registry.members import (
    DatabaseUrl,
    Days,
    DoorNames,
    FloorRule,
    GrantText,
    Hours,
    IssuerUrl,
    KeyName,
    KeyText,
    Network,
    Networks,
    Origin,
    Port,
    PositiveFloat,
    PositiveInt,
    ProxyUrl,
    PublicUrl,
    RuleName,
    Scope,
    SecretText,
    Shape,
    Text,
)


class LimitsShape(Shape):
    """`hub.limits`: bounds and deadlines (surface.md 7)."""

    body_bytes: PositiveInt = 32 * 1024 * 1024
    upload_bytes: PositiveInt = 512 * 1024 * 1024
    header_bytes: PositiveInt = 64 * 1024
    connect_s: PositiveFloat = 5.0
    first_byte_s: PositiveFloat = 600.0
    agent_first_byte_s: PositiveFloat = 3600.0
    stream_idle_s: PositiveFloat = 3600.0
    keep_alive_s: PositiveFloat = 15.0
    drain_s: PositiveFloat = 30.0
    task_days: Days = 30.0
    tasks: PositiveInt = 1_000_000
    kept_days: Days = 30.0
    approval_hours: Hours = 24.0


class ClaimsShape(Shape):
    """`claims` of an issuer: what its tokens say where."""

    user: Text = "sub"
    team: Text | None = None
    roles: Text | None = None
    scopes: Text = "scope"


class SignInShape(Shape):
    """`sign_in` of an issuer: the hub as its client, for people with a browser."""

    client_id: Text
    client_secret: Text | None = None
    scopes: list[Scope] = []


class IssuerShape(Shape):
    """One item of `hub.issuers`."""

    issuer: IssuerUrl
    audience: list[Text] | Text = []
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = ["RS256", "ES256"]
    jwks_url: IssuerUrl | None = None
    claims: ClaimsShape = ClaimsShape()
    create_users: bool = False
    allow: list[GrantText] | None = None
    scopes: dict[Scope, list[GrantText]] = {}
    roles: dict[Text, list[GrantText]] = {}
    limits: BoundsShape = BoundsShape()
    budget: BudgetShape | None = None
    sign_in: SignInShape | None = None


class HubShape(Shape):
    """`hub`: the hub itself."""

    public_url: PublicUrl | None = None
    database: DatabaseUrl = "sqlite:///hubbub.db"
    valkey: Text | None = None
    admin_key: KeyText | None = None
    grpc_port: Port | None = None
    egress_allow: list[Network] = []
    foreign_mcp: list[Text] = []
    egress_proxy: ProxyUrl | None = None
    trusted_proxies: list[Network] = []
    allowed_origins: list[Origin] = []
    secret_keys: list[SecretText] = []
    prices: Text | None = None
    search_model: Text | None = None
    issuers: list[IssuerShape] = []
    limits: LimitsShape = LimitsShape()


class KeyLimitsShape(CallerBoundsShape):
    """How often and how much a key may call, and how much one of its requests that runs tools may do."""

    requests_per_minute: PositiveInt | None = None
    max_rounds: PositiveInt | None = None
    max_calls: PositiveInt | None = None
    max_seconds: PositiveFloat | None = None
    max_usd: PositiveFloat | None = None
    max_total_tokens: PositiveInt | None = None


class KeyShape(Shape):
    """One item of `keys`."""

    name: KeyName
    key: KeyText
    allow: list[GrantText] | None = None
    user: Text | None = None
    team: Text | None = None
    doors: DoorNames | None = None
    networks: Networks | None = None
    limits: KeyLimitsShape = KeyLimitsShape()
    budget: BudgetShape | None = None
    mcp_mode: Mode | None = None
    require_approval: FloorRule | None = None
    expires_at: AwareDatetime | None = None


Sides = Annotated[list[Literal["arguments", "results"]], Field(min_length=1)]


class RuleShape(Shape):
    """One item of `policy`."""

    name: RuleName
    effect: Literal["allow", "deny", "require_approval", "redact"]
    entries: list[GrantText] = []
    when: Text | None = None
    reason: Text | None = None
    redact: list[Literal["secrets", "pii", "email", "phone", "iban", "card", "ip"]] = []
    fields: Annotated[list[Text], Field(max_length=100)] = []
    of: Sides = ["arguments", "results"]


class GuardShape(Shape):
    """One of `guards`; its type has members of its own beside these."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    type: Text
    action: Literal["redact", "block", "require_approval"]
    entries: list[GrantText] = []
    of: Sides = ["arguments", "results"]
    when: Text | None = None


class FileShape(Shape):
    """The whole file."""

    hub: HubShape = HubShape()
    models: dict[str, ModelShape] = {}
    mcp_servers: Annotated[dict[str, ServerShape], Field(alias="mcpServers")] = {}
    toolsets: dict[str, ToolsetShape] = {}
    agents: dict[str, AgentShape] = {}
    keys: list[KeyShape] = []
    policy: list[RuleShape] = []
    guards: dict[RuleName, GuardShape] = {}


SHAPES: dict[tuple[Any, ...], type[BaseModel]] = {
    (): FileShape,
    ("hub",): HubShape,
    ("hub", "limits"): LimitsShape,
    ("models", None): ModelShape,
    ("models", None, "cache"): CacheShape,
    ("models", None, "limits"): BoundsShape,
    ("models", None, "budget"): BudgetShape,
    ("models", None, "deployments", None): DeploymentShape,
    ("models", None, "deployments", None, "limits"): ModelLimitsShape,
    ("models", None, "price"): PriceShape,
    ("models", None, "deployments", None, "price"): PriceShape,
    ("mcpServers", None): ServerShape,
    ("mcpServers", None, "auth"): AuthShape,
    ("mcpServers", None, "limits"): ServerLimitsShape,
    ("mcpServers", None, "limits", "tools", None): BoundsShape,
    ("mcpServers", None, "budget"): BudgetShape,
    ("mcpServers", None, "price"): ToolPriceShape,
    ("toolsets", None): ToolsetShape,
    ("toolsets", None, "tools", None): ToolShape,
    ("agents", None): AgentShape,
    ("agents", None, "card_keys", None): JwkShape,
    ("agents", None, "price"): CallPriceShape,
    ("agents", None, "limits"): BoundsShape,
    ("agents", None, "budget"): BudgetShape,
    ("hub", "issuers", None): IssuerShape,
    ("hub", "issuers", None, "claims"): ClaimsShape,
    ("keys", None): KeyShape,
    ("keys", None, "limits"): KeyLimitsShape,
    ("keys", None, "limits", "session"): SessionShape,
    ("policy", None): RuleShape,
    ("guards", None): GuardShape,
    ("keys", None, "budget"): BudgetShape,
}
"""Which shape stands where; None stands for any name or position. For the nearest known key to an unknown one."""


def known_members(path: tuple[str | int, ...]) -> list[str]:
    """The members that the map at `path` may have; empty when it is not a map of known members."""
    for where, shape in SHAPES.items():
        if len(where) == len(path) and all(part is None or part == at for part, at in zip(where, path, strict=True)):
            return [field.alias or name for name, field in shape.model_fields.items()]
    return []


def explain(detail: ErrorDetails) -> tuple[tuple[str | int, ...], str]:
    """Say what pydantic found, for the person who wrote it: where, and what with the nearest known spelling."""
    path, kind = detail["loc"], detail["type"]
    if kind == "extra_forbidden":
        return path, f"unknown key{nearest(str(path[-1]), known_members(path[:-1]))}"
    if kind == "missing":
        return path[:-1], f"{path[-1]} is missing"
    if kind == "literal_error":
        expected = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
        return path, f"must be one of {', '.join(expected)}{nearest(str(detail['input']), expected)}"
    if kind == "string_type" and isinstance(detail["input"], int | float):
        return path, "must be a text: write it in quotes"
    if kind == "value_error":
        return path, str(detail["ctx"]["error"])
    return path, _WORDS.get(kind) or detail["msg"].replace("Input should be", "must be")


_WORDS = {
    "string_type": "must be a text",
    "list_type": "must be a list",
    "dict_type": "must be a map",
    "model_type": "must be a map",
    "model_attributes_type": "must be a map",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": f"must be at most {MOST}",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_too_short": "must not be empty",
    "timezone_aware": "needs a time zone, for example 2030-01-31T00:00:00Z",
}


def nearest(word: str, known: list[str]) -> str:
    """Say which known word was probably meant; empty when none is near."""
    folded = {re.sub(r"[_-]", "", name).casefold(): name for name in known}
    close = difflib.get_close_matches(re.sub(r"[_-]", "", word).casefold(), list(folded), n=1, cutoff=0.6)
    return f", did you mean {folded[close[0]]!r}" if close else ""


def without_nulls(value: Any, path: tuple[str | int, ...]) -> Any:
    """Leave out known members that are null: `models:` with nothing under it says nothing."""
    if isinstance(value, list):
        return [without_nulls(item, (*path, at)) for at, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    known = known_members(path)
    return {
        name: without_nulls(item, (*path, name))
        for name, item in value.items()
        if item is not None or name not in known
    }
