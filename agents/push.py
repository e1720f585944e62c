"""Push notifications as clients see them: configurations, kept by the hub whatever the agent can do (A2A 1.0 §3.1.7-10).

Agents never see a client's address or credentials. An event becomes rows of the outbox here, in each receiver's version;
`push_delivery` sends them, and `push_callback` is how an agent tells the hub of events.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final, cast

from agents import translate
from agents.ledger import Ledger
from agents.members import MAX_ID
from agents.push_delivery import Courier, logged
from agents.records import Untranslatable
from agents.speech import Version
from registry.egress.http import Egress
from registry.egress.request import parse
from registry.entries import Agent
from registry.errors import AddressRefused, InvalidParams, NotFound
from registry.judged import JsonObject, encode
from registry.ledger.outbox import Outbox, Posting
from registry.ledger.push import Callback, Destination, NewConfig, PushConfigs, Receiver
from registry.rules.judging import Posted
from registry.sealed.secrets import new_id

logger = logging.getLogger(__name__)

MAX_URL: Final = 2048
MAX_SECRET: Final = 4096
"""Characters of a token or of credentials: they stand in a header."""

REFRESH_S: Final = 1.0
"""How late a configuration made at another process of the hub is known."""

FORGET_S: Final = 600.0

_SCHEME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_VALUE: Final = re.compile(r"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")
"""What stays within its header's line, as it is."""

_REFUSED: Final = "url must lead to a public address, with https"


def read_destination(config: JsonObject) -> Destination:
    """Read the members of a canonical TaskPushNotificationConfig that say where to and as whom. Pure.

    Raises:
        InvalidParams: one is missing, of the wrong type, or could not stand in a request.
    """
    url = _text(config, "url", MAX_URL)
    if url is None:
        raise InvalidParams("url is missing", member="url")
    try:
        parse(url)
    except ValueError:
        raise InvalidParams(_REFUSED, member="url") from None
    authentication = config.get("authentication") or {}
    if not isinstance(authentication, dict):
        raise InvalidParams("authentication must be an object", member="authentication")
    scheme = _text(authentication, "scheme", MAX_SECRET, _SCHEME)
    credentials = _text(authentication, "credentials", MAX_SECRET, _VALUE)
    if credentials is not None and scheme is None:
        raise InvalidParams("authentication has credentials and no scheme", member="scheme")
    return Destination(
        url=url, token=_text(config, "token", MAX_SECRET, _VALUE), scheme=scheme, credentials=credentials
    )


def _text(owner: JsonObject, member: str, most: int, form: re.Pattern[str] | None = None) -> str | None:
    """A string member; None when it is absent, null or empty (proto3). The value is never part of the error."""
    value = owner.get(member)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > most or (form is not None and not form.fullmatch(value)):
        raise InvalidParams(f"{member} must be a string of up to {most} characters that can be sent", member=member)
    return value


def shown(receiver: Receiver, destination: Destination) -> JsonObject:
    """A configuration as its client gets it back: without token and credentials."""
    config = {"id": receiver.config_id, "taskId": receiver.task_id, "url": destination.url}
    return {**config, "authentication": {"scheme": destination.scheme}} if destination.scheme else config


def body_for(version: Version, event: JsonObject, task: JsonObject | None) -> bytes | None:
    """Write a notification of `event`: a StreamResponse, or for 0.3 the Task. None: 0.3 has no word for it. Pure."""
    if version == "1.0":
        return encode(event)
    snapshot = event.get("task") or task
    if snapshot is None and "statusUpdate" in event:
        update = event["statusUpdate"]
        snapshot = {"id": update.get("taskId"), "contextId": update.get("contextId"), "status": update.get("status")}
    return None if snapshot is None else encode(translate.result_down("GetTask", snapshot))


class Push:
    """All that clients do with push notifications. One for a process; safe to use from several tasks."""

    def __init__(
        self,
        configs: PushConfigs,
        *,
        outbox: Outbox,
        courier: Courier,
        ledger: Ledger,
        egress: Egress,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._configs = configs
        self._outbox = outbox
        self._courier = courier
        self._ledger = ledger
        self._egress = egress
        self._clock = clock

    async def check(self, agent: Agent, config: JsonObject) -> Destination:
        """Let a configuration pass that could be stored now; for one that comes with a message, before that is sent.

        Raises:
            InvalidParams: it says something that cannot be sent, or leads where nothing may be sent.
        """
        destination = read_destination(config)
        _text(config, "id", MAX_ID)
        try:
            await self._egress.checked(parse(destination.url), agent.name, plain_inside_only=True)
        except AddressRefused:  # one answer for all addresses: it must not say what stands in the hub's network
            raise InvalidParams(_REFUSED, member="url") from None
        return destination

    async def create(
        self,
        principal_id: str,
        agent: Agent,
        task_id: str,
        config: JsonObject,
        *,
        version: Version,
        callback: Callback | None = None,
    ) -> JsonObject:
        """Store a configuration, in the place of one of the same id; return it as `shown`.

        Without an id it has the task's, as the official SDKs do. `callback` is the one that the agent was given with the
        message that made the task.

        Raises:
            NotFound: the task is not there, or not the principal's.
            InvalidParams: as `check`; or there are too many.
        """
        await self._require(principal_id, agent, task_id)
        if config.get("taskId") not in (None, "", task_id):
            raise InvalidParams("taskId is of another task", member="taskId")
        new = NewConfig(
            agent=agent.name,
            task_id=task_id,
            owner=principal_id,
            config_id=_text(config, "id", MAX_ID) or task_id,
            version=version,
            destination=await self.check(agent, config),
            callback=callback,
        )
        return shown(await self._configs.put(new), new.destination)

    async def get(self, principal_id: str, agent: Agent, task_id: str, config_id: str) -> JsonObject:
        """Return a configuration as `shown`.

        Raises:
            NotFound: the task or the configuration is not there, or not the principal's.
        """
        await self._require(principal_id, agent, task_id)
        found = await self._configs.find(principal_id, agent.name, task_id, config_id)
        if found is None:
            raise NotFound("push notification configuration", config_id)
        return shown(*found)

    async def list(self, principal_id: str, agent: Agent, task_id: str) -> JsonObject:
        """Return the principal's configurations of a task, on one page; raises NotFound as `create`."""
        await self._require(principal_id, agent, task_id)
        found = await self._configs.of_owner(principal_id, agent.name, task_id)
        return {"configs": [shown(*one) for one in found], "nextPageToken": ""}

    async def delete(self, principal_id: str, agent: Agent, task_id: str, config_id: str) -> JsonObject:
        """Remove a configuration and what waits for its receiver. Removing it again is no error; raises as `create`."""
        await self._require(principal_id, agent, task_id)
        await self._configs.delete(principal_id, agent.name, task_id, config_id)
        return {}

    def guards(self, agent_name: str) -> Posted | None:
        """What looks at what is posted of an agent; None: nobody does."""
        return self._courier.guards(agent_name)

    def versions(self, agent_name: str, task_id: str) -> frozenset[Version]:
        """The versions of a task's receivers; empty: its events concern nobody. From memory."""
        return frozenset(cast("Version", one.version) for one in self._configs.of_task(agent_name, task_id))

    async def notify(self, agent_name: str, task_id: str, event: JsonObject, *, task: JsonObject | None = None) -> None:
        """Put an event of a task on its way to all its receivers; when this returns it survives the process.

        `event` is a canonical StreamResponse, `task` the task as it is after it: needed when `versions` holds 0.3.
        """
        receivers = [
            one
            for one in self._configs.of_task(agent_name, task_id)
            if await self._ledger.is_open(agent_name, task_id, one.owner)  # it may have been a colleague's
        ]
        now = self._clock()
        bodies: dict[str, bytes | None] = {}
        postings = []
        for receiver in receivers:
            if receiver.version not in bodies:
                bodies[receiver.version] = _body(cast("Version", receiver.version), event, task)
            body = bodies[receiver.version]
            if body is not None:
                postings.append(Posting(receiver.id, new_id("evt"), body, now))
        if postings:
            await self._outbox.put(postings)
            for receiver in receivers:
                self._courier.wake(receiver.id, receiver.owner)

    async def run(self) -> None:
        """Deliver, and learn of configurations made elsewhere, until cancelled."""
        await self._configs.refresh()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._courier.run())
            tasks.create_task(self._follow())

    async def _follow(self) -> None:
        forgot_at = 0.0
        while True:
            if self._clock() - forgot_at > FORGET_S:
                forgot_at = self._clock()
                await logged(self._configs.forget_tasks())
            await logged(self._configs.refresh())
            await asyncio.sleep(REFRESH_S)

    async def _require(self, principal_id: str, agent: Agent, task_id: str) -> None:
        if not await self._ledger.is_open(agent.name, task_id, principal_id):
            raise NotFound("task", task_id)


def _body(version: Version, event: JsonObject, task: Any) -> bytes | None:
    try:
        return body_for(version, event, task)
    except Untranslatable as error:
        logger.warning("an event cannot be said in the receiver's version", extra={"reason": str(error)})
        return None
