"""Who calls. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Literal, NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import structs

from registry.access import EVERYTHING, Grants
from registry.floors import Floor
from registry.judged import JsonObject
from registry.limits import UNBOUND, Bounds, Limit, Pace

Role = Literal["viewer", "member", "admin"]
"""What a user is in a team: each may do what the one before may, and more (docs/tenancy.md)."""

ROLES: tuple[Role, ...] = ("viewer", "member", "admin")

DoorName = Literal["a2a", "mcp", "llm", "api"]
"""Where a key may be used."""

DOORS: tuple[DoorName, ...] = ("a2a", "mcp", "llm", "api")


class RequestLimits(NamedTuple):
    """Bounds of one request that runs tools. None: those of the hub."""

    max_rounds: int | None = None
    """Rounds of tool calls."""
    max_calls: int | None = None
    """Tool calls of all rounds."""
    max_seconds: float | None = None
    max_usd: float | None = None
    """What models and tools may cost together, as far as their prices are known."""
    max_total_tokens: int | None = None
    """Input and output of models in all rounds; `max_tokens` of a request is about one answer."""

    def within(self, other: RequestLimits) -> RequestLimits:
        """The stricter of both, one by one."""
        return RequestLimits(
            _least(self.max_rounds, other.max_rounds),
            _least(self.max_calls, other.max_calls),
            _least(self.max_seconds, other.max_seconds),
            _least(self.max_usd, other.max_usd),
            _least(self.max_total_tokens, other.max_total_tokens),
        )


SESSION_HEADER_NAME = "hubbub-session"
"""What a caller calls the conversation that a request is part of, where its protocol has no name for it."""

TASK_HEADER_NAME = "hubbub-task"
"""Bears a task's token: to agents and MCP servers, and back."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a request began, and all that is called for it: over agents and tools that call the hub again (docs/decisions/0012)."""

    id: str
    """The same over all hops; opens nothing."""
    token: str = field(repr=False)
    """Says to the hub which it is; sealed."""
    deadline: float | None
    """In seconds since 1970; None: none."""
    limits: tuple[Limit, ...]
    is_inherited: bool = False
    """Another request began it, and its time is that one's."""

    def limits_of(self, kind: str) -> tuple[Limit, ...]:
        """Those that count a call of this kind: models are not among `max_calls`."""
        return tuple([one for one in self.limits if one.unit != "calls"]) if kind == "model" else self.limits


Number = TypeVar("Number", int, float)


def _least(one: Number | None, other: Number | None) -> Number | None:
    return other if one is None else one if other is None else min(one, other)


HUBS_LIMITS = RequestLimits()


class Rules(Protocol):
    """The hub's policy as it is for one principal: `registry.rules.policy.Judge`."""

    def asks(self, kind: str, name: str) -> bool:
        """Whether calls of an entry are judged one by one."""

    def check(self, kind: str, name: str, call: Circumstances, *, approved: bool = False) -> None:
        """Let a call pass, or raise."""

    def passes(self, kind: str, name: str, written: bytes) -> bool:
        """Whether a call surely passes whose arguments are this JSON; False: it is to be checked."""

    def wants_approval(self, kind: str, name: str, arguments: JsonObject | None) -> bool:
        """Whether a call with these arguments is to be approved first; None: whether some call is."""

    def approved(self, kind: str, name: str, arguments: JsonObject) -> Rules:
        """The same rules, with this call approved."""

    @property
    def digest(self) -> str:
        """Of all rules, as approvals are bound to them."""


class Tree(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a call stands among those that it was made for, as far as the hub knows."""

    hops: int = 0
    """How often the request that it is part of has come through the hub."""
    callers: tuple[str, ...] = ()
    """What is called above it within this request, as `kind:name`, outermost first."""
    seconds_left: float | None = None
    """Until the time of its task is over; None: that has none."""


class Circumstances(NamedTuple):
    """What the rules may know of one call."""

    arguments: JsonObject | None
    """None: it has none that can be judged."""
    tree: Callable[[], Tree] = Tree
    """Asked where a condition looks at it."""


class Principal(msgspec.Struct, frozen=True):
    """The caller as the gate sees it. `id` is immutable and never reused: owners are ids, not names (surface.md 4).

    What a request adds to it makes another one: at a thirtieth of what that costs of a dataclass.
    """

    id: str
    name: str
    grants: Grants
    expires_at: float | None = None
    """Seconds since 1970; None: never."""
    team_id: str | None = None
    """The team that the key belongs to, by its immutable id."""
    team: str | None = None
    """Its alias, for rules alone: a new alias drops what was remembered of the team's keys."""
    user_id: str | None = None
    """The user whose key it is."""
    user: str | None = None
    """Their name, likewise."""
    role: Role | None = None
    """What the user is in the team, if the key acts in that role."""
    doors: frozenset[str] | None = None
    """Where it may be used; None: everywhere."""
    networks: tuple[IPv4Network | IPv6Network, ...] | None = None
    """From where it may be used; None: from anywhere."""
    paths: tuple[str, ...] | None = None
    """At and below which of the hub's paths, as its token says; None: at all of its doors."""
    mcp_mode: str | None = None
    """How MCP tools are listed to it, `search` or `full`; None: as a toolset says, else all."""
    require_approval: Floor | None = None
    """Which tools a model calls for it only when that was approved; globs are over `{server}__{tool}`."""
    request_limits: RequestLimits = HUBS_LIMITS
    """Of each of its requests that runs tools."""
    policy: Rules | None = None
    """The rules that its calls are under; None: there are none."""
    limits: tuple[Limit, ...] = ()
    """What is counted of its calls, and how much of it there may be; of all levels that it belongs to."""
    session_limits: tuple[Limit, ...] = ()
    """Likewise of each of its conversations."""
    paces: tuple[Pace, ...] = ()
    """How many requests a minute there may be of the key, its user and its team."""
    warn_at: float | None = None
    """The share at which the hub warns of what bounds one request of the key; None: it does not."""
    is_warned: bool = False
    """Something that bounds it warns before it is used up."""
    hops: int = 0
    """How often its present request has come through the hub, as that says itself."""
    above: tuple[str, ...] = ()
    """As `Tree.callers`: what its present request is part of though the permits of these are settled."""
    task: Task | None = None
    """The task that its present request is part of; None: one without bounds."""
    session: str | None = None
    """What its present conversation is called in usage: as the caller names it, else as the protocol does; None: it is in none."""
    is_admin: bool = False
    """Came with the admin key: URLs it writes count as the operator's own."""

    @property
    def requests_per_minute(self) -> int | None:
        """Of the key itself; None: unlimited."""
        return next((one.per_minute for one in self.paces if one.of == self.id), None)

    def in_session(self, where: str, name: str | None) -> Principal:
        """The caller in one of its conversations; as `limits_in`. In usage the first that is named is the one that counts."""
        if name is None:
            return self
        return structs.replace(self.limited_in(where, name), session=self.session or session_of(name))

    def limited_in(self, where: str, name: str | None) -> Principal:
        """The caller under the limits of one of its conversations; as `limits_in`."""
        added = self.limits_in(where, name)
        return structs.replace(self, limits=self.limits + added) if added else self

    def limits_in(self, where: str, name: str | None) -> tuple[Limit, ...]:
        """What bounds one of its conversations: a door or agent, and what it is called there; None: it is in none yet."""
        if name is None or not self.session_limits:
            return ()
        return self.limits_again(hashlib.sha256(f"{where} {name}".encode()).hexdigest())

    @property
    def conversations(self) -> tuple[str, ...]:
        """Those that its calls count in, as their counters call them."""
        return tuple(dict.fromkeys(one.counter.rpartition(" ")[2] for one in self.limits if one.per == "session"))

    def limits_again(self, named: str) -> tuple[Limit, ...]:
        """What bounds one of `conversations`."""
        return tuple(one._replace(counter=f"{one.counter} {named}") for one in self.session_limits)

    def acts_as(self, role: Role) -> bool:
        """Whether it may do in its team what `role` may."""
        return self.role is not None and ROLES.index(self.role) >= ROLES.index(role)


MAX_SESSION = 256


def session_of(name: str) -> str:
    """A conversation's name as usage has it: that, or its digest where it is longer or cannot be printed."""
    if len(name) <= MAX_SESSION and name.isprintable():
        return name
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()


ADMIN_ID = "admin"
HUB = Principal(id="hub", name="hub", grants=EVERYTHING)
"""The hub acting for itself: cards, tool lists, probes. Its calls leave no usage row."""

OPERATOR = Principal(id="operator", name="operator", grants=EVERYTHING)
"""Who types commands on the hub's machine."""

NOBODY = Principal(id="nobody", name="nobody", grants=Grants(()))
"""Somebody without a key, on a path that is open to all."""


def admin() -> Principal:
    """The holder of the admin key."""
    return Principal(id=ADMIN_ID, name="admin", grants=EVERYTHING, is_admin=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpec:
    """What a new key may do."""

    name: str
    allow: tuple[str, ...] | None
    """None: what its user and team allow."""
    user: str | None = None
    """Name or id; None: none."""
    team: str | None = None
    """Alias or id; None: none."""
    doors: tuple[DoorName, ...] | None = None
    """As `Principal.doors`."""
    networks: tuple[str, ...] | None = None
    """As `Principal.networks`, in CIDR form."""
    requests_per_minute: int | None = None
    mcp_mode: str | None = None
    """As `Principal.mcp_mode`."""
    require_approval: Floor | None = None
    """As `Principal.require_approval`."""
    request_limits: RequestLimits = HUBS_LIMITS
    bounds: Bounds = UNBOUND
    """How much it may use, in which time."""
    expires_at: float | None = None
    created_by: str | None = None
    """The id of the principal that makes it; None: the operator."""
    secret: str | None = field(default=None, repr=False)
    """A key written in the file; None: made here."""
