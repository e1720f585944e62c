"""`hubbub serve`: one process, one event loop, one application. Owns the server's settings and what it prints."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import uvicorn

from hub.app import App, House
from hub.hosts import Hosts
from hub.http11 import Front
from hub.http_exchange import Limits
from hub.logs import Lines
from hub.routes import routes
from hub.services import MakeGate, Services, open_services
from hub.settings import environment, watch
from registry.declared.config import ConfigInvalid, Declared
from registry.errors import HubError
from registry.gate import Gate

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_house(
    declared: Declared,
    *,
    public_url: str,
    bound_to: str,
    make_gate: MakeGate = Gate,
    ending: asyncio.Event,
) -> AsyncIterator[tuple[House, Services]]:
    """Open the services and hang the doors; when `ending` is set, gRPC and streams of notifications end."""
    limits = declared.hub.limits
    async with (
        open_services(declared, public_url=public_url, environment=environment(), make_gate=make_gate) as services,
        routes(services, ending) as found,
    ):
        house = House(
            routes=found,
            authenticator=services.authenticator,
            hosts=Hosts(public_url, bound_to=bound_to, allowed_origins=declared.hub.allowed_origins),
            audit=services.audit,
            gate=services.gate,
            limits=Limits(
                body_bytes=limits.body_bytes,
                upload_bytes=limits.upload_bytes,
                header_bytes=limits.header_bytes,
                keep_alive_s=limits.keep_alive_s,
                stream_idle_s=limits.stream_idle_s,
                is_https=public_url.startswith("https:"),
            ),
        )
        async with _grpc(services, house, host=bound_to, ending=ending):
            yield house, services


@asynccontextmanager
async def _grpc(services: Services, house: House, *, host: str, ending: asyncio.Event) -> AsyncIterator[None]:
    """Serve gRPC beside HTTP, if the file says on which port."""
    hub = services.declared.hub
    if hub.grpc_port is None:
        yield
        return
    from hub.doors.grpc import GrpcDoor, listening  # noqa: PLC0415 - loads grpc and protobuf: 100 ms and 20 MB

    door = GrpcDoor(services.agents, registry=services.registry, gate=services.gate, authenticator=house.authenticator)
    drain_s = hub.limits.drain_s
    async with listening(door, host=host, port=hub.grpc_port, limits=house.limits, drain_s=drain_s, ending=ending):
        yield


class _Server(uvicorn.Server):
    """uvicorn's, which tells when it begins to drain: gRPC drains at the same time, not after it."""

    def __init__(self, config: uvicorn.Config, ending: asyncio.Event) -> None:
        super().__init__(config)
        self._ending = ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more requests, and let those under way end within the drain time."""
        self._ending.set()
        await super().shutdown(sockets)


def server(app: App, *, host: str, port: int, drain_s: float, ending: asyncio.Event | None = None) -> uvicorn.Server:
    """Make the HTTP server around the application; it sets `ending` when it begins to end."""
    return _Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            loop="uvloop" if sys.platform != "win32" else "asyncio",
            http=cast("Any", Front(app.serve, app.limits).connection),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=round(drain_s),
            backlog=2048,
        ),
        ending or asyncio.Event(),
    )


def serve(declared: Declared, config_path: Path | None, *, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; then let running requests end within the drain time."""
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(Lines())
    logging.basicConfig(level=logging.INFO, handlers=[shown])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    public_url = declared.hub.public_url or f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104

    ending = asyncio.Event()

    @asynccontextmanager
    async def opener() -> AsyncIterator[House]:
        async with (
            open_house(declared, public_url=public_url, bound_to=host, ending=ending) as (house, services),
            asyncio.TaskGroup() as tasks,
        ):
            _spare_the_collector()
            watching = tasks.create_task(follow(services, config_path)) if config_path else None
            welcome(services, host, port)
            yield house
            if watching is not None:
                watching.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)  # the server drains first, and then raises the signal again
    server(App(opener), host=host, port=port, drain_s=declared.hub.limits.drain_s, ending=ending).run()


def _spare_the_collector() -> None:
    """Leave what start-up made out of collections, and collect rarely: requests leave few cycles behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _end(_number: int, _frame: object) -> None:
    sys.exit(0)


async def follow(services: Services, config_path: Path) -> None:
    """Apply changes of the file: a valid one whole, an invalid one not at all."""
    async for change in watch(config_path):
        if isinstance(change, ConfigInvalid):
            logger.error("hub.yaml was changed and cannot be used; the old state goes on\n%s", change)
            continue
        if change.hub != services.declared.hub:
            logger.warning("hub.yaml: changes under hub: take effect at the next start")
        try:
            await services.registry.follow_file(change)
        except HubError as error:
            logger.error("hub.yaml was changed and cannot be applied; the old state goes on\n%s", error.text)  # noqa: TRY400
            continue
        logger.info("hub.yaml was changed and applied", extra={"catalog": services.registry.catalog.number})


def welcome(services: Services, host: str, port: int) -> None:
    """Print where the hub is, the admin key if it is new, and the next thing to type."""
    lines = [f"Hubbub serves on http://{host}:{port} as {services.public_url}"]
    if services.made_admin_key is not None:
        lines.append(f"Admin key, shown this once: {services.made_admin_key}")
    if not services.registry.catalog.models:
        lines.append("Nothing is registered yet: write hub.yaml and see `hubbub check`.")
    lines.append("Next: hubbub keys create me --allow 'model:*' --allow 'tool:*' --allow 'agent:*'")
    print("\n".join(lines), flush=True)  # noqa: T201  # the command's answer to its user
