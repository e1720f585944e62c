"""The contract: a bridge turns one message in a context into what its platform's agent says to it.

What is left to do is the hub's: tasks, events, versions, bindings, push, cards, agents as tools and as models. A bridge knows
no principal and no database. What it wants to be told again it gives away as `Remember` and `Running`, and on `Turn.shelf`.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from agents.bridges.way import Credentials, Way
from registry.errors import NotSupported
from registry.judged import JsonObject

TOOL = "urn:hubbub:tool"
"""The member of a `Working`'s metadata that names the tool that is called: `{"name": ...}`."""


@dataclass(frozen=True, slots=True)
class Text:
    """More of the answer."""

    text: str
    artifact: str | None = None
    """Which of several artifacts; None: the answer to this message."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an artifact that is no text (A2A 1.0 §4.1.6): `raw`, `url` or `data`."""

    part: JsonObject
    artifact: str | None = None


@dataclass(frozen=True, slots=True)
class Working:
    """What the agent does meanwhile, such as the tool that it calls."""

    text: str | None = None
    metadata: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Running:
    """Under which names the platform has this turn, and how far it was read: `Turn.ref` from now on, also after a restart."""

    ref: JsonObject


@dataclass(frozen=True, slots=True)
class Remember:
    """What is to be `Turn.session` from now on, in all turns of this context."""

    session: JsonObject


@dataclass(frozen=True, slots=True)
class Asks:
    """The agent needs its caller's answer before it goes on: the last step of a turn. Parts of a message."""

    parts: Sequence[JsonObject]


@dataclass(slots=True)
class Waits:
    """The same, where the platform waits for the answer on what the turn holds open, so that the turn goes on: not its last step."""

    parts: Sequence[JsonObject]
    answer: Turn = field(init=False)
    """The turn of the answer. Is there when the next step is asked for; who never answers has the turn end here."""


Step = Text | Piece | Working | Running | Remember | Asks | Waits
Steps = AsyncGenerator[Step]


class Shelf(Protocol):
    """Where a bridge keeps for a context what is too long for its session, and outlives it. The session has the names."""

    async def put(self, piece: bytes) -> str:
        """Keep a piece; returns the name that it has."""

    async def get(self, name: str) -> bytes | None:
        """A piece; None: there is none."""

    async def drop(self, name: str) -> None:
        """Keep a piece no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message, and where it belongs."""

    way: Way
    """To the platform."""
    message: JsonObject
    """A2A 1.0 §4.1.4; its parts are those of 1.0."""
    task_id: str
    context_id: str
    user: str
    """A name of the caller for the platform: the same in each turn, and nobody else's."""
    session: JsonObject
    """What the last `Remember` of the context said; empty: there was none."""
    shelf: Shelf
    ref: JsonObject
    """What the last `Running` of the task said; empty: there was none."""
    is_answer: bool
    """Whether the message answers what the task had asked."""

    @property
    def session_name(self) -> str:
        """A name of the context for platforms that take any: 64 digits, the same in each turn, and nobody else's."""
        return hmac.digest(self.user.encode(), self.context_id.encode(), "sha256").hex()

    @property
    def parts(self) -> list[JsonObject]:
        """Those of the message."""
        return [part for part in self.message.get("parts") or () if isinstance(part, dict)]


class Skill(NamedTuple):
    """What an agent can do, as its card says it (A2A 1.0 §4.4.5)."""

    id: str
    name: str
    description: str
    tags: tuple[str, ...] = ()


class About(NamedTuple):
    """What the platform says of the agent."""

    description: str = ""
    skills: tuple[Skill, ...] = ()
    """Empty: one, the agent itself."""
    input_modes: tuple[str, ...] = ("text/plain",)
    """Media types that its messages may have."""


class Bridge(Protocol):
    """One agent on a platform. Made once for an entry; holds nothing of a turn."""

    @property
    def credentials(self) -> Credentials | None:
        """What signs its requests beside the entry's headers; None: nothing."""

    @property
    def rejoins(self) -> bool:
        """Whether `rejoin` can be asked for."""

    def run(self, turn: Turn) -> Steps:
        """Have the platform answer a message; ends when it has, or after `Asks`.

        Raises:
            HubError: the agent failed, for the reason that it says; `UpstreamError`s of `Turn.way` as they are.
        """

    async def cancel(self, turn: Turn) -> None:
        """Have the platform end what `Turn.ref` names; raises `HubError` if it does not."""

    def rejoin(self, turn: Turn) -> Steps:
        """Read on what `Turn.ref` names, from where it says; raises as `run`. Of `turn.message` only the ids are true."""

    async def about(self, way: Way) -> About:
        """What the platform says of the agent; what it does not is nobody's to invent."""


class EndsWhenLeft:
    """What is the same of bridges whose platform ends what it does when its answer is left: there is no more to end, and nothing to read on."""

    rejoins = False

    async def cancel(self, turn: Turn) -> None:
        """Nothing more to do (Bridge)."""

    def rejoin(self, turn: Turn) -> Steps:
        """Not asked for: `rejoins` says so (Bridge)."""
        raise NotSupported(f"{turn.way.name} cannot be read on.")


class Make(Protocol):
    """How a bridge is made: `make` of its module, or a third party's entry point."""

    def __call__(self, url: str, options: dict[str, Any]) -> Bridge:
        """From the entry's address and its `options`; raises ValueError, which says what is wrong with them."""
