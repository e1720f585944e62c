"""Every block of the README and the docs runs, or is read by what reads it in life."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from hub.cli import main
from llm.providers.table import NAMES
from registry.declared.config import read
from tests.conftest import OpenHub, empty_database, free_port
from tests.peers.a2a_agent import sdk_agent
from tests.peers.webhook import webhook

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("examples/**/*.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    language: str
    text: str


BLOCKS = [Block(page, *found) for page in PAGES for found in FENCE.findall(page.read_text())]


def blocks(language: str, page: Path | None = None) -> list[Block]:
    return [block for block in BLOCKS if block.language == language and page in {None, block.page}]


def named(block: Block) -> str:
    return f"{block.page.name}-{block.text[:20]!r}"


def test_every_language_of_a_block_is_tested() -> None:
    assert {block.language for block in BLOCKS} <= {"bash", "console", "json", "python", "text", "toml", "yaml"}


@pytest.mark.parametrize("block", blocks("yaml"), ids=named)
def test_every_hub_yaml_of_the_docs_is_valid(block: Block) -> None:
    read(block.text, file="hub.yaml", environ={}, read_file=lambda _name: "", providers=NAMES)


@pytest.mark.parametrize("block", blocks("json"), ids=named)
def test_every_json_of_the_docs_is_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    assert [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("block", blocks("console"), ids=named)
def test_the_commands_of_the_docs_work(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, which saves a second each; tests/attacks/test_process.py has the command in one of its own."""
    page = next(found for found in blocks("yaml") if found.page == block.page)
    declared = {**yaml.safe_load(page.text), "hub": {"database": f"sqlite:///{tmp_path}/hubbub.db"}}
    (tmp_path / "hub.yaml").write_text(yaml.safe_dump(declared))
    shutil.copy(empty_database(), tmp_path / "hubbub.db")
    monkeypatch.chdir(tmp_path)
    for line in block.text.splitlines():
        program, *words = shlex.split(line.removeprefix("$ "))
        assert program == "hubbub"
        if words == ["serve"]:
            continue  # what it does is what all the other tests are about
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, f"{line}\n{done.output}"


@pytest.mark.parametrize("block", blocks("bash"), ids=named)
def test_the_make_commands_of_the_docs_exist(block: Block) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = re.findall(r"^make (\w+)", block.text, re.MULTILINE)
    assert set(used) <= targets
    assert used or block.text.startswith("curl "), "a bash block is make or curl; another is tested by nobody"


async def run_python(text: str, **names: Any) -> Mapping[str, Any]:
    """Run a program as it stands, beside the hub of this process: its libraries are loaded here. Returns its names."""
    names["__name__"] = "__main__"
    await asyncio.to_thread(exec, text, names)
    return names


async def run(*command: str) -> str:
    child = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    printed, _ = await child.communicate()
    assert child.returncode == 0, printed.decode()
    return printed.decode()


async def test_the_readmes_snippets_work_as_they_stand(hub: OpenHub, capsys: pytest.CaptureFixture[str]) -> None:
    """The Python and the curl of the README, with nothing but the address and the key changed."""
    [page] = [block for block in blocks("yaml") if block.page.name == "README.md"]
    [python] = blocks("python", page.page)
    [curl] = [block for block in blocks("bash", page.page) if block.text.startswith("curl")]
    async with sdk_agent() as agent:
        declared = yaml.safe_load(page.text)
        declared["agents"]["research"]["url"] = agent.url
        declared["mcpServers"]["time"] = {"command": sys.executable, "args": ["-m", "mcp_server_time"]}
        async with hub(yaml.safe_dump(declared)) as running:
            await running.services.sync.refresh("time")
            key = await running.key("agent:*", "tool:*", "model:*")

            def adapted(text: str) -> str:
                return text.replace("http://127.0.0.1:4000", running.url).replace("sk-…", key)

            await run_python(adapted(python.text))
            assert "What is new?" in capsys.readouterr().out
            answer = json.loads(await run("curl", "-sS", *shlex.split(adapted(curl.text).replace("\\\n", " "))[1:]))
    [call] = answer["hub"]["tool_calls"]
    assert (call["server"], call["tool"]) == ("time", "get_current_time")
    assert "Europe/Berlin" in answer["choices"][0]["message"]["content"]


async def test_the_a2a_pages_snippets_work_as_they_stand(
    hub: OpenHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its curls and its Python, with nothing but addresses, the key and the task's id changed."""
    page = ROOT / "docs" / "a2a.md"
    declared = yaml.safe_load(blocks("yaml", page)[0].text)
    plain, stream, replay, push = (block.text for block in blocks("bash", page))
    over_grpc, verify = (block.text for block in blocks("python", page))
    async with sdk_agent() as agent, webhook() as receiver:
        port = free_port()
        declared["hub"] |= {"grpc_port": port, "egress_allow": ["127.0.0.0/8"]}
        declared["hub"] |= {"database": f"sqlite:///{tmp_path}/hubbub.db"}
        declared["agents"]["research"]["url"] = agent.url
        async with hub(yaml.safe_dump(declared)) as running:
            key = await running.key("agent:research")
            origin = receiver.url.rpartition("/")[0]
            changed = {"http://127.0.0.1:4000": running.url, "127.0.0.1:4001": f"127.0.0.1:{port}", "sk-…": key}
            changed |= {"https://app.example.com/hook": receiver.url, "https://app.example.com": origin}

            async def curl(text: str) -> str:
                return await run("curl", "-sS", *shlex.split(_with(changed, text).replace("\\\n", " "))[1:])

            assert json.loads(await curl(plain))["result"]["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
            shown = (await curl(stream)).partition("id: 1\n")[2]
            [changed["TASK_ID"]] = set(re.findall(r'"task":{"id":"([^"]+)"', shown))
            assert await curl(replay) == shown.partition("\n\n")[2]
            await run_python(_with(changed, over_grpc))
            assert "TASK_STATE_COMPLETED" in capsys.readouterr().out
            await curl(push)
            [notice, *_] = await receiver.wait(1)
            assert notice.headers["x-a2a-notification-token"] == "yours"
            read = await run_python(_with(changed, verify))
            signed = notice.headers["authorization"]
            assert await asyncio.to_thread(read["is_from_the_hub"], signed, notice.body)
            assert not await asyncio.to_thread(read["is_from_the_hub"], signed, notice.body + b" ")


def _with(changed: dict[str, str], text: str) -> str:
    for old, new in changed.items():
        text = text.replace(old, new)
    return text
