"""What a name leads to, and why to nothing: what is known of an entry beside the grants and rules about it. Pure.

Names are found as the doors find them; nothing here is asked by a call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llm import router
from mcp_bridge import agent_shapes
from mcp_bridge.uris import split_uri
from mcp_bridge.views import AGENTS, View
from registry.access import OF_SERVERS, SEPARATOR, Grants
from registry.catalog import Catalog
from registry.entries import AGENT_MODELS, Feature
from registry.errors import NotFound
from registry.rules.explaining import Standing


def meant(catalog: Catalog, kind: str, name: str, known: Grants) -> tuple[str, str]:
    """The kind and name by which grants and rules know what a door calls so: itself, if that is no spelling of a door.

    `known` is what is known to who asks: a short name says of no other tool that it is there.
    """
    if kind == "model" and name.startswith(AGENT_MODELS) and not _is_model(catalog, name):
        return agent_shapes.SERVER, name.removeprefix(AGENT_MODELS)
    if kind == "tool" and name.startswith(AGENTS):
        return agent_shapes.SERVER, name.removeprefix(AGENTS)
    if kind == "resource" and (uri := split_uri(name)) is not None:
        return kind, SEPARATOR.join(uri)
    found = _features(catalog, kind).get(name)
    if found is not None and known.allow(found.kind, found.grant_name):
        return found.kind, found.grant_name
    presented = [one for toolset in catalog.toolsets.values() for one in toolset.presented if one.alias == name]
    tools = {one.tool for one in presented if kind == "tool" and known.allow("tool", one.tool)}
    return (kind, tools.pop()) if len(tools) == 1 else (kind, name)


def standing(catalog: Catalog, kind: str, name: str, look: Callable[[str], View]) -> Standing | None:
    """What is known of an entry; None: it is there, and nothing is against it. `look` is how its caller sees a server."""
    if kind == "model":
        return _of_model(catalog, name)
    if kind in OF_SERVERS:
        return _of_feature(catalog, kind, name, look)
    if kind == "agent" and name not in catalog.agents:
        return _absent(catalog, kind, name)
    return _of_server(catalog, name) if kind == "server" else None


def _of_model(catalog: Catalog, name: str) -> Standing | None:
    if name.endswith("*") and name in catalog.models:
        return Standing(f"{name} stands for models and is none: ask about one of them")
    return None if _is_model(catalog, name) else _absent(catalog, "model", name)


def _is_model(catalog: Catalog, name: str) -> bool:
    try:
        return router.find(catalog.models, name).kind == "model"
    except NotFound:
        return False


def _of_server(catalog: Catalog, name: str) -> Standing | None:
    server = catalog.servers.get(name)
    if server is None:
        return _absent(catalog, "server", name)
    text = f"the server {name} cannot be called: {server.unavailable}"
    return None if server.unavailable is None else Standing(text, is_hidden=False)


def _of_feature(catalog: Catalog, kind: str, name: str, look: Callable[[str], View]) -> Standing | None:
    server, mark, own = name.partition(SEPARATOR)
    if not mark:
        return Standing(f"names of {kind}s begin with their server's, as in SERVER{SEPARATOR}{name}")
    if server not in catalog.servers:
        return _absent(catalog, "server", server)
    for one in catalog.quarantined:
        of = "resource" if one.kind == "template" else one.kind
        if (of, one.server, one.name) == (kind, server, own):
            return Standing(f"{own} of the server {server} is quarantined: {one.reason}")
    if any(one.grant_name == name for one in _features(catalog, kind).values()):
        return _of_server(catalog, server)
    if kind == "tool" and not catalog.servers[server].offers_tool(own):
        return Standing(f"allowed_tools or denied_tools of the server {server} leave out {own}")
    return _unlisted(catalog, kind, server, own, look)


def _unlisted(catalog: Catalog, kind: str, server: str, own: str, look: Callable[[str], View]) -> Standing | None:
    try:
        view = look(server)
        found = {"tool": view.tool, "prompt": view.prompt, "resource": view.template}[kind](own)
    except NotFound:
        found = None
    if found is not None and found.description:
        return None  # it is listed to this caller's account
    if catalog.servers[server].serves_accounts:
        text = f"the server {server} lists to each account by itself, and none such is known of this one"
        return Standing(text, is_callable=True, is_hidden=False)
    if found is not None:
        text = f"the server {server} lists no such {kind}, and is asked for it all the same at /mcp/{server}"
        return _of_server(catalog, server) or Standing(text, is_callable=True, is_hidden=False)
    known = server in catalog.introductions
    return Standing(f"the server {server} lists no such {kind}" + ("" if known else ": it was never reached"))


def _absent(catalog: Catalog, kind: str, name: str) -> Standing:
    is_off = (kind, name) in catalog.switched_off
    return Standing(f"the {kind} {name} is switched off" if is_off else f"there is no {kind} {name}")


def _features(catalog: Catalog, kind: str) -> Mapping[str, Feature]:
    """What servers list of a kind, by its name at `/mcp`."""
    listed: dict[str, Mapping[str, Feature]] = {
        "tool": catalog.tools,
        "prompt": catalog.prompts,
        "resource": {**catalog.templates, **catalog.resources},
    }
    return listed.get(kind, {})
