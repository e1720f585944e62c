"""Where ids of files, vector stores and the like stand in bodies, and bodies with other ids in their place. Pure.

Only what leads to an id is read; everything else stays as it came. Ids are found by their place in the body, never by how
they look.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from llm.platform.sealed_ids import Kind
from registry import judged
from registry.judged import RawObject


class Unless(NamedTuple):
    """Ids of an object that are none where its `type` is `type`: there they are names that everybody knows."""

    type: str
    places: Places


Places = Mapping[str, "Places | Unless | Kind"]
"""Members that lead to ids, and the kind of what the id names; `*` is each item of an array, and each other member; the
empty name is the value where it is a text."""

Change = Callable[[Kind, str], str]

_CITED: Places = {"file_id": "file", "container_id": "container"}
_TOOL: Places = {
    "vector_store_ids": {"*": "vector store"},
    "container": {"": "container", "file_ids": {"*": "file"}},
    "environment": {
        "container_id": "container",
        "file_ids": {"*": "file"},
        "skills": {"*": {"skill_id": "skill"}},
    },
    "input_image_mask": {"file_id": "file"},
}

_ITEM: Places = {
    **_CITED,
    "tools": {"*": _TOOL},
    "content": {"*": {"file_id": "file", "annotations": {"*": _CITED}}},
    "output": {"file_id": "file", "*": {"file_id": "file"}},
    "results": {"*": _CITED},
    "environment": _CITED,
}
"""Of the Responses API, asked and answered."""

_BLOCK: dict[str, Places | Unless | Kind] = {"file_id": "file", "citations": {"*": {"file_id": "file"}}}
"""Of Anthropic's format, asked and answered: blocks hold blocks, by themselves, in lists and in results."""
_WITHIN: dict[str, Places | Unless | Kind] = {"*": _BLOCK, "file_id": "file", "source": _BLOCK}
_WITHIN["content"] = _WITHIN
_BLOCK |= {"source": _BLOCK, "content": _WITHIN}
_CONTAINER: Places = {
    "": "container",
    "id": "container",
    "skills": {"*": Unless("anthropic", {"skill_id": "skill"})},
}
_VOICE: Places = {"voice": {"id": "voice"}}
_MESSAGE: Places = {"content": {"*": _BLOCK}, "container": _CONTAINER}

ASKED: Mapping[str, Places] = {
    "chat": {
        "messages": {"*": {"content": {"*": {"file": {"file_id": "file"}}}, "audio": {"id": "audio"}}},
        "tools": {"*": _TOOL},
        "audio": _VOICE,
    },
    "responses": {
        "input": {"*": _ITEM},
        "tools": {"*": _TOOL},
        "prompt": {"id": "prompt", "variables": {"*": {"file_id": "file"}}},
        "prompt_cache_options": {"comparison_response_id": "response"},
    },
    "messages": {
        "messages": {"*": _MESSAGE},
        "container": _CONTAINER,
        "thread": {"previous_message_id": "thread"},
    },
    "audio/speech": _VOICE,
    "images/edits": {"images": {"*": {"file_id": "file"}}, "mask": {"file_id": "file"}},
}
"""In requests to models, by their format or endpoint."""

_OUTPUT: Places = {"output": {"*": _ITEM}}
_SPOKEN: Places = {"audio": {"id": "audio"}}
ANSWERED: Mapping[str, Places] = {
    "chat": {"choices": {"*": {"message": _SPOKEN, "delta": _SPOKEN}}},
    "responses": {
        **_OUTPUT,
        "response": _OUTPUT,
        "item": _ITEM,
        "part": {"annotations": {"*": _CITED}},
        "annotation": _CITED,
    },
    "messages": {
        **_MESSAGE,
        "message": _MESSAGE,
        "content_block": _BLOCK,
        "delta": {"container": _CONTAINER, "citation": {"file_id": "file"}},
    },
}
"""In models' answers and in the events of streams of them, by their format."""


class Shape(NamedTuple):
    """What an answer is: where ids stand in it, and whether it is a thing that is listed."""

    places: Places
    thing: Kind | None = None


_STORE_FILE: Places = {"id": "file", "vector_store_id": "vector store"}

FILE = Shape({"id": "file"}, "file")
BATCH = Shape({"id": "batch", "input_file_id": "file", "output_file_id": "file", "error_file_id": "file"}, "batch")
STORE = Shape({"id": "vector store"}, "vector store")
STORE_FILE = Shape(_STORE_FILE)
STORE_FILES = Shape({"data": {"*": _STORE_FILE}, "first_id": "file", "last_id": "file"})
FILE_BATCH = Shape({"id": "file batch", "vector_store_id": "vector store"})
FOUND = Shape({"data": {"*": {"file_id": "file"}}})

UPLOAD = Shape({"id": "upload", "file": {"id": "file"}})
PART = Shape({"id": "part", "upload_id": "upload"})

ALL_PARTS: Places = {"part_ids": {"*": "part"}}
NEW_BATCH: Places = {"input_file_id": "file"}
NEW_STORE: Places = {"file_ids": {"*": "file"}}
NEW_STORE_FILE: Places = {"file_id": "file"}
NEW_FILE_BATCH: Places = {"file_ids": {"*": "file"}, "files": {"*": {"file_id": "file"}}}

DECIDING = frozenset(
    {"file_id", "file_ids", "vector_store_ids", "container", "container_id", "prompt", "skill_id", "audio", "voice"}
    | {"previous_message_id", "comparison_response_id"}
)
"""Members that hold ids in requests: one that stands twice is refused."""
_names = re.compile(b'"(?:%b)"' % "|".join(sorted(DECIDING)).encode()).search
_hides = re.compile(rb"\\u00[2-7]").search
"""An escape where none is needed, which may hide any of them."""


def mentions(data: bytes) -> bool:
    """Whether a request to a model may hold an id; most hold none, and are not read for it."""
    return _names(data) is not None or _is_hiding(data)


def _is_hiding(data: bytes) -> bool:
    # a single byte is found ten times as fast, and `in` takes half as long again as `find`
    return data.find(b"\\") >= 0 and data.find(b"\\u00") >= 0 and _hides(data) is not None


_tools_that_cite = re.compile(rb"file_search|code_(?:interpreter|execution)|\"shell\"").search
_cited = re.compile(rb'"(?:file_ids?|container(?:_id)?|vector_store_ids|audio)"').search


def may_be_cited(data: bytes, format: str) -> bool:  # noqa: A002  # as ModelRequest's
    """Whether the answer to a request may hold ids: some tools of providers name what they found or made, and chat what was said aloud."""
    if format == "chat":
        return data.find(b'"audio"') >= 0 or _is_hiding(data)
    return mentions(data) or _tools_that_cite(data) is not None


def cites(data: bytes) -> bool:
    """Whether an answer, or an event of one, may hold an id."""
    return _cited(data) is not None


def in_request(data: bytes, places: Places, change: Change) -> bytes:
    """A body with the ids changed; raises `InvalidRequest` where one stands twice, and what `change` raises."""
    return judged.encode(in_object(judged.body(data, DECIDING), places, change))


def in_object(members: RawObject, places: Places, change: Change) -> RawObject:
    """An object with the ids changed, at `places` within it."""
    changed = dict(members)
    for name, raw in members.items():
        within = places.get(name) or places.get("*")
        if within is not None:
            changed[name] = msgspec.Raw(judged.encode(_changed(raw, within, change)))
    return changed


def _changed(raw: msgspec.Raw, places: Places | Unless | Kind, change: Change) -> object:
    if isinstance(places, str):
        value = judged.decode(raw)
        return change(places, value) if isinstance(value, str) else raw
    begins = bytes(memoryview(raw)[:1])
    if isinstance(places, Unless):
        members = judged.read_object(raw)
        is_named = "type" in members and judged.decode(members["type"]) == places.type
        return in_object(members, {} if is_named else places.places, change)
    if begins == b'"' and "" in places:
        return _changed(raw, places[""], change)
    if begins == b"[" and "*" in places:
        return [_changed(item, places["*"], change) for item in judged.read_array(raw, "ids")]
    return in_object(judged.read_object(raw), places, change) if begins == b"{" else raw
