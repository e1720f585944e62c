"""Reading and writing A2A JSON-RPC, without a socket."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import answers, wire
from agents.members import MAX_ID
from registry.errors import HubError, InvalidParams, InvalidRequest, MethodNotFound

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


def read(method: str, params: Any) -> wire.Request:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return wire.read_request(wire.read_envelope(json.dumps(body).encode()))


def test_what_was_judged_is_what_is_sent() -> None:
    request = read(
        "SendMessage",
        {
            "tenant": "",
            "message": {"messageId": "m", "taskId": "t", "contextId": "c", "referenceTaskIds": ["r"], "x": [1.5]},
            "configuration": {"historyLength": 2, "pushNotificationConfig": None},
        },
    )
    assert (request.task_id, request.context_id, request.reference_task_ids) == ("t", "c", ("r",))
    sent = json.loads(request.encode("acme"))
    assert sent == {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "SendMessage",
        "params": {
            "message": {"messageId": "m", "taskId": "t", "contextId": "c", "referenceTaskIds": ["r"], "x": [1.5]},
            "configuration": {"historyLength": 2},
            "tenant": "acme",
        },
    }


@given(parts=JSON, metadata=JSON)
def test_members_that_decide_nothing_go_on_as_they_came(parts: Any, metadata: Any) -> None:
    message = {"parts": parts, "metadata": metadata}
    body = {"jsonrpc": "2.0", "id": "i", "method": "message/send", "params": {"message": message}}
    try:
        request = wire.read_request(wire.read_envelope(json.dumps(body).encode()))
    except HubError:
        return  # a text may spell a deciding member
    assert json.loads(request.encode(None)) == body


@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(HubError):
        wire.read_envelope(data)
    answers.read_answer(data)


@given(value=JSON)
def test_any_json_as_a_result_is_read_or_refused(value: Any) -> None:
    answers.read_answer(json.dumps({"id": 1, "result": value}).encode())


@given(params=JSON, method=st.sampled_from(sorted(wire.METHODS)))
def test_any_json_as_parameters_is_read_or_refused(params: Any, method: str) -> None:
    with contextlib.suppress(HubError):
        read(method, params)


def test_empty_ids_are_absent_ids() -> None:
    request = read("SendMessage", {"message": {"taskId": "", "contextId": None, "referenceTaskIds": []}})
    assert (request.task_id, request.context_id, request.reference_task_ids) == (None, None, ())
    assert json.loads(request.encode(None))["params"] == {"message": {}}


@pytest.mark.parametrize(
    "message",
    [
        {"taskId": 1},
        {"contextId": ["c"]},
        {"taskId": "x" * (MAX_ID + 1)},
        {"referenceTaskIds": "t"},
        {"referenceTaskIds": [""]},
        {"referenceTaskIds": [{"id": "t"}]},
        {"task-id": "t"},
    ],
)
def test_ids_of_wrong_shape_are_refused(message: Any) -> None:
    with pytest.raises(InvalidRequest):
        read("SendMessage", {"message": message})


@pytest.mark.parametrize("place", ["params", "configuration"])
@pytest.mark.parametrize("member", ["pushNotificationConfig", "taskPushNotificationConfig", "pushNotification"])
def test_push_configuration_stands_where_its_version_has_it_and_nowhere_else(place: str, member: str) -> None:
    config = {member: {"url": "https://a.example"}}
    params = {"message": {}, **config} if place == "params" else {"message": {}, "configuration": config}
    if (place, member) == ("configuration", "pushNotificationConfig"):
        assert read("message/send", params).push is not None
    else:
        with pytest.raises(InvalidParams):
            read("message/send", params)


@pytest.mark.attack("2.2/26")
def test_tenant_of_a_caller_is_refused() -> None:
    for method, params in (("GetTask", {"id": "t"}), ("ListTasks", {}), ("GetExtendedAgentCard", {})):
        with pytest.raises(InvalidParams):
            read(method, {**params, "tenant": "other"})


def test_method_of_neither_dialect_is_not_found() -> None:
    for method in ("tasks/sendSubscribe", "sendMessage", "Dance"):
        with pytest.raises(MethodNotFound):
            read(method, {})


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"task": {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_WORKING"}}}, ("t", "c", "WORKING")),
        ({"kind": "task", "id": "t", "contextId": "c", "status": {"state": "input-required"}}, ("t", "c", "INPUT_REQUIRED")),
        ({"id": "t", "contextId": "c", "status": {"state": "completed"}}, ("t", "c", "COMPLETED")),
        ({"message": {"messageId": "m", "contextId": "c"}}, (None, "c", None)),
        ({"kind": "message", "messageId": "m", "contextId": "c", "taskId": "t"}, ("t", "c", None)),
        ({"statusUpdate": {"taskId": "t", "contextId": "c", "status": {"state": "TASK_STATE_FAILED"}}}, ("t", "c", "FAILED")),
        ({"kind": "status-update", "taskId": "t", "contextId": "c", "status": {"state": "working"}}, ("t", "c", "WORKING")),
        ({"artifactUpdate": {"taskId": "t", "contextId": "c", "artifact": {}}}, ("t", "c", None)),
        ({"kind": "artifact-update", "taskId": "t", "contextId": "c", "artifact": {}}, ("t", "c", None)),
    ],
)  # fmt: skip
def test_ids_and_state_are_seen_in_every_shape(result: Any, expected: tuple[str | None, ...]) -> None:
    answer = answers.read_answer(json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode())
    assert answer is not None
    assert answer.seen is not None
    state = answer.seen.state and answer.seen.state.removeprefix("TASK_STATE_")
    assert (answer.seen.task_id, answer.seen.context_id, state) == expected


def test_timestamps_without_a_zone_are_read_as_utc() -> None:
    assert answers.seconds_of("1970-01-01T00:00:10") == answers.seconds_of("1970-01-01T00:00:10Z") == 10
    assert answers.seconds_of("yesterday") is None
    assert answers.seconds_of(12) is None


@pytest.mark.attack("2.1/18", "2.2/26")
def test_only_extensions_and_the_trace_of_a_callers_headers_go_on() -> None:
    headers = {b"authorization": b"x", b"cookie": b"y", b"a2a-extensions": b"urn:e", b"tracestate": b"s", b"host": b"h"}
    asked = (("x-a2a-extensions", "urn:e"), ("tracestate", "s"))
    assert wire.forwarded_headers("0.3", headers) == (*asked, ("hubbub-hops", "1"))
    assert wire.forwarded_headers("1.0", {b"hubbub-hops": b"2"}) == (("hubbub-hops", "3"),)
    assert wire.forwarded_headers("1.0", {}) == (("hubbub-hops", "1"),)


@pytest.mark.parametrize(
    "answer",
    [
        b'{"error":{"message":"bad key sk-1"}}',
        b'{"error":"bad key"}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":"401","message":"x"}}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"x"},"result":{"id":"t"}}',
    ],
)
def test_an_error_that_is_not_json_rpcs_is_no_answer_of_an_agent(answer: bytes) -> None:
    assert answers.read_answer(answer) is None


@pytest.mark.parametrize("method", ["SendMessage", "message/stream"])
def test_an_unambiguous_message_goes_on_byte_for_byte(method: str) -> None:
    body = (
        b'{ "params": {"message" :{"contextId":"c", "parts":[{"text":"\\n"}], "taskId": "t"},\n'
        b'"configuration": {"acceptedOutputModes":[]}},"method":"%b","id": 1e0, "jsonrpc":"2.0"} '
    ) % method.encode()
    request = wire.read_request(wire.read_envelope(body))
    assert (request.task_id, request.context_id) == ("t", "c")
    assert request.encode(None) == body
    named = json.loads(request.encode("acme"))
    assert named["params"].pop("tenant") == "acme"
    assert named == json.loads(body)


@pytest.mark.parametrize("member", ['"taskId": "other"', '"task_id": "other"', '"text": "é \\" \\u0074"'])
def test_what_stands_in_metadata_is_the_callers_own(member: str) -> None:
    body = f'{{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{{"message":{{"taskId":"t","metadata":{{{member}}}}}}}}}'
    request = wire.read_request(wire.read_envelope(body.encode()))
    assert request.encode(None) == body.encode()
    assert request.task_id == "t"


HIDDEN = ("taskId", "task_id", "task\\u0049d", "message")


@pytest.mark.parametrize("blanks", ["", "\n ", " " * 40])
@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("owner", ["", '"params":', '"message":', '"configuration":'])
def test_no_blanks_make_room_for_a_member_that_is_not_read(owner: str, name: str, blanks: str) -> None:
    body = '{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"configuration":{"blocking":true},"message":{"taskId":"t"}}}'
    assert wire.read_envelope(body.encode()).plain is not None
    hiding = body.replace(owner + "{", f'{owner}{{{blanks}"{name}":{{}},', 1)
    with contextlib.suppress(InvalidRequest, InvalidParams):
        assert wire.read_envelope(hiding.encode()).plain is None


@pytest.mark.parametrize(
    "member",
    [
        '"x": "\\u0074askId"',
        '"contextId": "\\u0063"',
        '"contextId": ""',
        '"referenceTaskIds": []',
    ],
)
def test_any_other_message_is_written_anew(member: str) -> None:
    start = '{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"taskId":"t",'
    body = f"{start}{member}}}}}}}".encode()
    request = wire.read_request(wire.read_envelope(body))
    assert request.envelope.plain is None
    assert json.loads(request.encode(None))["params"]["message"]["taskId"] == request.task_id == "t"
