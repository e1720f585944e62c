"""The hub with its extra `any-llm`, in an environment of its own: Gemini's own API behind the hub's chat completions."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import openai
import pytest

from tests.conftest import ADMIN_KEY, free_port
from tests.foreign.environments import HERE, foreign, process, python_of, until_it_answers
from tests.peers.gemini_upstream import USAGE, GeminiUpstream, Turn, gemini_upstream

pytestmark = foreign
ASK: list[Any] = [{"role": "user", "content": "hello"}]
TOOL: Any = {
    "type": "function",
    "function": {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}},
}
HUB_YAML = """
hub: {{database: "sqlite:///{directory}/hubbub.db", admin_key: {key}}}
models:
  g: {{provider: google, model: gemini-9, base_url: "{url}"}}
  dropping: {{provider: google, model: gemini-9, base_url: "{url}", drop_params: true}}
  uninstalled: {{provider: bedrock, model: x}}
"""


class Served(NamedTuple):
    """A hub in a process of its own."""

    client: openai.AsyncOpenAI
    pid: int
    lines: list[str]
    """What it printed."""


@asynccontextmanager
async def open_hub(directory: Path, upstream: GeminiUpstream) -> AsyncIterator[openai.AsyncOpenAI]:
    """Serve a hub in the environment of any-llm-sdk, with its models at `upstream`."""
    async with serve(directory, upstream, await python_of("any-llm")) as served:
        yield served.client


@asynccontextmanager
async def serve(
    directory: Path, upstream: GeminiUpstream, python: Path, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Served]:
    """Serve a hub by a Python, in front of the hub's own environment."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    (directory / "hub.yaml").write_text(HUB_YAML.format(directory=directory, key=ADMIN_KEY, url=upstream.url))
    lines: list[str] = []
    command = (python, HERE / "any_llm_hub.py", HERE.parents[1], sysconfig.get_paths()["purelib"])
    options = ("serve", "--config", str(directory / "hub.yaml"), "--port", str(port))
    environ = {"GEMINI_API_KEY": "sk-of-gemini", **(environ or {})}
    async with process(*command, *options, cwd=directory, environ=environ, lines=lines) as child:
        await until_it_answers(child, f"{url}/livez", lines)
        async with (
            httpx.AsyncClient(trust_env=False, timeout=60) as http,
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=ADMIN_KEY, max_retries=0, http_client=http) as client,
        ):
            yield Served(client, child.pid, lines)


def imported(lines: Sequence[str]) -> set[str]:
    """The packages that a process has imported, which says so itself."""
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines if line.startswith("import time:")}


def resident_mb(pid: int) -> float:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1000


async def test_the_extra_costs_neither_start_nor_idle_memory_until_it_is_used(tmp_path: Path) -> None:
    """The same hub with and without it: it imports the same, and is as large; the first call imports the extra."""
    environ = {"PYTHONPROFILEIMPORTTIME": "1"}
    seen: list[tuple[set[str], float]] = []
    async with gemini_upstream(Turn([{"text": "hi there"}])) as upstream:
        for name, python in (("without", Path(sys.executable)), ("with", await python_of("any-llm"))):
            (directory := tmp_path / name).mkdir()
            async with serve(directory, upstream, python, environ) as served:
                seen.append((imported(served.lines), resident_mb(served.pid)))
                if name == "with":
                    await served.client.chat.completions.create(model="g", messages=ASK)
                    assert "any_llm" in imported(served.lines)
    (bare, bare_mb), (extra, extra_mb) = seen
    assert "hub" in bare
    assert extra - bare == set()
    assert extra_mb < bare_mb + SPREAD_MB, (bare_mb, extra_mb)


SPREAD_MB = 6
"""By so much two starts of one hub differ, and other versions of the same libraries."""


async def test_gemini_answers_in_its_own_api_whole_streaming_with_tools_and_with_reasons(tmp_path: Path) -> None:
    async with gemini_upstream(Turn([{"text": "hi there"}])) as upstream, open_hub(tmp_path, upstream) as client:
        whole = await client.chat.completions.create(model="g", messages=ASK, temperature=0.5)
        assert whole.choices[0].message.content == "hi there"
        assert (whole.usage.prompt_tokens, whole.usage.total_tokens) == (
            USAGE["promptTokenCount"],
            USAGE["totalTokenCount"],
        )
        asked = upstream.received.pop()
        assert asked.path.endswith("/models/gemini-9:generateContent")
        assert asked.headers["x-goog-api-key"] == "sk-of-gemini"
        assert ADMIN_KEY not in str(asked)
        assert asked.body["generationConfig"]["temperature"] == 0.5

        upstream.turns = [Turn([{"text": "mind you", "thought": True}, {"text": "one "}, {"text": "two"}])]
        stream = await client.chat.completions.create(model="g", messages=ASK, stream=True)
        chunks = [chunk async for chunk in stream]
        deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
        assert "".join(delta.content or "" for delta in deltas) == "one two"
        assert "".join((delta.model_extra or {}).get("reasoning") or "" for delta in deltas) == "mind you"
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert upstream.received.pop().path.endswith("/models/gemini-9:streamGenerateContent")

        upstream.turns = [Turn([{"functionCall": {"name": "now", "args": {"zone": "UTC"}}}])]
        called = await client.chat.completions.create(model="g", messages=ASK, tools=[TOOL])
        assert called.choices[0].finish_reason == "tool_calls"
        function = called.choices[0].message.tool_calls[0].function
        assert (function.name, function.arguments) == ("now", '{"zone": "UTC"}')

        await errors(client, upstream)


async def errors(client: openai.AsyncOpenAI, upstream: GeminiUpstream) -> None:
    async def failure(model: str = "g", turn: Turn | None = None, **members: Any) -> openai.APIStatusError:
        upstream.turns = [turn or Turn([{"text": "no"}])]
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(model=model, messages=ASK, **members)
        return caught.value

    def said(status: int, reason: str, text: str) -> Turn:
        return Turn(status=status, error={"code": status, "message": text, "status": reason})

    limited = await failure(turn=said(429, "RESOURCE_EXHAUSTED", "Quota exceeded for requests per minute"))
    assert (limited.status_code, limited.code) == (429, "upstream_rate_limited")
    assert "Quota exceeded for requests per minute" in limited.message
    too_many = "The input token count (9) exceeds the maximum number of tokens allowed (8)."
    too_long = await failure(turn=said(400, "INVALID_ARGUMENT", too_many), stream=True)
    assert (too_long.status_code, too_long.code) == (400, "context_length_exceeded")
    assert too_many in too_long.message
    refused = await failure(turn=said(403, "PERMISSION_DENIED", "the key sk-of-gemini is not yours"))
    assert (refused.status_code, refused.code) == (502, "upstream_refused")
    assert "sk-of-gemini" not in refused.message
    broken = await failure(turn=said(500, "INTERNAL", "oh"))
    assert (broken.status_code, broken.code) == (502, "upstream_unavailable")

    received = len(upstream.received)
    lacking = await failure(store=True)
    assert (lacking.status_code, lacking.code, lacking.param) == (400, "unsupported_parameter", "store")
    malformed = await failure(temperature="hot")
    assert malformed.status_code == 400
    absent = await failure("uninstalled")
    assert "pip install 'hubbub[any-llm]' 'any-llm-sdk[bedrock]'" in absent.message
    assert len(upstream.received) == received
    upstream.turns = [Turn([{"text": "yes"}])]
    answer = await client.chat.completions.create(model="dropping", messages=ASK, store=True, extra_body={"x": 1})
    assert answer.choices[0].message.content == "yes"
