"""The registry: puts the catalog together from the file and the database, and swaps it whole when either changes."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlmodel import Session, col, delete, func, select

from registry.assembly import SHARING, AnyEntry, Stored, assemble, declared_entries
from registry.callers.keys import Keys
from registry.catalog import Catalog
from registry.declared.config import Declared
from registry.declared.stored import stored_entry
from registry.entries import Agent, ListedKind, Model, Server, Tool, Toolset
from registry.errors import Conflict, InvalidRequest, NotFound, Overloaded
from registry.identity import Principal
from registry.judged import JsonObject
from registry.rules.policies import Policies, Version, latest
from registry.rules.policy import Policy, Rule, under
from registry.rules.redacting import with_rules
from registry.sealed import places
from registry.sealed.secrets import Sealer, SecretKeyInvalid
from registry.store.db import Database
from registry.store.tables.declared import StoredEntry, SwitchedOff
from registry.store.tables.hub import Change
from registry.store.tables.sealed import OAuthClient, StoredCredential
from registry.store.tables.trust import ApprovedCard
from registry.trust import listings, pins
from registry.trust.listings import Listed
from registry.trust.scanning import Names

logger = logging.getLogger(__name__)

EntryKind = Literal["agent", "server", "model"]
StoredKind = EntryKind | Literal["toolset"]

Listener = Callable[[Catalog, Catalog], None]
"""Called in the event loop with the old and the new catalog, after the swap."""

TOOLS: tuple[ListedKind, ...] = ("tool",)

KEPT_CHANGES = 1000
"""Changes that are kept when the hub starts. A process that missed older ones reads everything anew."""

POLL_S = 0.2
"""How often another process's changes are looked for: well within the second in which a revoked key must be refused."""


class Registry:
    """Owns the current catalog; the only one who replaces it."""

    def __init__(self, database: Database, sealer: Sealer, keys: Keys) -> None:
        self.catalog = Catalog(number=0)
        self.keys = keys
        keys.under = lambda principal: under(self.catalog.policy, principal)
        self.policies = Policies(database)
        self._database = database
        self._sealer = sealer
        self._declared = Declared()
        self._seen = -1
        """The last row of `changes` that was applied; -1: nothing was read yet."""
        self._all: dict[tuple[str, str], AnyEntry] = {}
        self._listeners: list[Listener] = []
        self.agent_tools: Callable[[Mapping[str, Agent]], Mapping[str, Tool]] = lambda _agents: {}
        """Says which tools agents are, by exposed names. Called whenever the catalog is put together; must not wait."""
        self._rebuilding = asyncio.Lock()
        self._wanted = self._built = 0
        """How often a new catalog was asked for, and how much of that the current one answers."""

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` at each new catalog, for the life of the process."""
        self._listeners.append(listener)

    async def follow_file(self, declared: Declared) -> None:
        """Make `declared` what the file says; requests under way keep the catalog they began with."""
        if self._seen < 0:  # before anything is read: `watch` goes on from here
            self._seen = await self._last_change()
            await self._database.append(_prune_changes, None)
        await self.keys.follow_file(list(declared.keys))
        await self.policies.follow_file(declared.policy)
        self._declared = declared
        await self._rebuild()

    async def renew(self) -> None:
        """Put the catalog together anew: what is said of its agents has changed."""
        await self._rebuild()

    async def show(self, declared: Declared) -> None:
        """Put the catalog together for looking at it: as `follow_file`, but nothing is written."""
        self._declared = declared
        await self._rebuild()

    async def set_policy(self, rules: Sequence[Rule], by: Principal, *, instead_of: int | None = None) -> Version:
        """Make `rules` those of the API, in force when this returns; raises as `Policies.put`."""
        made = await self.policies.put(rules, by, instead_of=instead_of)
        await self._rebuild()
        return made

    async def put(self, kind: StoredKind, name: str, body: JsonObject, *, trusted: bool) -> None:
        """Store an entry made through the API; usable when this returns.

        Raises:
            InvalidRequest: the body says so.
            Conflict: the name is taken, by the file or by a stored entry.
        """
        stored_entry(kind, name, body, trusted=trusted)
        kinds = [kind, SHARING[kind]] if kind in SHARING else [kind]
        of_file = declared_entries(self._declared)
        for taken in kinds:
            if (taken, name) in of_file:
                raise Conflict(f"The file declares a {taken} named {name!r}.")
        sealed = self._sealer.seal(msgspec.json.encode(body), about=places.entry(kind, name))

        def insert(session: Session) -> None:
            for taken in kinds:
                if session.get(StoredEntry, (taken, name)) is not None:
                    raise Conflict(f"A {taken} named {name!r} exists.")
            session.add(StoredEntry(kind=kind, name=name, sealed=sealed, trusted=trusted, created_at=time.time()))
            session.add(Change(kind="catalog", name=name))

        await self._database.write(insert)
        await self._rebuild()

    async def replace(self, kind: StoredKind, name: str, body: JsonObject, *, trusted: bool) -> None:
        """Replace a stored entry's body; raises `InvalidRequest`, `NotFound`, or `Conflict` for an entry of the file."""
        stored_entry(kind, name, body, trusted=trusted)
        sealed = self._sealer.seal(msgspec.json.encode(body), about=places.entry(kind, name))

        def update(session: Session) -> None:
            row = self._own(session, kind, name)
            row.sealed, row.trusted = sealed, trusted
            session.add(row)
            session.add(Change(kind="catalog", name=name))

        await self._database.write(update)
        await self._rebuild()

    async def delete(self, kind: StoredKind, name: str) -> None:
        """Remove a stored entry; raises `NotFound`, or `Conflict` for an entry of the file."""

        def remove(session: Session) -> None:
            session.delete(self._own(session, kind, name))
            if kind == "server":
                listings.forget(session, name)
                pins.forget(session, name)
                session.exec(delete(StoredCredential).where(col(StoredCredential.server) == name))
                session.exec(delete(OAuthClient).where(col(OAuthClient.server) == name))
            if kind == "agent":  # another of this name is seen for the first time
                session.exec(delete(ApprovedCard).where(col(ApprovedCard.agent) == name))
            session.add(Change(kind="catalog", name=name))

        await self._database.write(remove)
        await self._rebuild()

    def all_of(self, kind: EntryKind) -> dict[str, Agent | Server | Model]:
        """All entries of a kind by name, those switched off included."""
        entries = ((of_kind, name, entry) for (of_kind, name), entry in self._all.items())
        return {name: entry for of_kind, name, entry in entries if of_kind == kind and not isinstance(entry, Toolset)}

    def toolsets(self) -> dict[str, Toolset]:
        """All toolsets by name, those switched off included."""
        return {name: entry for (_, name), entry in self._all.items() if isinstance(entry, Toolset)}

    async def body(self, kind: StoredKind, name: str) -> JsonObject | None:
        """The stored body of an entry made through the API, secrets included; None: not stored here."""
        row = await self._database.read(lambda session: session.get(StoredEntry, (kind, name)))
        if row is None:
            return None
        found: JsonObject = msgspec.json.decode(self._sealer.open(row.sealed, about=places.entry(kind, name)))
        return found

    async def switch(self, kind: StoredKind, name: str, *, on: bool) -> None:
        """Switch an entry on or off, whoever owns it, at once and lastingly."""

        def change(session: Session) -> None:
            row = session.get(SwitchedOff, (kind, name))
            if on and row is not None:
                session.delete(row)
            elif not on and row is None:
                session.add(SwitchedOff(kind=kind, name=name))
            session.add(Change(kind="catalog", name=name))

        await self._database.write(change)
        await self._rebuild()

    async def set_listing(
        self,
        server: str,
        found: Sequence[Listed],
        *,
        kinds: Collection[ListedKind] = TOOLS,
        own: Sequence[Listed] = (),
    ) -> list[Listed]:
        """Replace what `server` offers of `kinds` with `found`, in its order; of several of one name the first counts.

        What was found is compared with what was approved; `own` is the hub's, and is not. Returns all of it, with the
        reasons of what is withheld.
        """
        first: dict[tuple[str, str], Listed] = {}
        for one in (*own, *found):
            first.setdefault((one.kind, one.name), one)
        others = first.keys() - {(one.kind, one.name) for one in own}
        entry = self.catalog.servers.get(server) or Server(name=server)
        examined = await self._examined(server, [one for key, one in first.items() if key in others])

        def look(session: Session) -> tuple[list[Listed], pins.Judged]:
            return listings.read_one(session, server, kinds), pins.judge(session, entry, examined)

        def replace(session: Session) -> list[Listed]:
            judged = pins.judge(session, entry, examined)  # another process may have seen it meanwhile
            pins.keep(session, entry, judged)
            rows = [*own, *judged.rows]
            listings.replace(session, server, kinds, rows)
            session.add(Change(kind="catalog", name=server))
            return rows

        before, judged = await self._database.read(look)
        rows = [*own, *judged.rows]
        if before != rows or judged.first:
            rows = await self._database.write(replace)
            await self._rebuild()
        return list(pins.offered(entry, rows))

    async def judge_own(
        self, server: Server, found: Mapping[ListedKind, Sequence[Listed]], principal: Principal
    ) -> list[Listed]:
        """Compare what a server listed to a principal's own account with what was approved; no catalog has it.

        Raises:
            Overloaded: what was approved cannot be read.
        """
        examined = await self._examined(server.name, [one for things in found.values() for one in things])

        def drifted(judged: pins.Judged) -> list[Listed]:
            return [row for row in judged.rows if row.drift is not None]

        def look(session: Session) -> tuple[list[Listed], pins.Judged]:
            before = listings.read_one(session, server.name, found.keys(), principal.id)
            return before, pins.judge(session, server, examined, principal.id)

        def keep(session: Session) -> pins.Judged:
            judged = pins.judge(session, server, examined, principal.id)
            pins.keep(session, server, judged, principal.id)
            listings.replace(session, server.name, found.keys(), drifted(judged), principal.id)
            return judged

        try:
            before, judged = await self._database.read(look)
            if before != drifted(judged) or judged.first:
                judged = await self._database.write(keep)
        except SQLAlchemyError as error:
            logger.warning("approvals cannot be read", extra={"server": server.name, "reason": str(error)})
            raise Overloaded("The hub cannot read what was approved; try again shortly.") from None
        return judged.rows

    async def _examined(self, server: str, found: Sequence[Listed]) -> pins.Examined:
        tools = {(tool.server, tool.name) for tool in self.catalog.tools.values() if tool.server != server}
        tools |= {(server, one.name) for one in found if one.kind == "tool"}
        return await asyncio.to_thread(lambda: pins.examine(server, found, Names(tools)))

    async def trust(self, server: Server) -> JsonObject:
        """What is the matter with what a server says, as `registry.trust.pins.state`."""
        return await self._database.read(lambda session: pins.state(session, server))

    async def approve(self, server: Server, assent: pins.Assent) -> None:
        """Approve what a server says now, as `registry.trust.pins.approve`."""

        def write(session: Session) -> None:
            pins.approve(session, server, assent)
            session.add(Change(kind="catalog", name=server.name))

        await self._database.write(write)
        await self._rebuild()

    async def watch(self) -> None:
        """Apply what other processes change, until cancelled.

        While changes cannot be read, keys grow stale and are refused in the end (architecture.md 3.4).
        """
        with self._database.engine.connect() as connection:
            # straight on the driver: it begins no transaction, so nothing here waits for a lock in the event loop
            driver: Any = connection.connection.dbapi_connection
            version: object = None  # a change between the first read of the database and now must be seen too
            while True:
                try:
                    now = driver.execute("PRAGMA data_version").fetchone()
                    if now != version:  # somebody wrote something, mostly our own ledger
                        if driver.execute("SELECT ifnull(max(id), 0) FROM changes").fetchone()[0] != self._seen:
                            await self._apply()
                        version = now
                    self.keys.mark_fresh()
                except (sqlite3.Error, DBAPIError) as error:
                    logger.warning("changes cannot be read", extra={"reason": str(getattr(error, "orig", error))})
                await asyncio.sleep(POLL_S)

    async def _last_change(self) -> int:
        return await self._database.read(lambda session: session.exec(select(func.max(Change.id))).one() or 0)

    async def _apply(self) -> None:
        def newer(session: Session) -> list[Change]:
            return list(session.exec(select(Change).where(col(Change.id) > self._seen).order_by(col(Change.id))).all())

        changes = await self._database.read(newer)
        missed = bool(changes) and changes[0].id != self._seen + 1  # ids have no gaps: those between were pruned
        if missed or any(change.kind == "key" for change in changes):
            self.keys.forget()
        self.keys.mark_fresh()  # whatever a new catalog may take
        if missed or any(change.kind == "catalog" for change in changes):
            await self._rebuild()
        self._seen = max((change.id or 0 for change in changes), default=self._seen)

    async def _rebuild(self) -> None:
        """Have a catalog that was read after this call; all who wait meanwhile get the same one."""
        self._wanted += 1
        mine = self._wanted
        async with self._rebuilding:
            if self._built >= mine:
                return
            wanted, declared, old = self._wanted, self._declared, self.catalog
            stored = await self._read()
            # in a thread: with thousands of tools it takes a good part of a second
            catalog = await asyncio.to_thread(assemble, old.number + 1, declared, stored)
            rules = (*declared.policy, *stored.rules)
            policy = old.policy if old.policy.rules == rules else Policy(rules)
            self.catalog = replace(
                catalog,
                tools={**catalog.tools, **self.agent_tools(catalog.agents)},
                policy=policy,
                guards=with_rules(declared.guards, rules),
            )
            if policy is not old.policy:
                self.keys.forget()
            self._all = {**stored.entries, **declared_entries(declared)}
            self._built = wanted
        for listener in self._listeners:
            listener(old, self.catalog)

    async def _read(self) -> Stored:
        def query(session: Session) -> tuple[list[StoredEntry], Stored]:
            return list(session.exec(select(StoredEntry)).all()), Stored(
                switched_off=frozenset((row.kind, row.name) for row in session.exec(select(SwitchedOff)).all()),
                listed=listings.read_all(session),
                rules=latest(session).rules,
                account_approvals=pins.approvals(session),
            )

        rows, stored = await self._database.read(query)
        for row in rows:
            about = places.entry(row.kind, row.name)
            try:
                body = msgspec.json.decode(self._sealer.open(row.sealed, about=about))
                stored.entries[row.kind, row.name] = stored_entry(row.kind, row.name, body, trusted=row.trusted)
            except (SecretKeyInvalid, InvalidRequest) as error:
                logger.error("stored entry cannot be used", extra={"entry": about, "reason": str(error)})  # noqa: TRY400
        return stored

    def _own(self, session: Session, kind: StoredKind, name: str) -> StoredEntry:
        row = session.get(StoredEntry, (kind, name))
        if row is None:
            if (kind, name) in declared_entries(self._declared):
                raise Conflict(f"The {kind} {name!r} is declared in the file; change it there.")
            raise NotFound(kind, name)
        return row


def _prune_changes(connection: sqlite3.Connection, values: list[None]) -> list[None]:
    connection.execute("DELETE FROM changes WHERE id <= (SELECT max(id) FROM changes) - ?", (KEPT_CHANGES,))
    return values
