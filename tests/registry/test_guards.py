"""What guards find, what they make of it, and what they cost those who mean harm."""

from __future__ import annotations

import ast
import json
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry.declared.config import ConfigInvalid, read
from registry.errors import ApprovalRequired, GuardRefused, UpstreamInvalid
from registry.judged import encode
from registry.rules import first_look, guard_kinds, guards, redacting
from registry.rules.guard_kinds import build
from registry.rules.guards import Finding, Guard, GuardInvalid, Guards, GuardSpec, Pipeline, Seen, is_clear, lines, look
from registry.rules.guards import read as read_answer

SK = "sk-abcdefghijklmnopqrstuvwx"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"


def found(kind: str, value: Any, **members: Any) -> Any:
    """The value as a guard of this kind redacts it; None: it found nothing."""
    finding = build(kind, members).check(value, "#")
    return None if finding is None else finding.redacted


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"use {SK}.", "use #."),
        ("ghp_" + "a1B2" * 9, "#"),
        ("id AKIAIOSFODNN7EXAMPLE, yes", "id #, yes"),
        ("xoxb-1234567890-abcdef", "#"),
        (f"Bearer {JWT}", "Bearer #"),
        (f"a {PEM} b", "a # b"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEow never ends", "#"),
        ('password="x9$kQ2!mZ7"', 'password="#"'),
        ("API_KEY: q8Wn2Lp0Xs7T", "API_KEY: #"),
        ({"password": "x9$kQ2!mZ7"}, {"password": "#"}),
        ({SK: 1, "n": [SK]}, {"#": 1, "n": ["#"]}),
        ({SK: 1, SK + "y": 2}, {"#": 1, "# 2": 2}),
    ],
)
@pytest.mark.attack("2.1/12")
def test_secrets_are_found_in_texts_values_and_names(text: Any, left: Any) -> None:
    assert found("secrets", text) == left


_PIECES = [
    "token",
    "password",
    "a=",
    ": ",
    '"',
    "\n",
    " ",
    "=>",
    "x9$kQ2!mZ7",
    "q8Wn2Lp0Xs7T",
    SK,
    "a@b.org",
    "::1",
    "4111111111111111",
    "aé€…b",
    "\\",
    "\\n",
    "\t",
    "/",
    "\x01",
]
_said = st.lists(st.sampled_from(_PIECES), max_size=4).map("".join)
_values = st.recursive(
    _said
    | st.sampled_from([4111111111111111, 12345678.9, 9.87654321e15, 9.87654321e18, 5.5e20, 1, None, True])
    | st.floats(min_value=1e7, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_said, inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("kind", ["secrets", "pii"])
@given(value=_values)
def test_a_guard_with_a_hint_finds_nothing_where_the_hint_does_not_match(kind: str, value: Any) -> None:
    look: Any = build(kind, {})
    assert look.check(value, "#") is None or look.hint.search(lines(value).encode()) is not None


_GUARDS = Pipeline([Guard.of(GuardSpec(kind, "redact"), build(kind, {})) for kind in ("secrets", "pii")])


def _found(value: Any) -> bool:
    return any(one.look.check(value, "#") is not None for one in _GUARDS.guards)


@given(
    value=_values,
    ascii=st.booleans(),
    indent=st.sampled_from([None, 1]),
    separators=st.sampled_from([(",", ":"), (" , ", " : ")]),
)
def test_what_the_first_look_clears_holds_nothing_however_it_is_written(
    value: Any, ascii: bool, indent: int | None, separators: tuple[str, str]
) -> None:
    written = json.dumps(value, ensure_ascii=ascii, indent=indent, separators=separators).encode()
    for data in (written, written.replace(b"/", b"\\/"), encode(value)):
        is_found = _found(value)
        for is_json in (True, False):
            assert not (is_clear(_GUARDS, "results", data, is_json=is_json) and is_found)


@given(text=st.text("0123456789.eE+-", min_size=8, max_size=24))
@example(text="1999999999999.99999")
@example(text="0.4111111111111111e16")
@example(text="4111111111110.99999999")
def test_numbers_that_readers_write_otherwise_are_not_cleared(text: str) -> None:
    for data in (f'{{"password":{text}}}'.encode(), f'{{"n":[{text}]}}'.encode()):
        try:
            value = json.loads(data)
        except ValueError:
            assert not is_clear(_GUARDS, "results", data)
        else:
            assert not (is_clear(_GUARDS, "results", data) and _found(value))


@pytest.mark.parametrize(
    "data",
    [
        json.dumps({"a": "jo@example.org"}).encode("utf-16"),
        b'{"a":"jo\\u0040example.org"}',
        b'{"a":"jo@example.org","a":"b"}',
        b'{"a":"b","a":"jo@example.org"}',
        b'{"pass\\u0077ord":"x9$kQ2!mZ7"}',
        b'{"a":"b"',
        b'\xef\xbb\xbf{"a":"b"}',
        b'{"a":"\xff"}',
        b"",
        b"[" * 100_000,
    ],
)
@pytest.mark.attack("2.1/12", defence="registry.rules.guards:is_clear")
def test_what_readers_may_read_otherwise_is_not_cleared(data: bytes) -> None:
    assert not guards.is_clear(_GUARDS, "results", data)


@pytest.mark.attack("2.1/12")
@pytest.mark.parametrize("data", [b'{"a":"\xff"}', json.dumps({"a": "b"}).encode("utf-16"), b'{"a":"\\u0062"}'])
def test_what_was_read_before_is_not_cleared_where_other_readers_may_see_other_characters(data: bytes) -> None:
    assert not is_clear(_GUARDS, "results", data, is_json=True)


@pytest.mark.attack("2.1/12")
@pytest.mark.parametrize(
    "letters", ["1- ", "ab.-_", "kxoghp_- ", "eyJ.x-", "secrtpawdokn_ ", "\u00e9\u4e2d@ ", "AKIZ/ "]
)
def test_what_stands_behind_much_that_nearly_matches_is_not_cleared(letters: str) -> None:
    """In texts of which RE2 cannot remember all that it has seen."""
    text = "".join(random.Random(1).choices(letters, k=80_000))
    assert is_clear(_GUARDS, "results", encode([text]))
    assert not is_clear(_GUARDS, "results", encode([text, "jo@example.org"]))


def test_the_first_look_clears_ordinary_answers_also_those_with_line_ends_and_quotes() -> None:
    said = {"id": "c-1", "created": 1763890000, "usage": {"total_tokens": 12}, "text": 'He said:\n"Go/\tno"', "x": 0.25}
    assert is_clear(_GUARDS, "results", encode(said))
    assert is_clear(_GUARDS, "results", json.dumps(said, indent=1).encode())
    words = Guard.of(GuardSpec("words", "block", of=("arguments",)), build("patterns", {"allow": ["Go"]}))
    with_words = Pipeline([*_GUARDS.guards, words])
    assert is_clear(with_words, "results", encode(said))
    assert not is_clear(with_words, "arguments", encode(said))


def test_counts_of_tokens_do_not_make_guards_look_closer() -> None:
    look: Any = build("secrets", {})
    usage = {"usage": {"prompt_tokens": 160, "total_tokens": 340, "x_tokens": {"y": None}, "token": "a b"}}
    assert look.hint.search(lines(usage).encode()) is None
    assert look.hint.search(lines({"tokens": ["x9$kQ2!mZ7"]}).encode()) is not None


@pytest.mark.parametrize(
    "text",
    ["sk-learn", "the password is required", "password=aaaaaaaaaa", "risk-management-and-other-things", {"token": 5}],
)
def test_what_only_looks_like_a_secret_is_none(text: Any) -> None:
    assert found("secrets", text) is None


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("mail jo@example.org now", "mail # now"),
        ("mail jö.x+y@bücher.example!", "mail #!"),
        ("call +49 30 901820 or (212) 555-0123", "call # or #"),
        ("IBAN DE89 3704 0044 0532 0130 00 AND MORE", "IBAN # AND MORE"),
        ("GB82WEST12345698765432", "#"),
        ("card 4111 1111 1111 1111 12", "card # 12"),
        ("5500-0000-0000-0004", "#"),
        (4111111111111111, "#"),
        ("from 10.0.0.1 and 2001:db8::1.", "from # and #."),
    ],
)
def test_personal_data_is_found_by_its_own_sums(text: Any, left: Any) -> None:
    assert found("pii", text) == left


@pytest.mark.parametrize(
    "text",
    [
        "DE89370400440532013001",
        "4111111111111112",
        "1.2.3",
        "300.1.1.1",
        "std::vector, std::feed",
        "at 12:30:45",
        "a @ b",
        1234567,
    ],
)
def test_what_only_looks_like_personal_data_is_none(text: Any) -> None:
    assert found("pii", text) is None


def test_only_the_kinds_that_are_asked_for_are_looked_for() -> None:
    assert found("pii", "jo@example.org at 10.0.0.1", kinds=["ip"]) == "jo@example.org at #"


def test_patterns_deny_with_exceptions_or_allow_alone() -> None:
    assert found("patterns", "ticket ACME-12, ACME-7", deny=["ACME-[0-9]+"], allow=["ACME-7"]) == "ticket #, ACME-7"
    assert found("patterns", {"path": "docs/a.md"}, allow=["docs/[a-z.]+"]) is None
    assert found("patterns", {"path": "docs/../x"}, allow=["docs/[a-z]+"]) == {"path": "#"}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("see https://good.example/x and http://evil.example/y", "see https://good.example/x and #"),
        ("https://a.good.example:8080/x", None),
        ("https://good.example@evil.example/", "#"),
        ("https://evil.example\\@good.example/", "#"),
        ("https:evil.example/x", "#"),
        ("HTTPS://GOOD.EXAMPLE./x", None),
        ("https://good%2eexample/", "#"),
        ("![x](https://evil.example/?q=1)", "![x](#"),
        ("https://good.exampl\u0435/", "#"),
    ],
)
@pytest.mark.attack("2.1/12")
def test_urls_are_judged_by_the_host_that_all_readers_agree_upon(text: str, left: str | None) -> None:
    assert found("urls", text, allow=["good.example", "*.good.example"]) == left


def test_denied_hosts_go_before_allowed_ones() -> None:
    assert found("urls", "https://x.example", allow=["*.example"], deny=["x.*"]) == "#"


def test_sizes_are_bytes_items_and_levels() -> None:
    for members, what in (({"bytes": 10}, "10 bytes"), ({"items": 2}, "2 items"), ({"depth": 2}, "2 levels")):
        check = build("size", members)
        finding = check.check({"a": [{"b": 1}, 2, 3]}, "#")
        assert finding is not None
        assert what in finding.what
        assert check.check({"a": 1}, "#") is None


async def test_the_pipeline_goes_in_order_and_each_sees_what_is_left() -> None:
    mail = Guard.of(GuardSpec("mail", "redact"), build("pii", {"kinds": ["email"]}))
    rest = Guard.of(GuardSpec("rest", "block"), build("patterns", {"deny": ["example"]}))
    assert await look(Pipeline([mail, rest]), "arguments", {"to": "jo@example.org"}) == Seen(
        {"to": "[redacted: mail]"}, (("mail", "email"),)
    )
    with pytest.raises(GuardRefused, match="'rest' keeps back the results of this call: it found pattern 1") as refused:
        await look(Pipeline([mail, rest]), "results", {"to": "example.net"})
    assert "example.net" not in str(refused.value)


async def test_what_has_to_be_approved_is_approved_before_it_is_sent_and_kept_back_after() -> None:
    guard = Guard.of(GuardSpec("mail", "require_approval"), build("pii", {}))
    with pytest.raises(ApprovalRequired, match="mail"):
        await look(Pipeline([guard]), "arguments", "jo@example.org")
    assert (await look(Pipeline([guard]), "arguments", "jo@example.org", approved=True)).value == "jo@example.org"
    with pytest.raises(GuardRefused):
        await look(Pipeline([guard]), "results", "jo@example.org", approved=True)


@pytest.mark.attack("2.1/37")
async def test_a_guard_that_fails_lets_nothing_pass_and_says_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def check(self, value: Any, _mark: str) -> Finding | None:
            raise ValueError(value)

    with pytest.raises(GuardRefused, match="it failed") as refused:
        await look(Pipeline([Guard.of(GuardSpec("own", "redact"), Broken())]), "results", "the secret")
    with pytest.raises(GuardRefused, match="not Unicode"):
        await look(Pipeline([Guard.of(GuardSpec("s", "redact"), build("secrets", {}))]), "results", "\ud800")
    assert "the secret" not in str(refused.value) + caplog.text
    assert refused.value.__cause__ is None


async def test_a_size_that_is_too_large_cannot_be_redacted_so_it_is_blocked() -> None:
    with pytest.raises(GuardRefused):
        await look(Pipeline([Guard.of(GuardSpec("s", "redact"), build("size", {"bytes": 1}))]), "results", "long")


@pytest.mark.parametrize("data", [b'{"a":1,"a":2}', b'{"a":1,"\\u0061":2}', b"[" * 200 + b"]" * 200, b'{"a":\xff}'])
def test_an_answer_that_readers_may_read_differently_is_not_looked_at(data: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        read_answer(data, "peer")


@pytest.mark.attack("2.1/12", "2.1/27")
def test_escapes_hide_nothing() -> None:
    written = '{"a": "' + "".join(f"\\u{ord(letter):04x}" for letter in SK) + '"}'
    assert found("secrets", read_answer(written.encode(), "peer")) == {"a": "#"}


@pytest.mark.parametrize(
    "text",
    [
        "a" * 300_000,
        "a@" * 150_000,
        "1 " * 150_000,
        ":" * 300_000,
        "DE89" * 75_000,
        "password=" * 30_000,
        "-" * 300_000,
        "".join(chr(33 + number * number * 7919 % 94) for number in range(300_000)),
    ],
)
@pytest.mark.attack("2.1/29")
def test_hostile_texts_cost_time_in_proportion_to_their_length(text: str) -> None:
    """Each is looked at by all guards; what takes quadratic time would take minutes, and end at pytest's own deadline."""
    began = time.process_time()
    for kind, members in (
        ("secrets", {}),
        ("pii", {}),
        ("patterns", {"deny": ["(a|a)*$", "(.*)*x"]}),
        ("urls", {"deny": ["x"]}),
    ):
        build(kind, members).check([text], "#")
    is_clear(_GUARDS, "results", encode([text[: guards.LARGE - 10]]))
    assert time.process_time() - began < 60


@pytest.mark.attack("2.1/29")
def test_no_guard_of_the_hub_looks_with_a_pattern_that_is_not_re2s() -> None:
    """RE2 takes time linear in the text (github.com/google/re2): the proof is that there is nothing else."""
    for module in (first_look, guard_kinds, guards, redacting):
        tree = ast.walk(ast.parse(Path(module.__file__ or "").read_text()))
        named = [one.name for node in tree if isinstance(node, ast.Import) for one in node.names]
        assert not {"re", "regex", "fnmatch"} & set(named)


@pytest.mark.parametrize("pattern", ["(a|a)*$", "(a*)*b", "(.*)*x", "a?" * 30 + "a" * 30, "(?:a|aa)+$", r"^(\w+\s?)*$"])
@pytest.mark.attack("2.1/29")
def test_a_text_eight_times_as_long_takes_no_more_than_some_eight_times_as_long(pattern: str) -> None:
    """A step beyond linear would take 64 times as long; CPU time, the least of three."""
    look = build("patterns", {"deny": [pattern]})

    def cost(text: str) -> float:
        times = []
        for _ in range(3):
            began = time.process_time()
            look.check(text, "#")
            times.append(time.process_time() - began)
        return min(times)

    assert cost("a" * 800_000 + "!") < 30 * max(cost("a" * 100_000 + "!"), 1e-3)


def test_a_package_brings_a_type_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "codenames_guard.py").write_text(
        "from registry.rules.guards import Finding\n"
        "class Codenames:\n"
        "    def __init__(self, names): self.names = names\n"
        "    def check(self, value, mark): return Finding('codename', mark) if value in self.names else None\n"
    )
    metadata = tmp_path / "codenames-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: codenames\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[hubbub.guards]\ncodenames = codenames_guard:Codenames\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert found("codenames", "Aurora", names=["Aurora"]) == "#"
    assert found("codenames", "Dawn", names=["Aurora"]) is None
    with pytest.raises(GuardInvalid, match="codenames cannot be made: TypeError"):
        build("codenames", {"nix": 1})


class Hanging:
    """A guard of somebody else's that never ends."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def check(self, value: Any, mark: str) -> Finding | None:
        self.free.wait()
        return None


@pytest.mark.attack("2.1/29")
async def test_a_guard_of_others_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "PATIENCE_S", 0.01)
    hanging = Hanging()
    slow = Guard.of(GuardSpec("slow", "block"), hanging)
    try:
        with pytest.raises(GuardRefused, match=r"'slow' keeps back the results of this call: it has not looked"):
            await look(Pipeline([slow]), "results", {"a": 1})
        with pytest.raises(GuardRefused):
            await guards.tried(slow, "results", 1)
        assert (
            await look(Pipeline([Guard.of(GuardSpec("s", "block"), build("secrets", {}))]), "results", "x")
        ).value == "x"
    finally:
        hanging.free.set()


def test_entries_without_guards_have_none_at_all() -> None:
    guards = Guards([Guard.of(GuardSpec("s", "block", ("server:github",)), build("secrets", {}))])
    assert guards.about("tool", "other__x") is None
    found = guards.about("tool", "github__x")
    assert found is not None
    assert found.guards == guards.guards


@pytest.mark.parametrize(
    ("guard", "fault"),
    [
        ({"type": "nix", "action": "block"}, "type 'nix' is none of secrets, pii, patterns, size, urls"),
        ({"type": "patterns", "action": "block"}, "needs deny, allow or both"),
        ({"type": "patterns", "action": "block", "deny": [r"(a)\1"]}, "is not a pattern of RE2"),
        ({"type": "patterns", "action": "block", "denied": ["a"]}, "guards.g.denied: unknown key"),
        ({"type": "pii", "action": "block", "kinds": ["name"]}, "guards.g.kinds.0: must be one of email"),
        ({"type": "size", "action": "redact", "bytes": 5}, "a size cannot be redacted"),
        ({"type": "presidio", "action": "block"}, 'type presidio needs: pip install "hubbub[presidio]"'),
        ({"type": "presidio", "action": "block", "threshold": 2}, "guards.g.threshold"),
        ({"type": "secrets", "action": "hide"}, "guards.g.action: must be one of"),
        ({"type": "secrets", "action": "block", "when": "1 +"}, "when is not CEL"),
    ],
)
def test_the_file_says_what_is_wrong_with_a_guard(guard: dict[str, Any], fault: str) -> None:
    text = json.dumps({"guards": {"g": {"entries": ["tool:*"], **guard}}})
    with pytest.raises(ConfigInvalid, match=r"guards\.g") as invalid:
        read(text, file="hub.yaml", environ={}, read_file=lambda _name: "")
    assert fault in str(invalid.value)
