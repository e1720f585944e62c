"""What rules say of calls: order, conditions, what cannot be decided, and what lists may show."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.access import Grants
from registry.errors import ApprovalRequired, PolicyRefused
from registry.identity import Circumstances, Principal, Tree
from registry.judged import JsonObject
from registry.rules.policy import MAX_ARGUMENT_BYTES, Effect, Facts, Judge, Policy, Rule, RuleInvalid, under

RITA = Facts("key_1", "rita", "team_1", None, "team_2", None)


def judge(*rules: Rule, facts: Facts = RITA) -> Judge:
    return Policy(rules).judge(facts)


def effect(
    judge: Judge,
    name: str = "github__delete",
    arguments: JsonObject | None = None,
    tree: Tree = Tree(),  # noqa: B008
) -> str:
    return judge.verdict("tool", name, Circumstances({} if arguments is None else arguments, lambda: tree)).effect


def test_without_a_rule_that_fits_the_grant_stands() -> None:
    assert effect(judge(Rule("other", "deny", ("tool:jira__*",)))) == "allow"


def test_the_first_rule_that_holds_decides() -> None:
    ours = Rule("ours", "allow", ("tool:github__*",), "arguments.repo.startsWith('acme/')")
    rest = Rule("rest", "deny", ("tool:github__*",))
    assert effect(judge(ours, rest), arguments={"repo": "acme/x"}) == "allow"
    assert effect(judge(ours, rest), arguments={"repo": "other/x"}) == "deny"
    assert effect(judge(rest, ours), arguments={"repo": "acme/x"}) == "deny"


@pytest.mark.parametrize(
    "condition",
    [
        "arguments.absent == 1",
        "arguments.repo > 5",
        "1 / (size(arguments) - 1) == 1",
        "arguments.repo.matches('[')",
        "arguments.repo",
    ],
)
@pytest.mark.attack("2.1/37", "2.1/34")
def test_a_condition_that_cannot_be_decided_counts_against_the_call(condition: str) -> None:
    assert effect(judge(Rule("no", "deny", when=f"{condition}")), arguments={"repo": "x"}) == "deny"
    assert effect(judge(Rule("yes", "allow", when=condition), Rule("no", "deny")), arguments={"repo": "x"}) == "deny"


@pytest.mark.attack("2.1/25", "2.2/25", defence="registry.rules.policy:_is_too_large")
def test_arguments_too_large_to_look_at_count_against_the_call() -> None:
    rule = Rule("long", "deny", when="arguments.text == 'x'")
    assert effect(judge(rule), arguments={"text": "y"}) == "allow"
    assert effect(judge(rule), arguments={"text": "y" * MAX_ARGUMENT_BYTES}) == "deny"


@pytest.mark.parametrize(
    "condition",
    [
        "arguments == {'a': 1, 'b': 'x'}",
        "arguments.size() == 2",
        "arguments.size // of all\n () == 2",
        "arguments . a == 1 && size(arguments) == 2",
        "arguments['a'] + arguments.a == 2",
        "arguments // none\n .a == 1",
        "has(arguments.a) && !has(arguments.c) && arguments\n.b == 'x'",
        "'b' in arguments",
        "arguments.exists(name, name == 'b')",
        "'arguments.c' != arguments.b",
    ],
)
def test_a_condition_sees_each_argument_that_it_looks_at(condition: str) -> None:
    assert (
        effect(judge(Rule("r", "allow", when=condition), Rule("no", "deny")), arguments={"a": 1, "b": "x"}) == "allow"
    )


_names = st.sampled_from(["owner", "Owner", "ow_ner", "name", "na-me", "user", "größe", 'a"b', "text", "x"])
_arguments = st.dictionaries(
    _names,
    st.recursive(
        st.sampled_from(["acme", '{"owner":1}', "größe", 1, None]),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_names, inner, max_size=2),
        max_leaves=4,
    ),
    max_size=3,
)


@pytest.mark.parametrize(
    "condition",
    [
        "has(arguments.owner) && arguments.owner != 'acme'",
        "arguments.user.name == 'acme'",
        "!has(arguments.user)",
        "arguments.owner == 'acme' || has(arguments.x)",
    ],
)
@given(arguments=_arguments)
def test_a_call_without_the_members_that_a_condition_names_is_decided_as_if_it_were_asked(
    condition: str, arguments: JsonObject
) -> None:
    always = f"{condition} // looks at everything"
    assert effect(judge(Rule("r", "deny", when=condition)), arguments=arguments) == effect(
        judge(Rule("r", "deny", when=always)), arguments=arguments
    )
    assert effect(judge(Rule("r", "allow", when=condition), Rule("no", "deny")), arguments=arguments) == effect(
        judge(Rule("r", "allow", when=always), Rule("no", "deny")), arguments=arguments
    )


@pytest.mark.parametrize("effects", [("deny", "allow"), ("allow", "deny"), ("require_approval", "allow")])
@pytest.mark.parametrize("condition", ["has(arguments.owner) && arguments.owner != 'acme'", "!has(arguments.user)"])
@given(arguments=_arguments, ascii=st.booleans(), indent=st.sampled_from([None, 1]))
def test_what_passes_as_its_caller_wrote_it_would_be_allowed(
    effects: tuple[Effect, Effect], condition: str, arguments: JsonObject, ascii: bool, indent: int | None
) -> None:
    found = judge(Rule("asked", effects[0], when=condition), Rule("rest", effects[1]))
    written = json.dumps(arguments, ensure_ascii=ascii, indent=indent).encode()
    for data in (written, written.replace(b"w", b"\\u0077")):
        if found.passes("tool", "github__delete", data):
            assert effect(found, arguments=json.loads(data)) == "allow"


def test_a_call_without_arguments_that_can_be_judged_is_refused_by_rules_about_arguments() -> None:
    found = judge(Rule("long", "allow", when="arguments.text == 'x'"))
    assert found.verdict("model", "gpt", Circumstances(None)).effect == "deny"


def test_rules_know_principal_entry_time_and_task_tree() -> None:
    assert effect(judge(Rule("r", "deny", when="principal.name == 'rita' && principal.user == null"))) == "deny"
    assert effect(judge(Rule("r", "deny", when="entry.server == 'github' && entry.kind == 'tool'"))) == "deny"
    assert effect(judge(Rule("r", "deny", when="now > timestamp('2020-01-01T00:00:00Z')"))) == "deny"
    for when, holds, fails in (
        ("tree.hops > 2", Tree(3), Tree(2)),
        ("'agent:a' in tree.callers", Tree(callers=("model:m", "agent:a")), Tree(callers=("model:agent:a",))),
        ("size(tree.callers) > 1", Tree(callers=("agent:a", "model:m")), Tree(callers=("model:m",))),
        ("tree.callers.exists(one, one.startsWith('agent:'))", Tree(callers=("agent:a",)), Tree(callers=("model:m",))),
        ("has(tree.seconds_left) && tree.seconds_left < 5", Tree(seconds_left=4.9), Tree()),
        ("tree.seconds_left < 5", Tree(), Tree(seconds_left=5.1)),  # what is not known counts against the call
        ("arguments.tree.depth == 'tree.depth'", Tree(), Tree(seconds_left=5.1)),
    ):
        one = judge(Rule("r", "deny", when=when))
        said = {"tree": {"depth": "tree.depth"}} if fails.seconds_left is None else {"tree": {"depth": ""}}
        assert (
            effect(one, tree=holds, arguments={"tree": {"depth": "tree.depth"}}),
            effect(one, tree=fails, arguments=said),
        ) == ("deny", "allow"), when


def test_a_condition_looks_at_no_member_of_the_tree_that_there_is_not() -> None:
    with pytest.raises(RuleInvalid, match=r"tree\.hops, tree\.callers, tree\.seconds_left"):
        judge(Rule("r", "deny", when="tree.depth > 2"))


def test_what_no_call_can_pass_is_hidden_and_what_some_may_is_not() -> None:
    assert judge(Rule("no", "deny", ("tool:github__*",))).hides("tool", "github__delete")
    assert not judge(Rule("no", "deny", when="arguments.x == 1")).hides("tool", "github__delete")
    assert judge(Rule("a", "deny", when="arguments.x == 1"), Rule("b", "deny")).hides("tool", "github__delete")
    assert not judge(Rule("a", "allow", when="arguments.x == 1"), Rule("b", "deny")).hides("tool", "github__delete")


def test_rules_are_not_about_the_admin_api() -> None:
    assert not judge(Rule("no", "deny")).hides("admin", "keys")
    with pytest.raises(RuleInvalid, match="admin"):
        Policy([Rule("no", "deny", ("admin:keys",))])


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("1 +", "is not CEL"),
        ("request.x == 1", "no request"),
        ("principal.password == ''", "principal.team"),
        ("principal == 1", "principal.team"),
        ("arguments.a.all(x, arguments.b.all(y, x == y))", "more than once"),
        ("'" + "x" * 2000 + "' == ''", "2000"),
    ],
)
@pytest.mark.attack("2.1/34")
def test_a_condition_that_cannot_be_used_is_refused_with_its_reason(condition: str, said: str) -> None:
    with pytest.raises(RuleInvalid, match=said):
        Policy([Rule("r", "deny", when=condition)])


@pytest.mark.attack("2.1/16")
def test_lists_and_calls_are_the_same_grants() -> None:
    policy = Policy([Rule("no", "deny", ("tool:github__delete",), "principal.name == 'rita'")])
    held = Grants.parse(["server:github"])
    rita = under(policy, Principal("key_1", "rita", held))
    otto = under(policy, Principal("key_2", "otto", held))
    assert not rita.grants.allow("tool", "github__delete")
    assert rita.grants.allow("tool", "github__list")
    assert otto.grants.allow("tool", "github__delete")
    assert rita.grants != otto.grants


@pytest.mark.parametrize("member", ["id", "team_id", "user_id"])
def test_rules_that_ask_for_an_id_take_nobody_else_of_that_name_for_its_holder(member: str) -> None:
    policy = Policy([Rule("no", "deny", when=f"principal.{member} != '{member}_1'")])
    held = Grants.parse(["server:github"])
    for number, is_let_in in ((1, True), (2, False)):
        ids = {one: f"{one}_{number}" for one in ("id", "team_id", "user_id")}
        other = under(policy, Principal(**ids, name="rita", team="ops", user="rita", grants=held))
        assert other.grants.allow("tool", "github__delete") is is_let_in


def test_principals_that_are_the_same_to_all_rules_share_their_lists() -> None:
    policy = Policy([Rule("no", "deny", ("tool:github__delete",))])
    held = Grants.parse(["server:github"])
    one, two = (under(policy, Principal(f"key_{n}", f"k{n}", held)).grants for n in (1, 2))
    assert one == two
    assert hash(one) == hash(two)


def test_check_says_which_rule_and_why() -> None:
    found = judge(Rule("night", "deny", reason="not at night"), facts=RITA)
    with pytest.raises(PolicyRefused, match=r"'night' refuses this call: not at night"):
        found.check("tool", "github__delete", Circumstances({}))
    found = judge(Rule("ask", "require_approval"))
    with pytest.raises(ApprovalRequired, match="'ask'"):
        found.check("tool", "github__delete", Circumstances({}))
    found.check("tool", "github__delete", Circumstances({}), approved=True)
