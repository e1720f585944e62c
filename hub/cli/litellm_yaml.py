"""LiteLLM's config.yaml as hub.yaml sections. Pure: text in, sections and notes out.

What narrows or guards there and has no counterpart here is never dropped in silence: it is a note.
"""

from __future__ import annotations

from typing import Any

from hub.cli.mcp_json import valid_name
from llm.providers.table import NAMES
from registry.access import matches
from registry.declared.config import ConfigInvalid
from registry.declared.source import parse
from registry.judged import JsonObject

PROVIDERS = {
    "ai21_chat": "ai21",
    "amazon-nova": "amazon_nova",
    "azure_ai": "azure",
    "featherless_ai": "featherless",
    "fireworks_ai": "fireworks",
    "hosted_vllm": "vllm",
    "lm_studio": "lmstudio",
    "nano-gpt": "nano_gpt",
    "nvidia_nim": "nvidia",
    "ollama_chat": "ollama",
    "scx-ai": "scx_ai",
    "together_ai": "together",
    "veniceai": "venice",
    "watsonx_text": "watsonx",
}
"""LiteLLM's provider prefixes where this hub has another name for the same service."""

_MODEL_PARAMS = {"model", "api_key", "api_base", "custom_llm_provider", "drop_params", "weight", "rpm", "tpm"}
_COSTS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached",
    "cache_creation_input_token_cost": "cache_write",
}
"""LiteLLM's prices are for one token, the hub's for a million."""
_SERVER_PARAMS = {
    "url",
    "spec_path",
    "transport",
    "command",
    "args",
    "env",
    "auth_type",
    "auth_value",
    "authentication_token",
    "static_headers",
    "allowed_tools",
    "description",
    "mcp_info",
    "alias",
}
_AUTH_HEADERS = {
    "bearer_token": ("Authorization", "Bearer "),
    "token": ("Authorization", "token "),
    "basic": ("Authorization", "Basic "),
    "authorization": ("Authorization", ""),
    "api_key": ("X-API-Key", ""),
}
_UNDERSTOOD = {
    "model_list",
    "mcp_servers",
    "agents",
    "agent_list",
    "general_settings",
    "litellm_settings",
    "router_settings",
}


def sections(text: str, file: str) -> tuple[dict[str, object], list[str]]:
    """Read models, MCP servers, agents and the master key; answer the sections and what was left out.

    Raises:
        ConfigInvalid: it is not YAML.
    """
    source = parse(text, file)
    if source.faults:
        raise ConfigInvalid(tuple(source.faults))
    top = _variables(_map(source.value))
    reading = _Reading()
    found = {
        "hub": reading.hub(_map(top.get("general_settings"))),
        "models": _dropping(top, reading.models(_list(top.get("model_list")), _fallbacks(top))),
        "mcpServers": reading.servers(_map(top.get("mcp_servers"))),
        "agents": reading.agents([*_list(top.get("agents")), *_list(top.get("agent_list"))]),
    }
    reading.left_out("litellm_settings", _map(top.get("litellm_settings")), {"fallbacks", "drop_params"})
    reading.left_out("router_settings", _map(top.get("router_settings")), {"fallbacks"})
    reading.left_out("", top, _UNDERSTOOD)
    return {name: members for name, members in found.items() if members}, reading.notes


def _dropping(top: JsonObject, models: JsonObject) -> JsonObject:
    """Say `drop_params` of the models of which it is said, of one place or of all."""
    said = {
        str(_map(item).get("model_name"))
        for item in _list(top.get("model_list"))
        if _map(_map(item).get("litellm_params")).get("drop_params") is True
    }
    if _map(top.get("litellm_settings")).get("drop_params") is True:
        said = set(models)
    return {name: model | {"drop_params": True} if name in said else model for name, model in models.items()}


class _Reading:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def left_out(self, owner: str, members: JsonObject, understood: set[str]) -> None:
        names = ", ".join(sorted(members.keys() - understood))
        if names:
            self.notes.append(f"{owner + ': ' if owner else ''}{names} left out: no counterpart here")

    def hub(self, settings: JsonObject) -> JsonObject:
        self.left_out("general_settings", settings, {"master_key"})
        key = settings.get("master_key")
        return {"admin_key": key} if isinstance(key, str) else {}

    def models(self, items: list[Any], fallbacks: dict[str, list[str]]) -> JsonObject:
        """Read `model_list`: items of one name are deployments of one model."""
        deployments: dict[str, list[JsonObject]] = {}
        for item in items:
            name, params = _map(item).get("model_name"), _map(_map(item).get("litellm_params"))
            costs = {cost: usd for cost, usd in _map(_map(item).get("model_info")).items() if cost in _COSTS}
            found = self._deployment(str(name), {**costs, **params})
            if found is not None:
                deployments.setdefault(str(name), []).append(found)
        models: JsonObject = {}
        for name, found_here in deployments.items():
            is_plain = len(found_here) == 1 and "limits" not in found_here[0]
            models[name] = found_here[0] if is_plain else {"deployments": found_here}
            if is_plain:
                found_here[0].pop("weight", None)
        for name, others in fallbacks.items():
            self._stand_in(models, name, others)
        return models

    def _stand_in(self, models: JsonObject, name: str, others: list[str]) -> None:
        known = [other for other in others if any(matches(one, other) for one in models) and other != name]
        if name in models and known:
            models[name]["fallbacks"] = known
        if unknown := ", ".join(other for other in others if other not in known) or (name not in models and name):
            self.notes.append(f"fallbacks of {name}: {unknown} left out: no such model here")

    def _deployment(self, name: str, params: JsonObject) -> JsonObject | None:
        model = str(params.get("model") or "")
        prefix, slash, rest = model.partition("/")
        if params.get("custom_llm_provider"):
            prefix, rest = str(params["custom_llm_provider"]), model.removeprefix(f"{params['custom_llm_provider']}/")
        elif not slash:
            prefix, rest = "openai", model
        provider = PROVIDERS.get(prefix, prefix)
        if provider not in NAMES or not rest:
            self.notes.append(f"model {name}: {model or 'no model'} left out: its provider is not in this version")
            return None
        self.left_out(f"model {name}", params, _MODEL_PARAMS | _COSTS.keys())
        found: JsonObject = {"provider": provider, "model": rest}
        if prefix == "openai" and params.get("api_base"):
            found["provider"] = "openai_compatible"
        for theirs, ours in (("api_base", "base_url"), ("api_key", "api_key"), ("weight", "weight")):
            if params.get(theirs) is not None:
                found[ours] = params[theirs]
        limits = {"requests_per_minute": params.get("rpm"), "tokens_per_minute": params.get("tpm")}
        if kept := {name: limit for name, limit in limits.items() if isinstance(limit, int)}:
            found["limits"] = kept
        price = {
            ours: params[theirs] * 1e6 for theirs, ours in _COSTS.items() if isinstance(params.get(theirs), int | float)
        }
        if "input" in price:
            found["price"] = {kind: round(usd, 9) for kind, usd in price.items()}
        return found

    def servers(self, servers: JsonObject) -> JsonObject:
        """Read `mcp_servers`."""
        found: JsonObject = {}
        for name, given in servers.items():
            server = _map(given)
            if not (server.get("url") or server.get("command") or server.get("spec_path")):
                self.notes.append(f"MCP server {name} left out: it has neither url, command nor spec_path")
                continue
            guards = {"disallowed_tools", "allowed_params"} & server.keys()
            if any(server[member] for member in guards):
                self.notes.append(
                    f"MCP server {name} left out: {', '.join(sorted(guards))} narrows it there and cannot here"
                )
                continue
            ours = valid_name(name)
            if ours != name:
                self.notes.append(f"MCP server {name!r} is called {ours} here")
            self.left_out(f"MCP server {name}", server, _SERVER_PARAMS)
            found[ours] = self._server(name, server)
        return found

    def _server(self, name: str, server: JsonObject) -> JsonObject:
        found = {member: server[member] for member in ("command", "args", "env", "url") if server.get(member)}
        if server.get("spec_path"):
            found["openapi"] = server["spec_path"]
        elif server.get("url") and server.get("transport", "sse") == "sse":
            self.notes.append(
                f"MCP server {name}: HTTP+SSE (transport: sse) is not spoken; it is asked over Streamable HTTP"
            )
        headers = dict(_map(server.get("static_headers")))
        kind, value = server.get("auth_type"), server.get("auth_value") or server.get("authentication_token")
        if kind in _AUTH_HEADERS and isinstance(value, str):
            header, before = _AUTH_HEADERS[kind]
            headers[header] = before + value
        elif kind not in {None, "none"}:
            self.notes.append(f"MCP server {name}: auth_type {kind} has no counterpart in this version")
        if headers:
            found["headers"] = headers
        if server.get("allowed_tools"):
            found["allowed_tools"] = server["allowed_tools"]
        costs = _map(_map(server.get("mcp_info")).get("mcp_server_cost_info"))
        price = {"call": costs.get("default_cost_per_query"), "tools": costs.get("tool_name_to_cost_per_query")}
        if kept := {member: cost for member, cost in price.items() if cost is not None}:
            found["price"] = kept
        return found

    def agents(self, items: list[Any]) -> JsonObject:
        """Read `agents`."""
        found: JsonObject = {}
        for item in items:
            agent = _map(item)
            name, url = agent.get("agent_name"), _map(agent.get("agent_card_params")).get("url")
            bridged = _map(agent.get("litellm_params")).get("custom_llm_provider")
            if not isinstance(name, str) or not isinstance(url, str) or bridged or agent.get("enabled") is False:
                self.notes.append(f"agent {name} left out: it is off, has no url, or is bridged by {bridged}")
                continue
            ours = valid_name(name)
            if ours != name:
                self.notes.append(f"agent {name!r} is called {ours} here")
            headers = _map(agent.get("static_headers"))
            found[ours] = {"url": url, "headers": headers} if headers else {"url": url}
            self.left_out(f"agent {name}", agent, {"agent_name", "agent_card_params", "static_headers", "enabled"})
        return found


def _fallbacks(top: JsonObject) -> dict[str, list[str]]:
    rules = [
        rule
        for section in ("litellm_settings", "router_settings")
        for rule in _list(_map(top.get(section)).get("fallbacks"))
    ]
    return {name: [str(other) for other in _list(others)] for rule in rules for name, others in _map(rule).items()}


def _map(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _variables(value: Any) -> Any:
    """Turn `os.environ/NAME` into `${NAME}`."""
    if isinstance(value, dict):
        return {name: _variables(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_variables(item) for item in value]
    if isinstance(value, str) and value.startswith("os.environ/"):
        return f"${{{value.removeprefix('os.environ/')}}}"
    return value
