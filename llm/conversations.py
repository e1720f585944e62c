"""Conversations of OpenAI's Responses API: items that are kept in order, added to by their owner and by responses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from llm.wire import response_items
from llm.wire.response_items import MAX_ITEMS, Page
from llm.wire.responses import check_metadata
from registry import judged
from registry.errors import Conflict, InvalidRequest, NotFound
from registry.identity import Principal
from registry.judged import JsonObject, decode, encode
from registry.sealed.kept import Kept
from registry.sealed.secrets import new_id

KIND = "conversation"

MAX_ADDED = 20
"""Items that a client may add at a time, as OpenAI has it."""

MAX_BYTES = 32 * 1024 * 1024
"""Of a whole conversation."""


class Conversations:
    """All conversations. One for a process."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._busy: dict[str, asyncio.Event] = {}
        """Those in which a response is being made, until it is."""

    async def create(self, body: bytes, principal: Principal) -> JsonObject:
        """Begin one, perhaps with items."""
        asked = _read(body)
        name = new_id("conv")
        conversation = {
            "id": name,
            "object": "conversation",
            "created_at": int(time.time()),
            "metadata": check_metadata(asked.get("metadata")),
        }
        items = response_items.identified(_new_items(asked.get("items")), _token())
        await self._kept.put(KIND, name, principal, encode({"conversation": conversation, "items": items}))
        return conversation

    async def retrieve(self, name: str, principal: Principal) -> JsonObject:
        """The conversation without its items; raises `NotFound`."""
        found: JsonObject = (await self._record(name, principal))["conversation"]
        return found

    async def update(self, name: str, body: bytes, principal: Principal) -> JsonObject:
        """Give it other metadata; raises `NotFound`."""
        metadata = check_metadata(_read(body).get("metadata"))

        def edit(record: JsonObject) -> None:
            record["conversation"]["metadata"] = metadata

        found: JsonObject = (await self._edit(name, principal, edit))["conversation"]
        return found

    async def delete(self, name: str, principal: Principal) -> JsonObject:
        """Forget it; raises `NotFound`."""
        if not await self._kept.delete(KIND, name, principal):
            raise NotFound(KIND, name)
        return {"id": name, "object": "conversation.deleted", "deleted": True}

    async def items(self, name: str, page: Page, principal: Principal) -> JsonObject:
        """A page of its items; raises `NotFound`."""
        return page.cut((await self._record(name, principal))["items"])

    async def item(self, name: str, item: str, principal: Principal) -> JsonObject:
        """One of its items; raises `NotFound`."""
        for found in (await self._record(name, principal))["items"]:
            if found["id"] == item:
                one: JsonObject = found
                return one
        raise NotFound("item", item)

    async def add_items(self, name: str, body: bytes, principal: Principal) -> JsonObject:
        """Add items at its end, and list them; raises `NotFound`."""
        asked = _read(body)
        if asked.get("items") is None:
            raise InvalidRequest("items is required", member="items")
        added = await self.add(name, _new_items(asked["items"]), principal)
        return Page(limit=MAX_ADDED, order="asc").cut(added)

    async def delete_item(self, name: str, item: str, principal: Principal) -> JsonObject:
        """Take one of its items out; raises `NotFound`."""

        def edit(record: JsonObject) -> None:
            left = [found for found in record["items"] if found["id"] != item]
            if len(left) == len(record["items"]):
                raise NotFound("item", item)
            record["items"] = left

        found: JsonObject = (await self._edit(name, principal, edit))["conversation"]
        return found

    async def add(self, name: str, items: Sequence[JsonObject], principal: Principal) -> list[JsonObject]:
        """Add whole items at its end, each under an id of its own there, and return them; raises `NotFound`."""
        added: list[JsonObject] = []

        def edit(record: JsonObject) -> None:
            taken = {found["id"] for found in record["items"]}
            added[:] = response_items.identified(items, _token(), taken)
            record["items"] += added
            if len(record["items"]) > MAX_ITEMS:
                raise InvalidRequest(f"a conversation may hold {MAX_ITEMS} items; begin another", member="conversation")

        await self._edit(name, principal, edit)
        return added

    @asynccontextmanager
    async def turn(
        self, name: str | None, principal: Principal, *, is_patient: bool = False
    ) -> AsyncIterator[list[JsonObject]]:
        """What was said in a conversation so far; nobody else's response is made in it meanwhile. None: in no conversation.

        Who `is_patient` waits for the response that is being made in it.

        Raises:
            NotFound: there is no such conversation.
            Conflict: another response is being made in it.
        """
        if name is None:
            yield []
            return
        await self._record(name, principal)  # that it is busy is no stranger's business
        while (busy := self._busy.get(name)) is not None:
            if not is_patient:
                raise Conflict("Another response is being made in this conversation; try again when it is complete.")
            await busy.wait()
        self._busy[name] = asyncio.Event()
        try:
            yield (await self._record(name, principal))["items"]
        finally:
            self._busy.pop(name).set()

    async def _record(self, name: str, principal: Principal) -> Any:
        value = await self._kept.get(KIND, name, principal)
        if value is None:
            raise NotFound(KIND, name)
        return decode(value)

    async def _edit(self, name: str, principal: Principal, edit: Callable[[JsonObject], None]) -> Any:
        def edited(value: bytes) -> bytes:
            record = decode(value)
            edit(record)
            written = encode(record)
            if len(written) > MAX_BYTES:
                raise InvalidRequest(f"a conversation may hold {MAX_BYTES} bytes; begin another", member="conversation")
            return written

        value = await self._kept.edit(KIND, name, principal, edited)
        if value is None:
            raise NotFound(KIND, name)
        return decode(value)


def _token() -> str:
    return new_id("")[1:]


_MEMBERS = frozenset({"items", "metadata"})


def _read(body: bytes) -> JsonObject:
    top = judged.body(body or b"{}", _MEMBERS)
    judged.check_spelling(top, _MEMBERS)
    return {name: decode(raw) for name, raw in top.items()}


def _new_items(value: Any) -> list[JsonObject]:
    if value is not None and not isinstance(value, list):
        raise InvalidRequest("items must be a list of items", member="items")
    if len(value or ()) > MAX_ADDED:
        raise InvalidRequest(f"{MAX_ADDED} items may be added at a time", member="items")
    items = response_items.read(value)
    if any(item["type"] == response_items.REFERENCE for item in items):
        raise InvalidRequest("a conversation holds items, and no references to them", member="items")
    return items
