"""Who answers the cases: each a process of its own on its core."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.cases import CASES, HUB_YAML, KEY
from tests.bench.processes import Void, free_port, only_child, running, seconds_until_answered

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Target:
    """Somebody who answers the cases."""

    name: str
    port: int
    pid: int
    core: int


@contextmanager
def upstream(directory: Path, core: int) -> Iterator[Target]:
    """The mock upstream on a free port."""
    command = [sys.executable, "-m", "tests.bench.upstream"]
    with running(core, command, directory / "upstream.log", subprocess.PIPE) as process:
        assert process.stdout is not None
        yield Target("upstream", int(process.stdout.readline() or 0), process.pid, core)
        process.stdout.close()


@contextmanager
def nginx(directory: Path, core: int, command: str, upstream_port: int) -> Iterator[Target]:
    """nginx in front of the upstream; its pid is the worker's."""
    port = free_port()
    text = (HERE / "nginx.conf").read_text()
    for name, value in (("DIR", directory), ("UPSTREAM", upstream_port), ("LISTEN", port)):
        text = text.replace(f"@{name}@", str(value))
    path = directory / "nginx.conf"
    path.write_text(text)
    with running(core, [command, "-c", str(path), "-e", "stderr"], directory / "nginx.log") as process:
        first = CASES[0]
        seconds_until_answered(process, port, first.path, first.body, first.sent_headers())
        yield Target("nginx", port, only_child(process.pid), core)


def write_settings(directory: Path, upstream_port: int, text: str = HUB_YAML) -> tuple[Path, int]:
    """The hub's file, and the port it will listen on."""
    port = free_port()
    path = directory / "hub.yaml"
    path.write_text(text.format(directory=directory, port=port, upstream=upstream_port, key=KEY))
    return path, port


@contextmanager
def hub(directory: Path, core: int, settings: tuple[Path, int]) -> Iterator[tuple[Target, float]]:
    """A hub, and how many seconds it took until it had answered a chat."""
    path, port = settings
    command = [str(Path(sys.executable).with_name("hubbub")), "serve", "--config", str(path), "--port", str(port)]
    log = directory / "hub.log"
    with running(core, command, log) as process:
        first = CASES[0]
        try:
            start_s = seconds_until_answered(process, port, first.path, first.body, first.sent_headers())
            yield Target("hub", port, process.pid, core), start_s
        except Void as reason:
            raise Void(f"{reason}\nThe log of the hub ends with:\n{log.read_text()[-2000:]}") from None
