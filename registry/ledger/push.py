"""Where notifications of A2A tasks go: the SQL of push configurations, and what a process knows of them in memory.

Knows no protocol and sends nothing. Addresses are sealed with the credentials: those of webhooks hold secrets. What is
known in memory decides whether an event concerns anybody, so that a task without receivers costs no read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from sqlmodel import Session, col, delete, func, select, update
from sqlmodel.sql.expression import SelectOfScalar

from registry.errors import InvalidParams
from registry.sealed import places
from registry.sealed.secrets import Sealer
from registry.store.db import Database
from registry.store.tables.ledger import OwnedTask, PushConfig, PushNotification

MAX_A_TASK = 16
"""Receivers of one task: each costs every event of the task a row and a request."""

MAX_AN_OWNER = 10_000
"""Configurations of one owner: some 3 MB of the memory of each process."""

TASK_LATE_S = 3600.0
"""How old a configuration without a task must be to be forgotten with it."""


class Callback(NamedTuple):
    """How an agent calls the hub: the last part of its address, and the SHA-256 of its secret."""

    id: str
    digest: str


class Receiver(NamedTuple):
    """A configuration as the process remembers it."""

    id: int
    agent: str
    task_id: str
    owner: str
    config_id: str
    version: str
    callback: Callback | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a receiver's notifications go, and what is shown there. Not in its `repr`: all of it may be secret."""

    url: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    scheme: str | None = None
    credentials: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewConfig:
    """A configuration to be stored."""

    agent: str
    task_id: str
    owner: str
    config_id: str
    version: str
    destination: Destination
    callback: Callback | None = None
    """None: as before, or none."""


_decode_destination = msgspec.json.Decoder(Destination).decode


def open_destination(sealer: Sealer, row: PushConfig) -> Destination:
    """Unseal a configuration's destination; raises `SecretKeyInvalid`."""
    return _decode_destination(sealer.open(row.sealed, about=_place(row)))


def _place(config: PushConfig | NewConfig) -> str:
    return places.push(config.agent, config.task_id, config.owner, config.config_id)


class PushConfigs:
    """All push configurations. One for a process; safe to use from several tasks."""

    def __init__(self, database: Database, *, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._known: dict[int, Receiver] = {}
        self._by_task: dict[tuple[str, str], tuple[Receiver, ...]] = {}
        self._by_callback: dict[str, Receiver] = {}
        self._version = 0
        """Rises with every change made here: what was read before it is old."""

    def of_task(self, agent: str, task_id: str) -> tuple[Receiver, ...]:
        """The receivers of a task's events; from memory."""
        return self._by_task.get((agent, task_id), ())

    async def of_callback(self, callback_id: str) -> Receiver | None:
        """The receiver whose agent calls `callback_id`, also if another process gave it out; None: there is none."""
        known = self._by_callback.get(callback_id)
        if known is not None:
            return known
        query = select(PushConfig).where(PushConfig.callback_id == callback_id)
        row = await self._database.read(lambda session: session.exec(query).first())
        return None if row is None else _of_row(row)

    async def put(self, new: NewConfig) -> Receiver:
        """Store a configuration, in the place of one of the same name; what is pending then goes where this one says.

        Raises:
            InvalidParams: the task, or the owner, has as many as may be.
        """
        sealed = self._sealer.seal(msgspec.json.encode(new.destination), about=_place(new))

        def change(session: Session) -> tuple[Receiver, int | None]:
            old = session.exec(
                _named(new.owner, new.agent, new.task_id).where(PushConfig.config_id == new.config_id)
            ).first()
            if old is None:
                _check_room(session, new)
            else:
                session.delete(old)
                session.flush()
            row = _row(new, sealed, old)
            session.add(row)
            session.flush()
            if old is not None:
                waiting = update(PushNotification).where(col(PushNotification.config) == old.id)
                session.exec(waiting.values(config=row.id))
            return _of_row(row), old.id if old else None

        made, old_id = await self._database.write(change)
        self._forget(old_id)
        self._remember(made)
        return made

    async def set_callback(self, receiver: Receiver, callback: Callback) -> bool:
        """Note how the agent calls for this configuration; False: it is gone."""

        def change(session: Session) -> Receiver | None:
            row = session.get(PushConfig, receiver.id)
            if row is None:
                return None
            row.callback_id, row.callback_digest = callback
            session.add(row)
            session.flush()
            return _of_row(row)

        changed = await self._database.write(change)
        self._forget(receiver.id)
        if changed is not None:
            self._remember(changed)
        return changed is not None

    async def find(self, owner: str, agent: str, task_id: str, config_id: str) -> tuple[Receiver, Destination] | None:
        """An owner's configuration; None: there is none, or it is not the owner's."""
        query = _named(owner, agent, task_id).where(PushConfig.config_id == config_id)
        row = await self._database.read(lambda session: session.exec(query).first())
        return None if row is None else (_of_row(row), open_destination(self._sealer, row))

    async def of_owner(self, owner: str, agent: str, task_id: str) -> Sequence[tuple[Receiver, Destination]]:
        """An owner's configurations of a task, oldest first."""
        query = _named(owner, agent, task_id).order_by(col(PushConfig.id))
        rows = await self._database.read(lambda session: session.exec(query).all())
        return [(_of_row(row), open_destination(self._sealer, row)) for row in rows]

    async def delete(self, owner: str, agent: str, task_id: str, config_id: str) -> bool:
        """Remove a configuration and all that waits for its receiver; False: there is none, or it is not the owner's."""

        def change(session: Session) -> int | None:
            row = session.exec(_named(owner, agent, task_id).where(PushConfig.config_id == config_id)).first()
            if row is None:
                return None
            session.exec(delete(PushNotification).where(col(PushNotification.config) == row.id))
            session.delete(row)
            return row.id

        removed = await self._database.write(change)
        self._forget(removed)
        return removed is not None

    async def refresh(self) -> None:
        """Learn what other processes changed. Cheap when they changed nothing."""
        version = self._version
        counted = await self._database.read(_count)
        if counted == (len(self._known), max(self._known, default=0)):
            return
        receivers = await self._database.read(_read_all)
        if version != self._version:  # what was read may be older than what is known; the next time will do
            return
        self._known, self._by_task, self._by_callback = {}, {}, {}
        for receiver in receivers:
            self._remember(receiver)

    async def forget_tasks(self) -> None:
        """Remove the configurations of tasks that are no longer kept."""
        task = select(OwnedTask.task_id).where(
            OwnedTask.agent == PushConfig.agent, OwnedTask.task_id == PushConfig.task_id
        )
        gone = select(PushConfig.id).where(~task.exists(), PushConfig.created_at < time.time() - TASK_LATE_S)

        def change(session: Session) -> None:
            ids = session.exec(gone).all()
            if ids:
                session.exec(delete(PushNotification).where(col(PushNotification.config).in_(ids)))
                session.exec(delete(PushConfig).where(col(PushConfig.id).in_(ids)))

        await self._database.write(change)

    def _remember(self, receiver: Receiver) -> None:
        self._version += 1
        self._known[receiver.id] = receiver
        self._by_task[receiver.agent, receiver.task_id] = (*self.of_task(receiver.agent, receiver.task_id), receiver)
        if receiver.callback is not None:
            self._by_callback[receiver.callback.id] = receiver

    def _forget(self, config: int | None) -> None:
        self._version += 1
        receiver = self._known.pop(config, None) if config is not None else None
        if receiver is None:
            return
        left = tuple(one for one in self.of_task(receiver.agent, receiver.task_id) if one.id != config)
        if left:
            self._by_task[receiver.agent, receiver.task_id] = left
        else:
            self._by_task.pop((receiver.agent, receiver.task_id), None)
        if receiver.callback is not None:
            self._by_callback.pop(receiver.callback.id, None)


_COLUMNS = "id, agent, task_id, owner, config_id, version, callback_id, callback_digest"
_KNOWN = f"SELECT {_COLUMNS} FROM push_configs ORDER BY id"  # noqa: S608  # constants


def _read_all(session: Session) -> list[Receiver]:
    rows = session.connection().exec_driver_sql(_KNOWN)
    return [Receiver._make((*row[:6], _callback(row[6], row[7]))) for row in rows]


def _count(session: Session) -> tuple[int, int]:
    """How many there are and the newest id: with ids that are never reused, these change with every change."""
    count, newest = session.exec(select(func.count(), func.max(PushConfig.id)).select_from(PushConfig)).one()
    return count, newest or 0


def _named(owner: str, agent: str, task_id: str) -> SelectOfScalar[PushConfig]:
    return select(PushConfig).where(PushConfig.owner == owner, PushConfig.agent == agent, PushConfig.task_id == task_id)


def _check_room(session: Session, new: NewConfig) -> None:
    count = select(func.count()).select_from(PushConfig)
    if session.exec(count.where(PushConfig.agent == new.agent, PushConfig.task_id == new.task_id)).one() >= MAX_A_TASK:
        raise InvalidParams(f"a task may have {MAX_A_TASK} push notification configurations; delete one")
    if session.exec(count.where(PushConfig.owner == new.owner)).one() >= MAX_AN_OWNER:
        raise InvalidParams(f"you have {MAX_AN_OWNER} push notification configurations; delete some")


def _row(new: NewConfig, sealed: bytes, old: PushConfig | None) -> PushConfig:
    callback = new.callback or (_callback(old.callback_id, old.callback_digest) if old is not None else None)
    return PushConfig(
        agent=new.agent,
        task_id=new.task_id,
        owner=new.owner,
        config_id=new.config_id,
        version=new.version,
        sealed=sealed,
        callback_id=callback.id if callback else None,
        callback_digest=callback.digest if callback else None,
        created_at=time.time(),
    )


def _of_row(row: PushConfig) -> Receiver:
    assert row.id is not None, "it was read from the database"
    callback = _callback(row.callback_id, row.callback_digest)
    return Receiver(row.id, row.agent, row.task_id, row.owner, row.config_id, row.version, callback)


def _callback(callback_id: str | None, secret_digest: str | None) -> Callback | None:
    return Callback(callback_id, secret_digest) if callback_id and secret_digest else None
