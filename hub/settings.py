"""Where the hub's settings come from: hub.yaml, found, read and watched. The only module that reads the environment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from registry.declared.config import ConfigInvalid, Declared, Fault, read

DEFAULT_FILE = "hub.yaml"

WATCH_S = 0.5
"""How often the file is looked at."""


def environment() -> Mapping[str, str]:
    """The process's environment."""
    return os.environ  # noqa: TID251  # this is the one place that may


def find(config: Path | None) -> Path | None:
    """The file to use: `config`, else `./hub.yaml` if there is one; None: the hub starts empty."""
    if config is not None:
        return config
    default = Path(DEFAULT_FILE)
    return default if default.exists() else None


def load(path: Path | None) -> Declared:
    """Read the file at `path`; None: nothing is declared.

    Raises:
        ConfigInvalid: with every fault found; also when the file cannot be read.
    """
    if path is None:
        return Declared()
    # imported here: the table is not needed where no file is read
    from agents.bridges.kinds import fault  # noqa: PLC0415
    from llm.providers.table import NAMES  # noqa: PLC0415

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigInvalid((Fault(str(path), 1, f"cannot be read: {error.strerror}"),)) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigInvalid((Fault(str(path), line, "is not UTF-8 text"),)) from None

    def beside(name: str) -> str:
        return (path.parent / Path(name).expanduser()).read_text(encoding="utf-8")

    return read(text, file=str(path), environ=environment(), read_file=beside, providers=NAMES, bridge_fault=fault)


async def watch(path: Path) -> AsyncIterator[Declared | ConfigInvalid]:
    """Yield what the file says at each change of its content, or why it cannot be used.

    Asks for the file's state twice a second: that sees editors that replace the file and links that move under it,
    costs nothing, and is not woken by the database that lies beside it.
    """
    state, seen = _state(path), _content(path)
    while True:
        await asyncio.sleep(WATCH_S)
        now = _state(path)
        if now == state:
            continue
        state, content = now, _content(path)
        if content is None or content == seen:
            continue  # between an editor's removal and its new file, or only touched
        seen = content
        try:
            yield load(path)
        except ConfigInvalid as error:
            yield error


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
