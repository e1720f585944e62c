"""Bodies of the admin API read as entries, by the shapes of hub.yaml. Pure."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from registry.declared import toolsets
from registry.declared.declare import ENTRIES
from registry.declared.entry_shapes import CLIENT_ONLY, AgentShape, ModelShape, ServerShape, ToolsetShape
from registry.declared.shapes import explain, without_nulls
from registry.declared.source import Path, dotted
from registry.errors import InvalidRequest
from registry.judged import JsonObject
from registry.members import Shape, is_http_url
from registry.names import model_name_fault, name_fault

_FILE_ONLY = ("command", "args", "env", "envFile", "cwd", "openapi")
"""Members that start processes or read files: the operator's file alone may hold them (surface.md 5)."""

_SECTIONS: dict[str, tuple[str, type[Shape]]] = {
    "agent": ("agents", AgentShape),
    "server": ("mcpServers", ServerShape),
    "model": ("models", ModelShape),
    "toolset": ("toolsets", ToolsetShape),
}


def stored_entry(kind: str, name: str, body: JsonObject, *, trusted: bool) -> Any:
    """Read a body of the admin API as the entry `name`; `kind` is `agent`, `server`, `model` or `toolset`.

    A `name` in the body is not looked at. `trusted` says that the admin key wrote it.

    Raises:
        InvalidRequest: names every member that is wrong, or that only the file may hold.
    """
    section, of_shape = _SECTIONS[kind]
    if text := model_name_fault(name) if kind == "model" else name_fault(name):
        raise InvalidRequest(f"name: {text}", member="name")
    members = {member: item for member, item in body.items() if member != "name"}
    for member in _FILE_ONLY:
        if kind == "server" and member in members and not (member == "openapi" and is_http_url(members[member])):
            raise InvalidRequest(
                f"{member} stands in hub.yaml only: it starts a process or reads a file", member=member
            )
    for member, item in members.items():
        if _has_variable(item):
            raise InvalidRequest(f"{member}: ${{…}} is read in hub.yaml only", member=member)
    if kind == "server":
        members = {member: item for member, item in members.items() if member not in CLIENT_ONLY}
    try:
        shape = of_shape.model_validate(without_nulls(members, (section, name)))
        if isinstance(shape, ToolsetShape):
            return toolsets.stored_toolset(name, shape)
        return ENTRIES[section](name, shape, {}, "api", trusted)
    except ValidationError as error:
        raise _refusal(error, (section, name)) from None
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


def _refusal(error: ValidationError, at: Path) -> InvalidRequest:
    texts, first = [], None
    for detail in error.errors(include_url=False, include_context=True):
        path, text = explain({**detail, "loc": (*at, *detail["loc"])})
        first = first or next(iter(detail["loc"]), None)
        texts.append(f"{dotted(path[2:])}: {text}" if path[2:] else text)
    return InvalidRequest("; ".join(texts), member=None if first is None else str(first))


def _has_variable(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_variable(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_variable(item) for item in value)
    return isinstance(value, str) and "${" in value
