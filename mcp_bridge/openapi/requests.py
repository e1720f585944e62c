"""An operation and its arguments as one HTTP request. Pure.

No argument decides more than its own value: not the scheme, the host or the path's structure, and no header or
parameter but the one that the document names. What cannot be written so is refused, not bent.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

from mcp_bridge.openapi.operations import BODY, Body, Operation, Parameter
from mcp_bridge.openapi.servers import EXPRESSION
from registry.egress.http import Outgoing
from registry.entries import Headers
from registry.judged import JsonObject, encode

MAX_URL = 8_000
MAX_HEADERS = 16_000

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_IN_A_SEGMENT = re.compile(r"[/\\\x00-\x1f\x7f]")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_DOTS = frozenset({".", ".."})
_DECODINGS = 5


class BadArgument(Exception):
    """An argument that cannot be sent; `member` names it."""

    def __init__(self, member: str, text: str) -> None:
        super().__init__(f"{member}: {text}")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where the operations of a document are called, and what is sent with each."""

    base: str
    """The operator's address; its query, if it has one, goes with every request."""
    headers: Headers = ()
    trusted: bool = True


def outgoing(operation: Operation, arguments: JsonObject, target: Target) -> Outgoing:
    """Write the request of a call whose arguments match the operation's schema; raises `BadArgument`."""
    given = [(p, arguments[p.argument]) for p in operation.parameters if arguments.get(p.argument) is not None]
    base, _, fixed = target.base.partition("#")[0].partition("?")
    if operation.own_base is not None:
        base = urlsplit(base)._replace(path=operation.own_base).geturl()
    query = "&".join((*([fixed] if fixed else ()), *_query(operation, given, fixed)))
    url = base.rstrip("/") + _path(operation.path, given) + (f"?{query}" if query else "")
    if len(url) > MAX_URL:
        raise BadArgument("arguments", f"the address that they make is longer than {MAX_URL} characters")
    headers = [("accept", operation.accept), *_headers(given)]
    body = None
    if operation.body is not None and BODY in arguments:
        body, content_type = _body(operation.body, arguments[BODY])
        headers.append(("content-type", content_type))
    configured = {name.lower() for name, _ in target.headers}
    own = tuple((name, value) for name, value in headers if name not in configured)
    if sum(len(value) for _, value in own) > MAX_HEADERS:
        raise BadArgument("arguments", f"the headers that they make are longer than {MAX_HEADERS} characters")
    return Outgoing(
        url=url,
        method=operation.method,
        headers=(*own, *target.headers),
        body=body,
        trusted=target.trusted,
        may_stream=False,
    )


def _text(value: Any) -> str:
    """A value as one text: strings as they are, the rest as JSON."""
    return value if isinstance(value, str) else encode(value).decode()


def _quoted(text: str, member: str) -> str:
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise BadArgument(member, "is no valid Unicode") from None


# --- path


def _path(template: str, given: list[tuple[Parameter, Any]]) -> str:
    written = {p.name: _in_path(p, value) for p, value in given if p.place == "path"}
    members = {p.name: p.argument for p, _ in given}

    def value(match: re.Match[str]) -> str:
        if match[1] not in written:
            raise BadArgument(match[1], "is missing")
        return written[match[1]]

    segments = []
    for segment in template.split("/"):
        filled = EXPRESSION.sub(value, segment)
        if filled != segment and unquote(filled).partition(";")[0] in {"", *_DOTS} and not filled.startswith(";"):
            names = [members[name] for name in EXPRESSION.findall(segment)]
            raise BadArgument(names[0], "is empty or dots only, and would make another path")
        segments.append(filled)
    return "/".join(segments)


def _in_path(parameter: Parameter, value: Any) -> str:
    member = parameter.argument

    def q(item: Any) -> str:
        text = _text(item)
        decoded = text
        for _ in range(_DECODINGS):
            if _NOT_IN_A_SEGMENT.search(decoded):
                raise BadArgument(member, "holds a slash, a backslash or a control character, encoded or not")
            before, decoded = decoded, unquote(decoded)
            if before == decoded:
                break
        else:
            raise BadArgument(member, "is percent-encoded again and again")
        if decoded.partition(";")[0] in _DOTS or not text:
            raise BadArgument(member, "is empty or dots only, and would make another path")
        return _quoted(text, member)

    if parameter.is_json:
        return q(encode(value).decode())
    if parameter.style == "matrix":
        return "".join(f";{name}={item}" for name, item in _form(parameter, value, q, ","))
    separator = ("." if parameter.explode else ",") if parameter.style == "label" else ","
    joined = separator.join(_simple(parameter, value, q))
    if not joined:
        raise BadArgument(member, "is empty, and would make another path")
    return "." + joined if parameter.style == "label" else joined


def _simple(parameter: Parameter, value: Any, write: Any) -> Iterator[str]:
    if isinstance(value, list):
        yield from map(write, value)
    elif isinstance(value, dict):
        for name, item in value.items():
            if parameter.explode:
                yield f"{write(name)}={write(item)}"
            else:
                yield write(name)
                yield write(item)
    else:
        yield write(value)


# --- query and cookies


def _query(operation: Operation, given: Iterable[tuple[Parameter, Any]], fixed: str) -> Iterator[str]:
    taken = {p.name for p in operation.parameters if p.place == "query"}
    taken |= {unquote(pair.partition("=")[0].replace("+", " ")) for pair in fixed.split("&")}
    for parameter, value in given:
        if parameter.place == "query":
            if parameter.explode and parameter.style == "form" and isinstance(value, dict):
                for name in value.keys() & taken - {parameter.name}:
                    raise BadArgument(parameter.argument, f"{name!r} is the name of another parameter")
            yield from (f"{name}={item}" for name, item in _pairs(parameter, value))


def _pairs(parameter: Parameter, value: Any) -> Iterator[tuple[str, str]]:
    def q(item: Any) -> str:
        return _quoted(_text(item), parameter.argument)

    if parameter.is_json:
        return iter([(q(parameter.name), q(encode(value).decode()))])
    if parameter.style == "deepObject" and isinstance(value, dict):
        return ((q(name), q(item)) for name, item in _deep(parameter.name, value))
    separator = {"spaceDelimited": "%20", "pipeDelimited": "%7C"}.get(parameter.style, ",")
    return _form(parameter, value, q, separator)


def _form(parameter: Parameter, value: Any, write: Any, separator: str) -> Iterator[tuple[str, str]]:
    name = quote(parameter.name, safe="")
    if isinstance(value, dict) and parameter.explode:
        yield from ((write(key), write(item)) for key, item in value.items())
    elif isinstance(value, list) and parameter.explode:
        yield from ((name, write(item)) for item in value)
    elif isinstance(value, dict | list):
        yield name, separator.join(_simple(parameter, value, write))
    else:
        yield name, write(value)


def _deep(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _deep(f"{name}[{key}]", item)
    elif isinstance(value, list):
        for item in value:
            yield name, item
    else:
        yield name, value


def _headers(given: Iterable[tuple[Parameter, Any]]) -> Iterator[tuple[str, str]]:
    cookies = []
    for parameter, value in given:
        if parameter.place == "cookie":
            cookies += [f"{name}={item}" for name, item in _pairs(parameter, value)]
        elif parameter.place == "header":
            text = encode(value).decode() if parameter.is_json else ",".join(_simple(parameter, value, _text))
            if not _HEADER_VALUE.fullmatch(text):
                raise BadArgument(parameter.argument, "a header holds printable ASCII, with no blank at its ends")
            yield parameter.name.lower(), text
    if cookies:
        yield "cookie", "; ".join(cookies)


# --- bodies


def _body(body: Body, value: Any) -> tuple[bytes, str]:
    if body.kind == "json":
        return encode(value), body.media_type
    if body.kind == "text":
        return _utf8(_text(value)), body.media_type
    if body.kind == "binary":
        return _file(value, BODY), body.media_type
    if not isinstance(value, dict):
        raise BadArgument(BODY, "must be an object")
    return _multipart(body, value) if body.kind == "multipart" else (_urlencoded(value), body.media_type)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise BadArgument(BODY, "is no valid Unicode") from None


def _file(value: Any, member: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise BadArgument(member, "must be base64") from None


def _urlencoded(value: JsonObject) -> bytes:
    return "&".join(f"{_quoted(name, BODY)}={_quoted(_text(one), BODY)}" for name, one in _fields(value)).encode()


def _fields(value: JsonObject) -> Iterator[tuple[str, Any]]:
    """The fields of a form: each item of a list is one; null is none."""
    for name, item in value.items():
        yield from ((name, one) for one in (item if isinstance(item, list) else [item]) if one is not None)


def _multipart(body: Body, value: JsonObject) -> tuple[bytes, str]:
    boundary = secrets.token_hex(16)
    parts = []
    for name, one in _fields(value):
        is_file = name in body.files
        given = body.part_types.get(name)
        label = re.sub(r'["\r\n]', lambda match: f"%{ord(match[0]):02X}", name)
        if _CONTROL.search(label):
            raise BadArgument(f"{BODY}.{name!r}", "its name holds a control character")
        lines = f'--{boundary}\r\ncontent-disposition: form-data; name="{label}"'
        if is_file:
            lines += f'; filename="{label}"\r\ncontent-type: {given or "application/octet-stream"}'
        elif given or isinstance(one, dict):
            lines += f"\r\ncontent-type: {given or 'application/json'}"
        content = _file(one, f"{BODY}.{name}") if is_file else _utf8(_text(one))
        parts.append(_utf8(lines) + b"\r\n\r\n" + content + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
