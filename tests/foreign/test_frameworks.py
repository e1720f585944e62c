"""Agent frameworks as clients of the demo's hub: the programs of `examples/frameworks`, each in an environment of its own.

What came through each door is read in the hub's own record of the program's key. The model is the offline one.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from a2a.helpers import new_task_from_user_message, new_text_part
from a2a.server.agent_execution import RequestContext
from a2a.server.events import EventQueue
from a2a.server.tasks import TaskUpdater

from examples import storyteller
from hub.app import Door, Routes
from hub.settings import environment as variables
from tests.conftest import ADMIN_KEY, Hub, free_socket, open_hub, served
from tests.foreign.environments import PINS, foreign, python_of
from tests.peers.openai_upstream import OpenAIUpstream, Turn

pytestmark = foreign

EXAMPLES = Path(storyteller.__file__).parent
PROGRAMS = EXAMPLES / "frameworks"
PAGE = (PROGRAMS / "README.md").read_text()
ENDS_WITHIN_S = 200
CLOCK, TOLD = "Europe/Berlin", "Once upon a time there was"


class Framework(NamedTuple):
    """One program and what it must have done."""

    program: str
    environment: str
    model_at: str
    agent_at: str
    """Which of the hub's paths its model and its agent are called at."""
    telemetry: Mapping[str, str] = {}
    """The variables that keep it from telling its makers what it does."""

    script: tuple[Turn, ...] = ()
    """What the model says, where the offline one will not do."""

    def __str__(self) -> str:
        return self.environment


CHAT, A2A = "/v1/chat/completions", "/a2a/storyteller/"
CARD = "http://127.0.0.1:4000/a2a/storyteller/.well-known/agent-card.json"
SCRIPT = (
    Turn(calls=(("get_current_time", '{"timezone": "Europe/Berlin"}'),)),
    Turn(f"It is noon in {CLOCK}."),
    Turn(json.dumps({"a2a_ids": [CARD], "message": "a fox who liked ports", "is_a2a": True})),
)
"""A clerk, and an author who writes CrewAI's own answer for delegating to an agent."""

FRAMEWORKS = [
    Framework("with_pydantic_ai", "pydantic-ai", CHAT, "/mcp"),
    Framework("with_openai_agents", "openai-agents", "/v1/responses", "/v1/responses"),
    Framework("with_langgraph", "langgraph-client", CHAT, A2A),
    Framework("with_adk", "adk", CHAT, A2A, {"GOOGLE_API_USE_CLIENT_CERTIFICATE": "false"}),
    Framework("with_strands", "strands", CHAT, A2A),
    Framework("with_crewai", "crewai", CHAT, A2A, {"CREWAI_DISABLE_TELEMETRY": "true"}, SCRIPT),
]
MODEL, TOOL, AGENT = ("model", "assistant"), ("tool", "time__get_current_time"), ("agent", "storyteller")


@dataclass
class Scripted(OpenAIUpstream):
    """A model that calls a tool by whatever name ends like the one in its script: clients add prefixes of their own."""

    hub: str = ""

    async def _answer(self, turn: Turn, body: dict[str, Any], send: Any) -> None:
        offered = [tool["function"]["name"] for tool in body.get("tools", ())]
        calls = [(next(one for one in offered if one.endswith(name)), given) for name, given in turn.calls]
        text = turn.text.replace("http://127.0.0.1:4000", self.hub)
        await super()._answer(replace(turn, text=text, calls=tuple(calls)), body, send)


@asynccontextmanager
async def demo_hub(directory: Path, script: Sequence[Turn] = ()) -> AsyncIterator[Hub]:
    """The hub of `make demo` with its agent, its model, which may be a scripted one, and one of its MCP servers."""
    declared = yaml.safe_load((EXAMPLES / "hub.yaml").read_text())
    del declared["mcpServers"]["notes"]
    sock = free_socket()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
    environ = {"DEMO_DIR": str(directory), "DEMO_ADMIN_KEY": ADMIN_KEY, "DEMO_AGENT_URL": url}
    environ["DEMO_PYTHON"] = sys.executable
    model = Scripted(turns=list(script))
    async with served(storyteller.app(url), sock), served(model) as upstream:
        if script:
            there = {"provider": "openai_compatible", "base_url": f"{upstream}/v1", "api_key": "sk-of-the-model"}
            declared["models"]["assistant"] = there
        async with open_hub(directory, yaml.safe_dump(declared), environ=environ) as hub:
            model.hub = hub.url
            await hub.services.sync.refresh("time")
            yield hub


async def run(
    framework: Framework, hub: Hub, directory: Path, typed: str = ""
) -> tuple[str, dict[tuple[str, str], int]]:
    """What a program prints, and how often its key used what, by kind and name.

    It must end well, and ask nothing of the proxy that it is given for all that is not on this machine.
    """
    python = await python_of(framework.environment)
    key = await hub.key("model:assistant", "tool:time__*", "agent:storyteller")
    elsewhere: list[str] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        elsewhere.append((await reader.readline()).decode())
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        outside = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        environ = {"HUB_URL": hub.url, "HUB_KEY": key, "HTTP_PROXY": outside, "HTTPS_PROXY": outside}
        environ |= {"NO_PROXY": "127.0.0.1", "PATH": variables()["PATH"], "HOME": str(directory), **framework.telemetry}
        child = await asyncio.create_subprocess_exec(
            python,
            PROGRAMS / f"{framework.program}.py",
            cwd=directory,
            env=environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                printed = (await child.communicate(typed.encode()))[0].decode()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
    assert child.returncode == 0, printed
    assert elsewhere == []
    async with hub.http(ADMIN_KEY) as admin:
        used = (await admin.get("/api/usage", params={"by": "kind,name,outcome"})).json()["items"]
    # who has read the last event of a stream may leave before the stream ends, as CrewAI does: cancelled
    assert {row["outcome"] for row in used} <= {"ok", "cancelled"}, used
    return printed, {(row["kind"], row["name"]): row["calls"] for row in used}


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The paths at which the hub is reached."""
    paths: set[str] = set()
    find = Routes.find

    def noted(routes: Routes, path: str) -> Door | None:
        paths.add(path)
        return find(routes, path)

    monkeypatch.setattr(Routes, "find", noted)
    return paths


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
async def test_a_framework_uses_a_model_a_tool_and_an_agent_of_the_hub(
    framework: Framework, tmp_path: Path, reached: set[str]
) -> None:
    async with demo_hub(tmp_path, framework.script) as hub:
        printed, used = await run(framework, hub, tmp_path)
    words = " ".join(printed.replace("\\n", " ").split())  # some set the pieces of an answer apart
    assert CLOCK in words
    assert TOLD in words
    assert used.keys() == {MODEL, TOOL, AGENT}
    assert (used[TOOL], used[AGENT]) == (1, 1)
    assert {"/mcp", framework.model_at, framework.agent_at} <= reached


class Asking(storyteller.Storyteller):
    """Asks back before it tells."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        if context.current_task is not None:
            await super().execute(context, event_queue)
            return
        assert context.message is not None
        task = new_task_from_user_message(context.message)
        task.id, task.context_id = context.task_id, context.context_id
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.requires_input(updater.new_agent_message([new_text_part("Which fox?")]))


async def test_what_an_agent_asks_reaches_the_person_at_a_framework(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storyteller, "Storyteller", Asking)
    async with demo_hub(tmp_path) as hub:
        printed, _ = await run(FRAMEWORKS[0], hub, tmp_path, typed="the one with the harbour\n")
    assert "Which fox?" in printed
    assert f"{TOLD} the one with the harbour" in printed


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
def test_the_page_says_what_each_program_needs(framework: Framework) -> None:
    program = (PROGRAMS / f"{framework.program}.py").read_text()
    (install,) = re.findall(r"^pip install (.*)$", program, re.MULTILINE)
    pinned = re.findall(r"^([\w.-]+)==", (PINS / f"{framework.environment}.txt").read_text(), re.MULTILINE)
    assert set(re.findall(r'(?:^|[ "])([a-z][\w-]+)', install)) <= set(pinned)
    assert f"]({framework.program}.py)" in PAGE
    assert f"`pip install {install}`" in PAGE
    for name, value in framework.telemetry.items():
        assert f"`{name}={value}`" in PAGE
