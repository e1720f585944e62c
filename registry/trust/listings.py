"""What MCP servers offer, as they last said it: the SQL. Knows no catalog.

All that a server listed is read as one value: each step of SQLite gives the interpreter away, and a busy event loop gives it
back some milliseconds later, which thousands of tools would turn into half a minute.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import itemgetter

import msgspec
from sqlmodel import Session, col, delete, select, update

from registry.entries import ListedKind
from registry.store.tables.trust import ListedFeature
from registry.trust.scanning import Finding

_ROWS = (
    "SELECT server, json_group_array(json_array("
    "position, name, exposed, CAST(description AS TEXT), quarantined, kind, drift, json(findings)))"
    " FROM listed WHERE principal = ? {more} GROUP BY server ORDER BY server"
)


class Listed(msgspec.Struct, frozen=True, gc=False):
    """One thing as a server listed it. `quarantined` says why it is not offered; None: it may be."""

    name: str
    exposed: str
    description: bytes
    quarantined: str | None = None
    kind: ListedKind = "tool"
    drift: str | None = None
    """What of it is not as it was approved: its members' names, or `new`."""
    findings: tuple[Finding, ...] = ()


_place = itemgetter(0, 1)
_decode = msgspec.json.Decoder(
    list[tuple[int, str, str, str, str | None, ListedKind, str | None, tuple[Finding, ...]]]
).decode


def read_all(session: Session) -> dict[str, list[Listed]]:
    """What each server listed to everybody, in its order."""
    return _read(session, _ROWS.format(more=""), ("",))


def read_one(session: Session, server: str, kinds: Collection[ListedKind], principal: str = "") -> list[Listed]:
    """What a server listed of some kinds, in its order; to a principal's account, what of that is kept."""
    found = _read(session, _ROWS.format(more="AND server = ?"), (principal, server)).get(server, ())
    return [one for one in found if one.kind in kinds]


def replace(
    session: Session, server: str, kinds: Collection[ListedKind], found: Sequence[Listed], principal: str = ""
) -> None:
    """Put `found` in the place of all that a server listed of some kinds, to everybody or to a principal's account."""
    here = (col(ListedFeature.principal) == principal, col(ListedFeature.server) == server)
    session.exec(delete(ListedFeature).where(*here, col(ListedFeature.kind).in_(kinds)))
    rows = [
        ListedFeature(
            principal=principal,
            server=server,
            position=position,
            **{**msgspec.structs.asdict(one), "findings": msgspec.json.encode(one.findings).decode()},
        )
        for position, one in enumerate(found)
    ]
    session.add_all(rows)


def accounts(session: Session, server: str, most: int) -> list[str]:
    """At most so many principals to whose accounts a server listed what is not as it was approved."""
    query = select(ListedFeature.principal).where(ListedFeature.server == server, ListedFeature.principal != "")
    return list(session.exec(query.distinct().order_by(ListedFeature.principal).limit(most)).all())


def settle(session: Session, server: str, row: Listed, principal: str) -> None:
    """Note that a thing is as it was approved: of what is listed to an account nothing else is kept."""
    here = (
        col(ListedFeature.principal) == principal,
        col(ListedFeature.server) == server,
        col(ListedFeature.kind) == row.kind,
        col(ListedFeature.name) == row.name,
    )
    session.exec(
        delete(ListedFeature).where(*here) if principal else update(ListedFeature).where(*here).values(drift=None)
    )


def forget(session: Session, server: str) -> None:
    """Remove all that a server listed."""
    session.exec(delete(ListedFeature).where(col(ListedFeature.server) == server))


def _read(session: Session, query: str, values: tuple[str, ...]) -> dict[str, list[Listed]]:
    rows = session.connection().exec_driver_sql(query, values)
    return {
        server: [
            Listed(name, exposed, said.encode(), why, kind, drift, findings)
            for _, name, exposed, said, why, kind, drift, findings in sorted(_decode(listed), key=_place)
        ]
        for server, listed in rows
    }
