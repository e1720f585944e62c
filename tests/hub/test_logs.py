"""The hub's log says what each line is about."""

from __future__ import annotations

import logging
import sys

from hub.logs import MAX_VALUE, Lines


def line(message: str, *, of: str = "registry.callers.issuers", **data: object) -> str:
    """What is printed behind the time."""
    record = logging.makeLogRecord({"name": of, "levelname": "INFO", "levelno": logging.INFO, "msg": message} | data)
    return Lines().format(record).split(" ", 2)[2]


def test_a_line_says_what_it_is_about() -> None:
    said = line("a token was refused", issuer="https://login.example", reason="its team is not here", tries=3)
    assert said == (
        'INFO registry.callers.issuers a token was refused issuer=https://login.example reason="its team is not here" tries=3'
    )


def test_no_value_forges_a_line_or_another_value() -> None:
    said = line("refused", reason="x\n2026-01-01 INFO hub.serve forged", name_of="a b=c", unseen="\u202e\u200b\x1b[2J")
    assert "\n" not in said
    assert '"a b=c"' in said
    assert said.isascii()
    assert "\x1b" not in said


def test_a_long_value_is_cut() -> None:
    assert len(line("refused", reason="x" * 100_000)) < MAX_VALUE + 100


def test_what_libraries_attach_is_not_shown() -> None:
    assert "sk-" not in line("connected", of="somelibrary.client", headers={"authorization": "sk-secret"})


def test_a_traceback_stands_below_the_line() -> None:
    try:
        raise RuntimeError("a bug")
    except RuntimeError:
        said = line("request failed", of="hub.app", request_id="req_1", exc_info=sys.exc_info())
    first, *below = said.split("\n")
    assert first == "INFO hub.app request failed request_id=req_1"
    assert below[-1] == "RuntimeError: a bug"
