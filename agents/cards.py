"""Agent cards: an upstream's read tolerantly, the hub's own built from it. Pure.

A published card is built anew from the members the protocol knows, never patched, and no address of the upstream
survives in any of them. Fetching, caching and serving are elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from agents.wire import Dialect
from registry import judged
from registry.errors import ParseFailed
from registry.judged import JsonObject

SECURITY_SCHEME = "hubbub"
"""The name of the hub's own security scheme in the cards it publishes."""

TEXT_MODES = ["text/plain"]

MAX_ADDRESSES = 32
"""Addresses that a card may name as its own: each is looked for in every text of the card."""

MAX_USER = 256
"""Characters of a URL before its host that are seen to be part of it."""


@dataclass(frozen=True, slots=True)
class Interface:
    """Where an upstream speaks one dialect over JSON-RPC, as its card says."""

    url: str
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """An upstream's card: where it can be called, and its members as they came."""

    interfaces: dict[Dialect, Interface]
    members: JsonObject


def read_card(data: bytes) -> Card | None:
    """Read an upstream's card; None: it is not one.

    Tolerant: any case of binding names, a 1.0 card without versions, a 0.3 card that already lists
    `supportedInterfaces`, members of wrong types (they count as absent).
    """
    try:
        members = judged.decode(data)
    except ParseFailed:
        return None
    return card_of(members)


def card_of(members: object) -> Card | None:
    """Read a decoded card; as `read_card`. A card has at least a name, and says where the agent is."""
    if not isinstance(members, dict) or not isinstance(members.get("name"), str):
        return None
    if not isinstance(members.get("url"), str) and not isinstance(members.get("supportedInterfaces"), list):
        return None
    declared = _declared(members)
    if len(declared) > MAX_ADDRESSES:
        return None
    interfaces: dict[Dialect, Interface] = {}
    for url, binding, version, tenant in declared:
        if isinstance(url, str) and "://" in url and _host(url) and str(binding).upper() == "JSONRPC":
            interfaces.setdefault(_dialect(version), Interface(url, tenant if isinstance(tenant, str) else None))
    return Card(interfaces, members)


def _declared(card: JsonObject) -> list[tuple[object, object, object, object]]:
    """All interfaces of a card as (url, binding, version, tenant), in its order of preference."""
    version = card.get("protocolVersion")
    found = [
        (
            one.get("url"),
            one.get("protocolBinding") or one.get("transport"),
            one.get("protocolVersion") or version or "1.0",
            one.get("tenant"),
        )
        for one in _objects(card.get("supportedInterfaces"))
    ]
    if isinstance(card.get("url"), str):
        old = version or ("1.0" if found else "0.3")
        found.append((card["url"], card.get("preferredTransport") or "JSONRPC", old, None))
        found += [
            (one.get("url"), one.get("transport"), old, None) for one in _objects(card.get("additionalInterfaces"))
        ]
    return found


def _dialect(version: object) -> Dialect:
    return "0.3" if str(version).startswith("0") else "1.0"


def _objects(value: object) -> list[JsonObject]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def endpoint(configured: str, interface: Interface) -> str:
    """The URL to call: always the origin that the operator configured, with the path that the card names.

    A card that names another origin does not know where it stands (behind a proxy, in a container): its origin is
    never dialled, so that credentials go only where the operator sent them; its path counts, unless it is the root:
    then the configured path does.
    """
    own, named = urlsplit(configured), urlsplit(interface.url)
    path, query = named.path, named.query
    if path in {"", "/"} and (own.scheme, own.netloc) != (named.scheme, named.netloc):
        path, query = own.path, query or own.query
    return own._replace(path=path or "/", query=query, fragment="").geturl()


def card_url(configured: str, well_known: str) -> str:
    """The URL of a card below the configured one; a query stays (some servers name the agent in it)."""
    own = urlsplit(configured)
    return own._replace(path=own.path.rstrip("/") + well_known, fragment="").geturl()


def publish(card: Card, *, configured: str, address: str) -> JsonObject:
    """Build the hub's card of an agent, one that clients of 1.0 and of 0.3 both accept.

    `address` is the agent's URL in the hub, with its trailing slash: JavaScript clients resolve relative paths
    against it. Only the dialects that the upstream speaks over JSON-RPC are listed.
    """
    scrub = _scrubber(card.members, configured, address)
    members = cast("JsonObject", scrub(card.members))
    capabilities = members.get("capabilities")
    capabilities = capabilities if isinstance(capabilities, dict) else {}
    extended = bool(capabilities.get("extendedAgentCard") or members.get("supportsAuthenticatedExtendedCard"))
    published: JsonObject = {
        "name": members["name"],
        "description": _text(members, "description"),
        "version": _text(members, "version"),
        "supportedInterfaces": [
            {"url": address, "protocolBinding": "JSONRPC", "protocolVersion": version} for version in card.interfaces
        ],
        "capabilities": {
            "streaming": capabilities.get("streaming") is True,
            "pushNotifications": False,
            "extendedAgentCard": extended,
            "extensions": _extensions(card.members, scrub),
        },
        "securitySchemes": {
            SECURITY_SCHEME: {"type": "http", "scheme": "bearer", "httpAuthSecurityScheme": {"scheme": "bearer"}}
        },
        "securityRequirements": [{"schemes": {SECURITY_SCHEME: {"list": []}}}],
        "defaultInputModes": _texts(members, "defaultInputModes") or TEXT_MODES,
        "defaultOutputModes": _texts(members, "defaultOutputModes") or TEXT_MODES,
        "skills": [_skill(one) for one in _objects(members.get("skills")) if _text(one, "id")],
    }
    for name in ("documentationUrl", "iconUrl"):
        url = card.members.get(name)
        if (
            isinstance(url, str) and _is_web(url) and scrub(url) == url
        ):  # an address put in place of the agent's would lead nowhere
            published[name] = url
    provider = members.get("provider")
    if isinstance(provider, dict):
        url = _text(provider, "url")
        published["provider"] = {"organization": _text(provider, "organization"), "url": url if _is_web(url) else ""}
    if "0.3" in card.interfaces:
        published |= {
            "protocolVersion": "0.3.0",
            "url": address,
            "preferredTransport": "JSONRPC",
            "supportsAuthenticatedExtendedCard": extended,
            "security": [{SECURITY_SCHEME: []}],
        }
    return published


def _text(owner: JsonObject, member: str) -> str:
    value = owner.get(member)
    return value if isinstance(value, str) else ""


def _texts(owner: JsonObject, member: str) -> list[str]:
    value = owner.get(member)
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _is_web(url: str) -> bool:
    """Whether a page may link to it: `javascript:` and the like would run in the reader's browser."""
    return url.lower().startswith(("https://", "http://"))


def _skill(skill: JsonObject) -> JsonObject:
    """A skill without its security: callers meet the hub's."""
    built: JsonObject = {name: _text(skill, name) for name in ("id", "name", "description")}
    built["tags"] = _texts(skill, "tags")
    for name in ("examples", "inputModes", "outputModes"):
        if found := _texts(skill, name):
            built[name] = found
    return built


def _extensions(members: JsonObject, scrub: Callable[[object], object]) -> list[JsonObject]:
    """The extensions whose URI can stay as it is: clients negotiate by it."""
    capabilities = members.get("capabilities")
    found = _objects(capabilities.get("extensions")) if isinstance(capabilities, dict) else []
    built: list[JsonObject] = []
    for extension in found:
        uri = extension.get("uri")
        if not isinstance(uri, str) or scrub(uri) != uri:
            continue
        one: JsonObject = {"uri": uri, "required": extension.get("required") is True}
        for name, kind in (("description", str), ("params", dict)):
            if isinstance(extension.get(name), kind):
                one[name] = scrub(extension[name])
        built.append(one)
    return built


def _scrubber(members: JsonObject, configured: str, address: str) -> Callable[[object], object]:
    """A function that puts the hub's address in place of every upstream address in a JSON value, keys included.

    Upstream addresses are the configured one and all that the card names as its own. A host without a dot is an
    ordinary word too ("agent"), so it counts only as part of a URL or with its port.
    """
    urls = [configured, *(url for url, *_ in _declared(members) if isinstance(url, str))]
    hosts = sorted({host for host in map(_host, urls) if host}, key=len, reverse=True)
    pattern = re.compile("|".join(map(_host_pattern, hosts)) or r"(?!)", re.IGNORECASE)

    def clean(text: str) -> str:
        lowered = text.lower()
        if not any(host in lowered for host in hosts):
            return text
        return _WORD.sub(lambda word: _without_address(word[0], pattern, address), text)

    def scrub(value: object, depth: int = 0) -> object:
        if isinstance(value, str):
            return clean(value)
        if depth > judged.MAX_DEPTH:
            return None
        if isinstance(value, list):
            return [scrub(one, depth + 1) for one in value]
        if isinstance(value, dict):
            return {clean(name): scrub(one, depth + 1) for name, one in value.items()}
        return value

    return scrub


_WORD = re.compile(r"""[^\s"'<>)\]}]+""")
"""What an address in prose can be part of: it goes on to the end of the word."""

_SCHEME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-"


def _is_unmistakable(host: str) -> bool:
    return "." in host or ":" in host


def _host_pattern(host: str) -> str:
    whole = re.escape(host) + r"(?![\w-]|\.\w)"
    before = r"(?:(?<![\w.-])|(?<=%2f)|(?<=%40))"
    if _is_unmistakable(host):
        return f"{before}{whole}"
    return f"(?<=[/@]){whole}|{before}{re.escape(host)}(?=(?::|%3a)\\d)"


def _without_address(word: str, hosts: re.Pattern[str], address: str) -> str:
    """Put `address` in place of the first address in a word and of all that follows it.

    No pattern looks for the URL as a whole: one that begins anywhere takes time quadratic in a text, and an agent
    writes the text.
    """
    for found in hosts.finditer(word):
        start = _url_start(word, found.start())
        if start is None and (_is_unmistakable(found[0]) or word[found.end() : found.end() + 1] in {":", "%"}):
            start = found.start() - (found.start() > 0 and word[found.start() - 1] == "[")
        if start is not None:
            return word[:start] + address
    return word


def _url_start(word: str, host: int) -> int | None:
    """Where the URL begins whose host begins at `host`; None: it is not part of one."""
    slashes = word.rfind("//", max(0, host - MAX_USER), host)
    user = word[slashes + 2 : host].removesuffix("[")
    if slashes < 0 or "/" in user or (user and not user.endswith("@")):
        return None
    before = word[max(0, slashes - MAX_USER) : slashes]
    scheme = len(before) - len(before[:-1].rstrip(_SCHEME)) if before.endswith(":") else 0
    return slashes - scheme


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname or urlsplit(f"//{url}").hostname  # gRPC interfaces are written host:port
    except ValueError:
        return None
