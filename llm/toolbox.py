"""The hub's tools in one request: those of its sources, and those that the loop brings with it.

Sources that would crowd out the conversation are not put before the model whole: three tools search, describe and call
theirs. A result that was cut can be read on with a fourth. Pure but for the search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from llm.results import MAX_CHARACTERS
from llm.types import Listing, Offer, OfferedTool, ToolCall, Turn
from registry.errors import InvalidRequest
from registry.judged import JsonObject
from registry.search.finding import DEPTH, Findable, Index, Seeker

MANY_TOOLS = 40
MANY_TOKENS = 10_000
"""Above either, a list crowds out what its reader is to do."""

FOUND = 10
MAX_FOUND = DEPTH
MAX_SUMMARY = 240
"""Characters of a description in what is found."""

REPEATS = 3
"""A call that gave the same result so often is not made again."""


@dataclass(frozen=True, slots=True)
class _Builtin:
    """A tool of the loop's own, as a model is told of it."""

    name: str
    description: str
    input_schema: JsonObject
    annotations: JsonObject = field(default_factory=lambda: {"readOnlyHint": True, "openWorldHint": False})
    server: str = "hub"
    """No server can be called so."""

    @property
    def exposed(self) -> str:
        return f"hub__{self.name}"


_TEXT = {"type": "string"}
_WHOLE = {"type": "integer", "minimum": 0}
SEARCH = _Builtin(
    "search_tools",
    "Find tools by what they do. Returns names and summaries, best first. Use the words that a tool's description would use.",
    {
        "type": "object",
        "properties": {"query": _TEXT, "limit": {**_WHOLE, "maximum": MAX_FOUND}},
        "required": ["query"],
    },
)
DESCRIBE = _Builtin(
    "describe_tool",
    "Tell all of one found tool: its whole description and the JSON Schema of its arguments.",
    {"type": "object", "properties": {"name": _TEXT}, "required": ["name"]},
)
CALL = _Builtin(
    "call_tool",
    "Call a found tool by its name, with arguments that fit its schema.",
    {"type": "object", "properties": {"name": _TEXT, "arguments": {"type": "object"}}, "required": ["name"]},
    annotations={"readOnlyHint": False},
)
READ = _Builtin(
    "read_result",
    "Read on in the result of an earlier call that was cut: of the call `id`, from the character `offset`.",
    {"type": "object", "properties": {"id": _TEXT, "offset": _WHOLE}, "required": ["id", "offset"]},
)
BUILTINS: Mapping[str, Offer] = {tool.exposed: Offer(tool, "hub") for tool in (SEARCH, DESCRIBE, CALL, READ)}


class Query(NamedTuple):
    """What a model searches for."""

    text: str
    limit: int


@dataclass(frozen=True, slots=True)
class Order:
    """What a model's call comes to."""

    offer: Offer | None
    """None: there is no such tool."""
    arguments: JsonObject
    said: str | None = None
    """The answer, where nothing needs to be called for it."""
    failed: bool = False
    query: Query | None = None
    """What is searched for; `Toolbox.search` then says what was found."""


class Toolbox:
    """One for a request."""

    def __init__(self, listings: Sequence[Listing], own_names: frozenset[str]) -> None:
        """Raises `InvalidRequest` when one of the hub's tools is called like one of the caller's."""
        self.listings = listings
        self._offers = {offer.tool.exposed: offer for listing in listings for offer in listing.offers}
        for name in (*self._offers, *(BUILTINS if listings else ())):
            if name in own_names:
                raise InvalidRequest(f"the hub has a tool named {name!r}; rename yours", member="tools")
        large = _large(listings)
        self._searched = [offer for listing in large for offer in listing.offers]
        self._whole = [offer for listing in listings if listing not in large for offer in listing.offers]
        self._index = Index(lambda: map(_findable, self._searched))

    def shown(self, turns: Sequence[Turn]) -> list[Offer]:
        """What the model is told of in the round after `turns`."""
        found = list(self._whole)
        if self._searched:
            found += [BUILTINS[tool.exposed] for tool in (SEARCH, DESCRIBE, CALL)]
        if any(outcome.whole is not None for turn in turns for outcome in turn.outcomes):
            found.append(BUILTINS[READ.exposed])
        return found

    def find(self, name: str) -> Offer | None:
        """The tool that a model calls so; None: there is none."""
        return self._offers.get(name) or (BUILTINS.get(name) if self.listings else None)

    def order(self, call: ToolCall, turns: Sequence[Turn]) -> Order:
        """What a call comes to, after `turns`.

        Raises:
            InvalidRequest: its arguments are wrong; the text is for the model.
        """
        offer = self.find(call.name)
        if offer is None:
            return Order(None, {}, f"There is no tool named {call.name[:100]!r}.", failed=True)
        arguments = _arguments(call)
        if offer.tool is CALL:
            meant = self._offers.get(_text(arguments, "name"))
            if meant is None:
                return Order(None, {}, f"There is no tool named {_text(arguments, 'name')[:100]!r}.", failed=True)
            inner = arguments.get("arguments", {})
            if not isinstance(inner, dict):
                raise InvalidRequest("arguments must be an object that fits the tool's schema.")
            offer, arguments = meant, inner
        elif offer.tool is SEARCH:
            return Order(offer, arguments, query=_query(arguments))
        elif offer.tool in (DESCRIBE, READ):
            return Order(offer, arguments, self._answer(offer.tool, arguments, turns))
        if _is_stuck(offer, arguments, turns):
            text = f"Not called again: with these arguments it gave the same result {REPEATS} times. Go on with what you know."
            return Order(offer, arguments, text, failed=True)
        return Order(offer, arguments)

    def _answer(self, tool: OfferedTool, arguments: JsonObject, turns: Sequence[Turn]) -> str:
        if tool is READ:
            return _read(_text(arguments, "id"), arguments.get("offset"), turns)
        meant = self._offers.get(_text(arguments, "name"))
        if meant is None:
            raise InvalidRequest(f"There is no tool named {_text(arguments, 'name')[:100]!r}; search for it.")
        described = {"description": meant.tool.description, "inputSchema": meant.tool.input_schema}
        return msgspec.json.encode({"name": meant.tool.exposed, **described}).decode()

    async def search(self, query: Query, seeker: Seeker | None) -> str:
        """What a search finds, for the model; without a `seeker` by words alone."""
        found = [self._searched[at].tool for at in await self._index.search(*query, seeker)]
        if not found:
            servers = ", ".join(dict.fromkeys(offer.tool.server for offer in self._searched))
            return f"Nothing matches. Try other words; there are {len(self._searched)} tools, of: {servers}."
        return msgspec.json.encode({"found": [_summary(tool) for tool in found]}).decode()


def _large(listings: Sequence[Listing]) -> list[Listing]:
    """The listings to be searched: the largest, until the others are not too many."""
    large: list[Listing] = []
    rest = sorted(listings, key=_tokens)
    while rest and (sum(len(listing.offers) for listing in rest) > MANY_TOOLS or sum(map(_tokens, rest)) > MANY_TOKENS):
        large.append(rest.pop())
    return large


def _tokens(listing: Listing) -> int:
    """What a listing costs whoever reads it, estimated: four bytes each."""
    return (
        sum(
            len(offer.tool.exposed) + len(offer.tool.description) + len(msgspec.json.encode(offer.tool.input_schema))
            for offer in listing.offers
        )
        // 4
    )


def _findable(offer: Offer) -> Findable:
    tool = offer.tool
    properties = tool.input_schema.get("properties")
    words = " ".join(properties if isinstance(properties, dict) else ())
    return Findable(tool.exposed, tool.server, tool.description, words)


def _query(arguments: JsonObject) -> Query:
    limit = arguments.get("limit", FOUND)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise InvalidRequest("limit must be a whole number above 0.")
    return Query(_text(arguments, "query"), min(limit, MAX_FOUND))


def _summary(tool: OfferedTool) -> JsonObject:
    text = " ".join(tool.description.split())
    properties = tool.input_schema.get("properties")
    return {
        "name": tool.exposed,
        "parameters": ", ".join(properties if isinstance(properties, dict) else ()),
        "description": text if len(text) <= MAX_SUMMARY else f"{text[: MAX_SUMMARY - 1]}…",
    }


def _read(call_id: str, offset: object, turns: Sequence[Turn]) -> str:
    whole = next(
        (outcome.whole for turn in turns for outcome in turn.outcomes if outcome.call.id == call_id and outcome.whole),
        None,
    )
    if whole is None:
        raise InvalidRequest(f"No result of a call {call_id[:100]!r} was cut.")
    if not isinstance(offset, int) or isinstance(offset, bool) or not 0 <= offset < len(whole):
        raise InvalidRequest(f"offset must be a whole number from 0 to {len(whole) - 1}.")
    end = offset + MAX_CHARACTERS
    more = f"\n[{len(whole) - end} more characters, from offset {end}]" if end < len(whole) else ""
    return whole[offset:end] + more


def _is_stuck(offer: Offer, arguments: JsonObject, turns: Sequence[Turn]) -> bool:
    said = [
        outcome.text
        for turn in turns
        for outcome in turn.outcomes
        if outcome.offer is not None
        and outcome.offer.tool.exposed == offer.tool.exposed
        and outcome.arguments == arguments
    ]
    return len(said) >= REPEATS and len(set(said[-REPEATS:])) == 1


def _arguments(call: ToolCall) -> JsonObject:
    if not call.arguments.strip():
        return {}
    try:
        arguments = msgspec.json.decode(call.arguments, type=dict)
    except (ValueError, RecursionError):
        raise InvalidRequest("The arguments are not a JSON object; call the tool again with valid ones.") from None
    return arguments


def _text(arguments: JsonObject, member: str) -> str:
    value = arguments.get(member)
    if not isinstance(value, str):
        raise InvalidRequest(f"{member} must be a text.")
    return value
