"""Ids of what providers keep, translated both ways: the hub's to the provider's for who owns them, the provider's to the hub's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from llm import router
from llm.platform import references
from llm.platform.references import Change, Places
from llm.platform.sealed_ids import Kind, Owned, SealedIds
from llm.providers.endpoints import Endpoints
from llm.providers.table import TABLE
from registry import judged
from registry.catalog import Catalog
from registry.entries import Model
from registry.errors import InvalidRequest, NotFound, ParseFailed, UpstreamInvalid
from registry.identity import Principal
from registry.judged import RawObject
from registry.sealed.provider_objects import ProviderObjects
from registry.store.tables.sealed import ProviderObject

Show = Callable[[bytes], Awaitable[bytes]]

_REFUSED: dict[Kind, str] = {
    "prompt": "prompts that a provider keeps cannot be used, send their text",
    "skill": "skills that a provider keeps for its customers cannot be used, only those of its own (type anthropic)",
    "voice": "voices that a provider keeps for its customers cannot be used, only those of its own, by their names",
    "thread": "threads that a provider keeps cannot be continued, send their messages",
    "response": "responses that a provider keeps cannot be compared with",
}
"""Of what nothing is made through the hub."""


class Opened(NamedTuple):
    """A thing that is open to the caller, and where it is."""

    owned: Owned
    entry: Model
    """The model as grants and usage know it."""
    place: Model
    """The deployment that has the thing."""


class OwnedIds:
    """Opens and makes ids. One for a process."""

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        *,
        ids: SealedIds,
        rows: ProviderObjects,
        endpoints: Endpoints,
    ) -> None:
        self._catalog = catalog
        self._ids = ids
        self._endpoints = endpoints
        self.rows = rows

    def opened(self, kind: Kind, text: str, principal: Principal) -> Opened:
        """What an id says, if the thing is open to `principal` and the model whose provider has it still is.

        Raises:
            NotFound: one answer for all else.
        """
        owned = self._ids.opened(kind, text, principal)
        try:
            entry = router.find(self._catalog().models, owned.model)
        except NotFound:
            raise NotFound(kind, text) from None
        keeping = [one for one in entry.places() if self._endpoints.keeps(one) or _may_cite(one)]
        place = next((one for one in keeping if self._endpoints.name_of(one) == owned.place), None)
        if place is None or not principal.grants.allow("model", entry.grant_name):
            raise NotFound(kind, text)
        return Opened(owned, entry, place)

    def at(self, place: Model, principal: Principal) -> Change:
        """What gives the provider at `place` its own names for `principal`'s ids.

        The change raises:
            NotFound: the id is nobody's, or not the caller's.
            InvalidRequest: the thing is elsewhere.
        """

        def change(kind: Kind, text: str) -> str:
            if kind in _REFUSED:
                raise InvalidRequest(f"{_REFUSED[kind]}: whose they are is not known here", member=kind)
            opened = self.opened(kind, text, principal)
            if not self._endpoints.share_account(opened.place, place):
                raise InvalidRequest(
                    f"the {kind} {text} is at the provider of {opened.entry.name}, not at that of {place.name}"
                )
            return opened.owned.name

        return change

    def sent(self, data: bytes, format: str, place: Model, principal: Principal) -> bytes:  # noqa: A002  # as ModelRequest's
        """A request to a model with the provider's names in it; raises as the change of `at`."""
        places = references.ASKED.get(format)
        if places is None or not references.mentions(data):
            return data
        return references.in_request(data, places, self.at(place, principal))

    def shows(self, data: bytes, format: str, place: Model, principal: Principal) -> Show | None:  # noqa: A002  # as above
        """What puts the hub's ids into the answer to a request, or into an event of its stream; None: it holds none.

        The change raises:
            UpstreamInvalid: this is no JSON.
        """
        places = references.ANSWERED.get(format)
        if places is None or not references.may_be_cited(data, format):
            return None
        like = self.own(principal, place, place)

        async def show(answer: bytes) -> bytes:
            if not references.cites(answer):
                return answer
            try:
                return judged.encode(await self.shown(answer, places, like, principal))
            except (ParseFailed, InvalidRequest):
                raise UpstreamInvalid(place.name, "its answer is not a JSON object") from None

        return show

    def own(self, principal: Principal, entry: Model, place: Model, *, name: str = "", purpose: str = "") -> Owned:
        """What is to be said of a thing that is made for `principal` now."""
        return Owned(
            owner=principal.id,
            team=principal.team_id,
            model=entry.name,
            place=self._endpoints.name_of(place),
            name=name,
            purpose=purpose,
        )

    async def shown(self, data: bytes, places: Places, like: Owned, principal: Principal) -> RawObject:
        """A provider's answer with the hub's ids; what the hub has not seen before belongs to whom `like` does.

        Raises:
            ParseFailed, InvalidRequest: it is not an object.
        """
        members = judged.read_object(data)
        mentioned: defaultdict[Kind, set[str]] = defaultdict(set)

        def collect(kind: Kind, name: str) -> str:
            mentioned[kind].add(name)
            return name

        references.in_object(members, places, collect)
        known = {kind: await self.rows.ids(kind, like.place, names, principal) for kind, names in mentioned.items()}

        def change(kind: Kind, name: str) -> str:
            return known[kind].get(name) or self._ids.made(kind, msgspec.structs.replace(like, name=name))

        return references.in_object(members, places, change)

    def made(self, kind: Kind, owned: Owned) -> str:
        """The id of a thing."""
        return self._ids.made(kind, owned)

    async def note(self, kind: Kind, owned: Owned, members: RawObject | None) -> None:
        """Keep a thing for lists; `members` is how it is shown, None: it was only heard of."""
        expires_at = judged.decode(members["expires_at"]) if members and "expires_at" in members else None
        await self.rows.note(
            ProviderObject(
                id=self.made(kind, owned),
                kind=kind,
                place=owned.place,
                name=owned.name,
                owner=owned.owner,
                team=owned.team,
                purpose=owned.purpose,
                shown=None if members is None else judged.encode(members).decode(),
                expires_at=float(expires_at) if isinstance(expires_at, int | float) and kind == "file" else None,
            )
        )


def _may_cite(place: Model) -> bool:
    """Whether answers of a model name what its provider's tools made."""
    row = TABLE.get(place.provider)
    return row is not None and not references.ANSWERED.keys().isdisjoint(row.formats)
