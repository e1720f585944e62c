"""How the hub's log looks: a constant phrase, and behind it what it is about, as `name=value`. Knows nothing of what is logged."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

MAX_VALUE = 500
"""Characters of one value: upstreams and callers write what stands in reasons."""

_OURS = frozenset({"hub", "agents", "mcp_bridge", "llm", "registry"})
"""Whose data are shown: what libraries attach to their records may be anything, also credentials."""

_OF_LOGGING = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})
_PLAIN = re.compile(r"[\w.:/@+*-]+", re.ASCII)


class Lines(logging.Formatter):
    """One line for a record, also where its data hold line breaks; tracebacks stand below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """The line, with the data behind it."""
        return " ".join((super().formatMessage(record), *_data(record)))


def _data(record: logging.LogRecord) -> Iterator[str]:
    if record.name.partition(".")[0] not in _OURS:
        return
    for name, value in vars(record).items():
        if name not in _OF_LOGGING:
            yield f"{name}={_shown(str(value))}"


def _shown(text: str) -> str:
    """A value that forges no line and no other value, and in which nothing is invisible."""
    if len(text) > MAX_VALUE:
        text = f"{text[:MAX_VALUE]}…"
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
