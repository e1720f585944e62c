import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.access import EVERYTHING, MEMO_SIZE, Grant, GrantInvalid, Grants, Through

names = st.text("ab_*", max_size=8)
globs = st.text("ab_*", min_size=1, max_size=8)


@given(globs, names)
def test_a_star_stands_for_any_characters_and_everything_else_for_itself(glob: str, name: str) -> None:
    pattern = ".*".join(re.escape(part) for part in glob.split("*"))
    assert Grants((Grant("model", glob),)).allow("model", name) == bool(re.fullmatch(pattern, name, re.DOTALL))


@given(st.sampled_from(["server", "tool"]), globs, st.sampled_from(["server", "tool"]), globs, names)
def test_what_a_covered_grant_allows_the_covering_one_allows_too(
    kind: str, glob: str, other_kind: str, other_glob: str, name: str
) -> None:
    mine, theirs = Grant(kind, glob), Grant(other_kind, other_glob)
    if mine.covers(theirs) and "__" in name and Grants((theirs,)).allow("tool", name):
        assert Grants((mine,)).allow("tool", name)


@pytest.mark.parametrize("text", ["", "tool", "tool:", ":x", "tools:x", "Tool:x", "admin:keyz", "tool:" + "x" * 400])
def test_a_grant_that_does_not_read_kind_glob_is_refused(text: str) -> None:
    with pytest.raises(GrantInvalid):
        Grant.parse(text)


@pytest.mark.attack("2.1/13", defence="registry.access:Grants.allow")
def test_nothing_is_allowed_without_a_grant() -> None:
    assert not Grants(()).allow("tool", "github__get_me")


def test_matching_is_case_sensitive_and_of_the_whole_name() -> None:
    held = Grants.parse(["tool:github__get_me"])
    assert held.allow("tool", "github__get_me")
    assert not held.allow("tool", "GitHub__get_me")
    assert not held.allow("tool", "github__get_me2")
    assert not held.allow("prompt", "github__get_me")


def test_a_server_grant_stands_for_its_tools_prompts_and_resources() -> None:
    held = Grants.parse(["server:git*"])
    assert all(held.allow(kind, "github__x") for kind in ("tool", "prompt", "resource"))
    assert held.allow("server", "github")
    assert not held.allow("tool", "slack__x")


def test_a_star_in_a_server_grant_never_reaches_into_the_tools_name() -> None:
    assert not Grants.parse(["server:a*b"]).allow("tool", "ac__b__x")
    assert not Grant("server", "a*b").covers(Grant("tool", "a*b__x"))


def test_a_tool_grant_does_not_allow_methods_of_the_server() -> None:
    assert not Grants.parse(["tool:*"]).allow("server", "github")


@pytest.mark.attack("2.2/8", defence="registry.access:Grants.cover")
def test_nobody_hands_out_what_they_do_not_hold() -> None:
    held = Grants.parse(["tool:github__*", "admin:keys"])
    assert held.cover(Grants.parse(["tool:github__list_*", "tool:github__*"]))
    assert not held.cover(Grants.parse(["tool:git*"]))
    assert not held.cover(Grants.parse(["tool:github__x", "model:gpt-4o"]))
    assert not held.cover(Grants.parse(["admin:*"]))
    assert EVERYTHING.cover(held)


def test_hostile_names_cost_no_lasting_memory() -> None:
    held = Grants.parse(["model:gpt*"])
    for number in range(MEMO_SIZE + 100):
        held.allow("model", f"x{number}")
    held.allow("model", "y" * 1_000_000)
    assert len(held._memo) == MEMO_SIZE


@pytest.mark.attack("2.1/29", "2.2/17", defence="registry.access:matches")
def test_a_hostile_glob_is_decided_in_linear_time() -> None:
    def taken(length: int) -> float:
        """CPU of a decision over so long a name, that nobody has remembered."""
        began = time.process_time()
        for _ in range(10):
            assert not Grants((Grant("model", "*a" * 3 + "b"),)).allow("model", "a" * length)
        return time.process_time() - began

    # who tries all ways takes some 500 times as long for a name eight times as long
    assert min(taken(480) for _ in range(3)) < 64 * min(taken(60) for _ in range(3))
    assert not Grants((Grant("model", "*a" * 140 + "b"),)).allow("model", "a" * 200_000)


def test_through_an_agent_only_what_both_may_is_allowed() -> None:
    own = Grants.parse(["tool:git__*", "agent:right", "model:m"])
    caller = Grants.parse(["tool:git__read", "tool:time__*", "server:git", "agent:left"])
    held = Through.of(own, caller, delegates=False)
    assert held.allow("tool", "git__read")
    assert held.allow("model", "m")  # the agent's own
    assert not any(
        held.allow(*what) for what in (("tool", "time__now"), ("agent", "right"), ("agent", "left"), ("model", "n"))
    )
    assert held.reach("tool", "git__")
    assert not held.reach("tool", "time__")
    lent = Through.of(own, Grants(()), delegates=True)
    assert lent.allow("tool", "git__write")
    assert not lent.allow("tool", "time__now")
    assert not lent.cover(Grants.parse(["model:m"]))
    assert not held.cover(Grants.parse(["tool:git__read"]))


def test_through_several_agents_the_caller_stays_the_first() -> None:
    caller = Grants.parse(["tool:time__*"])
    outer = Through.of(Grants.parse(["agent:inner", "tool:secret__*"]), caller, delegates=True)
    inner = Through.of(Grants.parse(["tool:*"]), outer, delegates=False)
    assert inner.allow("tool", "time__now")
    assert not inner.allow("tool", "secret__x")
    assert len({inner, outer, Through.of(Grants.parse(["tool:*"]), caller, delegates=False)}) == 2
