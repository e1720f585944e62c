"""Answers of agents on platforms that are long: what of them outlives the hub."""

from __future__ import annotations

import asyncio
import signal
from contextlib import aclosing
from pathlib import Path

from agents.hosting.live import UNKEPT_BYTES
from agents.speech import SPEECHES
from tests.bridges.test_bridges import state_of, text_of
from tests.peers.a2a_clients import message, open_client
from tests.peers.platforms.openai_chat import OPENAI_CHAT
from tests.processes import hub_process, known_dead

KIB = 400


async def test_a_hub_that_is_killed_between_two_pieces_has_lost_none_that_were_kept(tmp_path: Path) -> None:
    async with OPENAI_CHAT.open(tmp_path) as platform, asyncio.timeout(90):
        yaml = f"agents:\n  there: {platform.entry}\n"
        async with hub_process(tmp_path, yaml) as hub:
            headers = {"authorization": f"Bearer {await hub.key('rita', 'agent:there')}"}
            async with (
                open_client(f"{hub.url}/a2a/there/", SPEECHES[0], headers=headers) as client,
                aclosing(client.follow("SendStreamingMessage", message(f"long {KIB}"))) as events,
            ):
                seen, task_id = 0, ""
                while seen < KIB * 1024:
                    update = (await anext(events)).get("artifactUpdate")
                    if update:
                        task_id = update["taskId"]
                        seen += sum(len(part["text"]) for part in update["artifact"]["parts"])
                hub.send(signal.SIGKILL)
                await hub.child.wait()
        known_dead(tmp_path)
        async with (
            hub_process(tmp_path, yaml) as hub,
            open_client(f"{hub.url}/a2a/there/", SPEECHES[0], headers=headers) as client,
        ):
            task = await client.ask("GetTask", {"id": task_id})
    assert state_of({"task": task}) == "FAILED"
    assert "the hub was stopped" in task["status"]["message"]["parts"][0]["text"]
    kept = text_of(task)
    assert kept == "x" * len(kept)
    assert seen - 2 * UNKEPT_BYTES < len(kept) <= seen
