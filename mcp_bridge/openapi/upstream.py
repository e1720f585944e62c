"""A service that is described by an OpenAPI document, asked as if it were an MCP server: its tools are the operations."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from mcp_bridge.openapi.answers import Answered, failed, result
from mcp_bridge.openapi.document import MAX_BYTES, Document, DocumentInvalid, read_document
from mcp_bridge.openapi.operations import FIELDS, Configured, Operation
from mcp_bridge.openapi.requests import BadArgument, Target, outgoing
from mcp_bridge.openapi.servers import origin
from mcp_bridge.wire import QUARANTINED, Answer, Request
from registry.declared.source import Fault
from registry.discreet import discreet
from registry.egress.http import Incoming, OpenPermit, Outgoing, Sender
from registry.entries import Server
from registry.errors import Overloaded, UpstreamInvalid, UpstreamTimeout, UpstreamUnavailable
from registry.judged import JsonObject, decode, encode
from registry.members import is_http_url

if TYPE_CHECKING:
    from mcp_bridge.openapi.check import Check

CALL_S = 600.0
"""How long one call may take, from the connection to the last byte."""

DOCUMENT_S = 30.0

AT_ONCE_S = 0.005
CHECK_S = 2.0
"""How much processor time the check of a call's arguments may take in the event loop, and then in a thread."""

WAIT_S = 30.0
"""How long a call waits for its check in a thread."""

_CHARSET = re.compile(r"charset=\"?([A-Za-z0-9._-]{1,40})", re.IGNORECASE)


class OpenApi:
    """One document and the service that it describes."""

    def __init__(self, server: Server, egress: Sender) -> None:
        """`egress` is what the document comes through: it shows no account of anybody's."""
        assert server.openapi is not None
        self.server = server
        self._egress = egress
        self._source = server.openapi
        self._is_url = is_http_url(server.openapi)
        self._loading = asyncio.Lock()
        self._state: object = None
        """What the file, or the document's ETag, was when it was read last."""
        self._document: Document | None = None
        self._target: Target | None = None
        self._checks: dict[str, Check] = {}
        self._checking = asyncio.Lock()
        """Held by the one check that takes long."""

    async def request(self, request: Request, permit: OpenPermit, sender: Sender) -> Answer:
        """Answer `tools/list`, and `tools/call` through `sender`.

        Raises:
            UpstreamError: the document cannot be used, or the service gave no answer.
        """
        if request.method == "tools/list":
            document, _ = await self._current(permit, refresh=True)
            return Answer(result={"tools": msgspec.Raw(encode(_listed(document)))})
        if request.method != "tools/call":
            return _refused(-32601, "An OpenAPI document offers tools only.")
        document, target = await self._current(permit, refresh=False)
        operation = document.operations.get(request.params["name"])
        if operation is None:
            return _refused(-32602, "This operation is no longer in the document.")
        arguments = decode(request.params.get("arguments") or b"{}")
        faults = await self._faults(operation, arguments)
        if faults:
            given = failed("Nothing was sent, since the arguments do not match the schema:\n" + "\n".join(faults))
        else:
            try:
                call = outgoing(operation, arguments, target)
            except BadArgument as bad:
                given = failed(f"Nothing was sent: {bad}.")
            else:
                answered = await _send(call, permit, sender)
                given = self._discreet(result(operation, answered, arguments.get(FIELDS) or []), target)
        return Answer(result={name: msgspec.Raw(encode(value)) for name, value in given.items()})

    def _discreet(self, given: JsonObject, target: Target) -> JsonObject:
        if not given.get("isError"):
            return given
        return decode(discreet(replace(self.server, url=target.base), encode(given)))  # type: ignore[no-any-return]

    async def _faults(self, operation: Operation, arguments: JsonObject) -> list[str]:
        """Check arguments: small ones at once, others in a thread, so that the hub goes on; raises `Overloaded`."""
        check = await self._check(operation)
        faults = check.faults(arguments, AT_ONCE_S)
        if faults is not None:
            return faults
        try:
            async with asyncio.timeout(WAIT_S):
                await self._checking.acquire()
        except TimeoutError:
            raise Overloaded("Too many calls with large arguments are being checked; try again.") from None
        work = asyncio.get_running_loop().run_in_executor(None, check.faults, arguments, CHECK_S)
        work.add_done_callback(lambda _: self._checking.release())  # a caller that leaves does not end the thread
        faults = await asyncio.shield(work)
        return faults if faults is not None else [f"arguments: they cannot be checked within {CHECK_S:.0f} s"]

    async def _check(self, operation: Operation) -> Check:
        check = self._checks.get(operation.name)
        if check is None:
            kind = await asyncio.to_thread(_load_check)
            check = self._checks[operation.name] = kind(operation.tool["inputSchema"])
        return check

    async def _current(self, permit: OpenPermit, *, refresh: bool) -> tuple[Document, Target]:
        """The document, read again if it changed and `refresh` says so; a bad one never replaces a good one."""
        if refresh or self._document is None:  # a call does not wait for a document that is read again
            async with self._loading:
                if refresh or self._document is None:
                    text, state = await (self._fetched(permit) if self._is_url else self._from_file(permit))
                    if text is not None:
                        await self._use(text, permit)
                        self._state = state
        assert self._document is not None
        assert self._target is not None
        return self._document, self._target

    async def _use(self, text: str, permit: OpenPermit) -> None:
        server = self.server
        query = urlsplit(server.url or "").query
        configured = Configured(
            frozenset(name.lower() for name, _ in server.headers),
            frozenset(name for name, _ in parse_qsl(query, keep_blank_values=True)),
            url=server.url,
            source=self._source if self._is_url else None,
        )
        name = "document" if self._is_url else Path(self._source).name
        try:
            document = await asyncio.to_thread(read_document, text, name, configured)
        except DocumentInvalid as error:
            raise UpstreamInvalid(permit.entry_name, f"its OpenAPI document cannot be used: {error}") from None
        self._document = document
        self._target = Target(base=document.base, headers=server.headers, trusted=server.trusted)
        self._checks.clear()

    async def _from_file(self, permit: OpenPermit) -> tuple[str | None, object]:
        try:
            return await asyncio.to_thread(read_file, self._source, self._state)
        except DocumentInvalid as error:
            raise UpstreamUnavailable(permit.entry_name, f"its OpenAPI document {error.fault.text}") from None

    async def _fetched(self, permit: OpenPermit) -> tuple[str | None, object]:
        server = self.server
        headers = [("accept", "application/json, application/yaml;q=0.9, */*;q=0.5")]
        if isinstance(self._state, str):
            headers.append(("if-none-match", self._state))
        if origin(server.url or self._source) == origin(self._source):  # else they are another's
            headers += server.headers
        request = Outgoing(url=self._source, method="GET", headers=tuple(headers), trusted=server.trusted)
        try:
            async with asyncio.timeout(DOCUMENT_S), self._egress.send(permit, request) as incoming:
                if incoming.status == 304 and self._document is not None:
                    return None, self._state
                if incoming.status != 200:
                    raise UpstreamUnavailable(
                        permit.entry_name, f"its OpenAPI document is answered with HTTP {incoming.status}"
                    )
                body = await incoming.read()
        except TimeoutError:
            raise UpstreamTimeout(permit.entry_name, "its OpenAPI document did not come in time") from None
        try:
            return body.decode("utf-8-sig"), incoming.header(b"etag")
        except UnicodeDecodeError:
            raise UpstreamInvalid(permit.entry_name, "its OpenAPI document is not UTF-8") from None


def read_file(name: str, state: object = None) -> tuple[str | None, object]:
    """The text of a file and its state; None: the state is `state` still. Raises `DocumentInvalid`."""
    path = Path(name).expanduser()
    try:
        found = path.stat()
        now = found.st_mtime_ns, found.st_size, found.st_ino
        if now == state:
            return None, state
        if found.st_size > MAX_BYTES:
            raise DocumentInvalid(Fault(name, 1, f"is larger than {MAX_BYTES // 1024 // 1024} MiB"))
        return path.read_text(encoding="utf-8-sig"), now
    except OSError as error:
        raise DocumentInvalid(Fault(name, 1, f"cannot be read: {error.strerror}")) from None
    except UnicodeDecodeError:
        raise DocumentInvalid(Fault(name, 1, "is not UTF-8 text")) from None


def _load_check() -> type[Check]:
    from mcp_bridge.openapi.check import Check  # noqa: PLC0415 - loads jsonschema, which costs a tenth of a second

    return Check


def _listed(document: Document) -> list[JsonObject]:
    bad = [{"name": found.name, "_meta": {QUARANTINED: str(found.fault)}} for found in document.quarantined]
    return [*(operation.tool for operation in document.operations.values()), *bad]


def _refused(code: int, text: str) -> Answer:
    return Answer(error=msgspec.Raw(encode({"code": code, "message": text})))


async def _send(call: Outgoing, permit: OpenPermit, sender: Sender) -> Answered:
    try:
        async with asyncio.timeout(CALL_S), sender.send(permit, call) as incoming:
            return await _read(incoming)
    except TimeoutError:
        raise UpstreamTimeout(permit.entry_name, "it did not answer in time") from None


async def _read(incoming: Incoming) -> Answered:
    encoding: Any = incoming.header(b"content-encoding")
    charset = _CHARSET.search(incoming.header(b"content-type") or "")
    return Answered(
        status=incoming.status,
        media_type=incoming.media_type,
        charset=charset[1] if charset else "utf-8",
        body=await incoming.read(),
        is_encoded=encoding is not None and encoding.lower() != "identity",
        location=incoming.header(b"location"),
        retry_after=incoming.header(b"retry-after"),
    )
