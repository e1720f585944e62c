"""Views: who sees which tools where, and the bytes they get."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mcp_bridge.naming import exposed_name
from mcp_bridge.views import MAX_VIEWS, Views
from registry.access import Grants
from registry.catalog import Catalog
from registry.entries import Presented, Server, Tool, Toolset
from registry.errors import NotFound

SCHEMA = {"type": "object"}


def tool(server: str, name: str, **members: object) -> Tool:
    described = {"name": name, "inputSchema": SCHEMA, **members}
    return Tool(
        server=server,
        name=name,
        exposed=exposed_name(server, name),
        grant_name=f"{server}__{name}",
        description=json.dumps(described).encode(),
    )


def catalog(*tools: Tool, number: int = 1, servers: tuple[str, ...] = (), **toolsets: tuple[str, ...]) -> Catalog:
    names = {one.server for one in tools} | set(servers)
    return Catalog(
        number=number,
        servers={name: Server(name=name, url="http://x") for name in names},
        toolsets={name: Toolset(name=name, tools=globs) for name, globs in toolsets.items()},
        tools={one.exposed: one for one in tools},
    )


def names(result: bytes) -> list[str]:
    return [one["name"] for one in json.loads(result)["tools"]]


def test_grants_match_the_original_name_also_of_a_shortened_tool() -> None:
    long = "x" * 60
    found = Views().of(catalog(tool("a", long), tool("a", "y")), Grants.parse([f"tool:a__{long}"]))
    assert [one.name for one in found.tools.values()] == [long]


def test_a_servers_path_shows_its_own_names_in_its_order() -> None:
    found = Views().of(catalog(tool("a", "z"), tool("a", "b.c"), tool("b", "x")), Grants.parse(["server:a"]), "a")
    assert names(found.modern("tools/list")) == names(found.legacy("tools/list")) == ["z", "b.c"]


@pytest.mark.parametrize("path", ["b", "none", "hidden"])
@pytest.mark.attack("2.2/28", defence="registry.access:Grants.reach")
def test_a_forbidden_path_looks_like_an_unknown_one(path: str) -> None:
    made = catalog(tool("a", "z"), tool("b", "x"), hidden=("b__*",))
    with pytest.raises(NotFound) as caught:
        Views().of(made, Grants.parse(["tool:a__*"]), path)
    assert caught.value.text == f"No server '{path}' here."


def test_a_granted_server_that_was_never_reached_shows_an_empty_list() -> None:
    assert names(Views().of(catalog(servers=("a",)), Grants.parse(["tool:a__get*"]), "a").modern("tools/list")) == []


def test_a_toolset_is_cut_by_grants() -> None:
    made = catalog(tool("a", "get"), tool("a", "put"), tool("b", "get"), bundle=("*__get",))
    assert names(Views().of(made, Grants.parse(["tool:a__*"]), "bundle").modern("tools/list")) == ["a__get"]


def test_a_toolset_gives_tools_names_and_descriptions_of_its_own() -> None:
    made = catalog(
        tool("a", "get", description="Theirs", title="T"), tool("a", "put"), tool("b", "get"), tool("b", "put")
    )
    chosen = Toolset(
        name="bundle",
        tools=("a__*",),
        presented=(
            Presented(tool="a__get", alias="fetch", description="Ours"),
            Presented(tool="a__get", alias="again"),
            Presented(tool="b__get", description="Ours too"),
            Presented(tool="b__put", alias="store"),
        ),
    )
    made = replace(made, toolsets={"bundle": chosen})
    found = Views().of(made, Grants.parse(["tool:a__*", "tool:b__get"]), "bundle")
    listed = json.loads(found.modern("tools/list"))["tools"]
    assert [(one["name"], one.get("description")) for one in listed] == [
        ("fetch", "Ours"),
        ("again", "Theirs"),
        ("a__put", None),
        ("b__get", "Ours too"),
    ]
    assert listed[0]["title"] == "T"
    assert (found.tools["fetch"].server, found.tools["fetch"].name) == ("a", "get")
    with pytest.raises(NotFound):
        Views().of(made, Grants.parse(["tool:c__*"]), "bundle")


def test_an_older_client_gets_no_output_schema_that_is_not_an_objects() -> None:
    made = catalog(
        tool("a", "list", outputSchema={"type": "array"}),
        tool("a", "map", outputSchema={"type": "object"}),
    )
    found = Views().of(made, Grants.parse(["tool:*"]))
    legacy = json.loads(found.legacy("tools/list"))["tools"]
    assert ["outputSchema" in one for one in legacy] == [False, True]
    assert all("outputSchema" in one for one in json.loads(found.modern("tools/list"))["tools"])


def test_unknown_members_of_a_tool_survive_byte_for_byte() -> None:
    raw = b'{"name":"n","inputSchema":{"type":"object"},"future":{"n":1.50, "big":123456789012345678901}}'
    one = Tool(server="a", name="n", exposed="a__n", grant_name="a__n", description=raw)
    assert b'"future":{"n":1.50, "big":123456789012345678901}' in Views().of(
        catalog(one), Grants.parse(["tool:*"])
    ).modern("tools/list")


def test_a_new_catalog_replaces_every_view_and_views_are_bounded() -> None:
    views = Views()
    grants = Grants.parse(["tool:*"])
    first = views.of(catalog(tool("a", "x")), grants)
    assert views.of(catalog(tool("a", "x")), grants) is first
    assert "a__y" in views.of(catalog(tool("a", "y"), number=2), grants).tools
    for number in range(MAX_VIEWS + 5):
        views.of(catalog(tool("a", "y"), number=2), Grants.parse([f"tool:{number}"]))
    assert len(views._views) == MAX_VIEWS
