"""What `hubbub keys`, `users`, `teams` and `explain` tell the operator about a key."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hub.cli import main

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, arguments)


def rows(said: Result) -> list[str]:
    """The lines behind the heads, with single blanks."""
    return [" ".join(line.split()) for line in said.output.splitlines()[1:]]


def test_lists_show_every_limit_and_budget(run: Run) -> None:
    bounds = ("--limit", "calls_per_day=50", "--limit", "tokens_per_month=2000000", "--budget", "10.5/week")
    run("teams", "create", "red", *bounds)
    run("users", "create", "rita", "--budget", "1000000/year")
    run("keys", "create", "k", "--allow", "model:*", "--requests-per-minute", "60", *bounds)
    assert " tokens_per_month=2000000 calls_per_day=50 10.5/week " in rows(run("teams", "list"))[0]
    assert " 1000000/year " in rows(run("users", "list"))[0]
    said = " requests_per_minute=60 tokens_per_month=2000000 calls_per_day=50 10.5/week "
    assert said in rows(run("keys", "list"))[0]


def test_the_list_shows_where_a_key_may_be_used(run: Run) -> None:
    run("keys", "create", "k", "--allow", "model:*", "--door", "llm", "--network", "10.0.0.0/8")
    assert " llm 10.0.0.0/8 " in rows(run("keys", "list"))[0]


def test_no_key_is_made_that_is_over_already(run: Run) -> None:
    refused = run("keys", "create", "k", "--allow", "model:*", "--expires-at", "2020-01-01")
    assert refused.exit_code == 2
    assert "that is over already" in refused.output
    assert run("keys", "list").output == "No keys.\n"


def test_explain_says_why_a_key_is_taken_nowhere(run: Run, tmp_path: Path) -> None:
    run("users", "create", "rita")
    run("teams", "create", "red")
    run("teams", "add", "red", "rita")
    run("keys", "create", "k", "--allow", "model:*", "--user", "rita", "--team", "red")

    def why() -> str:
        done = run("explain", "k", "model", "m")
        assert done.exit_code == (1 if done.output.startswith("Error") else 0)
        return done.output.splitlines()[0]

    refused = "Error: The key 'k' is refused at every door: "
    assert why().startswith("denied: ")
    run("users", "disable", "rita")
    assert why() == f"{refused}its user rita is disabled."
    run("users", "enable", "rita")
    run("teams", "remove", "red", "rita")
    assert why() == f"{refused}its user rita is not in its team red."
    run("teams", "add", "red", "rita")
    (database,) = tmp_path.glob("*.db")
    connection = sqlite3.connect(database)
    with connection:
        connection.execute("UPDATE api_keys SET expires_at = 1")
    connection.close()
    assert why() == f"{refused}it has expired."
    assert "1970-01-01 00:00Z, over" in run("keys", "list").output


@pytest.mark.parametrize("option", ["arguments", "tree"])
@pytest.mark.parametrize("text", ['"owner":"acme"', "[]", "owner=acme"])
def test_explain_names_what_is_no_json(run: Run, option: str, text: str) -> None:
    run("keys", "create", "k", "--allow", "model:*")
    refused = run("explain", "k", "model", "m", f"--{option}", text)
    assert refused.exit_code == 2
    assert f"{option}: " in refused.output
    assert "body" not in refused.output
