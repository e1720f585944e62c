"""Leases: what a process may count of limits by itself, and the record of what it spent of them.

The record is a file of numbers beside the database that is mapped into memory: writing one costs less than a microsecond, and it
stays when the process is killed, as safe as what the database has committed. Its owner keeps it locked, so that others see at
once that the owner has died; each knows then what was spent and what comes back (docs/decisions/0030).
"""

from __future__ import annotations

import mmap
import os
import sys
from array import array
from pathlib import Path
from typing import NamedTuple

from registry.limits import Limit

SLOTS = 8192
"""Numbers of a record, so limits that are counted in memory at a time; those beyond them are counted in the database."""

ASKED = 0
"""The slot in which others ask for what is not spent."""

NOWHERE = 1
"""The slot of leases that have none of their own: nobody reads it."""

_SIZE = 8 * SLOTS

Key = tuple[str, int, str]
"""Of a counter: its name, the end of its span, and for calls under way the process."""


class Lease:
    """What this process holds of one limit."""

    __slots__ = (
        "asking",
        "at",
        "ends",
        "granted",
        "is_open",
        "key",
        "least",
        "near",
        "owner",
        "seen",
        "seen_at",
        "slot",
        "spent",
    )

    def __init__(self, limit: Limit, key: Key, owner: str, slot: int) -> None:
        self.at = limit.at
        self.least = limit.needed(0)
        """What must be left beside what a call takes."""
        self.key = key
        self.ends = key[1]
        """Of its span; 0: it counts calls under way."""
        self.owner = owner
        """The process."""
        self.slot = slot
        self.granted = 0
        """What may be spent of it in all."""
        self.spent = 0
        """Less than nothing where calls before it gave something back."""
        self.asking = 0
        """Calls that ask the database for more of it."""
        self.seen = 0
        """What was spent when somebody looked, and since when it was so much."""
        self.seen_at = 0.0
        self.is_open = True
        self.near = -1
        """The limit is nearly used up while no more than this is left of the lease."""

    @property
    def left(self) -> int:
        """What may still be spent of it."""
        return self.granted - self.spent

    @property
    def is_recorded(self) -> bool:
        """Whether a death of the process leaves behind what was spent."""
        return self.slot != NOWHERE


class Leased(NamedTuple):
    """A lease as the database knows it."""

    process: str
    slot: int
    granted: int


class Record:
    """What this process spent of its leases. Made with the first of them."""

    def __init__(self, database: Path, process: str) -> None:
        self._path = _path(database, process)
        self._file: int | None = None
        self.cells: memoryview = memoryview(array("q", bytes(_SIZE)))
        """What was spent, by slot."""
        self._free: list[int] = []

    def slot(self) -> int:
        """A free slot, which says that nothing was spent; NOWHERE: there is none."""
        if self._file is None:
            self._open()
        if not self._free:
            return NOWHERE
        slot = self._free.pop()
        self.cells[slot] = 0
        return slot

    def free(self, slot: int) -> None:
        """Have a slot used again."""
        if slot != NOWHERE:
            self._free.append(slot)

    def _open(self) -> None:
        # under its name when it is locked and as long as it must be: who finds it unlocked may be sure
        made = self._path.with_name(f"{self._path.name}.new")
        try:
            self._file = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(self._file, bytes(_SIZE))
            self.cells = memoryview(mmap.mmap(self._file, _SIZE)).cast("q")
            if _locked(self._file):
                made.rename(self._path)
                self._free = list(range(SLOTS - 1, NOWHERE, -1))
        except (OSError, ImportError):  # a full disk, or no such locks: everything is counted in the database then
            self._file = -1 if self._file is None else self._file

    def close(self) -> None:
        """Forget what was spent; when everything is given back."""
        if self._file is not None and self._file >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
        self._file, self._free = -1, []


def spent_of(database: Path, process: str, slot: int) -> int | None:
    """What any process spent of a lease; None: nobody knows."""
    try:
        with _path(database, process).open("rb") as file:
            file.seek(8 * slot)
            found = file.read(8)
    except OSError:
        return None
    return int.from_bytes(found, sys.byteorder, signed=True) if len(found) == 8 else None


def ask(database: Path, process: str) -> None:
    """Have another process return what it has not spent; it looks ten times a second."""
    try:
        with _path(database, process).open("r+b", buffering=0) as file:
            file.seek(8 * ASKED)
            file.write((1).to_bytes(8, sys.byteorder))
    except OSError:  # it has ended just now
        return


def is_dead(database: Path, process: str) -> bool:
    """Whether the process of a record has ended, or has none."""
    try:
        file = os.open(_path(database, process), os.O_RDWR)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        return _locked(file)
    finally:
        os.close(file)


def bury(database: Path, process: str) -> None:
    """Remove the record of a dead process; when what it did not spend was given back."""
    _path(database, process).unlink(missing_ok=True)


def recorded(database: Path) -> list[str]:
    """All processes that have a record."""
    begin = f"{database.name}-leases-"
    return [path.name.removeprefix(begin) for path in database.parent.glob(f"{begin}*") if path.suffix != ".new"]


def _path(database: Path, process: str) -> Path:
    return database.with_name(f"{database.name}-leases-{process}")


def _locked(file: int) -> bool:
    """Take a file's lock, if nobody has it; it ends with the process."""
    import fcntl  # noqa: PLC0415 - systems that lack it count everything in the database

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
