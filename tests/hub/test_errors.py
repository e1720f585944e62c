"""The error table: every class has a row, and every row fits every door."""

from __future__ import annotations

import inspect

import pytest

from hub import errors as table
from registry import errors
from registry.errors import HubError


def classes() -> list[type[HubError]]:
    return [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, HubError)]


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_every_error_class_has_its_own_row(kind: type[HubError]) -> None:
    assert kind in table.TABLE


def test_an_unknown_model_is_named_in_openais_form() -> None:
    body = table.openai(errors.NotFound("model", "gpt-9"), "req_1")
    assert body["error"]["code"] == "model_not_found"
    assert "gpt-9" in body["error"]["message"]
    assert "req_1" in body["error"]["message"]


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_every_error_class_has_a_type_of_anthropics(kind: type[HubError]) -> None:
    error = kind.__new__(kind)
    Exception.__init__(error, "what went wrong")
    error.__dict__ |= {"status": 400, "detail": {"type": "billing_error", "message": "theirs"}, "message": "an agent's"}
    body = table.anthropic(error, "req_1")
    assert (body["type"], body["request_id"]) == ("error", "req_1")
    assert body["error"]["message"]
    assert body["error"]["type"] in {"api_error", *table._ANTHROPIC.values()}
    expected = "billing_error" if isinstance(error, errors.UpstreamRejected) else None
    assert expected in (None, body["error"]["type"])


def test_types_of_anthropics_follow_the_status() -> None:
    kinds = {
        "authentication_error": errors.Unauthenticated(),
        "not_found_error": errors.NotFound("model", "m"),
        "rate_limit_error": errors.RateLimited(1),
        "request_too_large": errors.TooLarge(5),
        "timeout_error": errors.UpstreamTimeout("m", "slow"),
        "overloaded_error": errors.Overloaded("later"),
        "api_error": errors.UpstreamUnavailable("m", "down"),
        "invalid_request_error": errors.InvalidRequest("bad"),
    }
    for kind, error in kinds.items():
        assert table.anthropic(error, "r")["error"] == {"type": kind, "message": error.text}


def test_a_missing_task_and_a_missing_agent_differ_only_in_reason() -> None:
    task = table.a2a(errors.NotFound("task", "t1"), "req_1")
    assert task["code"] == -32001
    assert task["data"][0]["reason"] == "TASK_NOT_FOUND"


def test_a_rate_limit_says_when_to_come_back() -> None:
    assert table.extra_headers(errors.RateLimited(2.1)) == [(b"retry-after", b"3")]
    assert table.jsonrpc_status(errors.RateLimited(2.1)) == 429
    assert table.extra_headers(errors.RateLimited(61)) == [(b"retry-after", b"61"), (b"x-should-retry", b"false")]


@pytest.mark.parametrize(
    "error", [errors.LimitReached("used up", None), errors.OverBudget("used up", None), errors.TooManyHops(16)]
)
def test_what_no_waiting_ends_is_not_to_be_sent_again(error: errors.HubError) -> None:
    assert table.extra_headers(error) == [(b"x-should-retry", b"false")]


def test_errors_about_the_call_itself_travel_with_http_200_on_the_a2a_doors() -> None:
    assert table.jsonrpc_status(errors.InvalidRequest("x")) == 200
    assert table.jsonrpc_status(errors.UpstreamUnavailable("research", "down")) == 200


@pytest.mark.attack("2.1/21")
def test_no_stack_or_cause_reaches_a_caller() -> None:
    try:
        try:
            raise ValueError("postgres://user:password@db")
        except ValueError as cause:
            raise errors.UpstreamUnavailable("research", "it cannot be reached") from cause
    except HubError as error:
        shown = str(table.problem(error, "r")) + str(table.a2a(error, "r")) + str(table.openai(error, "r"))
    assert "password" not in shown


@pytest.mark.parametrize(
    ("provider", "told"),
    [
        ("Please reduce the length of the messages.", "prompt is too long: Please reduce the length of the messages."),
        ("prompt is too long: 9 tokens > 8 maximum", "prompt is too long: 9 tokens > 8 maximum"),
    ],
)
def test_overrun_of_the_context_window_is_told_to_each_client_in_the_form_that_it_acts_on(
    provider: str, told: str
) -> None:
    error = errors.ContextTooLong("m", {"message": provider, "type": "x", "code": None, "param": None})
    assert table.row_of(error).status == 400
    assert table.openai(error, "r")["error"] == {
        "message": provider,
        "type": "invalid_request_error",
        "param": None,
        "code": "context_length_exceeded",
    }
    assert table.anthropic(error, "r")["error"] == {"type": "invalid_request_error", "message": told}


def test_overloaded_provider_is_told_as_such_and_when_to_come_back() -> None:
    error = errors.UpstreamOverloaded("m", 529, "7")
    assert (table.row_of(error).status, table.extra_headers(error)) == (503, [(b"retry-after", b"7")])
    assert table.openai(error, "r")["error"]["code"] == "upstream_overloaded"
    assert table.anthropic(error, "r")["error"]["type"] == "overloaded_error"
