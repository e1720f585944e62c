"""An A2A agent made with the official a2a-sdk: tells a tiny story about what it is asked, word by word.

Run it alone with `python -m examples.storyteller --port 10001`.
"""

from __future__ import annotations

import argparse
import asyncio

import uvicorn
from a2a.helpers import new_task_from_user_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill
from starlette.applications import Starlette


class Storyteller(AgentExecutor):
    """Streams a story as one artifact that grows."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Tell the story of the message's text."""
        task = context.current_task
        if task is None:
            assert context.message is not None, "a task starts with a message"
            task = new_task_from_user_message(context.message)
            task.id, task.context_id = context.task_id, context.context_id
            await event_queue.enqueue_event(task)  # the first event of a new task is the task itself
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        words = (
            f"Once upon a time there was {context.get_user_input()}. It found a friend, and the day was good.".split()
        )
        for number, word in enumerate(words):
            await updater.add_artifact(
                [new_text_part(f"{word} ")],
                artifact_id="story",
                name="story",
                append=number > 0,
                last_chunk=number == len(words) - 1,
            )
            await asyncio.sleep(0)
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Stop telling."""
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


def card(url: str) -> AgentCard:
    """What the agent says of itself; both protocol versions on one address."""
    return AgentCard(
        name="Storyteller",
        description="Tells a tiny story about anything",
        version="1.0.0",
        supported_interfaces=[
            AgentInterface(url=url, protocol_binding="JSONRPC", protocol_version="1.0"),
            AgentInterface(url=url, protocol_binding="JSONRPC", protocol_version="0.3"),
        ],
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="tell", name="Tell", description="Tells a tiny story", tags=["story"])],
    )


def app(url: str) -> Starlette:
    """The agent as an ASGI application that is reached at `url`."""
    described = card(url)
    handler = DefaultRequestHandler(agent_executor=Storyteller(), task_store=InMemoryTaskStore(), agent_card=described)
    return Starlette(
        routes=[
            *create_agent_card_routes(described),
            *create_jsonrpc_routes(handler, rpc_url="/", enable_v0_3_compat=True),
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=10001)
    port = parser.parse_args().port
    uvicorn.run(app(f"http://127.0.0.1:{port}/"), port=port, log_level="warning")
