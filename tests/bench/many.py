"""Many streams at once, and the memory that the hub has meanwhile."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.bench.cases import MANY, MANY_BUDGET_MB, Case
from tests.bench.loading import check, load_command, write_request
from tests.bench.processes import Void, rss_mb
from tests.bench.targets import Target


def many_streams(
    directory: Path, core: int, served: Target, case: Case, within: tuple[int, int] = (MANY, MANY_BUDGET_MB)
) -> dict[str, Any]:
    """Open a thousand streams, read them all to their end, and say how much memory the hub had meanwhile at most.

    `within`: another number of streams, and the budget in MB.
    """
    count, budget_mb = within
    check(case, served)
    request = write_request(directory, case, "many")
    command = load_command(case, served, request, seconds=0, connections=count)
    peak_mb = rss_mb(served.pid)
    with (directory / "many").open("w+") as output:
        process = subprocess.Popen(["taskset", "-c", str(core), *command], stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak_mb = max(peak_mb, rss_mb(served.pid))
            time.sleep(0.05)
        output.seek(0)
        told = output.read()
    if process.returncode:
        raise Void(f"{case.name}: the load failed: {told[-2000:]}")
    figures = json.loads(told)
    if figures["broken"] or figures["requests"] != count or figures["open_at_once"] != count:
        raise Void(
            f"{case.name}: {figures['open_at_once']} were open at once, {figures['requests']} came whole, "
            f"{figures['broken']} broke"
        )
    return {"streams": count, "peak_mb": peak_mb, "budget": budget_mb, "seconds": figures["seconds"]}
