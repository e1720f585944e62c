"""Search mode: three tools that stand for all others of a view, so that a model reads of those only that it looks for.

The list that a client gets is these three; every tool stays callable under its own name. What `call_tool` is asked to
call takes the way of a call under that name: this module only says which tool it is. Prompts are found and called
likewise, since a model cannot send `prompts/get`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from mcp_bridge.findable import findable, summary
from mcp_bridge.requests import check_arguments
from registry import judged
from registry.declared.toolsets import SEARCH_NAMES
from registry.entries import Feature, ListedKind, Prompt, Tool
from registry.errors import InvalidParams, InvalidRequest, NotFound
from registry.judged import JsonObject, RawObject, decode, encode
from registry.search.finding import DEPTH, Index, Seeker

MODE_HEADER = b"x-hubbub-mcp-mode"
SEARCH_TOOLS, DESCRIBE_TOOL, CALL_TOOL = SEARCH_NAMES

MAX_FOUND = DEPTH
FOUND = 10
"""How many tools a search tells when nobody says how many."""

MAX_SERVERS = 20
"""Servers named in the description of `search_tools`: enough for a model to see what there may be."""


MANY_TOOLS = 40
MANY_TOKENS = 10_000
"""Above either, a list crowds out what its readers are to do."""


META_COST = "hubbub/cost"
"""In the `_meta` of a long list of tools: what it costs, and what search mode would save.

Not in the instructions: those are read by models, which can do nothing about it, and would cost more.
"""


class Chosen(NamedTuple):
    """The request for what `call_tool` was asked to call."""

    method: str
    params: RawObject


class Cost(NamedTuple):
    """What a view's tools cost whoever puts their list before a model. Tokens are estimated: four bytes each."""

    tools: int
    tokens: int
    search_tokens: int | None
    """Of the list in search mode; None: there is none here."""

    @property
    def advice(self) -> str | None:
        """What search mode would save, if the list is long; None: it is not, or there is no search mode here."""
        if self.search_tokens is None or (self.tools <= MANY_TOOLS and self.tokens <= MANY_TOKENS):
            return None
        return (
            f"A model that is given all {self.tools} tools reads about {self.tokens:,} tokens before it begins; in search mode "
            f"about {self.search_tokens:,}. Set mcp_mode: search for a key, mode: search for a toolset, or send the header "
            f"{MODE_HEADER.decode()}: search."
        )

    @property
    def meta(self) -> JsonObject:
        """What a client is told of it in `_meta`: nothing, unless there is something to save."""
        if self.advice is None:
            return {}
        told = {"tools": self.tools, "tokens": self.tokens, "searchTokens": self.search_tokens, "advice": self.advice}
        return {META_COST: told}


def is_wanted(header: bytes | None, mode: str | None) -> bool:
    """Whether a request is answered in search mode: as its header says, else as `mode` of its key or toolset does.

    Raises:
        InvalidRequest: the header says something else than `search` or `full`.
    """
    if header is None:
        return mode == "search"
    said = header.strip(b" \t").lower()
    if said not in {b"search", b"full"}:
        raise InvalidRequest(f"{MODE_HEADER.decode()} must be search or full", member=MODE_HEADER.decode())
    return said == b"search"


class Search:
    """The three tools over the tools of one view."""

    def __init__(
        self,
        tools: Mapping[str, Tool],
        prompts: Mapping[str, Prompt],
        shown: Callable[[ListedKind, str, Feature], RawObject],
    ) -> None:
        """What is searched by the names that the view shows; `shown` is a thing's object as the view's list holds it."""
        self._all: Mapping[ListedKind, Mapping[str, Feature]] = {"tool": tools, "prompt": prompts}
        self._shown = shown
        self._places = [(kind, name) for kind, things in self._all.items() for name in things]
        self._index = Index(lambda: (findable(name, self._all[kind][name]) for kind, name in self._places), learns=True)

    def listed(self) -> list[RawObject]:
        """The three, as a list of tools holds them."""
        three = _three(self._scope(), with_prompts=bool(self._all["prompt"]))
        return [{member: msgspec.Raw(encode(value)) for member, value in tool.items()} for tool in three]

    async def answer(self, params: RawObject, seeker: Seeker | None = None) -> RawObject | Chosen | None:
        """Answer a `tools/call` of one of the three: a result, or for `call_tool` what to call; None: it is of none.

        Without a `seeker` tools are found by words alone.

        Arguments that are wrong become an `isError` result, which a model can mend (MCP 2025-11-25, Error Handling).

        Raises:
            NotFound: the view has no such tool or prompt.
            InvalidRequest: a member stands twice.
        """
        name = decode(params["name"]) if "name" in params else None
        if name not in SEARCH_NAMES:
            return None
        arguments = check_arguments(params.get("arguments"))
        given = judged.body(bytes(arguments), _DECIDING) if arguments is not None else {}
        try:
            if name == CALL_TOOL:
                method = "prompts/get" if self._find(given)[0] == "prompt" else "tools/call"
                inner = {"name": given["name"], "arguments": given.get("arguments", _NULL)}
                check_arguments(inner["arguments"])
                return Chosen(method, {**params, **inner})
            if name == DESCRIBE_TOOL:
                return _result(encode(self._shown(*self._find(given))))
            return _result(await self._search(given, seeker))
        except InvalidParams as error:
            return _result(error.text.encode(), is_error=True)

    def _find(self, given: RawObject) -> tuple[ListedKind, str, Feature]:
        """What is meant; of a tool and a prompt of one name the tool, unless `kind` says otherwise."""
        name = _text(given, "name")
        wanted = _text(given, "kind") if "kind" in given else None
        if wanted is not None and wanted not in self._all:
            raise InvalidParams("kind must be tool or prompt", member="kind")
        for kind, things in self._all.items():
            if name in things and wanted in {None, kind}:
                return kind, name, things[name]
        raise NotFound(wanted or "tool", name)

    async def _search(self, given: RawObject, seeker: Seeker | None) -> bytes:
        query = _text(given, "query")
        limit = decode(given["limit"]) if "limit" in given else FOUND
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise InvalidParams("limit must be a whole number above 0", member="limit")
        places = [self._places[at] for at in await self._index.search(query, min(limit, MAX_FOUND), seeker)]
        if not places:
            return f"Nothing matches. Try other words; {self._scope()}".encode()
        return encode({"found": [summary(name, self._all[kind][name]) for kind, name in places]})

    def _scope(self) -> str:
        """How much there is, and of whom."""
        servers = list(dict.fromkeys(self._all[kind][name].server for kind, name in self._places))
        more = f" and {len(servers) - MAX_SERVERS} more" if len(servers) > MAX_SERVERS else ""
        prompts = f" and {len(self._all['prompt'])} prompts" if self._all["prompt"] else ""
        return f"There are {len(self._all['tool'])} tools{prompts}, of: {', '.join(servers[:MAX_SERVERS])}{more}."


def cost_of(tools: Iterable[RawObject], search: Search | None) -> Cost:
    """Estimate what a list of tools costs, counting the members that clients hand to models."""
    sizes = [_size(tool) for tool in tools]
    searching = None if search is None else sum(map(_size, search.listed())) // 4
    return Cost(len(sizes), sum(sizes) // 4, searching)


def _size(tool: RawObject) -> int:
    return sum(len(bytes(tool[member])) for member in ("name", "description", "inputSchema") if member in tool)


_NULL = msgspec.Raw(b"null")
_DECIDING = frozenset({"name", "kind", "arguments", "query", "limit"})
_TEXT = {"type": "string"}
_OBJECT = {"type": "object"}


def _three(scope: str, *, with_prompts: bool) -> tuple[JsonObject, ...]:
    reads = {"readOnlyHint": True, "openWorldHint": False}
    things, thing = ("tools and prompts", "tool or prompt") if with_prompts else ("tools", "tool")
    named: JsonObject = {"name": _TEXT, **({"kind": {"enum": ["tool", "prompt"]}} if with_prompts else {})}
    return (
        {
            "name": SEARCH_TOOLS,
            "description": f"Find {things} by what they do. Returns names, parameters (? means optional) and summaries, best "
            f"first. Use the words that a {thing}'s description would use. {scope}",
            "inputSchema": {
                **_OBJECT,
                "properties": {"query": _TEXT, "limit": {"type": "integer", "minimum": 1, "maximum": MAX_FOUND}},
                "required": ["query"],
            },
            "annotations": reads,
        },
        {
            "name": DESCRIBE_TOOL,
            "description": f"Tell all of one found {thing}: its whole description and the JSON Schema of its arguments.",
            "inputSchema": {**_OBJECT, "properties": named, "required": ["name"]},
            "annotations": reads,
        },
        {
            "name": CALL_TOOL,
            "description": f"Call a found {thing} by its name, with arguments that fit its schema."
            + (" A prompt answers with its text." if with_prompts else ""),
            "inputSchema": {**_OBJECT, "properties": {**named, "arguments": _OBJECT}, "required": ["name"]},
            # the worst that any tool behind it may be
            "annotations": {
                "readOnlyHint": False,
                "destructiveHint": True,
                "idempotentHint": False,
                "openWorldHint": True,
            },
        },
    )


def _text(given: RawObject, member: str) -> str:
    value = decode(given[member]) if member in given else None
    if not isinstance(value, str):
        raise InvalidParams(f"{member} must be a string", member=member)
    return value


def _result(text: bytes, *, is_error: bool = False) -> RawObject:
    result = {"content": msgspec.Raw(encode([{"type": "text", "text": text.decode()}]))}
    return {**result, "isError": msgspec.Raw(b"true")} if is_error else result
