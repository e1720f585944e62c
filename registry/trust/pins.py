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
from sqlalchemy import true
from sqlmodel import Session, col, delete, func, select

from registry.entries import ListedKind, Server
from registry.errors import CallerError, Conflict, NotFound
from registry.judged import JsonObject, decode
from registry.store.tables.trust import ApprovedFeature, SeenServer
from registry.trust import listings
from registry.trust.listings import Listed
from registry.trust.scanning import Finding, Names, scan, visible

ACCOUNTS = "*"
"""In a principal's place: what was approved for all accounts."""

NEW = "new"
"""The drift of what nobody approved."""

KINDS: tuple[ListedKind, ...] = ("server", "tool", "prompt", "resource", "template")

UNWATCHED = frozenset({"_meta", "icons", "capabilities", "extensions"})
"""Members that may change."""

MAX_SHOWN = 500
"""Things of one server that are shown with what is the matter with them."""

MAX_ACCOUNTS = 50
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


def judge(session: Session, server: Server, examined: Examined, principal: str = "") -> Judged:
    """Compare what was listed, to everybody or to a principal's account, with what was approved. Reads only."""
    seen = session.get(SeenServer, (principal, server.name))
    is_moved = seen is not None and seen.source != _source(server)
    kinds = set() if seen is None or is_moved else set(seen.kinds.split())
    pins = {} if is_moved else _pins(session, server.name, principal)
    rows, first = [], []
    for row, digest in zip(examined.rows, examined.digests, strict=True):
        drift, is_first = None, False
        if row.quarantined is None and (row.kind != "resource" or grave(row) is not None):
            pin = _fitting(pins.get((row.kind, row.name), ()), digest)
            if pin is not None and pin.digest != digest:
                drift = _changes(session, server.name, row, principal)
            elif pin is None or (grave(row) is not None and not pin.by):
                may = not server.quarantines or (server.trusted and row.kind not in kinds)
                is_first = may and grave(row) is None
                drift = None if is_first else NEW
        judged = msgspec.structs.replace(row, drift=drift)
        rows.append(judged)
        if is_first:
            first.append((judged, digest))
    return Judged(rows, first, is_moved)


def keep(session: Session, server: Server, judged: Judged, principal: str = "") -> None:
    """Write down what was seen first."""
    if judged.is_moved:
        forget(session, server.name, principal)
    seen = session.get(SeenServer, (principal, server.name))
    seen = seen or SeenServer(principal=principal, server=server.name, source=_source(server), kinds="")
    seen.kinds = " ".join(sorted({*seen.kinds.split(), *(row.kind for row in judged.rows if row.quarantined is None)}))
    session.add(seen)
    for row, digest in judged.first:
        _pin(session, server.name, row, digest, principal=principal)


class Assent(NamedTuple):
    """What of a server somebody approves."""

    by: str
    """Id of the principal."""
    features: Collection[str] | None = None
    """None: all that it says now."""
    seen: str | None = None
    """The digest of what was shown, if that is to be the same."""
    account: str = ""
    """Of what it lists to this principal's account; then it is approved for all accounts."""


def approve(session: Session, server: Server, assent: Assent) -> None:
    """Approve what a server says now.

    Raises:
        NotFound: there is no such thing.
        Conflict: it says something else now than was shown, or a thing cannot be offered whoever approves it.
    """
    features, account = assent.features, assent.account
    rows = listings.read_one(session, server.name, KINDS, account)
    if account and not rows:
        raise NotFound("account", account)
    if assent.seen is not None and assent.seen != digest_of(rows):
        raise Conflict("What the server says has changed since it was shown; look at it again.")
    wanted = {label(row.kind, row.name): row for row in rows}
    for name in features or ():
        if name not in wanted:
            raise NotFound("feature", name)
        if wanted[name].quarantined is not None:
            raise Conflict(f"{name!r} cannot be offered: {wanted[name].quarantined}.")
    for name, row in wanted.items():
        if row.quarantined is None and (features is None or name in features):
            for principal in {account, ACCOUNTS} if account else {account}:
                _pin(session, server.name, row, _digest(_members(row)), principal=principal, by=assent.by)
            listings.settle(session, server.name, row, account)


def forget(session: Session, server: str, principal: str | None = None) -> None:
    """Forget what was approved of a server, for one principal's account or whomever: another of its name is seen for the first time."""
    for of in (ApprovedFeature, SeenServer):
        here = (col(of.server) == server, true() if principal is None else col(of.principal) == principal)
        session.exec(delete(of).where(*here))
    session.expire_all()


def approvals(session: Session) -> dict[str, float]:
    """When something was last approved for all accounts at each server."""
    query = select(ApprovedFeature.server, func.max(ApprovedFeature.approved_at))
    return dict(session.exec(query.where(ApprovedFeature.principal == ACCOUNTS).group_by(ApprovedFeature.server)).all())


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
    finding = grave(row)
    if finding is not None:
        return f"{finding.text} ({finding.where}); it {_WAITS}"
    if server.quarantines:
        return f"it is new and {_WAITS}" if row.drift == NEW else f"its {row.drift} changed and {_WAITS}"
    return None


def label(kind: ListedKind, name: str) -> str:
    """How a thing of a server is called where it is shown and approved: a tool by its name alone."""
    return name if kind == "tool" else f"{kind} {name}"


def state(session: Session, server: Server) -> JsonObject:
    """What is the matter with what a server says, to everybody and to accounts."""
    found = _state(session, server)
    accounts = listings.accounts(session, server.name, MAX_ACCOUNTS)
    if accounts:
        found["accounts"] = [{"principal": one, **_state(session, server, one)} for one in accounts]
    return found


def _state(session: Session, server: Server, principal: str = "") -> JsonObject:
    """Of each thing its state, the difference and the findings."""
    rows = listings.read_one(session, server.name, KINDS, principal)
    shown = []
    for row, judged in zip(rows, offered(server, rows), strict=True):
        reason = judged.quarantined
        if reason is None and row.drift is None and not row.findings:
            continue
        changed = _difference(session, server.name, row, principal) if row.drift not in {None, NEW} else {}
        shown.append(
            {
                "feature": visible(label(row.kind, row.name)),
                "state": "quarantined" if reason is not None else "approved" if row.drift is None else "changed",
                "reason": None if reason is None else visible(reason),
                "changed": changed,
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
    principal: str
    digest: str
    by: str
    """Id of who approved it; empty: it was seen first."""


def _pins(session: Session, server: str, principal: str) -> Mapping[tuple[str, str], list[_Pin]]:
    """Of each thing what was approved for a principal's account, and for all; for everybody, that alone."""
    # one value, as in registry/trust/listings.py
    query = (
        "SELECT json_group_array(json_array(kind, name, principal, digest, approved_by)) FROM approved_features"
        " WHERE principal IN (?, ?) AND server = ?"
    )
    others = ACCOUNTS if principal else principal
    found = session.connection().exec_driver_sql(query, (principal, others, server)).scalar()
    pins: dict[tuple[str, str], list[_Pin]] = {}
    for kind, name, whose, digest, by in msgspec.json.decode(found or "[]"):
        pins.setdefault((kind, name), []).append(_Pin(whose, digest, by))
    return pins


def _fitting(pins: Sequence[_Pin], digest: str) -> _Pin | None:
    """What a thing is compared with: what is like it, else what was approved for its principal alone."""
    like = next((one for one in pins if one.digest == digest), None)
    return like or next((one for one in pins if one.principal != ACCOUNTS), None)


def _pin(session: Session, server: str, row: Listed, digest: str, *, principal: str, by: str = "") -> None:
    session.merge(
        ApprovedFeature(
            principal=principal,
            server=server,
            kind=row.kind,
            name=row.name,
            description=row.description,
            digest=digest,
            approved_by=by,
            approved_at=time.time(),
        )
    )


def _approved(session: Session, server: str, row: Listed, principal: str) -> JsonObject:
    found = session.get(ApprovedFeature, (principal, server, row.kind, row.name))
    return {} if found is None else _read(found.description)


def _changes(session: Session, server: str, row: Listed, principal: str) -> str:
    """The members that are not as they were approved, in words."""
    old, new = _approved(session, server, row, principal), _members(row)
    return ", ".join(visible(one)[:100] for one in sorted(old.keys() | new.keys()) if old.get(one) != new.get(one))


def _difference(session: Session, server: str, row: Listed, principal: str) -> JsonObject:
    """Old and new by the path of what differs, with what is not seen made visible."""
    found: JsonObject = {}
    for path, old, new in _differences(_approved(session, server, row, principal), _members(row), ""):
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


def grave(row: Listed) -> Finding | None:
    """What was found in a thing that keeps it from being offered unless somebody approves it; None: nothing."""
    return next((one for one in row.findings if one.severity == "critical"), None)


def _source(server: Server) -> str:
    """Where a server is; a digest, for arguments may hold secrets."""
    return _digest({"at": [server.url, server.openapi, server.command, *server.args]})
