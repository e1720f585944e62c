"""A server that makes tasks of calls (extension `io.modelcontextprotocol/tasks`), on the official SDK, which only carries them.

Names and behaviour are those that the official conformance suite asks for; `link` shows a resource of the server's.
`python -m tests.peers.mcp_tasks` serves it over stdio. Clients that do not declare the extension get the result of `slow_compute` at once; older ones, of `greet` alone.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import anyio
import mcp_types as t
from mcp.server import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

from tests.peers.mcp_servers import MakeServer, Peer, dual_era

TASKS = "io.modelcontextprotocol/tasks"
MODERN = "2026-07-28"
TTL_MS = 60_000
NUMBER = {"type": "object", "properties": {"seconds": {"type": "number"}, "label": {"type": "string"}}}
ANY: dict[str, Any] = {"type": "object", "additionalProperties": True}
TOOLS: dict[str, dict[str, Any]] = {
    "greet": ANY,
    "slow_compute": NUMBER,
    "failing_job": ANY,
    "protocol_error_job": ANY,
    "confirm_delete": ANY,
    "multi_input": ANY,
    "test_tool_with_task": ANY,
    "link": ANY,
}


class GetParams(t.RequestParams):
    task_id: str


class UpdateParams(GetParams):
    input_responses: dict[str, Any]


@dataclass
class Made:
    """One task."""

    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    status: str = "working"
    payload: dict[str, Any] = field(default_factory=dict)
    questions: dict[str, tuple[dict[str, Any], asyncio.Future[Any]]] = field(default_factory=dict)
    work: asyncio.Task[None] | None = None

    def shown(self) -> dict[str, Any]:
        """As `tasks/get` shows it."""
        waiting = {key: request for key, (request, answer) in self.questions.items() if not answer.done()}
        status = "input_required" if waiting and self.status == "working" else self.status
        asked = {"inputRequests": waiting} if status == "input_required" else {}
        return {**self.head(), "status": status, **asked, **self.payload}

    def head(self) -> dict[str, Any]:
        """What every form of it holds."""
        return {
            "taskId": self.id,
            "status": self.status,
            "createdAt": self.created,
            "lastUpdatedAt": datetime.now(UTC).isoformat(),
            "ttlMs": TTL_MS,
            "pollIntervalMs": 100,
        }

    async def ask(self, *messages: str) -> list[Any]:
        """Ask everything at once."""
        loop = asyncio.get_running_loop()
        schema = {"type": "object", "properties": {"confirm": {"type": "boolean"}}}
        for message in messages:
            request = {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}
            self.questions[f"q{len(self.questions) + 1}"] = request, loop.create_future()
        return await asyncio.gather(*(answer for _, answer in self.questions.values()))


Work = Callable[[Made], Awaitable[dict[str, Any]]]


class TaskTools:
    """The tools and their tasks; `attach` makes them a server's."""

    def __init__(self) -> None:
        self.made: dict[str, Made] = {}
        self.pause = asyncio.sleep
        """What `slow_compute` does."""

    def attach(self, server: Server[Any]) -> None:
        server.extensions[TASKS] = {}
        server.add_request_handler("tasks/get", GetParams, self.get)
        server.add_request_handler("tasks/update", UpdateParams, self.update)
        server.add_request_handler("tasks/cancel", GetParams, self.cancel)

    async def aclose(self) -> None:
        works = [made.work for made in self.made.values() if made.work is not None]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    async def call(self, ctx: Any, params: t.CallToolRequestParams) -> dict[str, Any]:
        """Call one of `TOOLS`."""
        name, arguments = params.name, params.arguments or {}
        if name == "greet":
            return complete(ctx, text(f"Hello, {arguments.get('name')}!"))
        if ctx.protocol_version != MODERN:
            raise MCPError(code=t.INTERNAL_ERROR, message=f"no way to ask this in {ctx.protocol_version}")
        if name == "slow_compute" and not declares(ctx):
            await self.pause(arguments.get("seconds", 0))
            return complete(ctx, text(f"computed {arguments.get('label')}"))
        check_declared(ctx)
        if name == "test_tool_with_task" and not params.input_responses:
            request = {"message": "What is your name?", "requestedSchema": ANY | {"properties": {}}}
            asked = {"user_name": {"method": "elicitation/create", "params": request}}
            return {"resultType": "input_required", "inputRequests": asked}
        return {"resultType": "task", **self.start(self.work(name, arguments, params)).head()}

    def start(self, work: Work) -> Made:
        """Begin a task."""
        made = Made()
        self.made[made.id] = made
        made.work = asyncio.get_running_loop().create_task(_run(made, work))
        return made

    def work(self, name: str, arguments: dict[str, Any], params: t.CallToolRequestParams) -> Work:
        """What a tool does in its task."""

        async def slow(made: Made) -> dict[str, Any]:
            await self.pause(arguments.get("seconds", 0))
            return text(f"computed {arguments.get('label')}")

        async def fail(made: Made) -> dict[str, Any]:
            return {**text("it failed"), "isError": True}

        async def crash(made: Made) -> dict[str, Any]:
            raise MCPError(code=t.INTERNAL_ERROR, message=arguments.get("message", "it crashed"))

        async def confirm(made: Made) -> dict[str, Any]:
            (answer,) = await made.ask(f"Delete {arguments.get('filename')}?")
            return text(f"{answer['action']} {arguments.get('filename')}")

        async def twice(made: Made) -> dict[str, Any]:
            return text(json.dumps(await made.ask("First?", "Second?")))

        async def named(made: Made) -> dict[str, Any]:
            answers = {key: dumped(answer) for key, answer in (params.input_responses or {}).items()}
            return text(f"Hello, {json.dumps(answers)}")

        async def link(made: Made) -> dict[str, Any]:
            shown = {"type": "resource_link", "name": "notes", "uri": "notes://1"}
            return {"content": [shown], "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "x", "version": "1"}}}

        return {
            "slow_compute": slow,
            "failing_job": fail,
            "protocol_error_job": crash,
            "confirm_delete": confirm,
            "multi_input": twice,
            "test_tool_with_task": named,
            "link": link,
        }[name]

    async def get(self, ctx: Any, params: GetParams) -> dict[str, Any]:
        return {"resultType": "complete", **self.found(ctx, params).shown()}

    async def update(self, ctx: Any, params: UpdateParams) -> dict[str, Any]:
        made = self.found(ctx, params)
        for key, response in params.input_responses.items():
            if key in made.questions and not made.questions[key][1].done():
                made.questions[key][1].set_result(response)
        return {"resultType": "complete"}

    async def cancel(self, ctx: Any, params: GetParams) -> dict[str, Any]:
        work = self.found(ctx, params).work
        assert work is not None
        work.cancel()
        return {"resultType": "complete"}

    def found(self, ctx: Any, params: GetParams) -> Made:
        check_declared(ctx)
        if ctx.request is not None and ctx.request.headers.get("mcp-name") != params.task_id:
            raise MCPError(code=-32020, message="Mcp-Name is not the task's id")
        if params.task_id not in self.made:
            raise MCPError(code=t.INVALID_PARAMS, message="Task not found")
        return self.made[params.task_id]


async def _run(made: Made, work: Work) -> None:
    try:
        made.payload = {"result": await work(made)}
        made.status = "completed"
    except asyncio.CancelledError:
        made.status = "cancelled"
    except MCPError as error:
        made.payload = {"error": {"code": error.error.code, "message": error.error.message}}
        made.status = "failed"


def declares(ctx: Any) -> bool:
    able = ctx.session.client_capabilities
    return bool(able and able.extensions and TASKS in able.extensions)


def check_declared(ctx: Any) -> None:
    if not declares(ctx):
        data = {"requiredCapabilities": {"extensions": {TASKS: {}}}}
        raise MCPError(code=t.MISSING_REQUIRED_CLIENT_CAPABILITY, message="tasks are needed", data=data)


def complete(ctx: Any, result: dict[str, Any]) -> dict[str, Any]:
    return {"resultType": "complete", **result} if ctx.protocol_version == MODERN else result


def text(value: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": value}]}


def dumped(answer: Any) -> Any:
    return answer.model_dump(by_alias=True, mode="json") if hasattr(answer, "model_dump") else answer


def task_server(_peer: Peer, *, tools: TaskTools) -> Server[Any]:
    """A server of these tools alone."""

    async def list_tools(ctx: Any, params: Any) -> t.ListToolsResult:
        return t.ListToolsResult(tools=[t.Tool(name=name, input_schema=schema) for name, schema in TOOLS.items()])

    async def call_tool(ctx: Any, params: t.CallToolRequestParams) -> Any:
        _peer.calls.append((params.name, params.arguments or {}))
        return await tools.call(ctx, params)

    server: Server[Any] = Server("tasks", version="1", on_list_tools=list_tools, on_call_tool=call_tool)
    tools.attach(server)
    return server


@asynccontextmanager
async def making_tasks(tools: TaskTools | None = None) -> AsyncIterator[tuple[Peer, TaskTools]]:
    """Serve it over HTTP."""
    tools = tools or TaskTools()
    make: MakeServer = task_server
    try:
        async with dual_era(make, tools=tools) as peer:
            yield peer, tools
    finally:
        await tools.aclose()


async def over_stdio() -> None:
    server = task_server(Peer(), tools=TaskTools())
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(over_stdio)
