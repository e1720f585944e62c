"""What can be asked about files, batches and vector stores: paths, where ids stand in what is sent and answered. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

from llm.platform.references import (
    ALL_PARTS,
    BATCH,
    FILE,
    FILE_BATCH,
    FOUND,
    NEW_FILE_BATCH,
    NEW_STORE_FILE,
    PART,
    STORE,
    STORE_FILE,
    STORE_FILES,
    UPLOAD,
    Change,
    Places,
    Shape,
)
from llm.platform.sealed_ids import Kind
from registry.errors import HttpMethodRefused, InvalidRequest, MethodNotFound

KINDS: dict[str, Kind] = {
    "{file}": "file",
    "{batch}": "batch",
    "{store}": "vector store",
    "{files}": "file batch",
    "{upload}": "upload",
}
"""What the ids in paths name."""

LISTED: dict[str, Kind] = {"files": "file", "batches": "batch", "vector_stores": "vector store"}
"""What can be made and listed, by its path."""

PATHS = (*LISTED, "uploads")
"""Where everything stands."""

CURSORS = frozenset({"after", "before"})


class Operation(NamedTuple):
    """One thing that can be done with what exists."""

    method: str
    path: tuple[str, ...]
    answers: Shape | None
    """None: with content, which goes on as it comes."""
    sends: Places | None = None
    """None: nothing is sent."""


_STORE = ("vector_stores", "{store}")
_STORE_FILE = (*_STORE, "files", "{file}")
_FILES = (*_STORE, "file_batches", "{files}")

OPERATIONS = (
    Operation("GET", ("files", "{file}"), FILE),
    Operation("DELETE", ("files", "{file}"), FILE),
    Operation("GET", ("files", "{file}", "content"), None),
    Operation("GET", ("batches", "{batch}"), BATCH),
    Operation("POST", ("batches", "{batch}", "cancel"), BATCH),
    Operation("GET", _STORE, STORE),
    Operation("POST", _STORE, STORE, sends={}),
    Operation("DELETE", _STORE, STORE),
    Operation("POST", (*_STORE, "search"), FOUND, sends={}),
    Operation("GET", (*_STORE, "files"), STORE_FILES),
    Operation("POST", (*_STORE, "files"), STORE_FILE, sends=NEW_STORE_FILE),
    Operation("GET", _STORE_FILE, STORE_FILE),
    Operation("POST", _STORE_FILE, STORE_FILE, sends={}),
    Operation("DELETE", _STORE_FILE, STORE_FILE),
    Operation("GET", (*_STORE_FILE, "content"), None),
    Operation("POST", (*_STORE, "file_batches"), FILE_BATCH, sends=NEW_FILE_BATCH),
    Operation("GET", _FILES, FILE_BATCH),
    Operation("POST", (*_FILES, "cancel"), FILE_BATCH),
    Operation("GET", (*_FILES, "files"), STORE_FILES),
    Operation("POST", ("uploads", "{upload}", "parts"), PART),
    Operation("POST", ("uploads", "{upload}", "complete"), UPLOAD, sends=ALL_PARTS),
    Operation("POST", ("uploads", "{upload}", "cancel"), UPLOAD),
)


def find(method: str, path: str) -> tuple[Operation, list[tuple[Kind, str]]]:
    """The operation of a path such as `files/file-x/content`, and the ids in it.

    Raises:
        MethodNotFound, HttpMethodRefused: there is none, or not for this method.
    """
    parts = path.split("/")
    fitting = [one for one in OPERATIONS if _fits(one.path, parts)]
    if not fitting:
        raise MethodNotFound(f"/{path}")
    operation = next((one for one in fitting if one.method == method), None)
    if operation is None:
        raise HttpMethodRefused(", ".join(one.method for one in fitting))
    ids = [(KINDS[step], part) for step, part in zip(operation.path, parts, strict=True) if step in KINDS]
    return operation, ids


def _fits(path: tuple[str, ...], parts: list[str]) -> bool:
    return len(path) == len(parts) and all(
        bool(part) if step in KINDS else step == part for step, part in zip(path, parts, strict=True)
    )


def target(operation: Operation, names: Sequence[str], query: bytes, change: Change) -> str:
    """Path and query for the provider, with its own names in them."""
    rest = iter(names)
    path = "/".join(quote(next(rest), safe="") if step in KINDS else step for step in operation.path)
    pairs = [(name, change("file", value) if name in CURSORS else value) for name, value in members(query)]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def members(query: bytes) -> list[tuple[str, str]]:
    """A query's members; raises `InvalidRequest` when one that decides stands twice, or for more than anybody needs."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=32)
    except ValueError:
        raise InvalidRequest("the query cannot be read") from None
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise InvalidRequest("a member of the query stands twice")
    return pairs
