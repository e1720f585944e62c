"""Several clients of one stdio server, each hearing what is meant for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_bridge.stdio.relay import SERVER, NotMessage, Relay

HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


def relay_of(*clients: int) -> Relay:
    relay = Relay()
    relay.clients.extend(clients)
    return relay


def line(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **members}).encode()


def sent(lines: list[tuple[int, bytes]]) -> list[tuple[int, dict[str, Any]]]:
    return [(to, json.loads(text)) for to, text in lines]


def one(lines: list[tuple[int, bytes]]) -> tuple[int, dict[str, Any]]:
    (found,) = sent(lines)
    return found


@pytest.mark.attack("2.1/38", "2.2/18", defence="mcp_bridge.stdio.relay:Relay._asks")
def test_equal_ids_of_several_clients_are_told_apart() -> None:
    relay = relay_of(1, 2, 3)
    numbers = {}
    for client in (1, 2, 3):
        to, request = one(relay.from_client(client, line(id=1, method="tools/call", params={"name": str(client)})))
        assert to == SERVER
        numbers[client] = request["id"]
    assert len(set(numbers.values())) == 3
    for client in (2, 3, 1):
        answer = line(id=numbers[client], result={"for": client})
        assert one(relay.from_server(answer)) == (client, {"jsonrpc": "2.0", "id": 1, "result": {"for": client}})
    assert relay.from_server(line(id=numbers[1], result={})) == []  # answered twice


def test_ids_come_back_as_they_were_and_nothing_else_is_read() -> None:
    relay = relay_of(1)
    request = b'{"jsonrpc":"2.0","id":"a\\u0041","method":"x/y","params":{"n":1.0,"n":1e400,"s":"\\u00e9"}}'
    _, forwarded = relay.from_client(1, request)[0]
    assert forwarded == b'{"jsonrpc":"2.0","id":1,"method":"x/y","params":{"n":1.0,"n":1e400,"s":"\\u00e9"}}'
    assert relay.from_server(b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "code": 0}}') == [
        (1, b'{"jsonrpc":"2.0","id":"a\\u0041","error":{"code": -1, "code": 0}}')
    ]


def test_progress_reaches_the_call_that_it_is_about() -> None:
    relay = relay_of(1, 2)
    for client in (1, 2):
        params = {"_meta": {"progressToken": 7, "x": 1}}
        _, request = one(relay.from_client(client, line(id=1, method="tools/call", params=params)))
        assert request["params"]["_meta"] == {"progressToken": request["id"], "x": 1}
        progress = {"progressToken": request["id"], "progress": 0.5}
        to, told = one(relay.from_server(line(method="notifications/progress", params=progress)))
        assert (to, told["params"]) == (client, {"progressToken": 7, "progress": 0.5})
    for token in (7, "1", None, 99, True):
        params = {"progressToken": token, "progress": 1}
        assert relay.from_server(line(method="notifications/progress", params=params)) == []


@pytest.mark.attack("2.1/38")
def test_a_client_cancels_its_own_calls_only() -> None:
    relay = relay_of(1, 2)
    _, request = one(relay.from_client(1, line(id=5, method="tools/call")))
    cancel = line(method="notifications/cancelled", params={"requestId": 5, "reason": "r"})
    assert relay.from_client(2, cancel) == []
    to, told = one(relay.from_client(1, cancel))
    assert (to, told["params"]) == (SERVER, {"requestId": request["id"], "reason": "r"})


def test_a_server_is_introduced_once() -> None:
    relay = relay_of(1, 2, 3)
    hello = line(id=1, method="initialize", params={})
    _, request = one(relay.from_client(1, hello))
    assert relay.from_client(2, hello) == []  # waits for the first one's answer
    answers = sent(relay.from_server(line(id=request["id"], result=HELLO)))
    assert answers == [(client, {"jsonrpc": "2.0", "id": 1, "result": HELLO}) for client in (1, 2)]
    assert one(relay.from_client(3, line(id="x", method="initialize"))) == (
        3,
        {"jsonrpc": "2.0", "id": "x", "result": HELLO},
    )
    ready = line(method="notifications/initialized")
    assert relay.from_client(2, ready) == [(SERVER, ready)]
    assert relay.from_client(1, ready) == []


def test_an_introduction_that_failed_is_tried_again() -> None:
    relay = relay_of(1, 2)
    hello = line(id=1, method="initialize", params={})
    _, request = one(relay.from_client(1, hello))
    relay.from_client(2, hello)
    failed = sent(relay.from_server(line(id=request["id"], error={"code": -1, "message": "no"})))
    assert [to for to, _ in failed] == [1, 2]
    assert one(relay.from_client(2, hello))[0] == SERVER


def test_an_introduction_outlives_the_client_that_asked_for_it() -> None:
    relay = relay_of(1, 2)
    hello = line(id=1, method="initialize", params={})
    _, request = one(relay.from_client(1, hello))
    assert relay.leave(1) == []  # it is not cancelled
    assert relay.from_server(line(id=request["id"], result=HELLO)) == []
    assert one(relay.from_client(2, hello))[1]["result"] == HELLO


def test_what_a_client_leaves_is_cancelled_and_answered() -> None:
    relay = relay_of(1, 2)
    _, request = one(relay.from_client(1, line(id=1, method="tools/call")))
    relay.from_client(2, line(id=1, method="tools/call"))
    assert one(relay.from_server(line(id="q", method="roots/list")))[0] == 1
    (_, cancelled), (_, answer) = sent(relay.leave(1))
    assert cancelled["method"] == "notifications/cancelled"
    assert cancelled["params"]["requestId"] == request["id"]
    assert (answer["id"], answer["error"]["code"]) == ("q", -32603)
    assert relay.from_server(line(id=request["id"], result={})) == []


def test_a_server_asks_one_client_which_alone_may_answer() -> None:
    relay = relay_of(1, 2)
    asked = line(id=1, method="sampling/createMessage", params={})
    assert relay.from_server(asked) == [(1, asked)]
    answer = line(id=1, result={"by": "somebody"})
    assert relay.from_client(2, answer) == []
    assert relay.from_client(1, answer) == [(SERVER, answer)]
    assert relay.from_client(1, answer) == []
    assert one(relay.from_server(line(id=2, method="ping"))) == (SERVER, {"jsonrpc": "2.0", "id": 2, "result": {}})
    assert one(relay_of().from_server(asked))[1]["error"]["code"] == -32601


def test_what_a_subscription_hears_goes_to_its_client_and_the_rest_to_all() -> None:
    relay = relay_of(1, 2)
    _, listen = one(relay.from_client(2, line(id="sub", method="subscriptions/listen", params={})))
    params = {"uri": "a:b", "_meta": {SUBSCRIPTION: listen["id"]}}
    to, told = one(relay.from_server(line(method="notifications/resources/updated", params=params)))
    assert (to, told["params"]["_meta"]) == (2, {SUBSCRIPTION: "sub"})
    changed = line(method="notifications/tools/list_changed")
    assert relay.from_server(changed) == [(1, changed), (2, changed)]


def test_a_resource_is_unsubscribed_from_by_the_last_subscriber() -> None:
    relay = relay_of(1, 2, 3)
    params = {"uri": "a:b"}
    for client in (1, 2, 3):
        _, request = one(relay.from_client(client, line(id=9, method="resources/subscribe", params=params)))
        said = {"error": {"code": -1, "message": "no"}} if client == 3 else {"result": {}}
        assert one(relay.from_server(line(id=request["id"], **said)))[0] == client
    leaves = line(id=10, method="resources/unsubscribe", params=params)
    assert one(relay.from_client(1, leaves)) == (1, {"jsonrpc": "2.0", "id": 10, "result": {}})
    to, request = one(relay.leave(2))
    assert (to, request["method"], request["params"]) == (SERVER, "resources/unsubscribe", params)
    assert relay.from_server(line(id=request["id"], result={})) == []
    assert one(relay.from_client(1, leaves))[0] == SERVER  # twice: for the server to judge


@pytest.mark.parametrize("text", [b"", b"Listening on stdio", b"[]", b"5", b'{"id":1', b'{"method": 5}', b"\xff{"])
def test_what_is_no_message_is_told_apart(text: bytes) -> None:
    with pytest.raises(NotMessage):
        relay_of(1).from_server(text)
    assert relay_of(1).from_client(1, text) == []


@pytest.mark.parametrize(
    "members",
    [
        {"id": None, "result": {}},
        {"id": "1", "result": {}},
        {"id": [1], "result": {}},
        {"id": 10**30, "error": {}},
        {"result": {}},
        {},
        {"method": "notifications/progress", "params": [1]},
        {"method": "notifications/progress"},
    ],
)
def test_what_a_server_answers_to_nobody_reaches_nobody(members: dict[str, Any]) -> None:
    relay = relay_of(1)
    relay.from_client(1, line(id=1, method="tools/call"))
    assert relay.from_server(line(**members)) == []
