"""Answers requests about what providers keep for callers: files, batches, vector stores, each owned and under the hub's own id."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from msgspec.structs import replace

from llm import router
from llm.expected import flat
from llm.platform import operations, references
from llm.platform.answers import pass_on, used
from llm.platform.batch_lines import BatchLines
from llm.platform.operations import LISTED
from llm.platform.owned import Opened, OwnedIds
from llm.platform.passthrough import Visitor
from llm.platform.references import Places, Shape
from llm.platform.sealed_ids import Kind, Owned
from llm.providers.endpoints import Endpoints, Request
from registry import judged
from registry.catalog import Catalog
from registry.entries import Model
from registry.errors import HubError, InvalidRequest, NotFound, ParseFailed, UpstreamInvalid, UpstreamRejected
from registry.gate import Gate, Permit
from registry.identity import Principal
from registry.judged import RawObject
from registry.sealed.provider_objects import Listing
from registry.store.tables.sealed import ProviderObject

MAX_PAGE = 1000
PAGES = {"file": 1000, "batch": 20, "vector store": 20}
"""How many are listed unless it is said."""

AT_ONCE = 8
"""Things that one list asks providers about at the same time."""

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
"""States of a batch that do not change any more."""

_MADE: dict[str, tuple[Places, Shape]] = {
    "batches": (references.NEW_BATCH, references.BATCH),
    "vector_stores": (references.NEW_STORE, references.STORE),
    "uploads": ({}, references.UPLOAD),
}
"""Where ids stand in what makes a thing, and in the thing."""

_DECIDING = frozenset({"model", "purpose", "input_file_id", "file_ids", "file_id", "files", "part_ids"})
_PAID = ("batches", "vector_stores")
"""What providers charge for making, or adding to. What a batch costs nobody knows before."""

_OUTPUTS = ("output_file_id", "error_file_id")


class Platform:
    """Answers requests below `llm.platform.operations.LISTED`. One for a process."""

    def __init__(self, catalog: Callable[[], Catalog], *, gate: Gate, endpoints: Endpoints, owned: OwnedIds) -> None:
        """`catalog` gives the current snapshot."""
        self._catalog = catalog
        self._gate = gate
        self._endpoints = endpoints
        self._owned = owned

    async def make(self, path: str, data: bytes, query: bytes, visitor: Visitor) -> None:
        """Answer a request that makes a batch, a vector store, or an upload in parts; raises `HubError`."""
        members = judged.body(data, _DECIDING)
        judged.check_spelling(members, _DECIDING)
        asked = judged.read_string(members, "model") or dict(operations.members(query)).get("model")
        sends, answers = _MADE[path]
        purpose = judged.read_string(members, "purpose") if path == "uploads" else None
        if purpose == "batch":
            raise InvalidRequest("the input of a batch is uploaded whole, to /v1/files", member="purpose")
        endpoint = "files" if path == "uploads" else path
        opened = self._input(path, members, visitor.principal)
        if opened is None:
            entry, place = self.chosen(endpoint, asked, visitor.principal)
        elif asked in (None, opened.entry.name):
            entry, place = opened.entry, opened.place
        else:
            entry, place = self.chosen(endpoint, asked, visitor.principal)
            if path == "batches":
                raise InvalidRequest(
                    f"the batch's requests are for {opened.entry.name}, not {entry.name}", member="model"
                )
        members.pop("model", None)
        body = references.in_object(members, sends, self._owned.at(place, visitor.principal))
        with self.admit(entry, visitor) as permit:
            if permit.unjudged:
                await permit.judge(judged.unambiguous(judged.encode(body)))
            self._endpoints.check(place, endpoint)
            request = Request(path=path, body=judged.encode(body))
            like = self._owned.own(visitor.principal, entry, place, purpose=purpose or "")
            if opened is not None and path == "batches" and permit.is_counted:
                like = replace(like, uses=opened.owned.uses)
            shown = await self.asked(permit, Opened(like, entry, place), request, answers, visitor)
            await visitor.sink.reply(200, judged.encode(shown))

    def _input(self, path: str, members: RawObject, principal: Principal) -> Opened | None:
        """The file whose place decides where a thing is made; None: there is none."""
        if path == "batches":
            name = judged.read_string(members, "input_file_id")
            if name is None:
                raise InvalidRequest("input_file_id is missing", member="input_file_id")
            opened = self._owned.opened("file", name, principal)
            if opened.owned.purpose != "batch":
                raise InvalidRequest("the file must be uploaded with purpose batch", member="input_file_id")
            return opened
        files = judged.decode(members["file_ids"]) if "file_ids" in members else None
        first = files[0] if isinstance(files, list) and files else None
        return self._owned.opened("file", first, principal) if isinstance(first, str) else None

    def chosen(self, path: str, name: str | None, principal: Principal) -> tuple[Model, Model]:
        """The model whose provider is to keep something, and its deployment.

        Without a name it is clear if all that `principal` may use and that can keep it is one account of one service.

        Raises:
            NotFound: no such model, or not the principal's.
            InvalidRequest: its provider keeps nothing of this kind, or it is not clear which is meant.
        """
        models = self._catalog().models
        if name is not None:
            entry = router.find(models, name)
            if not principal.grants.allow("model", entry.grant_name):
                raise NotFound("model", name)
            return entry, self._endpoints.place(entry, path)
        able = [
            (entry, place)
            for name, entry in models.items()
            if "*" not in name and entry.unavailable is None and principal.grants.allow("model", entry.grant_name)
            for place in entry.places()
            if self._endpoints.has(place, path)
        ]
        if not able:
            raise InvalidRequest(f"no model that this key may use runs at a provider with /{path}", member="model")
        if any(not self._endpoints.share_account(able[0][1], place) for _, place in able[1:]):
            names = ", ".join(sorted({entry.name for entry, _ in able})[:10])
            raise InvalidRequest(f"say with model at whose provider: one of {names}", member="model")
        return able[0]

    def admit(self, entry: Model, visitor: Visitor) -> Permit:
        """Admit one request to the provider of a model; raises as the gate."""
        return self._gate.admit(visitor.principal, entry, request_id=visitor.request_id)

    async def act(self, method: str, path: str, data: bytes, query: bytes, visitor: Visitor) -> None:
        """Answer a request about something that exists; `path` is as for `operations.find`. Raises `HubError`."""
        operation, ids = operations.find(method, path)
        opened = self._owned.opened(*ids[0], visitor.principal)
        change = self._owned.at(opened.place, visitor.principal)
        names = [opened.owned.name, *(change(kind, text) for kind, text in ids[1:])]
        body = None if operation.sends is None else _body(data, operation.sends, change)
        target = operations.target(operation, names, query, change)
        request = Request(method=method, path=target, body=body)
        with self.admit(opened.entry, visitor) as permit:
            await permit.judge(None)
            try:
                if operation.answers is None:
                    permit.uncounted()
                    async with self._endpoints.send(permit, opened.place, request) as incoming:
                        await pass_on(incoming, visitor.sink)
                    return
                shown = await self.asked(permit, opened, request, operation.answers, visitor)
            except UpstreamRejected as error:
                if error.status != 404:
                    raise
                raise NotFound(*ids[-1]) from None
            if method == "DELETE" and len(ids) == 1:
                await self._owned.rows.forget(ids[0][1])
            await visitor.sink.reply(200, judged.encode(shown))

    async def asked(
        self,
        permit: Permit,
        at: Opened,
        request: Request,
        shape: Shape,
        visitor: Visitor,
        *,
        lines: BatchLines | None = None,
    ) -> RawObject:
        """Ask a provider and return what it answered under the hub's ids, noted for lists if it is a thing that is listed.

        `lines` are those of a batch that pass meanwhile.
        """
        data = await self._answer(permit, at, request)
        if lines is not None:
            at = at._replace(owned=replace(at.owned, uses=lines.uses))
        kind = shape.thing
        try:
            members = judged.read_object(data)
            name = judged.read_string(members, "id")
            if kind == "batch":
                await self._heard_of(at.owned, members)
            shown = await self._owned.shown(data, shape.places, at.owned, visitor.principal)
        except (ParseFailed, InvalidRequest):
            raise UpstreamInvalid(at.entry.name, "its answer is not what it should be") from None
        if shape is references.UPLOAD and bytes(shown.get("file", b"null"))[:1] == b"{":
            file = judged.read_object(members["file"])
            whole = _named(at.owned, judged.read_string(file, "id") or "")
            await self._owned.note("file", whole, judged.read_object(shown["file"]))
        if kind is None or request.method == "DELETE":
            return shown
        if name is None:
            raise UpstreamInvalid(at.entry.name, "its answer has no id")
        own = at.owned if at.owned.name else _named(at.owned, name)
        await self._owned.note(kind, own, shown)
        if kind == "batch":
            await self._meter(permit, own, shown, data)
        return shown

    async def _answer(self, permit: Permit, at: Opened, request: Request) -> bytes:
        """What the provider answers, counted as work where it is some."""
        if request.method != "POST" or not request.path.startswith(_PAID) or request.path.endswith("/cancel"):
            permit.uncounted()
            usd = None
        else:
            usd = flat(at.place.price)
            permit.expect(tokens=sum(at.owned.uses), usd=usd)
        async with self._endpoints.send(permit, at.place, request) as incoming:
            data = await incoming.read()
        if request.path == "batches" and at.owned.uses[0]:  # its output when it has ended
            permit.estimate(input_tokens=at.owned.uses[0], output_tokens=0)
        if usd:
            permit.charge(usd)
        return data

    async def _heard_of(self, batch: Owned, members: RawObject) -> None:
        """Note the files that a batch made: their list is their owner's only way to them."""
        for member in _OUTPUTS:
            name = judged.read_string(members, member)
            if name is not None:
                await self._owned.note("file", _named(batch, name, purpose="batch_output"), None)

    async def _meter(self, permit: Permit, batch: Owned, shown: RawObject, data: bytes) -> None:
        """Count what a batch used beyond what was counted when it was made, once, when it is seen to have ended."""
        usage = used(data) if _state(shown) in ENDED else None
        if usage is not None and await self._owned.rows.meter(self._owned.made("batch", batch)):
            given = max(0, (usage.input_tokens or 0) - batch.uses[0])
            permit.usage = usage._replace(input_tokens=given)

    async def list(self, path: str, query: bytes, visitor: Visitor) -> None:
        """Answer with what is the caller's; raises `HubError`."""
        kind = LISTED[path]
        listing = _listing(kind, dict(operations.members(query)))
        if listing.after is not None:
            self._owned.opened(kind, listing.after, visitor.principal)
        rows, has_more = await self._owned.rows.page(listing, visitor.principal)
        turn = asyncio.Semaphore(AT_ONCE)
        shown = await asyncio.gather(*(self._current(kind, row, turn, visitor) for row in rows))
        ids = [row.id for row in rows]
        first, last = (ids[0], ids[-1]) if ids else (None, None)
        data = [one for one in shown if one is not None]
        page = {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more}
        await visitor.sink.reply(200, judged.encode(page))

    async def _current(self, kind: Kind, row: ProviderObject, turn: asyncio.Semaphore, visitor: Visitor) -> Any:
        """A thing as it is now, else as it was last seen; None: it is no more, or is not for the caller."""
        noted = None if row.shown is None else judged.read_object(row.shown.encode())
        try:
            opened = self._owned.opened(kind, row.id, visitor.principal)
        except NotFound:
            return None
        if noted is not None and (kind == "file" or (kind == "batch" and _state(noted) in ENDED)):
            return noted
        request = Request(method="GET", path=f"{_PATHS[kind]}/{quote(opened.owned.name, safe='')}")
        try:
            async with turn:
                with self.admit(opened.entry, visitor) as permit:
                    await permit.judge(None)
                    return await self.asked(permit, opened, request, _SHAPES[kind], visitor)
        except HubError as error:
            if isinstance(error, UpstreamRejected) and error.status == 404:
                await self._owned.rows.forget(row.id)
                return None
            return noted


_SHAPES: dict[str, Shape] = {"file": references.FILE, "batch": references.BATCH, "vector store": references.STORE}
_PATHS = {kind: path for path, kind in LISTED.items()}


def _named(owned: Owned, name: str, *, purpose: str = "") -> Owned:
    return Owned(
        owner=owned.owner,
        team=owned.team,
        model=owned.model,
        place=owned.place,
        name=name,
        purpose=purpose or owned.purpose,
        uses=(0, 0) if purpose else owned.uses,
    )


def _state(members: RawObject) -> str | None:
    status = judged.decode(members["status"]) if "status" in members else None
    return status if isinstance(status, str) else None


def _body(data: bytes, places: Places, change: references.Change) -> bytes:
    if not data.strip():
        return b"{}"
    members = judged.body(data, _DECIDING)
    judged.check_spelling(members, _DECIDING)
    return judged.encode(references.in_object(members, places, change))


def _listing(kind: Kind, query: dict[str, str]) -> Listing:
    limit, order = query.get("limit", str(PAGES[kind])), query.get("order", "desc")
    if not limit.isascii() or not limit.isdigit() or not 0 < int(limit[:6]) <= 10_000:
        raise InvalidRequest("limit must be a number from 1 to 10000", member="limit")
    if order not in ("asc", "desc"):
        raise InvalidRequest("order must be asc or desc", member="order")
    return Listing(
        kind=kind,
        limit=min(int(limit), MAX_PAGE),
        after=query.get("after"),
        oldest_first=order == "asc",
        purpose=query.get("purpose"),
    )
