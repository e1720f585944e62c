"""How bridges are configured: what is wrong is told before anybody calls, and packages bring more."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.bridges.kinds import KINDS, BridgeInvalid, fault, make
from registry.declared.config import ConfigInvalid, read
from registry.entries import Bridged
from tests.conftest import ADMIN_KEY, open_hub

DOCS = Path(__file__).parents[2] / "docs"
FAULTS = {
    "{bridge: nothing, url: http://a}": "there is no bridge 'nothing'; there are adk, ag_ui",
    "{bridge: langgraph}": "needs url",
    "{bridge: langgraph, url: http://a}": "missing required field `assistant`",
    "{bridge: openai, url: http://a, options: {model: m, colour: red}}": "unknown field `colour`",
    "{bridge: openai, url: http://a, options: {model: m}, detach: true}": "detach, which belongs to an agent that speaks A2A",
    "{url: http://a, assistant: x}": "assistant and options belong to a bridge",
    "{bridge: http, url: http://a, options: {request: 'text +', answer: answer.x}}": "request is not CEL",
    "{bridge: http, url: http://a, options: {request: '{}', answer: answer.x}}": "request looks at none of",
    "{bridge: pydantic_ai, url: http://a, options: {api: acp}}": "Invalid enum value 'acp'",
    "{bridge: pydantic_ai, url: http://a, options: {api: a2a}, assistant: x}": "there is one agent at an address",
    "{bridge: langgraph, url: http://a, options: {api: a2a}}": "needs assistant",
    "{bridge: langgraph, url: http://a, assistant: x, options: {api: a2a, x: 1}}": "x, which belongs to the platform's own API",
    "{bridge: mcp, url: http://a, options: {tool: x}}": "tool and argument go together",
    "{bridge: azure, url: http://a, assistant: a, options: {api: threads, version: v}}": "version and background belong to",
    "{bridge: bedrock, url: http://a, options: {runtime: brain}}": "runtime is not the ARN",
    "{bridge: bedrock, url: http://a, options: {alias: brain, keys: {access_key_id: a, secret_access_key: b}}}": "alias is not the ARN",
}


@pytest.mark.parametrize("entry", FAULTS)
def test_what_is_wrong_with_a_bridge_is_told_with_its_line(entry: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        read(f"agents:\n  there: {entry}\n", file="hub.yaml", environ={}, read_file=str, bridge_fault=fault)
    (found,) = caught.value.faults
    assert found.line == 2
    assert FAULTS[entry] in found.text


async def test_the_api_refuses_a_bridge_that_cannot_be_made_and_shows_no_options(tmp_path: Path) -> None:
    async with open_hub(tmp_path) as hub, hub.http(ADMIN_KEY) as admin:
        body = {"name": "there", "bridge": "openai", "url": "https://a.example/v1", "options": {"mdl": "m"}}
        refused = await admin.post("/api/agents", json=body)
        assert (refused.status_code, "unknown field `mdl`" in refused.text) == (400, True)
        made = await admin.post("/api/agents", json={**body, "options": {"model": "canary-model"}})
        assert (made.status_code, made.json()["bridge"]) == (201, "openai")
        assert "canary-model" not in made.text
        moved = await admin.patch("/api/agents/there", json={"url": "https://b.example/v1"})
        assert moved.status_code == 200  # by the admin key, which has written everything


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_is_wrong_with_options_that_it_does_not_know(kind: str) -> None:
    with pytest.raises(BridgeInvalid):
        make("http://a", Bridged(kind=kind, options=b'{"nobody-knows": 1}'))
