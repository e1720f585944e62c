"""What of each MCP server was approved, what it says otherwise now, and what is withheld for it: the SQL and the judgement.

What is seen first of an operator's server is approved by that, except what is found to be dangerous; of a server that
quarantines, everything else that is new or changed waits for somebody's word (docs/trust.md).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlmodel import Session, col, delete, select, update

from registry.entries import ListedKind, Server
from registry.errors import CallerError, Conflict, NotFound
from registry.judged import JsonObject, decode
from registry.store.tables.trust import ApprovedFeature, ListedFeature, SeenServer
from registry.trust import listings
from registry.trust.listings import Listed
from registry.trust.scanning import Finding, Names, scan, visible

NEW = "new"
"""The drift of what nobody approved."""

KINDS: tuple[ListedKind, ...] = ("server", "tool", "prompt", "resource", "template")

UNWATCHED = frozenset({"_meta", "icons", "capabilities", "extensions"})
"""Members that may change."""

MAX_SHOWN = 500
"""Things of one server that are shown with what is the matter with them."""

MAX_DIFFERENCES = 50
MAX_TEXT = 4000
"""Of one thing, and of one side of one difference."""

_WAITS = "waits for the operator's approval"


class Examined(NamedTuple):
    """What was listed, with what was found in it."""

    rows: list[Listed]
    digests: list[str]
    """Of what is watched of each."""


class Judged(NamedTuple):
    """What becomes of what was listed."""

    rows: list[Listed]
    first: list[tuple[Listed, str]]
    """What is approved because it is seen first, with its digest."""
    is_moved: bool
    """Whether the server is elsewhere than it was: then all that was approved of it is void."""


def examine(server: str, rows: Sequence[Listed], names: Names) -> Examined:
    """Scan what was listed. Takes a while for thousands of tools: call it in a thread."""
    found = []
    for row in rows:
        described = _members(row)
        named = row.name if row.kind in {"tool", "prompt"} else ""
        findings = scan(described, names=names, server=server, name=named) if row.quarantined is None else ()
        found.append((msgspec.structs.replace(row, findings=findings), _digest(described)))
    return Examined([row for row, _ in found], [digest for _, digest in found])


def examine_own(server: Server, rows: Sequence[Listed], names: Names) -> list[Listed]:
    """Scan what a server lists to one principal's account: nobody pins that, but what is dangerous is withheld.

    As no operator sees it to approve it, `quarantine_drift: false` lets it pass.
    """
    if server.quarantine_drift is False:
        return list(rows)
    found = examine(server.name, rows, names).rows
    return [row if _grave(row) is None else msgspec.structs.replace(row, drift=NEW) for row in found]


def judge(session: Session, server: Server, examined: Examined) -> Judged:
    """Compare what was listed with what was approved. Reads only."""
    seen = session.get(SeenServer, server.name)
    is_moved = seen is not None and seen.source != _source(server)
    kinds = set() if seen is None or is_moved else set(seen.kinds.split())
    pins = {} if is_moved else _pins(session, server.name)
    rows, first = [], []
    for row, digest in zip(examined.rows, examined.digests, strict=True):
        drift, is_first = None, False
        if row.quarantined is None and (row.kind != "resource" or _grave(row) is not None):
            pin = pins.get((row.kind, row.name))
            if pin is not None and pin.digest != digest:
                drift = _changes(session, server.name, row)
            elif pin is None or (_grave(row) is not None and not pin.by):
                may = not server.quarantines or (server.trusted and row.kind not in kinds)
                is_first = may and _grave(row) is None
                drift = None if is_first else NEW
        judged = msgspec.structs.replace(row, drift=drift)
        rows.append(judged)
        if is_first:
            first.append((judged, digest))
    return Judged(rows, first, is_moved)


def keep(session: Session, server: Server, judged: Judged) -> None:
    """Write down what was seen first."""
    if judged.is_moved:
        forget(session, server.name)
    seen = session.get(SeenServer, server.name) or SeenServer(server=server.name, source=_source(server), kinds="")
    seen.kinds = " ".join(sorted({*seen.kinds.split(), *(row.kind for row in judged.rows if row.quarantined is None)}))
    session.add(seen)
    for row, digest in judged.first:
        _pin(session, server.name, row, digest, by="")


def approve(session: Session, server: Server, features: Collection[str] | None, *, by: str, seen: str | None) -> None:
    """Approve what a server says now; None: all of it. `seen`: the digest of what was shown, if that is to be the same.

    Raises:
        NotFound: there is no such thing.
        Conflict: it says something else now than was shown, or a thing cannot be offered whoever approves it.
    """
    rows = listings.read_one(session, server.name, KINDS)
    if seen is not None and seen != digest_of(rows):
        raise Conflict("What the server says has changed since it was shown; look at it again.")
    wanted = {label(row.kind, row.name): row for row in rows}
    for name in features or ():
        if name not in wanted:
            raise NotFound("feature", name)
        if wanted[name].quarantined is not None:
            raise Conflict(f"{name!r} cannot be offered: {wanted[name].quarantined}.")
    for name, row in wanted.items():
        if row.quarantined is None and (features is None or name in features):
            _pin(session, server.name, row, _digest(_members(row)), by=by)
            here = (col(ListedFeature.server) == server.name, col(ListedFeature.kind) == row.kind)
            session.exec(update(ListedFeature).where(*here, col(ListedFeature.name) == row.name).values(drift=None))


def forget(session: Session, server: str) -> None:
    """Forget what was approved of a server: another of its name is seen for the first time."""
    session.exec(delete(ApprovedFeature).where(col(ApprovedFeature.server) == server))
    session.exec(delete(SeenServer).where(col(SeenServer.server) == server))
    session.expire_all()


def offered(server: Server, rows: Sequence[Listed]) -> Iterator[Listed]:
    """What a server listed, each thing that is withheld with the reason why."""
    said = next((row for row in rows if row.kind == "server"), None)
    whole = _of_whole(server, said) if said is not None else None
    for row in rows:
        reason = row.quarantined or _withheld(server, row)
        if reason is None and whole is not None and (row.kind == "resource" or "version" in whole):
            reason = whole
        yield row if reason is row.quarantined else msgspec.structs.replace(row, quarantined=reason)


def _of_whole(server: Server, said: Listed) -> str | None:
    """Why things of a server are withheld that are themselves as they were approved."""
    if said.drift is None or not server.quarantines:
        return None
    if said.drift == NEW:
        return f"the server is new and {_WAITS}"
    return f"the server's {said.drift} changed and {_WAITS}"


def _withheld(server: Server, row: Listed) -> str | None:
    if row.drift is None:
        return None
    grave = _grave(row)
    if grave is not None:
        return f"{grave.text} ({grave.where}); it {_WAITS}"
    if server.quarantines:
        return f"it is new and {_WAITS}" if row.drift == NEW else f"its {row.drift} changed and {_WAITS}"
    return None


def label(kind: ListedKind, name: str) -> str:
    """How a thing of a server is called where it is shown and approved: a tool by its name alone."""
    return name if kind == "tool" else f"{kind} {name}"


def state(session: Session, server: Server) -> JsonObject:
    """What is the matter with what a server says: of each thing its state, the difference and the findings."""
    rows = listings.read_one(session, server.name, KINDS)
    shown = []
    for row, judged in zip(rows, offered(server, rows), strict=True):
        reason = judged.quarantined
        if reason is None and row.drift is None and not row.findings:
            continue
        shown.append(
            {
                "feature": visible(label(row.kind, row.name)),
                "state": "quarantined" if reason is not None else "approved" if row.drift is None else "changed",
                "reason": None if reason is None else visible(reason),
                "changed": _difference(session, server.name, row) if row.drift not in {None, NEW} else {},
                "findings": [msgspec.to_builtins(one) for one in row.findings],
            }
        )
    states = {one["state"] for one in shown}
    return {
        "state": next((one for one in ("quarantined", "changed") if one in states), "approved"),
        "quarantines": server.quarantines,
        "digest": digest_of(rows),
        "features": shown[:MAX_SHOWN],
        "more": max(len(shown) - MAX_SHOWN, 0),
    }


def digest_of(rows: Sequence[Listed]) -> str:
    """A digest of all that a server says."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(msgspec.json.encode([row.kind, row.name, row.description.decode()]))
    return digest.hexdigest()


class _Pin(NamedTuple):
    digest: str
    by: str
    """Id of who approved it; empty: it was seen first."""


def _pins(session: Session, server: str) -> Mapping[tuple[str, str], _Pin]:
    # one value, as in registry/trust/listings.py
    query = (
        "SELECT json_group_array(json_array(kind, name, digest, approved_by)) FROM approved_features WHERE server = ?"
    )
    found = session.connection().exec_driver_sql(query, (server,)).scalar()
    return {(kind, name): _Pin(digest, by) for kind, name, digest, by in msgspec.json.decode(found or "[]")}


def _pin(session: Session, server: str, row: Listed, digest: str, *, by: str) -> None:
    session.merge(
        ApprovedFeature(
            server=server,
            kind=row.kind,
            name=row.name,
            description=row.description,
            digest=digest,
            approved_by=by,
            approved_at=time.time(),
        )
    )


def _approved(session: Session, server: str, row: Listed) -> JsonObject:
    query = select(ApprovedFeature.description).where(ApprovedFeature.server == server)
    found = session.exec(query.where(ApprovedFeature.kind == row.kind, ApprovedFeature.name == row.name)).first()
    return {} if found is None else _read(found)


def _changes(session: Session, server: str, row: Listed) -> str:
    """The members that are not as they were approved, in words."""
    old, new = _approved(session, server, row), _members(row)
    return ", ".join(visible(one)[:100] for one in sorted(old.keys() | new.keys()) if old.get(one) != new.get(one))


def _difference(session: Session, server: str, row: Listed) -> JsonObject:
    """Old and new by the path of what differs, with what is not seen made visible."""
    found: JsonObject = {}
    for path, old, new in _differences(_approved(session, server, row), _members(row), ""):
        if len(found) == MAX_DIFFERENCES:
            break
        found[path] = {"old": _text(old), "new": _text(new)}
    return found


def _differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            below = f"{path}.{visible(key)}" if path else visible(key)
            yield from _differences(old.get(key), new.get(key), below)
    elif _canonical(old) != _canonical(new):
        yield path, old, new


def _text(value: Any) -> str | None:
    """A text as it is, anything else as JSON; None: it is absent."""
    if value is None:
        return None
    return visible(value if isinstance(value, str) else _canonical(value).decode())[:MAX_TEXT]


def _members(row: Listed) -> JsonObject:
    return _read(row.description)


def _read(description: bytes) -> JsonObject:
    try:
        found = decode(description)
    except CallerError:
        return {}
    return {one: value for one, value in found.items() if one not in UNWATCHED} if isinstance(found, dict) else {}


def _digest(members: JsonObject) -> str:
    return hashlib.sha256(_canonical(members)).hexdigest()


def _canonical(value: object) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _grave(row: Listed) -> Finding | None:
    return next((one for one in row.findings if one.severity == "critical"), None)


def _source(server: Server) -> str:
    """Where a server is; a digest, for arguments may hold secrets."""
    return _digest({"at": [server.url, server.openapi, server.command, *server.args]})
