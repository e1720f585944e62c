"""Between A2A 0.3 and 1.0: nothing is lost that both can say, and the official SDK accepts whatever is written.

Strict 1.0 is what the SDK's protocol buffers parse without ignoring anything; strict 0.3 is what its pydantic types, or for
HTTP+JSON its 0.3 protocol buffers, take and give back unchanged.
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from a2a import types as v10
from a2a.compat.v0_3 import a2a_v0_3_pb2 as rest03
from a2a.compat.v0_3 import conversions, proto_utils
from a2a.compat.v0_3 import types as v03
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from agents.content import KEPT
from agents.translate import Untranslatable, event_down, event_up, params_down, params_up, result_down, result_up
from agents.translate_rest03 import (
    rest03_event_down,
    rest03_event_up,
    rest03_params_down,
    rest03_params_up,
    rest03_result_down,
    rest03_result_up,
)

Json = dict[str, Any]

EVENTS_03: dict[str, type[BaseModel]] = {
    "task": v03.Task,
    "message": v03.Message,
    "status-update": v03.TaskStatusUpdateEvent,
    "artifact-update": v03.TaskArtifactUpdateEvent,
}


def strict(message: Any, made: Any) -> Any:
    """Parse with the SDK's protocol buffers, which refuse unknown members, wrong types and odd enums."""
    return ParseDict(made, message())


def strict_03(model: type[BaseModel], made: Any) -> None:
    """The SDK's 0.3 type takes it, and knows every member of it."""
    assert model.model_validate(made).model_dump(mode="json", by_alias=True, exclude_unset=True) == made


def strict_event_03(made: Json) -> None:
    strict_03(EVENTS_03[made["kind"]], made)


# --- what 1.0 and 0.3 can say -----------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)
METADATA = st.dictionaries(st.text(max_size=4), JSON, min_size=1, max_size=2)
WORD = st.text(min_size=1, max_size=6)
STATES = [name for name, number in v10.TaskState.items() if number]
MOMENTS = st.datetimes().map(lambda at: at.isoformat() + "Z")
BASE64 = st.binary(max_size=9).map(lambda content: base64.b64encode(content).decode())


def some_of(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional=members)


def both(first: st.SearchStrategy[Json], second: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.builds(lambda one, other: {**one, **other}, first, second)


PARTS = st.lists(
    both(
        st.fixed_dictionaries({"text": st.text(max_size=9)})
        | st.fixed_dictionaries({"raw": BASE64})
        | st.fixed_dictionaries({"url": WORD})
        | st.fixed_dictionaries({"data": JSON}),
        some_of(mediaType=WORD, filename=WORD, metadata=METADATA),
    ),
    max_size=3,
)
MESSAGES = both(
    st.fixed_dictionaries(
        {"messageId": WORD, "role": st.sampled_from(["ROLE_USER", "ROLE_AGENT"]), "parts": PARTS},
    ),
    some_of(
        contextId=WORD,
        taskId=WORD,
        metadata=METADATA,
        extensions=st.lists(WORD, min_size=1, max_size=2),
        referenceTaskIds=st.lists(WORD, min_size=1, max_size=2),
    ),
)
ARTIFACTS = both(
    st.fixed_dictionaries({"artifactId": WORD, "parts": PARTS}),
    some_of(name=WORD, description=WORD, metadata=METADATA, extensions=st.lists(WORD, min_size=1, max_size=2)),
)
STATUSES = both(st.fixed_dictionaries({"state": st.sampled_from(STATES)}), some_of(message=MESSAGES, timestamp=MOMENTS))
TASKS = both(
    st.fixed_dictionaries({"id": WORD, "contextId": WORD, "status": STATUSES}),
    some_of(artifacts=st.lists(ARTIFACTS, max_size=2), history=st.lists(MESSAGES, max_size=2), metadata=METADATA),
)
ABOUT = st.fixed_dictionaries({"taskId": WORD, "contextId": WORD})
EVENTS = (
    st.fixed_dictionaries({"task": TASKS})
    | st.fixed_dictionaries({"message": MESSAGES})
    | st.fixed_dictionaries(
        {"statusUpdate": both(ABOUT, both(st.fixed_dictionaries({"status": STATUSES}), some_of(metadata=METADATA)))}
    )
    | st.fixed_dictionaries(
        {
            "artifactUpdate": both(
                both(ABOUT, st.fixed_dictionaries({"artifact": ARTIFACTS})),
                some_of(append=st.booleans(), lastChunk=st.booleans(), metadata=METADATA),
            )
        }
    )
)

FILE_03 = both(
    st.fixed_dictionaries({"bytes": BASE64}) | st.fixed_dictionaries({"uri": WORD}),
    some_of(mimeType=WORD, name=WORD),
)
PARTS_03 = st.lists(
    both(
        st.fixed_dictionaries({"kind": st.just("text"), "text": st.text(max_size=9)})
        | st.fixed_dictionaries({"kind": st.just("file"), "file": FILE_03})
        | st.fixed_dictionaries({"kind": st.just("data"), "data": st.dictionaries(st.text(max_size=4), JSON)}),
        some_of(metadata=METADATA),
    ),
    max_size=3,
)
MESSAGES_03 = st.builds(
    lambda message, role, parts: {**message, "kind": "message", "role": role, "parts": parts},
    MESSAGES,
    st.sampled_from(["user", "agent"]),
    PARTS_03,
)
ARTIFACTS_03 = st.builds(lambda artifact, parts: {**artifact, "parts": parts}, ARTIFACTS, PARTS_03)
TASKS_03 = both(
    st.fixed_dictionaries(
        {
            "kind": st.just("task"),
            "id": WORD,
            "contextId": WORD,
            "status": both(
                st.fixed_dictionaries({"state": st.sampled_from([state.value for state in v03.TaskState])}),
                some_of(message=MESSAGES_03, timestamp=MOMENTS),
            ),
        }
    ),
    some_of(artifacts=st.lists(ARTIFACTS_03, max_size=2), history=st.lists(MESSAGES_03, max_size=2), metadata=METADATA),
)


@given(event=EVENTS)
def test_what_1_0_says_comes_back_through_0_3_unchanged(event: Json) -> None:
    before = copy.deepcopy(event)
    made = event_down(event)
    strict_event_03(made)
    again = event_up(json.loads(json.dumps(made)))
    assert again == event == before
    strict(v10.StreamResponse, again)


@given(event=EVENTS)
def test_what_1_0_says_comes_back_through_0_3_http_unchanged(event: Json) -> None:
    before = copy.deepcopy(event)
    made = rest03_event_down(event)
    strict(rest03.StreamResponse, made)
    assert rest03_event_up(json.loads(json.dumps(made))) == event == before


@given(event=EVENTS)
def test_strict_1_0_is_its_own_translation(event: Json) -> None:
    assert event_up(event) == event


@given(event=TASKS_03 | MESSAGES_03)
def test_what_0_3_says_comes_back_through_1_0_unchanged(event: Json) -> None:
    strict_event_03(event)
    made = event_up(event)
    strict(v10.StreamResponse, made)
    assert event_down(made) == event
    assert result_down("SendMessage", result_up("SendMessage", event)) == event


PUSHES = both(
    st.fixed_dictionaries({"taskId": WORD, "url": WORD}),
    some_of(
        id=WORD,
        token=WORD,
        authentication=both(st.fixed_dictionaries({"scheme": WORD}), some_of(credentials=WORD)),
    ),
)
INLINE_PUSHES = PUSHES.map(lambda config: {name: item for name, item in config.items() if name != "taskId"})
SENDS = both(
    st.fixed_dictionaries(
        {
            "message": MESSAGES,
            "configuration": both(
                st.fixed_dictionaries({"returnImmediately": st.booleans()}),
                some_of(
                    acceptedOutputModes=st.lists(WORD, min_size=1, max_size=2),
                    historyLength=st.integers(1, 2**31 - 1),
                    taskPushNotificationConfig=INLINE_PUSHES,
                ),
            ),
        }
    ),
    some_of(metadata=METADATA),
)


@given(params=SENDS)
def test_a_sent_message_comes_back_through_0_3_unchanged(params: Json) -> None:
    made = params_down("SendMessage", params)
    strict_03(v03.MessageSendParams, made)
    assert params_up("SendMessage", made) == params
    strict(v10.SendMessageRequest, params_up("SendMessage", made))
    over_http = rest03_params_down("SendMessage", params)
    strict(rest03.SendMessageRequest, over_http)
    assert rest03_params_up("SendMessage", over_http) == params


@given(config=PUSHES)
def test_a_push_configuration_comes_back_through_0_3_unchanged(config: Json) -> None:
    made = params_down("CreateTaskPushNotificationConfig", config)
    strict_03(v03.TaskPushNotificationConfig, made)
    assert params_up("CreateTaskPushNotificationConfig", made) == config
    assert result_up("CreateTaskPushNotificationConfig", made) == config
    strict(v10.TaskPushNotificationConfig, config)
    over_http = rest03_params_down("CreateTaskPushNotificationConfig", config)
    strict(rest03.CreateTaskPushNotificationConfigRequest, over_http)
    assert rest03_params_up("CreateTaskPushNotificationConfig", over_http) == config
    answer = rest03_result_down("GetTaskPushNotificationConfig", config)
    strict(rest03.TaskPushNotificationConfig, answer)
    assert rest03_result_up("GetTaskPushNotificationConfig", answer) == config


# --- hostile and odd shapes -------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    [
        "kind",
        "task",
        "message",
        "msg",
        "statusUpdate",
        "artifactUpdate",
        "status_update",
        "taskId",
        "task_id",
        "contextId",
        "id",
        "status",
        "state",
        "timestamp",
        "update",
        "artifact",
        "artifacts",
        "history",
        "parts",
        "content",
        "role",
        "metadata",
        "text",
        "url",
        "data",
        "file",
        "uri",
        "mimeType",
        "name",
        "mediaType",
        "filename",
        "append",
        "lastChunk",
        "final",
        "extensions",
        "referenceTaskIds",
        "artifactId",
        "messageId",
        "description",
        "value",
    ]
)
ODD = st.recursive(
    JSON
    | st.sampled_from(
        [*EVENTS_03, "working", "TASK_STATE_CANCELLED", "user", 3, "2026-01-01T10:00:00", "true", "", KEPT]
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)
MUTATED = st.builds(
    lambda event, name, item: {kind: {**inner, name: item} for kind, inner in event.items()}, EVENTS, NAMES, ODD
)


@given(event=ODD | MUTATED)
def test_whatever_comes_is_made_strict_or_refused(event: Any) -> None:
    for read in (event_up, rest03_event_up):
        try:
            made = read(event)
        except Untranslatable:
            continue
        strict(v10.StreamResponse, made)
        strict_event_03(event_down(made))
        strict(rest03.StreamResponse, rest03_event_down(made))


@given(event=EVENTS | MUTATED)
def test_a_wrapped_event_goes_down_as_if_it_had_gone_up_first(event: Json) -> None:
    def down(read: Callable[[Json], Json]) -> Json | None:
        try:
            return event_down(read(event))
        except Untranslatable:
            return None

    assert down(lambda wrapped: wrapped) == down(event_up)


OPERATIONS: list[Any] = [
    "SendMessage",
    "SendStreamingMessage",
    "GetTask",
    "ListTasks",
    "CancelTask",
    "SubscribeToTask",
    "CreateTaskPushNotificationConfig",
    "GetTaskPushNotificationConfig",
    "ListTaskPushNotificationConfigs",
    "DeleteTaskPushNotificationConfig",
    "GetExtendedAgentCard",
]


@given(value=ODD, operation=st.sampled_from(OPERATIONS))
def test_whatever_comes_as_parameters_or_result_only_untranslatable_is_raised(value: Any, operation: Any) -> None:
    for read in (params_up, result_up, rest03_params_up, rest03_result_up):
        try:
            made = read(operation, value)
        except Untranslatable:
            continue
        assert type(made) is dict


# --- traps by name ----------------------------------------------------------------------------------------------------

TASK: Json = {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_WORKING"}}


def message(*parts: Json) -> Json:
    return {"message": {"messageId": "m", "role": "ROLE_AGENT", "parts": list(parts)}}


@pytest.mark.parametrize(
    ("state", "final"),
    [
        ("SUBMITTED", False),
        ("WORKING", False),
        ("COMPLETED", True),
        ("FAILED", True),
        ("CANCELED", True),
        ("REJECTED", True),
        ("INPUT_REQUIRED", True),
        ("AUTH_REQUIRED", True),
    ],
)
def test_final_marks_what_ends_the_stream_also_a_question(state: str, final: bool) -> None:
    event = {"statusUpdate": {"taskId": "t", "contextId": "c", "status": {"state": f"TASK_STATE_{state}"}}}
    made = event_down(event)
    assert made["final"] is final
    assert made["status"]["state"] == state.lower().replace("_", "-")
    over_http = rest03_event_down(event)["statusUpdate"]
    assert over_http["final"] is final


def test_0_3_over_http_spells_cancelled_with_two_l() -> None:
    canceled = {**TASK, "status": {"state": "TASK_STATE_CANCELED"}}
    made = rest03_result_down("CancelTask", canceled)
    assert made["status"]["state"] == "TASK_STATE_CANCELLED"
    assert rest03_result_up("CancelTask", made) == canceled
    assert strict(rest03.Task, made).status.state == rest03.TASK_STATE_CANCELLED


@pytest.mark.parametrize(
    "state", ["input-required", "input_required", "TASK_STATE_INPUT_REQUIRED", "Input-Required", 6]
)
def test_every_spelling_of_a_state_is_understood(state: Any) -> None:
    assert result_up("GetTask", {**TASK, "status": {"state": state}})["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"


def test_a_state_of_no_version_is_unspecified_and_unknown() -> None:
    made = result_up("GetTask", {**TASK, "status": {"state": "pondering"}})
    assert made["status"]["state"] == "TASK_STATE_UNSPECIFIED"
    assert result_down("GetTask", made)["status"]["state"] == "unknown"


def test_langgraphs_bare_status_update_is_wrapped() -> None:
    bare = {
        "kind": "status-update",
        "taskId": "thread:run",
        "contextId": "c",
        "status": {"state": "TASK_STATE_WORKING", "timestamp": "2026-01-01T10:00:00.1+00:00"},
        "final": False,
    }
    made = event_up(bare)
    assert made == {
        "statusUpdate": {
            "taskId": "thread:run",
            "contextId": "c",
            "status": {"state": "TASK_STATE_WORKING", "timestamp": "2026-01-01T10:00:00.1+00:00"},
        }
    }
    strict(v10.StreamResponse, made)


def test_langgraphs_wrapped_task_loses_its_kind() -> None:
    made = event_up({"task": {**TASK, "kind": "task", "history": [{"kind": "message", **message()["message"]}]}})
    assert made == {"task": {**TASK, "history": [message()["message"]]}}
    strict(v10.StreamResponse, made)


def test_fasta2as_states_and_naive_timestamps_become_strict() -> None:
    odd = {
        "statusUpdate": {
            "task_id": "t",
            "context_id": "c",
            "kind": "status-update",
            "status": {"state": "submitted", "timestamp": "2026-01-01T10:00:00.123456"},
            "final": True,
        }
    }
    made = event_up(odd)
    assert made["statusUpdate"]["status"] == {
        "state": "TASK_STATE_SUBMITTED",
        "timestamp": "2026-01-01T10:00:00.123456Z",
    }
    strict(v10.StreamResponse, made)
    strict_event_03(event_down(made))


def test_an_unwrapped_task_answers_send_message() -> None:
    assert result_up("SendMessage", {**TASK, "kind": "task"}) == {"task": TASK}
    assert result_up("SendMessage", TASK) == {"task": TASK}
    assert result_up("SendMessage", message({"text": "hi"})["message"]) == message({"text": "hi"})


def test_a_wrapped_task_answers_get_task() -> None:
    assert result_up("GetTask", {"task": TASK}) == TASK


def test_an_update_does_not_answer_send_message() -> None:
    with pytest.raises(Untranslatable):
        result_up("SendMessage", {"kind": "status-update", "taskId": "t", "contextId": "c", "status": {}})


@pytest.mark.parametrize(
    ("came", "written"),
    [
        ("2026-01-01T10:00:00", "2026-01-01T10:00:00Z"),
        ("2026-01-01T10:00:00Z", "2026-01-01T10:00:00Z"),
        ("2026-01-01 10:00:00.5", "2026-01-01T10:00:00.5Z"),
        ("2026-01-01t10:00:00z", "2026-01-01T10:00:00Z"),
        ("2026-01-01T10:00:00.1234567891Z", "2026-01-01T10:00:00.123456789Z"),
        ("2026-01-01T10:00:00+0230", "2026-01-01T10:00:00+02:30"),
        ("0001-01-01T00:00:00+10:00", None),
        ("2026-13-01T10:00:00Z", None),
        ("yesterday", None),
        (1767261600, None),
    ],
)
def test_a_timestamp_is_made_rfc_3339_or_left_out(came: Any, written: str | None) -> None:
    made = result_up("GetTask", {**TASK, "status": {"state": "working", "timestamp": came}})
    assert made["status"].get("timestamp") == written
    strict(v10.Task, made)


def test_integers_survive_where_protocol_buffers_make_floats() -> None:
    numbers = {"one": 1, "big": 2**53 + 1}
    event = message({"data": numbers, "metadata": numbers})
    for made in (event_up(event_down(event)), rest03_event_up(rest03_event_down(event))):
        assert json.dumps(made, sort_keys=True) == json.dumps(event, sort_keys=True)


@pytest.mark.parametrize("data", [5, None, "text", [1, {"a": 2}], True])
def test_data_that_is_no_object_travels_as_the_sdk_wraps_it(data: Any) -> None:
    event = message({"data": data})
    made = event_down(event)
    assert made["parts"] == [{"kind": "data", "data": {"value": data}, "metadata": {"data_part_compat": True}}]
    assert event_up(made) == event
    assert v10.Part() != conversions.to_core_part(v03.Part.model_validate(made["parts"][0]))


def test_data_that_only_looks_wrapped_stays() -> None:
    event = message({"data": {"value": 5}})
    assert event_down(event)["parts"] == [{"kind": "data", "data": {"value": 5}}]
    assert event_up(event_down(event)) == event


def test_data_named_data_is_told_from_the_http_wrapper() -> None:
    event = message({"data": {"data": {"a": 1}}})
    assert event_up(event_down(event)) == event
    made = rest03_event_down(event)
    assert made["message"]["content"] == [{"data": {"data": {"data": {"a": 1}}}}]
    assert rest03_event_up(made) == event


def test_what_0_3_has_no_member_for_is_kept_under_one_name_of_the_hub() -> None:
    event = message({"text": "# hi", "mediaType": "text/markdown", "filename": "hi.md", "metadata": {"x": 1}})
    made = event_down(event)
    kept = {"mediaType": "text/markdown", "filename": "hi.md"}
    assert made["parts"] == [{"kind": "text", "text": "# hi", "metadata": {"x": 1, KEPT: kept}}]
    assert event_up(made) == event


def test_referenced_tasks_travel_over_0_3_http_in_the_metadata() -> None:
    event = message({"text": "hi"})
    event["message"]["referenceTaskIds"] = ["r"]
    made = rest03_event_down(event)
    assert made["message"]["metadata"] == {KEPT: {"referenceTaskIds": ["r"]}}
    assert rest03_event_up(made) == event


def test_files_are_nested_in_0_3_and_flat_in_1_0() -> None:
    file = {"raw": "aGk=", "mediaType": "text/plain", "filename": "hi.txt"}
    made = event_down(message(file))
    assert made["parts"] == [{"kind": "file", "file": {"bytes": "aGk=", "mimeType": "text/plain", "name": "hi.txt"}}]
    assert event_up(made) == message(file)


def test_bytes_in_the_other_alphabet_are_written_in_the_usual_one() -> None:
    assert event_up(message({"raw": "-_8"})) == message({"raw": "+/8="})


def test_the_python_sdk_reads_and_writes_file_bytes_encoded_twice() -> None:
    content = bytes(range(256))
    raw = base64.b64encode(content).decode()
    made = rest03_event_down(message({"raw": raw, "filename": "f"}))
    read = proto_utils.FromProto.message(strict(rest03.StreamResponse, made).msg)
    assert conversions.to_core_message(read).parts[0].raw == content
    assert rest03_event_up(made) == message({"raw": raw, "filename": "f"})


def test_file_bytes_encoded_once_are_what_the_protocol_buffers_mean() -> None:
    content = bytes(range(256))
    raw = base64.b64encode(content).decode()
    made = rest03_event_down(message({"raw": raw}), encodes_twice=False)
    assert strict(rest03.StreamResponse, made).msg.content[0].file.file_with_bytes == content
    assert rest03_event_up(made) == message({"raw": raw})


def test_parts_that_spell_every_content_are_read_by_the_one_that_says_something() -> None:
    part = {"text": "hi", "raw": "", "url": "", "data": None, "filename": "", "mediaType": "", "metadata": {}}
    assert event_up(message(part)) == message({"text": "hi"})


@pytest.mark.parametrize("part", [{}, {"kind": "hologram"}, {"text": "a", "url": "b"}, "text", {"text": 5}])
def test_a_part_without_one_content_is_refused(part: Any) -> None:
    with pytest.raises(Untranslatable):
        event_up(message(part))


def test_one_member_in_two_spellings_is_refused() -> None:
    with pytest.raises(Untranslatable, match="two spellings"):
        event_up({"message": {"messageId": "m", "taskId": "mine", "task_id": "yours", "role": "user", "parts": []}})


def test_unknown_members_of_typed_objects_are_dropped() -> None:
    assert event_up({"task": {**TASK, "x": 1, "status": {"state": "working", "y": 2}}}) == {"task": TASK}


@pytest.mark.parametrize(
    ("configuration", "immediately"),
    [({}, None), ({"blocking": True}, False), ({"blocking": False}, True), ({"blocking": None}, None)],
)
def test_0_3_waits_unless_it_says_otherwise(configuration: Json, immediately: bool | None) -> None:
    sent = {"message": {"messageId": "m", "role": "user", "parts": []}, "configuration": configuration}
    made = params_up("SendMessage", sent)
    assert made["configuration"].get("returnImmediately") is immediately
    strict(v10.SendMessageRequest, made)
    assert "configuration" not in params_up("SendMessage", {"message": sent["message"]})


def test_0_3_over_http_waits_if_it_says_so_or_configures_nothing() -> None:
    sent = {"message": {"messageId": "m", "role": "ROLE_USER", "content": []}}
    assert "configuration" not in rest03_params_up("SendMessage", sent)
    for configuration, immediately in (({}, True), ({"blocking": True}, False), ({"historyLength": 0}, True)):
        made = rest03_params_up("SendMessage", {**sent, "configuration": configuration})
        read = proto_utils.FromProto.message_send_params(
            strict(rest03.SendMessageRequest, {**sent, "configuration": configuration})
        )
        request = conversions.to_core_send_message_request(v03.SendMessageRequest(id=1, params=read))
        assert request.configuration.return_immediately is immediately
        assert made["configuration"] == {"returnImmediately": immediately}


def test_0_3_agents_are_always_told_whether_to_wait() -> None:
    sent = message({"text": "hi"})
    for configuration, blocking in (({}, True), ({"returnImmediately": True}, False)):
        params = {**sent, "configuration": configuration}
        for made in (params_down("SendMessage", params), rest03_params_down("SendMessage", params)):
            assert made is not None
            assert made["configuration"]["blocking"] is blocking
    assert params_down("SendStreamingMessage", sent) == {"message": event_down(sent)}


def test_a_history_of_none_is_not_sent_to_0_3_and_kept_from_it() -> None:
    assert params_down("GetTask", {"id": "t", "historyLength": 0}) == {"id": "t"}
    assert params_up("GetTask", {"id": "t", "historyLength": 0}) == {"id": "t", "historyLength": 0}
    sent = {**message({"text": "hi"}), "configuration": {"historyLength": 0}}
    assert params_down("SendStreamingMessage", sent)["configuration"] == {}  # type: ignore[index]
    assert params_up("SendMessage", sent)["configuration"] == {"historyLength": 0}


@pytest.mark.parametrize("length", [-1, 2**31, "x", 1.5, True, [1]])
def test_a_history_length_that_is_no_count_is_refused(length: Any) -> None:
    with pytest.raises(Untranslatable):
        params_up("GetTask", {"id": "t", "historyLength": length})


def test_a_query_may_spell_numbers_as_text() -> None:
    assert rest03_params_up("GetTask", {"name": "tasks/t", "historyLength": "5"}) == {"id": "t", "historyLength": 5}


def test_ids_of_push_operations_change_their_names() -> None:
    by_config = {"taskId": "t", "id": "c"}
    for operation in OPERATIONS[7], OPERATIONS[9]:
        assert params_down(operation, by_config) == {"id": "t", "pushNotificationConfigId": "c"}
        assert params_up(operation, {"id": "t", "pushNotificationConfigId": "c"}) == by_config
        resource = {"name": "tasks/t/pushNotificationConfigs/c"}
        assert rest03_params_down(operation, by_config) == resource
        assert rest03_params_up(operation, resource) == by_config
    assert params_down("ListTaskPushNotificationConfigs", {"taskId": "t"}) == {"id": "t"}
    assert params_up("ListTaskPushNotificationConfigs", {"id": "t"}) == {"taskId": "t"}
    assert params_up("GetTaskPushNotificationConfig", {"id": "t"}) == {"taskId": "t"}
    assert rest03_params_down("ListTaskPushNotificationConfigs", {"taskId": "t"}) == {"parent": "tasks/t"}
    assert rest03_params_up("ListTaskPushNotificationConfigs", {"parent": "tasks/t"}) == {"taskId": "t"}


def test_lists_of_push_configurations_are_arrays_in_0_3() -> None:
    page = {"configs": [{"taskId": "t", "id": "c", "url": "u"}], "nextPageToken": ""}
    made = result_down("ListTaskPushNotificationConfigs", page)
    assert made == [{"taskId": "t", "pushNotificationConfig": {"id": "c", "url": "u"}}]
    assert result_up("ListTaskPushNotificationConfigs", made) == page
    assert result_up("ListTaskPushNotificationConfigs", page) == page
    assert result_up("ListTaskPushNotificationConfigs", None) == {"configs": [], "nextPageToken": ""}
    over_http = rest03_result_down("ListTaskPushNotificationConfigs", page)
    strict(rest03.ListTaskPushNotificationConfigResponse, over_http)
    assert rest03_result_up("ListTaskPushNotificationConfigs", over_http) == page


def test_a_deleted_push_configuration_is_null_in_0_3_and_an_object_in_1_0() -> None:
    assert result_down("DeleteTaskPushNotificationConfig", {}) is None
    assert result_up("DeleteTaskPushNotificationConfig", None) == {}
    assert rest03_result_down("DeleteTaskPushNotificationConfig", {}) == {}


def test_of_several_schemes_the_first_is_the_one() -> None:
    made = params_up(
        "CreateTaskPushNotificationConfig",
        {
            "taskId": "t",
            "pushNotificationConfig": {
                "url": "u",
                "authentication": {"schemes": ["Bearer", "Basic"], "credentials": "c"},
            },
        },
    )
    assert made["authentication"] == {"scheme": "Bearer", "credentials": "c"}


def test_the_javascript_sdk_sends_a_push_configuration_without_its_request() -> None:
    body = {
        "name": "tasks/other/pushNotificationConfigs/c",
        "pushNotificationConfig": {"id": "c", "url": "u", "token": "", "authentication": {"schemes": []}},
        "parent": "tasks/t",
    }
    made = rest03_params_up("CreateTaskPushNotificationConfig", body)
    assert made == {"taskId": "t", "id": "c", "url": "u", "authentication": {}}


def test_the_python_sdk_speaks_0_3_http_in_snake_case() -> None:
    sent = {
        "request": {"message_id": "m", "role": "ROLE_USER", "content": [{"text": "hi"}], "task_id": "t"},
        "configuration": {"blocking": True, "accepted_output_modes": ["text"], "push_notification": {"url": "u"}},
    }
    assert rest03_params_up("SendMessage", sent) == {
        "message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}], "taskId": "t"},
        "configuration": {
            "returnImmediately": False,
            "acceptedOutputModes": ["text"],
            "taskPushNotificationConfig": {"url": "u"},
        },
    }


def test_0_3_over_http_names_resources() -> None:
    for operation, request in (
        ("GetTask", rest03.GetTaskRequest),
        ("CancelTask", rest03.CancelTaskRequest),
        ("SubscribeToTask", rest03.TaskSubscriptionRequest),
    ):
        made = rest03_params_down(operation, {"id": "a:b", "metadata": {"x": 1}})  # type: ignore[arg-type]
        assert made == {"name": "tasks/a:b"}
        strict(request, made)
        assert rest03_params_up(operation, made)["id"] == "a:b"  # type: ignore[arg-type]


def test_0_3_has_no_parameters_for_the_extended_card() -> None:
    assert params_down("GetExtendedAgentCard", {}) is None
    assert rest03_params_down("GetExtendedAgentCard", {}) is None
    assert params_up("GetExtendedAgentCard", None) == {}


def test_the_metadata_of_a_cancellation_survives() -> None:
    assert params_down("CancelTask", {"id": "t", "metadata": {"why": 1}}) == {"id": "t", "metadata": {"why": 1}}
    assert params_up("CancelTask", {"id": "t", "metadata": {"why": 1}}) == {"id": "t", "metadata": {"why": 1}}


def test_a_page_of_tasks_is_complete() -> None:
    made = result_up("ListTasks", {"tasks": [{**TASK, "kind": "task"}]})
    assert made == {"tasks": [TASK], "nextPageToken": "", "pageSize": 1, "totalSize": 1}
    strict(v10.ListTasksResponse, made)
    assert result_down("ListTasks", made)["tasks"] == [event_down({"task": TASK})]


def test_0_3_requires_what_1_0_leaves_out() -> None:
    made = result_down("GetTask", {"id": "t"})
    assert made == {"kind": "task", "id": "t", "contextId": "", "status": {"state": "unknown"}}
    strict_event_03(made)


def test_an_empty_list_for_metadata_is_none() -> None:
    assert result_up("GetTask", {**TASK, "metadata": []}) == TASK


def test_a_refusal_says_what_was_wrong_without_the_value() -> None:
    with pytest.raises(Untranslatable, match=r"^the parts should be a list$"):
        event_up({"message": {"messageId": "m", "role": "user", "parts": "secret"}})
