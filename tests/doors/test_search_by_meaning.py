"""Search by meaning: `hub.search_model` over a real hub, an SDK's MCP server, and a fake service of embeddings (no key for a real one)."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hub.cli.probes import examine
from llm import toolbox
from registry.declared.config import read
from registry.identity import HUB
from tests.conftest import ADMIN_KEY, open_hub
from tests.doors.test_mcp_search import ERAS, connected, said
from tests.peers import mcp_servers
from tests.peers.mcp_hub import McpHub
from tests.peers.openai_endpoints import Endpoints, error, openai_endpoints
from tests.peers.openai_upstream import OpenAIUpstream, Turn, openai_upstream
from tests.until import until

TOOLS = ("post", "paint", "erase")
MEANINGS = (("post", "letter"), ("paint", "picture"), ("erase", "wipe"))
"""What is near what: a dimension for each."""


def vector(text: str) -> list[float]:
    return [float(any(word in text for word in words)) for words in MEANINGS]


@dataclass
class Desk:
    """What a test gets."""

    hub: McpHub
    peer: mcp_servers.Peer
    fake: Endpoints
    upstream: OpenAIUpstream

    async def learnt(self) -> None:
        """Wait until the catalog's vectors are there."""
        meanings = self.hub.dispatch.meanings
        assert meanings is not None
        await until(lambda: len(meanings._kept) >= len(TOOLS))

    async def found(self, secret: str, query: str, era: str = "2026-07-28") -> list[str]:
        async with connected(self.hub, secret, era=era, mode="search") as client:
            result = await client.call_tool("search_tools", {"query": query})
            text = result.content[0].text
            return [] if text.startswith("Nothing") else [one["name"] for one in said(result)["found"]]


@asynccontextmanager
async def open_desk(
    directory: Path, *turns: Turn, setting: str = "search_model: near", more: str = ""
) -> AsyncIterator[Desk]:
    async with (
        mcp_servers.dual_era(tools=TOOLS) as peer,
        openai_endpoints() as fake,
        openai_upstream(*turns or [Turn("hi")]) as upstream,
    ):
        fake.vector = vector
        yaml = (
            f"mcpServers: {{peer: {{url: {peer.url}}}}}\n"
            "models:\n"
            f"  near: {{provider: openai, model: up-1, base_url: '{fake.url}', api_key: sk-fake-key}}\n"
            f"  m: {{provider: openai, model: up-1, base_url: '{upstream.url}', api_key: sk-fake-key}}\n"
            f"{more}"
        )
        async with open_hub(directory, yaml, setting=setting) as opened:
            hub = McpHub(opened.url, opened.services, opened.gate)
            await hub.listed("peer__post")
            yield Desk(hub, peer, fake, upstream)


@ERAS
async def test_a_tool_is_found_by_a_query_that_shares_no_word_with_it(tmp_path: Path, era: str) -> None:
    async with open_desk(tmp_path) as desk:
        await desk.learnt()
        key = await desk.hub.key("tool:*")
        assert (await desk.found(key, "a letter to my aunt", era))[0] == "peer__post"
        assert (await desk.found(key, "wipe", era))[0] == "peer__erase"


async def test_without_a_model_such_a_query_finds_nothing(tmp_path: Path) -> None:
    async with open_desk(tmp_path, setting="") as desk:
        assert await desk.found(await desk.hub.key("tool:*"), "a letter to my aunt") == []
        assert not desk.fake.seen


async def test_a_tool_that_is_not_granted_is_never_found(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        await desk.learnt()
        found = await desk.found(await desk.hub.key("tool:peer__p*"), "wipe")
        assert set(found) == {"peer__post", "peer__paint"}


async def test_who_pays(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        await desk.learnt()
        (batch,) = desk.fake.seen
        assert (batch.path, batch.body["model"]) == ("/embeddings", "up-1")
        assert sorted(batch.body["input"]) == [f"peer__{name}: {name} it" for name in sorted(TOOLS)]
        key = await desk.hub.key("tool:*")  # and no grant of the model
        await desk.found(key, "letter")
        assert desk.fake.seen[1].body["input"] == ["letter"]
        made = [permit for permit in desk.hub.gate.permits if permit.kind == "model"]
        assert [permit.principal is HUB for permit in made] == [True, False]
        assert (made[1].principal.name, made[1].entry_name, made[1].usage.input_tokens) == ("key-0", "near", 5)
        async with desk.hub.http(key) as http:
            direct = await http.post("/v1/embeddings", json={"model": "near", "input": "letter"})
            assert direct.status_code == 404


async def test_a_model_that_fails_leaves_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with open_desk(tmp_path) as desk:
        await desk.learnt()
        key = await desk.hub.key("tool:*")
        with caplog.at_level(logging.WARNING, "registry.search.meaning"):
            for answer in (
                error(401, "no such key"),
                error(400, "too long"),
                *map(
                    _json,
                    (
                        "{}",
                        '{"data":[]}',
                        '{"data":[{"index":0,"embedding":[]}]}',
                        "[" * 9000,
                        '{"data":[{"index":3,"embedding":[1]}]}',
                    ),
                ),
            ):
                desk.fake.answer = answer
                assert await desk.found(key, "erase") == ["peer__erase"]
        assert [record.message for record in caplog.records if record.name == "registry.search.meaning"] == [
            "the model of search fails: tools are searched by words alone"
        ]
        assert len(await desk.found(key, "erase")) == 3  # it answers again


@pytest.mark.parametrize("when", ["", ", when: \"arguments.input[0] == 'letter'\""])
@pytest.mark.parametrize("effect", ["deny", "require_approval"])
async def test_what_a_rule_keeps_from_the_model_is_searched_by_words(
    tmp_path: Path, effect: str, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    rule = f"policy: [{{name: no, effect: {effect}, entries: ['model:near']{when}}}]\n"
    async with open_desk(tmp_path, more=rule) as desk:
        await desk.learnt()
        key = await desk.hub.key("tool:*")
        assert await desk.found(key, "letter") == []
        assert len(desk.fake.seen) == 1
        assert (len(await desk.found(key, "wipe")) == 3) is bool(when)
        assert "words alone" not in caplog.text


async def test_a_key_that_has_spent_its_budget_searches_by_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_desk(tmp_path) as desk:
        await desk.learnt()
        async with desk.hub.http(ADMIN_KEY) as http:
            body = {"name": "poor", "allow": ["tool:*"], "limits": {"tokens_per_minute": 5}}
            key = (await http.post("/api/keys", json=body)).json()["key"]
        assert len(await desk.found(key, "letter")) == 3  # 5 tokens
        assert await desk.found(key, "letter") == []
        assert len(desk.fake.seen) == 2
        assert "words alone" not in caplog.text


async def test_a_model_that_is_not_there_leaves_words(tmp_path: Path) -> None:
    async with open_desk(tmp_path, setting="search_model: nowhere") as desk:
        key = await desk.hub.key("tool:*")
        assert await desk.found(key, "erase") == ["peer__erase"]
        assert await desk.found(key, "letter") == []


async def test_a_model_that_searches_in_a_chat_finds_by_meaning_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolbox, "MANY_TOOLS", 1)
    search = Turn(calls=(("hub__search_tools", json.dumps({"query": "a letter to my aunt", "limit": 1})),))
    async with open_desk(tmp_path, search, Turn("done")) as desk:
        await desk.learnt()
        async with desk.hub.http(await desk.hub.key("tool:*", "model:m")) as http:
            tools: list[Any] = [{"type": "mcp", "server_label": "peer", "server_url": "hub/mcp/peer"}]
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": tools}
            answer = await http.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
        told = desk.upstream.received[-1].body["messages"][-1]["content"]
        assert [one["name"] for one in json.loads(told)["found"]] == ["peer__post"]
        made = [permit for permit in desk.hub.gate.permits if permit.entry_name == "near"]
        assert made[-1].request_id == answer.headers["x-request-id"]


def _json(text: str) -> Any:
    from starlette.responses import Response

    return Response(text, media_type="application/json")


async def test_doctor_has_the_model_make_a_vector(tmp_path: Path) -> None:
    async with openai_endpoints() as fake:
        text = (
            f"hub: {{database: 'sqlite:///{tmp_path}/hubbub.db', search_model: near}}\n"
            f"models: {{near: {{provider: openai, model: up-1, base_url: '{fake.url}', api_key: x}}}}\n"
        )
        for model, fault in (
            ("near", None),
            ("none", "No model 'none' here.; tools are searched by words alone"),
        ):
            declared = read(
                text.replace("search_model: near", f"search_model: {model}"),
                file="hub.yaml",
                environ={},
                read_file=lambda name: "",
            )
            found = {finding.probe: finding.fault for finding in await examine(declared)}
            assert found["search by meaning"] == fault
        assert [seen.path for seen in fake.seen if seen.method == "POST"] == ["/embeddings"]
