"""The pages on which people connect their accounts, and the headers that guard them. Pure: texts in, HTML out."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape

from hub.exchange import Header
from mcp_bridge.oauth.connect import Plan

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:4rem auto;padding:0 1rem;color:#1a1a1a}"
    "dt{font-weight:600}dd{margin:0 0 .75rem}button{font:inherit;padding:.5rem 1.25rem;margin-right:.5rem}"
    "input{font:inherit;width:100%;padding:.5rem;box-sizing:border-box;margin-bottom:1rem}"
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


def login(server: str, *, is_other: bool = False) -> str:
    """Asks for the hub key of who opens a link."""
    other = "<p>This link was made for another key than the one you showed.</p>" if is_other else ""
    return _page(
        f"Connect {server}",
        f"""{other}<p>Show that it is you: give the hub key that your client uses. It stays here.</p>
<form method="post"><label for="key">Hub key</label>
<input id="key" name="key" type="password" autocomplete="off" required autofocus>
<button>Continue</button></form>""",
    )


def consent(plan: Plan, key_name: str, csrf: str) -> str:
    """Asks for consent."""
    scopes = ", ".join(plan.scopes) or "what the server gives when nothing in particular is asked for"
    return _page(
        f"Connect your account at {plan.server}?",
        f"""<p>Calls with your hub key will then act as you there. Nobody else's will.</p>
<dl><dt>Hub key</dt><dd>{escape(key_name)}</dd>
<dt>Server</dt><dd>{escape(plan.server)} ({escape(plan.resource)})</dd>
<dt>You sign in at</dt><dd>{escape(plan.issuer)}</dd>
<dt>It will be asked for</dt><dd>{escape(scopes)}</dd></dl>
<form method="post"><input name="csrf" type="hidden" value="{escape(csrf)}">
<button name="answer" value="allow">Continue to {escape(plan.issuer)}</button>
<button name="answer" value="deny">Cancel</button></form>""",
    )


def connected(server: str) -> str:
    """Says that it is done."""
    return _page(f"{server} is connected", "<p>Go back to your client; you can close this page.</p>")


def declined(server: str) -> str:
    """Says that nothing was done."""
    return _page(f"{server} was not connected", "<p>You can close this page.</p>")


def failure(text: str, request_id: str) -> str:
    """Says what went wrong."""
    return _page("This did not work", f"<p>{escape(text)}</p><p><small>Request {escape(request_id)}</small></p>")


def _page(title: str, body: str) -> str:
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>
<body><h1>{escape(title)}</h1>{body}</body></html>"""
