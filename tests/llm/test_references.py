"""Ids in bodies are found by where they stand, never by how they look."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm.platform import references
from llm.platform.sealed_ids import Kind
from registry.errors import InvalidRequest


def changed(format: str, body: dict[str, Any]) -> dict[str, Any]:
    return json.loads(references.in_request(json.dumps(body).encode(), references.ASKED[format], mark))


def mark(kind: Kind, text: str) -> str:
    return f"{kind}:{text}"


def test_all_places_of_a_responses_request_are_found_and_nothing_else() -> None:
    body = {
        "model": "m",
        "input": [
            {
                "type": "message",
                "content": [{"type": "input_file", "file_id": "f1"}, {"type": "input_text", "text": "file_id"}],
            },
            {"type": "function_call_output", "output": [{"type": "input_image", "file_id": "f2"}]},
            {"type": "computer_call_output", "output": {"type": "computer_screenshot", "file_id": "f5"}},
            {"type": "function_call", "arguments": '{"file_id": "mine"}'},
            "odd",
        ],
        "tools": [
            {"type": "file_search", "vector_store_ids": ["v1", "v2"]},
            {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["f3"]}},
            {"type": "code_interpreter", "container": "cntr_1"},
            {"type": "image_generation", "input_image_mask": {"file_id": "f4"}},
            {"type": "function", "parameters": {"properties": {"file_id": {"const": "file-x"}}}},
        ],
        "metadata": {"file_id": "mine"},
        "prompt": {"id": "p", "variables": {"a": {"type": "input_file", "file_id": "f6"}, "b": "file_id"}},
    }
    found = changed("responses", body)
    assert found["input"][0]["content"][0]["file_id"] == "file:f1"
    assert found["input"][1]["output"][0]["file_id"] == "file:f2"
    assert found["input"][2]["output"]["file_id"] == "file:f5"
    assert found["prompt"]["variables"] == {"a": {"type": "input_file", "file_id": "file:f6"}, "b": "file_id"}
    assert found["tools"][0]["vector_store_ids"] == ["vector store:v1", "vector store:v2"]
    assert found["tools"][1]["container"]["file_ids"] == ["file:f3"]
    assert found["tools"][3]["input_image_mask"]["file_id"] == "file:f4"
    assert (found["metadata"], found["tools"][4], found["input"][3:]) == (
        body["metadata"],
        body["tools"][4],
        body["input"][3:],
    )


@pytest.mark.parametrize("content", ["text", None, 7, [], [[]], [{"file": "x"}], [{"file": {"file_id": None}}]])
def test_what_is_no_id_stays_as_it_is(content: object) -> None:
    body = {"messages": [{"content": content}, 7]}
    assert changed("chat", body) == body


def test_an_id_that_stands_twice_is_refused() -> None:
    body = b'{"messages":[{"content":[{"file":{"file_id":"a","file_id":"b"}}]}]}'
    with pytest.raises(InvalidRequest, match="twice"):
        references.in_request(body, references.ASKED["chat"], mark)


def test_only_bodies_that_may_hold_ids_are_read() -> None:
    assert not references.mentions(b'{"messages":[{"content":"hello"}]}')
    assert references.mentions(b'{"file_id":1}')
    assert references.mentions(b'{"file\\u005fid":1}')
    assert not references.mentions(json.dumps({"messages": "äöü 你好"}).encode())
