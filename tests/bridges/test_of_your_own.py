"""The bridge of docs/bridges.md, as a stranger would make it: a package is built of its blocks, installed, and bridges a platform."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agents.bridges.kinds import BridgeInvalid, make
from agents.speech import SPEECHES
from registry.entries import Bridged
from tests.bridges.test_bridges import state_of, text_of
from tests.conftest import open_hub, served
from tests.peers.a2a_clients import open_client
from tests.peers.model_service import read

PAGE = (Path(__file__).parents[2] / "docs" / "bridges.md").read_text().partition("## A bridge of your own")[2]


def block(kind: str) -> str:
    """The block of a kind; the page has one of each."""
    return PAGE.partition(f"```{kind}\n")[2].partition("```")[0]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package, beside the hub."""
    source, home = tmp_path / "source", tmp_path / "home"
    source.mkdir()
    (source / "pyproject.toml").write_text(block("toml"))
    (source / "desk.py").write_text(block("python"))
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    subprocess.run((*pip, "--target", home, source), check=True, capture_output=True)
    monkeypatch.syspath_prepend(str(home))
    importlib.invalidate_caches()


@asynccontextmanager
async def help_desk() -> AsyncIterator[tuple[str, list[str]]]:
    """The platform that the page tells of; its URL, and what it was asked to do."""
    asked: list[str] = []

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = await read(scope, receive)
        asked.append(f"{scope['method']} {scope['path']}")
        kind, body = b"application/json", json.dumps({"id": "t1", "title": "Help with computers"})
        if scope["path"].endswith("/messages"):
            said = request.body
            name = "question" if said["text"] == "ask" else "text"
            text = "Which colour?" if name == "question" else f"{said['text']} {said['answers']}"
            kind, body = b"text/event-stream", f"event: {name}\ndata: {json.dumps({'text': text})}\n\n"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": body.encode()})

    async with served(serve) as url:
        yield url, asked


@pytest.mark.usefixtures("installed")
async def test_the_bridge_of_the_page_bridges_its_platform(tmp_path: Path) -> None:
    assert len(block("python").splitlines()) <= 60
    with pytest.raises(BridgeInvalid, match="needs queue"):
        make("http://a", Bridged(kind="desk", options=b"{}"))
    async with help_desk() as (url, asked):
        yaml = f"agents:\n  there: {{bridge: desk, url: {url}, options: {{queue: it}}}}\n"
        async with open_hub(tmp_path, yaml) as hub:
            headers = {"authorization": f"Bearer {await hub.key('agent:there')}"}
            async with open_client(f"{hub.url}/a2a/there/", SPEECHES[0], headers=headers) as client:
                assert client.card["skills"][0]["description"] == "Help with computers"
                task = (await client.send("hello"))["task"]
                assert (state_of({"task": task}), text_of(task)) == ("COMPLETED", "hello False")
                asks = (await client.send("ask", message_id="m-2", contextId=task["contextId"]))["task"]
                assert state_of({"task": asks}) == "INPUT_REQUIRED"
                ids = {"taskId": asks["id"], "contextId": asks["contextId"]}
                done = (await client.send("blue", message_id="m-3", **ids))["task"]
                assert (state_of({"task": done}), text_of(done)) == ("COMPLETED", "blue True")
    assert asked.count("POST /tickets") == 1
