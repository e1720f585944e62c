"""An agent of the official a2a-sdk, which needs no bridge: whatever a bridge shows is measured against it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from a2a.helpers import new_task_from_user_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentInterface, TaskState
from starlette.applications import Starlette

from tests.conftest import free_socket, served
from tests.peers.a2a_sdk_agents import agent_card
from tests.peers.platforms import brain
from tests.peers.platforms.platform import Kind, Odd, Platform


class Executor(AgentExecutor):
    """Says what the brain says, and remembers it by context."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._said: dict[str, list[str]] = {}

    async def execute(self, context: RequestContext, queue: EventQueue) -> None:
        self._platform.named.append(context.context_id)
        task, text = context.current_task, context.get_user_input()
        is_answer = task is not None and task.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
        if task is None:
            await queue.enqueue_event(new_task_from_user_message(context.message))
        updater = TaskUpdater(queue, context.task_id, context.context_id)
        await updater.start_work()
        said = self._said.setdefault(context.context_id, [])
        said.append(text)
        if is_answer:
            await updater.add_artifact([new_text_part(brain.told(text))])
        elif files := [part for part in context.message.parts if not part.HasField("text")]:
            await updater.add_artifact(files)
        elif not await self._say(updater, said[:-1], text):
            return
        await updater.complete()

    async def cancel(self, context: RequestContext, queue: EventQueue) -> None:
        self._platform.cancelled.set()
        await TaskUpdater(queue, context.task_id, context.context_id).cancel()

    async def _say(self, updater: TaskUpdater, before: list[str], text: str) -> bool:
        """Whether the task is to be completed."""
        is_first = True
        try:
            async with aclosing(brain.say(before, text, self._platform.released.wait)) as pieces:
                async for piece in pieces:
                    await updater.add_artifact([new_text_part(piece)], artifact_id="said", append=not is_first)
                    is_first = False
        except brain.Question as question:
            await updater.requires_input(updater.new_agent_message([new_text_part(str(question))]))
            return False
        except brain.Fell as reason:
            await updater.failed(updater.new_agent_message([new_text_part(str(reason))]))
            return False
        return True


@asynccontextmanager
async def _open(_directory: Path) -> AsyncIterator[Platform]:
    platform, sock = Platform(), free_socket()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    interface = AgentInterface(url=f"{url}/rpc", protocol_binding="JSONRPC", protocol_version="1.0")
    card = agent_card(url, interface, push=False, extended=False, streaming=True)
    handler = DefaultRequestHandler(agent_executor=Executor(platform), task_store=InMemoryTaskStore(), agent_card=card)
    app = Starlette(routes=[*create_agent_card_routes(card), *create_jsonrpc_routes(handler, rpc_url="/rpc")])
    try:
        async with served(app, sock):
            platform.entry = f'{{url: "{url}"}}'
            yield platform
    finally:
        await handler.aclose()


ODD = Odd("events come in the order in which they were made (A2A 1.0 §3.5.2)")
"""Members that are not known are read over (§5.7)."""

A2A = Kind(
    "a2a",
    _open,
    "an agent of the official a2a-sdk, which needs no bridge",
    {
        "renews": "its keys do not expire by themselves",
    },
    ODD,
)
