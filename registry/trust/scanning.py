"""What is suspicious in the words of servers and agents: hidden instructions, characters that nobody sees, names that look alike. Pure.

Each finding says how grave it is. Patterns are bounded, so that no text takes longer than its length allows.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from registry.access import SEPARATOR

Severity = Literal["info", "warning", "critical"]
Rule = Literal["instructions", "invisible", "escapes", "look-alike", "shadowing", "schema"]

MAX_FINDINGS = 20
"""Of one thing; what has more is not better known by them."""

MAX_EXCERPT = 160

PIECE = 32_768
"""Characters of a text that are searched at a time: a search gives the interpreter to nobody else."""

LONGEST = 300
"""No pattern finds more than this; pieces overlap by as much."""

UNREAD = frozenset({"_meta", "icons"})
"""Members that no model is given."""


class Finding(msgspec.Struct, frozen=True, gc=False):
    """One thing that was noticed."""

    rule: Rule
    severity: Severity
    where: str
    """The path of the member, such as `inputSchema.properties.path.description`."""
    text: str
    """What it is, in words, with what was found made visible."""


class Names:
    """The names of all tools, by what they are to be found by."""

    def __init__(self, tools: Iterable[tuple[str, str]]) -> None:
        """`tools`: pairs of server and tool."""
        self.tools = frozenset(tools)
        self.words: dict[str, list[tuple[str, str]]] = defaultdict(list)
        """By the words by which a text may speak of them."""
        self.looks: dict[str, list[tuple[str, str]]] = defaultdict(list)
        """By what they look like."""
        for server, tool in sorted(self.tools):
            self.words[f"{server}{SEPARATOR}{tool}"].append((server, tool))
            if _DISTINCT.search(tool):
                self.words[tool].append((server, tool))
            if len(tool) > 2:
                self.looks[skeleton(tool)].append((server, tool))


def visible(text: str) -> str:
    r"""The text with all that is not seen, or moves what is seen, as `\uXXXX`; lines stay lines."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if _is_seen(one) else _escape(one) for one in text)


def _is_seen(one: str) -> bool:
    return one == "\n" or (one.isprintable() and not _UNSEEN.match(one))


def _escape(one: str) -> str:
    return f"\\u{ord(one):04x}" if ord(one) <= 0xFFFF else f"\\U{ord(one):08x}"


def scan(described: object, *, names: Names | None = None, server: str = "", name: str = "") -> tuple[Finding, ...]:
    """Look through all texts of one decoded description. `names`: with what it is to be compared."""
    found: list[Finding] = []
    for where, text, is_name in _texts(described):
        found += _of_text(where, text, is_name=is_name)
        if names is not None and not is_name:
            found += _shadowing(where, text, names, server)
        if len(found) >= MAX_FINDINGS:
            break
    if isinstance(described, dict):
        found += _of_schemas(described)
    if names is not None and name:
        found += _look_alikes(name, names, server)
    return tuple(
        sorted(set(found), key=lambda one: (_ORDER[one.severity], one.where, one.rule, one.text))[:MAX_FINDINGS]
    )


_ORDER: Mapping[Severity, int] = {"critical": 0, "warning": 1, "info": 2}


def worst(findings: Collection[Finding]) -> Finding | None:
    """The gravest finding; None: there is none."""
    return min(findings, key=lambda one: _ORDER[one.severity], default=None)


def _texts(found: object, where: str = "") -> Iterator[tuple[str, str, bool]]:
    """Each text with its path, and whether it is the name of a member."""
    if isinstance(found, str):
        yield where, found, False
    elif isinstance(found, dict):
        for key, value in found.items():
            if where or key not in UNREAD:
                path = f"{where}.{visible(key)}" if where else visible(key)
                yield path, key, True
                yield from _texts(value, path)
    elif isinstance(found, list):
        for at, value in enumerate(found):
            yield from _texts(value, f"{where}[{at}]")


# Characters that are not seen.

_UNSEEN = re.compile("[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]")  # fmt: skip
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_TAGS = re.compile("[\U000e0000-\U000e007f]")
_FLAGS = re.compile("\U0001f3f4\U000e0067\U000e0062(?:\U000e0065\U000e006e\U000e0067|\U000e0073\U000e0063\U000e0074|\U000e0077\U000e006c\U000e0073)\U000e007f")  # fmt: skip
"""The flags of England, Scotland and Wales, which are written with tag characters."""
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{3,}")
_ESCAPES = re.compile("[\x1b\x9b\x90\x9d]")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_HIDDEN = re.compile("[\u00ad\u034f\u115f\u1160\u180e\u200b\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb]")  # fmt: skip
"""What no script needs; those that join letters, and the marks of direction, some do."""
_SEPARATORS = re.compile("[\u2028\u2029]")


def _of_text(where: str, text: str, *, is_name: bool) -> Iterator[Finding]:
    if not (text.isascii() and text.isprintable()):
        yield from _of_characters(where, text, is_name=is_name)
    yield from _of_words(where, text, is_name=is_name)


def _of_characters(where: str, text: str, *, is_name: bool) -> Iterator[Finding]:
    looks: tuple[tuple[re.Pattern[str], Rule, Severity, str], ...] = (
        (_ESCAPES, "escapes", "critical", "an escape sequence of terminals"),
        (_CONTROLS, "escapes", "warning", "control characters"),
        (_TAGS, "invisible", "critical", "tag characters, which only a model reads"),
        (_SELECTORS, "invisible", "critical", "variation selectors in a row, which hide data"),
        (_BIDI, "invisible", "critical", "characters that turn the direction of what is read"),
        (_HIDDEN, "invisible", "critical" if is_name else "warning", "characters that nobody sees"),
        (_SEPARATORS, "invisible", "warning", "separators of lines or paragraphs, which nobody sees"),
    )
    if not text.isascii():
        text = _FLAGS.sub("", text)
    for pattern, rule, severity, words in looks:
        found = pattern.search(text)
        if found is not None:
            yield Finding(rule, severity, where, f"{words}: {_excerpt(text, found)}")
            if rule == "escapes":
                return


def _excerpt(text: str, found: re.Match[str]) -> str:
    around = text[max(found.start() - 20, 0) : min(found.end(), found.start() + MAX_EXCERPT) + 20]
    return visible(" ".join(around.split(" ")))[:MAX_EXCERPT].replace("\n", " ")


# Words that are meant for a model and not for its user.


class _Words(NamedTuple):
    near: tuple[str, ...]
    """The pattern is tried where one of these is."""
    pattern: re.Pattern[str]
    severity: Severity
    what: str


def _words(near: str, pattern: str, severity: Severity, what: str) -> _Words:
    return _Words(tuple(near.split("|")), re.compile(pattern), severity, what)


_WORDS = (
    _words(
        "ignore|disregard|forget",
        r"\b(?:ignore|disregard|forget)\b[^.!?]{0,40}?\b(?:previous|prior|above|earlier|preceding|other|your)\b[^.!?]{0,40}?"
        r"\b(?:instructions?|prompts?|rules|messages|guidelines)\b",
        "critical",
        "it tells a model to ignore its instructions",
    ),
    _words(
        "important|hidden|instruction|critical",
        r"<\s?/?\s?(?:important|hidden|instructions?|critical)\s?>",
        "critical",
        "it marks words as orders",
    ),
    _words(
        "inst]|<",
        r"\[/?inst\]|<\|(?:im_start|im_end|system|user|assistant|endoftext)\|>|<<sys>>",
        "critical",
        "it imitates the marks between a model's messages",
    ),
    _words(
        "not |never |n't |without ",
        r"\b(?:do not|don't|never|must not|should not|without)\b[^.!?]{0,30}?\b(?:tell|telling|mention|mentioning|inform|informing"
        r"|notify|notifying|alert|alerting)\b[^.!?]{0,30}?\b(?:user|human|operator|anyone|anybody)\b",
        "critical",
        "it is to be kept from the user",
    ),
    _words(
        ".ssh|id_rsa|id_ed25519|.aws/|/etc/|mcp.json|.netrc|.kube/|.env|claude_desktop_config",
        r"\b(?:read|cat|open|load|send|include|pass|contents?|copy|paste|upload|print)\b.{0,60}?(?:\.ssh\b|\bid_(?:rsa|ed25519)\b"
        r"|\.aws/credentials|/etc/(?:passwd|shadow)|\bmcp\.json|\.netrc\b|\.kube/config|[/ `'\"]\.env\b|claude_desktop_config)",
        "critical",
        "it asks for a file of secrets",
    ),
    _words(
        "before |whenever ",
        r"\b(?:before|whenever)\b[^.!?]{0,20}\b(?:using|calling|invoking|running|use|call)\b[^.!?]{0,12}\bany\b[^.!?]{0,20}\btools?\b",
        "warning",
        "it wants to be asked before other tools",
    ),
    _words(
        "conversation|history|prompt|key|password|credential|environment",
        r"\b(?:send|forward|post|upload|exfiltrate|transmit|include|append|pass)\b[^.!?]{0,60}?\b(?:(?:entire|whole|full|complete) conversation"
        r"|(?:chat|message|conversation) history|system prompt|api[ _-]keys?|passwords?|credentials|private keys?|environment variables)\b",
        "warning",
        "it asks for what the conversation or its surroundings hold",
    ),
    _words(
        "instructions|system prompt|you are now",
        r"\b(?:new|real|actual|secret) instructions\b|\bsystem prompt ?:|\byou are now (?:a|an|in|the)\b",
        "warning",
        "it speaks to a model as its operator",
    ),
)

_NEAR = re.compile("|".join(re.escape(near) for words in _WORDS for near in words.near))

_ASKED_FOR = re.compile(
    r"(?:system_?prompt|(?:conversation|chat|message)_?history|chain_?of_?thought|full_?conversation)\Z"
)


def _of_words(where: str, text: str, *, is_name: bool) -> Iterator[Finding]:
    said = _folded(text)
    for start in range(0, len(said), PIECE):
        yield from _of_piece(where, said[start : start + PIECE + LONGEST])
    if is_name and _ASKED_FOR.match(said):
        yield Finding("instructions", "warning", where, "an argument of this name asks for the conversation itself")


def _of_piece(where: str, said: str) -> Iterator[Finding]:
    for words in _WORDS if _NEAR.search(said) else ():
        if any(near in said for near in words.near):
            found = words.pattern.search(said)
            if found is not None:
                yield Finding("instructions", words.severity, where, f"{words.what}: {_excerpt(said, found)}")


def _folded(text: str) -> str:
    """The text as a model understands it: without what is not seen, and with letters that look alike as one."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _UNSEEN.sub("", text)).translate(_ALIKE)
    return " ".join(text.lower().split())


# Names.

_ALIKE = {
    ord(other): letter
    for letter, others in {
        "a": "\u0430\u03b1",
        "c": "\u0441",
        "d": "\u0501",
        "e": "\u0435\u03b5",
        "g": "\u0261",
        "h": "\u04bb",
        "i": "\u0456\u0131",
        "j": "\u0458",
        "k": "\u03ba",
        "l": "\u04cf\u0269\u03b9",
        "n": "\u0578",
        "o": "\u043e\u0585\u03bf",
        "p": "\u0440\u03c1",
        "q": "\u051b",
        "s": "\u0455",
        "t": "\u03c4",
        "u": "\u057d\u03c5",
        "v": "\u03bd",
        "w": "\u051d",
        "x": "\u0445\u03c7",
        "y": "\u0443\u04af\u028f\u03b3",
    }.items()
    for other in others
}
"""Small letters of other scripts that look like Latin ones (a part of Unicode's confusables)."""

_NUMBERS = str.maketrans({"0": "o", "1": "l", "|": "l"})


@lru_cache(maxsize=65_536)
def skeleton(name: str) -> str:
    """What is left of a name for a quick eye: two names with the same one look alike."""
    plain = unicodedata.normalize("NFKD", name.casefold()).translate(_ALIKE)
    plain = "".join(one for one in plain if not unicodedata.combining(one))
    return _UNSEEN.sub("", plain).translate(_NUMBERS).replace("i", "l").replace("rn", "m").replace("vv", "w")


def _look_alikes(name: str, names: Names, server: str) -> Iterator[Finding]:
    severity: Severity = "warning" if name.isascii() else "critical"
    for other, one in names.looks.get(skeleton(name), ()):
        if one.casefold() != name.casefold():
            whose = "the same server" if other == server else other
            yield Finding("look-alike", severity, "name", f"it looks like {visible(one)} of {whose}")
    if not name.isascii() and any(one.isascii() and one.isalpha() for one in name) and name.translate(_ALIKE) != name:
        yield Finding("look-alike", "warning", "name", f"it mixes letters that look alike: {ascii(name)[1:-1]}")


_WORD = re.compile(r"[\w-]{4,160}")
_SIMPLE_WORD = re.compile(r"[\w-]+")
_ORDERS = re.compile(
    r"\b(?:instead|before|after|always|must|whenever|never|do not|don't|rather than|first|every time)\b"
)
_DISTINCT = re.compile(r"[_-]|[a-z][A-Z]")


def _shadowing(where: str, text: str, names: Names, server: str) -> Iterator[Finding]:
    """Other servers' tools that a text speaks of."""
    words = set(_WORD.findall(text))
    for word in sorted(words & names.words.keys()):
        for other, one in names.words[word]:
            if other == server or (word == one and (server, one) in names.tools):
                continue
            is_meant = word != one or other in _SIMPLE_WORD.findall(text)
            severity: Severity = "critical" if is_meant and _ORDERS.search(text.lower()) else "warning"
            yield Finding("shadowing", severity, where, f"it speaks of {visible(one)}, a tool of {other}")


# Schemas that take their readers somewhere, or all their time.

MAX_PATTERN = 1000
MAX_CHOICES = 1000

_NESTED = re.compile(r"\([^()]{0,200}[+*]\)[+*{]")
_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})


def _of_schemas(described: dict[str, object]) -> Iterator[Finding]:
    for member in ("inputSchema", "outputSchema"):
        yield from _of_schema(described.get(member), member)


def _of_schema(found: object, where: str) -> Iterator[Finding]:
    if isinstance(found, dict):
        for key, value in found.items():
            path = f"{where}.{visible(key)}"
            if isinstance(value, str):
                yield from _of_keyword(key, value, path)
            elif key == "enum" and isinstance(value, list) and len(value) > MAX_CHOICES:
                yield Finding("schema", "warning", path, f"it has {len(value):,} choices")
            yield from _of_schema(value, path)
    elif isinstance(found, list):
        for at, value in enumerate(found):
            yield from _of_schema(value, f"{where}[{at}]")


def _of_keyword(key: str, value: str, path: str) -> Iterator[Finding]:
    if key in _REFERENCES and not value.startswith("#"):
        yield Finding("schema", "critical", path, f"it refers to another document: {visible(value)[:MAX_EXCERPT]}")
    if key == "pattern" and (len(value) > MAX_PATTERN or _NESTED.search(value)):
        yield Finding("schema", "warning", path, "a pattern that may take very long to match")
