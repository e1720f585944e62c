"""OpenAPI documents as tools: names that stay, schemas that stand by themselves, faults that harm one operation."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from mcp_bridge.openapi.check import Check
from mcp_bridge.openapi.document import DocumentInvalid, read_document
from mcp_bridge.openapi.operations import Configured
from mcp_bridge.openapi.requests import Target, outgoing

WITHIN_S = 60.0
BASE = "https://a.example/v1"
PETSTORE = (Path(__file__).parent / "petstore.yaml").read_text()


def document(paths: Any, **more: Any) -> str:
    whole = {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "servers": [{"url": BASE}], "paths": paths}
    return json.dumps(whole | more)


def operation(**members: Any) -> dict[str, Any]:
    return {"responses": {"200": {"description": "ok"}}, **members}


def query(schema: Any, **members: Any) -> dict[str, Any]:
    return operation(parameters=[{"name": "x", "in": "query", "schema": schema, **members}])


def test_each_operation_of_a_30_document_is_a_tool() -> None:
    found = read_document(PETSTORE, "petstore.yaml")
    assert list(found.operations) == [
        "createPet",
        "delete_pets_petId",
        "getPet",
        "getPhoto",
        "listPets",
        "putPhoto",
        "put_pets_petId",
    ]
    assert found.base == "https://pets.example/v1"
    tool = found.operations["listPets"].tool
    assert tool["title"] == "List pets"
    assert tool["description"] == "List pets\n\nAll pets, a page at a time."
    assert tool["annotations"] == {"readOnlyHint": True}
    assert tool["inputSchema"]["properties"]["page_size"] == {"type": "integer"}
    assert tool["inputSchema"]["properties"]["limit"] == {"type": "integer", "exclusiveMinimum": 0, "maximum": 100}
    assert "outputSchema" not in tool, "its answer is a list"
    deleted = found.operations["delete_pets_petId"].tool
    assert deleted["annotations"] == {"readOnlyHint": False, "idempotentHint": True, "destructiveHint": True}
    assert deleted["description"].startswith("Deprecated.")
    assert deleted["inputSchema"]["properties"]["petId"]["description"] == "Which pet"
    assert found.operations["put_pets_petId"].tool["annotations"] == {"readOnlyHint": False, "idempotentHint": True}


def test_a_bad_operation_is_set_apart_alone_and_says_where_and_why() -> None:
    said = {bad.name: str(bad.fault) for bad in read_document(PETSTORE, "petstore.yaml").quarantined}
    assert said.keys() == {"brokenOne", "away"}
    line = PETSTORE.splitlines().index("      operationId: brokenOne") + 3
    assert said["brokenOne"] == (
        f"petstore.yaml:{line}: #/paths/~1broken/get/parameters/0/schema: #/components/schemas/Nowhere is not in this document"
    )
    assert "within" not in said["away"]
    assert "a reference must lead to a place in this document" in said["away"]


def test_schemas_of_30_say_the_same_in_2020_12() -> None:
    tool = read_document(PETSTORE, "p").operations["createPet"].tool
    pet = tool["inputSchema"]["$defs"]["Pet"]
    assert tool["inputSchema"]["properties"]["body"] == {"$ref": "#/$defs/Pet"}
    assert pet["required"] == ["name"], "id is read-only"
    assert "id" not in pet["properties"]
    assert pet["properties"]["name"] == {"type": "string", "minLength": 1, "examples": ["Rex"]}
    assert pet["properties"]["nick"] == {"type": ["string", "null"], "enum": ["Rexy", "Maxy", None]}
    assert pet["properties"]["parent"] == {"$ref": "#/$defs/Pet"}
    assert pet["properties"]["weight"] == {"type": "number", "exclusiveMinimum": 0}
    check = Check(tool["inputSchema"])
    assert check.faults({"body": {"name": "a", "nick": None, "owner": None, "parent": {"name": "b"}}}, WITHIN_S) == []
    assert check.faults({"body": {"name": "a", "parent": {"name": ""}}}, WITHIN_S)[0].startswith("body.parent.name: ")
    assert check.faults({}, WITHIN_S) == ["arguments: 'body' is a required property"]


def test_the_schema_of_an_answer_is_met_by_what_is_shortened_or_new() -> None:
    schema = read_document(PETSTORE, "p").operations["getPet"].tool["outputSchema"]
    assert schema["type"] == "object"
    assert "id" in schema["properties"]
    assert "secret" not in schema["properties"]
    check = Check(schema)
    assert check.faults({}, WITHIN_S) == []
    assert check.faults({"id": 1, "new": True}, WITHIN_S) == []
    assert check.faults({"id": "one"}, WITHIN_S) == ["id: 'one' is not of type 'integer'"]


def test_an_answer_that_matches_several_of_one_is_no_fault() -> None:
    """Without `required`, what a `oneOf` tells apart is no longer apart."""
    cats = [{"type": "object", "required": [name], "properties": {name: {}}} for name in ("paws", "claws")]
    schema = {"type": "object", "properties": {"cat": {"oneOf": cats}}, "additionalProperties": False}
    answers = {"200": {"content": {"application/json": {"schema": schema}}}}
    found = read_document(document({"/x": {"get": {"responses": answers}}}), "d").operations["get_x"]
    assert Check(found.tool["outputSchema"]).faults({"cat": {}, "more": 1}, WITHIN_S) == []


def test_every_schema_is_valid_json_schema() -> None:
    for entry in read_document(PETSTORE, "p").operations.values():
        for member in ("inputSchema", "outputSchema"):
            if member in entry.tool:
                Draft202012Validator.check_schema(entry.tool[member])


def test_names_and_order_do_not_depend_on_the_rest() -> None:
    """Unrelated edits, and any order of the document, leave each tool where and as it is."""
    whole = yaml.safe_load(PETSTORE)
    before = read_document(json.dumps(whole, default=str), "p").operations
    items = list(whole["paths"].items())
    random.Random(4).shuffle(items)
    whole["paths"] = {"/new": {"get": operation(operationId="aNewOne")}, **dict(items)}
    after = read_document(json.dumps(whole, default=str), "p").operations
    assert [name for name in after if name != "aNewOne"] == list(before)
    assert all(after[name] == before[name] for name in before)


def test_names_that_meet_are_told_apart_by_method_and_path() -> None:
    paths = {
        "/a": {"get": operation(operationId="same"), "post": operation(operationId="same")},
        "/b": {"get": operation(operationId="sa me"), "put": operation(operationId="sa_me")},
        "/" + "long/" * 30: {"get": operation()},
    }
    names = list(read_document(document(paths), "d").operations)
    assert list(read_document(document(dict(reversed(paths.items()))), "d").operations) == names
    assert len(set(names)) == 5
    assert all(len(name) <= 64 for name in names)
    assert "same" not in names


def test_arguments_of_one_name_are_told_apart_and_configured_ones_left_out() -> None:
    listed = [
        {"name": "id", "in": "query", "schema": {}},
        {"name": "id", "in": "path", "required": True, "schema": {}},
        {"name": "id", "in": "header", "schema": {}},
        {"name": "body", "in": "query", "schema": {}},
        {"name": "_fields", "in": "query", "schema": {}},
        {"name": "X-Key", "in": "header", "schema": {}},
        {"name": "Authorization", "in": "header", "schema": {}},
        {"name": "token", "in": "query", "schema": {}},
    ]
    text = document({"/x/{id}": {"get": operation(parameters=listed)}})
    found = read_document(text, "d", Configured(frozenset({"x-key"}), frozenset({"token"})))
    wanted = {p.argument: (p.place, p.name) for p in found.operations["get_x_id"].parameters}
    assert wanted == {
        "id": ("path", "id"),
        "id_query": ("query", "id"),
        "id_header": ("header", "id"),
        "body_query": ("query", "body"),
        "fields": ("query", "_fields"),
    }


@pytest.mark.parametrize(
    ("path", "method", "found", "said"),
    [
        ("/a/../b", "get", operation(), "no segment"),
        ("/a/%2e%2E/b", "get", operation(), "no segment"),
        ("/a//b", "get", operation(), "no segment"),
        ("/a%2Fb", "get", operation(), "no segment"),
        ("/a?b", "get", operation(), "no segment"),
        ("/a\r\nb", "get", operation(), "no segment"),
        ("a", "get", operation(), "begins with /"),
        ("/{x}", "get", operation(), "no path parameter says what {x} is"),
        ("/a", "trace", operation(), "TRACE"),
        ("/a", "get", "text", "must be an operation"),
        ("/a", "get", operation(servers=[{"url": "http://evil"}]), "none is at https://a.example, where"),
        ("/a", "get", operation(parameters=[{"name": "Host", "in": "header"}]), "no header that an argument may set"),
        ("/a", "get", operation(parameters=[{"name": "a\r\nb", "in": "header"}]), "no header that an argument"),
        ("/a", "get", operation(parameters=[{"name": "a", "in": "moon"}]), "a parameter needs"),
        ("/a", "get", operation(parameters={"a": 1}), "must be a list"),
        ("/a", "get", query({"type": "text"}), "must be a type of JSON Schema"),
        ("/a", "get", query({"type": "object", "required": True}), "must be a list of names"),
        ("/a", "get", query({"items": 5}), "must be a schema"),
        ("/a", "get", query({}, style="matrix"), "in query it can be form"),
        ("/a", "post", operation(requestBody={}), "a request body needs content"),
        ("/a", "get", query({"$ref": "#/components/parameters/P"}), "is not in this document"),
        ("/a", "get", operation(parameters=[{"$ref": "#/paths/~1a/get/parameters/0"}]), "lead in a circle"),
    ],
)
def test_what_cannot_be_called_safely_is_not_offered(path: str, method: str, found: Any, said: str) -> None:
    read = read_document(document({path: {method: found}, "/good": {"get": operation()}}), "d.json")
    assert list(read.operations) == ["get_good"]
    assert said in read.quarantined[0].fault.text
    assert read.quarantined[0].fault.text.startswith("#/paths/")


@pytest.mark.attack("2.1/28")
def test_bounds_hold_against_documents_that_grow_when_they_are_read() -> None:
    deep: Any = {}
    for _ in range(200):
        deep = {"not": deep}
    wide = {"anyOf": [{"type": "string"}] * 30_000}
    schemas = {f"S{n}": {"anyOf": [{"$ref": f"#/components/schemas/S{n + 1}"}] * 2} for n in range(60)}
    schemas["S60"] = {"type": "string"}
    paths = {
        "/deep": {"get": query(deep)},
        "/wide": {"get": query(wide)},
        "/bomb": {"get": query({"$ref": "#/components/schemas/S0"})},
    }
    found = read_document(document(paths, components={"schemas": schemas}), "d")
    assert list(found.operations) == ["get_bomb"]
    assert "nested" in str(found.quarantined) or "deeper" in str(found.quarantined)
    check = Check(found.operations["get_bomb"].tool["inputSchema"])
    assert check.faults({"x": 5}, 0.1) is None


@pytest.mark.attack("2.1/29")
def test_arguments_that_would_hold_the_hub_are_refused_or_passed_to_the_service() -> None:
    schema = {"type": "object", "properties": {"x": {"pattern": "^(a+)+$"}, "y": {"uniqueItems": True}}}
    check = Check(schema)
    assert check.faults({"x": "a" * 5000 + "!"}, WITHIN_S) == [], "the document's expressions are not run"
    assert check.faults({"y": [{"n": n} for n in range(9_000)]}, WITHIN_S) == []  # a pair at a time, this takes minutes
    assert check.faults({"y": [{"a": 1, "b": [True]}, {"b": [True], "a": 1}]}, WITHIN_S) == ["y: has an item twice"]
    assert check.faults({"y": [1, True, "1"]}, WITHIN_S) == []
    assert check.faults({"y": list(range(30_000))}, WITHIN_S) == ["arguments: more than 20000 values"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("openapi: 3.0.0\npaths: [", "d:3: this is not YAML"),
        ("openapi: 3.0.0\npaths: 5", "d:2: #/paths: must be a map"),
        ("swagger: '2.0'", "d:1: #/swagger: Swagger 2.0 is not read"),
        ("openapi: 4.0.0", "d:1: #/openapi: must say 3.0 or 3.1"),
        ("{}", "must say 3.0 or 3.1"),
        ("", "must say 3.0 or 3.1"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
            + "".join(
                f"{chr(c)}: &{chr(c)} [{','.join([f'*{chr(c - 1)}'] * 10)}]\n" for c in range(ord("c"), ord("j"))
            ),
            "more than",
        ),
        ("{" * 5000, "d:1:"),
        ('{"openapi":"3.1.0","paths":' + "[" * 100_000, "d:1:"),
    ],
)
def test_a_bad_document_says_where_and_why(text: str, said: str) -> None:
    with pytest.raises(DocumentInvalid) as caught:
        read_document(text, "d")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("server", "url", "source", "base"),
    [
        ("https://a.example/v1", None, None, "https://a.example/v1"),
        ("https://a.example/v1", "https://b.example", None, "https://b.example"),
        ("/v1", None, "https://a.example/openapi.json", "https://a.example/v1"),
        (None, None, "https://a.example/x/openapi.json", "https://a.example/"),
        ("https://a.example:443/v1", None, "https://a.example/openapi.json", "https://a.example:443/v1"),
    ],
)
def test_where_operations_are_called(server: str | None, url: str | None, source: str | None, base: str) -> None:
    text = document({}, servers=[{"url": server}] if server else [])
    assert read_document(text, "d", Configured(url=url, source=source)).base == base


@pytest.mark.parametrize(
    ("server", "source"),
    [
        (None, None),
        ("/v1", None),
        ("file:///etc/passwd", None),
        ("https://evil.example/", "https://a.example/openapi.json"),
        ("//evil.example/", "https://a.example/openapi.json"),
        ("http://a.example/", "https://a.example/openapi.json"),
    ],
)
@pytest.mark.attack("2.1/1", "2.2/9")
def test_a_document_leads_nowhere_that_its_operator_did_not_write(server: str | None, source: str | None) -> None:
    text = document({}, servers=[{"url": server}] if server else [])
    with pytest.raises(DocumentInvalid, match="write url beside openapi"):
        read_document(text, "d", Configured(source=source))


@pytest.mark.parametrize(
    ("server", "url", "source", "called"),
    [
        ("https://a.example/v2", None, None, "https://a.example/v2/things"),
        ("https://a.example", None, None, "https://a.example/things"),
        ("HTTPS://A.example:443/v2/", None, None, "https://a.example/v2/things"),
        ("/v2", None, None, "https://a.example/v2/things"),
        ("v2", None, "https://a.example/docs/openapi.json", "https://a.example/docs/v2/things"),
        (
            "/v2",
            "https://b.example:8443/v1?key=k",
            "https://a.example/d.json",
            "https://b.example:8443/v2/things?key=k",
        ),
        ("https://{region}.example/{version}", None, None, "https://a.example/v3/things"),
        (BASE, "http://other.example/base", None, "http://other.example/base/things"),  # where all are called, wherever
    ],
)
def test_an_operations_own_server_on_the_same_origin_is_called(
    server: str, url: str | None, source: str | None, called: str
) -> None:
    variables = {"region": {"default": "a"}, "version": {"default": "v3"}}
    elsewhere = [{"url": "https://elsewhere.example"}] if server != BASE else []
    own = {"servers": [*elsewhere, {"url": server, "variables": variables}]}
    paths = {"/things": {"get": operation(**own)}, "/others": {**own, "get": operation()}}
    found = read_document(document(paths), "d", Configured(url=url, source=source))
    assert not found.quarantined
    target = Target(base=found.base)
    assert outgoing(found.operations["get_things"], {}, target).url == called
    assert outgoing(found.operations["get_others"], {}, target).url == called.replace("/things", "/others")


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("https://evil.example/v1", "none is at https://a.example"),
        ("http://a.example/v1", "none is at https://a.example"),
        ("https://a.example:8443/v1", "none is at https://a.example"),
        ("//evil.example", "none is at https://a.example"),
        ("https://a.example@evil.example/", "none is at https://a.example"),
        ("https://evil.example\\@a.example/", "more than host and path"),
        ("https://user:password@a.example/v1", "more than host and path"),
        ("https://[a.example/", "none is at https://a.example"),
        ("https://a.example:x/", "none is at https://a.example"),
        ("https://a.example/v1?a=b", "more than host and path"),
        ("https://a.example/a/%2e%2e/b", "no segment"),
        ("https://a.example/a%2fb", "no segment"),
    ],
)
def test_an_operations_own_server_elsewhere_is_not_called(server: str, said: str) -> None:
    read = read_document(document({"/a": {"get": operation(servers=[{"url": server}])}}), "d")
    assert not read.operations
    assert said in read.quarantined[0].fault.text
