"""Which names servers, toolsets, agents and models can have (surface.md 6). Pure."""

from __future__ import annotations

import re

RESERVED = frozenset({"agent", "hub", "sse"})
"""Path segments and prefixes with a meaning of their own (surface.md 6)."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_MODEL_NAME = re.compile(r"[^\s*\x00-\x1f\x7f\ud800-\udfff]{0,255}\*?")


def name_fault(name: str) -> str | None:
    """Say why a server, toolset or agent cannot have this name (surface.md 6); None: it can.

    A trailing `_` is refused too: with it `a___b` could be a tool of `a` or of `a_`, and a grant could reach either.
    """
    if name in RESERVED:
        return f"the name {name!r} is reserved"
    if _is_name(name):
        return None
    better = re.sub(r"_{2,}", "_", re.sub(r"[^a-z0-9_-]+", "-", name.lower())).strip("-_")[:32].rstrip("-_")
    hint = f", did you mean {better!r}" if _is_name(better) and better not in RESERVED else ""
    return f"a name has at most 32 of a-z 0-9 _ -, begins with a letter, has no __ and no _ at its end{hint}"


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and "__" not in name and not name.endswith("_")


def model_name_fault(name: str) -> str | None:
    """Say why a model cannot have this name; None: it can."""
    if not name or not _MODEL_NAME.fullmatch(name):
        return "a model's name has at most 256 characters, no blanks, and a * at its end only"
    if name.startswith("agent/"):
        return "names under agent/ are those of agents"
    return None
