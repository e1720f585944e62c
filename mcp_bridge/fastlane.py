"""MCP 2026-07-28 towards clients, in own code on bytes: one request in, the result's bytes out.

Checks headers against body, the envelope, the version; then lists from the view or calls through dispatch. Knows no
HTTP server: the door reads and answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence

import msgspec

from mcp_bridge import consent, tasks
from mcp_bridge import headers as mirrored
from mcp_bridge.agent_tools import as_texts, with_headers
from mcp_bridge.asking import NAMES, Asked, read_request
from mcp_bridge.dispatch import Dispatch
from mcp_bridge.findable import as_tool_result
from mcp_bridge.listener import Listener
from mcp_bridge.listing import LISTS
from mcp_bridge.search import Chosen
from mcp_bridge.views import TTL_MS, View
from mcp_bridge.wire import (
    META_CAPABILITIES,
    META_VERSION,
    MODERN,
    RESOURCE_NOT_FOUND,
    Answer,
    Request,
    as_modern,
    as_raw,
)
from registry import judged
from registry.entries import Feature, Prompt, Resource, Server, Tool
from registry.errors import (
    ConsentNeeded,
    HeaderMismatch,
    InvalidParams,
    InvalidRequest,
    ParseFailed,
    UpstreamInvalid,
    VersionNotSupported,
)
from registry.identity import Principal
from registry.judged import RawObject, decode, encode, read_object

DECIDING = frozenset({"method", "params", "arguments", "_meta"})
"""Members that must stand once wherever they stand. `name` is looked at apart: it may well occur in several objects."""

_NAME = frozenset({"name", "uri", "taskId"})
_TOP = frozenset({"jsonrpc", "method", "params", "id"})
_PARAMS = frozenset({"name", "uri", "ref", "taskId", "arguments", "_meta", "cursor", "inputResponses", "requestState"})
_JSONRPC = msgspec.Raw(b'"2.0"')
_MODERN = msgspec.Raw(encode(MODERN))
_ROUTING = (b"mcp-protocol-version", b"mcp-method", b"mcp-name")


class Posted(msgspec.Struct, frozen=True):
    """A posted message of either revision, its members raw."""

    top: RawObject
    params: RawObject
    """Empty when absent."""


def read_body(data: bytes) -> Posted:
    """Read a posted message, what decides in it standing once and spelt right.

    Raises:
        ParseFailed, InvalidRequest: it is not one JSON-RPC message.
    """
    top = judged.body(data, DECIDING)
    judged.check_spelling(top, _TOP)
    params = top.get("params")
    if params is None:
        return Posted(top, {})
    try:
        found = read_object(params, "params")
    except InvalidRequest as error:
        raise InvalidParams(error.text, member="params") from None
    judged.check_spelling(found, _PARAMS)
    if "ref" in found or encode(found) != bytes(params):  # written anew it has nothing twice, and mostly is the same
        _check_names(data, found)
    return Posted(top, found)


def _check_names(data: bytes, found: RawObject) -> None:
    """Refuse what names the callee and stands twice; raises `InvalidRequest`."""
    names = data.count(b'"name"')
    for member in ("arguments", "_meta"):  # the callers' own names
        if names > 1 and member in found:
            names -= bytes(found[member]).count(b'"name"')
    if (
        names > 1
        or ("uri" in found and data.count(b'"uri"') > 1)
        or ("taskId" in found and data.count(b'"taskId"') > 1)
        or data.find(b"\\u") >= 0
    ):  # an escape may spell it too
        judged.body(data, DECIDING | _NAME)


class Message(msgspec.Struct, frozen=True):
    """A 2026-07-28 request, its headers checked."""

    method: str
    params: RawObject
    """Without `_meta`."""
    meta: RawObject


def read_message(posted: Posted, said: Mapping[bytes, bytes], headers: Sequence[tuple[bytes, bytes]]) -> Message:
    """Check a request's envelope and the headers that mirror it: `said` by name, of repeated ones one, and `headers` as they came.

    Raises:
        InvalidRequest, InvalidParams: no JSON-RPC request, or no envelope.
        HeaderMismatch: a header is missing, stands twice, or says something else than the body.
        VersionNotSupported: the version is none that is spoken here.
    """
    method = method_of(posted.top)
    params = posted.params.copy()
    try:
        meta = read_object(params.pop("_meta"), "params._meta")
        raw, _ = meta[META_VERSION], meta[META_CAPABILITIES]
        version = MODERN if raw == _MODERN else decode(raw)
    except (KeyError, InvalidRequest):
        raise InvalidParams(f"params._meta must hold {META_VERSION} and {META_CAPABILITIES}", member="_meta") from None
    if len(said) != len(headers):
        _once(headers)
    _mirror(said, b"mcp-protocol-version", version)
    _mirror(said, b"mcp-method", method)
    if method in NAMES:
        _mirror(said, b"mcp-name", judged.read_string(params, NAMES[method]))
    elif method in tasks.METHODS and b"mcp-name" in said:  # a MUST that FastMCP's client does not know
        _mirror(said, b"mcp-name", judged.read_string(params, "taskId"))
    if version != MODERN:
        raise VersionNotSupported(version, (MODERN,))
    return Message(method, params, meta)


def method_of(top: RawObject) -> str:
    """The method of a JSON-RPC request; raises `InvalidRequest`."""
    if top.get("jsonrpc") != _JSONRPC:
        raise InvalidRequest('jsonrpc must be "2.0"', member="jsonrpc")
    method = judged.read_string(top, "method")
    if method is None:
        raise InvalidRequest("method is missing", member="method")
    return method


def _once(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse a header that a proxy routes by and that stands twice."""
    names = [name for name, _ in headers]
    for name in _ROUTING:
        if names.count(name) > 1:
            raise HeaderMismatch(name.decode())


def _mirror(said: Mapping[bytes, bytes], header: bytes, value: object) -> None:
    raw = said.get(header)
    text = None if raw is None else raw.decode("latin-1")
    if text is not None and (text != value or text[:2] == "=?"):
        text = mirrored.decode_header(text.strip(" \t"))
    if text is None or text != value:
        raise HeaderMismatch(header.decode())


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who sent a message, what they see, and who is told what an upstream says meanwhile."""

    principal: Principal
    view: View
    searches: bool
    """Whether the caller is served in search mode."""
    headers: Sequence[tuple[bytes, bytes]]
    request_id: str
    listener: Listener


def listed(message: Message, caller: Caller) -> bytes:
    """The encoded result of a request that is `LOCAL`."""
    if bytes(message.params.get("cursor", b"null")) != b"null":
        raise InvalidParams("There is no such cursor: the list has one page.", member="cursor")
    if caller.searches and message.method == "tools/list":
        return caller.view.search_list
    return caller.view.modern(message.method)


class FastLane:
    """Answers requests of 2026-07-28 that are not `LOCAL`."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch

    async def answer(self, message: Message, caller: Caller) -> bytes | Answer:
        """Return the encoded result, or an upstream's answer that is an error; raises `HubError` of any kind."""
        if message.method in tasks.METHODS:
            return await self._followed(message, caller)
        try:
            if "inputResponses" in message.params:
                return await self._go_on(message, caller)
            return await self._answer(message, caller)
        except ConsentNeeded as needed:
            if consent.takes_urls(message.meta):
                return consent.input_required(needed)
            if message.method != "tools/call":
                raise
            return as_modern(as_raw(consent.result_of(needed)))

    async def _go_on(self, message: Message, caller: Caller) -> bytes | Answer:
        """Answer a request whose client was asked for something; if it was the hub that asked, once that is there."""
        params, action = consent.take_response(message.params)
        message = msgspec.structs.replace(message, params=params)
        try:
            return await self._answer(message, caller)
        except ConsentNeeded as needed:
            if action is None:
                raise
            if action != "accept":
                return as_modern(as_raw(consent.result_of(needed)))
            await self._dispatch.connected(caller.principal, needed.server)
            return await self._answer(message, caller)

    async def _followed(self, message: Message, caller: Caller) -> bytes | Answer:
        """Answer what is asked about a task that a call became."""
        if not tasks.declares(message.meta):
            return tasks.NOT_DECLARED
        answer = await self._dispatch.follow(
            caller.principal,
            caller.view,
            Request(
                method=message.method,
                params={**message.params},
                meta=message.meta,
                name=judged.read_string(message.params, "taskId"),
                headers=as_texts(caller.headers),
            ),
            request_id=caller.request_id,
            listener=caller.listener,
        )
        return as_modern(answer.result) if answer.result is not None else answer

    def _answer(self, message: Message, caller: Caller) -> Awaitable[bytes | Answer]:
        if caller.searches and message.method == "tools/call":
            return self._searched(message, caller)
        return self._relayed(message, caller, headers=caller.headers)

    async def _searched(self, message: Message, caller: Caller) -> bytes | Answer:
        """Answer a call of one of the tools that stand for all, or of any other."""
        found = await caller.view.search.answer(
            message.params, self._dispatch.seeker(caller.principal, caller.request_id)
        )
        if isinstance(found, Chosen):  # its headers say call_tool's parameters, and it has none
            chosen = msgspec.structs.replace(message, method=found.method, params=found.params)
            return await self._relayed(chosen, caller, headers=None)
        return as_modern(found) if found is not None else await self._relayed(message, caller, headers=caller.headers)

    async def _relayed(
        self, message: Message, caller: Caller, *, headers: Sequence[tuple[bytes, bytes]] | None
    ) -> bytes | Answer:
        """Ask whose server it is; `headers` mirror the message, None: they mirror the `tools/call` that it stands in."""
        asked = read_request(caller.view, message.method, message.params, message.meta)
        if not isinstance(asked, Asked):
            return as_modern(asked)
        callee, request = asked
        if headers is not None and isinstance(callee, Tool):
            _check_parameters(callee, message.params.get("arguments"), headers)
        elif headers is not None and isinstance(callee, Server):
            request = _with_headers(request, headers)
        request = with_headers(callee, request, caller.headers)
        answer = await self._dispatch.relay(
            caller.principal, callee, request, request_id=caller.request_id, listener=caller.listener
        )
        if answer.result is None:
            return _as_modern_error(answer) if isinstance(callee, Resource) else answer
        result = caller.view.shown(callee, answer.result)
        if tasks.is_task(result):
            result = self._made(result, message, caller, callee)
        if headers is None and isinstance(callee, Prompt):
            result = as_tool_result(callee, result)
        return as_modern(result if message.method != "resources/read" else _cached_by_nobody_else(result))

    def _made(self, result: RawObject, message: Message, caller: Caller, callee: Feature | Server) -> RawObject:
        """The task that a call became, as its caller may know it; raises `UpstreamInvalid`."""
        if not isinstance(callee, Tool) or not tasks.declares(message.meta):
            raise UpstreamInvalid(callee.grant_name, "it made a task of a request whose caller cannot follow tasks")
        name = decode(message.params["name"])
        return self._dispatch.tasks.made(result, callee, shown=name, principal=caller.principal)


LOCAL = frozenset({"server/discover", *(of.method for of in LISTS.values())})
"""What the hub answers from the view, without asking anybody."""


def _with_headers(request: Request, headers: Sequence[tuple[bytes, bytes]]) -> Request:
    """A request of a method that the hub does not know, with the headers that mirror its body."""
    said = [(name.decode(), value.decode("latin-1").strip(" \t")) for name, value in headers]
    name = next((value for name, value in said if name == "mcp-name"), None)
    return msgspec.structs.replace(
        request,
        name=None if name is None else mirrored.decode_header(name),
        headers=tuple((name, value) for name, value in said if name.startswith("mcp-param-")),
    )


def _as_modern_error(answer: Answer) -> Answer:
    """Older servers have a code of their own for what is not there."""
    if answer.error_code != RESOURCE_NOT_FOUND or answer.error is None:
        return answer
    return Answer(error=msgspec.Raw(encode({**read_object(answer.error), "code": -32602})))


def _cached_by_nobody_else(result: RawObject) -> RawObject:
    """What was read, to be kept as long as its server says but no longer than a list, and by the caller alone."""
    try:
        ttl = decode(result["ttlMs"]) if "ttlMs" in result else 0
    except ParseFailed:
        ttl = 0
    kept = min(ttl, TTL_MS) if isinstance(ttl, int) and ttl > 0 else 0
    return {**result, "ttlMs": msgspec.Raw(encode(kept)), "cacheScope": msgspec.Raw(b'"private"')}


def _check_parameters(tool: Tool, arguments: msgspec.Raw | None, headers: Sequence[tuple[bytes, bytes]]) -> None:
    if not mirrored.annotated(tool.description):
        return
    given = [(name, value) for name, value in headers if name.startswith(b"mcp-param-")]
    said = dict(given)
    twice = next((name for name, times in Counter(name for name, _ in given).items() if times > 1), None)
    schema = decode(tool.description)["inputSchema"]
    wrong = mirrored.mismatch(schema, decode(arguments) if arguments is not None else {}, said)
    if twice is not None or wrong is not None:
        raise HeaderMismatch(twice.decode() if twice is not None else str(wrong))
