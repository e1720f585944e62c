"""The defences without which tests of attacks must fail, and what lets everything pass in the place of each.

Where what is checked is how something is written, the offending thing is put among it (tests/attacks/sources.py).
"""

from __future__ import annotations

import ast
import asyncio
import gzip
import re
import socket
import sys
from ipaddress import ip_address
from typing import Any

import msgspec
from sqlmodel import Session, select

from hub.http_exchange import HttpExchange
from llm.call import ModelCall
from mcp_bridge.stdio.children import INHERITED
from mcp_bridge.stdio.relay import SERVER, Relay
from registry.egress.guard import Address, Guard
from registry.egress.http import Call, Incoming
from registry.gate import Usage
from registry.identity import NOBODY
from registry.rules.guards import Seen
from registry.sealed.secrets import Sealer, digest
from registry.store.tables.sealed import KeptRecord
from tests.attacks.sources import lock, modules, released

NEVER = re.compile("(?!)")
"""A pattern that finds nothing."""


async def _somebody(*_: Any) -> Any:
    return NOBODY


async def _nothing(*_: Any) -> None:
    return None


async def _any_address(_guard: Guard, host: str, port: int, **_: Any) -> Address:
    found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    return ip_address(str(found[0][4][0]))


async def _following(call: Call, enter: Any = Call.__aenter__) -> Incoming:
    """Enter a call as its method does, and follow where its answer leads."""
    incoming = await enter(call)
    location = incoming.header(b"location")
    if location is None:
        return incoming
    await call.__aexit__(None, None, None)
    call._outgoing = msgspec.structs.replace(call._outgoing, url=location)
    return await enter(call)


async def _unbounded(exchange: HttpExchange, read: Any = HttpExchange.any_body) -> bytes:
    exchange._limit = sys.maxsize
    return await read(exchange)


async def _inflated(exchange: HttpExchange, read: Any = HttpExchange.body) -> bytes:
    if exchange.headers.get(b"content-encoding") == b"gzip":
        return gzip.decompress(await exchange.any_body())
    return await read(exchange)


def _as_clients_count(relay: Relay, _client: int, call: Any, message: Any) -> Any:
    relay._calls[int(bytes(message.id))] = call
    return [(SERVER, msgspec.json.encode(message))]


def _matches_by_trying(glob: str, name: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, glob.split("*"))), name, re.DOTALL) is not None


def _anybodys(session: Session, kind: str, name: str, _: Any) -> KeptRecord | None:
    return session.exec(select(KeptRecord).where(KeptRecord.kind == kind, KeptRecord.id == name)).first()


class _Open(Sealer):
    """Seals nothing."""

    def seal(self, value: bytes, *, about: str) -> bytes:
        return value

    def open(self, sealed: bytes, *, about: str) -> bytes:
        return sealed


OFFENDING = """
import subprocess, jinja2
def offend(request, name):
    subprocess.run(name, shell=True)
    return eval(jinja2.Template(name).render()), f"SELECT * FROM keys WHERE name = '{name}'", request.url
"""
"""A module that the checks of the hub's own code have to find."""


async def _all_of_it(incoming: Incoming) -> bytes:
    return b"".join([piece async for piece in incoming])


def _as_said(call: ModelCall, usage: Usage | None, **_: Any) -> None:
    call.usage = usage


DEFENCES: dict[str, Any] = {
    "agents.ledger:Ledger._opens": lambda *_: True,
    "agents.watching:Watching._check": _nothing,
    "agents.signing:verified": lambda members, _: members,
    "agents.wire:hops": lambda _: 0,
    "hub.api.entries:_judge_move": lambda *_: True,
    "hub.api.keys:check_placed": lambda *_: None,
    "hub.app:repeated_credential": lambda _: None,
    "hub.auth:Authenticator.principal": _somebody,
    "hub.auth:hash_of": lambda secret: digest(secret[:40]),
    "hub.browsers:Browsers.check_site": lambda *_: None,
    "hub.browsers:Browsers.check_token": lambda *_: None,
    "hub.doors.ui:_own_path": lambda text: text,
    "registry.callers.sign_in:_same": lambda *_: True,
    "hub.doors.connect_pages:escape": str,
    "hub.hosts:Hosts.allow": lambda *_: True,
    "hub.hosts:Hosts.serve": lambda *_: True,
    "hub.http11:Connection._check_framing": lambda *_: None,
    "hub.http_exchange:HttpExchange.any_body": _unbounded,
    "hub.http_exchange:HttpExchange.body": _inflated,
    "hub.sources:Sources._is_trusted": lambda *_: True,
    "llm.call:ModelCall.heard": _as_said,
    "llm.platform.batch_lines:BatchLines._count": lambda *_: None,
    "llm.platform.answers:_made": lambda estimate, _: estimate,
    "mcp_bridge.fastlane:_mirror": lambda *_: None,
    "mcp_bridge.fastlane:_once": lambda *_: None,
    "mcp_bridge.naming:_HASHED": NEVER,
    "mcp_bridge.oauth.connect:_is_begun_by": lambda *_: True,
    "mcp_bridge.oauth.discovery:issuers_match": lambda *_: True,
    "mcp_bridge.oauth.fetch:check_browsable": _nothing,
    "mcp_bridge.openapi.requests:_NOT_IN_A_SEGMENT": NEVER,
    "mcp_bridge.server:LegacyServer.session": lambda server, name, _: server._sessions.get(name.decode()),
    "mcp_bridge.stdio.children:INHERITED": (*INHERITED, "HUBBUB_ADMIN_KEY"),
    "mcp_bridge.stdio.relay:Relay._asks": _as_clients_count,
    "mcp_bridge.tasks:_about": lambda _: "",
    "registry.access:Grants.allow": lambda *_: True,
    "registry.access:Grants.cover": lambda *_: True,
    "registry.access:Grants.reach": lambda *_: True,
    "registry.access:matches": _matches_by_trying,
    "registry.callers.keys:Keys.check_fresh": lambda _: None,
    "registry.callers.tokens:_paths": lambda *_: None,
    "registry.declared.stored:_FILE_ONLY": (),
    "registry.discreet:discreet": lambda _, said, *__: said,
    "registry.egress.guard:Guard.opens": lambda *_: True,
    "registry.egress.guard:Guard.resolve": _any_address,
    "registry.egress.guard:is_public": lambda _: True,
    "registry.egress.http:Call.__aenter__": _following,
    "registry.egress.http:Incoming.read": _all_of_it,
    "registry.egress.request:_NOT_IN_A_VALUE": NEVER,
    "registry.gate:Gate.pass_on": lambda *_: None,
    "registry.judged:_check_depth": lambda _: None,
    "registry.judged:_check_duplicates": lambda *_: None,
    "registry.judged:check_spelling": lambda *_: None,
    "registry.judged:read_object": lambda raw, *_: msgspec.json.decode(raw),
    "registry.rules.guards:is_clear": lambda *_: True,
    "registry.rules.guards:look_now": lambda _guards, _side, value, **_: Seen(value, ()),
    "registry.rules.policy:_is_too_large": lambda _: False,
    "registry.sealed.kept:_find": _anybodys,
    "registry.sealed.secrets:Sealer": _Open,
    "registry.sealed.secrets:digest": bytes.decode,
    "registry.spending.counters:Counters._ask": _nothing,
    "registry.trust.pins:grave": lambda _: None,
    "registry.trust.pins:_withheld": lambda *_: None,
    "registry.trust.scanning:_of_characters": lambda *_, **__: (),
    "registry.trust.scanning:_of_schemas": lambda _: (),
    "registry.trust.scanning:_shadowing": lambda *_: (),
    "tests.attacks.sources:lock": lambda: f"{lock()}\nlitellm==1.82.7\n",
    "tests.attacks.sources:modules": lambda: {**modules(), "hub/offending.py": ast.parse(OFFENDING)},
    "tests.attacks.sources:released": lambda: [*released(), "litellm_init.pth"],
}
"""What stands in the place of a defence, by its module and name: it lets everything pass."""
