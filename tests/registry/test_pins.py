"""Everything of a thing that a model or its user is told is pinned, member by member; what neither reads may change."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry.callers.keys import Keys
from registry.declared.config import Declared
from registry.entries import ListedKind, Server
from registry.registry import Registry
from registry.sealed.secrets import Sealer
from registry.store.db import Database
from registry.trust.listings import Listed

TOOL: dict[str, Any] = {
    "name": "add",
    "title": "Add",
    "description": "Adds numbers.",
    "inputSchema": {"type": "object", "properties": {"a": {"type": "number", "description": "One."}}},
    "outputSchema": {"type": "object"},
    "annotations": {"readOnlyHint": True},
    "icons": [],
    "_meta": {"v": 1},
}
PROMPT: dict[str, Any] = {"name": "greet", "title": "Greet", "arguments": [{"name": "who", "description": "Whom."}]}
TEMPLATE: dict[str, Any] = {"name": "memos", "uriTemplate": "memo:{name}", "mimeType": "text/plain", "_meta": {}}
SERVER: dict[str, Any] = {"name": "peer", "version": "1", "instructions": "Ask.", "capabilities": [], "extensions": []}

DRIFTS: list[tuple[ListedKind, dict[str, Any], str, Any]] = [
    ("tool", TOOL, "title", "Add up"),
    ("tool", TOOL, "description", "Adds numbers. "),
    ("tool", TOOL, "inputSchema", {"type": "object"}),
    ("tool", TOOL, "inputSchema", {"type": "object", "properties": {"a": {"type": "number", "description": "Two."}}}),
    ("tool", TOOL, "outputSchema", {"type": "object", "properties": {}}),
    ("tool", TOOL, "annotations", {"readOnlyHint": False}),
    ("tool", TOOL, "annotations", None),
    ("tool", TOOL, "member of a later revision", True),
    ("prompt", PROMPT, "title", "Hail"),
    ("prompt", PROMPT, "arguments", [{"name": "who", "description": "Whose key."}]),
    ("template", TEMPLATE, "mimeType", "text/html"),
    ("server", SERVER, "version", "2"),
    ("server", SERVER, "instructions", "Ask often."),
    ("server", SERVER, "name", "other"),
]
ALLOWED: list[tuple[ListedKind, dict[str, Any], str, Any]] = [
    ("tool", TOOL, "icons", [{"src": "https://a.example/i.png"}]),
    ("tool", TOOL, "_meta", {"v": 2}),
    ("template", TEMPLATE, "_meta", {"v": 2}),
    ("server", SERVER, "capabilities", ["tools"]),
    ("server", SERVER, "extensions", ["x"]),
]


async def reason_after(database: Database, kind: ListedKind, before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Why a thing is withheld that was listed otherwise before; None: it is not."""
    registry = Registry(database, Sealer([b"k" * 32]), Keys(database))
    server = Server(name="peer", url="http://peer.example/mcp", quarantine_drift=True)
    await registry.follow_file(Declared(servers={"peer": server}))
    listings = [[Listed("it", "peer__it", json.dumps(said).encode(), kind=kind)] for said in (before, now)]
    first, second = [await registry.set_listing("peer", listing, kinds=(kind,)) for listing in listings]
    assert first[0].quarantined is None
    return second[0].quarantined


@pytest.mark.parametrize(("kind", "said", "member", "value"), DRIFTS, ids=lambda value: str(value)[:30])
@pytest.mark.attack("2.1/9")
async def test_what_is_read_by_a_model_is_pinned(
    database: Database, kind: ListedKind, said: dict[str, Any], member: str, value: Any
) -> None:
    reason = await reason_after(database, kind, said, {**said, member: value})
    assert reason is not None
    assert f"{member} changed and waits for the operator's approval" in reason


@pytest.mark.parametrize(("kind", "said", "member", "value"), ALLOWED, ids=lambda value: str(value)[:30])
async def test_what_no_model_reads_may_change(
    database: Database, kind: ListedKind, said: dict[str, Any], member: str, value: Any
) -> None:
    assert await reason_after(database, kind, said, {**said, member: value}) is None


async def test_the_same_in_another_order_and_another_spelling_is_no_change(database: Database) -> None:
    turned = dict(reversed(TOOL.items()))
    assert await reason_after(database, "tool", TOOL, turned) is None
