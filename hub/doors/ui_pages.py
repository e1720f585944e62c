"""The pages of `/ui`: where to sign in, and who is signed in as what. Pure: values in, HTML out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import urlencode, urlsplit

from hub.pages import page
from registry.access import Grants, Meet
from registry.callers.accounts import Place
from registry.identity import Principal


def entrance(home_url: str, issuers: Sequence[str], next_path: str, *, is_over: bool = False) -> str:
    """Where somebody may sign in."""
    if not issuers:
        text = "<p>No issuer of this hub signs people in. Its operator sets <code>sign_in</code> of an issuer.</p>"
        return page("Hubbub", text)
    links = "".join(
        f'<p><a href="{escape(home_url)}/sign-in?{escape(urlencode({"issuer": url, "next": next_path}))}">'
        f"Sign in at {escape(_place(url))}</a></p>"
        for url in issuers
    )
    return page("Hubbub", f"{'<p>Your session is over.</p>' if is_over else ''}{links}")


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.netloc}{parts.path.rstrip('/')}"


def home(home_url: str, principal: Principal, places: Sequence[Place], token: str) -> str:
    """Who is signed in, in which teams and roles, and what they may do."""
    teams = "".join(f"<dd>{_team(home_url, place, principal, token)}</dd>" for place in places) or "<dd>none</dd>"
    grants = "".join(f"<dd>{escape(text)}</dd>" for text in _lists(principal.grants))
    role = "" if principal.role is None else f"<dt>You act as</dt><dd>{escape(principal.role)}</dd>"
    return page(
        "Hubbub",
        f"""<dl><dt>Signed in</dt><dd>{escape(principal.user or principal.name)}</dd>
<dt>Teams</dt>{teams}{role}<dt>You may use what each of these lists allows</dt>{grants}</dl>
<form method="post" action="{escape(home_url)}/sign-out">{_hidden("csrf", token)}<button>Sign out</button></form>""",
    )


def _team(home_url: str, place: Place, principal: Principal, token: str) -> str:
    said = f"{escape(place.alias)}, {escape(place.role)}"
    if place.team_id == principal.team_id:
        return f"<strong>{said}</strong>"
    return (
        f'<form method="post" action="{escape(home_url)}/team">{_hidden("csrf", token)}{_hidden("team", place.team_id)}'
        f"{said} <button>Act in {escape(place.alias)}</button></form>"
    )


def _lists(grants: Grants) -> list[str]:
    """Each level's grants."""
    parts = grants.parts if isinstance(grants, Meet) else (grants,)
    return [", ".join(f"{one.kind}:{one.glob}" for one in part.grants) or "nothing" for part in parts]


def _hidden(name: str, value: str) -> str:
    return f'<input name="{name}" type="hidden" value="{escape(value)}">'


def stranger(home_url: str) -> str:
    """Says that somebody is known where they signed in, but not here."""
    text = "<p>Who you signed in as may not use this hub. Ask its operator: the hub's log says why.</p>"
    return page("You are not signed in", text + _back(home_url))


def signed_out(home_url: str, issuer: str, page_there: str | None) -> str:
    """Says that the session is over, and where it may not be; other applications may rest on that."""
    place = escape(_place(issuer))
    text = f"<p>At {place} you may still be signed in.</p>"
    if page_there is not None:
        text += f'<p><a href="{escape(page_there)}" rel="noreferrer">Sign out at {place} too</a></p>'
    return page("You are signed out", text + _back(home_url))


def _back(home_url: str) -> str:
    return f'<p><a href="{escape(home_url)}">Sign in again</a></p>'
