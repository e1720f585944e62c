"""Agent cards: an upstream's read tolerantly, the hub's own built from it. Pure.

A published card is built anew from the members the protocol knows, never patched, and no address of the upstream
survives in any of them. Fetching, caching and serving are elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, cast
from urllib.parse import urlsplit

import msgspec

from agents.speech import SPEECHES, Binding, Speech, Version
from registry import judged
from registry.callers.tokens import Issuer
from registry.errors import ParseFailed
from registry.judged import JsonObject

SECURITY_SCHEME = "hubbub"
"""The name of the hub's own security scheme in the cards it publishes."""

TEXT_MODES = ["text/plain"]

MAX_ADDRESSES = 32
"""Addresses that a card may name as its own: each is looked for in every text of the card."""

MAX_USER = 256
"""Characters of a URL before its host that are seen to be part of it."""


BINDINGS: Final[dict[str, Binding]] = {
    "jsonrpc": "JSONRPC",
    "httpjson": "HTTP+JSON",
    "rest": "HTTP+JSON",
    "grpc": "GRPC",
}
"""What cards call a binding, in letters only: `JSONRPC`, `jsonrpc`, `json-rpc`, `HTTP+JSON`, `HTTP_JSON`, …"""

_OPERATION: Final[dict[Version, re.Pattern[str]]] = {
    "1.0": re.compile(r"/(message:(send|stream))?$"),
    "0.3": re.compile(r"(/v1)?/?(/message:(send|stream))?$"),
}
"""The end of a path that names an operation of HTTP+JSON, and not where the agent is."""


@dataclass(frozen=True, slots=True)
class Interface:
    """Where an upstream speaks in one way, as its card says."""

    url: str
    """Absolute, or a path of the agent's origin; for gRPC mostly `host:port`."""
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """An upstream's card: where it can be called, and its members as they came."""

    interfaces: dict[Speech, Interface]
    members: JsonObject
    is_silent: bool = False
    """It names no interface at all: the agent is where the operator says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Where and how the hub offers an agent."""

    agent: str
    address: str
    """The agent's URL in the hub, with its trailing slash: JavaScript clients resolve relative paths against it."""
    grpc: str | None = None
    """host:port of the hub's gRPC; None: it has none."""
    issuers: tuple[Issuer, ...] = ()
    """Whose tokens are taken there, beside keys."""


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
    if not any(isinstance(members.get(member), kind) for member, kind in _OF_A_CARD.items()):
        return None
    declared = _declared(members)
    if len(declared) > MAX_ADDRESSES:
        return None
    interfaces: dict[Speech, Interface] = {}
    for url, binding, version, tenant in declared:
        speech = _speech(binding, version)
        if speech is not None and isinstance(url, str) and _is_address(url, speech):
            interfaces.setdefault(speech, Interface(url, tenant if isinstance(tenant, str) and tenant else None))
    return Card(interfaces, members, is_silent=not declared)


_OF_A_CARD: Final = {"url": str, "supportedInterfaces": list, "skills": list, "capabilities": dict}
"""A JSON object with a name and one of these is taken for a card."""


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


def _speech(binding: object, version: object) -> Speech | None:
    """The hub's word for a binding and a version of a card; None: the hub does not speak so."""
    known = BINDINGS.get(re.sub(r"[^a-z]", "", str(binding).lower()))
    speech = Speech(known, "0.3" if str(version).startswith("0") else "1.0") if known else None
    return speech if speech in SPEECHES else None


def _is_address(url: str, speech: Speech) -> bool:
    if speech.binding == "GRPC":
        return _host(_without_scheme(url)) is not None
    if url.startswith("/"):
        return not url.startswith("//")
    return url.lower().startswith(("http://", "https://")) and _host(url) is not None


def _without_scheme(url: str) -> str:
    """What follows the scheme of a gRPC address: `grpc://h:1`, `dns:///h:1`, `https://h:1/` are `h:1`."""
    return re.sub(r"^([a-z]+://|dns:)/?", "", url.strip(), flags=re.IGNORECASE).split("/")[0]


def _objects(value: object) -> list[JsonObject]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def endpoint(configured: str, interface: Interface, speech: Speech) -> str | None:
    """The URL to call: always the origin that the operator configured, with the path that the card names.

    A card that names another origin does not know where it stands (behind a proxy, in a container): its origin is
    never dialled, so that credentials go only where the operator sent them; its path counts, unless it is the root:
    then the configured path does. Of HTTP+JSON it is the base to which the paths of operations are added. gRPC is on a
    port of its own: `grpc_endpoint`; None if the card names another host than the operator.
    """
    if speech.binding == "GRPC":
        return grpc_endpoint(configured, interface.url)
    own, named = urlsplit(configured), urlsplit(interface.url)
    path, query = named.path, named.query
    if path in {"", "/"} and (own.scheme, own.netloc) != (named.scheme, named.netloc):
        path, query = own.path, query or own.query
    if speech.binding == "HTTP+JSON":
        path = _OPERATION[speech.version].sub("", path)
    return own._replace(path=path or "/", query=query, fragment="").geturl()


def grpc_endpoint(configured: str, named: str, *, is_operators: bool = False) -> str | None:
    """The gRPC server as `http://host:port`, or `https://host:port` if it is to be reached over TLS.

    The host is the configured one, the port the card's. A card that names a host of its own names this one or the
    loopback address, which is how servers that do not know their address call themselves. `is_operators`: the operator
    wrote `named`, so its host counts. An `https` agent is never called without TLS.
    """
    own = urlsplit(configured)
    scheme = named.partition("://")[0].lower() if "://" in named else own.scheme
    has_tls = own.scheme == "https" or scheme in {"https", "grpcs"}
    try:
        target = urlsplit(f"//{_without_scheme(named)}")
        host, port = target.hostname, target.port or (443 if has_tls else 80)
    except ValueError:
        return None
    if not is_operators:
        host = own.hostname if host == own.hostname or _is_nowhere(host) else None
    if not host:
        return None
    return f"{'https' if has_tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _is_nowhere(host: str | None) -> bool:
    """Whether a host says nothing: `localhost`, `0.0.0.0` and the like."""
    try:
        address = ip_address(host or "")
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


def base_of(configured: str) -> tuple[str, str | None]:
    """The agent's own URL, and its card's if the operator wrote that instead of it."""
    own = urlsplit(configured)
    base, mark, _ = own.path.partition("/.well-known/")
    return (own._replace(path=base or "/", fragment="").geturl(), configured) if mark else (configured, None)


def card_url(configured: str, well_known: str) -> str:
    """The URL of a card below the configured one; a query stays (some servers name the agent in it)."""
    own = urlsplit(configured)
    return own._replace(path=own.path.rstrip("/") + well_known, fragment="").geturl()


def build(card: Card, *, configured: str, offer: Offer) -> JsonObject:
    """Build the hub's card of an agent as A2A 1.0 has it: what is signed. `with_old_members` makes it one for both."""
    scrub = _scrubber(card.members, configured, offer.address)
    members = cast("JsonObject", scrub(card.members))
    name = members["name"] or offer.agent
    capabilities = members.get("capabilities")
    capabilities = capabilities if isinstance(capabilities, dict) else {}
    built: JsonObject = {
        "name": name,
        "description": _text(members, "description") or name,
        "version": _text(members, "version") or "0",
        "supportedInterfaces": _offered(offer),
        "capabilities": {
            "streaming": capabilities.get("streaming") is True,
            "pushNotifications": True,
            "extendedAgentCard": bool(
                capabilities.get("extendedAgentCard") or members.get("supportsAuthenticatedExtendedCard")
            ),
            "extensions": _extensions(card.members, scrub),
        },
        **security(f"agent:{offer.agent}", offer.issuers),
        "defaultInputModes": _texts(members, "defaultInputModes") or TEXT_MODES,
        "defaultOutputModes": _texts(members, "defaultOutputModes") or TEXT_MODES,
        "skills": [_skill(one) for one in _objects(members.get("skills")) if _text(one, "id")],
    }
    for member in ("documentationUrl", "iconUrl"):
        url = card.members.get(member)
        if (
            isinstance(url, str) and _is_web(url) and scrub(url) == url
        ):  # an address put in place of the agent's would lead nowhere
            built[member] = url
    provider = members.get("provider")
    if isinstance(provider, dict) and _text(provider, "organization") and _is_web(_text(provider, "url")):
        built["provider"] = {member: provider[member] for member in ("organization", "url")}
    return built


def security(grant: str, issuers: Sequence[Issuer]) -> JsonObject:
    """The hub's own security of a card: a key with a grant, or a token of one of the issuers.

    The grant stands as a scope also because lists that are empty are not signed: a requirement without scopes could be taken
    out of a signed card.
    """
    schemes: JsonObject = {SECURITY_SCHEME: {"httpAuthSecurityScheme": {"scheme": "bearer"}}}
    scopes = {SECURITY_SCHEME: [grant]}
    for number, issuer in enumerate(issuers, 1):
        name = f"issuer-{number}"
        url = f"{issuer.url.rstrip('/')}/.well-known/openid-configuration"
        schemes[name] = {"openIdConnectSecurityScheme": {"openIdConnectUrl": url}}
        scopes[name] = [one for one, grants in issuer.scopes.items() if _are_of_agents(grants)] or ["openid"]
    return {
        "securitySchemes": schemes,
        "securityRequirements": [{"schemes": {name: {"list": found}}} for name, found in scopes.items()],
    }


def _are_of_agents(grants: Sequence[str]) -> bool:
    return any(grant.startswith("agent:") for grant in grants)


def _offered(offer: Offer) -> list[JsonObject]:
    """The interfaces of a published card, the one that the hub likes best first."""
    offered: list[JsonObject] = []
    for speech in SPEECHES:
        one: JsonObject = {"protocolBinding": speech.binding, "protocolVersion": speech.version}
        if speech.binding != "GRPC":
            offered.append({"url": offer.address, **one})
        elif offer.grpc is not None:
            offered.append({"url": offer.grpc, "tenant": offer.agent, **one})
    return offered


def _old_requirement(schemes: JsonObject) -> JsonObject:
    """A requirement as 0.3 has it, where only OAuth's schemes have scopes."""
    return {name: [] if name == SECURITY_SCHEME else found["list"] for name, found in schemes.items()}


_OLD_TYPES: Final = {"httpAuthSecurityScheme": "http", "openIdConnectSecurityScheme": "openIdConnect"}


def with_old_members(built: JsonObject) -> JsonObject:
    """Add what clients of A2A 0.3 read, if the card offers 0.3: the hub's own may not. Clients of 1.0 pass over it."""
    old = [one for one in built["supportedInterfaces"] if one["protocolVersion"] == "0.3"]
    if not old:
        return built
    schemes = {
        name: {"type": _OLD_TYPES[member], **said, **scheme}
        for name, scheme in built["securitySchemes"].items()
        for member, said in scheme.items()
    }
    return {
        **built,
        "securitySchemes": schemes,
        "protocolVersion": "0.3.0",
        "url": old[0]["url"],
        "preferredTransport": old[0]["protocolBinding"],
        "additionalInterfaces": [{"url": one["url"], "transport": one["protocolBinding"]} for one in old],
        "supportsAuthenticatedExtendedCard": built["capabilities"]["extendedAgentCard"],
        "security": [_old_requirement(one["schemes"]) for one in built["securityRequirements"]],
    }


PARTS: Final = {
    "interfaces": ("supportedInterfaces", "url", "protocolVersion", "preferredTransport", "additionalInterfaces"),
    "security": ("securitySchemes", "securityRequirements", "security"),
    "skills": ("skills",),
}
"""What of a card is watched, and the members in which it stands."""


def parts(card: Card) -> dict[str, str]:
    """A digest of each part of a card that is watched; the order of a list's items does not count."""
    return {part: _digest({member: card.members.get(member) for member in names}) for part, names in PARTS.items()}


def _digest(members: JsonObject) -> str:
    watched = {name: _unordered(value) if isinstance(value, list) else value for name, value in members.items()}
    return hashlib.sha256(msgspec.json.encode(watched, order="sorted")).hexdigest()


def _unordered(items: list[object]) -> list[bytes]:
    return sorted(msgspec.json.encode(item, order="sorted") for item in items)


def pushes(card: Card) -> bool:
    """Whether an agent says that it posts notifications itself."""
    capabilities = card.members.get("capabilities")
    return isinstance(capabilities, dict) and capabilities.get("pushNotifications") is True


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
        one: JsonObject = {"uri": uri, **({"required": True} if extension.get("required") is True else {})}
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
    urls += map(_without_scheme, urls[1:])
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
