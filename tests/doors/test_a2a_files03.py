"""Bytes of files over HTTP+JSON 0.3, which the Python SDK encodes twice and everybody else once."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.conftest import OpenHub
from tests.peers.a2a_agent import Seen, reply, rough_agent, simple_card

CONTENT = b"\x00 any bytes"
ONCE = base64.b64encode(CONTENT).decode()
TWICE = base64.b64encode(ONCE.encode()).decode()
OLD_REST = {"name": "Rough", "protocolVersion": "0.3.0", "preferredTransport": "HTTP+JSON", "url": "/v1", "skills": []}


def old_card(url: str) -> dict[str, Any]:
    return {**OLD_REST, "url": url, "capabilities": {"streaming": True}}


async def new_agent(seen: Seen, send: Any) -> None:
    """Answers a file over JSON-RPC 1.0."""
    body = seen.json
    part = {"raw": ONCE, "mediaType": "image/png", "filename": "a.png"}
    message = {"messageId": "a", "role": "ROLE_AGENT", "contextId": "c", "parts": [part]}
    whole = {"jsonrpc": "2.0", "id": body["id"], "result": {"message": message}}
    await answer(send, whole, streams=body["method"] == "SendStreamingMessage")


async def old_agent(seen: Seen, send: Any) -> None:
    """Answers a file over HTTP+JSON 0.3 as the Python SDK does."""
    part = {"file": {"fileWithBytes": TWICE, "mimeType": "image/png", "name": "a.png"}}
    message = {"messageId": "a", "role": "ROLE_AGENT", "contextId": "c", "content": [part]}
    await answer(send, {"message": message}, streams=seen.path.endswith("stream"))


async def answer(send: Any, whole: Any, *, streams: bool) -> None:
    data = json.dumps(whole).encode()
    if streams:
        await reply(send, b"data: " + data + b"\n\n", media_type="text/event-stream")
    else:
        await reply(send, data)


@pytest.mark.parametrize(
    ("user_agent", "written"),
    [("python-httpx/0.28.1", TWICE), ("Python/3.12 aiohttp/3.13", TWICE), ("node", ONCE), ("Mozilla/5.0", ONCE)],
)
@pytest.mark.parametrize("agent", [new_agent, old_agent])
async def test_clients_get_the_bytes_as_they_read_them(hub: OpenHub, agent: Any, user_agent: str, written: str) -> None:
    card = simple_card("1.0") if agent is new_agent else old_card
    said = {"request": {"messageId": "m", "role": "ROLE_USER", "content": [{"text": "hi"}]}}
    async with (
        rough_agent(agent, card) as peer,
        hub(f"agents:\n  odd: {{url: {peer.url}}}\n") as running,
        running.http(await running.key("agent:odd")) as http,
    ):
        for verb in ("send", "stream"):
            url = f"/a2a/odd/v1/message:{verb}"
            text = (await http.post(url, json=said, headers={"user-agent": user_agent})).text
            shown = json.loads(text.rpartition("data: ")[2])
            (name,) = {"message", "msg"} & shown.keys()
            (part,) = shown[name]["content"]
            assert part["file"]["fileWithBytes"] == written


async def test_clients_of_json_rpc_0_3_get_the_bytes_encoded_once(hub: OpenHub) -> None:
    said = {"messageId": "m", "kind": "message", "role": "user", "parts": [{"kind": "text", "text": "hi"}]}
    async with (
        rough_agent(old_agent, old_card) as peer,
        hub(f"agents:\n  odd: {{url: {peer.url}}}\n") as running,
        running.http(await running.key("agent:odd")) as http,
    ):
        for verb in ("send", "stream"):
            body = {"jsonrpc": "2.0", "id": 1, "method": f"message/{verb}", "params": {"message": said}}
            text = (await http.post("/a2a/odd", json=body)).text
            (part,) = json.loads(text.rpartition("data: ")[2])["result"]["parts"]
            assert part["file"] == {"bytes": ONCE, "mimeType": "image/png", "name": "a.png"}


@pytest.mark.parametrize(("user_agent", "meant"), [("python-httpx/0.28.1", ONCE), ("node", TWICE)])
async def test_agents_get_a_file_as_its_client_meant_it(hub: OpenHub, user_agent: str, meant: str) -> None:
    """The same text is a file encoded twice from Python, and from everybody else one whose content is base64 itself."""
    part = {"file": {"fileWithBytes": TWICE, "mimeType": "image/png"}}
    said = {"request": {"messageId": "m", "role": "ROLE_USER", "content": [part]}}
    async with (
        rough_agent(new_agent, simple_card("1.0")) as peer,
        hub(f"agents:\n  odd: {{url: {peer.url}}}\n") as running,
        running.http(await running.key("agent:odd")) as http,
    ):
        for verb in ("send", "stream"):
            await http.post(f"/a2a/odd/v1/message:{verb}", json=said, headers={"user-agent": user_agent})
            (got,) = peer.calls[-1].json["params"]["message"]["parts"]
            assert got["raw"] == meant
