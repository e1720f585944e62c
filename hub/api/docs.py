"""`/docs`: the OpenAPI description as one page that loads nothing. Pure: a description in, HTML out."""

from __future__ import annotations

from html import escape

import msgspec

from hub.pages import page
from registry.judged import JsonObject


def page_of(openapi: JsonObject) -> str:
    """Render the description: each operation with its parameters, body and answers; the whole JSON at the end."""
    operations = "".join(
        _operation(method, path, found)
        for path, methods in openapi["paths"].items()
        for method, found in methods.items()
    )
    raw = msgspec.json.format(msgspec.json.encode(openapi), indent=2).decode()
    body = (
        f"<p>{escape(openapi['info']['description'])}</p>{operations}"
        f'<h2>OpenAPI</h2><p><a href="/openapi.json">/openapi.json</a></p>'
        f"<details><summary>Show</summary><pre>{escape(raw)}</pre></details>"
    )
    return page(f"{openapi['info']['title']} API", body, is_wide=True)


def _operation(method: str, path: str, operation: JsonObject) -> str:
    parts = {name: operation[name] for name in ("parameters", "requestBody", "responses") if name in operation}
    shown = msgspec.json.format(msgspec.json.encode(parts), indent=2).decode()
    about = escape(operation.get("description") or operation.get("summary", ""))
    return (
        f"<details><summary><b>{escape(method.upper())}</b> <code>{escape(path)}</code> "
        f"{about}</summary><pre>{escape(shown)}</pre></details>"
    )
