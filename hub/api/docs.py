"""`/docs`: the OpenAPI description as one page that loads nothing. Pure: a description in, HTML out."""

from __future__ import annotations

from html import escape

import msgspec

from registry.judged import JsonObject

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}
"""Of its answer: no scripts, nothing from elsewhere, in no frame."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code, pre { font: 14px/1.4 ui-monospace, monospace } pre { background: #8881; padding: 1rem; overflow: auto }
h2 { margin-top: 2rem } summary { cursor: pointer; padding: .25rem 0 } .method { font-weight: 700 }
"""


def page(openapi: JsonObject) -> str:
    """Render the description: each operation with its parameters, body and answers; the whole JSON at the end."""
    operations = "".join(
        _operation(method, path, found)
        for path, methods in openapi["paths"].items()
        for method, found in methods.items()
    )
    raw = msgspec.json.format(msgspec.json.encode(openapi), indent=2).decode()
    title = escape(f"{openapi['info']['title']} API")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{escape(openapi['info']['description'])}</p>{operations}"
        f'<h2>OpenAPI</h2><p><a href="/openapi.json">/openapi.json</a></p>'
        f"<details><summary>Show</summary><pre>{escape(raw)}</pre></details></html>"
    )


def _operation(method: str, path: str, operation: JsonObject) -> str:
    parts = {name: operation[name] for name in ("parameters", "requestBody", "responses") if name in operation}
    shown = msgspec.json.format(msgspec.json.encode(parts), indent=2).decode()
    about = escape(operation.get("description") or operation.get("summary", ""))
    return (
        f'<details><summary><span class="method">{escape(method.upper())}</span> <code>{escape(path)}</code> '
        f"{about}</summary><pre>{escape(shown)}</pre></details>"
    )
