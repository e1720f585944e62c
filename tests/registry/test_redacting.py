"""Rules that redact: which members they find, and that they are guards and decide nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from registry.rules.guards import Pipeline, look
from registry.rules.policy import Policy, Rule, RuleInvalid
from registry.rules.redacting import Fields, with_rules


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ({"ssn": 1, "name": "jo"}, {"ssn": "#", "name": "jo"}),
        ({"all": [{"ssn": {"a": 1}}, {"SSN": 2}]}, {"all": [{"ssn": "#"}, {"SSN": "#"}]}),
        ({"customer": {"Address": "x"}, "s_s_n": 1}, {"customer": {"Address": "#"}, "s_s_n": "#"}),
        ({"customer": {"address": "x"}, "address": "y"}, {"customer": {"address": "#"}, "address": "y"}),
        ({"customer": [{"address": "x"}]}, {"customer": [{"address": "#"}]}),
        ({"a": {"customer": {"address": [1]}}}, {"a": {"customer": {"address": "#"}}}),
        ({"text": '{"ssn": "1", "n": [{"ssn": 2}]}'}, {"text": '{"ssn":"#","n":[{"ssn":"#"}]}'}),
        ({"customer": '{"address": "x"}'}, {"customer": '{"address":"#"}'}),
        ('[{"s\\u0073n": 1}]', '[{"ssn":"#"}]'),
    ],
)
@pytest.mark.attack("2.1/12")
def test_members_are_found_wherever_they_stand(value: Any, left: Any) -> None:
    finding = Fields(["ssn", "customer.address"]).check(value, "#")
    assert finding is not None
    assert finding.redacted == left


@pytest.mark.parametrize("value", [{"name": "ssn"}, "{ssn", '{"x": 1}', {"address": {"customer": 1}}, 5, None])
def test_other_things_stay_as_they_are(value: Any) -> None:
    assert Fields(["ssn", "customer.address"]).check(value, "#") is None


def test_what_was_found_is_named_without_its_value() -> None:
    finding = Fields(["ssn", "b"]).check({"ssn": "secret", "b": 1, "c": {"ssn": 2}}, "#")
    assert finding is not None
    assert finding.what == "member b, member ssn"


async def test_a_rule_looks_for_all_that_it_names() -> None:
    rule = Rule("hide", "redact", redact=("email", "secrets"), fields=("ssn",))
    guards = with_rules(None, [Rule("no", "deny"), rule])
    assert guards is not None
    seen = await look(
        Pipeline(guards.guards), "results", {"ssn": 1, "a": "jo@example.org", "b": "sk-abcdefghijklmnopqrstuvwx"}
    )
    mark = "[redacted: hide]"
    assert seen.value == {"ssn": mark, "a": mark, "b": mark}
    assert with_rules(None, [Rule("no", "deny")]) is None


@pytest.mark.parametrize(
    "rule", [Rule("x", "redact"), Rule("x", "deny", redact=("pii",)), Rule("x", "allow", fields=("a",))]
)
def test_only_rules_that_redact_say_what(rule: Rule) -> None:
    with pytest.raises(RuleInvalid, match="redact and fields are of rules whose effect is redact"):
        Policy([rule])


def test_rules_that_were_stored_before_there_was_redaction_are_read() -> None:
    assert msgspec.json.decode(b'["no", "deny", ["tool:x"], null, "why"]', type=Rule) == Rule(
        "no", "deny", ("tool:x",), None, "why"
    )
