"""Values that the parts of the tool loop hand to one another. Pure; knows no provider and no transport.

Usage is OpenAI's `usage` object of chat completions everywhere in here (`prompt_tokens`, `completion_tokens`, their
details, and `prompt_tokens_details.cache_write_tokens`): dialects and voices of other formats convert it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Literal, NamedTuple, Protocol

from llm.pieces import Piece
from registry.entries import Headers
from registry.floors import Answerer
from registry.gate import NOTHING_KNOWN, Permit, Usage
from registry.identity import HUBS_LIMITS, Principal, RequestLimits
from registry.judged import JsonObject
from registry.spending.tasks import Paused

Format = Literal["chat", "messages", "responses"]
"""Wire formats of models' APIs: OpenAI chat completions, Anthropic messages, OpenAI responses."""


class OfferedTool(Protocol):
    """A tool of the hub as a model is told of it."""

    @property
    def server(self) -> str:
        """The name of its server."""

    @property
    def name(self) -> str:
        """As its server calls it."""

    @property
    def exposed(self) -> str:
        """As the model calls it, and as `ToolExecutor.call` takes it."""

    @property
    def description(self) -> str:
        """For the model."""

    @property
    def input_schema(self) -> JsonObject:
        """JSON Schema of its arguments."""

    @property
    def annotations(self) -> JsonObject:
        """What its server says of what it does (MCP's ToolAnnotations)."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Some tools of a source."""

    names: tuple[str, ...] | None
    """Globs over bare or exposed names; None: of any name."""
    read_only: bool | None
    """None: those that only read and others."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Which calls of a source's tools its request wants approved."""

    always: Filter | None = None
    never: Filter | None = None
    otherwise: bool | None = None
    """Of tools in neither; None: as where nothing is said."""


@dataclass(frozen=True, slots=True)
class ToolSource:
    """A tool source of a request that names this hub."""

    url: str
    """As the caller wrote it, for errors."""
    name: str | None
    """A server or toolset; None: everything."""
    allowed: tuple[str, ...] | None
    """Globs over bare or exposed names; None: all."""
    read_only: bool = False
    """Only tools whose servers say that they change nothing."""
    label: str | None = None
    """What the caller calls it; None: by the server of each tool."""
    foreign: Headers | None = None
    """A server elsewhere, at `url`: what it is sent beside. None: it is the hub."""
    denied: tuple[str, ...] = ()
    """Bare or exposed names of tools that are not to be used."""
    approval: Demand | None = None
    """None: it does not say."""


class Guest(Protocol):
    """A server elsewhere that a request brought along, for the length of the request."""

    @property
    def offered(self) -> Sequence[OfferedTool]:
        """Its tools."""

    async def guarded(self, principal: Principal, name: str, *, arguments: JsonObject, within: Permit) -> JsonObject:
        """As `llm.ports.ToolExecutor.guarded`."""

    async def call(self, principal: Principal, name: str, *, arguments: JsonObject, within: Permit) -> JsonObject:
        """As `llm.ports.ToolExecutor.call`."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool of the hub in one request."""

    tool: OfferedTool
    label: str
    """The caller's name for its source, else its server's."""
    guest: Guest | None = None
    """Who calls it, for a tool of a server elsewhere."""
    answerer: Answerer | None = None
    """Who has to approve its calls; None: nobody."""
    is_ruled: bool = False
    """A rule of the hub has some of its calls approved, by their arguments."""

    @property
    def may_wait(self) -> bool:
        """Whether a call of it may wait for approval."""
        return self.answerer is not None or self.is_ruled


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that the model asked for."""

    id: str
    name: str
    arguments: str
    """JSON as the model wrote it, perhaps invalid."""
    kind: str = "function"
    """`function` or `custom`, as `llm.pieces.CallBegun`."""


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """One call that the hub executed, or could not."""

    call: ToolCall
    offer: Offer | None
    """None: the model named a tool that it was not offered."""
    arguments: JsonObject
    text: str
    """What the model is told."""
    failed: bool
    duration_ms: float
    content: Sequence[JsonObject] = ()
    """MCP's content blocks that are no text, for models that take them."""
    whole: str | None = None
    """All that the tool said; None: `text` is."""

    @property
    def server(self) -> str | None:
        """The server of the tool; None: there is none."""
        return self.offer.tool.server if self.offer else None

    @property
    def tool(self) -> str:
        """The tool as its server calls it, else as the model did."""
        return self.offer.tool.name if self.offer else self.call.name


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's whole answer to one round."""

    format: Format
    message: JsonObject
    """The assistant's message in that format, complete: it goes back to the same model with the next round."""
    pieces: Sequence[Piece]
    """The same in no format, in order."""
    calls: Sequence[ToolCall]
    finish_reason: str
    """In chat's words: `stop`, `length`, `tool_calls`, `content_filter`."""
    usage: JsonObject = field(default_factory=dict)
    """Empty when the provider gave none."""
    told: JsonObject = field(default_factory=dict)
    """What an agent as a model says beside, for the answer's `hub` member: its context and task."""
    model: str = ""
    """Which model of the hub's gave it; this and the next are set once it is whole."""
    used: Usage = NOTHING_KNOWN
    """What it used, known or estimated, and what it cost."""
    deployment: str | None = None
    """Where it runs, as `llm.deployments.name_of`, and how many attempts it took; None: there was nothing to choose."""
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Turn:
    """A finished round: what the model said and what came of the hub's calls in it."""

    reply: Reply
    outcomes: Sequence[ToolOutcome]


def add_usage(total: JsonObject, more: JsonObject) -> JsonObject:
    """Add up two usage objects, member by member, details included."""
    added = dict(total)
    for name, value in more.items():
        before = added.get(name)
        if isinstance(value, dict):
            added[name] = add_usage(before if isinstance(before, dict) else {}, value)
        elif isinstance(value, int | float) and isinstance(before, int | float):
            added[name] = before + value
        elif value is not None or before is None:
            added[name] = value
    return added


@dataclass(frozen=True, slots=True)
class Waiting:
    """A call of the hub's that is not made before somebody approves it."""

    call: ToolCall
    offer: Offer
    arguments: JsonObject
    """What guards leave of them."""
    approval: str = ""
    """The approval's id, once it was asked for."""
    run: str = ""
    """The id of the run that waits for it."""
    expires_at: float = 0.0
    """In seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Held:
    """What came of a round some of whose calls wait."""

    outcomes: Sequence[ToolOutcome]
    """Of the others."""
    waiting: Sequence[Waiting]


class Used(NamedTuple):
    """What a run may do in all, and what it did of that before it waited."""

    limits: RequestLimits = HUBS_LIMITS
    calls: int = 0
    """Of tools."""
    seconds: float = 0.0
    charged_usd: float = 0.0
    """What these calls cost; what models cost stands in its rounds."""


class Place(NamedTuple):
    """Where a run stands among what it is part of, as its caller's request said when it began."""

    hops: int = 0
    above: Sequence[str] = ()
    """As `registry.identity.Tree` has both."""
    conversations: Sequence[str] = ()
    """As `Principal.conversations`."""
    session: str | None = None
    """As `Principal.session`."""
    task: Paused | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """A run of the loop that waits for approvals."""

    run: str
    about: bytes
    """What its door needs to go on with it."""
    turns: Sequence[Turn]
    """The rounds before the one that waits."""
    reply: Reply
    """What the model said in that one."""
    held: Held
    expires_at: float
    used: Used
    place: Place
    is_fleeting: bool = False
    """Nothing of it may be at rest."""


_UNUSED = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


@dataclass(frozen=True, slots=True)
class Finished:
    """What the loop came to."""

    turns: Sequence[Turn]
    """All rounds; the last one is the answer."""
    own: Sequence[ToolCall]
    """Calls of the caller's own tools in the last round: the caller's to execute."""
    finish_reason: str
    """In chat's words."""
    charged_usd: float = 0.0
    """What the hub's calls cost beside the rounds."""
    warnings: Sequence[str] = ()
    """Of limits and budgets that are nearly used up."""
    waiting: Sequence[Waiting] = ()
    """Calls of the last round that wait for approval: what was to be said about them follows in another answer."""
    before: int = 0
    """How many of the turns an earlier answer has accounted for."""
    told: frozenset[str] = frozenset()
    """Ids of the calls whose outcomes an earlier answer has reported."""

    @property
    def reply(self) -> Reply:
        """The last round's."""
        return self.turns[-1].reply

    @property
    def fresh(self) -> Sequence[Turn]:
        """The rounds of this answer, which no earlier one has accounted for."""
        return self.turns[self.before :]

    @property
    def outcomes(self) -> Sequence[ToolOutcome]:
        """Everything that the hub executed for this answer, in order."""
        return [outcome for turn in self.turns for outcome in turn.outcomes if outcome.call.id not in self.told]

    @property
    def usage(self) -> JsonObject:
        """Summed over the rounds of this answer."""
        return reduce(add_usage, (turn.reply.usage for turn in self.fresh), {} if self.fresh else dict(_UNUSED))


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source of a request offers."""

    source: ToolSource
    offers: Sequence[Offer]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a caller asked, in one format. Values are raw JSON or decoded."""

    format: Format
    members: Mapping[str, object]
    """All members of the request that go on, but those below and `model`, `stream`, `stream_options`."""
    messages: Sequence[object]
    """`messages`; of `responses` the items of `input`."""
    own_tools: Sequence[object]
    """The caller's own tools, in its format."""
    headers: Headers = ()
    """Of the request, for a provider of the same format."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """How a door goes on with a run that waited for approvals."""

    door: str
    """Who is told when approvals were given (registry.tool_approvals)."""
    about: Callable[[], bytes]
    """What it needs for that, kept sealed."""
    is_fleeting: bool = False
    """Nothing of it may be at rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One judged request that the loop answers."""

    model: str
    """As the caller named it."""
    stream: bool
    sources: Sequence[ToolSource]
    own_names: frozenset[str]
    """Of the caller's own tools."""
    prompt: Prompt
    limits: RequestLimits = HUBS_LIMITS
    """What the request says of itself."""
    ticket: Ticket | None = None
    """How its door goes on when approvals were given; None: it cannot, and calls that need them are not made."""
    talk: JsonObject | None = None
    """For an agent as a model: in which context or task of its the conversation goes on."""
    parked: Parked | None = None
    """What it goes on with: nothing of it is pending any more."""

    def is_own(self, tool: str) -> bool:
        """Whether calls of a tool are the caller's to execute; without sources, of every tool."""
        return not self.sources or tool in self.own_names


class CallIds:
    """Ids of calls, each unique in its request: some providers send none, or the same in each round."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unique(self, given: object) -> str:
        """The id itself, or a new one in its place."""
        name = given if isinstance(given, str) and given and given not in self._taken else f"call_{uuid.uuid4().hex}"
        self._taken.add(name)
        return name
