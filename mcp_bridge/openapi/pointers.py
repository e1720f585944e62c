"""References within one OpenAPI document (JSON Pointer, RFC 6901). Pure; nothing outside the document is ever read."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from registry.declared.source import Path

MAX_HOPS = 16
"""References that lead to references."""


class Bad(Exception):
    """Something in the document that cannot be used; `path` says where it stands."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(f"{pointer(path)}: {text}")
        self.path = path
        self.text = text


def pointer(path: Path) -> str:
    """Write `path` as a JSON Pointer in a fragment: `#/paths/~1pets/get`."""
    return "#" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


class References:
    """What the references of one document lead to."""

    def __init__(self, root: Any) -> None:
        self._root = root

    def target(self, reference: Any, path: Path) -> Path:
        """Where `reference`, which stands at `path`, leads; raises `Bad` if that is not within the document."""
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise Bad(path, "a reference must lead to a place in this document, such as #/components/schemas/Pet")
        return tuple(part.replace("~1", "/").replace("~0", "~") for part in unquote(reference[2:]).split("/"))

    def at(self, target: Path, path: Path) -> Any:
        """The value at `target`; raises `Bad` about the reference at `path` if there is none."""
        value = self._root
        for part in target:
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and str(part).isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                raise Bad(path, f"{pointer(target)[:200]} is not in this document")
        return value

    def follow(self, value: Any, path: Path) -> tuple[Any, Path]:
        """`value`, or what it refers to in the end, and where that stands; raises `Bad` if it leads nowhere."""
        at = path
        for _ in range(MAX_HOPS):
            if not isinstance(value, dict) or "$ref" not in value:
                return value, at
            at = self.target(value["$ref"], path)
            value = self.at(at, path)
        raise Bad(path, "its references lead in a circle")
