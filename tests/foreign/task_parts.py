"""Run in an environment of its own: FastMCP's server that makes tasks, or its client that follows them.

`serve PORT` serves until it is killed; `follow URL KEY PREFIX` calls the tools there and prints what came of it as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from typing import Any


def serve(port: int) -> None:
    from fastmcp import FastMCP
    from fastmcp.utilities.tasks import TaskConfig
    from fastmcp_tasks import TasksExtension
    from starlette.responses import PlainTextResponse

    often = TaskConfig(poll_interval=timedelta(milliseconds=100))
    server: Any = FastMCP("tasks")
    server.add_extension(TasksExtension())

    @server.tool(task=often)
    async def slow(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return f"slept {seconds}"

    @server.tool(task=often)
    async def fail() -> str:
        raise ValueError("it failed")

    @server.custom_route("/ok", methods=["GET"])
    async def ok(_request: Any) -> Any:
        return PlainTextResponse("ok")

    server.run(transport="http", host="127.0.0.1", port=port, show_banner=False)


async def follow(url: str, key: str, prefix: str) -> dict[str, Any]:
    from fastmcp import Client
    from fastmcp.client.transports import StreamableHttpTransport
    from fastmcp.exceptions import ToolError
    from fastmcp_tasks import call_tool_task

    transport = StreamableHttpTransport(url, headers={"Authorization": f"Bearer {key}"})
    async with Client(transport) as client:
        found: dict[str, Any] = {}
        found["called"] = (await client.call_tool(f"{prefix}slow", {"seconds": 0.1})).content[0].text
        task = await call_tool_task(client, f"{prefix}slow", {"seconds": 0.1})
        found["followed"] = (await task.result()).content[0].text
        try:
            await client.call_tool(f"{prefix}fail", {})
        except ToolError as error:
            found["failed"] = str(error)
        long = await call_tool_task(client, f"{prefix}slow", {"seconds": 600})
        found["before"] = (await long.status()).status
        await long.cancel()
        found["after"] = (await long.status()).status
        return found


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        print(json.dumps(asyncio.run(follow(*sys.argv[2:]))))
