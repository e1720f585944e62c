"""Where the hub's settings come from: hub.yaml, found, read and watched. The only module that reads the environment."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from registry.config import ConfigInvalid, Declared, Fault, read

DEFAULT_FILE = "hub.yaml"


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

    return read(text, file=str(path), environ=environment(), read_file=beside, providers=NAMES)


async def watch(path: Path) -> AsyncIterator[Declared | ConfigInvalid]:
    """Yield what the file says at each change of its content, or why it cannot be used.

    The folder is watched, not the file: editors replace the file, and Kubernetes replaces a link beside it.
    """
    # imported here: not needed before the first request
    from watchfiles import awatch  # noqa: PLC0415

    seen = _content(path)
    # the timeout finds what no event told of: a link's target elsewhere, network file systems
    async for _ in awatch(path.parent, recursive=False, debounce=200, rust_timeout=1000, yield_on_timeout=True):
        content = _content(path)
        if content is None or content == seen:
            continue  # between an editor's removal and its new file, or another file of the folder
        seen = content
        try:
            yield load(path)
        except ConfigInvalid as error:
            yield error


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
