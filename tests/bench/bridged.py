"""The memory of a hub with many bridged streams at once: agents on platforms that do not speak A2A, whose answers are long."""

from __future__ import annotations

from typing import Any

from tests.bench.bridge import Ground
from tests.bench.cases import MESSAGE, Case, expect, read_events, rpc
from tests.bench.long_answers import PIECES, TEXTS
from tests.bench.many import many_streams
from tests.bench.targets import hub, write_settings

MANY = 200
BUDGET_MB = 200

KINDS = ("openai", "responses", "ag_ui")
"""Two that are told their history, and one that says its answer once more at its end."""

HUB_YAML = """\
hub:
  database: sqlite:///{directory}/hub.db
models:
  bench: {{provider: openai, model: upstream-model, base_url: "http://127.0.0.1:{upstream}/v1", api_key: sk-upstream}}
agents:
  openai: {{bridge: openai, url: "http://127.0.0.1:{upstream}/long", options: {{model: m}}}}
  responses: {{bridge: openai, url: "http://127.0.0.1:{upstream}/long", options: {{model: m, api: responses}}}}
  ag_ui: {{bridge: ag_ui, url: "http://127.0.0.1:{upstream}/long/ag-ui"}}
keys:
  - {{name: bench, key: {key}, allow: ["model:bench", "agent:*"]}}
"""


def case_of(kind: str) -> Case:
    """A stream of an agent of one kind."""
    return Case(
        name=f"{MANY} bridged streams at once ({kind})",
        path=f"/a2a/{kind}",
        body=rpc("SendStreamingMessage", {"message": MESSAGE}),
        headers={"A2A-Version": "1.0"},
        words=PIECES,
        check=_whole,
    )


def _whole(body: bytes) -> None:
    """The task, all pieces of its artifact, and that it is completed."""
    events = read_events(body)
    chunks = [event["artifactUpdate"]["artifact"]["parts"][0]["text"] for event in events if "artifactUpdate" in event]
    expect(chunks, TEXTS)
    expect(events[-1]["statusUpdate"]["status"]["state"], "TASK_STATE_COMPLETED")


def measure(ground: Ground) -> dict[str, Any]:
    """The most memory that a new hub had with all of a kind open, one kind after the other."""
    directory = ground.directory / "bridged"
    directory.mkdir()
    with hub(directory, ground.proxy_core, write_settings(directory, ground.upstream_port, HUB_YAML)) as (served, _):
        found = {
            kind: many_streams(directory, ground.load_core, served, case_of(kind), (MANY, BUDGET_MB)) for kind in KINDS
        }
    return {"streams": MANY, "budget": BUDGET_MB, "peak_mb": {kind: one["peak_mb"] for kind, one in found.items()}}
