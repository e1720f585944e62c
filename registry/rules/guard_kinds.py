"""What guards look for: secrets, personal data, patterns, sizes, URLs; others by entry points. Pure.

All patterns are RE2's: whatever they and the texts are, they take time linear in the text.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from ipaddress import ip_address
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from pydantic import Field

from registry.access import matches
from registry.members import PositiveInt, Shape, Text
from registry.rules.first_look import Sizes
from registry.rules.guards import NAME, Check, Finding, GuardInvalid, Own, rewritten

GROUP = "hubbub.guards"
"""The entry points of third parties' guards: each is called with the guard's own members, by name, and returns a `Check`."""

MAX_PATTERNS = 100
MAX_PATTERN_CHARS = 1000


class Span(NamedTuple):
    """Where something was found in a text, in bytes of its UTF-8."""

    start: int
    end: int
    what: str


Spans = Callable[[bytes], Iterator[Span]]


class TextCheck(Own, ABC):
    """Looks at each text of a value by itself, also at names of members."""

    @abstractmethod
    def spans(self, text: bytes, member: str | None) -> Iterator[Span]:
        """What is found in a text, which is the value of `member`; spans may overlap."""

    def check(self, value: Any, mark: str) -> Finding | None:
        """As `Check.check`."""
        found: Counter[str] = Counter()

        def rewrite(text: str, member: str | None) -> str:
            data = text.encode()
            spans = sorted(self.spans(data, member))
            if not spans:
                return text
            found.update(span.what for span in spans)
            return _cut(data, spans, mark.encode())

        redacted = rewritten(value, rewrite)
        return Finding(", ".join(sorted(found)), redacted) if found else None


def _cut(data: bytes, spans: Sequence[Span], mark: bytes) -> str:
    parts: list[bytes] = []
    at = 0
    for start, end, _ in spans:
        if start >= at:
            parts += data[at:start], mark
        at = max(at, end)
    parts.append(data[at:])
    return b"".join(parts).decode(errors="replace")


def _compile(pattern: str) -> Any:
    import re2  # type: ignore[import-untyped]  # noqa: PLC0415  # most hubs have no guards, and it takes 3 MB

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        words = error.args[0] if error.args else b""
        said = words.decode(errors="replace") if isinstance(words, bytes) else str(words)
        raise GuardInvalid(f"{pattern[:80]!r} is not a pattern of RE2: {said[:120]}") from None


def _any_of(patterns: Sequence[str]) -> Any:
    return _compile("|".join(f"(?:{pattern})" for pattern in patterns))


_KEYS = (
    r"\bsk-[A-Za-z0-9_-]{20,}",  # OpenAI, Anthropic, the hub itself
    r"\bgh[opsur]_[A-Za-z0-9]{36,}",
    r"\bgithub_pat_[A-Za-z0-9_]{22,}",
    r"\bglpat-[A-Za-z0-9_-]{20,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\bAIza[A-Za-z0-9_-]{35}",
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    r"\b[rs]k_live_[A-Za-z0-9]{16,}",
)
_JWT = r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
_PEM_BEGINS = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PEM = (
    rf"{_PEM_BEGINS}(?s:.*?)"
    r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\z)"
)
_NAMES = r"(?:pass(?:word|wd|phrase)|pwd|secret|token|credential|(?:api|access|secret|private|auth)[_-]?key)s?"
_ASSIGNED = rf"""(?i){_NAMES}["']?\s*(?:=|:|=>)\s*["']?([^\s"',;<>{{}}]{{8,}})"""
_NAMED = rf"(?i){_NAMES}$"
_NAMED_HINT = rf"""(?i){_NAMES}"\s*:\s*(?:\[|"[^ ]{{8}}|"[^ ]*[^\x00-\x7f]|-?[0-9.]*(?:[0-9]{{7}}|e))"""
"""Where a member with such a name may have a value that is a secret: eight bytes may be two characters."""
LEAST_ENTROPY = 3.0
"""Bits a character: words and placeholders have less, what was drawn at random has more."""


class _Secrets(TextCheck):
    def __init__(self) -> None:
        self._formats = [
            (_compile("|".join(_KEYS)), "key"),
            (_compile(_JWT), "JWT"),
            (_compile(_PEM), "private key"),
        ]
        self._assigned = _compile(_ASSIGNED)
        self._named = _compile(_NAMED)
        self._in_text = _any_of([*_KEYS, _JWT, _PEM_BEGINS, _ASSIGNED])
        self.hint = _any_of([*_KEYS, _JWT, _PEM_BEGINS, _ASSIGNED, _NAMED_HINT])

    def spans(self, text: bytes, member: str | None) -> Iterator[Span]:
        if self._in_text.search(text) is not None:
            yield from self._said(text)
        if member and 8 <= len(text) <= 1000 and self._is_secret(member, text):
            yield Span(0, len(text), "password")

    def _said(self, text: bytes) -> Iterator[Span]:
        for pattern, what in self._formats:
            for one in pattern.finditer(text):
                start, end = one.span()
                yield Span(start, end, what)
        for one in self._assigned.finditer(text):
            if _entropy(one[1]) >= LEAST_ENTROPY:
                start, end = one.span(1)
                yield Span(start, end, "password")

    def _is_secret(self, member: str, text: bytes) -> bool:
        named = self._named.search(member.encode()) is not None
        return named and b" " not in text and _entropy(text) >= LEAST_ENTROPY


def _entropy(data: bytes) -> float:
    return -sum(count / len(data) * math.log2(count / len(data)) for count in Counter(data).values())


_EMAIL = r"([\pL\pN._%+-]+@[\pL\pN-]+(?:\.[\pL\pN-]+)+)"
_PHONE = r"((?:\+|\b00)[1-9](?:[ ().\/-]{0,2}[0-9]){7,14}\b|(?:\b|\()[2-9][0-9]{2}\)?[ .-][0-9]{3}[ .-][0-9]{4}\b)"
_IBAN = r"(?i)\b([A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,30})"
_CARD = r"\b([2-6](?:[ -]?[0-9]){12,18})\b"
_IPV4 = r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b"
_IP = rf"(?:^|[^0-9A-Za-z_:.])({_IPV4}|(?:[0-9A-Fa-f]{{0,4}}:){{2,7}}(?:{_IPV4}|[0-9A-Fa-f]{{1,4}}\b)?)"
_IBAN_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 FO18 "
    "FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 "
    "LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 "
    "ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
)
_LENGTHS = {one[:2].encode(): int(one[2:]) for one in _IBAN_LENGTHS.split()}
_CARD_LENGTHS = (19, 16, 15, 14, 13)
_JOINTS = b" -"


class _Pii(TextCheck):
    def __init__(self, kinds: Sequence[str]) -> None:
        self.hint = _any_of([_PII[kind][0] for kind in kinds])
        self._kinds = [(kind, _compile(_PII[kind][0]), _PII[kind][1]) for kind in kinds]

    def spans(self, text: bytes, member: str | None) -> Iterator[Span]:
        if self.hint.search(text) is None:
            return
        for kind, pattern, end_of in self._kinds:
            at = 0
            while (one := pattern.search(text, at)) is not None:
                start, end = one.span(1)
                length = end_of(one[1])
                if length:
                    yield Span(start, start + length, kind)
                at = start + (length or 1)
                if not length and end_of is _whole_address:
                    at = end


def _all(found: bytes) -> int:
    return len(found)


def _whole_address(found: bytes) -> int:
    try:
        address = ip_address(found.decode())
    except ValueError:
        return 0
    return 0 if address.is_unspecified else len(found)


def _iban(found: bytes) -> int:
    """How long the IBAN is that something begins with; 0: it is none."""
    length = _LENGTHS.get(found[:2].upper(), 0)
    end = _end(found, length)
    text = found[:end].translate(None, _JOINTS).decode().upper()
    if not length or len(text) != length or found[end : end + 1].isalnum():
        return 0
    number = int("".join(str(int(letter, 36)) for letter in text[4:] + text[:4]))
    return end if number % 97 == 1 else 0


def _card(found: bytes) -> int:
    """How long the card number is that something begins with; 0: it is none."""
    for length in _CARD_LENGTHS:
        end = _end(found, length)
        digits = found[:end].translate(None, _JOINTS)
        if len(digits) == length and not found[end : end + 1].isdigit() and _luhn(digits):
            return end
    return 0


def _end(found: bytes, count: int) -> int:
    """Where the first `count` characters end that are no joints."""
    for at, letter in enumerate(found):
        count -= letter not in _JOINTS
        if count == 0:
            return at + 1
    return len(found)


def _luhn(digits: bytes) -> bool:
    total = 0
    for at, digit in enumerate(reversed(digits)):
        doubled = (digit - 48) * (1 + at % 2)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


_PII: Mapping[str, tuple[str, Callable[[bytes], int]]] = {
    "email": (_EMAIL, _all),
    "phone": (_PHONE, _all),
    "iban": (_IBAN, _iban),
    "card": (_CARD, _card),
    "ip": (_IP, _whole_address),
}


_ANY_NUMBER = r"(?:^|[:,\[])\s*-?(?:[0-9]{19,}|[0-9]{8,}\.)"
"""Large numbers of which not every spelling is the one that a pattern is asked about."""


class _Patterns(TextCheck):
    is_of_form = True

    def __init__(self, allow: Sequence[str], deny: Sequence[str]) -> None:
        self._allow = [_compile(pattern) for pattern in allow]
        self._deny = [_compile(pattern) for pattern in deny]
        if deny and all(map(_is_of_any_part, deny)):
            self.hint = _hint([*deny, _ANY_NUMBER])

    def spans(self, text: bytes, member: str | None) -> Iterator[Span]:
        if not self._deny:
            if member != NAME and not self._allowed(text):
                yield Span(0, len(text), "what no pattern allows")
            return
        for number, pattern in enumerate(self._deny, start=1):
            for one in pattern.finditer(text):
                start, end = one.span()
                if end > start and not self._allowed(one[0]):
                    yield Span(start, end, f"pattern {number}")

    def _allowed(self, text: bytes) -> bool:
        return any(pattern.fullmatch(text) for pattern in self._allow)


def _is_of_any_part(pattern: str) -> bool:
    """Whether what it matches in a text it matches in JSON that has that text too: it has neither an end of texts or lines nor `\\Q`."""
    for literal in ("\\\\", "\\[", "\\^", "\\$"):
        pattern = pattern.replace(literal, ".")
    bare = pattern.replace("[^", "[")
    return not any(mark in bare for mark in ("^", "$", "\\A", "\\z", "\\Q"))


def _hint(patterns: Sequence[str]) -> Any:
    """What matches where one of them does; None: they are too large together, or name the same group."""
    try:
        return _any_of(patterns)
    except GuardInvalid:
        return None


_URL = r"""(?i)\b(?:https?|wss?|ftp):[/\\]*[^\s<>"'`/\\][^\s<>"'`]*"""
_SCHEME = r"(?i)(?:https?|wss?|ftp):"
_AUTHORITY_END = "/?#"


class _Urls(TextCheck):
    def __init__(self, allow: Sequence[str], deny: Sequence[str]) -> None:
        self._allow = allow
        self._deny = deny
        self._url = _compile(_URL)
        self.hint = _compile(_SCHEME)

    def spans(self, text: bytes, member: str | None) -> Iterator[Span]:
        for one in self._url.finditer(text):
            host = _host(one[0].decode(errors="replace"))
            if host is None or not self._allows(host):
                start, end = one.span()
                yield Span(start, end, "URL")

    def _allows(self, host: str) -> bool:
        if any(matches(glob, host) for glob in self._deny):
            return False
        return not self._allow or any(matches(glob, host) for glob in self._allow)


def _host(url: str) -> str | None:
    """The host that all who read a URL agree upon; None: they may not."""
    rest = url.partition(":")[2]
    slashes = len(rest) - len(rest.lstrip("/\\"))
    authority = rest[slashes:]
    for mark in _AUTHORITY_END:
        authority = authority.partition(mark)[0]
    if rest[:slashes] != "//" or "\\" in authority or "%" in authority:
        return None
    host = authority.rpartition("@")[2]
    if not host.startswith("["):
        host = host.partition(":")[0]
    try:
        return host.rstrip(".,;:!)]").encode("idna").decode().lower() or None
    except UnicodeError:
        return None


class _Size(Own):
    is_of_form = True

    def __init__(self, size: int | None, items: int | None, depth: int | None) -> None:
        self.sizes = Sizes(size, items, depth)
        self._size = size
        self._items = items
        self._depth = depth

    def check(self, value: Any, _mark: str) -> Finding | None:
        if self._size is not None and len(msgspec.json.encode(value)) > self._size:
            return Finding(f"more than {self._size} bytes")
        items, depth = _measured(value)
        if self._items is not None and items > self._items:
            return Finding(f"more than {self._items} items")
        if self._depth is not None and depth > self._depth:
            return Finding(f"more than {self._depth} levels")
        return None


def _measured(value: Any) -> tuple[int, int]:
    """How many values are in a value, and how deep they stand."""
    items, depth, level = 0, 0, [value]
    while level:
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner.extend(one.values())
            elif isinstance(one, list):
                inner.extend(one)
        items += len(inner)
        depth += any(isinstance(one, dict | list) for one in level)
        level = inner
    return items, depth


class SecretsShape(Shape):
    """The own members of a guard for secrets: none."""

    def build(self) -> Check:
        """What looks for them."""
        return _Secrets()


Pii = Literal["email", "phone", "iban", "card", "ip"]


class PiiShape(Shape):
    """Of one for personal data."""

    kinds: Annotated[tuple[Pii, ...], Field(min_length=1)] = ("email", "phone", "iban", "card", "ip")

    def build(self) -> Check:
        """What looks for it."""
        return _Pii(self.kinds)


class PatternsShape(Shape):
    """Of one for patterns."""

    allow: tuple[Text, ...] = ()
    deny: tuple[Text, ...] = ()

    def build(self) -> Check:
        """What looks for them; raises `GuardInvalid`."""
        patterns = [*self.allow, *self.deny]
        if not patterns:
            raise GuardInvalid("needs deny, allow or both")
        if len(patterns) > MAX_PATTERNS or any(len(one) > MAX_PATTERN_CHARS for one in patterns):
            raise GuardInvalid(f"more than {MAX_PATTERNS} patterns, or one of more than {MAX_PATTERN_CHARS} characters")
        return _Patterns(self.allow, self.deny)


class SizeShape(Shape):
    """Of one for sizes."""

    bytes: PositiveInt | None = None
    items: PositiveInt | None = None
    depth: PositiveInt | None = None

    def build(self) -> Check:
        """What measures; raises `GuardInvalid`."""
        if self.bytes is self.items is self.depth is None:
            raise GuardInvalid("needs bytes, items or depth")
        return _Size(self.bytes, self.items, self.depth)


class UrlsShape(Shape):
    """Of one for URLs; the members are globs over hosts."""

    allow: tuple[Text, ...] = ()
    deny: tuple[Text, ...] = ()

    def build(self) -> Check:
        """What looks for them; raises `GuardInvalid`."""
        if not self.allow and not self.deny:
            raise GuardInvalid("needs allow, deny or both")
        return _Urls([glob.lower() for glob in self.allow], [glob.lower() for glob in self.deny])


class PresidioShape(Shape):
    """Of one that asks presidio-analyzer, which comes with the extra `presidio`."""

    language: Text = "en"
    entities: tuple[Text, ...] = ()
    """As presidio calls them, such as `US_SSN`; empty: all that it knows."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    model: Text | None = None
    """One of spaCy that is installed; None: none, so that only what has a pattern is found."""

    def build(self) -> Check:
        """What looks for them; raises `GuardInvalid`."""
        try:
            from registry.rules.presidio import Presidio  # noqa: PLC0415  # an extra of 320 MB, which takes two seconds
        except ImportError:
            raise GuardInvalid('type presidio needs: pip install "hubbub[presidio]"') from None
        return Presidio(self.language, entities=self.entities, threshold=self.threshold, model=self.model)


KINDS: Mapping[str, type[SecretsShape | PiiShape | PatternsShape | SizeShape | UrlsShape | PresidioShape]] = {
    "secrets": SecretsShape,
    "pii": PiiShape,
    "patterns": PatternsShape,
    "size": SizeShape,
    "urls": UrlsShape,
    "presidio": PresidioShape,
}


def build(kind: str, members: Mapping[str, Any]) -> Check:
    """What a guard of a type looks with.

    Raises:
        GuardInvalid: there is no such type, or it cannot be made of these members.
        pydantic.ValidationError: members of one of the hub's own types.
    """
    if kind in KINDS:
        return KINDS[kind].model_validate(members).build()
    found = tuple(entry_points(group=GROUP, name=kind))
    if not found:
        raise GuardInvalid(f"type {kind!r} is none of {', '.join(KINDS)}, and nothing that is installed brings it")
    try:
        check: Check = found[0].load()(**members)
    except Exception as error:  # noqa: BLE001  # boundary: third parties' code, read with the file
        raise GuardInvalid(f"{kind} cannot be made: {type(error).__name__}: {str(error)[:200]}") from None
    return check
