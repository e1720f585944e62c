"""The shape of hub.yaml (surface.md 3) and of the admin API's bodies, as pydantic models. Pure; decides nothing else.

Everything that the surface promises is a member here, also what this version cannot do yet: `registry.config` says so.
"""

from __future__ import annotations

import difflib
import re
from ipaddress import ip_network
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import ErrorDetails

from registry.access import Grant

MIN_KEY_CHARS = 20
"""Keys written in the file (surface.md 3): shorter ones are guessed."""

MIN_SECRET_CHARS = 32
"""Sealing keys: as long as the cipher's own key."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_TEAM_ALIAS = re.compile(r"(?!team_)[a-z0-9][a-z0-9._-]{0,63}")
_KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        port_is_valid = parts.port != 0
    except ValueError:
        port_is_valid = False
    if (
        not port_is_valid
        or parts.scheme not in {"http", "https"}
        or not parts.hostname
        or re.search(r"[\s\x00-\x1f]", text)
    ):
        raise ValueError("must be an http:// or https:// address")
    return text


def is_http_url(value: object) -> bool:
    """Whether a value is written as an address, not as a file's path."""
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _public_url(text: str) -> str:
    if urlsplit(_url(text)).query or urlsplit(text).fragment:
        raise ValueError("must be an address without ? and #")
    return text.rstrip("/")


def _origin(text: str) -> str:
    parts = urlsplit(_url(text))
    if text != f"{parts.scheme}://{parts.netloc}":
        raise ValueError("must be an origin as browsers send it, such as https://app.example")
    return text.lower()


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        raise ValueError("must be a network such as 10.20.0.0/16, with zeros behind its prefix") from None


def _proxy(text: str) -> str:
    if urlsplit(text).scheme != "http" or not urlsplit(text).hostname:
        raise ValueError("must be an HTTP proxy such as http://proxy.example:3128")
    return text


def _database(text: str) -> str:
    if text.startswith(("postgresql://", "postgres://")):
        raise ValueError("this version keeps its data in SQLite; write sqlite:///path/to/file.db")
    if not re.fullmatch(r"sqlite:///[^:?].*", text):
        raise ValueError("must read sqlite:///path/to/file.db")
    return text


def _grpc_url(text: str) -> str:
    if not re.fullmatch(r"(https?://)?[^/\s:@]+:[0-9]{1,5}|(https?://)?\[[0-9a-fA-F:.]+\]:[0-9]{1,5}", text):
        raise ValueError("must read host:port, or https://host:port for TLS")
    _url(text if "://" in text else f"http://{text}")
    return text


def _all_different(texts: list[str]) -> list[str]:
    if len(set(texts)) < len(texts):
        raise ValueError("has one twice")
    return texts


def _header_map(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of {name} holds a character that a header cannot hold")
    return headers


def _long(text: str, least: int) -> str:
    if len(text) < least:
        raise ValueError(f"needs at least {least} characters")
    return text


def _grant(text: str) -> str:
    Grant.parse(text)
    return text


def check_key_name(name: str) -> str:
    """Return `name` if a key may be called so; raises `ValueError` with the rule."""
    if not _KEY_NAME.fullmatch(name):
        raise ValueError("a key's name has at most 64 of A-Z a-z 0-9 . _ @ - and begins with a letter or digit")
    return name


def check_team_alias(alias: str) -> str:
    """Return `alias` if a team may be called so; raises `ValueError` with the rule. No alias reads like a team's id."""
    if not _TEAM_ALIAS.fullmatch(alias):
        raise ValueError(
            "a team's alias has at most 64 of a-z 0-9 . _ -, begins with a letter or digit, not with team_"
        )
    return alias


def _scope(text: str) -> str:
    if not _SCOPE.fullmatch(text):
        raise ValueError("must be one scope, without spaces and quotes")
    return text


def _number(value: object) -> object:
    if isinstance(value, bool):  # pydantic would read true as 1
        raise ValueError("must be a number")  # noqa: TRY004  # pydantic collects ValueErrors
    return value


PositiveInt = Annotated[int, BeforeValidator(_number), Field(gt=0)]
MAX_INSTANCES = 32
"""Of one agent: each call looks at all of them."""

PositiveFloat = Annotated[float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False)]
Port = Annotated[int, BeforeValidator(_number), Field(ge=1, le=65535)]
Url = Annotated[str, AfterValidator(_url)]
HeaderMap = Annotated[dict[str, str], AfterValidator(_header_map)]
KeyText = Annotated[str, AfterValidator(lambda text: _long(text, MIN_KEY_CHARS))]
SecretText = Annotated[str, AfterValidator(lambda text: _long(text, MIN_SECRET_CHARS))]
GrantText = Annotated[str, AfterValidator(_grant)]
Text = Annotated[str, Field(min_length=1)]


class Shape(BaseModel):
    """A map whose members are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class LimitsShape(Shape):
    """`hub.limits`: bounds and deadlines (surface.md 7)."""

    body_bytes: PositiveInt = 32 * 1024 * 1024
    header_bytes: PositiveInt = 64 * 1024
    connect_s: PositiveFloat = 5.0
    first_byte_s: PositiveFloat = 600.0
    agent_first_byte_s: PositiveFloat = 3600.0
    stream_idle_s: PositiveFloat = 3600.0
    keep_alive_s: PositiveFloat = 15.0
    drain_s: PositiveFloat = 30.0
    task_days: PositiveFloat = 30.0
    tasks: PositiveInt = 1_000_000


class HubShape(Shape):
    """`hub`: the hub itself."""

    public_url: Annotated[str, AfterValidator(_public_url)] | None = None
    database: Annotated[str, AfterValidator(_database)] = "sqlite:///hubbub.db"
    valkey: Text | None = None
    admin_key: KeyText | None = None
    grpc_port: Port | None = None
    egress_allow: list[Annotated[str, AfterValidator(_network)]] = []
    egress_proxy: Annotated[str, AfterValidator(_proxy)] | None = None
    trusted_proxies: list[Annotated[str, AfterValidator(_network)]] = []
    allowed_origins: list[Annotated[str, AfterValidator(_origin)]] = []
    secret_keys: list[SecretText] = []
    limits: LimitsShape = LimitsShape()


class DeploymentShape(Shape):
    """One of several places where a model runs."""

    provider: Text
    model: Text | None = None
    base_url: Url | None = None
    api_key: Text | None = None
    weight: PositiveFloat = 1.0


class ModelShape(Shape):
    """One member of `models`."""

    provider: Text | None = None
    model: Text | None = None
    base_url: Url | None = None
    api_key: Text | None = None
    headers: HeaderMap = {}
    fallbacks: list[Text] = []
    deployments: list[DeploymentShape] = []


class AuthShape(Shape):
    """How the hub signs in at an MCP server; which members are needed depends on the type."""

    type: Literal["client_credentials", "user_oauth", "token_exchange"]
    client_id: Text | None = None
    client_secret: Text | None = None
    issuer: Url | None = None
    token_url: Url | None = None
    scopes: list[Annotated[str, AfterValidator(_scope)]] = []
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


class ProcessLimitsShape(Shape):
    """`limits` of a server with `command`: for each of its processes."""

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
    limits: ProcessLimitsShape = ProcessLimitsShape()
    concurrency: Annotated[int, Field(ge=1, le=100_000)] = 1000
    url: Url | None = None
    headers: HeaderMap = {}
    disabled: bool = False
    allowed_tools: list[Text] | None = None
    denied_tools: list[Text] = []
    sampling: bool = False
    openapi: Text | None = None
    auth: AuthShape | None = None


def transport_fault(shape: ServerShape) -> str | None:
    """Say which members of an MCP server do not go together; None: they do."""
    if shape.command is None and shape.url is None and shape.openapi is None:
        return "needs url (Streamable HTTP), command (stdio) or openapi (a document)"
    if shape.command is not None and (shape.url is not None or shape.openapi is not None):
        return "has command, which starts a server here, and url or openapi, which reach one elsewhere"
    if shape.type is not None and (shape.type == "stdio") != (shape.command is not None):
        return f"type {shape.type} needs {'command' if shape.type == 'stdio' else 'url'}"
    process = {"args", "cwd", "env", "env_file", "limits"} & shape.model_fields_set
    if shape.command is None and any(getattr(shape, member) for member in process):
        return "args, cwd, env, envFile and limits belong to a server with command"
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
    urls: Annotated[list[Url], Field(min_length=1, max_length=MAX_INSTANCES), AfterValidator(_all_different)] | None = (
        None
    )
    headers: HeaderMap = {}
    card: Literal["public"] | None = None
    card_url: Url | None = None
    card_keys: list[JwkShape] = []
    quarantine_drift: bool = False
    grpc_url: Annotated[str, AfterValidator(_grpc_url)] | None = None
    detach: bool = False
    share: Literal["team"] | None = None
    bridge: Literal["langgraph", "vertex", "azure", "bedrock", "pydantic_ai", "openai"] | None = None
    assistant: Text | None = None
    model: Text | None = None
    instructions: str | None = None
    tools: list[Text] = []
    delegates: bool = False


class KeyLimitsShape(Shape):
    """How often a key may call."""

    requests_per_minute: PositiveInt | None = None


class BudgetShape(Shape):
    """What a key may spend."""

    usd: PositiveFloat
    per: Literal["day", "week", "month", "year"]


class KeyShape(Shape):
    """One item of `keys`."""

    name: Annotated[str, AfterValidator(check_key_name)]
    key: KeyText
    allow: list[GrantText]
    team: Text | None = None
    limits: KeyLimitsShape = KeyLimitsShape()
    budget: BudgetShape | None = None
    mcp_mode: Mode | None = None
    expires_at: AwareDatetime | None = None


class FileShape(Shape):
    """The whole file."""

    hub: HubShape = HubShape()
    models: dict[str, ModelShape] = {}
    mcp_servers: Annotated[dict[str, ServerShape], Field(alias="mcpServers")] = {}
    toolsets: dict[str, ToolsetShape] = {}
    agents: dict[str, AgentShape] = {}
    keys: list[KeyShape] = []


SHAPES: dict[tuple[Any, ...], type[BaseModel]] = {
    (): FileShape,
    ("hub",): HubShape,
    ("hub", "limits"): LimitsShape,
    ("models", None): ModelShape,
    ("models", None, "deployments", None): DeploymentShape,
    ("mcpServers", None): ServerShape,
    ("mcpServers", None, "auth"): AuthShape,
    ("mcpServers", None, "limits"): ProcessLimitsShape,
    ("toolsets", None): ToolsetShape,
    ("toolsets", None, "tools", None): ToolShape,
    ("agents", None): AgentShape,
    ("agents", None, "card_keys", None): JwkShape,
    ("keys", None): KeyShape,
    ("keys", None, "limits"): KeyLimitsShape,
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
