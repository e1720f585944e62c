"""mcp.json of Cursor, Claude and VS Code as the `mcpServers` section. Pure: text in, section and notes out."""

from __future__ import annotations

import json
import re
from typing import Any

from registry.declared.config import ConfigInvalid, Fault
from registry.declared.entry_shapes import CLIENT_ONLY
from registry.declared.shapes import known_members
from registry.judged import JsonObject
from registry.names import name_fault

_COMMENT_OR_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?\*/|,(?=\s*[}\]])', re.DOTALL)
_VARIABLE = re.compile(r"\$\{(?:(input):([^}]+)|(/|[A-Za-z]\w*))\}", re.ASCII)

_OF_EDITORS = {
    "userHome": "${HOME}",
    "pathSeparator": "/",
    "/": "/",
    "workspaceFolder": "${WORKSPACE_FOLDER}",
    "workspaceFolderBasename": "${WORKSPACE_FOLDER_NAME}",
    "workspaceRoot": "${WORKSPACE_FOLDER}",
}
"""What Cursor and VS Code put in the place of these variables; the hub has no workspace."""

_TRANSPORTS = (None, "stdio", "http", "streamable-http", "streamable_http", "streamableHttp", "sse")


def sections(top: JsonObject, file: str) -> tuple[dict[str, object], list[str]]:
    """Read `mcpServers`, or VS Code's `servers` and `inputs`; answer the section and what the reader should know.

    Raises:
        ConfigInvalid: it holds no servers.
    """
    if isinstance(top.get("mcp"), dict):  # VS Code's settings.json
        top = top["mcp"]
    servers = top.get("mcpServers", top.get("servers", top if _are_servers(top) else None))
    if not isinstance(servers, dict):
        raise ConfigInvalid((Fault(file, 1, "has neither mcpServers nor servers, and is no server.json"),))
    listed = top.get("inputs")
    inputs = {
        str(item.get("id")): item for item in (listed if isinstance(listed, list) else ()) if isinstance(item, dict)
    }
    notes: list[str] = []
    found: dict[str, object] = {}
    for name, server in servers.items():
        if not isinstance(server, dict):
            notes.append(f"{name} is not a map and is left out")
        elif server.get("type") not in _TRANSPORTS:
            notes.append(f"{name} is of type {server['type']}, which the hub does not speak, and is left out")
        else:
            found[unused_name(name, found, notes)] = _server(name, _substituted(server, inputs, notes), notes)
    return ({"mcpServers": found} if found else {}), list(dict.fromkeys(notes))


def _are_servers(top: JsonObject) -> bool:
    """Whether these are servers without a member around them, as in plugins of Claude Code."""
    return bool(top) and all(isinstance(item, dict) and ("command" in item or "url" in item) for item in top.values())


def read_json(text: str, file: str) -> JsonObject:
    """Read JSON as editors write it: with comments and trailing commas; raises `ConfigInvalid`."""
    plain = _COMMENT_OR_TEXT.sub(lambda match: match[0] if match[0].startswith('"') else " ", text)
    # a comma before a comment and a bracket shows only now
    plain = _COMMENT_OR_TEXT.sub(lambda match: match[0] if match[0].startswith('"') else " ", plain)
    try:
        top = json.loads(plain)
    except json.JSONDecodeError as error:
        raise ConfigInvalid((Fault(file, error.lineno, f"is not JSON: {error.msg}"),)) from None
    except RecursionError:
        raise ConfigInvalid((Fault(file, 1, "is nested too deeply"),)) from None
    except ValueError:  # an integer of thousands of digits
        raise ConfigInvalid((Fault(file, 1, "holds a number that is too long"),)) from None
    if not isinstance(top, dict):
        raise ConfigInvalid((Fault(file, 1, "must be a JSON object"),))
    return top


def valid_name(name: str) -> str:
    """The nearest name that hub.yaml allows."""
    better = re.sub(r"_{2,}", "_", re.sub(r"[^a-z0-9_-]+", "-", name.lower())).strip("-_")
    better = (better if better[:1].isalpha() else f"s{better}")[:32].rstrip("-_")
    return better if name_fault(better) is None else f"{better}-1"[-32:]


def unused_name(name: str, taken: dict[str, object], notes: list[str]) -> str:
    """The nearest name that hub.yaml allows and nothing in `taken` has."""
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
    server = _signed_in(name, server, notes)
    unknown = sorted(server.keys() - set(known) - CLIENT_ONLY)
    notes.extend(f"{name}.{member} has no counterpart and is left out" for member in unknown)
    return {member: value for member, value in server.items() if member in known}


def variable_name(words: str) -> str:
    """An environment variable's name made of words."""
    name = re.sub(r"\W+", "_", words, flags=re.ASCII).strip("_").upper() or "INPUT"
    return f"_{name}" if name[0].isdigit() else name


def _signed_in(name: str, server: JsonObject, notes: list[str]) -> JsonObject:
    """Turn the OAuth client of Cursor (`auth`) or Claude Code (`oauth`) into the hub's `auth`."""
    given = server.get("auth", server.get("oauth"))
    if "url" in server and not given and not server.get("headers"):
        notes.append(
            f"{name} is given no credentials; if its users are to sign in there, add auth: {{type: user_oauth}}"
        )
    if not isinstance(given, dict):
        return server
    members = {
        "client_id": given.get("CLIENT_ID", given.get("clientId")),
        "client_secret": given.get("CLIENT_SECRET"),
        "scopes": given["scopes"].split() if isinstance(given.get("scopes"), str) else given.get("scopes"),
    }
    notes.append(f"{name}: its OAuth client must allow the address <hub>/oauth/callback too")
    kept = {member: value for member, value in members.items() if value}
    return {member: value for member, value in server.items() if member != "oauth"} | {
        "auth": {"type": "user_oauth", **kept}
    }


def _substituted(value: Any, inputs: JsonObject, notes: list[str]) -> Any:
    """Turn `${input:id}` into an environment variable named after the id, and an editor's own variables into others."""
    if isinstance(value, dict):
        return {name: _substituted(item, inputs, notes) for name, item in value.items()}
    if isinstance(value, list):
        return [_substituted(item, inputs, notes) for item in value]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        if match[1] is None:
            return _OF_EDITORS.get(match[3], match[0])
        asked = inputs.get(match[2], {})
        name = variable_name(match[2])
        default = asked.get("default")
        what = f" ({asked['description']})" if isinstance(asked.get("description"), str) else ""
        if isinstance(default, str) and default and "}" not in default and not asked.get("password"):
            notes.append(f"the input {match[2]}{what} is the environment variable {name}, default {default}")
            return f"${{{name}:-{default}}}"
        notes.append(f"the input {match[2]}{what} is the environment variable {name}: set it")
        return f"${{{name}}}"

    return _VARIABLE.sub(variable, value)
