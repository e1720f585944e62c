"""Differential fuzz: what the hub judged of a request is what any reader reads in what the hub sends on.

Requests of every door are taken and changed: members that stand twice, other spellings, escapes in names, numbers at the edge,
lone surrogates, and what is no JSON. Either the hub refuses, or readers that take the first of two members, the last, or
names in any spelling, all read what was judged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import rest, wire
from agents.clients import RestClient
from agents.discovery import Route
from agents.judging import judged_ask, rewritten
from agents.members import MESSAGE_NAMES, OTHER_NAMES, SEND_NAMES
from agents.rest_bodies import _under_json_names
from agents.speech import Speech, Version
from agents.spoken import written
from llm import response_passing
from llm.wire import chat, messages, responses
from mcp_bridge import fastlane
from mcp_bridge.requests import arguments_of, tool_call
from registry import judged
from registry.entries import Model, Tool
from registry.errors import CallerError
from tests.conftest import OpenHub
from tests.peers.a2a_sdk_agents import open_agent
from tests.peers.openai_upstream import Turn, openai_upstream

URL = "http://hub.example"
Node = Any
"""JSON as it will be written: pairs for an object, a list for an array, a text for any other value as it stands."""


class Pairs(list[tuple[str, Node]]):
    """An object; names are written as they are, escapes and all."""


def obj(**members: Node) -> Pairs:
    return Pairs(members.items())


def text(node: Node) -> str:
    if isinstance(node, Pairs):
        return "{" + ",".join(f'"{name}":{text(value)}' for name, value in node) + "}"
    return "[" + ",".join(map(text, node)) + "]" if isinstance(node, list) else str(node)


def objects(node: Node) -> Iterator[Pairs]:
    """The node and all objects in it."""
    if isinstance(node, Pairs):
        yield node
    for inner in [value for _, value in node] if isinstance(node, Pairs) else node if isinstance(node, list) else ():
        yield from objects(inner)


def copied(node: Node) -> Node:
    if isinstance(node, Pairs):
        return Pairs((name, copied(value)) for name, value in node)
    return [copied(one) for one in node] if isinstance(node, list) else node


class Judged(NamedTuple):
    """What was judged, and what was sent on."""

    seen: Any
    sent: bytes
    deciding: dict[str, Any] = {}  # noqa: RUF012  # nobody changes it
    """What the hub decided by without rules: members of the outermost object that was sent."""


class Noting:
    """Stands for a permit with rules: keeps what they would see."""

    guards = None
    screens = False
    seen: Any = None

    def passes(self, _data: bytes) -> bool:
        """Rules that look at everything want to see each call."""
        return False

    async def judge(self, arguments: Any, **_: object) -> Any:
        self.seen = arguments
        return arguments


def now(work: Coroutine[Any, Any, Any]) -> Any:
    """Run what waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


MODEL = Model(name="m", provider="openai", model="up")


def of_chat(data: bytes) -> Judged:
    request = chat.read_request(data, public_url=URL)
    sent = chat.passed_on(request, MODEL, ask_usage=False)
    return Judged(judged.unambiguous(sent), sent, {"model": "up", "stream": request.stream})


def of_messages(data: bytes) -> Judged:
    request = messages.read_request(data, public_url=URL)
    sent = messages.passed_on(request, MODEL)
    return Judged(judged.unambiguous(sent), sent, {"model": "up", "stream": request.stream})


def of_responses(data: bytes) -> Judged:
    request = responses.read_request(data, public_url=URL)
    work: Any = SimpleNamespace(request=request, before=(), items=request.items)
    sent = response_passing._body(work, "up")
    return Judged(judged.unambiguous(sent), sent, {"model": "up", "stream": request.stream, "store": False})


def of_rpc(version: Version) -> Callable[[bytes], Judged]:
    def judge(data: bytes) -> Judged:
        request = wire.read_request(wire.read_envelope(data))
        permit = Noting()
        assert now(rewritten(permit, request, ())) is None  # type: ignore[arg-type]
        sent = request.encode(None)
        params = bytes(judged.read_object(sent)["params"])
        seen = permit.seen if version == "1.0" else judged.decode(params)
        return Judged(seen, params)

    return judge


def of_rest(version: Version) -> Callable[[bytes], Judged]:
    path = "/message:send" if version == "1.0" else "/v1/message:send"

    def judge(data: bytes) -> Judged:
        said = rest.read_request("POST", path, b"", data)
        ask = RestClient(said.version, said.operation).asked(said, ())
        permit = Noting()
        ask = now(judged_ask(permit, ask))  # type: ignore[arg-type]
        _, _, body = written(Route("http://a.example", (), speech=Speech("HTTP+JSON", version)), ask)
        assert body is not None
        return Judged(permit.seen if version == "1.0" else judged.decode(body), body)

    return judge


TOOL = Tool(
    server="s",
    name="read",
    exposed="s__read",
    grant_name="s__read",
    description=b'{"name":"read","inputSchema":{"type":"object"}}',
)


def of_mcp(data: bytes) -> Judged:
    posted = fastlane.read_body(data)
    params = {name: raw for name, raw in posted.params.items() if name != "_meta"}
    assert judged.read_string(params, "name") is not None or not isinstance(params.get("name"), str)
    request = tool_call(TOOL, params)
    sent = judged.encode(request.params.get("arguments", msgspec.Raw(b"{}")))
    return Judged(arguments_of(request), sent)


SAID = obj(role='"user"', content='"hi"')
NEW = obj(messageId='"m"', role='"ROLE_USER"', parts=[obj(text='"x"')], taskId='"t"', metadata=obj(a='"b"'))
OLD = obj(kind='"message"', messageId='"m"', role='"user"', parts=[obj(kind='"text"', text='"x"')], contextId='"c"')
PROTO = obj(messageId='"m"', role='"ROLE_USER"', content=[obj(text='"x"')], contextId='"c"', metadata=obj(a='"b"'))


def rpc(method: str, params: Pairs) -> Pairs:
    return obj(jsonrpc='"2.0"', id="1", method=f'"{method}"', params=params)


DOORS: dict[str, tuple[Callable[[bytes], Judged], Pairs]] = {
    "chat": (of_chat, obj(model='"m"', messages=[SAID], stream="false")),
    "messages": (of_messages, obj(model='"m"', max_tokens="9", messages=[SAID])),
    "responses": (of_responses, obj(model='"m"', input='"hi"', metadata=obj(a='"b"'))),
    "A2A 1.0": (of_rpc("1.0"), rpc("SendMessage", obj(message=NEW))),
    "A2A 0.3": (of_rpc("0.3"), rpc("message/send", obj(message=OLD))),
    "A2A 1.0 HTTP+JSON": (of_rest("1.0"), obj(message=NEW, metadata=obj(a='"b"'))),
    "A2A 0.3 HTTP+JSON": (of_rest("0.3"), obj(message=PROTO, metadata=obj(a='"b"'))),
    "MCP": (
        of_mcp,
        rpc("tools/call", obj(name='"read"', arguments=obj(path='"/a"', more=obj(a="1")), _meta=obj(x="1"))),
    ),
}

PROTO_DOOR = "A2A 0.3 HTTP+JSON"
OF_A2A = {judge for door, (judge, _) in DOORS.items() if door.startswith("A2A")}

NAMES = [
    *("model", "stream", "messages", "input", "metadata", "message", "taskId", "contextId", "parts", "text", "name"),
    *("arguments", "path", "a", "method", "params", "role", "content", "hub", "tools", "store", "id", "\\u0000", ""),
    *(
        "task_id",
        "TaskId",
        "Model",
        "MODEL",
        "mo\\u0064el",
        "ta\\u0073kId",
        "\\u0061",
        "ta\u017fkId",
        *("message_id", "Parts", "media_type", "mime_type", "history-length", "Metadata", "ro_le"),
        "stre-am",
        "p\\u0061th",
    ),
]
VALUES = [
    *('"other"', '"m"', "true", "false", "null", "0", "-0", "1e400", "-1e400", "1E-400", "9223372036854775808"),
    *("0.1000000000000000055511151231257827", "1" * 400, '"\\ud800"', '"\\u0000"', '"\\ud83d\\ude00"', "[]", "{}"),
    *(
        "NaN",
        "Infinity",
        "01",
        "+1",
        ".5",
        "'x'",
        "undefined",
        '"a\tb"',
        '"\\q"',
        '{"a":1,"a":2}',
        '[{"a":1,"\\u0061":2}]',
    ),
]
CORRUPTIONS: list[Callable[[str], bytes]] = [
    *[lambda body: body.encode("utf-8", "surrogatepass")] * 8,
    lambda body: b"\xef\xbb\xbf" + body.encode(),
    lambda body: body[:-1].encode() + b",}",
    lambda body: body.encode() + b"//",
    lambda body: b"/**/" + body.encode(),
    lambda body: body.encode() + b"\x00",
    lambda body: body.encode() + b"{}",
    lambda body: body.replace('"', '"\xff', 1).encode("latin-1", "replace"),
    lambda body: body.encode("utf-16"),
]


@st.composite
def bodies(draw: st.DrawFn, template: Pairs) -> bytes:
    """A request changed in some places."""
    body = copied(template)
    for _ in range(draw(st.integers(0, 3))):
        owners = list(objects(body))
        owner = owners[draw(st.integers(0, len(owners) - 1))]
        known = [name for name, _ in owner] or ["a"]
        name = draw(st.sampled_from(known) | st.sampled_from(NAMES))
        value = draw(st.sampled_from(VALUES))
        at = draw(st.integers(0, len(owner)))
        if draw(st.booleans()) or not owner:
            owner.insert(at, (name, value))
        else:
            owner[min(at, len(owner) - 1)] = (name, value)
    return draw(st.sampled_from(CORRUPTIONS))(text(body))


def first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


READERS: dict[str, Callable[[bytes], Any]] = {
    "the first": lambda data: json.loads(data, object_pairs_hook=first),
    "the last": json.loads,
    "strict": msgspec.json.decode,
    "decimals": lambda data: json.loads(json.dumps(json.loads(data, parse_float=str, parse_int=str), sort_keys=True)),
}


def read(reader: Callable[[bytes], Any], data: bytes) -> Any:
    """What a reader reads; None: it refuses."""
    try:
        return reader(data)
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None


def folded(name: str) -> str:
    return name.replace("_", "").replace("-", "").casefold()


A2A_NAMES = {folded(name): name for name in (*SEND_NAMES, *MESSAGE_NAMES, *OTHER_NAMES)}


def in_any_spelling(value: Any) -> Any:
    """What a reader of A2A reads that takes members in any spelling, as protobuf's and Go's do, but for free ones."""
    if isinstance(value, list):
        return [in_any_spelling(one) for one in value]
    if not isinstance(value, dict):
        return value
    named = [(A2A_NAMES.get(folded(name), name), item) for name, item in value.items()]
    return {name: item if name in {"metadata", "data"} else in_any_spelling(item) for name, item in named}


def compare(judge: Callable[[bytes], Judged], data: bytes) -> bool:
    """Whether the hub sends it on; raises if readers then read something else than was judged."""
    try:
        seen, sent, deciding = judge(data)
    except CallerError:
        return False
    for who, reader in READERS.items():
        found = read(reader, sent)
        if found is None:
            assert who != "strict", f"no strict reader reads {sent!r}"
            continue
        if who == "decimals":
            assert found == read(
                lambda one: json.loads(one, object_pairs_hook=first, parse_float=str, parse_int=str), sent
            )
            continue
        assert found == seen, (who, sent)
        assert {name: found.get(name) or False for name in deciding} == deciding, (who, sent)
        assert not [
            name for name in found if name not in deciding and folded(name) in {folded(one) for one in deciding}
        ]
    if judge in OF_A2A:
        said = json.loads(sent)
        assert in_any_spelling(said) == (_under_json_names(said) if judge is DOORS[PROTO_DOOR][0] else said), sent
    return True


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.attack("2.1/25", "2.1/27", "2.2/25")
def test_what_was_judged_is_what_every_reader_reads(door: str) -> None:
    judge, template = DOORS[door]
    sent_on = 0

    @settings(max_examples=500, database=None)
    @given(bodies(template))
    def check(data: bytes) -> None:
        nonlocal sent_on
        sent_on += compare(judge, data)

    assert compare(judge, text(template).encode())
    check()
    assert sent_on > 20, "or only refusals were compared"


RULED = """
agents:
  echo: {{url: "{agent}"}}
models:
  m: {{provider: openai, model: up, base_url: "{model}", api_key: sk-upstream-000}}
policy:
  - {{name: no-b, effect: deny, entries: ["agent:echo"], when: "arguments.message.metadata.a == 'b'"}}
  - {{name: no-x, effect: deny, entries: ["model:m"], when: "arguments.metadata.a == 'b'"}}
  - {{name: no-key, effect: deny, when: "has(arguments.metadata) && has(arguments.metadata.thekey)"}}
"""


@pytest.mark.attack("2.1/25", "2.1/27", "2.2/25")
async def test_a_member_that_a_rule_looks_at_stands_once_in_what_goes_to_agents_and_models(hub: OpenHub) -> None:
    asked = DOORS["chat"][1]
    twice = [Pairs([("a", one), ("a", other)]) for one, other in (('"b"', '"c"'), ('"c"', '"b"'), ('"c"', "1e400"))]
    async with (
        open_agent(Speech("HTTP+JSON", "1.0")) as agent,
        openai_upstream(Turn("hello")) as model,
        hub(RULED.format(agent=agent.url, model=model.url)) as running,
        running.http(await running.key("agent:*", "model:*")) as http,
    ):

        async def ask(metadata: Node) -> list[int]:
            message = obj(messageId='"m"', role='"ROLE_USER"', parts=[obj(text='"complete 1"')], metadata=metadata)
            statuses = []
            for path, body in (
                ("/a2a/echo/message:send", obj(message=message)),
                ("/a2a/echo", rpc("SendMessage", obj(message=message))),
                ("/v1/chat/completions", Pairs([*asked, ("metadata", metadata)])),
            ):
                answer = await http.post(
                    path, content=text(body).encode(), headers={"content-type": "application/json"}
                )
                statuses.append(answer.status_code if "error" not in answer.json() else 400)
            return statuses

        other = [Pairs([("a", '"c"'), (name, "1")]) for name in ("the_key", "TheKey", "A")]
        for metadata in (*twice, *other, obj(a='"b"')):
            assert {one // 100 for one in await ask(metadata)} == {4}
        assert not agent.operations
        assert not model.received
        assert await ask(obj(a='"c"')) == [200, 200, 200]
        assert agent.operations == ["SendMessage", "SendMessage"]
        assert model.received[0].body["metadata"] == {"a": "c"}
