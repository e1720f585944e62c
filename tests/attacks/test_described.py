"""Everything that the admin API's description allows, and much that it does not, asked of a real hub by schemathesis.

No answer is a server's error, and each is of a status, type and shape that the description names. Data that it forbids is
refused, but for parameters that it does not know, which HTTP lets anybody send. Data that it allows may be refused: it does
not say which names exist.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import CheckFunction
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.conftest import ADMIN_KEY
from tests.peers import mcp_servers
from tests.peers.a2a_agent import sdk_agent
from tests.processes import HubProcess, hub_process

EXAMPLES = {GenerationMode.POSITIVE: 5, GenerationMode.NEGATIVE: 3}

MADE: dict[str, dict[str, Any]] = {
    "users": {"name": "known-users"},
    "teams": {"alias": "known-teams"},
    "keys": {"name": "known-keys", "allow": []},
    "agents": {"name": "known-agents", "url": "{agent}"},
    "mcp-servers": {"name": "known-mcp-servers", "url": "{server}"},
    "models": {"name": "known-models", "provider": "offline"},
    "toolsets": {"name": "known-toolsets", "tools": ["known__*"]},
}
"""What is in each collection at first."""

Faults = dict[str, str]


def whole(url: str) -> Iterator[Any]:
    """All operations; what deletes comes last."""
    generation = GenerationConfig(allow_extra_parameters=False)
    config = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=generation)))
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    operations = [found.ok() for found in schema.get_all_operations()]
    yield from sorted(operations, key=lambda operation: operation.method == "delete")


def known(path: str, parameter: str) -> str | int:
    """What a parameter of a path has to be for something to be there."""
    collection = {"team": "teams", "user": "users"}.get(parameter, path.split("/")[2])
    return 1 if parameter in {"letter", "number"} else f"known-{collection}"


def asked(url: str, operation: Any, mode: GenerationMode) -> tuple[set[int], Faults]:
    """Ask one operation in one way; returns the statuses that came, and what was wrong by what it was."""
    statuses: set[int] = set()
    faults: Faults = {}
    excluded: list[CheckFunction] = [positive_data_acceptance]

    @settings(
        max_examples=EXAMPLES[mode], phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode), is_known=st.booleans())
    def ask(case: Any, is_known: bool) -> None:
        if is_known and mode is GenerationMode.POSITIVE:
            case.path_parameters = {name: known(operation.path, name) for name in case.path_parameters or {}}
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        try:
            answer = case.call_and_validate(base_url=url, headers=headers, excluded_checks=excluded)
        except FailureGroup as group:
            for fault in group.exceptions:
                faults.setdefault(f"{operation.label} {type(fault).__name__}", str(group)[:2000])
        else:
            statuses.add(answer.status_code)

    try:
        ask()
    except Unsatisfiable:
        if mode is GenerationMode.POSITIVE:
            raise
    return statuses, faults


async def furnish(hub: HubProcess, **urls: str) -> None:
    async with hub.http() as admin:
        for collection, body in MADE.items():
            said = {**body, "url": body["url"].format(**urls)} if "url" in body else body
            made = await admin.post(f"/api/{collection}", json=said)
            assert made.status_code == 201, made.text
        put = await admin.put(
            "/api/policy", json={"rules": [{"name": "none", "effect": "deny", "entries": ["tool:x"]}]}
        )
        assert put.status_code == 200, put.text


@pytest.mark.timeout(300)
@pytest.mark.attack("2.2/11", "2.1/27")
async def test_the_api_is_as_it_is_described_whatever_is_sent(tmp_path: Path) -> None:
    came: dict[GenerationMode, dict[str, set[int]]] = defaultdict(dict)
    faults: Faults = {}

    def everything(url: str) -> None:
        for mode in EXAMPLES:
            for operation in whole(url):
                came[mode][operation.label], found = asked(url, operation, mode)
                faults.update(found)

    async with sdk_agent() as agent, mcp_servers.dual_era() as server, hub_process(tmp_path, "") as hub:
        await furnish(hub, agent=agent.url, server=server.url)
        await asyncio.to_thread(everything, hub.url)
    assert not faults, "\n\n".join(faults.values())
    allowed, forbidden = (list(came[mode].values()) for mode in EXAMPLES)
    assert sum(min(found) < 300 for found in allowed) > len(allowed) / 2, "or only refusals were looked at"
    assert sum(400 in found for found in forbidden) > len(forbidden) / 3
