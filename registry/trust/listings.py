"""What MCP servers offer, as they last said it: the SQL. Knows no catalog.

All that a server listed is read as one value: each step of SQLite gives the interpreter away, and a busy event loop gives it
back some milliseconds later, which thousands of tools would turn into half a minute.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import itemgetter

import msgspec
from sqlmodel import Session, col, delete

from registry.entries import ListedKind
from registry.store.tables.trust import ListedFeature
from registry.trust.scanning import Finding

_ROWS = (
    "SELECT server, json_group_array(json_array("
    "position, name, exposed, CAST(description AS TEXT), quarantined, kind, drift, json(findings)))"
    " FROM listed {where} GROUP BY server ORDER BY server"
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
    """What each server listed, in its order."""
    return _read(session, _ROWS.format(where=""), ())


def read_one(session: Session, server: str, kinds: Collection[ListedKind]) -> list[Listed]:
    """What a server listed of some kinds, in its order."""
    found = _read(session, _ROWS.format(where="WHERE server = ?"), (server,)).get(server, ())
    return [one for one in found if one.kind in kinds]


def replace(session: Session, server: str, kinds: Collection[ListedKind], found: Sequence[Listed]) -> None:
    """Put `found` in the place of all that a server listed of some kinds."""
    forget(session, server, kinds)
    rows = [
        ListedFeature(
            server=server,
            position=position,
            **{**msgspec.structs.asdict(one), "findings": msgspec.json.encode(one.findings).decode()},
        )
        for position, one in enumerate(found)
    ]
    session.add_all(rows)


def forget(session: Session, server: str, kinds: Collection[ListedKind] | None = None) -> None:
    """Remove what a server listed of some kinds; None: of all."""
    wanted = [col(ListedFeature.server) == server]
    if kinds is not None:
        wanted.append(col(ListedFeature.kind).in_(kinds))
    session.exec(delete(ListedFeature).where(*wanted))


def _read(session: Session, query: str, values: tuple[str, ...]) -> dict[str, list[Listed]]:
    rows = session.connection().exec_driver_sql(query, values)
    return {
        server: [
            Listed(name, exposed, said.encode(), why, kind, drift, findings)
            for _, name, exposed, said, why, kind, drift, findings in sorted(_decode(listed), key=_place)
        ]
        for server, listed in rows
    }
