"""The hub with its extra `presidio`, in an environment of its own: what presidio finds, models are not sent."""

from __future__ import annotations

import asyncio
import sysconfig
from pathlib import Path

import httpx
import pytest

from tests.conftest import ADMIN_KEY, free_port
from tests.foreign.environments import HERE, foreign, process, python_of, until_it_answers
from tests.peers.openai_upstream import Turn, openai_upstream

pytestmark = foreign
HUB_YAML = """
hub: {{database: "sqlite:///{directory}/hubbub.db", admin_key: {key}}}
models: {{m: {{provider: openai, model: up, base_url: "{url}", api_key: sk-up}}}}
guards:
  people: {{type: presidio, action: redact, of: [arguments], entities: [EMAIL_ADDRESS, US_SSN, CREDIT_CARD]}}
"""
SAID = "mail jo@example.org, ssn 536-90-4399, card 4111 1111 1111 1111, host 10.0.0.1"
LEFT = "mail [redacted: people], ssn [redacted: people], card [redacted: people], host 10.0.0.1"


@pytest.mark.attack("2.1/12")
async def test_what_presidio_finds_is_not_sent_and_it_asks_nobody(tmp_path: Path) -> None:
    asked: list[str] = []

    async def note(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append("a connection")
        writer.close()

    python, port = await python_of("presidio"), free_port()
    url = f"http://127.0.0.1:{port}"
    lines: list[str] = []
    command = (python, HERE / "any_llm_hub.py", HERE.parents[1], sysconfig.get_paths()["purelib"])
    options = ("serve", "--config", str(tmp_path / "hub.yaml"), "--port", str(port))
    async with openai_upstream(Turn("fine")) as upstream, await asyncio.start_server(note, "127.0.0.1", 0) as proxy:
        way_out = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        environ = {"HTTPS_PROXY": way_out, "HTTP_PROXY": way_out}
        (tmp_path / "hub.yaml").write_text(HUB_YAML.format(directory=tmp_path, key=ADMIN_KEY, url=upstream.url))
        async with process(*command, *options, cwd=tmp_path, environ=environ, lines=lines) as child:
            await until_it_answers(child, f"{url}/livez", lines)
            headers = {"authorization": f"Bearer {ADMIN_KEY}"}
            async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60, headers=headers) as http:
                body = {"model": "m", "messages": [{"role": "user", "content": SAID}]}
                answer = await http.post("/v1/chat/completions", json=body)
                assert answer.status_code == 200, answer.text
                found = (await http.post("/api/guards/test", json={"value": SAID})).json()["items"]
                rows = (await http.get("/api/audit")).text
    assert upstream.received[0].body["messages"][0]["content"] == LEFT
    assert found == [
        {"guard": "people", "action": "redact", "found": "CREDIT_CARD, EMAIL_ADDRESS, US_SSN", "redacted": LEFT}
    ]
    assert "EMAIL_ADDRESS" in rows
    assert "jo@example.org" not in rows + "".join(lines)
    assert asked == []
