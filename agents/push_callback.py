"""Push notifications as agents send them: an address of the hub's and a secret for each configuration.

Knows the receivers' ids and nothing of where their notifications go. An agent's call must come with the secret, and be of the
task that the configuration is of; whatever is wrong with it is answered like an address that was never given out.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from agents import translate
from agents.records import Untranslatable
from registry import judged
from registry.entries import Agent
from registry.errors import CallerError, NotFound
from registry.judged import JsonObject
from registry.ledger.push import Callback, PushConfigs, Receiver
from registry.sealed.secrets import digest

PATH: Final = "/a2a/_push/"
"""No agent's name begins with `_`."""

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
"""As large as an event of a stream may be."""

_ID_BYTES: Final = 16
_NOBODYS: Final = Callback("", digest(b""))

OnEvent = Callable[[str, str, JsonObject], Awaitable[None]]
"""Takes the agent's name, the task's id and a canonical StreamResponse."""


class Given(NamedTuple):
    """A new address and secret: what the agent is told, and what the hub keeps."""

    config: JsonObject
    """A canonical TaskPushNotificationConfig, for `configuration.taskPushNotificationConfig` or, with a `taskId`, a request."""
    kept: Callback


class Callbacks:
    """What agents call. One for a process; safe to use from several tasks."""

    def __init__(self, configs: PushConfigs, *, public_url: str, on_event: OnEvent) -> None:
        self._configs = configs
        self._public_url = public_url
        self._on_event = on_event

    def new(self) -> Given:
        """Make an address for a task that does not exist yet; `kept` goes into `Push.create` when it does."""
        callback_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(32)
        config = {
            "id": callback_id,
            "url": f"{self._public_url}{PATH}{callback_id}",
            "token": secret,
            "authentication": {"scheme": "Bearer", "credentials": secret},
        }
        return Given(config, Callback(callback_id, digest(secret.encode())))

    async def callback(self, principal_id: str, agent: Agent, task_id: str, config_id: str) -> JsonObject:
        """Give out an address for a stored configuration; one given out for it before is void.

        Raises:
            NotFound: there is no such configuration.
        """
        given = self.new()
        found = await self._configs.find(principal_id, agent.name, task_id, config_id)
        if found is None or not await self._configs.set_callback(found[0], given.kept):
            raise NotFound("push notification configuration", config_id)
        return {**given.config, "taskId": task_id}

    async def find(self, callback_id: str, headers: Mapping[bytes, bytes]) -> Receiver:
        """Who an agent's call is for, from its head alone: nothing is read of one that does not know the secret.

        Raises:
            NotFound: no such address, or not with this secret.
        """
        receiver = await self._configs.of_callback(callback_id) if len(callback_id) == 2 * _ID_BYTES else None
        wanted = ((receiver and receiver.callback) or _NOBODYS).digest
        bearer = headers.get(b"authorization", b"").partition(b" ")[2].strip()
        # both are looked at, always: the time it takes says nothing
        fits = [
            hmac.compare_digest(digest(secret), wanted)
            for secret in (bearer, headers.get(b"x-a2a-notification-token", b""))
        ]
        if receiver is None or receiver.callback is None or not any(fits):
            raise NotFound("path", f"{PATH}{callback_id}")
        return receiver

    async def receive(self, receiver: Receiver, body: bytes) -> None:
        """Take an agent's event: a StreamResponse of 1.0 or 0.3, or a bare Task of either.

        Raises:
            NotFound: it is none, or of another task.
        """
        event = _read(body)
        if event is None or _task_of(event) != receiver.task_id:
            raise NotFound("path", f"{PATH}{receiver.callback.id if receiver.callback else ''}")
        await self._on_event(receiver.agent, receiver.task_id, event)


def _read(body: bytes) -> JsonObject | None:
    """Read an event; None: it is none, or too large."""
    if len(body) > MAX_EVENT_BYTES:
        return None
    try:
        judged.check_size(body)
        return translate.event_up(judged.decode(body))
    except (CallerError, Untranslatable):
        return None


def _task_of(event: JsonObject) -> str | None:
    """The id of the task that a canonical StreamResponse speaks of."""
    for member, name in (
        ("task", "id"),
        ("statusUpdate", "taskId"),
        ("artifactUpdate", "taskId"),
        ("message", "taskId"),
    ):
        if member in event:
            found = event[member].get(name)
            return found if isinstance(found, str) else None
    return None
