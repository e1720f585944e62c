"""Floors: which calls of tools somebody with `admin:approvals` has to approve, whatever a request says of approvals. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from registry.access import matches

Floor = str | tuple[str, ...]
"""`always`, `destructive`, or globs over names of tools."""

Answerer = Literal["caller", "admin"]
"""Who answers: the principal whose request asked for approvals, or somebody else with `admin:approvals`."""

WORDS = ("always", "destructive")
MAX_GLOBS = 1000


def read_floor(value: object) -> Floor:
    """Read what hub.yaml or a body of the admin API says; raises `ValueError` with the rule."""
    if isinstance(value, str) and value in WORDS:
        return value
    if not isinstance(value, list | tuple) or not all(isinstance(glob, str) and glob for glob in value):
        raise ValueError("must be always, destructive, or a list of names of tools, which may hold *")
    if len(value) > MAX_GLOBS:
        raise ValueError(f"has more than {MAX_GLOBS} names")
    return tuple(value)


def demands(floor: Floor | None, name: str, *, destructive: bool) -> bool:
    """Whether calls of the tool `name` are to be approved."""
    if floor is None or isinstance(floor, str):
        return floor == "always" or (floor == "destructive" and destructive)
    return any(matches(glob, name) for glob in floor)


def covers(floor: Floor | None, other: Floor | None) -> bool:
    """Whether `other` demands at least what `floor` does, for all that is known of tools that are yet to come."""
    if floor in (None, ()) or other in ("always", floor):
        return True
    return isinstance(floor, tuple) and isinstance(other, tuple) and set(floor) <= set(other)


def written(floor: Floor | None) -> str | None:
    """A floor as it is stored."""
    return None if floor is None else msgspec.json.encode(floor).decode()


def stored(text: str | None) -> Floor | None:
    """The floor that `written` wrote."""
    return None if text is None else read_floor(msgspec.json.decode(text))
