"""What all pages for browsers share, and the headers that guard them: no scripts, nothing from elsewhere. Pure."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape

from hub.exchange import Header

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:4rem auto;padding:0 1rem;color:#1a1a1a}"
    "dt{font-weight:600}dd{margin:0 0 .75rem}button{font:inherit;padding:.5rem 1.25rem;margin-right:.5rem}"
    "input{font:inherit;width:100%;padding:.5rem;box-sizing:border-box;margin-bottom:1rem}"
    ".wide{max-width:60rem;margin:2rem auto}summary{cursor:pointer;padding:.25rem 0}"
    "code,pre{font:14px/1.4 ui-monospace,monospace}pre{background:#8881;padding:1rem;overflow:auto}"
)
_STYLE_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()


def headers(sends_to: str = "") -> list[Header]:
    """Headers of every page.

    `sends_to` is an origin that its form may lead to besides the hub: browsers ask when they follow a form's redirect.
    """
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self' {sends_to}; "
        "frame-ancestors 'none'; base-uri 'none'"
    )
    return [
        (b"content-security-policy", policy.encode()),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"same-origin"),  # not no-referrer: forms would be sent with `Origin: null`
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cache-control", b"no-store"),
    ]


def page(title: str, body: str, *, is_wide: bool = False) -> str:
    """A whole page; `body` is HTML."""
    width = ' class="wide"' if is_wide else ""
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>
<body{width}><h1>{escape(title)}</h1>{body}</body></html>"""


def failure(text: str, request_id: str) -> str:
    """Says what went wrong."""
    return page("This did not work", f"<p>{escape(text)}</p><p><small>Request {escape(request_id)}</small></p>")
