"""Any bytes at all for everything that reads what strangers wrote: a value, or the reader's own documented error.

Requests of the doors are in test_any_bytes; here are the readers around them: connections, forms, streams, ids, tokens, gRPC,
cards, documents, conditions, files. Each is given examples of its own grammar, cut and filled with any bytes.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from struct import pack
from typing import Any, NamedTuple

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import cards, grpc_wire
from agents.bridges.eventstream import Broken, Reader
from agents.bridges.way import Way
from agents.speech import Operation
from hub import http11
from hub.cli import litellm_yaml, mcp_json, server_json
from hub.exchange import ClientGone
from hub.http_exchange import HttpExchange, Limits
from llm.platform.batch_lines import BatchLines
from llm.platform.multipart import FormReader, boundary_of
from llm.platform.sealed_ids import SealedIds
from mcp_bridge.handles import Handles
from mcp_bridge.openapi.document import DocumentInvalid, read_document
from mcp_bridge.stdio import frames
from registry import judged
from registry.access import Grants
from registry.callers import tokens
from registry.corked import Cork
from registry.declared import config
from registry.declared.config import ConfigInvalid
from registry.egress import http1, sse
from registry.entries import Agent
from registry.errors import CallerError, HubError, NotFound, UpstreamError
from registry.identity import Principal
from registry.rules.policy import Policy, Rule, RuleInvalid
from registry.sealed.secrets import Sealer
from tests.registry.test_http1 import Wire

SEALER = Sealer([b"k" * 32])
WHO = Principal(id="me", name="me", grants=Grants(()))
ISSUER = tokens.Issuer(
    url="https://issuer.example",
    audience=("hub",),
    algorithms=("ES256",),
    claims=tokens.Claims(team="team", roles="realm.roles"),
)
KEY = ec.generate_private_key(ec.SECP256R1())
JWK = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key()))
USABLE = tokens.key_of(JWK, "ES256")


class State:
    """What uvicorn's server shares with its connections."""

    def __init__(self) -> None:
        self.default_headers: list[tuple[bytes, bytes]] = []
        self.connections: set[object] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.total_requests = 0


class Client(Wire):
    """A transport that can be closed."""

    def close(self) -> None:
        self.closed = True


class Came:
    """What a platform answered: these bytes, in two pieces."""

    status = 500

    def __init__(self, data: bytes) -> None:
        half = len(data) // 2
        self._pieces = (data[:half], data[half:])

    def header(self, _name: bytes) -> str:
        return self._pieces[0].decode("latin-1")

    async def read(self) -> bytes:
        return b"".join(self._pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    pieces = chunks


def as_text(data: bytes) -> str:
    """Bytes that are no UTF-8 as JSON can say them: as surrogates that stand alone."""
    return data.decode(errors="surrogateescape")


def as_file(data: bytes) -> str:
    return data.decode(errors="replace")


def request(data: bytes) -> None:
    async def serve(exchange: HttpExchange) -> None:
        with suppress(HubError, ClientGone):
            await exchange.any_body()
            await exchange.reply(200, exchange.path.encode() + exchange.query)

    async def come() -> None:
        state = State()
        connection = http11.Connection(http11.Front(serve, Limits), state)
        connection.connection_made(Client())
        connection.data_received(data)
        served = list(state.tasks)
        await asyncio.sleep(0)
        connection.connection_lost(None)
        await asyncio.gather(*served, *state.tasks)

    asyncio.run(come())


def answer(data: bytes) -> None:
    async def come() -> None:
        connection = http1.Connection(asyncio.get_running_loop(), Cork(), idle_s=60)
        connection.connection_made(Wire())
        sending = asyncio.create_task(connection.send(b"", b"", first_byte_s=60))
        await asyncio.sleep(0)
        try:
            connection.data_received(data)
            connection.eof_received()
            await sending
            while await connection.more():
                pass
        finally:
            connection.connection_lost(None)
            await asyncio.gather(sending, return_exceptions=True)

    asyncio.run(come())


def events(data: bytes) -> None:
    framer, half = sse.Framer(), len(data) // 2
    for event in (*framer.feed(data[:half]), *framer.feed(data[half:]), framer.rest):
        sse.data_of(event)
        sse.field_of(event, b"id")
    sse.Framer().data(data)


def form(data: bytes) -> None:
    reader = FormReader(b"b")
    for at in range(0, len(data), 7):
        reader.feed(data[at : at + 7])
    reader.finish()


def batch(data: bytes) -> None:
    async def come() -> None:
        lines = BatchLines(Came(data).chunks())
        await lines.model()
        async for _ in lines.written("m", lambda _kind, text: text):
            pass

    asyncio.run(come())


def platform(data: bytes) -> None:
    async def come() -> None:
        agent = Agent(name="a", url="http://a.example", headers=(("authorization", "Bearer sk-0"),))
        way, came = Way(EGRESS, None, agent), Came(data)  # type: ignore[arg-type]  # nothing is called
        _ = [event async for event in way.events_of(came)]  # type: ignore[arg-type]  # as an answer comes
        _ = [line async for line in way.lines_of(came)]  # type: ignore[arg-type]
        assert isinstance(await way._failure(came), UpstreamError)  # type: ignore[arg-type]
        way.read(data)

    asyncio.run(come())


def event_stream(data: bytes) -> None:
    head = pack("!II", 16 + len(data), len(data) // 2)
    whole = head + pack("!I", zlib.crc32(head)) + data
    for one in (data, whole + pack("!I", zlib.crc32(whole))):  # no random bytes have their right checksums
        with suppress(Broken):
            Reader().feed(one)


class Bounded(NamedTuple):
    """Of the way out: what a line is measured by."""

    max_answer_bytes: int = 1000


EGRESS: Any = Bounded()


def token(data: bytes) -> None:
    tokens.read(data)
    assert USABLE is not None
    tokens.verified(data, ISSUER, USABLE, own="https://hub.example/mcp")


def claims(data: bytes) -> None:
    """The issuer signs anything."""
    signed = jwt.api_jws.encode(data, KEY, "ES256", headers={"typ": "JWT"})
    tokens.read(signed.encode())
    assert USABLE is not None
    tokens.verified(signed.encode(), ISSUER, USABLE, own="https://hub.example/mcp").user.encode()


def key(data: bytes) -> None:
    found = judged.decode(data)
    if isinstance(found, dict):
        for algorithm in tokens.algorithms_of(found):
            tokens.key_of(found, algorithm)


def grpc_request(data: bytes) -> None:
    for operation in OPERATIONS:
        with suppress(CallerError):
            grpc_wire.read_request(operation, data)


def grpc_result(data: bytes) -> None:
    for operation in OPERATIONS:
        with suppress(ValueError):
            grpc_wire.read_result(operation, data)
    grpc_wire.read_fault(2, "", data)


OPERATIONS: tuple[Operation, ...] = tuple(grpc_wire._MESSAGES)


def card(data: bytes) -> None:
    found = cards.read_card(data)
    if found is not None:
        offer = cards.Offer(agent="a", address="http://hub.example/a2a/a/", grpc="hub.example:1", issuers=(ISSUER,))
        cards.build(found, configured="http://agent.example", offer=offer)


def condition(data: bytes) -> None:
    Policy((Rule("r", "deny", when=as_file(data)),))


def hub_yaml(data: bytes) -> None:
    config.read(as_file(data), file="hub.yaml", environ={}, read_file=as_file)  # type: ignore[arg-type]


def imported(data: bytes) -> None:
    top = mcp_json.read_json(as_file(data), "mcp.json")
    (server_json if server_json.is_one(top) else mcp_json).sections(top, "mcp.json")


def boundary(data: bytes) -> None:
    boundary_of(data)
    boundary_of(b"multipart/form-data; boundary=" + data)


class Parser(NamedTuple):
    """One reader, what its grammar looks like, and what it may raise."""

    module: str
    read: Callable[[bytes], object]
    near: tuple[bytes, ...]
    errors: type[Exception] | tuple[type[Exception], ...] = ()


def written(**members: Any) -> bytes:
    return json.dumps(members).encode()


SERVER = {"command": "npx", "args": ["-y", "${input:k}"], "env": {"A": "${env:B}"}, "type": "stdio", "auth": {}}
CLAIMS = {"iss": ISSUER.url, "aud": ["hub"], "exp": 4102444800, "sub": "u", "scope": "a b", "team": ["t"], "realm": {}}

PARSERS = {
    "request": Parser(
        "hub.http11",
        request,
        (
            b"POST /a%20b?x=1 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}GET / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n2\r\n{}\r\n0\r\nt: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\n{}",
        ),
    ),
    "answer": Parser(
        "registry.egress.http1",
        answer,
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ),
        http1.Failed,
    ),
    "events": Parser("registry.egress.sse", events, (b": c\r\nevent: e\r\nid: 1\r\ndata: {}\r\ndata:x\r\n\r\n",)),
    "event_stream": Parser(
        "agents.bridges.eventstream",
        event_stream,
        (b"\x01a\x07\x00\x01x\x01b\x04\x00\x00\x00\x01" + b'{"a": [{"b":1}]}',),
    ),
    "values": Parser("registry.judged", judged.decode, (b'{"a": [1e5, "\\ud800", -0.1]}',), CallerError),
    "unambiguous": Parser(
        "registry.judged", judged.unambiguous, (b'{"a": {"b": 1, "b": 2}, "n": 1e999}',), CallerError
    ),
    "form": Parser(
        "llm.platform.multipart",
        form,
        (b"--b\r\ncontent-disposition: form-data; name=\"f\"; filename*=utf-8''a%00\r\n\r\nx\r\n--b--\r\n",),
        CallerError,
    ),
    "boundary": Parser("llm.platform.multipart", boundary, (b'multipart/form-data; boundary="a"; x=y',), CallerError),
    "batch": Parser(
        "llm.platform.batch_lines",
        batch,
        (
            written(method="POST", url="/v1/chat/completions", body={"model": "m", "tools": [{"type": "x"}]}) + b"\n",
            written(method="POST", url="/v1/responses", body={"model": "m", "input": [{"file_id": "file-1"}]}),
        ),
        CallerError,
    ),
    "id": Parser(
        "llm.platform.sealed_ids",
        lambda data: SealedIds(SEALER).opened("file", as_text(data), WHO),
        (b"file-", b"file-" + b"A" * 43),
        NotFound,
    ),
    "handle": Parser(
        "mcp_bridge.handles",
        lambda data: Handles(SEALER).open(as_text(data), about="a"),
        (Handles(SEALER).seal({}, about="b", lasts_s=60).encode(),),
        CallerError,
    ),
    "token": Parser(
        "registry.callers.tokens",
        token,
        (jwt.encode(CLAIMS, KEY, "ES256").encode(), jwt.encode(CLAIMS, None, "none").encode()),
        tokens.TokenRefused,
    ),
    "claims": Parser("registry.callers.tokens", claims, (written(**CLAIMS),), tokens.TokenRefused),
    "key": Parser(
        "registry.callers.tokens",
        key,
        (
            written(**JWK),
            written(kty="RSA", n="AQAB", e="AQAB", key_ops=["verify"]),
            written(kty="OKP", crv="Ed25519", x=""),
        ),
        CallerError,
    ),
    "grpc request": Parser("agents.grpc_wire", grpc_request, (b"\n\x01t\x12\x06\n\x01m\x12\x01c", b"\x1a\x03id1")),
    "grpc result": Parser(
        "agents.grpc_json", grpc_result, (b"\n\x08\n\x01t\x12\x01c\x1a\x00", b"\x08\x05\x12\x01m\x1a\x04\n\x02tx")
    ),
    "card": Parser(
        "agents.cards",
        card,
        (
            written(name="a", url="http://agent.example/x", skills=[{"id": "s", "tags": ["t"]}], capabilities={}),
            written(name="a", supportedInterfaces=[{"url": "https://[::1]:1/", "protocolBinding": "GRPC"}]),
        ),
    ),
    "document": Parser(
        "mcp_bridge.openapi.document",
        lambda data: read_document(as_file(data), "api.json"),
        (
            b'{"openapi": "3.1.0", "servers": [{"url": "https://{h}.example", "variables": {"h": {"default": "a"}}}],'
            b' "paths": {"/a/{b}": {"get": {"parameters": [{"name": "b", "in": "path", "schema": {"$ref": "#/x"}}]}}}}',
            b"openapi: 3.0.1\nservers: [{url: http://a.example}]\npaths:\n  /a:\n    post: {requestBody: {content: {}}}\n",
        ),
        DocumentInvalid,
    ),
    "condition": Parser(
        "registry.rules.policy",
        condition,
        (b'arguments.a.all(x, x < 1.0) && principal.team == "t" || now > timestamp("2030-01-01T00:00:00Z")',),
        RuleInvalid,
    ),
    "hub.yaml": Parser(
        "registry.declared.source",
        hub_yaml,
        (
            b"models:\n  m: &a {provider: openai, limits: {tokens_per_minute: 1}, budget: {usd: 1e3}}\n  n: *a\n",
            b"keys: [{name: k, key: ${K:-sk-00000000000000000000}, expires_at: 2030-01-31T00:00:00Z, limits: {max_usd: .5}}]\n",
            b"hub: {issuers: [{issuer: https://[::1]/, audience: x}], egress_allow: [10.0.0.0/8], allowed_origins: [http://a]}\n",
        ),
        ConfigInvalid,
    ),
    "mcp.json": Parser(
        "hub.cli.mcp_json",
        imported,
        (
            json.dumps({"servers": {"s": SERVER}, "inputs": [{"id": "k", "default": "d"}]}).encode() + b" // c\n",
            b'{"mcp": {"mcpServers": {"s": {"url": "http://a", "oauth": {"clientId": "c", "scopes": "a b"},}}}}',
        ),
        ConfigInvalid,
    ),
    "server.json": Parser(
        "hub.cli.server_json",
        imported,
        (
            written(
                name="a/b",
                remotes=[{"type": "sse", "url": "http://{h}", "variables": {"h": {}}, "headers": [{"name": "x"}]}],
            ),
            written(
                name="a/b",
                status="deleted",
                packages=[
                    {
                        "registryType": "npm",
                        "identifier": "p",
                        "version": "1",
                        "runtimeHint": "npx",
                        "registryBaseUrl": "x",
                        "transport": {"type": "stdio"},
                    }
                ],
            ),
        ),
        ConfigInvalid,
    ),
    "litellm": Parser(
        "hub.cli.litellm_yaml",
        lambda data: litellm_yaml.sections(as_file(data), "config.yaml"),
        (
            b"model_list: [{model_name: m, litellm_params: {model: openai/gpt, api_key: os.environ/K, rpm: 1}}]\n"
            b"litellm_settings: {fallbacks: [{m: [n]}], drop_params: true}\n",
        ),
        ConfigInvalid,
    ),
    "platform": Parser(
        "agents.bridges.way",
        platform,
        (b'{"error": {"message": "m", "code": 1}}', b"event: e\ndata: {}\n\n", b"1e3\n\n"),
        UpstreamError,
    ),
    "frames": Parser("mcp_bridge.stdio.frames", frames.decode_ask, (b'{"type": "present"}',), msgspec.DecodeError),
}

ODD = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b"0",
    b"-1",
    b"1e999",
    b"true",
    b"9" * 400,
    b"9" * 5000,
    b'""',
    b'"\\ud800"',
    b'"://["',
)
"""What may stand where another value is expected."""


@st.composite
def near(draw: st.DrawFn, examples: tuple[bytes, ...]) -> bytes:
    """Any bytes, alone or in the place of a piece of an example."""
    whole = draw(st.sampled_from((b"", *examples)))
    begin, instead = draw(st.integers(0, len(whole))), draw(st.integers(0, 20))
    filling = draw(st.binary(max_size=60) | st.sampled_from((*ODD, b"\r\n", b"\r\n\r\n", b"\x00", b"${", b"[[", b"%")))
    return whole[:begin] + filling + whole[begin + instead :]


def values(whole: bytes) -> Iterator[tuple[int, int]]:
    """Where JSON values stand in an example."""
    text, decoder = whole.decode("latin-1"), json.JSONDecoder()
    for at in range(1, len(text)):
        if text[at - 1] in ":[, ":
            with suppress(ValueError):
                yield at, decoder.raw_decode(text, at)[1]


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.attack("2.2/13")
def test_any_bytes_are_a_value_or_the_parsers_own_error(name: str) -> None:
    parser = PARSERS[name]

    @settings(max_examples=100, database=None)
    @given(near(parser.near))
    def check(data: bytes) -> None:
        with suppress(parser.errors):
            parser.read(data)

    check()


JSON = [name for name, parser in PARSERS.items() if any(one.startswith(b"{") for one in parser.near)]


@pytest.mark.parametrize("name", JSON)
@pytest.mark.attack("2.2/13")
def test_each_member_may_be_of_any_type(name: str) -> None:
    parser = PARSERS[name]
    for whole in parser.near:
        for begin, end in values(whole):
            for odd in ODD:
                with suppress(parser.errors):
                    parser.read(whole[:begin] + odd + whole[end:])


@pytest.mark.parametrize("name", PARSERS)
def test_each_parser_is_where_the_table_says(name: str) -> None:
    importlib.import_module(PARSERS[name].module)
