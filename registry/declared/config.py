"""hub.yaml: read whole, every fault reported with file and line, turned into entries. Pure: text in, values out.

What the surface promises and this version cannot do yet is read, told in a notice, and refused when it is called.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError

from registry.access import matches
from registry.callers.tokens import Claims, Issuer, SignIn
from registry.declared import toolsets
from registry.declared.declare import ENTRIES
from registry.declared.entry_shapes import CLIENT_ONLY, ServerShape, ToolsetShape, bounds
from registry.declared.shapes import (
    FileShape,
    HubShape,
    IssuerShape,
    KeyShape,
    RuleShape,
    SignInShape,
    explain,
    nearest,
    without_nulls,
)
from registry.declared.source import Fault, Path, Source, dotted, parse
from registry.entries import Agent, Model, Server, Toolset
from registry.identity import KeySpec, RequestLimits
from registry.judged import JsonObject
from registry.members import Shape, is_http_url, is_private
from registry.names import model_name_fault, name_fault
from registry.rules.guard_kinds import build
from registry.rules.guards import Guard, GuardInvalid, Guards, GuardSpec
from registry.rules.policy import Policy, Rule, RuleInvalid

__all__ = ["ConfigInvalid", "Declared", "Fault", "HubSettings", "Limits", "read"]


class ConfigInvalid(Exception):
    """The file cannot be used; `faults` says everything that is wrong with it, its text is all of them, one a line."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds and deadlines of the hub (surface.md 7)."""

    body_bytes: int = 32 * 1024 * 1024
    upload_bytes: int = 512 * 1024 * 1024
    header_bytes: int = 64 * 1024
    connect_s: float = 5.0
    first_byte_s: float = 600.0
    agent_first_byte_s: float = 3600.0
    stream_idle_s: float = 3600.0
    keep_alive_s: float = 15.0
    drain_s: float = 30.0
    task_days: float = 30.0
    """How long a finished A2A task is remembered, with its events."""
    tasks: int = 1_000_000
    """How many are; the oldest finished ones go first."""
    kept_days: float = 30.0
    """How long responses and conversations are kept."""
    approval_hours: float = 24.0
    """How long calls of tools wait for approval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """What `hub:` says. Networks are in CIDR form."""

    public_url: str | None = None
    """Without a slash at its end; None: from --host and --port."""
    database: str = "sqlite:///hubbub.db"
    valkey: str | None = field(default=None, repr=False)
    admin_key: str | None = field(default=None, repr=False)
    grpc_port: int | None = None
    egress_allow: tuple[str, ...] = ()
    foreign_mcp: tuple[str, ...] = ()
    """Globs over the addresses of MCP servers that chat requests may bring along."""
    egress_proxy: str | None = field(default=None, repr=False)
    trusted_proxies: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    secret_keys: tuple[str, ...] = field(default=(), repr=False)
    prices: str | None = None
    """A file of prices that `hubbub prices update` wrote; None: those that ship with the hub."""
    search_model: str | None = None
    """The model whose embeddings tools are searched by, beside words; None: by words alone."""
    issuers: tuple[Issuer, ...] = ()
    """Whose tokens are taken, beside keys."""
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a valid file says."""

    hub: HubSettings = HubSettings()
    agents: dict[str, Agent] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    toolsets: dict[str, Toolset] = field(default_factory=dict)
    keys: tuple[KeySpec, ...] = ()
    policy: tuple[Rule, ...] = ()
    guards: Guards | None = None
    """None: there are none."""
    notices: tuple[Fault, ...] = ()
    """What the hub leaves out or cannot do yet, though the file is valid."""


def read(
    text: str,
    *,
    file: str,
    environ: Mapping[str, str],
    read_file: Callable[[str], str],
    providers: Collection[str] = (),
    bridge_fault: Callable[[Agent], str | None] = lambda _: None,
) -> Declared:
    """Read hub.yaml.

    `file` names it in faults; `read_file` reads another file by a path relative to it and raises OSError or ValueError.
    `providers` are the names that `provider` may have; empty: any. `bridge_fault` says what is wrong with an agent's bridge.

    Raises:
        ConfigInvalid: with every fault found.
    """
    source = parse(text, file)
    source.substitute(environ.get)
    reading = _Reading(source, read_file, providers, bridge_fault)
    shape = reading.shape()
    declared = reading.declared(shape)
    if source.faults:
        raise ConfigInvalid(tuple(sorted(set(source.faults), key=lambda fault: (fault.line, fault.text))))
    return declared


class _Reading:
    """One file being read: collects faults in its source, and notices."""

    def __init__(
        self,
        source: Source,
        read_file: Callable[[str], str],
        providers: Collection[str],
        bridge_fault: Callable[[Agent], str | None],
    ) -> None:
        self.source = source
        self._bridge_fault = bridge_fault
        self._providers = providers
        self.notices: list[Fault] = []
        self._read_file = read_file

    def fault(self, path: Path, text: str) -> None:
        self.source.faults.append(self.source.fault(path, f"{dotted(path)}: {text}"))

    def notice(self, path: Path, text: str) -> None:
        self.notices.append(self.source.fault(path, f"{dotted(path)}: {text}"))

    def shape(self) -> FileShape:
        """Validate the whole. What is wrong becomes a fault and is left out, so that the rest is looked at too."""
        value = {} if self.source.value is None else self.source.value
        if not isinstance(value, dict):
            self.fault((), "must be a map")
            return FileShape()
        value = self._without_client_only(without_nulls(value, ()))
        self._check_names(value)
        while True:
            try:
                return FileShape.model_validate(value)
            except ValidationError as error:
                for detail in error.errors(include_url=False, include_context=True):
                    path, text = explain(detail)
                    if path not in self.source.unset:
                        self.fault(path, text)
                    _leave_out(value, path)

    def _without_client_only(self, value: JsonObject) -> JsonObject:
        servers = value.get("mcpServers")
        if not isinstance(servers, dict):
            return value
        kept = {}
        for name, server in servers.items():
            kept[name] = server
            if not isinstance(server, dict):
                continue
            for member in sorted(CLIENT_ONLY & server.keys()):
                self.notice(("mcpServers", name, member), "is for clients only and ignored")
            kept[name] = {member: item for member, item in server.items() if member not in CLIENT_ONLY}
        return {**value, "mcpServers": kept}

    def declared(self, shape: FileShape) -> Declared:
        """Turn a valid shape into entries."""
        self._check_providers(shape)
        self._check_fallbacks(shape)
        self._check_secrets(shape)
        self._check_issuers(shape)
        settings = _settings(shape.hub)
        if settings.prices is not None:
            settings = replace(settings, prices=self._beside(("hub", "prices"), settings.prices))
        if shape.hub.valkey is not None:
            self.notice(("hub", "valkey"), "is not used by this version")
        return Declared(
            hub=settings,
            agents={name: self._entry("agents", name, agent) for name, agent in shape.agents.items()},
            servers={
                name: self._entry("mcpServers", name, server)
                for name, server in shape.mcp_servers.items()
                if not self._is_disabled(name, server)
            },
            models={name: self._entry("models", name, model) for name, model in shape.models.items()},
            toolsets={name: self._toolset(name, found) for name, found in shape.toolsets.items()},
            keys=tuple(map(_key_spec, shape.keys)),
            policy=tuple(self._rules(shape)),
            guards=Guards(tuple(self._guards(shape))) if shape.guards else None,
            notices=tuple(sorted(self.notices, key=lambda notice: notice.line)),
        )

    def _beside(self, path: Path, name: str) -> str:
        """The path of a file that is named from this one's directory, and that can be read."""
        try:
            self._read_file(name)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
            self.fault(path, f"cannot be read: {reason}")
        return str(PurePath(self.source.file).parent / name)

    def _check_names(self, value: JsonObject) -> None:
        names = {section: found if isinstance(found, dict) else {} for section, found in value.items()}
        for section in ("mcpServers", "toolsets", "agents"):
            for name in names.get(section, ()):
                if text := name_fault(name):
                    self.fault((section, name), text)
        for name in names.get("models", ()):
            if text := model_name_fault(name):
                self.fault(("models", name), text)
        for name in names.get("toolsets", {}).keys() & names.get("mcpServers", {}).keys():
            line = self.source.line(("mcpServers", name))
            self.fault(
                ("toolsets", name), f"an MCP server has this name too, in line {line}; both are served at /mcp/{name}"
            )

    def _check_providers(self, shape: FileShape) -> None:
        for name, model in shape.models.items():
            places: list[tuple[Path, str | None]] = [((), model.provider)]
            places += [(("deployments", at), one.provider) for at, one in enumerate(model.deployments)]
            for where, provider in places:
                if provider is not None and self._providers and provider not in self._providers:
                    text = f"{provider!r} is not a provider{nearest(provider, list(self._providers))}"
                    self.fault(("models", name, *where, "provider"), text)

    def _check_fallbacks(self, shape: FileShape) -> None:
        """A model that stands in for another must be one of the file's, by its own name or a wildcard's."""
        names = list(shape.models)
        for name, model in shape.models.items():
            for member in ("fallbacks", "context_fallbacks"):
                for at, other in enumerate(getattr(model, member)):
                    if "*" in other or not any(matches(known, other) for known in names):
                        self.fault(("models", name, member, at), f"no model {other!r} here{nearest(other, names)}")
                    elif other == name:
                        self.fault(("models", name, member, at), "is this model itself")

    def _check_secrets(self, shape: FileShape) -> None:
        names: dict[str, int] = {}
        secrets = {shape.hub.admin_key: "hub.admin_key"} if shape.hub.admin_key else {}
        for at, key in enumerate(shape.keys):
            if key.allow is None and key.user is None and key.team is None:
                self.fault(("keys", at), "allow is missing: no user and no team allow it anything")
            if key.name in names:
                self.fault(("keys", at, "name"), f"{key.name} stands twice, first in line {names[key.name]}")
            names.setdefault(key.name, self.source.line(("keys", at, "name")))
            if key.key in secrets:
                self.fault(("keys", at, "key"), f"is the same as {secrets[key.key]}")
            secrets.setdefault(key.key, f"that of {key.name}")

    def _check_issuers(self, shape: FileShape) -> None:
        urls = [one.issuer for one in shape.hub.issuers]
        for at, url in enumerate(urls):
            if url in urls[:at]:
                self.fault(("hub", "issuers", at, "issuer"), "stands twice")
        for at, one in enumerate(shape.hub.issuers):
            if one.sign_in is not None and not is_private(shape.hub.public_url or "https://"):
                text = "hub.public_url is not https: whoever reads along can be who signed in"
                self.notice(("hub", "issuers", at, "sign_in"), text)
            audience = [one.audience] if isinstance(one.audience, str) else one.audience
            if one.sign_in is not None and one.sign_in.client_id in audience:
                text = "is in audience too: ID tokens, which only say who signed in, would open every door"
                self.fault(("hub", "issuers", at, "sign_in", "client_id"), text)

    def _is_disabled(self, name: str, server: ServerShape) -> bool:
        if server.disabled:
            self.notice(("mcpServers", name), "is disabled and left out")
        return server.disabled

    def _entry(self, section: str, name: str, shape: Any) -> Any:
        path = (section, name)
        try:
            entry = ENTRIES[section](name, shape, self._env(path, shape), "file", True)
        except ValueError as error:
            self.fault(path, str(error))
            return None
        if isinstance(entry, Server) and entry.openapi is not None and not is_http_url(entry.openapi):
            entry = replace(entry, openapi=str(PurePath(self.source.file).parent / entry.openapi))
        if isinstance(entry, Agent) and (fault := self._bridge_fault(entry)):
            self.fault(path, fault)
        if not isinstance(entry, Agent) and entry.unavailable is not None:
            self.notice(path, f"{entry.unavailable}; calls are refused")
        return entry

    def _toolset(self, name: str, shape: ToolsetShape) -> Toolset:
        items = ("toolsets", name, "tools")
        for at, member, text in toolsets.faults(shape, lambda at: f"line {self.source.line((*items, at))}"):
            self.fault((*items, at, member), text)
        return toolsets.toolset(name, shape)

    def _env(self, path: Path, shape: Shape) -> dict[str, str]:
        """The environment of an MCP server: `env` over what its `envFile` holds."""
        if not isinstance(shape, ServerShape):
            return {}
        if shape.env_file is None:
            return shape.env
        try:
            found = dotenv_values(stream=io.StringIO(self._read_file(shape.env_file)), interpolate=False)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
            self.fault((*path, "envFile"), f"cannot be read: {reason}")
            return shape.env
        return {**{name: value for name, value in found.items() if value is not None}, **shape.env}

    def _rules(self, shape: FileShape) -> Iterator[Rule]:
        names: set[str] = set()
        for at, found in enumerate(shape.policy):
            if found.name in names:
                self.fault(("policy", at, "name"), f"{found.name} stands twice")
            names.add(found.name)
            rule = rule_of(found)
            try:
                Policy([rule])
            except RuleInvalid as error:
                self.fault(("policy", at), str(error))
            yield rule

    def _guards(self, shape: FileShape) -> Iterator[Guard]:
        for name, found in shape.guards.items():
            path = ("guards", name)
            spec = GuardSpec(name, found.action, tuple(found.entries), tuple(found.of), found.when, found.type)
            if found.type == "size" and found.action == "redact":
                self.fault((*path, "action"), "a size cannot be redacted")
            try:
                yield Guard.of(spec, build(found.type, found.model_extra or {}))
            except (GuardInvalid, RuleInvalid) as error:
                self.fault(path, str(error))
            except ValidationError as error:
                for detail in error.errors(include_url=False, include_context=True):
                    where, text = explain(detail)
                    self.fault((*path, *where), text)


def _leave_out(value: JsonObject, path: tuple[str | int, ...]) -> None:
    """Remove the entry at `path`, or the whole section where entries have no names of their own."""
    section = value.get(str(path[0]))
    if len(path) > 1 and isinstance(section, dict) and path[0] != "hub":
        section.pop(str(path[1]), None)
    else:
        value.pop(str(path[0]), None)


def rule_of(shape: RuleShape) -> Rule:
    """A rule as the policy has it."""
    return Rule(
        shape.name,
        shape.effect,
        tuple(shape.entries),
        shape.when,
        shape.reason,
        tuple(shape.redact),
        tuple(shape.fields),
        tuple(shape.of),
    )


def _settings(hub: HubShape) -> HubSettings:
    plain = hub.model_dump(
        exclude={
            "egress_allow",
            "foreign_mcp",
            "trusted_proxies",
            "allowed_origins",
            "secret_keys",
            "issuers",
            "limits",
        }
    )
    return HubSettings(
        **plain,
        egress_allow=tuple(hub.egress_allow),
        foreign_mcp=tuple(hub.foreign_mcp),
        trusted_proxies=tuple(hub.trusted_proxies),
        allowed_origins=tuple(hub.allowed_origins),
        secret_keys=tuple(hub.secret_keys),
        issuers=tuple(map(_issuer, hub.issuers)),
        limits=Limits(**hub.limits.model_dump()),
    )


def _issuer(shape: IssuerShape) -> Issuer:
    return Issuer(
        url=shape.issuer,
        audience=(shape.audience,) if isinstance(shape.audience, str) else tuple(shape.audience),
        algorithms=tuple(shape.algorithms),
        jwks_url=shape.jwks_url,
        claims=Claims(**shape.claims.model_dump()),
        create_users=shape.create_users,
        allow=None if shape.allow is None else tuple(shape.allow),
        scopes={name: tuple(grants) for name, grants in shape.scopes.items()},
        roles={name: tuple(grants) for name, grants in shape.roles.items()},
        bounds=bounds(shape.limits, shape.budget),
        sign_in=None if shape.sign_in is None else _sign_in(shape.sign_in),
    )


def _sign_in(shape: SignInShape) -> SignIn:
    return SignIn(client_id=shape.client_id, client_secret=shape.client_secret, scopes=tuple(shape.scopes))


def _key_spec(key: KeyShape) -> KeySpec:
    return KeySpec(
        name=key.name,
        allow=None if key.allow is None else tuple(key.allow),
        user=key.user,
        team=key.team,
        doors=None if key.doors is None else tuple(key.doors),
        networks=None if key.networks is None else tuple(key.networks),
        requests_per_minute=key.limits.requests_per_minute,
        mcp_mode=key.mcp_mode,
        require_approval=key.require_approval,
        request_limits=RequestLimits(**key.limits.model_dump(include=set(RequestLimits._fields))),
        bounds=bounds(key.limits, key.budget),
        expires_at=key.expires_at.timestamp() if key.expires_at else None,
        secret=key.key,
    )
