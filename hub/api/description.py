"""What the API's OpenAPI description says beyond what the routes do: its errors, and the bodies of entries. Pure."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from registry.declared.entry_shapes import AgentShape, ModelShape, ServerShape, ToolsetShape
from registry.judged import JsonObject

PROBLEM: Final = "application/problem+json"
_REF: Final = "#/components/schemas/{model}"


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    requestId: str  # noqa: N815  # as it is called on the wire


_ERRORS: Final = {
    "400": "What was sent is wrong; `detail` says what.",
    "401": "There is no key, or it is not good here.",
    "404": "There is no such thing, or not for this key.",
    "409": "It cannot be so as things are: a name is taken, or hub.yaml says otherwise.",
    "413": "The body is too large.",
    "421": "The hub is not reached under this host.",
    "429": "The key's limit is reached.",
    "502": "What the hub had to ask did not answer as it should.",
    "504": "What the hub had to ask did not answer in time.",
}
_OF_BODIES: Final = frozenset({"409", "413"})
_OF_UPSTREAMS: Final = frozenset({"502", "504"})
_ASKS_UPSTREAM: Final = frozenset({"/api/agents/{name}/approve", "/api/mcp-servers/{name}/approve"})

_ENTRIES: Final[dict[str, type[BaseModel]]] = {
    "agents": AgentShape,
    "mcp-servers": ServerShape,
    "models": ModelShape,
    "toolsets": ToolsetShape,
}
"""Collections whose bodies the routes read as maps of hub.yaml."""


def described(openapi: JsonObject) -> JsonObject:
    """Say of every operation how it fails, and of bodies of entries what is in them; changes what it is given."""
    schemas: JsonObject = openapi["components"]["schemas"]
    schemas["Problem"] = Problem.model_json_schema()
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            responses = {status: found for status, found in operation["responses"].items() if status != "422"}
            operation["responses"] = responses | _errors(path, method)
            operation["security"] = [{"key": []}]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    openapi["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for collection, shape in _ENTRIES.items():
        _describe_entries(openapi, collection, shape)
    return openapi


def _errors(path: str, method: str) -> JsonObject:
    left_out = frozenset() if path in _ASKS_UPSTREAM else _OF_UPSTREAMS
    if method == "get":
        left_out |= _OF_BODIES
    content = {PROBLEM: {"schema": {"$ref": _REF.format(model="Problem")}}}
    return {
        status: {"description": text, "content": content} for status, text in _ERRORS.items() if status not in left_out
    }


def _describe_entries(openapi: JsonObject, collection: str, shape: type[BaseModel]) -> None:
    schema = shape.model_json_schema(ref_template=_REF)
    openapi["components"]["schemas"] |= schema.pop("$defs", {})
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            if path == f"/api/{collection}" and method == "post":
                _set_body(operation, schema, {"name": {"type": "string"}}, ["name", *schema.get("required", [])])
            elif path.startswith(f"/api/{collection}/{{") and method == "patch":
                _set_body(operation, schema, {"disabled": {"type": "boolean"}}, [])


def _set_body(operation: JsonObject, schema: JsonObject, more: JsonObject, required: list[str]) -> None:
    properties: dict[str, Any] = {**schema["properties"], **more}
    content = operation["requestBody"]["content"]["application/json"]
    content["schema"] = {**schema, "properties": properties, "required": required}
