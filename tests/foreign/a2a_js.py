"""Drives clients of the official JavaScript SDK, one Node process each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from agents.speech import Binding
from hub.settings import environment as variables
from tests.foreign.environments import HERE, make

LINE_LIMIT = 16 * 1024 * 1024
"""The longest line, that is result, in bytes."""


class JsError(Exception):
    """What the SDK threw."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['name']}: {error['message']}")
        self.name: str = error["name"]
        self.code: int | None = error["code"]


@dataclass
class JsClient:
    """A client of @a2a-js/sdk. Methods are its own: sendMessage, sendMessageStream, getTask, resubscribeTask and so on.

    Params and results are JSON of the SDK's own protocol version; what 1.x gives for sendMessage is wrapped as
    `{"task": ...}` or `{"message": ...}`.
    """

    _input: asyncio.StreamWriter
    _answers: dict[int, asyncio.Queue[dict[str, Any]]] = field(default_factory=dict)

    async def ask(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """Call a method that has one result. Raises JsError."""
        _, answers = self._begin(method, params)
        return _checked(await answers.get())["result"]

    async def follow(self, method: str, params: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Call a method that gives events; closing it early aborts the call. Raises JsError."""
        call_id, answers = self._begin(method, params)
        ended = False
        try:
            while "end" not in (answer := _checked(await answers.get())):
                yield answer["event"]
            ended = True
        finally:
            if not ended:
                self._say({"id": call_id, "abort": True})

    def _begin(self, method: str, params: dict[str, Any] | None) -> tuple[int, asyncio.Queue[dict[str, Any]]]:
        call_id = len(self._answers)
        self._answers[call_id] = asyncio.Queue()
        self._say({"id": call_id, "method": method, "params": params or {}})
        return call_id, self._answers[call_id]

    def _say(self, line: dict[str, Any]) -> None:
        self._input.write(json.dumps(line).encode() + b"\n")


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise JsError(answer["error"])
    return answer


@asynccontextmanager
async def js_client(
    version: Literal["1", "0.3"], base_url: str, *, key: str | None = None, binding: Binding = "JSONRPC"
) -> AsyncIterator[JsClient]:
    """Open a client that fetches the card under `base_url` and uses only this binding. Raises JsError.

    `version`: of the SDK, 1.x or 0.3.x. `base_url` must end with a slash if it has a path: the SDK resolves against it.
    """
    home = await asyncio.to_thread(make, f"a2a-js-{version}")
    child = await asyncio.create_subprocess_exec(
        "node",
        HERE / "a2a_js_client.mjs",
        home,
        base_url,
        binding,
        env={"PATH": variables()["PATH"], **({"API_KEY": key} if key else {})},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_LIMIT,
    )
    assert child.stdin is not None
    client = JsClient(child.stdin)
    ready = client._answers[0] = asyncio.Queue()
    listening = asyncio.create_task(_listen(child, client))
    try:
        _checked(await ready.get())
        yield client
    finally:
        child.stdin.close()
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        await listening


async def _listen(child: asyncio.subprocess.Process, client: JsClient) -> None:
    assert child.stdout is not None
    async for line in child.stdout:
        answer = json.loads(line)
        client._answers[answer["id"]].put_nowait(answer)
    gone = {"name": "Gone", "message": "the process ended", "code": None}
    for call_id, answers in client._answers.items():
        answers.put_nowait({"id": call_id, "error": gone})
