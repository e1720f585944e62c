"""The official conformance suite, run against a server as it is or through a hub.

`conformance.json` keeps which checks the server of `tests/peers/mcp_everything.py` passes directly and how many pass
through a hub; the tests compare, and `python -m tests.foreign.conformance` writes it anew.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml

from hub.settings import environment as variables
from tests.conftest import Hub, open_hub
from tests.foreign.environments import HERE, make
from tests.peers.mcp_everything import Era, everything

REVISIONS = ("2025-11-25", "2026-07-28")
KEPT = HERE / "conformance.json"
RUN_S = 120

Passed = dict[str, dict[str, int]]
"""Scenario to check id to how often it passed. Where a server did what is optional another way, that is no failure:
checks that say so (`INFO`) stand in `Report.noted`."""


class Setup(NamedTuple):
    """Where the suite is pointed at: `only` is the one era that the server behind the hub speaks."""

    revision: str
    only: Era | None = None

    def __str__(self) -> str:
        return f"{self.revision} to {self.only or 'dual-era'}"


SETUPS = [Setup(revision, only) for only in (None, "legacy", "modern") for revision in REVISIONS]


class Excuse(NamedTuple):
    """Why a scenario cannot pass with a server of one era, and the tool that shows it there without a hub."""

    tool: str
    reason: str


_NAMED = Excuse(
    "test_input_required_result_elicitation",
    "the client must be asked under a name of the server's, and a request of 2025-11-25 has none",
)
_AT_ONCE = Excuse(
    "test_input_required_result_multiple_inputs",
    "the client must be asked three things at once, and a server of 2025-11-25 asks one after the other",
)
_TASKS = Excuse("slow_compute", "the extension that makes tasks is none of 2025-11-25")
EXCUSED: dict[Setup, dict[str, Excuse]] = {
    Setup("2026-07-28", "legacy"): {
        "input-required-result-basic-elicitation": _NAMED,
        "input-required-result-ignore-extra-params": _NAMED,
        "input-required-result-missing-input-response": _NAMED,
        "input-required-result-result-type": _NAMED,
        "input-required-result-multiple-input-requests": _AT_ONCE,
        "tasks-capability-negotiation": _TASKS,
        "tasks-dispatch-and-envelope": _TASKS,
        "tasks-lifecycle": _TASKS,
        "tasks-mrtr-composition": _TASKS,
        "tasks-mrtr-input": _TASKS,
        "tasks-request-headers": _TASKS,
        "tasks-request-state-removal": _TASKS,
        "tasks-required-task-error": _TASKS,
        "tasks-wire-fields": _TASKS,
    },
}
"""What must fail, and nothing else may: an entry that passes fails the test."""


@dataclass(frozen=True)
class Report:
    """What one run of the suite found."""

    passed: Passed
    noted: Passed
    failed: dict[str, list[str]]
    """Scenario to what its failed checks say, warnings too; scenarios without any are absent."""
    scored: tuple[str, ...]
    """The scenarios that the revision requires of a server."""

    @property
    def counts(self) -> dict[str, int]:
        """How many checks of scored scenarios passed and failed."""
        return {
            "passed": sum(sum(self.passed.get(scenario, {}).values()) for scenario in self.scored),
            "failed": sum(len(self.failed.get(scenario, ())) for scenario in self.scored),
        }


async def run(url: str, revision: str, *, key: str = "") -> Report:
    """Run what a revision requires, and what it runs besides unscored, against the server at `url`."""
    home = await asyncio.to_thread(make, "mcp-js")
    suite = home / "node_modules" / "@modelcontextprotocol" / "conformance"
    with tempfile.TemporaryDirectory() as out:
        preloaded = ("--import", HERE / "with_key.mjs") if key else ()
        command = (
            *preloaded,
            suite / "dist" / "index.js",
            "server",
            "--url",
            url,
            "--requirements",
            revision,
            "-o",
            out,
        )
        child = await asyncio.create_subprocess_exec(
            node(home),
            *command,
            env={"PATH": variables()["PATH"], "HUB_KEY": key},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(RUN_S):
                printed, _ = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        found = _read(Path(out))
    assert found, printed.decode()
    required = yaml.safe_load((suite / "requirements" / f"{revision}.yaml").read_text())
    passed, noted, failed = {}, {}, {}
    for scenario, checks in found.items():
        passed[scenario] = _counted(checks, "SUCCESS")
        noted[scenario] = _counted(checks, "INFO")
        wrong = [check for check in checks if check["status"] in {"FAILURE", "WARNING"}]
        if wrong:
            failed[scenario] = [f"{check['id']}: {check.get('errorMessage')}" for check in wrong]
    return Report(passed, noted, failed, tuple(required["server"]))


def _counted(checks: list[dict[str, Any]], status: str) -> dict[str, int]:
    return dict(sorted(Counter(check["id"] for check in checks if check["status"] == status).items()))


def node(home: Path) -> Path:
    """The Node of an environment."""
    return next((home / "node_modules").glob("node-*/bin/node"))


def _read(out: Path) -> dict[str, list[dict[str, Any]]]:
    """The checks of each scenario; a directory is named `server-<scenario>-<time>`."""
    files = sorted(out.glob("server-*/checks.json"))
    return {file.parent.name.removeprefix("server-")[:-25]: json.loads(file.read_text()) for file in files}


@asynccontextmanager
async def behind_a_hub(directory: Path, only: Era | None = None) -> AsyncIterator[tuple[str, str]]:
    """The server behind a hub; yields the URL of its own endpoint there and a key for it."""
    async with (
        everything(only=only) as upstream,
        open_hub(directory, f"mcpServers:\n  every: {{url: {upstream}, sampling: true}}\n") as hub,
    ):
        key = await hub.key("tool:*", "prompt:*", "resource:*")
        await _until_listed(hub, key)
        yield f"{hub.url}/mcp/every", key


async def _until_listed(hub: Hub, key: str) -> None:
    """Wait until the hub knows the server's tools."""
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"}
    async with asyncio.timeout(30), hub.http(key) as http:
        while True:
            answer: httpx.Response = await http.post("/mcp/every", json=request, headers=headers)
            if answer.json().get("result", {}).get("tools"):
                return
            await asyncio.sleep(0.02)


META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}


async def through(setup: Setup) -> Report:
    """Run the suite through a hub of its own."""
    with tempfile.TemporaryDirectory() as directory:
        async with behind_a_hub(Path(directory), setup.only) as (url, key):
            return await run(url, setup.revision, key=key)


async def direct(revision: str) -> Report:
    """Run the suite against the server itself."""
    async with everything() as url:
        return await run(url, revision)


def kept() -> dict[str, Any]:
    """What `conformance.json` says.

    `direct`: revision to `Passed`. `counts`: setup to counts. `awaited`: setup to the scenarios that the hub still
    fails and the server does not; the list only shrinks.
    """
    found: dict[str, Any] = json.loads(KEPT.read_text())
    return found


async def main() -> None:
    """Measure everything, print what fails, and keep it; raises if something is lost that was not lost before."""
    before = kept()["awaited"]
    baseline, counts, awaited = {}, {}, {}
    for revision in REVISIONS:
        report = await direct(revision)
        baseline[revision] = report.passed
        counts[f"{revision} direct"] = report.counts
        _show(f"{revision} direct", report, {name: "" for name in report.scored if name in report.failed})
    for setup in SETUPS:
        report = await through(setup)
        missed = lost(baseline[setup.revision], report)
        counts[str(setup)] = report.counts
        awaited[str(setup)] = sorted(missed.keys() - EXCUSED.get(setup, {}))
        _show(str(setup), report, missed)
    more = {
        setup: set(names) - set(before[setup]) for setup, names in awaited.items() if set(names) - set(before[setup])
    }
    assert not more, f"these passed before: {more}"
    found = {"direct": baseline, "counts": counts, "awaited": awaited}
    KEPT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def _show(title: str, report: Report, wrong: dict[str, str]) -> None:
    print(f"{title}: {report.counts}")
    for scenario, checks in sorted(wrong.items()):
        print(f"  {scenario}: {checks}", *report.failed.get(scenario, ()), sep="\n    ", flush=True)


def lost(wanted: Passed, report: Report) -> dict[str, str]:
    """The scenarios of which a wanted check neither passed nor was noted as often, with those checks."""
    missed = {}
    for scenario, checks in wanted.items():
        found = Counter(report.passed.get(scenario, {})) + Counter(report.noted.get(scenario, {}))
        if less := Counter(checks) - found:
            missed[scenario] = ", ".join(sorted(less))
    return missed


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
