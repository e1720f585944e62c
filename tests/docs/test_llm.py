"""Every block of Python in docs/llm.md runs as it stands, with nothing but the address and the key changed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import OpenHub
from tests.docs.test_docs import Block, blocks, named, run_python
from tests.peers.openai_endpoints import openai_endpoints

PAGE = Path(__file__).parents[2] / "docs" / "llm.md"


def declared(url: str) -> dict[str, Any]:
    """What the page's reader has declared, with the fake of OpenAI's platform at `url`."""
    embedder = {"provider": "openai", "model": "up-1", "base_url": url, "api_key": "sk-upstream-key-000"}
    return {
        "models": {"offline": {"provider": "offline"}, "embedder": embedder},
        "mcpServers": {"time": {"command": sys.executable, "args": ["-m", "mcp_server_time"]}},
    }


@pytest.mark.parametrize("block", blocks("python", PAGE), ids=named)
async def test_snippet_works_as_it_stands(block: Block, hub: OpenHub, capsys: pytest.CaptureFixture[str]) -> None:
    async with openai_endpoints() as fake, hub(yaml.safe_dump(declared(fake.url))) as running:
        await running.services.sync.refresh("time")
        key = await running.key("tool:*", "model:*", "agent:*")
        text = block.text.replace("http://127.0.0.1:4000", running.url).replace("sk-…", key)
        await run_python(text)
    assert capsys.readouterr().out
