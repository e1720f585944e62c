"""The policy's versions: numbered, each written whole, the newest in force. What the file says is noted with them.

A version holds the rules that were made through the API and those that the file said then. Rolling back writes the API's
rules of an older version as a new one; the file's are the file's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from sqlmodel import Session, col, select

from registry.errors import Conflict, InvalidRequest, NotFound
from registry.identity import Principal
from registry.rules.policy import MAX_RULES, Policy, Rule, RuleInvalid
from registry.store.db import Database
from registry.store.tables.hub import Change
from registry.store.tables.rules import PolicyRow

FILE = "file"
"""Who made a version that a change of the file made."""


class Version(NamedTuple):
    """The policy as it was from one moment to the next version's."""

    number: int
    at: float
    """In seconds since 1970."""
    by: str
    """Id of the principal, or `FILE`."""
    by_name: str
    of_file: tuple[Rule, ...]
    rules: tuple[Rule, ...]
    """Those made through the API, which come after the file's."""


NONE = Version(0, 0.0, FILE, FILE, (), ())


class Policies:
    """All versions of the policy."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, before: int | None, limit: int) -> list[Version]:
        """At most `limit` versions, newest first, older than `before`."""
        query = select(PolicyRow).order_by(col(PolicyRow.number).desc()).limit(limit)
        if before is not None:
            query = query.where(col(PolicyRow.number) < before)
        return [_read(row) for row in await self._database.read(lambda session: session.exec(query).all())]

    async def find(self, number: int) -> Version:
        """One version; raises `NotFound`."""
        row = await self._database.read(lambda session: session.get(PolicyRow, number))
        if row is None:
            raise NotFound("policy version", str(number))
        return _read(row)

    async def put(self, rules: Sequence[Rule], by: Principal, *, instead_of: int | None = None) -> Version:
        """Make `rules` those of the API; `instead_of` is the version that they were written for.

        Raises:
            InvalidRequest: one of them cannot be used.
            Conflict: another version came meanwhile.
        """
        check(rules)

        def write(session: Session) -> Version:
            now = latest(session)
            if instead_of not in (None, now.number):
                raise Conflict(f"The policy is at version {now.number}, not {instead_of}: look at what has changed.")
            check([*now.of_file, *rules])
            return _write(session, now.of_file, rules, by.id, by.name)

        return await self._database.write(write)

    async def follow_file(self, rules: Sequence[Rule]) -> None:
        """Note what the file says, if it says something new."""

        def write(session: Session) -> None:
            now = latest(session)
            if now.of_file != tuple(rules):
                _write(session, rules, now.rules, FILE, FILE)

        await self._database.write(write)


def latest(session: Session) -> Version:
    """The version in force."""
    row = session.exec(select(PolicyRow).order_by(col(PolicyRow.number).desc()).limit(1)).first()
    return NONE if row is None else _read(row)


def check(rules: Sequence[Rule]) -> None:
    """Raise `InvalidRequest` for rules that cannot be used together."""
    if len(rules) > MAX_RULES:
        raise InvalidRequest(f"more than {MAX_RULES} rules", member="rules")
    names: set[str] = set()
    for rule in rules:
        if rule.name in names:
            raise InvalidRequest(f"two rules are called {rule.name!r}", member="rules")
        names.add(rule.name)
        try:
            Policy([rule])
        except RuleInvalid as error:
            raise InvalidRequest(f"rule {rule.name!r}: {error}", member="rules") from None


def _write(session: Session, of_file: Sequence[Rule], rules: Sequence[Rule], by: str, by_name: str) -> Version:
    row = PolicyRow(
        at=time.time(),
        by=by,
        by_name=by_name,
        of_file=msgspec.json.encode(list(of_file)).decode(),
        rules=msgspec.json.encode(list(rules)).decode(),
    )
    session.add(row)
    session.add(Change(kind="catalog", name="policy"))
    session.flush()
    return _read(row)


def _read(row: PolicyRow) -> Version:
    assert row.number is not None, "it is written"
    of_file, rules = (msgspec.json.decode(text, type=tuple[Rule, ...]) for text in (row.of_file, row.rules))
    return Version(row.number, row.at, row.by, row.by_name, of_file, rules)
