"""Events of things that go on side by side, which come between one another: what is said of each is said once, and of nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.bridges.test_bridges import state_of, text_of
from tests.bridges.there import open_there
from tests.peers.platforms.vertex_engine import open_engine


def by(author: str, text: str, **more: Any) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": text}]}
    return {"author": author, "branch": f"both.{author}", "content": content, **more}


async def test_agents_of_an_engine_that_speak_side_by_side_are_heard_once_each(tmp_path: Path) -> None:
    async with open_engine() as engine, open_there(tmp_path, engine.platform.entry) as (_, client):
        engine.script = [
            by("one", "a", partial=True),
            by("two", "1", partial=True),
            by("one", "b", partial=True),
            {"author": "one", "actions": {"state_delta": {"n": 1}}},
            by("one", "ab"),
            by("two", "2", partial=True),
            by("one", "c"),
            by("two", "12"),
        ]
        task = (await client.send("hello"))["task"]
        assert (state_of({"task": task}), text_of(task)) == ("COMPLETED", "a1b2c")
