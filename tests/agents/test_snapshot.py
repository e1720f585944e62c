"""A task as its events make it, and the events that lead from one state of it to the next."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agents.snapshot import apply, difference

IDS = {"taskId": "t", "contextId": "c"}

part = st.fixed_dictionaries({"text": st.text(max_size=3)})
parts = st.lists(part, min_size=1, max_size=3)
metadata = st.dictionaries(st.sampled_from(["k", "l"]), st.integers(0, 2), max_size=2)
artifact = st.fixed_dictionaries(
    {"artifactId": st.sampled_from(["a", "b", "c"]), "parts": parts},
    optional={"name": st.sampled_from(["n", "m"]), "metadata": metadata},
)
status = st.fixed_dictionaries(
    {"state": st.sampled_from(["TASK_STATE_WORKING", "TASK_STATE_INPUT_REQUIRED", "TASK_STATE_COMPLETED"])},
    optional={
        "timestamp": st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"]),
        "message": st.fixed_dictionaries({"messageId": st.sampled_from(["m-1", "m-2"])}),
    },
)
event = st.one_of(
    st.fixed_dictionaries({"artifact": artifact, "append": st.booleans()}).map(
        lambda update: {"artifactUpdate": {**IDS, **update}}
    ),
    st.fixed_dictionaries({"status": status}, optional={"metadata": metadata}).map(
        lambda update: {"statusUpdate": {**IDS, **update}}
    ),
)
events = st.lists(event, max_size=8)


def task(**members: Any) -> dict[str, Any]:
    return {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_WORKING"}, **members}


def fold(known: dict[str, Any] | None, found: list[dict[str, Any]]) -> dict[str, Any] | None:
    known = deepcopy(known)
    for one in found:
        known = apply(known, one)
    return known


def status_of(one: dict[str, Any]) -> tuple[Any, Any]:
    return one["status"]["state"], one["status"].get("message")


def artifact_of(artifact_id: str, *texts: str, **members: Any) -> dict[str, Any]:
    return {"artifactId": artifact_id, "parts": [{"text": text} for text in texts], **members}


def updates(known: dict[str, Any], now: dict[str, Any]) -> list[dict[str, Any]]:
    return [one["artifactUpdate"] for one in difference(known, now)]


@given(before=events, after=events)
def test_the_difference_leads_from_what_was_known_to_what_is_now(before: list[Any], after: list[Any]) -> None:
    known = fold(task(), before)
    now = fold(known, after)
    assert known is not None
    assert now is not None
    led = fold(known, difference(known, now))
    assert led is not None
    assert led.get("artifacts", []) == now.get("artifacts", [])
    assert status_of(led) == status_of(now)
    assert led.get("metadata", {}) == now.get("metadata", {})


@given(found=events)
def test_between_equal_tasks_there_is_no_difference(found: list[Any]) -> None:
    now = fold(task(), found)
    assert now is not None
    assert difference(now, now) == []


@given(found=events)
def test_a_task_that_grows_changes_no_event_that_somebody_holds(found: list[Any]) -> None:
    shown = [{"task": task(artifacts=[artifact_of("a", "1")], history=[], metadata={})}, *found]
    before = deepcopy(shown)
    assert fold(None, shown) is not None
    assert shown == before


def test_a_chunk_costs_no_more_when_many_came_before_it() -> None:
    known = task(artifacts=[artifact_of("a", "1")])
    parts = known["artifacts"][0]["parts"]
    chunk = {"artifactUpdate": {**IDS, "artifact": artifact_of("a", "2"), "append": True}}
    assert apply(known, chunk) is known
    assert known["artifacts"][0]["parts"] is parts  # grown, not copied


def test_who_saw_nothing_gets_the_whole_task() -> None:
    assert difference(None, task()) == [{"task": task()}]


def test_a_task_in_a_stream_takes_the_place_of_what_was_known() -> None:
    now = task(artifacts=[artifact_of("b", "2")])
    assert apply(task(artifacts=[artifact_of("a", "1")]), {"task": now}) == now


def test_a_stream_of_one_message_makes_no_task() -> None:
    assert apply(None, {"message": {"messageId": "m"}}) is None
    assert apply(None, {"statusUpdate": {**IDS, "status": {"state": "TASK_STATE_WORKING"}}}) is None


def test_parts_that_came_meanwhile_are_appended() -> None:
    known, now = task(artifacts=[artifact_of("a", "1")]), task(artifacts=[artifact_of("a", "1", "2", "3")])
    [update] = updates(known, now)
    assert (update["append"], update["artifact"]) == (True, artifact_of("a", "2", "3"))
    assert (update["taskId"], update["contextId"]) == ("t", "c")


def test_an_artifact_that_was_written_anew_is_replaced() -> None:
    known, now = task(artifacts=[artifact_of("a", "1", "2")]), task(artifacts=[artifact_of("a", "2")])
    [update] = updates(known, now)
    assert (update["append"], update["artifact"]) == (False, artifact_of("a", "2"))
    [renamed] = updates(known, task(artifacts=[artifact_of("a", "1", "2", "3", name="n")]))
    assert (renamed["append"], renamed["artifact"]) == (False, artifact_of("a", "1", "2", "3", name="n"))


def test_what_is_appended_to_an_unknown_artifact_begins_it() -> None:
    update = {**IDS, "artifact": artifact_of("new", "1"), "append": True}
    assert apply(task(), {"artifactUpdate": update}) == task(artifacts=[artifact_of("new", "1")])


def test_an_artifact_that_is_gone_is_not_taken_back() -> None:
    assert difference(task(artifacts=[artifact_of("a", "1")]), task()) == []


def test_artifacts_that_share_an_id_are_told_apart_and_not_said_again() -> None:
    now = task(artifacts=[artifact_of("", "1"), artifact_of("", "2")])
    assert difference(now, now) == []
    [update] = updates(task(artifacts=[artifact_of("", "1")]), now)
    assert update["artifact"] == artifact_of("", "2")


def test_another_time_of_the_same_status_is_no_event() -> None:
    known, now = ({"state": "TASK_STATE_WORKING", "timestamp": f"2026-01-01T00:00:0{n}Z"} for n in (1, 2))
    assert difference(task(status=known), task(status=now)) == []


def test_another_message_under_the_same_state_is_an_event() -> None:
    for known, now in (({"messageId": "1"}, {"messageId": "2"}), ({"parts": [1]}, {"parts": [2]})):
        before, after = ({"state": "TASK_STATE_WORKING", "message": message} for message in (known, now))
        [found] = difference(task(status=before), task(status=after))
        assert found["statusUpdate"]["status"] == after


def test_a_status_message_that_is_replaced_moves_to_the_history() -> None:
    said = {"messageId": "m", "parts": []}
    known = task(status={"state": "TASK_STATE_WORKING", "message": said}, history=[{"messageId": "first"}])
    now = apply(known, {"statusUpdate": {**IDS, "status": {"state": "TASK_STATE_COMPLETED"}}})
    assert now is not None
    assert now["history"] == [{"messageId": "first"}, said]


def test_metadata_that_came_meanwhile_is_told_with_the_status() -> None:
    [found] = difference(task(metadata={"old": 1, "gone": 2}), task(metadata={"old": 1, "new": None}))
    assert found["statusUpdate"]["metadata"] == {"new": None}
