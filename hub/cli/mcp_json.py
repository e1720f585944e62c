"""mcp.json of Cursor, Claude and VS Code as the `mcpServers` section. Pure: text in, section and notes out."""

from __future__ import annotations

import json
import re
from typing import Any

from registry.config import ConfigInvalid, Fault
from registry.judged import JsonObject
from registry.names import name_fault
from registry.shapes import CLIENT_ONLY, known_members

_COMMENT_OR_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?\*/|,(?=\s*[}\]])', re.DOTALL)
_INPUT = re.compile(r"\$\{input:([^}]+)\}")


def sections(text: str, file: str) -> tuple[dict[str, object], list[str]]:
    """Read `mcpServers`, or VS Code's `servers` and `inputs`; answer the section and what the reader should know.

    Raises:
        ConfigInvalid: it is not JSON, or holds no servers.
    """
    top = _json(text, file)
    if isinstance(top.get("mcp"), dict):  # VS Code's settings.json
        top = top["mcp"]
    servers = top.get("mcpServers", top.get("servers"))
    if not isinstance(servers, dict):
        raise ConfigInvalid((Fault(file, 1, "has neither mcpServers nor servers"),))
    inputs = {str(item.get("id")): item for item in top.get("inputs", []) if isinstance(item, dict)}
    notes: list[str] = []
    found: dict[str, object] = {}
    for name, server in servers.items():
        if isinstance(server, dict):
            found[_name(name, found, notes)] = _server(name, _substituted(server, inputs, notes), notes)
        else:
            notes.append(f"{name} is not a map and is left out")
    return ({"mcpServers": found} if found else {}), list(dict.fromkeys(notes))


def _json(text: str, file: str) -> JsonObject:
    """Read JSON as editors write it: with comments and trailing commas."""
    plain = _COMMENT_OR_TEXT.sub(lambda match: match[0] if match[0].startswith('"') else " ", text)
    # a comma before a comment and a bracket shows only now
    plain = _COMMENT_OR_TEXT.sub(lambda match: match[0] if match[0].startswith('"') else " ", plain)
    try:
        top = json.loads(plain)
    except json.JSONDecodeError as error:
        raise ConfigInvalid((Fault(file, error.lineno, f"is not JSON: {error.msg}"),)) from None
    except RecursionError:
        raise ConfigInvalid((Fault(file, 1, "is nested too deeply"),)) from None
    if not isinstance(top, dict):
        raise ConfigInvalid((Fault(file, 1, "must be a JSON object"),))
    return top


def valid_name(name: str) -> str:
    """The nearest name that hub.yaml allows."""
    better = re.sub(r"_{2,}", "_", re.sub(r"[^a-z0-9_-]+", "-", name.lower())).strip("-_")
    better = (better if better[:1].isalpha() else f"s{better}")[:32].rstrip("-_")
    return better if name_fault(better) is None else f"{better}-1"[-32:]


def _name(name: str, taken: dict[str, object], notes: list[str]) -> str:
    better = first = valid_name(name)
    number = 2
    while better in taken:
        better = f"{first[:28]}-{number}"
        number += 1
    if better != name:
        notes.append(f"{name!r} is called {better} here")
    return better


def _server(name: str, server: JsonObject, notes: list[str]) -> JsonObject:
    known = known_members(("mcpServers", name))
    unknown = sorted(server.keys() - set(known) - CLIENT_ONLY)
    notes.extend(f"{name}.{member} has no counterpart and is left out" for member in unknown)
    return {member: value for member, value in server.items() if member in known}


def _substituted(value: Any, inputs: JsonObject, notes: list[str]) -> Any:
    """Turn `${input:id}` into an environment variable named after the id."""
    if isinstance(value, dict):
        return {name: _substituted(item, inputs, notes) for name, item in value.items()}
    if isinstance(value, list):
        return [_substituted(item, inputs, notes) for item in value]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        asked = inputs.get(match[1], {})
        name = re.sub(r"\W+", "_", match[1], flags=re.ASCII).strip("_").upper() or "INPUT"
        name = f"_{name}" if name[0].isdigit() else name
        default = asked.get("default")
        what = f" ({asked['description']})" if isinstance(asked.get("description"), str) else ""
        if isinstance(default, str) and default and "}" not in default and not asked.get("password"):
            notes.append(f"the input {match[1]}{what} is the environment variable {name}, default {default}")
            return f"${{{name}:-{default}}}"
        notes.append(f"the input {match[1]}{what} is the environment variable {name}: set it")
        return f"${{{name}}}"

    return _INPUT.sub(variable, value)
