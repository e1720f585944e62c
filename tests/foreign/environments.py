"""The environments of foreign parts, each made once under `.foreign/` from what `tests/foreign/pins` pins.

`make foreign` makes them all beforehand; a test that finds its own missing makes it.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from hub.settings import environment as variables
from tests.conftest import free_port

HERE = Path(__file__).parent
PINS = HERE / "pins"
HOME = HERE.parents[1] / ".foreign"
UP_WITHIN_S = 90
GROUPS = {
    "mcp": ("mcp-js", "mcp-clients", "fastmcp", "fastmcp-tasks"),
    "llm": ("any-llm", "ag-ui", "agentcore"),
    "a2a": ("langgraph", "fasta2a", "a2a-sdk-0.3", "a2a-js-1", "a2a-js-0.3"),
    "trust": ("presidio", "oidc"),
    "attacks": (),
    "frameworks": ("crewai", "adk", "strands", "langgraph-client", "pydantic-ai", "openai-agents"),
}
"""All environments, the slowest of each group to make first."""

WANTED = variables().get("HUBBUB_FOREIGN", "")
"""Which take part: 1 for all, or a group; empty: none."""

foreign = [
    pytest.mark.skipif(not WANTED, reason="enable with: HUBBUB_FOREIGN=1 make test"),
    pytest.mark.timeout(300),  # the first test may have to make its environment
]
"""The marks of a module whose tests need an environment."""


def make(name: str) -> Path:
    """Make the environment unless it is there as pinned; returns its directory. Other processes wait meanwhile."""
    assert WANTED not in GROUPS or name in GROUPS[WANTED], (
        f"{name} is not of {WANTED}: this test has its turn elsewhere"
    )
    home = HOME / name
    HOME.mkdir(exist_ok=True)
    with (HOME / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pinned = _pinned(name)
        ready = home / "ready"
        if ready.exists() and ready.read_text() == pinned:
            return home
        shutil.rmtree(home, ignore_errors=True)
        if (PINS / name).is_dir():
            shutil.copytree(PINS / name, home)
            _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", cwd=home)
        else:
            _run(sys.executable, "-m", "venv", "--without-pip", home)
            pip = (sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "--quiet")
            _run(*pip, "--disable-pip-version-check", "--no-deps", "--no-compile", "-r", PINS / f"{name}.txt")
        ready.write_text(pinned)
    return home


def _pinned(name: str) -> str:
    one = PINS / f"{name}.txt"
    files = [one] if one.exists() else sorted((PINS / name).iterdir())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _run(*command: str | Path, cwd: Path = HERE) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


async def python_of(name: str) -> Path:
    """The Python of an environment, which is made if need be."""
    return await asyncio.to_thread(make, name) / "bin" / "python"


@dataclass
class ForeignAgent:
    """An agent of another framework in a process of its own."""

    url: str
    """Where its card is found: `<url>/.well-known/agent-card.json`."""
    lines: list[str] = field(default_factory=list)
    """What it printed."""


@asynccontextmanager
async def process(
    *command: str | Path, cwd: Path, environ: Mapping[str, str] | None = None, lines: list[str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command with all its children until the block ends, collecting what it prints in `lines`."""
    child = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={"PATH": variables()["PATH"], "HOME": str(cwd), **(environ or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )

    async def listen() -> None:
        assert child.stdout is not None
        async for line in child.stdout:
            lines.append(line.decode(errors="replace"))  # noqa: PERF401  # each as it comes

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listen())
        try:
            yield child
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()


async def until_it_answers(child: asyncio.subprocess.Process, url: str, lines: Sequence[str]) -> None:
    """Wait until the process answers a GET with 200; fails with what it printed if it ends before."""
    async with asyncio.timeout(UP_WITHIN_S), httpx.AsyncClient(trust_env=False) as http:
        while True:
            assert child.returncode is None, "".join(lines)
            try:
                if (await http.get(url)).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)  # another process: there is no event to wait for


@asynccontextmanager
async def open_fasta2a() -> AsyncIterator[ForeignAgent]:
    """Serve a Pydantic AI agent with a test model by fasta2a. It always answers `hello from testmodel`."""
    python = await python_of("fasta2a")
    port = free_port()
    agent = ForeignAgent(f"http://127.0.0.1:{port}")
    script = HERE / "fasta2a_agent.py"
    async with process(python, script, str(port), cwd=HOME / "fasta2a", lines=agent.lines) as child:
        await until_it_answers(child, f"{agent.url}/.well-known/agent-card.json", agent.lines)
        yield agent


def main() -> None:
    """Make the environments that are wanted, all if none is, two at a time, and say how long each took."""

    def timed(name: str) -> None:
        began = time.monotonic()
        make(name)
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)

    with ThreadPoolExecutor(2) as workers:
        list(
            workers.map(
                timed, GROUPS[WANTED] if WANTED in GROUPS else [name for names in GROUPS.values() for name in names]
            )
        )


if __name__ == "__main__":
    main()
