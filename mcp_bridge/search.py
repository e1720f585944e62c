"""Search mode: three tools that stand for all others of a view, so that a model reads of those only that it looks for.

The list that a client gets is these three; every tool stays callable under its own name. What `call_tool` is asked to
call takes the way of a call under that name: this module only says which tool it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from mcp_bridge.requests import check_arguments
from registry import judged
from registry.entries import Tool
from registry.errors import InvalidParams, InvalidRequest, NotFound
from registry.judged import JsonObject, RawObject, decode, encode
from registry.lexical import Lexicon
from registry.toolsets import SEARCH_NAMES

MODE_HEADER = b"x-hubbub-mcp-mode"
SEARCH_TOOLS, DESCRIBE_TOOL, CALL_TOOL = SEARCH_NAMES

MAX_FOUND = 50
FOUND = 10
"""How many tools a search tells when nobody says how many."""

MAX_SUMMARY = 240
"""Characters of a description in what is found; `describe_tool` tells all."""

MAX_SERVERS = 20
"""Servers named in the description of `search_tools`: enough for a model to see what there may be."""


MANY_TOOLS = 40
MANY_TOKENS = 10_000
"""Above either, a list crowds out what its readers are to do."""


class Chosen(NamedTuple):
    """The params of a `tools/call` for what `call_tool` was asked to call."""

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
    """The three tools over the tools of one view. The index is made at the first search, in a thread."""

    def __init__(self, tools: Mapping[str, Tool], shown: Callable[[str, Tool], RawObject]) -> None:
        """`tools` by the names that the view shows; `shown` is a tool's object as the view's list holds it."""
        self._tools = tools
        self._shown = shown
        self._names = list(tools)
        self._lexicon: Lexicon | None = None
        self._making = asyncio.Lock()

    def listed(self) -> list[RawObject]:
        """The three, as a list of tools holds them."""
        return [{member: msgspec.Raw(encode(value)) for member, value in tool.items()} for tool in _three(self._tools)]

    async def answer(self, params: RawObject) -> RawObject | Chosen | None:
        """Answer a `tools/call` of one of the three: a result, or for `call_tool` what to call; None: it is of none.

        Arguments that are wrong become an `isError` result, which a model can mend (MCP 2025-11-25, Error Handling).

        Raises:
            NotFound: the view has no such tool.
            InvalidRequest: a member stands twice.
        """
        name = decode(params["name"]) if "name" in params else None
        if name not in SEARCH_NAMES:
            return None
        arguments = check_arguments(params.get("arguments"))
        given = judged.body(bytes(arguments), _DECIDING) if arguments is not None else {}
        try:
            if name == CALL_TOOL:
                self._find(given)
                inner = {"name": given["name"], "arguments": given.get("arguments", _NULL)}
                check_arguments(inner["arguments"])
                return Chosen({**params, **inner})
            if name == DESCRIBE_TOOL:
                return _result(encode(self._shown(*self._find(given))))
            return _result(await self._search(given))
        except InvalidParams as error:
            return _result(error.text.encode(), is_error=True)

    def _find(self, given: RawObject) -> tuple[str, Tool]:
        name = _text(given, "name")
        tool = self._tools.get(name)
        if tool is None:
            raise NotFound("tool", name)
        return name, tool

    async def _search(self, given: RawObject) -> bytes:
        query = _text(given, "query")
        limit = decode(given["limit"]) if "limit" in given else FOUND
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise InvalidParams("limit must be a whole number above 0", member="limit")
        async with self._making:
            if self._lexicon is None:
                self._lexicon = await asyncio.to_thread(self._made)
        found = [self._names[at] for at in self._lexicon.search(query, min(limit, MAX_FOUND))]
        if not found:
            return b"No tool matches. Try other words; " + _servers(self._tools).encode()
        return encode({"tools": [_summary(name, self._tools[name]) for name in found]})

    def _made(self) -> Lexicon:
        return Lexicon(_texts(name, tool) for name, tool in self._tools.items())


def cost_of(tools: Iterable[RawObject], search: Search | None) -> Cost:
    """Estimate what a list of tools costs, counting the members that clients hand to models."""
    sizes = [_size(tool) for tool in tools]
    searching = None if search is None else sum(map(_size, search.listed())) // 4
    return Cost(len(sizes), sum(sizes) // 4, searching)


def _size(tool: RawObject) -> int:
    return sum(len(bytes(tool[member])) for member in ("name", "description", "inputSchema") if member in tool)


_NULL = msgspec.Raw(b"null")
_DECIDING = frozenset({"name", "arguments", "query", "limit"})
_TEXT = {"type": "string"}
_OBJECT = {"type": "object"}


def _three(tools: Mapping[str, Tool]) -> tuple[JsonObject, ...]:
    reads = {"readOnlyHint": True, "openWorldHint": False}
    return (
        {
            "name": SEARCH_TOOLS,
            "description": f"Find tools by what they do. Returns names, parameters (? means optional) and summaries, best "
            f"first. Use the words that a tool's description would use. {_servers(tools)}",
            "inputSchema": {
                **_OBJECT,
                "properties": {"query": _TEXT, "limit": {"type": "integer", "minimum": 1, "maximum": MAX_FOUND}},
                "required": ["query"],
            },
            "annotations": reads,
        },
        {
            "name": DESCRIBE_TOOL,
            "description": "Tell all of one found tool: its whole description and the JSON Schema of its arguments.",
            "inputSchema": {**_OBJECT, "properties": {"name": _TEXT}, "required": ["name"]},
            "annotations": reads,
        },
        {
            "name": CALL_TOOL,
            "description": "Call a found tool by its name, with arguments that fit its schema.",
            "inputSchema": {
                **_OBJECT,
                "properties": {"name": _TEXT, "arguments": _OBJECT},
                "required": ["name"],
            },
            # the worst that any tool behind it may be
            "annotations": {
                "readOnlyHint": False,
                "destructiveHint": True,
                "idempotentHint": False,
                "openWorldHint": True,
            },
        },
    )


def _servers(tools: Mapping[str, Tool]) -> str:
    names = list(dict.fromkeys(tool.server for tool in tools.values()))
    more = f" and {len(names) - MAX_SERVERS} more" if len(names) > MAX_SERVERS else ""
    return f"There are {len(tools)} tools, of: {', '.join(names[:MAX_SERVERS])}{more}."


def _text(given: RawObject, member: str) -> str:
    value = decode(given[member]) if member in given else None
    if not isinstance(value, str):
        raise InvalidParams(f"{member} must be a string", member=member)
    return value


def _result(text: bytes, *, is_error: bool = False) -> RawObject:
    result = {"content": msgspec.Raw(encode([{"type": "text", "text": text.decode()}]))}
    return {**result, "isError": msgspec.Raw(b"true")} if is_error else result


class _Told(msgspec.Struct):
    """What is looked at of a tool."""

    input_schema: msgspec.Raw = msgspec.field(name="inputSchema")
    description: str = ""
    title: str = ""


_told = msgspec.json.Decoder(_Told)


def _properties(schema: msgspec.Raw) -> tuple[dict[str, JsonObject], list[str]]:
    found: JsonObject = decode(schema)
    properties, required = found.get("properties"), found.get("required")
    return (
        {name: one if isinstance(one, dict) else {} for name, one in properties.items()}
        if isinstance(properties, dict)
        else {},
        required if isinstance(required, list) else [],
    )


def _texts(name: str, tool: Tool) -> tuple[str, str, str]:
    told = _told.decode(tool.description)
    properties, _ = _properties(told.input_schema)
    words = [f"{name} {one.get('description', '')}" for name, one in properties.items()]
    return f"{name} {tool.server} {told.title}", told.description, " ".join(words)


def _summary(name: str, tool: Tool) -> JsonObject:
    told = _told.decode(tool.description)
    properties, required = _properties(told.input_schema)
    text = " ".join(told.description.split())
    return {
        "name": name,
        "parameters": ", ".join(one if one in required else f"{one}?" for one in properties),
        "description": text if len(text) <= MAX_SUMMARY else f"{text[: MAX_SUMMARY - 1]}…",
    }
