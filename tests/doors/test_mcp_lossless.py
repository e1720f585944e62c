"""What servers and clients say to each other goes through the hub as it is, in every combination of eras (hypothesis)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import httpx
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.peers import mcp_servers
from tests.peers.mcp_hub import META, headers, open_mcp_hub
from tests.peers.mcp_servers import Script, _json
from tests.peers.mcp_waiting import read, rpc, session

Json = dict[str, Any]
WORDS = st.text('ab/ü"\\\n\u2028😀', max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
UNKNOWN = st.dictionaries(WORDS.map("x.example/".__add__), VALUES, max_size=2)
ARGUMENTS = st.dictionaries(
    WORDS | st.sampled_from(["name", "uri", "method", "params", "arguments", "_meta"]), VALUES, max_size=3
)
TRACE = st.fixed_dictionaries(
    {}, optional={"traceparent": st.just("00-" + "a" * 32 + "-" + "b" * 16 + "-01"), "tracestate": st.just("v=1")}
)


def known(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """An object of these members, each there or not, and unknown ones."""
    return st.builds(lambda one, more: {**more, **one}, st.fixed_dictionaries({}, optional=members), UNKNOWN)


def of(kind: str, **members: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """A content block, with its members and annotations."""
    more = known(annotations=known(audience=st.just(["user"]), priority=st.floats(0, 1)), _meta=UNKNOWN)
    return st.builds(lambda one, other: {"type": kind, **other, **one}, st.fixed_dictionaries(members), more)


ICONS = st.lists(
    known(mimeType=WORDS, sizes=st.just(["48x48"])).map(lambda one: {**one, "src": "https://icons.example/a.png"}),
    max_size=2,
)
URIS = st.sampled_from(["file:///a", "memo:first", "ui://board/main.html"])
APP = st.builds(
    lambda more, ui: {**more, **ui}, UNKNOWN, st.just({}) | known(resourceUri=URIS).map(lambda ui: {"ui": ui})
)
SCHEMAS = known(properties=st.dictionaries(WORDS, UNKNOWN, max_size=2)).map(lambda one: {**one, "type": "object"})
TOOLS = st.builds(
    lambda schema, more: {**more, "inputSchema": schema},
    SCHEMAS,
    known(
        title=WORDS,
        description=WORDS,
        outputSchema=SCHEMAS,
        annotations=known(title=WORDS, readOnlyHint=st.booleans()),
        icons=ICONS,
        _meta=APP,
    ),
)
CONTENTS = known(mimeType=WORDS, text=WORDS, _meta=UNKNOWN)
BLOCKS = (
    of("text", text=WORDS)
    | of("image", data=st.just("aGk="), mimeType=st.just("image/png"))
    | of("audio", data=st.just("aGk="), mimeType=st.just("audio/wav"))
    | of("resource_link", uri=URIS, name=WORDS, icons=ICONS)
    | of("resource", resource=st.builds(lambda uri, more: {**more, "uri": uri}, URIS, CONTENTS))
    | of("x.example/future", payload=VALUES)
)
RESULTS = st.builds(
    lambda content, more: {**more, "content": content},
    st.lists(BLOCKS, max_size=3),
    known(structuredContent=VALUES, isError=st.booleans(), _meta=APP),
)
SAID = st.fixed_dictionaries({"tool": TOOLS, "result": RESULTS, "arguments": ARGUMENTS, "meta": UNKNOWN})


def modern_server(said: list[Json], heard: list[Json]) -> Script:
    def answer(message: Json) -> tuple[int, bytes, bytes]:
        if message.get("method") != "tools/call":
            return 400, b"text/plain", b"Bad Request"
        heard.append(message["params"])
        return _json(message["id"], {**said[int(message["params"]["name"])]["result"], "resultType": "complete"})

    return mcp_servers.modern([{**one["tool"], "name": str(n)} for n, one in enumerate(said)], call=answer)


def older_server(said: list[Json], heard: list[Json]) -> Script:
    def script(message: Json) -> tuple[int, bytes, bytes]:
        match message.get("method"):
            case "initialize":
                found: Json = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}}
                return _json(message["id"], {**found, "serverInfo": {"name": "older", "version": "1"}})
            case "tools/list":
                return _json(message["id"], {"tools": [{**one["tool"], "name": str(n)} for n, one in enumerate(said)]})
            case "tools/call":
                heard.append(message["params"])
                return _json(message["id"], said[int(message["params"]["name"])]["result"])
            case str() as method if method.startswith("notifications/"):
                return 202, b"application/json", b""
        return 405, b"text/plain", b"Method Not Allowed"

    return script


def rewritten(value: Any) -> Any:
    """What has a URI, as `/mcp` shows it."""
    uri = value.replace("ui://", "ui://peer/") if value.startswith("ui://") else f"peer+{value}"
    return uri if isinstance(value, str) else value


def shown_meta(owner: Json) -> Json:
    ui = owner.get("_meta", {}).get("ui", {})
    if "resourceUri" not in ui:
        return owner
    return {**owner, "_meta": {**owner["_meta"], "ui": {**ui, "resourceUri": rewritten(ui["resourceUri"])}}}


def shown_result(result: Json) -> Json:
    content = [dict(block) for block in result["content"]]
    for block in content:
        if block["type"] == "resource_link":
            block["uri"] = rewritten(block["uri"])
        if block["type"] == "resource":
            block["resource"] = {**block["resource"], "uri": rewritten(block["resource"]["uri"])}
    return shown_meta({**result, "content": content})


@settings(max_examples=8, phases=[Phase.generate])  # each starts a hub: what fails is not made smaller
@given(st.lists(SAID, min_size=6, max_size=6), TRACE)
async def test_tools_calls_and_results_go_through_without_loss(said: list[Json], trace: Json) -> None:
    for make in (modern_server, older_server):
        heard: list[Json] = []
        with tempfile.TemporaryDirectory() as directory:
            async with (
                mcp_servers.scripted(make(said, heard)) as peer,
                open_mcp_hub(Path(directory), f"mcpServers: {{peer: {{url: {peer.url}}}}}\n") as hub,
                hub.http(await hub.key("tool:*")) as http,
            ):
                await hub.sync.refresh("peer")
                assert not hub.services.registry.catalog.quarantined
                for path, prefix in (("/mcp", "peer__"), ("/mcp/peer", "")):
                    for client in (Modern(http, path), await Older.opened(http, path)):
                        await compare(client, said, heard, prefix=prefix, trace=trace)


class Modern:
    """A client of 2026-07-28."""

    def __init__(self, http: httpx.AsyncClient, path: str) -> None:
        self._http = http
        self._path = path

    async def ask(self, method: str, params: Json) -> Json:
        meta = {**META, **params.get("_meta", {})}
        body = rpc(method, {**params, "_meta": meta})
        return read(await self._http.post(self._path, json=body, headers=headers(method, params.get("name"))))

    def expected(self, result: Json) -> Json:
        meta = {**result.get("_meta", {}), "io.modelcontextprotocol/serverInfo": {"name": "hubbub", "version": "0.1.0"}}
        return {**result, "resultType": "complete", "_meta": meta}


class Older:
    """A client of 2025-11-25."""

    def __init__(self, http: httpx.AsyncClient, path: str, given: dict[str, str]) -> None:
        self._http = http
        self._path = path
        self._given = given

    @classmethod
    async def opened(cls, http: httpx.AsyncClient, path: str) -> Older:
        return cls(http, path, await session(http, {}))

    async def ask(self, method: str, params: Json) -> Json:
        return read(await self._http.post(self._path, json=rpc(method, params), headers=self._given))

    def expected(self, result: Json) -> Json:
        if isinstance(result.get("structuredContent", {}), dict):
            return result
        return {name: value for name, value in result.items() if name != "structuredContent"}


async def compare(client: Modern | Older, said: list[Json], heard: list[Json], *, prefix: str, trace: Json) -> None:
    listed = (await client.ask("tools/list", {}))["result"]["tools"]
    for number, (one, tool) in enumerate(zip(said, listed, strict=True)):
        name = f"{prefix}{number}"
        described = {member: value for member, value in one["tool"].items() if value is not None}  # null is as absent
        expected = {**described, "name": name}
        assert tool == (shown_meta(expected) if prefix else expected)
        heard.clear()
        meta = {**one["meta"], **trace, "baggage": "secret=1"}
        asked: Json = {"name": name, "arguments": one["arguments"], "x.example/more": 1, "_meta": meta}
        answer = await client.ask("tools/call", asked)
        assert "result" in answer, (answer, heard)
        assert answer["result"] == client.expected(shown_result(one["result"]) if prefix else one["result"])
        (params,) = heard
        got = {key: value for key, value in params.pop("_meta", {}).items() if "modelcontextprotocol" not in key}
        assert got == {**one["meta"], **trace}
        assert params == {"name": str(number), "arguments": one["arguments"], "x.example/more": 1}
