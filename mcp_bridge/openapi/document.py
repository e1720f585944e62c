"""An OpenAPI document: JSON or YAML text in, operations out. Pure.

A fault of the whole is told with file and line; an operation that cannot be offered is set apart alone, with its reason.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from typing import Any

import msgspec

from mcp_bridge.openapi.operations import MAX_NAME, METHODS, Configured, Operation, Reader, plain_name
from mcp_bridge.openapi.pointers import Bad, References, pointer
from mcp_bridge.openapi.servers import Servers
from registry.declared.source import Fault, Path, Source, parse
from registry.judged import JsonObject

MAX_BYTES = 16 * 1024 * 1024
MAX_OPERATIONS = 5_000
MAX_VALUES = 200_000
MAX_DEPTH = 128


class DocumentInvalid(Exception):
    """The document cannot be used; `fault` says why and where."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class Quarantined(msgspec.Struct, frozen=True):
    """An operation that cannot be offered."""

    name: str
    fault: Fault


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A document, read."""

    operations: dict[str, Operation]
    """By name, in the order of their names."""
    quarantined: tuple[Quarantined, ...]
    base: str
    """Where they are called."""


def read_document(text: str, file: str, configured: Configured | None = None) -> Document:
    """Read a document; `file` names it in faults, `configured` is what its entry says.

    Raises:
        DocumentInvalid: it is not OpenAPI 3.0 or 3.1, or does not say where its operations are called.
    """
    source = _parsed(text, file)
    try:
        return _Reading(source, text, configured or Configured()).document()
    except Bad as bad:
        raise DocumentInvalid(_fault(source, text, bad)) from None
    except RecursionError:
        raise DocumentInvalid(Fault(file, 1, "nested too deeply")) from None


def _parsed(text: str, file: str) -> Source:
    """JSON is read by its own parser, a hundred times as fast, without lines; anything else is YAML."""
    if len(text) > MAX_BYTES:
        raise DocumentInvalid(Fault(file, 1, f"larger than {MAX_BYTES // 1024 // 1024} MiB"))
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        try:
            return Source(file, msgspec.json.decode(text))
        except (msgspec.DecodeError, RecursionError):
            pass
    source = parse(text, file, max_values=MAX_VALUES, max_depth=MAX_DEPTH)
    if source.faults:
        raise DocumentInvalid(source.faults[0])
    return source


def _fault(source: Source, text: str, bad: Bad) -> Fault:
    if not source.lines:  # it was read as JSON; nearly all of that is YAML too
        lined = parse(text, source.file, max_values=MAX_VALUES, max_depth=MAX_DEPTH)
        source.lines = lined.lines or {(): 1}
    return source.fault(bad.path, f"{pointer(bad.path)}: {bad.text}")


class _Reading:
    def __init__(self, source: Source, text: str, configured: Configured) -> None:
        self._source = source
        self._text = text
        self._root: JsonObject = source.value if isinstance(source.value, dict) else {}
        self._references = References(self._root)
        self._is_30 = self._version() == "3.0"
        self._configured = configured

    def _version(self) -> str:
        said = self._root.get("openapi")
        for version in ("3.0", "3.1"):
            if isinstance(said, str | float) and f"{said}.".startswith(f"{version}."):
                return version
        if "swagger" in self._root:
            raise Bad(("swagger",), "Swagger 2.0 is not read; convert it to OpenAPI 3")
        raise Bad(("openapi",), "must say 3.0 or 3.1: this is no OpenAPI document of these")

    def document(self) -> Document:
        paths = self._root.get("paths", {})
        if not isinstance(paths, dict):
            raise Bad(("paths",), "must be a map")
        servers = self._servers()
        reader = Reader(self._references, is_30=self._is_30, configured=self._configured, servers=servers)
        places, bad = self._places(paths)
        plain = Counter(name for name, _, _ in places)
        operations: dict[str, Operation] = {}
        for found, item, at in places:
            name = _unique(found, at, is_alone=plain[found] == 1)
            try:
                operations[name] = reader.operation(name, item, at)
            except Bad as fault:
                bad.append((name, fault))
        return Document(
            operations=dict(sorted(operations.items())),
            quarantined=tuple(Quarantined(name, _fault(self._source, self._text, fault)) for name, fault in bad),
            base=servers.base,
        )

    def _servers(self) -> Servers:
        configured = self._configured
        try:
            return Servers(self._root.get("servers"), configured=configured.url, source=configured.source)
        except ValueError as error:
            raise Bad(("servers",), str(error)) from None

    def _places(self, paths: JsonObject) -> tuple[list[tuple[str, JsonObject, Path]], list[tuple[str, Bad]]]:
        """Where operations are: their names, their Path Items and their places; and the paths that cannot be read."""
        places: list[tuple[str, JsonObject, Path]] = []
        bad: list[tuple[str, Bad]] = []
        for path, entry in paths.items():
            if path.startswith("x-"):
                continue
            at: Path = ("paths", path)
            try:
                item = self._item(entry, at)
            except Bad as fault:
                bad.append((plain_name(None, "path", path), fault))
                continue
            places += [(plain_name(item[m], m, path), item, (*at, m)) for m in METHODS if m in item]
        if len(places) > MAX_OPERATIONS:
            raise Bad(("paths",), f"more than {MAX_OPERATIONS} operations")
        return places, bad

    def _item(self, entry: Any, at: Path) -> JsonObject:
        item, _ = self._references.follow(entry, at)
        if not isinstance(item, dict):
            raise Bad(at, "must be a Path Item")
        return item


def _unique(name: str, at: Path, *, is_alone: bool) -> str:
    """The name, or where it is long or not alone one that ends in a hash of method and path: order decides nothing."""
    if is_alone and len(name) <= MAX_NAME:
        return name
    digest = base64.b32encode(hashlib.sha256(f"{at[-1]} {at[-2]} {name}".encode()).digest())[:8].decode().lower()
    return f"{name[: MAX_NAME - 9]}_{digest}"
