"""A YAML text as plain values, with the line where each stands. Pure; knows no member of hub.yaml.

Values are what JSON can hold. Plain scalars follow YAML 1.2's core: `on`, `yes` and dates are texts, so that a name or
a version is never turned into something else. Aliases count each time they are used, so a small text cannot unfold
into a large value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]
"""Where a value stands: member names and list positions, from the top."""

MAX_VALUES = 100_000
"""Values in one file, aliases unfolded: a thousand entries need a tenth of it."""

MAX_DEPTH = 32
"""Nesting in one file; the deepest member that exists stands at 6."""

_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_STANDARD = "tag:yaml.org,2002:"
_PLAIN = frozenset({"str", "null", "bool", "int", "float", "timestamp", "merge", "value", "map", "seq"})
_VARIABLE = re.compile(
    r"\$(?P<literal>\$\{)|\$\{(?:env:)?(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}|\$\{", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to say about a file, for the person who wrote it."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass(slots=True)
class Source:
    """One text, read. `faults` says what is wrong with it as YAML; the value then holds what could be read."""

    file: str
    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    unset: set[Path] = field(default_factory=set)
    """Texts whose variables could not be read: what else is wrong with them is a consequence."""
    max_values: int = MAX_VALUES
    max_depth: int = MAX_DEPTH
    _values: int = 0

    def line(self, path: Path) -> int:
        """The line of what stands at `path`, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def fault(self, path: Path, text: str) -> Fault:
        """Say `text` about what stands at `path`."""
        return Fault(self.file, self.line(path), text)

    def substitute(self, lookup: Callable[[str], str | None]) -> None:
        """Replace `${NAME}`, `${NAME:-default}` and `${env:NAME}` in every text; `$${` stands for `${`.

        The default stands for a variable that is missing or empty. A missing one without a default is a fault.
        """
        self.value = self._substituted(self.value, (), lookup)

    def _substituted(self, value: Any, path: Path, lookup: Callable[[str], str | None]) -> Any:
        if isinstance(value, dict):
            return {name: self._substituted(item, (*path, name), lookup) for name, item in value.items()}
        if isinstance(value, list):
            return [self._substituted(item, (*path, at), lookup) for at, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value

        def found(match: re.Match[str]) -> str:
            if match["literal"]:
                return "${"
            name = match["name"]
            if name is None:
                self.unset.add(path)
                self.faults.append(
                    self.fault(path, f"{dotted(path)}: write ${{NAME}}, ${{NAME:-default}} or ${{env:NAME}}")
                )
                return ""
            known = lookup(name)
            if known is None and match["default"] is None:
                self.unset.add(path)
                self.faults.append(self.fault(path, f"{dotted(path)}: the environment variable {name} is not set"))
            return match["default"] if not known and match["default"] is not None else known or ""

        return _VARIABLE.sub(found, value)


def dotted(path: Path) -> str:
    """Write `path` for a reader: `models.gpt-4o.provider`."""
    return ".".join(str(part) for part in path) or "the file"


def parse(text: str, file: str, *, max_values: int = MAX_VALUES, max_depth: int = MAX_DEPTH) -> Source:
    """Read a YAML (or JSON) text. What is wrong stands in the answer's `faults`; nothing is raised."""
    source = Source(file, max_values=max_values, max_depth=max_depth)
    try:
        deep = _too_deep(text, max_depth)
        if deep is not None:
            source.faults.append(Fault(file, deep, f"nested deeper than {max_depth}"))
            return source
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        line = mark.line + 1 if mark is not None else 1
        source.faults.append(Fault(file, line, f"this is not YAML: {problem}"))
        return source
    except RecursionError:
        source.faults.append(Fault(file, 1, f"nested deeper than {max_depth}"))
        return source
    if node is not None:
        try:
            source.value = _value(node, (), source)
        except _TooMuch as error:
            source.faults.append(Fault(file, error.line, error.text))
    return source


def _too_deep(text: str, max_depth: int) -> int | None:
    """The line that is nested too deeply: the composer recurses in C, and a deep text would end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > max_depth + 1:
                return 1 if event.start_mark is None else event.start_mark.line + 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return None


class _TooMuch(Exception):
    def __init__(self, node: yaml.Node, text: str) -> None:
        super().__init__(text)
        self.line = node.start_mark.line + 1
        self.text = text


def _value(node: yaml.Node, path: Path, source: Source) -> Any:
    source._values += 1  # noqa: SLF001  # the walk and what it fills are one
    if source._values > source.max_values:  # noqa: SLF001
        raise _TooMuch(node, f"more than {source.max_values} values, aliases unfolded")
    if len(path) > source.max_depth:
        raise _TooMuch(node, f"nested deeper than {source.max_depth}")
    if node.tag.removeprefix(_STANDARD) not in _PLAIN:
        source.faults.append(
            Fault(source.file, node.start_mark.line + 1, f"{dotted(path)}: tag {node.tag} is not known here")
        )
        return None
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, source)
    if isinstance(node, yaml.SequenceNode):
        items = []
        for at, item in enumerate(node.value):
            source.lines[(*path, at)] = item.start_mark.line + 1
            items.append(_value(item, (*path, at), source))
        return items
    return _scalar(str(node.value), is_plain=isinstance(node, yaml.ScalarNode) and not node.style)


def _mapping(node: yaml.MappingNode, path: Path, source: Source) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, item in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            source.faults.append(Fault(source.file, line, f"{dotted(path)}: a name must be a plain text"))
            continue
        name = str(key.value)
        here = (*path, name)
        if name in members:
            text = f"{dotted(here)} stands twice, first in line {source.lines[here]}"
            source.faults.append(Fault(source.file, line, text))
            continue
        source.lines[here] = line
        members[name] = _value(item, here, source)
    return members


def _scalar(text: str, *, is_plain: bool) -> Any:
    if not is_plain:  # quoted or a block: a text
        return text
    if text in {"", "~", "null", "Null", "NULL"}:
        return None
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if re.fullmatch(r"[-+]?[0-9]{1,18}", text):
        return int(text)
    if re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?", text):
        return float(text)
    return text
