"""The callback door: `/a2a/_push/{id}`, where agents tell the hub of events. Needs no key but the configuration's secret.

Nothing is read of a request that does not know the secret, and everything that is wrong is answered like an unknown path.
"""

from __future__ import annotations

from agents.push_callback import PATH, Callbacks
from hub.exchange import Exchange
from registry.errors import CallerError, NotFound, UpstreamInvalid
from registry.registry import Registry


class PushDoor:
    """Answers agents."""

    def __init__(self, callbacks: Callbacks, *, registry: Registry) -> None:
        self._callbacks = callbacks
        self._registry = registry

    async def __call__(self, exchange: Exchange) -> None:
        """Take one event; it is on its way to those it concerns when the agent hears of it.

        Raises:
            NotFound: whatever is wrong with it.
        """
        try:
            if exchange.method != "POST":
                raise NotFound("path", exchange.path)
            receiver = await self._callbacks.find(exchange.path.removeprefix(PATH), exchange.headers)
            if receiver.agent not in self._registry.catalog.agents:
                raise NotFound("path", exchange.path)
            await self._callbacks.receive(receiver, await exchange.body())
        except (CallerError, UpstreamInvalid):
            raise NotFound("path", exchange.path) from None
        await exchange.reply(202, b"{}")
