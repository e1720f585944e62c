"""server.json of the MCP registry (schema 2025-12-11) as the `mcpServers` section. Pure: JSON in, section and notes out.

What its author leaves open becomes an environment variable, with the author's default where there is one. Earlier
schemas wrote the same members in snake_case: both are read.
"""

from __future__ import annotations

import re
from typing import Any

from hub.cli.mcp_json import unused_name, variable_name
from registry.declared.config import ConfigInvalid, Fault
from registry.judged import JsonObject

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][\w-]*)\}", re.ASCII)
_RUNTIMES = {"npm": "npx", "pypi": "uvx", "oci": "docker", "nuget": "dnx"}
_BASES = {
    "npm": ("https://registry.npmjs.org",),
    "pypi": ("https://pypi.org",),
    "oci": ("https://docker.io",),
    "nuget": ("https://api.nuget.org", "https://api.nuget.org/v3/index.json"),
}


_ASKED = ("value", "default", "isRequired", "valueHint", "format", "choices", "placeholder", "isSecret")
"""A named argument with any of these has a value; one without is a flag alone."""


class _Unusable(Exception):
    """A way to run or reach the server that the hub does not know, with the reason."""


def is_one(top: JsonObject) -> bool:
    """Whether this is a server.json, or what the registry answers with: one inside `server`, or many in `servers`."""
    return bool(_documents(top))


def _documents(top: JsonObject) -> list[JsonObject]:
    listed = top.get("servers")
    found = listed if isinstance(listed, list) else [top]
    unwrapped = [item.get("server", item) if isinstance(item, dict) else item for item in found]
    return [
        item
        for item in unwrapped
        if isinstance(item, dict)
        and isinstance(item.get("name"), str)
        and (isinstance(item.get("packages"), list) or isinstance(item.get("remotes"), list))
    ]


def sections(top: JsonObject, file: str) -> tuple[dict[str, object], list[str]]:
    """Make a member of `mcpServers` for each server: of its remotes, else of its packages, the first that the hub can use.

    Raises:
        ConfigInvalid: there is none.
    """
    found: dict[str, object] = {}
    notes: list[str] = []
    for document in _documents(top):
        title = document["name"]
        name = unused_name(title.rpartition("/")[2], found, [])
        notes.append(f"{title} is called {name} here")
        if document.get("status") in ("deprecated", "deleted"):
            notes.append(f"{name} is {document['status']}: {document.get('description', '')}")
        found |= _first(name, document, notes)
    if not found:
        raise ConfigInvalid((Fault(file, 1, "; ".join(notes)),))
    return {"mcpServers": found}, list(dict.fromkeys(notes))


def _first(name: str, document: JsonObject, notes: list[str]) -> dict[str, object]:
    """The first usable way, as a map of the name alone; the others are named in the notes."""
    remotes = sorted(_list(document, "remotes"), key=lambda remote: _get(remote, "type") == "sse")
    found: dict[str, object] = {}
    for way in (*remotes, *_list(document, "packages")):
        is_remote = "url" in way
        what = way["url"] if is_remote else f"{_get(way, 'registryType')} package {way.get('identifier')}"
        if found:
            notes.append(f"{name} is also offered as {what}")
            continue
        try:
            found[name] = _Reading(name, notes).remote(way) if is_remote else _Reading(name, notes).package(way)
        except _Unusable as error:
            notes.append(f"{name}: {what} is left out: {error}")
    return found


def _get(item: JsonObject, member: str) -> Any:
    """A member, also as earlier schemas spelt it."""
    snake = re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", member)
    return item.get(member, item.get(snake, item.get("transport_type") if member == "type" else None))


def _text(item: JsonObject, member: str) -> str:
    """A member that is a text; empty: it is none."""
    found = _get(item, member)
    return found if isinstance(found, str) else ""


def _list(item: JsonObject, member: str) -> list[JsonObject]:
    found = _get(item, member)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


class _Reading:
    """One server's way, being read. `notes` gains what the operator must know."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self._name = name
        self._notes = notes

    def remote(self, remote: JsonObject) -> JsonObject:
        """A server elsewhere."""
        transport = _get(remote, "type")
        if transport not in ("streamable-http", "streamable", "http", "sse"):
            raise _Unusable(f"its transport is {transport}")
        found: JsonObject = {"type": "sse"} if transport == "sse" else {}
        found["url"] = self._filled(str(remote["url"]), _get(remote, "variables"))
        headers = self._named(_list(remote, "headers"), own_names=False)
        if headers:
            found["headers"] = headers
        else:
            self._notes.append(
                f"{self._name} is given no credentials; if its users are to sign in there, add auth: {{type: user_oauth}}"
            )
        return found

    def package(self, package: JsonObject) -> JsonObject:
        """A command."""
        kind, identifier = _text(package, "registryType"), package.get("identifier")
        described = package.get("transport")
        transport = described.get("type") if isinstance(described, dict) else "stdio"  # earlier schemas knew no other
        if transport != "stdio":
            raise _Unusable(f"it serves {transport}; start it yourself and write its url")
        if kind not in _RUNTIMES or not isinstance(identifier, str):
            raise _Unusable("the hub knows npm, pypi, oci and nuget packages")
        base = _text(package, "registryBaseUrl")
        if base and base.rstrip("/") not in _BASES[kind] and kind != "oci":
            self._notes.append(f"{self._name}: the package is in the registry {base}, which {kind} must be told of")
        env = self._named(_list(package, "environmentVariables"), own_names=True)
        before = self._arguments(_list(package, "runtimeArguments"))
        after = self._arguments(_list(package, "packageArguments"))
        command = _text(package, "runtimeHint") or _RUNTIMES[kind]
        args = [*_launch(kind, before, env), _reference(kind, package), *_separator(kind, after), *after]
        self._notes.append(f"{self._name} runs `{' '.join((command, *args))}` on the hub's machine")
        return {"command": command, "args": args} | ({"env": env} if env else {})

    def _named(self, items: list[JsonObject], *, own_names: bool) -> dict[str, str]:
        """Headers, or the server's environment variables, which keep their names."""
        found = {}
        for item in items:
            name = str(item.get("name"))
            value = self._value(item, name if own_names else f"{self._name} {name}", name)
            if value is not None:
                found[name] = value
        return found

    def _arguments(self, items: list[JsonObject]) -> list[str]:
        found: list[str] = []
        for item in items:
            flag = item.get("name") if item.get("type") == "named" else None
            hint = str(flag or _get(item, "valueHint") or "argument")
            if flag is not None and not any(_get(item, of) for of in _ASKED):
                found.append(str(flag))
                continue
            value = self._value(item, f"{self._name} {hint.lstrip('-')}", hint)
            if value is not None:
                found += [str(flag), value] if flag is not None else [value]
            if _get(item, "isRepeated"):
                self._notes.append(f"{self._name}: {hint} may be given several times")
        return found

    def _value(self, item: JsonObject, variable: str, called: str) -> str | None:
        """What the author fixed, or a variable for what is left open; None: it is optional and has no default."""
        if isinstance(item.get("value"), str):
            return self._filled(item["value"], _get(item, "variables"))
        return self._open(item, variable, called)

    def _filled(self, text: str, variables: Any) -> str:
        """Fill `{name}` of a text of the author's; one that is not described stays as it is."""
        known = variables if isinstance(variables, dict) else {}

        def fill(match: re.Match[str]) -> str:
            item = known.get(match[1])
            if not isinstance(item, dict):
                return match[0]
            if isinstance(item.get("value"), str):
                return _literal(item["value"])
            return self._open({**item, "isRequired": True}, f"{self._name} {match[1]}", match[1]) or ""

        return _PLACEHOLDER.sub(fill, _literal(text))

    def _open(self, item: JsonObject, words: str, called: str) -> str | None:
        variable, default = variable_name(words), item.get("default")
        about = f"{self._name}: {called}{_about(item)}"
        if isinstance(default, str) and default and "}" not in default and not _get(item, "isSecret"):
            self._notes.append(f"{about} is the environment variable {variable}, default {default}")
            return f"${{{variable}:-{default}}}"
        if not _get(item, "isRequired"):
            self._notes.append(f"{about} is optional and left out")
            return None
        self._notes.append(f"{about} is the environment variable {variable}: set it")
        return f"${{{variable}}}"


def _about(item: JsonObject) -> str:
    choices = item.get("choices")
    said = [str(item["description"])] if item.get("description") else []
    said += [f"one of {', '.join(map(str, choices))}"] if isinstance(choices, list) and choices else []
    return f" ({'; '.join(said)})" if said else ""


def _literal(text: str) -> str:
    """Write a text of the author's so that hub.yaml reads no variable of the hub's environment in it."""
    return text.replace("${", "$${")


def _launch(kind: str, before: list[str], env: dict[str, str]) -> list[str]:
    """What a runtime is told before the package."""
    if kind == "npm":
        return [*(flag for flag in ("-y",) if not {"-y", "--yes"} & set(before)), *before]
    if kind == "oci":
        given = before[1:] if before[:1] == ["run"] else before
        flags = [flag for flag in ("-i", "--rm") if flag not in given]
        return ["run", *flags, *given, *(part for name in env for part in ("-e", name))]
    return before


def _reference(kind: str, package: JsonObject) -> str:
    """The package in its exact version, as its runtime is told."""
    identifier, version = package["identifier"], package.get("version")
    if kind != "oci":
        return f"{identifier}@{version}" if version else str(identifier)
    base = _text(package, "registryBaseUrl").removeprefix("https://").strip("/")
    if base and base != "docker.io" and not identifier.startswith(f"{base}/"):
        identifier = f"{base}/{identifier}"
    is_tagged = ":" in identifier.rpartition("/")[2] or "@" in identifier
    return identifier if is_tagged or not version else f"{identifier}:{version}"


def _separator(kind: str, after: list[str]) -> list[str]:
    return ["--yes", *(["--"] if after else [])] if kind == "nuget" else []
