"""What classic agents of Azure AI Foundry have beside what all platforms have (agents/bridges/threads.py)."""

from __future__ import annotations

import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

from agents.bridges.bridge import TOOL
from agents.bridges.responses import INCOMPLETE
from tests.bridges.test_bridges import state_of, text_of
from tests.bridges.there import open_there
from tests.peers.a2a_clients import message
from tests.peers.platforms.azure_threads import open_project


async def test_approvals_tools_and_early_ends_are_told(tmp_path: Path) -> None:
    answers: dict[str, dict[str, Any]] = {"True": {"data": {"approve": True}}, "False": {"text": "no tea"}}
    async with (
        open_project() as project,
        open_there(tmp_path, project.platform.entry) as (_, client),
    ):
        assert client.card["skills"][0]["name"] == "Brain"
        for told, part in answers.items():
            begun = client.follow("SendStreamingMessage", message("buy", message_id=f"buy-{told}"))
            async with aclosing(begun) as events:
                seen = [event async for event in events]
            assert f'"{TOOL}": {{"name": "bing_grounding"}}' in json.dumps(seen)
            last = seen[-1]["statusUpdate"]
            [asked] = last["status"]["message"]["parts"]
            assert (state_of(seen[-1]), asked["data"]["name"]) == ("INPUT_REQUIRED", "buy")
            assert (asked["data"]["arguments"], asked["data"]["server_label"]) == ({"what": "tea"}, "shop")
            ids = {"taskId": last["taskId"], "contextId": last["contextId"], "message_id": f"m-{told}"}
            assert text_of((await client.send("", parts=[part], **ids))["task"]) == f"approved: {told}"
        async with aclosing(client.follow("SendStreamingMessage", message("cut"))) as events:
            seen = [event async for event in events]
        assert state_of(seen[-1]) == "COMPLETED"
        assert f'"{INCOMPLETE}": "max_completion_tokens"' in json.dumps(seen)
