"""What a member of hub.yaml or of an admin API body may hold: annotated types, shared by all shapes. Pure."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from registry.access import MAX_GRANT_CHARS, Grant
from registry.floors import read_floor
from registry.identity import DOORS, DoorName
from registry.limits import MOST

T = TypeVar("T")

MIN_KEY_CHARS = 20
"""Keys written in the file (surface.md 3): shorter ones are guessed."""

MIN_SECRET_CHARS = 32
"""Sealing keys: as long as the cipher's own key."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_TEAM_ALIAS = re.compile(r"(?!team_)[a-z0-9][a-z0-9._-]{0,63}")
_USER_NAME = re.compile(r"(?!user_)[a-z0-9][a-z0-9._@+-]{0,127}")
_EMAIL = re.compile(r"[^\s@<>,;\"\x00-\x1f]{1,64}@[^\s@<>,;\"\x00-\x1f]{1,189}")
_RULE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_KEY_NAME = re.compile(rf"(?!key_|(?:admin|hub|operator)$){_RULE_NAME.pattern}")


def _named(pattern: re.Pattern[str]) -> Any:
    """What a JSON Schema of the annotated type says of it: the pattern of the whole text."""
    return Field(json_schema_extra={"pattern": f"^(?:{pattern.pattern})$"})


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        port_is_valid = parts.port != 0
    except ValueError:
        port_is_valid = False
    if (
        not port_is_valid
        or parts.scheme not in {"http", "https"}
        or not parts.hostname
        or re.search(r"[\s\x00-\x1f]", text)
    ):
        raise ValueError("must be an http:// or https:// address")
    return text


def is_http_url(value: object) -> bool:
    """Whether a value is written as an address, not as a file's path."""
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _public_url(text: str) -> str:
    if urlsplit(_url(text)).query or urlsplit(text).fragment:
        raise ValueError("must be an address without ? and #")
    return text.rstrip("/")


def is_private(url: str) -> bool:
    """Whether nobody on the way can read or change what goes there: it is https, or this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in {"localhost", "127.0.0.1", "::1"}


def _issuer(text: str) -> str:
    parts = urlsplit(_url(text))
    if parts.query or parts.fragment:
        raise ValueError("must be an address without ? and #")
    if not is_private(text):
        raise ValueError("must be an https:// address: who can change what it answers can be anybody here")
    return text


def _origin(text: str) -> str:
    parts = urlsplit(_url(text))
    if text != f"{parts.scheme}://{parts.netloc}":
        raise ValueError("must be an origin as browsers send it, such as https://app.example")
    return text.lower()


def check_network(text: str) -> str:
    """Return a network in CIDR form; raises `ValueError` with the rule."""
    try:
        return str(ip_network(text))
    except ValueError:
        raise ValueError("must be a network such as 10.20.0.0/16, with zeros behind its prefix") from None


def _proxy(text: str) -> str:
    if urlsplit(text).scheme != "http" or not urlsplit(text).hostname:
        raise ValueError("must be an HTTP proxy such as http://proxy.example:3128")
    return text


def _database(text: str) -> str:
    if text.startswith(("postgresql://", "postgres://")):
        raise ValueError("this version keeps its data in SQLite; write sqlite:///path/to/file.db")
    if not re.fullmatch(r"sqlite:///[^:?].*", text):
        raise ValueError("must read sqlite:///path/to/file.db")
    return text


def _grpc_url(text: str) -> str:
    if not re.fullmatch(r"(https?://)?[^/\s:@]+:[0-9]{1,5}|(https?://)?\[[0-9a-fA-F:.]+\]:[0-9]{1,5}", text):
        raise ValueError("must read host:port, or https://host:port for TLS")
    _url(text if "://" in text else f"http://{text}")
    return text


def _all_different(texts: list[T]) -> list[T]:
    if len(set(texts)) < len(texts):
        raise ValueError("has one twice")
    return texts


def header_map(headers: dict[str, str]) -> dict[str, str]:
    """Check names and values of headers; raises `ValueError`."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of {name} holds a character that a header cannot hold")
    return headers


def _long(text: str, least: int) -> str:
    if len(text) < least:
        raise ValueError(f"needs at least {least} characters")
    return text


def _grant(text: str) -> str:
    Grant.parse(text)
    return text


def check_key_name(name: str) -> str:
    """Return `name` if a key may be called so; raises `ValueError` with the rule.

    No name reads like a key's id, or is one of a principal that is the operator's: rules and the audit log know callers by name.
    """
    if not _KEY_NAME.fullmatch(name):
        raise ValueError(
            "a key's name has at most 64 of A-Z a-z 0-9 . _ @ -, begins with a letter or digit, not with key_,"
            " and is not admin, hub or operator"
        )
    return name


def check_team_alias(alias: str) -> str:
    """Return `alias` if a team may be called so; raises `ValueError` with the rule. No alias reads like a team's id."""
    if not _TEAM_ALIAS.fullmatch(alias):
        raise ValueError(
            "a team's alias has at most 64 of a-z 0-9 . _ -, begins with a letter or digit, not with team_"
        )
    return alias


def _rule_name(name: str) -> str:
    if not _RULE_NAME.fullmatch(name):
        raise ValueError("a rule's name has at most 64 of A-Z a-z 0-9 . _ @ - and begins with a letter or digit")
    return name


def check_user_name(name: str) -> str:
    """Return `name` if a user may be called so; raises `ValueError` with the rule. No name reads like a user's id."""
    if not _USER_NAME.fullmatch(name):
        raise ValueError(
            "a user's name has at most 128 of a-z 0-9 . _ @ + -, begins with a letter or digit, not with user_"
        )
    return name


def check_email(text: str) -> str:
    """Return `text` if it reads like an address for mail; raises `ValueError`."""
    if not _EMAIL.fullmatch(text):
        raise ValueError("must be an address such as rita@example.com")
    return text


def _networks(texts: list[str]) -> list[str]:
    if not 1 <= len(texts) <= MAX_NETWORKS:
        raise ValueError(f"must name 1 to {MAX_NETWORKS} networks")
    return texts


def _doors(names: list[DoorName]) -> list[DoorName]:
    if not names:
        raise ValueError(f"must name some of {', '.join(DOORS)}")
    return _all_different(names)


def _scope(text: str) -> str:
    if not _SCOPE.fullmatch(text):
        raise ValueError("must be one scope, without spaces and quotes")
    return text


def number(value: object) -> object:
    """Refuse true and false where a number belongs."""
    if isinstance(value, bool):  # pydantic would read true as 1
        raise ValueError("must be a number")  # noqa: TRY004  # pydantic collects ValueErrors
    return value


MAX_AMOUNT = 1_000_000_000
"""Of seconds and USD: in billionths they still fit into the database's integers."""

MAX_DAYS = 36_500
"""For how long something is kept: a century. Moments beyond the year 9999 have no date."""

PositiveInt = Annotated[int, BeforeValidator(number), Field(gt=0, le=MOST)]
MAX_INSTANCES = 32
"""Of one agent: each call looks at all of them."""

MAX_NETWORKS = 100
"""Of one key: each of its requests looks at all of them."""

PositiveFloat = Annotated[float, BeforeValidator(number), Field(gt=0, le=MAX_AMOUNT, allow_inf_nan=False)]
Days = Annotated[float, BeforeValidator(number), Field(gt=0, le=MAX_DAYS, allow_inf_nan=False)]
Hours = Annotated[float, BeforeValidator(number), Field(gt=0, le=MAX_DAYS * 24, allow_inf_nan=False)]
Usd = Annotated[float, BeforeValidator(number), Field(ge=0, le=MAX_AMOUNT, allow_inf_nan=False)]
Port = Annotated[int, BeforeValidator(number), Field(ge=1, le=65535)]
Url = Annotated[str, AfterValidator(_url)]
HeaderMap = Annotated[dict[str, str], AfterValidator(header_map)]
KeyText = Annotated[str, AfterValidator(lambda text: _long(text, MIN_KEY_CHARS))]
SecretText = Annotated[str, AfterValidator(lambda text: _long(text, MIN_SECRET_CHARS))]
GrantText = Annotated[str, AfterValidator(_grant)]
Text = Annotated[str, Field(min_length=1)]
GrantGlob = Annotated[str, Field(min_length=1, max_length=MAX_GRANT_CHARS)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
DatabaseUrl = Annotated[str, AfterValidator(_database)]
Origin = Annotated[str, AfterValidator(_origin)]
Network = Annotated[str, AfterValidator(check_network)]
Networks = Annotated[list[Network], AfterValidator(_networks)]
DoorNames = Annotated[list[DoorName], AfterValidator(_doors)]
IssuerUrl = Annotated[str, AfterValidator(_issuer)]
ProxyUrl = Annotated[str, AfterValidator(_proxy)]
GrpcUrl = Annotated[str, AfterValidator(_grpc_url)]
Scope = Annotated[str, AfterValidator(_scope)]
Instances = Annotated[list[Url], Field(min_length=1, max_length=MAX_INSTANCES), AfterValidator(_all_different)]
KeyName = Annotated[str, AfterValidator(check_key_name), _named(_KEY_NAME)]
RuleName = Annotated[str, AfterValidator(_rule_name), _named(_RULE_NAME)]
TeamAlias = Annotated[str, AfterValidator(check_team_alias), _named(_TEAM_ALIAS)]
UserName = Annotated[str, AfterValidator(check_user_name), _named(_USER_NAME)]
Email = Annotated[str, AfterValidator(check_email), _named(_EMAIL)]
FloorRule = Annotated[str | tuple[str, ...], BeforeValidator(read_floor)]


class Shape(BaseModel):
    """A map whose members are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
