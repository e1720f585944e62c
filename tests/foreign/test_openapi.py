"""A large OpenAPI document of other hands, as the hub reads it."""

from __future__ import annotations

from jsonschema import Draft202012Validator

from mcp_bridge.openapi.check import Check
from mcp_bridge.openapi.document import read_document
from mcp_bridge.openapi.operations import Configured
from tests.foreign.environments import foreign, make

pytestmark = foreign


def test_a_large_real_document_is_read_whole() -> None:
    """LangGraph's: 50 paths, 220 kB, every schema by reference."""
    [path] = make("langgraph").glob("lib/python*/site-packages/openapi.json")
    found = read_document(path.read_text(), "openapi.json", Configured(url="https://langgraph.example"))
    assert not found.quarantined
    assert len(found.operations) == 64
    for entry in found.operations.values():
        Draft202012Validator.check_schema(entry.tool["inputSchema"])
        Check(entry.tool["inputSchema"]).faults({"body": {"nobody": "knows"}}, 60)
