"""Fixtures for everybody: a real hub, served on a free port in the test's own event loop, behind a recording gate."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import os
import shutil
import tempfile
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx
import pytest
import uvicorn
import uvloop
from hypothesis import HealthCheck, settings

from agents.bridges.kinds import fault
from hub.app import App, House
from hub.exchange import Receive, Send
from hub.http11 import Front, Serve
from hub.http_exchange import HttpExchange, Limits
from hub.serve import open_house, server
from hub.services import Services
from llm.providers.table import NAMES
from registry.declared.config import Declared, read
from registry.errors import Conflict
from registry.identity import KeySpec
from registry.spending.counters import Counters
from registry.store.db import open_engine
from registry.store.schema import migrate
from tests.hangs import pytest_timeout_set_timer as pytest_timeout_set_timer
from tests.recording import RecordingGate
from tests.serving import Embedded as Embedded
from tests.serving import free_port as free_port
from tests.serving import free_socket as free_socket
from tests.serving import run as run
from tests.serving import served as served

# no wall clock decides a test, and a run finds what the run before found
settings.register_profile("hubbub", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hubbub")

ADMIN_KEY = "sk-admin-of-the-test-suite-0000000000"


@dataclass
class Hub:
    """A hub under test."""

    url: str
    services: Services
    gate: RecordingGate
    grpc: str | None = None
    """host:port, if it was opened with `grpc=True`."""

    async def key(self, *allow: str, **members: object) -> str:
        """Make a key with these grants and return its secret."""
        for number in itertools.count(len(await self.services.keys.all_live())):
            with contextlib.suppress(Conflict):  # somebody else makes one too
                _, secret = await self.services.keys.create(KeySpec(name=f"key-{number}", allow=allow, **members))
                return secret
        raise AssertionError("there is always another number")

    def http(self, secret: str | None = None) -> httpx.AsyncClient:
        """A plain HTTP client towards the hub."""
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30, trust_env=False)


@asynccontextmanager
async def served_exchanges(serve: Serve) -> AsyncIterator[str]:
    """Serve a function of exchanges over the hub's own HTTP on a free port; yields its URL."""

    async def lifespan(_scope: object, receive: Receive, send: Send) -> None:
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})

    async def serving(exchange: HttpExchange) -> None:
        try:
            await serve(exchange)
        finally:
            exchange.close()

    sock = free_socket()
    host, port = sock.getsockname()[:2]
    protocol = Front(serving, Limits).connection
    config = uvicorn.Config(lifespan, http=protocol, ws="none", log_config=None, timeout_graceful_shutdown=1)
    async with run(Embedded(config), sock):
        yield f"http://{host}:{port}"


OpenHub = Callable[..., contextlib.AbstractAsyncContextManager[Hub]]


@asynccontextmanager
async def open_hub(
    directory: Path,
    yaml: str = "",
    *,
    environ: dict[str, str] | None = None,
    grpc: bool = False,
    setting: str = "",
) -> AsyncIterator[Hub]:
    """Serve a real hub for this hub.yaml; at the end, every permit it gave must have been settled once, and every exchange closed.

    `setting` is a line of the hub's own section.
    """
    sock = free_socket()
    port = sock.getsockname()[1]
    grpc_port = free_port() if grpc else None
    declared: Declared = read(
        with_hub_section(directory, yaml, grpc_port=grpc_port, setting=setting),
        file="hub.yaml",
        environ=environ or {},
        read_file=lambda name: (directory / name).read_text(),
        providers=NAMES,
        bridge_fault=fault,
    )
    opened: list[Services] = []
    ending = asyncio.Event()
    gates: list[RecordingGate] = []

    def make_gate(record: Callable[..., None], counters: Counters) -> RecordingGate:
        gates.append(RecordingGate(record, counters))
        return gates[-1]

    @asynccontextmanager
    async def opener() -> AsyncIterator[House]:
        async with open_house(
            declared, public_url=f"http://127.0.0.1:{port}", bound_to="127.0.0.1", make_gate=make_gate, ending=ending
        ) as (house, services):
            opened.append(services)
            yield house

    real = server(App(opener), host="127.0.0.1", port=port, drain_s=2)
    embedded = Embedded(real.config, ending)
    async with run(embedded, sock):
        yield Hub(f"http://127.0.0.1:{port}", opened[0], gates[0], f"127.0.0.1:{grpc_port}" if grpc_port else None)
    gates[0].check()
    assert not any(task.done() for task in embedded.server_state.tasks), "the server would wait for what was served"


def with_hub_section(directory: Path, yaml: str, *, grpc_port: int | None = None, setting: str = "") -> str:
    """Add the hub's own section, with a database in `directory`, to a hub.yaml without one."""
    text = textwrap.dedent(yaml)
    if not (directory / "hubbub.db").exists():
        shutil.copy(empty_database(), directory / "hubbub.db")
    if "\nhub:" in f"\n{text}":
        assert "database:" in text, "without one of its own it would be the working directory's"
        return text
    more = f"  grpc_port: {grpc_port}\n" if grpc_port else ""
    more += f"  {setting}\n" if setting else ""
    return f"hub:\n  database: sqlite:///{directory}/hubbub.db\n  admin_key: {ADMIN_KEY}\n{more}{text}"


@cache
def empty_database() -> Path:
    """A database whose schema is at head, made once for each test process: migrating costs more than most tests."""
    path = Path(tempfile.mkdtemp(prefix="hubbub-tests-")) / "empty.db"
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    engine = open_engine(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()
    return path


IN_TURN = {
    "a2a": {
        "attacks/test_kill9_peers.py",
        "attacks/test_kill9_push.py",
        "attacks/test_kill9_streams.py",
        "attacks/test_mixed_up_agents.py",
        "attacks/test_tenants_in_every_speech.py",
        "doors/test_a2a_instances.py",
        "doors/test_a2a_matrix.py",
        "doors/test_a2a_push.py",
        "doors/test_a2a_slow_readers.py",
        "doors/test_a2a_streams.py",
        "foreign/test_a2a_03.py",
        "foreign/test_a2a_js.py",
        "foreign/test_fasta2a.py",
        "foreign/test_langgraph.py",
        "foreign/test_odd_agents.py",
        "foreign/test_openapi.py",
        "foreign/test_through_the_hub.py",
    },
    "mcp": {
        "attacks/test_mcp_bystanders.py",
        "attacks/test_mcp_misfortunes.py",
        "doors/test_agent_tasks.py",
        "doors/test_mcp_cancel.py",
        "doors/test_mcp_ended.py",
        "doors/test_mcp_legacy_tasks.py",
        "doors/test_mcp_lossless.py",
        "doors/test_mcp_parked.py",
        "doors/test_mcp_subscriptions.py",
        "doors/test_mcp_tasks.py",
        "foreign/test_conformance.py",
        "foreign/test_mcp_clients.py",
        "foreign/test_mcp_agents.py",
        "foreign/test_mcp_kinds.py",
        "foreign/test_mcp_tasks.py",
        "mcp_bridge/test_supervisor.py",
    },
    "attacks": {
        "attacks/test_any_parser.py",
        "attacks/test_canary.py",
        "attacks/test_crawl.py",
        "attacks/test_described.py",
        "attacks/test_every_object.py",
        "attacks/test_every_record.py",
        "attacks/test_fail_closed.py",
        "attacks/test_key_places.py",
        "attacks/test_roles.py",
        "attacks/test_seen_and_sent.py",
        "attacks/test_supply.py",
        "attacks/test_undefended.py",
        "registry/test_scale.py",
    },
    "frameworks": {
        "attacks/test_process.py",
        "foreign/test_frameworks.py",
        "mcp_bridge/test_process.py",
    },
    "trust": {
        "attacks/test_kill9_limits.py",
        "attacks/test_mcp_line.py",
        "attacks/test_sign_in.py",
        "attacks/test_tenancy_processes.py",
        "attacks/test_tokens.py",
        "doors/test_account_pins.py",
        "doors/test_agent_guards.py",
        "doors/test_connect.py",
        "doors/test_guards.py",
        "doors/test_guards_ways.py",
        "doors/test_limits.py",
        "doors/test_personal_subscriptions.py",
        "doors/test_sign_in.py",
        "doors/test_task_bounds.py",
        "doors/test_tokens.py",
        "doors/test_trust.py",
        "foreign/test_oidc.py",
        "foreign/test_presidio.py",
        "registry/test_guards.py",
        "registry/test_limits.py",
    },
    "llm": {
        "attacks/test_hostile_messages.py",
        "attacks/test_hostile_responses.py",
        "attacks/test_kill9_approvals.py",
        "attacks/test_kill9_own_agents.py",
        "bridges/test_responses.py",
        "doors/test_agent_models.py",
        "doors/test_foreign_sources.py",
        "doors/test_messages.py",
        "doors/test_mixed_tools.py",
        "doors/test_own_agents.py",
        "doors/test_parked.py",
        "doors/test_parked_bounds.py",
        "doors/test_passthrough.py",
        "doors/test_platform.py",
        "doors/test_prices.py",
        "doors/test_recorded_streams.py",
        "doors/test_responses.py",
        "doors/test_responses_approvals.py",
        "doors/test_responses_kept.py",
        "doors/test_responses_passed.py",
        "doors/test_responses_rounds.py",
        "doors/test_three_doors.py",
        "foreign/test_any_llm.py",
        "hub/test_embedded.py",
        "llm/test_bounds.py",
        "llm/test_exact_cache.py",
        "llm/test_known_prices.py",
        "llm/test_messages.py",
        "llm/test_pass_through.py",
        "llm/test_provider_ids.py",
        "llm/test_providers_wire.py",
        "llm/test_responses_upstream.py",
        "llm/test_routing.py",
        "llm/test_toolbox.py",
    },
}
"""The modules of foreign parts and long suites, which take turns in the gate; elsewhere all of them run."""

TESTS = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave the modules of the groups out whose turn it is not."""
    turn = os.environ.get("HUBBUB_FOREIGN")  # noqa: TID251
    others = [paths for group, paths in IN_TURN.items() if turn in IN_TURN and group != turn]
    return any(collection_path.relative_to(TESTS).as_posix() in paths for paths in others) or None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything is enabled, a skip is a failure: no test passes by not running."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("HUBBUB_NO_SKIP") and reporter is not None and reporter.stats.get("skipped"):  # noqa: TID251
        session.exitstatus = 1
        reporter.write_line("HUBBUB_NO_SKIP is set and tests were skipped: this run has failed", red=True)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that the hub runs on in life."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def hub(tmp_path: Path) -> OpenHub:
    """`async with hub(yaml) as running:` serves a hub."""
    return lambda yaml="", **options: open_hub(tmp_path, yaml, **options)
