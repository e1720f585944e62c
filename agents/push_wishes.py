"""What a client wants of push: taken out of its messages, kept, and had from the agent.

No agent is ever told where its client is: it is given an address of the hub's (`push_callback`), and one that cannot post is read on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from agents import screening, wire
from agents.answers import Sighting
from agents.discovery import Discovery
from agents.instances import Instances
from agents.push_callback import Callbacks
from agents.shown import is_over
from agents.speech import SPEECHES, Ask
from agents.streams import Streams
from registry.entries import Agent
from registry.errors import GuardRefused, InvalidParams, UpstreamError
from registry.gate import Permit
from registry.judged import JsonObject

logger = logging.getLogger(__name__)


class PushWishes:
    """What clients want of push. One for a process."""

    def __init__(
        self,
        streams: Streams,
        *,
        discovery: Discovery,
        callbacks: Callbacks,
        instances: Instances,
        read_on: Callable[[str, str], None],
    ) -> None:
        """`read_on` has a task of an agent read to its end, for those to whom its events are sent."""
        self._push = streams.push
        self._ledger = streams.ledger
        self._upstream = streams.upstream
        self._readings = streams.readings
        self._discovery = discovery
        self._callbacks = callbacks
        self._instances = instances
        self._read_on = read_on

    async def taken_out(self, entry: Agent, ask: Ask) -> tuple[Ask, JsonObject | None]:
        """Take the push configuration out of a message: no agent ever sees where its client is.

        Raises:
            InvalidParams: nothing may be sent there.
        """
        configuration = ask.params.get("configuration")
        if not isinstance(configuration, dict) or "taskPushNotificationConfig" not in configuration:
            return ask, None
        rest = {name: value for name, value in configuration.items() if name != "taskPushNotificationConfig"}
        config = configuration["taskPushNotificationConfig"]
        ask = replace(ask, params={**ask.params, "configuration": rest})
        if config is None:
            return ask, None
        if not isinstance(config, dict):
            raise InvalidParams("taskPushNotificationConfig must be an object", member="taskPushNotificationConfig")
        if config.get("taskId") not in (None, "", wire.named_in(ask).task_id):
            raise InvalidParams("taskId is of another task", member="taskId")
        await self._push.check(entry, config)
        return ask, {name: value for name, value in config.items() if name != "taskId"}

    async def tell(
        self, permit: Permit, entry: Agent, ask: Ask, seen: Sighting, *, config: JsonObject, result: JsonObject
    ) -> None:
        """Have what becomes of a task posted to its client, beginning with `result`."""
        assert seen.task_id is not None
        made = await self._push.create(permit.principal.id, entry, seen.task_id, config, version=ask.version)
        screen = self._push.guards(entry.name)
        with suppress(GuardRefused):  # it is noted, and its client hears of what comes
            told = result if screen is None else await screening.whole(screen, result)
            await self._push.notify(entry.name, seen.task_id, told, task=told.get("task"))
        if not is_over(seen.state):
            await self._watch(permit, entry, seen.task_id, made["id"])

    async def _watch(self, permit: Permit, entry: Agent, task_id: str, config_id: str) -> None:
        """Have an agent tell the hub what becomes of a task, at an address of its own; one that cannot is read on."""
        try:
            with self._instances.at(entry, await self._ledger.place_of_task(entry.name, task_id)) as one:
                if await self._call_back(permit, one, task_id, config_id):
                    return
        except UpstreamError as error:
            logger.info("an agent takes no callback", extra={"agent": entry.name, "reason": error.text})
        self._read_on(entry.name, task_id)

    async def _call_back(self, permit: Permit, entry: Agent, task_id: str, config_id: str) -> bool:
        found = await self._discovery.find(entry)
        if not found.pushes:
            return False
        config = await self._callbacks.callback(permit.principal.id, entry, task_id, config_id)
        ask = Ask(operation="CreateTaskPushNotificationConfig", params=config)
        route = found.choose(SPEECHES[0])
        await self._upstream.result(permit, entry, route, ask)
        now = await self._upstream.result(permit, entry, route, Ask(operation="GetTask", params={"id": task_id}))
        await self._readings.heard(entry, task_id, {"task": now})  # what became of it before it had it
        return True

    async def answer(self, permit: Permit, entry: Agent, ask: Ask) -> JsonObject:
        """Answer an operation on push configurations, which are the hub's alone."""
        owner, params = permit.principal.id, ask.params
        task_id, config_id = params.get("taskId"), params.get("id")
        if not isinstance(task_id, str) or not task_id:
            raise InvalidParams("taskId is missing", member="taskId")
        config_id = config_id if isinstance(config_id, str) and config_id else task_id
        if ask.operation == "CreateTaskPushNotificationConfig":
            made = await self._push.create(owner, entry, task_id, params, version=ask.version)
            if not is_over(self._ledger.state(entry.name, task_id)):
                await self._watch(permit, entry, task_id, made["id"])
            return made
        if ask.operation == "ListTaskPushNotificationConfigs":
            return await self._push.list(owner, entry, task_id)
        if ask.operation == "DeleteTaskPushNotificationConfig":
            return await self._push.delete(owner, entry, task_id, config_id)
        return await self._push.get(owner, entry, task_id, config_id)
