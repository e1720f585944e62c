"""Toolsets as the file and the API write them: which tools, under which names, told how. Pure: a shape in, an entry or faults out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from registry.access import SEPARATOR
from registry.declared.entry_shapes import ToolsetShape, ToolShape
from registry.entries import Owner, Presented, Toolset

SEARCH_NAMES = ("search_tools", "describe_tool", "call_tool")
"""What the tools of search mode are called: no tool of a toolset can be."""

_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,47}")


def toolset(name: str, shape: ToolsetShape, owner: Owner = "file") -> Toolset:
    """The toolset that a valid shape says."""
    return Toolset(
        name=name,
        owner=owner,
        description=shape.description,
        mode=shape.mode,
        tools=tuple(one.tool for one in shape.tools if not _is_presented(one)),
        presented=tuple(
            Presented(tool=one.tool, alias=one.alias, description=one.description)
            for one in shape.tools
            if _is_presented(one)
        ),
    )


def stored_toolset(name: str, shape: ToolsetShape) -> Toolset:
    """The toolset that a body of the admin API says; raises `ValueError` with all that is wrong with its tools."""
    found = [f"tools.{at}.{member}: {text}" for at, member, text in faults(shape, lambda at: f"tools.{at}")]
    if found:
        raise ValueError("; ".join(found))
    return toolset(name, shape, "api")


def faults(shape: ToolsetShape, place_of: Callable[[int], str]) -> Iterator[tuple[int, str, str]]:
    """Say what is wrong with the tools: position, member and text; `place_of` tells a reader where a position stands."""
    taken: dict[str, int] = {}
    for at, one in enumerate(shape.tools):
        if _is_presented(one) and ("*" in one.tool or SEPARATOR not in one.tool):
            yield at, "tool", "must be the whole name of one tool, such as github__list_issues"
        if one.alias is None:
            continue
        if text := _alias_fault(one.alias):
            yield at, "as", text
        if one.alias in taken:
            yield at, "as", f"{one.alias} is another tool's name here, in {place_of(taken[one.alias])}"
        taken.setdefault(one.alias, at)


def _is_presented(one: ToolShape) -> bool:
    return one.alias is not None or one.description is not None


def _alias_fault(alias: str) -> str | None:
    """Say why a tool cannot be called so; without `__` it can be like no name that is not an alias."""
    if alias in SEARCH_NAMES:
        return f"{alias} is the name of a tool of search mode"
    if not _ALIAS.fullmatch(alias) or SEPARATOR in alias:
        return "a name has at most 47 of A-Z a-z 0-9 _ - and no __, which stands in the names that are no aliases"
    return None
