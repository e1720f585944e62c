"""gRPC's messages and canonical JSON: nothing is lost that protobuf can hold, whoever wrote it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from a2a.types import a2a_pb2
from google.protobuf.json_format import MessageToDict, ParseDict
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from agents import grpc_wire
from agents.faults import Fault
from agents.grpc_json import EXACT, MAX_DEPTH
from agents.speech import Operation
from registry.errors import InvalidParams, InvalidRequest

MESSAGE: dict[str, Any] = {
    "messageId": "m1",
    "contextId": "c1",
    "taskId": "t1",
    "role": "ROLE_USER",
    "parts": [
        {"text": "", "metadata": {"n": 1}},
        {"raw": "AAEC/w==", "mediaType": "application/x", "filename": "a.bin"},
        {"url": "https://files.example/a", "mediaType": "text/plain"},
        {"data": {"deep": [1, -2, 0.5, "x", None, True, {"e": {}}, []]}},
        {"data": None},
        {"data": [1]},
        {"data": 7},
    ],
    "metadata": {"count": 3, "big": EXACT, "ratio": 0.25, "nothing": None, "none": {}, "list": []},
    "extensions": ["urn:x"],
    "referenceTaskIds": ["t0"],
}
TASK: dict[str, Any] = {
    "id": "t1",
    "contextId": "c1",
    "status": {"state": "TASK_STATE_INPUT_REQUIRED", "timestamp": "2026-11-22T10:00:00.123456789Z", "message": MESSAGE},
    "artifacts": [{"artifactId": "a1", "name": "A", "parts": [{"text": "x"}], "metadata": {"k": 1}}],
    "history": [MESSAGE],
    "metadata": {"n": 1},
}
PUSH: dict[str, Any] = {
    "id": "p1",
    "taskId": "t1",
    "url": "https://client.example/hook",
    "token": "t",
    "authentication": {"scheme": "Bearer", "credentials": "c"},
}
REQUESTS: dict[Operation, dict[str, Any]] = {
    "SendMessage": {
        "message": MESSAGE,
        "configuration": {
            "acceptedOutputModes": ["text/plain"],
            "historyLength": 0,
            "returnImmediately": True,
            "taskPushNotificationConfig": PUSH,
        },
        "metadata": {"n": 1},
    },
    "SendStreamingMessage": {"message": MESSAGE},
    "GetTask": {"id": "t1", "historyLength": 0},
    "ListTasks": {
        "contextId": "c1",
        "status": "TASK_STATE_WORKING",
        "pageSize": 10,
        "pageToken": "next",
        "historyLength": 0,
        "statusTimestampAfter": "2026-11-22T10:00:00Z",
        "includeArtifacts": False,
    },
    "CancelTask": {"id": "t1", "metadata": {"why": 1}},
    "SubscribeToTask": {"id": "t1"},
    "CreateTaskPushNotificationConfig": PUSH,
    "GetTaskPushNotificationConfig": {"taskId": "t1", "id": "p1"},
    "ListTaskPushNotificationConfigs": {"taskId": "t1", "pageSize": 5, "pageToken": "n"},
    "DeleteTaskPushNotificationConfig": {"taskId": "t1", "id": "p1"},
    "GetExtendedAgentCard": {},
}
CARD: dict[str, Any] = {
    "name": "A",
    "description": "Does.",
    "version": "1",
    "supportedInterfaces": [{"url": "h:1", "protocolBinding": "GRPC", "tenant": "a", "protocolVersion": "1.0"}],
    "capabilities": {"streaming": False, "extensions": [{"uri": "urn:x", "required": True, "params": {"n": 1}}]},
    "securitySchemes": {"hubbub": {"httpAuthSecurityScheme": {"scheme": "bearer"}}},
    "securityRequirements": [{"schemes": {"hubbub": {"list": ["agent:a"]}}}],
    "defaultInputModes": ["text/plain"],
    "defaultOutputModes": ["text/plain"],
    "skills": [{"id": "s", "name": "S", "description": "s", "tags": ["t"]}],
}
UPDATE = {"taskId": "t1", "contextId": "c1", "metadata": {"n": 1}}
RESULTS: list[tuple[Operation, dict[str, Any]]] = [
    ("SendMessage", {"task": TASK}),
    ("SendMessage", {"message": MESSAGE}),
    ("SendStreamingMessage", {"task": TASK}),
    ("SendStreamingMessage", {"message": MESSAGE}),
    ("SendStreamingMessage", {"statusUpdate": {**UPDATE, "status": TASK["status"]}}),
    (
        "SubscribeToTask",
        {"artifactUpdate": {**UPDATE, "artifact": TASK["artifacts"][0], "append": True, "lastChunk": True}},
    ),
    ("GetTask", TASK),
    ("CancelTask", TASK),
    ("ListTasks", {"tasks": [TASK], "nextPageToken": "n", "pageSize": 1, "totalSize": 2}),
    ("ListTasks", {"tasks": [], "nextPageToken": "", "pageSize": 0, "totalSize": 0}),
    ("CreateTaskPushNotificationConfig", PUSH),
    ("GetTaskPushNotificationConfig", PUSH),
    ("ListTaskPushNotificationConfigs", {"configs": [PUSH], "nextPageToken": ""}),
    ("ListTaskPushNotificationConfigs", {"configs": [], "nextPageToken": ""}),
    ("DeleteTaskPushNotificationConfig", {}),
    ("GetExtendedAgentCard", CARD),
]


def same(one: Any, other: Any) -> bool:
    """Equal as JSON texts: 1 is not 1.0, True is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@pytest.mark.parametrize("operation", REQUESTS)
def test_request_reads_back_as_it_was_written(operation: Operation) -> None:
    data = grpc_wire.write_request(operation, REQUESTS[operation], tenant="up")
    tenant, params, raw = grpc_wire.read_request(operation, data)
    assert tenant == "up"
    assert same(params, REQUESTS[operation])
    assert grpc_wire.read_request(operation, raw).tenant == ""
    assert grpc_wire.read_request(operation, grpc_wire.write_request(operation, params)).tenant == ""


@pytest.mark.parametrize(("operation", "result"), RESULTS)
def test_result_reads_back_as_it_was_written(operation: Operation, result: dict[str, Any]) -> None:
    assert same(grpc_wire.read_result(operation, grpc_wire.write_result(operation, result)), result)


def test_messages_are_those_of_the_official_json_mapping() -> None:
    data = grpc_wire.write_result("SendMessage", {"task": TASK})
    assert MessageToDict(a2a_pb2.SendMessageResponse.FromString(data)) == {"task": TASK}
    official = ParseDict({"task": TASK}, a2a_pb2.SendMessageResponse())
    assert same(grpc_wire.read_result("SendMessage", official.SerializeToString()), {"task": TASK})


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-EXACT, EXACT)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_any_data_survives_but_for_the_spelling_of_whole_numbers(value: Any) -> None:
    part = {"message": {"parts": [{"data": value}]}}
    assert grpc_wire.read_result("SendMessage", grpc_wire.write_result("SendMessage", part)) == part


def test_integers_that_a_double_cannot_hold_lose_their_last_digits_and_nothing_else() -> None:
    sent = {"id": "t", "metadata": {"n": EXACT + 1, "m": -EXACT}}
    found = grpc_wire.read_result("GetTask", grpc_wire.write_result("GetTask", sent))
    assert same(found, {"id": "t", "metadata": {"n": EXACT, "m": -EXACT}})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-01-02T03:04:05", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05.120000", "2026-01-02T03:04:05.120Z"),
        ("2026-01-02T05:04:05+02:00", "2026-01-02T03:04:05Z"),
        ("2026-01-02t03:04:05.1234567891z", "2026-01-02T03:04:05.123456789Z"),
        ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.500Z"),
        ("2026-13-02T03:04:05Z", None),
        ("yesterday", None),
        ("", None),
        (17, None),
    ],
)
def test_timestamp_of_any_agent_is_said_in_utc_or_left_out(written: Any, read: str | None) -> None:
    status = {"state": "TASK_STATE_WORKING", "timestamp": written}
    found = grpc_wire.read_result("GetTask", grpc_wire.write_result("GetTask", {"status": status}))
    assert found["status"].get("timestamp") == read


@given(st.datetimes(timezones=st.just(UTC)), st.integers(0, 999_999_999))
def test_timestamp_is_that_of_the_official_json_mapping(moment: datetime, nanos: int) -> None:
    task = a2a_pb2.Task(id="t")
    task.status.timestamp.FromDatetime(moment)
    task.status.timestamp.nanos = nanos
    found = grpc_wire.read_result("GetTask", task.SerializeToString())
    assert found["status"]["timestamp"] == task.status.timestamp.ToJsonString()
    assert grpc_wire.write_result("GetTask", found) == task.SerializeToString()


def test_timestamp_outside_the_calendar_is_left_out() -> None:
    task = a2a_pb2.Task(id="t")
    task.status.timestamp.seconds = 2**60
    assert grpc_wire.read_result("GetTask", task.SerializeToString()) == {"id": "t", "status": {}}


def test_state_younger_than_the_messages_keeps_its_number() -> None:
    task = a2a_pb2.Task(id="t")
    task.status.state = 42
    found = grpc_wire.read_result("GetTask", task.SerializeToString())
    assert found["status"] == {"state": "TASK_STATE_42"}
    assert grpc_wire.write_result("GetTask", found) == task.SerializeToString()


def test_state_without_a_number_and_unknown_members_are_left_out() -> None:
    data = grpc_wire.write_result("GetTask", {"id": "t", "status": {"state": "TASK_STATE_PAUSED"}, "kind": "task"})
    assert grpc_wire.read_result("GetTask", data) == {"id": "t", "status": {}}


def test_file_is_read_in_either_base64_alphabet() -> None:
    for text in ("+/+/AA==", "-_-_AA==", "-_-_AA"):
        data = grpc_wire.write_result("SendMessage", {"message": {"parts": [{"raw": text}]}})
        assert grpc_wire.read_result("SendMessage", data)["message"]["parts"] == [{"raw": "+/+/AA=="}]


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("SendMessage", {}),
        ("SendMessage", {"message": {"taskId": "t" * 513}}),
        ("SendMessage", {"message": {"contextId": "c" * 513}}),
        ("SendMessage", {"message": {"referenceTaskIds": ["t" * 513]}}),
        ("SendMessage", {"message": {"referenceTaskIds": [""]}}),
        ("SendMessage", {"message": {"referenceTaskIds": ["t"] * 101}}),
        ("GetTask", {}),
        ("SubscribeToTask", {"id": "t" * 513}),
        ("ListTasks", {"contextId": "c" * 513}),
        ("DeleteTaskPushNotificationConfig", {"id": "p"}),
    ],
)
def test_request_needs_its_ids_in_a_length_that_is_kept(operation: Operation, params: dict[str, Any]) -> None:
    with pytest.raises(InvalidParams):
        grpc_wire.read_request(operation, grpc_wire.write_request(operation, params))


@pytest.mark.parametrize(
    "params",
    [
        {"message": "hello"},
        {"message": {"parts": {}}},
        {"message": {"messageId": 5}},
        {"message": {"parts": [{"raw": "\u00e9"}]}},
        {"message": {"parts": [{"raw": "a"}]}},
        {"message": {"parts": [{"raw": 5}]}},
        {"message": {"role": 1}},
        {"message": {"metadata": []}},
        {"message": {"metadata": {"n": 10**400}}},
        {"message": {"messageId": "\ud800"}},
        {"configuration": {"historyLength": 2**40}},
        {"configuration": {"acceptedOutputModes": [1]}},
    ],
)
def test_parameter_of_a_wrong_type_is_the_callers_fault(params: dict[str, Any]) -> None:
    with pytest.raises(InvalidParams):
        grpc_wire.write_request("SendMessage", params)


def test_what_readers_of_protobuf_could_not_read_is_not_written() -> None:
    def nested(levels: int) -> Any:
        value: Any = 1
        for level in range(levels):
            value = {"a": value} if level % 2 else [value]
        return value

    message = {"parts": [{"data": nested(MAX_DEPTH)}]}
    deepest = {"task": {"history": [message], "artifacts": [message], "status": {"message": message}}}
    assert grpc_wire.read_result("SendMessage", grpc_wire.write_result("SendMessage", deepest))["task"]
    with pytest.raises(ValueError, match="deeper"):
        grpc_wire.write_result("SendMessage", {"message": {"parts": [{"data": nested(MAX_DEPTH + 1)}]}})


def test_bytes_that_are_no_message_are_the_callers_fault() -> None:
    with pytest.raises(InvalidRequest):
        grpc_wire.read_request("GetTask", b"\xff")
    with pytest.raises(ValueError, match="protobuf"):
        grpc_wire.read_result("GetTask", b"\xff")


def test_message_of_too_many_values_is_refused_whatever_they_are() -> None:
    many = a2a_pb2.SendMessageRequest()
    many.message.reference_task_ids.extend([""] * 600_000)
    data = a2a_pb2.SendMessageRequest()
    values = data.message.parts.add().data.list_value.values
    for _ in range(500_001):
        values.add().null_value = 0
    for hostile in (many, data):
        with pytest.raises(InvalidRequest, match="500000"):
            grpc_wire.read_request("SendMessage", hostile.SerializeToString())


def test_large_file_is_no_large_number_of_values() -> None:
    params = {"message": {"parts": [{"raw": "A" * 4_000_000}]}}
    assert grpc_wire.read_request("SendMessage", grpc_wire.write_request("SendMessage", params)).params == params


def test_what_the_messages_do_not_know_goes_on_and_push_configuration_and_tenant_do_not() -> None:
    unknown = b"\xfa\x3f\x05later"  # field 1023
    request = a2a_pb2.SendMessageRequest(tenant="hub")
    request.message.message_id = "m"
    request.configuration.task_push_notification_config.url = "https://client/"
    request.configuration.accepted_output_modes.append("text/plain")
    request.message.MergeFromString(unknown)
    request.configuration.MergeFromString(unknown)
    said = grpc_wire.read_request("SendMessage", request.SerializeToString() + unknown)
    assert said.params["configuration"]["taskPushNotificationConfig"]["url"] == "https://client/"
    assert b"https" not in said.raw
    assert said.raw.count(unknown) == 3
    sent = grpc_wire.addressed("SendMessage", said.raw, tenant="agents", context_id="c")
    assert sent.count(unknown) == 3
    found = a2a_pb2.SendMessageRequest.FromString(sent)
    assert (found.tenant, found.message.context_id, found.message.message_id) == ("agents", "c", "m")
    assert grpc_wire.addressed("SendMessage", said.raw, tenant=None, context_id=None) == said.raw


def test_context_is_renamed_where_it_is_one_and_the_rest_stays() -> None:
    unknown = b"\xfa\x3f\x05later"
    answer = a2a_pb2.StreamResponse()
    answer.task.id = answer.task.context_id = "u"
    answer.task.history.add(context_id="u", parts=[a2a_pb2.Part(text="u")])
    answer.task.metadata["context"] = "u"
    shown = grpc_wire.renamed("SubscribeToTask", answer.SerializeToString() + unknown, "u", "own")
    answer.task.context_id = answer.task.history[0].context_id = "own"
    assert a2a_pb2.StreamResponse.FromString(shown[: -len(unknown)]) == answer
    assert shown.endswith(unknown)


# -- errors


INFO = "type.googleapis.com/google.rpc.ErrorInfo"


def test_fault_reads_back_with_its_details() -> None:
    details = [
        {"@type": INFO, "reason": "TASK_NOT_CANCELABLE", "domain": "a2a-protocol.org", "metadata": {"a": "b"}},
        {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": "id"}]},
    ]
    rich = grpc_wire.write_fault(9, Fault(-32002, "too late", details))
    assert grpc_wire.read_fault(9, "too late", rich) == Fault(-32002, "too late", details)


def test_fault_always_has_the_reason_by_which_clients_know_it() -> None:
    status = Status.FromString(grpc_wire.write_fault(5, Fault(-32001, "gone", [])))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, info.reason, info.domain) == (5, "TASK_NOT_FOUND", "a2a-protocol.org")


def test_details_of_unknown_types_are_left_out_both_ways() -> None:
    unknown = {"@type": "type.example/what.Ever", "x": 1}
    rich = Status.FromString(grpc_wire.write_fault(5, Fault(-32001, "gone", [unknown, {"no": "type"}])))
    assert [one.type_url for one in rich.details] == [INFO]
    rich.details.add(type_url="type.example/what.Ever", value=b"\xff")
    rich.details.add(type_url=INFO, value=b"\xff")
    fault = grpc_wire.read_fault(5, "gone", rich.SerializeToString())
    assert fault is not None
    assert [one["@type"] for one in fault.details] == [INFO]


def test_status_alone_is_a_fault_only_where_it_cannot_be_the_connections() -> None:
    assert grpc_wire.read_fault(5, "gone", None) == Fault(-32001, "gone", [])
    assert grpc_wire.read_fault(12, "not built", b"\xff") == Fault(-32004, "not built", [])
    for status in (1, 2, 4, 7, 8, 13, 14, 15, 16):
        assert grpc_wire.read_fault(status, "10.0.0.1:4 broke", None) is None
