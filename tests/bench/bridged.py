"""The memory of a hub with many bridged streams at once: agents on a platform that does not speak A2A, whose answers are long."""

from __future__ import annotations

from typing import Any

from tests.bench import upstream
from tests.bench.bridge import Ground
from tests.bench.cases import MESSAGE, WORDS, Case, expect, read_events, rpc
from tests.bench.many import many_streams
from tests.bench.targets import hub, write_settings

MANY = 200
BUDGET_MB = 200

HUB_YAML = """\
hub:
  database: sqlite:///{directory}/hub.db
models:
  bench: {{provider: openai, model: upstream-model, base_url: "http://127.0.0.1:{upstream}/v1", api_key: sk-upstream}}
agents:
  bridged: {{bridge: openai, url: "http://127.0.0.1:{upstream}/long", options: {{model: m}}}}
keys:
  - {{name: bench, key: {key}, allow: ["model:bench", "agent:bridged"]}}
"""


def _whole(body: bytes) -> None:
    """The task, its artifact in pieces of 256 KiB together, and that it is completed."""
    events = read_events(body)
    chunks = [event["artifactUpdate"]["artifact"]["parts"][0]["text"] for event in events if "artifactUpdate" in event]
    expect(chunks, [upstream.long_piece(number) for number in range(upstream.ARTIFACT_CHUNKS)])
    expect(events[-1]["statusUpdate"]["status"]["state"], "TASK_STATE_COMPLETED")


STREAMS = Case(
    name=f"{MANY} bridged streams at once",
    path="/a2a/bridged",
    body=rpc("SendStreamingMessage", {"message": MESSAGE}),
    headers={"A2A-Version": "1.0"},
    words=len(WORDS),
    check=_whole,
)


def measure(ground: Ground) -> dict[str, Any]:
    """The most memory that a new hub had with all of them open."""
    directory = ground.directory / "bridged"
    directory.mkdir()
    with hub(directory, ground.proxy_core, write_settings(directory, ground.upstream_port, HUB_YAML)) as (served, _):
        return many_streams(directory, ground.load_core, served, STREAMS, (MANY, BUDGET_MB))
