"""The pages on which people connect their accounts. Pure: texts in, HTML out."""

from __future__ import annotations

from html import escape

from hub.pages import page
from mcp_bridge.oauth.connect import Plan


def login(server: str, *, is_other: bool = False) -> str:
    """Asks for the hub key of who opens a link."""
    other = "<p>This link was made for another key than the one you showed.</p>" if is_other else ""
    return page(
        f"Connect {server}",
        f"""{other}<p>Show that it is you: give the hub key that your client uses. It stays here.</p>
<form method="post"><label for="key">Hub key</label>
<input id="key" name="key" type="password" autocomplete="off" required autofocus>
<button>Continue</button></form>""",
    )


def consent(plan: Plan, key_name: str, csrf: str) -> str:
    """Asks for consent."""
    scopes = ", ".join(plan.scopes) or "what the server gives when nothing in particular is asked for"
    return page(
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
    return page(f"{server} is connected", "<p>Go back to your client; you can close this page.</p>")


def declined(server: str) -> str:
    """Says that nothing was done."""
    return page(f"{server} was not connected", "<p>You can close this page.</p>")
