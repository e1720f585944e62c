"""One turn of a task that runs here, and what does it: the port between `host` and the kinds of agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from agents.hosting.live import Live
from registry.entries import Agent
from registry.gate import Permit
from registry.identity import Principal
from registry.judged import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a task has to do now."""

    live: Live
    entry: Agent
    principal: Principal
    """Who asks, as they came."""
    message: JsonObject | None
    """What they say (A2A 1.0 §4.1.4); None: they were not asked, and what was under way goes on."""
    request_id: str
    within: Permit | None = None
    """The call that asked; None: there is none."""


class Worker(Protocol):
    """What does the work of one kind of agents."""

    async def work(self, work: Work) -> None:
        """Say on `work.live` what is to be said, until the task is over: it has ended, or waits for its caller.

        Raises:
            HubError: the task has failed, for the reason that it says.
        """

    async def stop(self, work: Work) -> None:
        """Have a task end elsewhere too, whose work was cancelled here; raises `HubError` if it cannot be."""

    def goes_on(self, entry: Agent, ref: JsonObject) -> bool:
        """Whether what another process began, which has died, can be gone on with."""
