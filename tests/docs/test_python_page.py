"""The programs of docs/python.md run as they stand, with nothing but addresses changed."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from hub.settings import environment
from tests.docs.test_docs import ROOT, blocks
from tests.peers.a2a_agent import sdk_agent
from tests.peers.mcp_servers import dual_era
from tests.peers.openai_upstream import Turn, openai_upstream

PAGE = ROOT / "docs" / "python.md"
OPENED, ONE_CALL, SESSION = (block.text for block in blocks("python", PAGE))


async def run(program: str, directory: Path, **environ: str) -> str:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        cwd=directory,
        env={**environment(), "PYTHONPATH": str(ROOT), **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        printed, failed = await child.communicate()
    assert child.returncode == 0, failed.decode()
    return printed.decode()


async def test_the_opened_hub_of_the_page(tmp_path: Path) -> None:
    [file] = blocks("yaml", PAGE)
    async with sdk_agent() as agent:
        text = file.text.replace("http://127.0.0.1:10001", agent.url).replace(
            "command: uvx", f"command: {sys.executable}"
        )
        (tmp_path / "hub.yaml").write_text(text.replace("args: [mcp-server-time]", "args: [-m, mcp_server_time]"))
        printed = await run(OPENED, tmp_path)
    assert "Europe/Berlin" in printed
    assert "What is" in printed
    assert "'assistant'" in printed
    assert "['research'] [{'type': 'function'" in printed


async def test_the_one_call_of_the_page_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    async with openai_upstream(Turn("Hello there"), Turn("Hello again")) as upstream:
        environ = {"OPENAI_API_KEY": "sk-1", "OPENAI_BASE_URL": upstream.url, "TMPDIR": str(tmp_path / "tmp")}
        printed = await run(ONE_CALL, tmp_path, **environ)
        assert [received.body["model"] for received in upstream.received] == ["gpt-4o"] * 2
    assert printed.split() == ["Hello", "there", "Hello", "again"]
    assert list(tmp_path.rglob("*")) == [tmp_path / "tmp"]


async def test_the_session_of_the_page(tmp_path: Path) -> None:
    call = ("echo", json.dumps({"text": "hello"}))
    async with dual_era() as server, openai_upstream(Turn(calls=(call,))) as upstream:
        program = SESSION.replace("http://127.0.0.1:8000/mcp", server.url)
        printed = await run(program, tmp_path, OPENAI_API_KEY="sk-1", OPENAI_BASE_URL=upstream.url)
        assert upstream.received[0].body["tools"][0]["function"]["name"] == "echo"
    assert server.calls == [("echo", {"text": "hello"})]
    assert "hello" in printed
