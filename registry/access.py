"""Grants: who may call what. Pure; nothing is allowed that is not granted (surface.md 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

KINDS = frozenset({"tool", "prompt", "resource", "server", "agent", "model", "admin"})
ADMIN_NAMES = frozenset(
    {
        "keys",
        "teams",
        "users",
        "roles",
        "agents",
        "mcp-servers",
        "models",
        "usage",
        "approvals",
        "policy",
        "audit",
        "metrics",
    }
)
"""`roles` opens nothing by itself: with it a key acts in the role that its user has in its team."""

OF_SERVERS = frozenset({"tool", "prompt", "resource"})
"""What a grant for a server stands for too."""

SEPARATOR = "__"
"""Between a server's name, which has no such thing in it and no `_` at its end (surface.md 6), and the thing's own."""

MAX_GRANT_CHARS = 300
"""Longer than any name that exists."""

MEMO_SIZE = 4096
MEMO_CHARS = 256
"""Decisions remembered for each set of grants. More or longer names are decided anew: hostile names cost no memory."""


class GrantInvalid(ValueError):
    """A grant that does not read `kind:glob`."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One `kind:glob`. `*` stands for any characters, everything else for itself, case-sensitively."""

    kind: str
    glob: str

    @classmethod
    def parse(cls, text: str) -> Grant:
        """Read `kind:glob`.

        Raises:
            GrantInvalid: with a text that names what is wrong.
        """
        if len(text) > MAX_GRANT_CHARS:
            raise GrantInvalid(f"grant {text[:40]!r}… has more than {MAX_GRANT_CHARS} characters")
        kind, colon, glob = text.partition(":")
        if not colon or not glob:
            raise GrantInvalid(f"grant {text!r} must read kind:glob, for example tool:github__* or model:*")
        if kind not in KINDS:
            raise GrantInvalid(f"grant {text!r}: kind must be one of {', '.join(sorted(KINDS))}")
        if kind == "admin" and "*" not in glob and glob not in ADMIN_NAMES:
            raise GrantInvalid(f"grant {text!r}: admin names are {', '.join(sorted(ADMIN_NAMES))}")
        return cls(kind, glob)

    def __str__(self) -> str:
        return f"{self.kind}:{self.glob}"

    def covers(self, other: Grant) -> bool:
        """Whether everything that `other` allows is allowed by this grant too.

        The other's `*` is matched as a character: only a `*` of ours can match it, so a yes is always true.
        """
        if self.kind == "server" and other.kind in OF_SERVERS:
            server, mark, _ = other.glob.partition(SEPARATOR)
            # a `*` in the server's part may stand for more than that part, so only `server:*` covers it
            return self.glob == "*" or (bool(mark) and "*" not in server and matches(self.glob, server))
        return self.kind == other.kind and matches(self.glob, other.glob)


def matches(glob: str, name: str) -> bool:
    """Whether `name` fits `glob`, in time linear in the name: both may be written by people who mean no good."""
    first, star, _ = glob.partition("*")
    if not star:
        return name == glob
    *middle, last = glob.split("*")[1:]
    at, end = len(first), len(name) - len(last)
    if end < at or not name.startswith(first) or not name.endswith(last):
        return False
    for part in middle:
        at = name.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def _may_begin(grant: Grant, kind: str, prefix: str) -> bool:
    if grant.kind == kind:
        glob = grant.glob
    elif grant.kind == "server" and kind in OF_SERVERS:
        glob = f"{grant.glob}__*"
    else:
        return False
    head, star, _ = glob.partition("*")
    return head.startswith(prefix) or (bool(star) and prefix.startswith(head))


@dataclass(frozen=True, slots=True)
class Grants:
    """A set of grants that answers questions, remembering its answers."""

    grants: tuple[Grant, ...]
    _globs: dict[str, list[str]] = field(init=False, repr=False, compare=False)
    _memo: dict[tuple[str, str], bool] = field(default_factory=dict, init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        return self._hash  # a key of caches: each lookup would else hash every grant anew

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(self.grants))
        globs: dict[str, list[str]] = {}
        for grant in self.grants:
            globs.setdefault(grant.kind, []).append(grant.glob)
        object.__setattr__(self, "_globs", globs)

    @classmethod
    def parse(cls, texts: list[str] | tuple[str, ...]) -> Grants:
        """Read a list of `kind:glob`; raises `GrantInvalid`."""
        return cls(tuple(Grant.parse(text) for text in texts))

    def allow(self, kind: str, name: str) -> bool:
        """Whether `name` (the whole original name, `{server}__{tool}` for a tool) may be used."""
        try:
            return self._memo[kind, name]
        except KeyError:
            found = self._decide(kind, name)
            if len(self._memo) < MEMO_SIZE and len(name) <= MEMO_CHARS:
                self._memo[kind, name] = found
            return found

    def _decide(self, kind: str, name: str) -> bool:
        if any(matches(glob, name) for glob in self._globs.get(kind, ())):
            return True
        server, mark, _ = name.partition(SEPARATOR)
        return (
            kind in OF_SERVERS and bool(mark) and any(matches(glob, server) for glob in self._globs.get("server", ()))
        )

    def granting(self, kind: str, name: str) -> tuple[str, ...]:
        """The grants that allow `name`; empty when it is not allowed."""
        if not self.allow(kind, name):
            return ()
        server, mark, _ = name.partition(SEPARATOR)
        of_server = server if kind in OF_SERVERS and mark else None
        return tuple(
            str(one)
            for one in self.grants
            if (one.kind == kind and matches(one.glob, name))
            or (one.kind == "server" and of_server is not None and matches(one.glob, of_server))
        )

    def reach(self, kind: str, prefix: str) -> bool:
        """Whether some name that begins with `prefix` may be allowed, now or later."""
        return any(_may_begin(grant, kind, prefix) for grant in self.grants)

    def cover(self, other: Grants) -> bool:
        """Whether a holder of these grants may hand out all of `other`."""
        return all(any(mine.covers(theirs) for mine in self.grants) for theirs in other.grants)

    def named(self, within: Grant) -> Iterator[Grant]:
        """Those grants, as they are written, that allow nothing but what `within` does."""
        return (grant for grant in self.grants if within.covers(grant))


@dataclass(frozen=True)
class Through(Grants):
    """What may be done through an own agent: what the agent's list allows, and its caller is granted.

    The agent's model is the agent's: its caller needs no grant for it.
    """

    caller: Grants
    """What its caller is granted, whichever agents the call came through."""
    delegates: bool
    """The agent's list is granted through it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_hash", hash((self.grants, self.caller, self.delegates)))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def of(cls, own: Grants, caller: Grants, *, delegates: bool) -> Through:
        """Put together the list of an agent and the grants of who calls it, which may be another agent for its caller."""
        return cls(own.grants, caller=caller.caller if isinstance(caller, Through) else caller, delegates=delegates)

    def _decide(self, kind: str, name: str) -> bool:
        return super()._decide(kind, name) and (self.delegates or kind == "model" or self.caller.allow(kind, name))

    def reach(self, kind: str, prefix: str) -> bool:
        """Whether some name that begins with `prefix` may be allowed, now or later."""
        return super().reach(kind, prefix) and (self.delegates or self.caller.reach(kind, prefix))

    def cover(self, other: Grants) -> bool:
        """Whether a holder of these grants may hand out all of `other`: what is used through an agent is nobody's to give."""
        return not other.grants


@dataclass(frozen=True)
class Meet(Grants):
    """What several sets of grants allow all of them; `grants` are those of each, which not all of them need hold."""

    parts: tuple[Grants, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_hash", hash(self.parts))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def of(cls, *parts: Grants) -> Grants:
        """Put together levels that bound; one alone is itself, and none at all allow nothing."""
        if len(parts) < 2:
            return parts[0] if parts else NOTHING
        return cls(tuple(dict.fromkeys(grant for part in parts for grant in part.grants)), parts=parts)

    def _decide(self, kind: str, name: str) -> bool:
        return all(part.allow(kind, name) for part in self.parts)

    def granting(self, kind: str, name: str) -> tuple[str, ...]:
        """The grants of all parts that together allow `name`; empty when it is not allowed."""
        if not self.allow(kind, name):
            return ()
        return tuple(dict.fromkeys(text for part in self.parts for text in part.granting(kind, name)))

    def reach(self, kind: str, prefix: str) -> bool:
        """Whether some name that begins with `prefix` may be allowed, now or later."""
        return all(part.reach(kind, prefix) for part in self.parts)

    def cover(self, other: Grants) -> bool:
        """Whether a holder of these grants may hand out all of `other`."""
        return all(part.cover(other) for part in self.parts)

    def named(self, within: Grant) -> Iterator[Grant]:
        """Those grants, as they are written at some part, that each part holds and that allow nothing but what `within` does."""
        return (grant for grant in super().named(within) if self.cover(Grants((grant,))))


NOTHING = Grants(())

EVERYTHING = Grants(tuple(Grant(kind, "*") for kind in sorted(KINDS)))
"""What the admin key and the hub itself hold."""
