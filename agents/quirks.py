"""Where agents stray from A2A: what the hub has noticed, and hides from clients. In memory, since the hub started.

Things are noted only where an answer has left the common path already. Knows no door, no connection and no owner.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Literal

from agents.answers import has_zone
from agents.speech import Speech
from registry.entries import Agent
from registry.errors import AgentFault, HubError

logger = logging.getLogger(__name__)

Quirk = Literal[
    "bare_events",
    "colon_ids",
    "content_type",
    "mixed_versions",
    "naive_timestamps",
    "no_subscribe",
    "nonblocking",
    "odd_places",
    "uuid_contexts",
]
"""`docs/a2a.md` says what each means."""

METHOD_NOT_FOUND = -32601
"""How an agent says that it has no such operation (JSON-RPC 2.0)."""

MAX_AGENTS = 10_000
"""More are not kept in mind; the one noted first is forgotten."""

_WRAPPERS = ("task", "message", "msg", "statusUpdate", "artifactUpdate")
_UPDATES = frozenset({"status-update", "artifact-update"})


class Quirks:
    """What was noticed of all agents. One for a process."""

    def __init__(self) -> None:
        self._noted: dict[str, tuple[str, set[Quirk]]] = {}

    def note(self, entry: Agent, *quirks: Quirk) -> None:
        """Keep in mind that an agent has these; one that moved begins anew."""
        url, noted = self._noted.get(entry.name, ("", set()))
        if url != _home(entry):
            noted = set()
            self._noted.pop(entry.name, None)
            if len(self._noted) >= MAX_AGENTS:
                del self._noted[next(iter(self._noted))]
            self._noted[entry.name] = _home(entry), noted
        for quirk in quirks:
            if quirk not in noted:
                noted.add(quirk)
                logger.info("an agent strays from A2A", extra={"agent": entry.name, "quirk": quirk})

    def note_no_subscribe(self, entry: Agent, error: HubError) -> None:
        """Note why subscribing failed, if it is for lack of the operation; other errors may mean just this task."""
        if isinstance(error, AgentFault) and error.code == METHOD_NOT_FOUND:
            self.note(entry, "no_subscribe")

    def of(self, entry: Agent) -> list[Quirk]:
        """What an agent was seen to have, in the order of the alphabet."""
        url, noted = self._noted.get(entry.name, ("", set()))
        return sorted(noted) if url == _home(entry) else []

    def has(self, entry: Agent, quirk: Quirk) -> bool:
        """Whether an agent was seen to have it."""
        url, noted = self._noted.get(entry.name, ("", set()))
        return quirk in noted and url == _home(entry)

    def look(self, entry: Agent, speech: Speech, said: object) -> None:
        """Note what strays in a decoded result or event of an agent that is spoken to in `speech`."""
        if found := list(oddities(speech, said)):
            self.note(entry, *found)


def _home(entry: Agent) -> str:
    """The URL that an agent is known by; its instances are of one make."""
    return entry.urls[0] if entry.urls else entry.url


def oddities(speech: Speech, said: object) -> Iterator[Quirk]:
    """What strays in a decoded result or event; the `result`, where it is JSON-RPC's."""
    if not isinstance(said, dict):
        return
    wrapped = next((said[name] for name in _WRAPPERS if isinstance(said.get(name), dict)), None)
    body: dict[str, Any] = said if wrapped is None else wrapped
    kind, status = body.get("kind"), body.get("status")
    has_kind = speech == Speech("JSONRPC", "0.3")
    if not has_kind and wrapped is None and kind in _UPDATES:
        yield "bare_events"
    elif (kind is not None) != has_kind:
        yield "mixed_versions"
    if not isinstance(status, dict):
        return
    state = status.get("state")
    if isinstance(state, str) and state.startswith("TASK_STATE_") == has_kind:
        yield "mixed_versions"
    if not has_zone(status.get("timestamp")):
        yield "naive_timestamps"
    task_id = body.get("taskId") or body.get("id")
    if isinstance(task_id, str) and ":" in task_id:
        yield "colon_ids"
