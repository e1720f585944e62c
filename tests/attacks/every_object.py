"""Every way to name something that somebody has: one row for each route or operation and kind of thing. Data.

`{it}` is the id that is asked for; `{file}`, `{store}` and so on are things of the caller's own. A2A's rows stand in
`test_tenants_in_every_speech`, which asks in all speeches.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

from agents.speech import Operation as A2AOperation
from llm.platform.operations import KINDS, OPERATIONS
from mcp_bridge import tasks
from tests.attacks.test_tenants_in_every_speech import CONFIG_FIELDS, CONTEXT_FIELDS, TASK_FIELDS
from tests.peers.mcp_follower import ABLE
from tests.peers.mcp_hub import headers as modern_headers

IT = "{it}"


class Row(NamedTuple):
    """One way to name one kind of thing."""

    kind: str
    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})
    form: str = ""
    """The member of a form that has a file; empty: it is none."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.method} {self.path} {str(self.body)[:60] if self.body else ''}".strip()


def _platform_rows() -> list[Row]:
    """Each operation once for every id in its path: that one is somebody else's, the others are the caller's own."""
    rows = []
    for operation in OPERATIONS:
        for at, step in enumerate(operation.path):
            if step not in KINDS:
                continue
            steps = [IT if place == at else one for place, one in enumerate(operation.path)]
            body = None if operation.sends is None else _BODIES.get(operation.path[-1], {})
            form = "data" if operation.path[-1] == "parts" else ""
            rows.append(Row(KINDS[step], operation.method, "/v1/" + "/".join(steps), body, form=form))
    return rows


_BODIES: dict[str, Any] = {
    "search": {"query": "x"},
    "files": {"file_id": "{file}"},
    "file_batches": {"file_ids": ["{file}"]},
    "complete": {"part_ids": []},
}
_CHAT: dict[str, Any] = {"model": "m"}
_SAID = {"model": "chat", "input": "x"}
_ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
_RAN = {"type": "code_interpreter_call", "id": "ci_1", "code": "1", "outputs": None, "status": "completed"}


def _user(*parts: Any) -> list[Any]:
    return [{"role": "user", "content": [{"type": "text", "text": "x"}, *parts]}]


REFERENCES = [
    Row("file", "POST", "/v1/batches", {"input_file_id": IT, "endpoint": "/v1/embeddings", "completion_window": "24h"}),
    Row("file", "POST", "/v1/vector_stores", {"file_ids": [IT]}),
    Row("file", "POST", "/v1/vector_stores/{store}/files", {"file_id": IT}),
    Row("file", "POST", "/v1/vector_stores/{store}/file_batches", {"file_ids": [IT]}),
    Row(
        "file", "POST", "/v1/chat/completions", {**_CHAT, "messages": _user({"type": "file", "file": {"file_id": IT}})}
    ),
    Row("file", "GET", "/v1/files?after={it}"),
    Row("batch", "GET", "/v1/batches?after={it}"),
    Row("vector store", "GET", "/v1/vector_stores?after={it}"),
    Row(
        "vector store",
        "POST",
        "/v1/responses",
        {**_CHAT, "input": "x", "tools": [{"type": "file_search", "vector_store_ids": [IT]}]},
    ),
    Row(
        "file",
        "POST",
        "/v1/responses",
        {**_CHAT, "input": [{"role": "user", "content": [{"type": "input_file", "file_id": IT}]}]},
    ),
    *(
        Row("container", "POST", "/v1/responses", {**_CHAT, "input": "x", "tools": [tool]})
        for tool in (
            {"type": "code_interpreter", "container": IT},
            {"type": "shell", "environment": {"type": "container_reference", "container_id": IT}},
        )
    ),
    Row("container", "POST", "/v1/responses", {**_CHAT, "input": [{**_RAN, "container_id": IT}]}),
]
"""Ids of what providers keep, in bodies and queries; `tests/llm/test_provider_ids.py` has all that the formats can name."""

RESPONSES = [
    Row("response", "GET", "/v1/responses/{it}"),
    Row("response", "GET", "/v1/responses/{it}?stream=true"),
    Row("response", "DELETE", "/v1/responses/{it}"),
    Row("response", "POST", "/v1/responses/{it}/cancel", {}),
    Row("response", "GET", "/v1/responses/{it}/input_items"),
    Row("response", "POST", "/v1/responses", {**_SAID, "previous_response_id": IT}),
    Row("conversation", "POST", "/v1/responses", {**_SAID, "conversation": IT}),
    Row("conversation", "POST", "/v1/responses", {**_SAID, "conversation": {"id": IT}}),
    Row("output", "POST", "/v1/responses", {**_SAID, "input": [{"type": "item_reference", "id": IT}]}),
    Row(
        "approval",
        "POST",
        "/v1/responses",
        {**_SAID, "input": [{"type": "mcp_approval_response", "approval_request_id": IT, "approve": True}]},
    ),
]
CONVERSATIONS = [
    *(
        Row("conversation", method, f"/v1/conversations/{IT}{below}", body)
        for method, below, body in (
            ("GET", "", None),
            ("POST", "", {"metadata": {}}),
            ("DELETE", "", None),
            ("GET", "/items", None),
            ("POST", "/items", {"items": [_ITEM]}),
            ("GET", "/items/{item}", None),
            ("DELETE", "/items/{item}", None),
        )
    ),
    Row("item", "GET", f"/v1/conversations/{{conversation}}/items/{IT}"),
    Row("item", "DELETE", f"/v1/conversations/{{conversation}}/items/{IT}"),
    Row("item", "GET", f"/v1/conversations/{{conversation}}/items?after={IT}"),
]
MODELS = [
    Row("model", "GET", "/v1/models/{it}"),
    Row("model", "POST", "/v1/chat/completions", {"model": IT, "messages": _user()}),
    Row("model", "POST", "/v1/messages", {"model": IT, "max_tokens": 9, "messages": _user()}),
    Row("model", "POST", "/v1/responses", {"model": IT, "input": "x"}),
    Row("model", "POST", "/v1/embeddings", {"model": IT, "input": "x"}),
    Row("model", "POST", "/v1/messages/count_tokens", {"model": IT, "messages": _user()}),
]


def _modern(method: str, header: str, /, **params: Any) -> tuple[Any, dict[str, str]]:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": ABLE}}
    return body, modern_headers(method, header)


def _asked(kind: str, path: str, method: str, header: str, /, **params: Any) -> Row:
    body, headers = _modern(method, header, **params)
    return Row(kind, "POST", path, body, headers)


MCP = [
    *(_asked("task", "/mcp", method, IT, taskId=IT) for method in sorted(tasks.METHODS - {"tasks/update"})),
    _asked("task", "/mcp", "tasks/update", IT, taskId=IT, inputResponses={}),
    _asked(
        *("call", "/mcp", "tools/call", "asking__ask"),
        name="asking__ask",
        arguments={},
        inputResponses={},
        requestState=IT,
    ),
    _asked("toolset", f"/mcp/{IT}", "tools/list", ""),
    _asked("toolset", f"/mcp/{IT}", "tools/call", "tasks__greet", name="tasks__greet", arguments={}),
]
"""Of 2026-07-28. Cursors there are none: lists have one page."""

_OLD = {"mcp-protocol-version": "2025-11-25", "accept": "application/json, text/event-stream", "mcp-session-id": IT}
IN_SESSION = [
    *(
        Row("session", "POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, _OLD)
        for method, params in (
            ("ping", {}),
            ("tools/list", {}),
            ("tools/list", {"cursor": "x"}),
            ("tools/call", {"name": "tasks__greet", "arguments": {}}),
            ("tasks/get", {"taskId": "x"}),
            ("resources/subscribe", {"uri": "x://x"}),
            ("resources/unsubscribe", {"uri": "x://x"}),
            ("logging/setLevel", {"level": "info"}),
        )
    ),
    Row(
        "session",
        "POST",
        "/mcp",
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
        _OLD,
    ),
    Row("session", "POST", "/mcp", {"jsonrpc": "2.0", "id": 9, "result": {}}, _OLD),
    Row("session", "GET", "/mcp", None, _OLD),
    Row("session", "DELETE", "/mcp", None, _OLD),
]
AGENTS = [
    Row("agent", "GET", "/a2a/{it}/.well-known/agent-card.json"),
    Row("agent", "POST", "/a2a/{it}", {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {}}),
]
ROWS = [*_platform_rows(), *REFERENCES, *RESPONSES, *CONVERSATIONS, *MODELS, *MCP, *IN_SESSION, *AGENTS]

ELSEWHERE = {
    "/a2a/_push/": "the secret of a callback stands in its path: test_push_ssrf",
    "/connect/": "a form that asks for a key: test_crawl, test_oauth",
    "/oauth/callback": "the state of a sign-in: test_oauth",
    "/ui": "what a browser's session shows its user: test_sign_in",
    "/ui/": "the same, and the state of a sign-in, the id of a team: test_sign_in",
    "/api/": "below, by the API's own description",
}
"""What takes names of things, and where it is asked otherwise."""

NOTHING = {
    "/.well-known/agent-card.json",
    "/.well-known/ai-catalog.json",
    "/.well-known/jwks.json",
    "/.well-known/oauth-protected-resource",
    "/.well-known/oauth-protected-resource/",
    "/docs",
    "/livez",
    "/oauth/client.json",
    "/openapi.json",
    "/readyz",
    "/uploads",
    "/conversations",
}
"""What names nothing that anybody has."""

BY_MODEL = {
    "/audio/speech",
    "/audio/transcriptions",
    "/audio/translations",
    "/completions",
    "/images/edits",
    "/images/generations",
    "/images/variations",
    "/moderations",
    "/rerank",
    "/models",
}
"""One door with `/embeddings`: they name a model in the same way, and nothing else."""


def lacking(served: set[str]) -> set[str]:
    """Paths and prefixes of the route table that no row asks, without `/v1` and `/v2`."""
    asked = {row.path.partition("{")[0].partition("?")[0] for row in ROWS}
    known = asked | NOTHING | BY_MODEL | ELSEWHERE.keys() | {"/v1/"}
    return {path for path in served if path not in known and f"/v1{path}" not in known and path[3:] not in known}


def operations_without_a_row() -> set[str]:
    """Operations of A2A and MCP that take an id and have no row."""
    a2a = {operation for operation, _ in (*TASK_FIELDS, *CONTEXT_FIELDS, *CONFIG_FIELDS)}
    of_mcp = {row.body["method"] for row in MCP}
    return (set(get_args(A2AOperation)) - a2a - {"GetExtendedAgentCard"}) | (tasks.METHODS - of_mcp)
