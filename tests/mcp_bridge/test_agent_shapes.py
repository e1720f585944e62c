"""Agents in MCP's words: every kind of part, and what a model is told."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import jsonschema
import mcp_types as t
import pytest

from mcp_bridge import agent_shapes
from registry.judged import encode

TOOL = agent_shapes.tool("research", {"name": "Researcher", "description": "Finds things out.", "skills": []})


class Turn(NamedTuple):
    state: str = "completed"
    task_id: str | None = "t 1"
    context_id: str | None = "c1"
    parts: tuple[Any, ...] = ()
    artifacts: tuple[Any, ...] = ()


def result(**members: Any) -> t.CallToolResult:
    """As the official SDK reads it, its structured content fitting the tool's output schema."""
    found = t.CallToolResult.model_validate_json(encode(agent_shapes.result_of(TOOL, Turn(**members))))
    jsonschema.validate(found.structured_content, json.loads(TOOL.description)["outputSchema"])
    return found


def test_each_kind_of_part_becomes_content_and_structured_content_without_bytes_twice() -> None:
    parts = (
        {"text": "a"},
        {"text": "b"},
        {"data": {"x": [1, None]}, "mediaType": "application/json"},
        {"raw": "aGk=", "mediaType": "image/png", "filename": "p.png"},
        {"raw": "aGk=", "mediaType": "application/pdf", "filename": "p.pdf"},
        {"url": "https://files.example/a.txt", "mediaType": "text/plain"},
        {"url": "javascript:alert(1)"},
    )
    found = result(artifacts=({"artifactId": "a/1", "name": "Result", "parts": list(parts)},))
    uri = "agent://research/t%201/a%2F1/3"
    assert [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in found.content] == [
        {"type": "text", "text": "ab"},
        {"type": "text", "text": '{"x":[1,null]}'},
        {"type": "image", "data": "aGk=", "mimeType": "image/png"},
        {"type": "resource", "resource": {"uri": uri, "mimeType": "application/pdf", "blob": "aGk="}},
        {"type": "resource_link", "uri": "https://files.example/a.txt", "name": "a.txt", "mimeType": "text/plain"},
        {"type": "text", "text": "javascript:alert(1)"},
        {"type": "text", "text": "[completed; task_id t 1, context_id c1]"},
    ]
    assert found.structured_content is not None
    (artifact,) = found.structured_content["artifacts"]
    assert artifact["parts"][:2] == [{"text": "ab"}, {"data": {"x": [1, None]}, "media_type": "application/json"}]
    assert artifact["parts"][3] == {"uri": uri, "filename": "p.pdf", "media_type": "application/pdf"}
    assert "aGk=" not in json.dumps(found.structured_content)


def test_the_text_of_an_answer_that_is_only_artifacts_is_theirs() -> None:
    made = (
        {"parts": [{"text": "one"}, {"text": " piece"}, {"data": {"x": 1}}]},
        {"parts": [{"url": "https://files.example/a.txt"}]},
    )
    only, beside = result(artifacts=made), result(artifacts=made, parts=({"text": "done"},))
    assert only.structured_content is not None
    assert beside.structured_content is not None
    assert only.structured_content["text"] == "one piece\nhttps://files.example/a.txt"
    assert beside.structured_content["text"] == "done"


@pytest.mark.parametrize(
    ("state", "failed"), [("failed", True), ("rejected", True), ("canceled", True), ("working", False)]
)
def test_a_task_that_came_to_nothing_is_an_error(state: str, failed: bool) -> None:
    assert bool(result(state=state, parts=({"text": "why"},)).is_error) == failed


def test_odd_artifacts_of_odd_agents_harm_nobody() -> None:
    assert (
        result(artifacts=({}, {"parts": None, "name": 3}, {"parts": [{}]}), parts=({},)).structured_content is not None
    )


def test_a_card_of_any_size_is_told_in_few_words() -> None:
    skills = [{"name": f"n{at}", "description": "d" * 1000} for at in range(100)]
    told = json.loads(agent_shapes.tool("a", {"description": "x" * 100_000, "skills": [*skills, 3]}).description)
    assert len(told["description"]) < 6000
    assert "n19" in told["description"]


def test_no_name_of_an_agent_is_cut_or_hashed() -> None:
    for name in ("a" * 32, "my_abcdefghij"):  # the second looks as a hashed name would
        assert agent_shapes.tool(name, None).exposed == f"agent__{name}"


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("Open https://id.example/go?x=1.", "https://id.example/go?x=1"),
        ("Either https://a.example or https://b.example", None),
        ("Nowhere", None),
    ],
)
def test_a_link_is_found_where_there_is_one(text: str, link: str | None) -> None:
    assert agent_shapes.link_in(text) == link
