"""A client of 2026-07-28 that declares the tasks extension and follows tasks: the official SDK's knows none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.peers.mcp_hub import META, headers
from tests.peers.mcp_tasks import TASKS

ABLE = {
    **META,
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}, "url": {}}, "extensions": {TASKS: {}}},
}
OVER = ("completed", "failed", "cancelled")


class Follower:
    """Posts to one path of a hub."""

    def __init__(self, http: httpx.AsyncClient, path: str = "/mcp", meta: dict[str, Any] = ABLE) -> None:
        self._http = http
        self._path = path
        self._meta = meta

    async def post(self, method: str, header: str, /, **params: Any) -> httpx.Response:
        """The answer as it is; `header` is `Mcp-Name`."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": self._meta}}
        return await self._http.post(self._path, json=body, headers=headers(method, header))

    async def ask(self, method: str, header: str, /, **params: Any) -> dict[str, Any]:
        """The result, or the error; they come alone or at the end of a stream."""
        answer = json.loads((await self.post(method, header, **params)).text.rpartition("data: ")[2])
        found: dict[str, Any] = answer["result"] if "result" in answer else answer["error"]
        return found

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return await self.ask("tools/call", tool, name=tool, arguments=arguments)

    async def get(self, task: str) -> dict[str, Any]:
        return await self.ask("tasks/get", task, taskId=task)

    async def update(self, task: str, **responses: Any) -> dict[str, Any]:
        return await self.ask("tasks/update", task, taskId=task, inputResponses=responses)

    async def cancel(self, task: str) -> dict[str, Any]:
        return await self.ask("tasks/cancel", task, taskId=task)

    async def until(self, task: str, *statuses: str) -> dict[str, Any]:
        """The task once it is so far."""
        async with asyncio.timeout(10):
            while (found := await self.get(task))["status"] not in statuses:
                await asyncio.sleep(0.01)
        return found

    @asynccontextmanager
    async def listening(self, *tasks: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Listen for tasks; yields the messages of the stream, the acknowledgement first."""
        params = {"notifications": {"taskIds": list(tasks)}, "_meta": self._meta}
        body = {"jsonrpc": "2.0", "id": "heard", "method": "subscriptions/listen", "params": params}
        given = headers("subscriptions/listen")
        async with self._http.stream("POST", self._path, json=body, headers=given) as answer:

            async def messages() -> AsyncIterator[dict[str, Any]]:
                async for line in answer.aiter_lines():
                    if line.startswith("data: "):
                        yield json.loads(line.removeprefix("data: "))

            yield messages()

    async def refused_listening(self, *tasks: str) -> int:
        """The code of the error."""
        found = await self.ask("subscriptions/listen", "", notifications={"taskIds": list(tasks)})
        code: int = found["code"]
        return code

    async def refused(self, task: str, method: str = "tasks/get") -> tuple[int, str]:
        """HTTP status and the whole answer, but for the number of the request."""
        answer = await self.post(method, task, taskId=task, inputResponses={})
        assert "error" in answer.json(), answer.text
        number: str = answer.json()["error"]["data"]["requestId"]
        return answer.status_code, answer.text.replace(number, "-")
