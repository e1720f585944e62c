"""JSON Patch (RFC 6902): one JSON value changed step by step, and bounded in what it grows to. Pure."""

from __future__ import annotations

from typing import Any

from registry.judged import MAX_DEPTH, decode, encode, nesting


class PatchInvalid(ValueError):
    """An operation that is none, that leads nowhere, or that makes the value too large or too deep; the text says which."""


class Patched:
    """A value, and how it is changed. It has a copy of its own."""

    def __init__(self, value: Any, *, most: int) -> None:
        """`most` bytes the value may have, written as JSON."""
        self.value = decode(encode(value))
        self._most = most
        self._size = 0
        """At least what was added since it was measured last."""

    def apply(self, operations: Any) -> None:
        """Do all of some operations, in their order.

        Raises:
            PatchInvalid: one of them cannot be done; those before it are done.
        """
        if not isinstance(operations, list):
            raise PatchInvalid("a patch is no list")
        for operation in operations:
            if not isinstance(operation, dict):
                raise PatchInvalid("an operation is no object")
            self._do(operation)

    def _do(self, operation: dict[str, Any]) -> None:
        kind, path = operation.get("op"), _steps(operation.get("path"))
        match kind:
            case "add":
                self._add(path, _value(operation))
            case "replace":
                value = _value(operation)
                self._take(path)
                self._add(path, value)
            case "remove":
                self._take(path)
            case "move":
                source = _steps(operation.get("from"))
                if path[: len(source)] == source and path != source:
                    raise PatchInvalid("a value cannot be moved into itself")
                self._add(path, self._take(source))
            case "copy":
                self._add(path, self._at(_steps(operation.get("from"))))
            case "test":
                if not _is_same(self._at(path), _value(operation)):
                    raise PatchInvalid("a test of it fails")
            case _:
                raise PatchInvalid("an operation is of no known kind")

    def _add(self, path: list[str], value: Any) -> None:
        value = self._copied(value, len(path))
        if not path:
            self.value = value
            return
        parent, last = self._at(path[:-1]), path[-1]
        if isinstance(parent, dict):
            parent[last] = value
        elif isinstance(parent, list):
            parent.insert(len(parent) if last == "-" else _index(last, len(parent)), value)
        else:
            raise PatchInvalid("a path leads through what has no members")

    def _take(self, path: list[str]) -> Any:
        if not path:
            value, self.value = self.value, None
            return value
        parent, last = self._at(path[:-1]), path[-1]
        if isinstance(parent, dict) and last in parent:
            return parent.pop(last)
        if isinstance(parent, list):
            return parent.pop(_index(last, len(parent) - 1))
        raise PatchInvalid("a path leads nowhere")

    def _at(self, path: list[str]) -> Any:
        value = self.value
        for step in path:
            if isinstance(value, dict) and step in value:
                value = value[step]
            elif isinstance(value, list):
                value = value[_index(step, len(value) - 1)]
            else:
                raise PatchInvalid("a path leads nowhere")
        return value

    def _copied(self, added: Any, depth: int) -> Any:
        """A copy of what is added so deep in the value, which stays within its bounds; it is measured when it may not."""
        data = encode(added)
        if depth + nesting(data)[0] > MAX_DEPTH:
            raise PatchInvalid("it is nested too deeply")
        self._size += len(data)
        if self._size > self._most:
            self._size = len(encode(self.value)) + len(data)
            if self._size > self._most:
                raise PatchInvalid("it is too large")
        return decode(data)


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise PatchInvalid("an operation has no value")
    return operation["value"]


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are equal (RFC 6902 §4.6): numbers by what they are worth, truth values by themselves."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and one == other


def _steps(pointer: Any) -> list[str]:
    """The steps of a JSON Pointer (RFC 6901)."""
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise PatchInvalid("a path is no JSON Pointer")
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _index(step: str, most: int) -> int:
    """A place in a list (RFC 6901 §4): digits without a leading zero."""
    if step.isascii() and step.isdigit() and (step == "0" or step[0] != "0") and len(step) < 10 and int(step) <= most:
        return int(step)
    raise PatchInvalid("a path leads nowhere")
