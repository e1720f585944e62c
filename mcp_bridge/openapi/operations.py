"""One Path Item operation as a tool: its name, its arguments and where each of them goes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from mcp_bridge.openapi.pointers import Bad, References
from mcp_bridge.openapi.schemas import Schemas, is_object
from mcp_bridge.openapi.servers import EXPRESSION, Servers, check_path
from registry.declared.source import Path
from registry.judged import JsonObject

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
"""In the order of the specification."""

FIELDS = "_fields"
"""The argument with which a caller chooses what it wants of a large answer."""

BODY = "body"

MAX_DESCRIPTION = 4_000
MAX_NAME = 64

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PLACES = ("path", "query", "header", "cookie")
_STYLES = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}
"""The first is the default."""
_NOT_ARGUMENTS = frozenset({"accept", "authorization", "content-type"})
"""Header parameters that the specification ignores."""
_NEVER = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that are the connection's or the hub's, never an argument's."""


class Configured(msgspec.Struct, frozen=True):
    """What the entry itself says: what it sends with each request, so that no argument of these names is offered, and where."""

    headers: frozenset[str] = frozenset()
    """Their names in lower case."""
    query: frozenset[str] = frozenset()
    url: str | None = None
    """Where the operations are called; None: the document says."""
    source: str | None = None
    """The address of the document; None: it is a file."""


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """Where one argument goes."""

    argument: str
    name: str
    place: str
    """`path`, `query`, `header` or `cookie`."""
    style: str
    explode: bool
    is_json: bool = False
    """Its value is written as JSON (`content` in the place of `schema`)."""


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """How the argument `body` is written."""

    media_type: str
    kind: str
    """`json`, `form`, `multipart`, `text` or `binary`."""
    files: frozenset[str] = frozenset()
    """Properties of a form whose values are base64."""
    part_types: dict[str, str] = {}
    """The media types of a form's parts, where the document names them."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation, ready to be called."""

    name: str
    method: str
    """In upper case."""
    path: str
    """A template: `/pets/{petId}`."""
    own_base: str | None
    """The path in front of it; None: that of the address of all."""
    parameters: tuple[Parameter, ...]
    body: Body | None
    accept: str
    tool: JsonObject
    """As MCP lists it."""


def plain_name(operation: Any, method: str, path: str) -> str:
    """A tool's name from `operationId`, else from method and path; a function of the operation alone."""
    given = operation.get("operationId") if isinstance(operation, dict) else None
    text = given if isinstance(given, str) and given.strip() else f"{method}_{path.lstrip('/')}"
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_") or method


class Reader:
    """Reads the operations of one document."""

    def __init__(self, references: References, *, is_30: bool, configured: Configured, servers: Servers) -> None:
        self._servers = servers
        self._references = references
        self._is_30 = is_30
        self._configured = configured

    def operation(self, name: str, item: JsonObject, at: Path) -> Operation:
        """Read the operation at `at`, which ends in its path and method, of the Path Item `item`; raises `Bad`."""
        path, method = str(at[-2]), str(at[-1])
        found = item[method]
        if not isinstance(found, dict):
            raise Bad(at, "must be an operation")
        if method == "trace":
            raise Bad(at, "TRACE is not called: it answers with what it was sent, credentials too")
        servers = found.get("servers") or item.get("servers")
        own = self._servers.own_path(servers, at) if servers else None
        check_path(path, at[:-1])
        schemas = Schemas(self._references, is_30=self._is_30)
        properties: JsonObject = {}
        required: list[str] = []
        parameters = tuple(self._parameters(found, item, at, schemas, properties, required))
        unknown = set(EXPRESSION.findall(path)) - {p.name for p in parameters if p.place == "path"}
        if unknown:
            raise Bad(at, f"no path parameter says what {{{min(unknown)}}} is")
        body = self._body(found, at, schemas, properties, required)
        answers = list(self._answers(found, at))
        if any(is_json(media_type) for types, _ in answers for media_type in types):
            properties[FIELDS] = _FIELDS
        schemas.finish()
        schema: JsonObject = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            schema["required"] = required
        if schemas.defs:
            schema["$defs"] = dict(sorted(schemas.defs.items()))
        tool: JsonObject = {"name": name, **_described(found), "inputSchema": schema, "annotations": _hints(method)}
        output = self._output(answers)
        if output is not None:
            tool["outputSchema"] = output
        return Operation(
            name=name,
            method=method.upper(),
            path=path,
            own_base=own,
            parameters=parameters,
            body=body,
            accept=_accept([media_type for types, _ in answers for media_type in types]),
            tool=tool,
        )

    def _parameters(
        self,
        operation: JsonObject,
        item: JsonObject,
        at: Path,
        schemas: Schemas,
        properties: JsonObject,
        required: list[str],
    ) -> Iterator[Parameter]:
        taken = {BODY, FIELDS}
        for (name, place), (found, where) in self._collected(operation, item, at).items():
            if self._is_configured(name, place, where) or (place == "path" and f"{{{name}}}" not in str(at[-2])):
                continue
            argument = _argument(name, place, taken)
            taken.add(argument)
            schema, here, written_as_json = self._parameter_schema(found, where)
            converted = schemas.convert(schema, here)
            text = found.get("description")
            if isinstance(text, str) and isinstance(converted, dict):
                converted.setdefault("description", text[:MAX_DESCRIPTION])
            properties[argument] = converted
            if place == "path" or found.get("required") is True:
                required.append(argument)
            yield _parameter(argument, name, place, found, where, is_json=written_as_json)

    def _collected(
        self, operation: JsonObject, item: JsonObject, at: Path
    ) -> dict[tuple[str, str], tuple[JsonObject, Path]]:
        """The parameters by name and place, path first: the operation's own stand in the place of the path's."""
        collected: dict[tuple[str, str], tuple[JsonObject, Path]] = {}
        for owner, where in ((item, at[:-1]), (operation, at)):
            listed = owner.get("parameters", [])
            if not isinstance(listed, list):
                raise Bad((*where, "parameters"), "must be a list")
            for position, entry in enumerate(listed):
                found, here = self._references.follow(entry, (*where, "parameters", position))
                name, place = (found.get("name"), found.get("in")) if isinstance(found, dict) else (None, None)
                if not isinstance(name, str) or not name or place not in _PLACES:
                    raise Bad(here, "a parameter needs a name and an in: path, query, header or cookie")
                collected[name, place] = found, here
        return dict(sorted(collected.items(), key=lambda item: _PLACES.index(item[0][1])))

    def _is_configured(self, name: str, place: str, where: Path) -> bool:
        low = name.lower()
        if place == "query":
            return name in self._configured.query
        if place == "cookie":
            return "cookie" in self._configured.headers
        if place != "header":
            return False
        if low in _NEVER or not _HEADER_NAME.fullmatch(name):
            raise Bad(where, f"{name!r} is no header that an argument may set")
        return low in _NOT_ARGUMENTS or low in self._configured.headers

    def _parameter_schema(self, found: JsonObject, where: Path) -> tuple[Any, Path, bool]:
        content = found.get("content")
        if content is None:
            return found.get("schema", {}), (*where, "schema"), False
        if not isinstance(content, dict) or len(content) != 1 or not is_json(next(iter(content))):
            raise Bad((*where, "content"), "must be one media type, application/json")
        media_type, media = next(iter(content.items()))
        if not isinstance(media, dict):
            raise Bad((*where, "content", media_type), "must be a map")
        return media.get("schema", {}), (*where, "content", media_type, "schema"), True

    def _body(
        self, operation: JsonObject, at: Path, schemas: Schemas, properties: JsonObject, required: list[str]
    ) -> Body | None:
        if "requestBody" not in operation:
            return None
        found, where = self._references.follow(operation["requestBody"], (*at, "requestBody"))
        content = found.get("content") if isinstance(found, dict) else None
        if not isinstance(content, dict) or not content:
            raise Bad(where, "a request body needs content")
        media_type = min(content, key=lambda name: _KINDS.index(_kind(name)))
        media, here = content[media_type], (*where, "content", media_type)
        if not isinstance(media, dict) or not _MEDIA_TYPE.fullmatch(media_type):
            raise Bad(here, "must be a media type, and its schema")
        kind = _kind(media_type)
        schema = media.get("schema", {})
        files, types = self._form(schema, media, here) if kind in {"form", "multipart"} else (frozenset(), {})
        if kind == "binary":
            converted: Any = {"type": "string", "contentEncoding": "base64"}
        else:
            converted = schemas.convert(schema, (*here, "schema"))
        if kind == "text" and not converted:
            converted = {"type": "string"}
        text = found.get("description")
        if isinstance(text, str) and isinstance(converted, dict):
            converted.setdefault("description", text[:MAX_DESCRIPTION])
        properties[BODY] = converted
        if found.get("required") is True:
            required.append(BODY)
        written = _WRITTEN.get(media_type.partition(";")[0].strip().lower(), media_type)
        return Body(media_type=written, kind=kind, files=files, part_types=types)

    def _form(self, schema: Any, media: JsonObject, here: Path) -> tuple[frozenset[str], dict[str, str]]:
        """Which properties are files, and the media types that are given."""
        found, _ = self._references.follow(schema, (*here, "schema"))
        properties = found.get("properties") if isinstance(found, dict) else None
        files = set()
        for name, entry in properties.items() if isinstance(properties, dict) else ():
            item, at = self._references.follow(entry, here)
            if isinstance(item, dict) and item.get("type") == "array":
                item, _ = self._references.follow(item.get("items", {}), at)
            if isinstance(item, dict) and (
                item.get("format") == "binary" or item.get("contentMediaType") == "application/octet-stream"
            ):
                files.add(name)
        encoding = media.get("encoding")
        types = {}
        for name, entry in encoding.items() if isinstance(encoding, dict) else ():
            given = entry.get("contentType") if isinstance(entry, dict) else None
            if isinstance(given, str) and _MEDIA_TYPE.fullmatch(first := given.partition(",")[0].strip()):
                types[name] = first
        return frozenset(files), types

    def _answers(self, operation: JsonObject, at: Path) -> Iterator[tuple[JsonObject, Path]]:
        """The content of each answer that tells of success."""
        responses = operation.get("responses", {})
        for status, entry in responses.items() if isinstance(responses, dict) else ():
            if str(status).startswith("2"):
                found, where = self._references.follow(entry, (*at, "responses", status))
                content = found.get("content", {}) if isinstance(found, dict) else {}
                if not isinstance(content, dict):
                    raise Bad((*where, "content"), "must be a map of media types")
                yield content, (*where, "content")

    def _output(self, answers: list[tuple[JsonObject, Path]]) -> JsonObject | None:
        """The schema of the one JSON object that success answers with; None: there may be another answer, or none."""
        if len(answers) != 1 or len(answers[0][0]) != 1:
            return None
        (media_type, media), where = next(iter(answers[0][0].items())), answers[0][1]
        if not is_json(media_type) or not isinstance(media, dict) or "schema" not in media:
            return None
        schemas = Schemas(self._references, is_30=self._is_30, for_answer=True)
        try:
            found = schemas.convert_root(media["schema"], (*where, media_type, "schema"))
            schemas.finish()
        except Bad:
            return None  # the arguments are what matters; a schema that is wrong is worse than none
        if not is_object(found):
            return None
        return {**found, "type": "object", **({"$defs": dict(sorted(schemas.defs.items()))} if schemas.defs else {})}


_KINDS = ("json", "form", "multipart", "text", "binary")
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+*-]+/[A-Za-z0-9!#$&^_.+*-]+(?:;[ \x21-\x7e]*)?")
_WRITTEN = {"*/*": "application/octet-stream", "application/*": "application/octet-stream", "text/*": "text/plain"}
_FIELDS: JsonObject = {
    "type": "array",
    "items": {"type": "string"},
    "maxItems": 100,
    "description": 'Return only these members of the answer, as dotted paths through objects and lists: ["items.name"]',
}


def is_json(media_type: str) -> bool:
    """Whether a media type is JSON (RFC 6839 §3.1 for `+json`)."""
    name = media_type.partition(";")[0].strip().lower()
    return name == "application/json" or name.endswith("+json")


def _kind(media_type: str) -> str:
    name = media_type.partition(";")[0].strip().lower()
    if is_json(name):
        return "json"
    if name == "application/x-www-form-urlencoded":
        return "form"
    if name == "multipart/form-data":
        return "multipart"
    is_text = name.startswith("text/") or name in {"application/xml", "application/yaml"} or name.endswith("+xml")
    return "text" if is_text else "binary"


def _argument(name: str, place: str, taken: set[str]) -> str:
    """The name of an argument: the parameter's, in characters that models' interfaces take."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.")[:48] or place
    for candidate in (name if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) else plain, plain, f"{plain}_{place}"):
        if candidate not in taken:
            return candidate
    number = 2
    while f"{plain}_{place}_{number}" in taken:
        number += 1
    return f"{plain}_{place}_{number}"


def _parameter(argument: str, name: str, place: str, found: JsonObject, where: Path, *, is_json: bool) -> Parameter:
    style = found.get("style", _STYLES[place][0])
    if style not in _STYLES[place]:
        raise Bad((*where, "style"), f"in {place} it can be {' or '.join(_STYLES[place])}")
    explode = found.get("explode", style in {"form", "deepObject"})
    if not isinstance(explode, bool):
        raise Bad((*where, "explode"), "must be true or false")
    return Parameter(argument=argument, name=name, place=place, style=style, explode=explode, is_json=is_json)


def _described(operation: JsonObject) -> JsonObject:
    summary, text = operation.get("summary"), operation.get("description")
    summary = summary.strip() if isinstance(summary, str) else ""
    text = text.strip() if isinstance(text, str) else ""
    deprecated = "Deprecated." if operation.get("deprecated") is True else ""
    parts = [part for part in (deprecated, summary, "" if text == summary else text) if part]
    title: JsonObject = {"title": summary[:200]} if summary else {}
    return {**title, **({"description": "\n\n".join(parts)[:MAX_DESCRIPTION]} if parts else {})}


def _hints(method: str) -> JsonObject:
    if method in {"get", "head", "options"}:
        return {"readOnlyHint": True}
    hints: JsonObject = {"readOnlyHint": False}
    if method in {"put", "delete"}:
        hints["idempotentHint"] = True
    if method == "delete":
        hints["destructiveHint"] = True
    return hints


def _accept(media_types: list[str]) -> str:
    named = [name for name in dict.fromkeys(media_types) if _MEDIA_TYPE.fullmatch(name)]
    named.sort(key=lambda name: not is_json(name))
    return ", ".join((*named[:8], "*/*;q=0.5"))
