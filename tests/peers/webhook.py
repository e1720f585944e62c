"""A receiver of push notifications on a free port, and the hub's push parts on a real database, with a clock of the test's.

The receiver stands for clients' servers, which answer as they like: the official SDKs have none to run.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from agents.ledger import Ledger
from agents.push import Push
from agents.push_callback import Callbacks
from agents.push_delivery import Courier
from agents.speech import Version
from registry.callers.keys import Keys
from registry.egress.guard import Guard
from registry.egress.http import Egress
from registry.entries import Agent
from registry.gate import Gate
from registry.identity import KeySpec
from registry.ledger.outbox import DeadLetter, Outbox, dead_letters
from registry.ledger.ownership import Claim, Ownership
from registry.ledger.push import PushConfigs
from registry.sealed.secrets import Sealer
from registry.store.db import Database, open_database
from registry.store.schema import migrate
from tests.conftest import served

PUBLIC_URL = "https://hub.example"
AGENT = Agent(name="research", url="http://127.0.0.1:9")
LOOPBACK = Guard((ip_network("127.0.0.0/8"),))
SEALING_KEY = b"k" * 32
SIGNING_KEY = ec.generate_private_key(ec.SECP256R1())


@dataclass
class Notice:
    """One notification as it came."""

    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Webhook:
    """A receiver: what came, and how it answers."""

    url: str = ""
    came: list[Notice] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Status and headers of the next answers; then 200."""
    _more: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def wait(self, count: int) -> list[Notice]:
        """Wait until so many came; return them."""
        async with asyncio.timeout(20), self._more:
            await self._more.wait_for(lambda: len(self.came) >= count)
        return self.came

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        status, headers = self.answers.pop(0) if self.answers else (200, {})
        self.came.append(Notice({name.decode(): value.decode("latin-1") for name, value in scope["headers"]}, body))
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": b"seen"})
        async with self._more:
            self._more.notify_all()


@asynccontextmanager
async def webhook(*answers: int | tuple[int, dict[str, str]]) -> AsyncIterator[Webhook]:
    """Serve a receiver that answers so, then 200."""
    hook = Webhook(answers=[(one, {}) if isinstance(one, int) else one for one in answers])
    async with served(hook) as base:
        hook.url = f"{base}/hook"
        yield hook


class Clock:
    """The time, as the test has it."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class StockSigner:
    """Signs as the hub does, by a stock library."""

    def sign(self, claims: dict[str, object]) -> str:
        return jwt.encode(claims, SIGNING_KEY, "ES256")


async def stock_signer() -> StockSigner:
    """Where the hub's parts get a signer."""
    return StockSigner()


def verified(token: str, audience: str, *, leeway_s: float = 0) -> dict[str, Any]:
    """The claims of a JWT that a receiver believes, whose clock is the machine's and may differ by `leeway_s`."""
    key = SIGNING_KEY.public_key()
    return jwt.decode(token, key, ["ES256"], audience=audience, issuer=PUBLIC_URL, leeway=leeway_s)


def status(state: str, task_id: str = "t1") -> dict[str, Any]:
    """A canonical status event."""
    return {"statusUpdate": {"taskId": task_id, "contextId": "c1", "status": {"state": f"TASK_STATE_{state}"}}}


@dataclass
class Pushing:
    """The hub's push parts."""

    database: Database
    clock: Clock
    keys: Keys
    configs: PushConfigs
    outbox: Outbox
    courier: Courier
    push: Push
    callbacks: Callbacks
    events: list[tuple[str, str, Any]]
    """What agents said, as it was handed over."""
    egress: Egress

    async def principal(self, name: str, *allow: str) -> str:
        """A new key's id."""
        made, _ = await self.keys.create(KeySpec(name=name, allow=allow or ("agent:*",)))
        return made.id

    async def task(self, owner: str, task_id: str = "t1") -> None:
        """Let a task be the owner's."""
        claim = Claim(AGENT.name, owner, None, task_id, "TASK_STATE_WORKING", time.time())
        assert await Ownership(self.database).claim(claim)

    async def create(self, owner: str, url: str, task_id: str = "t1", version: Version = "1.0", **members: Any) -> Any:
        """Make a configuration."""
        return await self.push.create(owner, AGENT, task_id, {"url": url, **members}, version=version)

    async def notify(self, *states: str, task_id: str = "t1") -> None:
        """Tell of states."""
        for state in states:
            await self.push.notify(AGENT.name, task_id, status(state, task_id))

    async def settled(self) -> None:
        """Wait until every attempt under way has been written down."""
        while self.courier._running:
            await asyncio.wait(list(self.courier._running.values()))

    async def later(self, seconds: float) -> None:
        """Let time pass, once what is under way has ended."""
        await self.settled()
        self.clock.now += seconds
        self.courier._look.set()

    async def dead(self) -> list[DeadLetter]:
        """What was given up."""
        return await self.database.read(lambda session: dead_letters(session, 0, 1000))

    async def count(self, table: str) -> int:
        """Rows of a table."""
        query = f"SELECT count(*) FROM {table}"
        return await self.database.read(lambda session: session.connection().exec_driver_sql(query).scalar_one())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver, as long as the block lasts."""
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.push.run())
            yield
            task.cancel()


@asynccontextmanager
async def pushing(
    directory: Path, *, guard: Guard = LOOPBACK, name: str = "push.db", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Pushing]:
    """Open the parts on a database in `directory`."""
    clock = Clock()
    async with open_database(f"sqlite:///{directory}/{name}") as database:
        await asyncio.to_thread(migrate, database.engine)
        sealer, egress = Sealer([SEALING_KEY]), Egress(guard=guard, tls=tls)
        configs, outbox = PushConfigs(database, sealer=sealer), Outbox(database, sealer=sealer)
        courier = Courier(
            outbox,
            egress=egress,
            gate=Gate(lambda _settled: None),
            signer=stock_signer,
            public_url=PUBLIC_URL,
            clock=clock,
        )
        ledger = Ledger(Ownership(database))
        push = Push(configs, outbox=outbox, courier=courier, ledger=ledger, egress=egress, clock=clock)
        events: list[tuple[str, str, Any]] = []

        async def on_event(agent: str, task_id: str, event: Any) -> None:
            events.append((agent, task_id, event))

        callbacks = Callbacks(configs, public_url=PUBLIC_URL, on_event=on_event)
        try:
            yield Pushing(database, clock, Keys(database), configs, outbox, courier, push, callbacks, events, egress)
        finally:
            await egress.aclose()
