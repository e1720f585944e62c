"""How doors for browsers read forms and answer with pages."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qs

from hub import errors, pages
from hub.exchange import Exchange, Header
from registry.errors import HubError, InvalidRequest, TooLarge, Unauthenticated

MAX_FORM_BYTES = 8192


async def form(exchange: Exchange) -> dict[str, str]:
    """Read the form that was sent; raises `TooLarge`, `InvalidRequest`."""
    length = exchange.headers.get(b"content-length", b"")
    if not length.isdigit() or int(length) > MAX_FORM_BYTES:
        raise TooLarge(MAX_FORM_BYTES)
    return members(await exchange.any_body())


def members(encoded: bytes) -> dict[str, str]:
    """The members of a form or query; one that stands twice is left out."""
    try:
        found = parse_qs(encoded.decode("ascii"), max_num_fields=20)
    except ValueError:
        raise InvalidRequest("The form cannot be read.") from None
    return {name: values[0] for name, values in found.items() if len(values) == 1}


async def send_to(exchange: Exchange, url: str, *headers: Header) -> None:
    """Send the browser elsewhere."""
    await exchange.reply(303, b"", headers=[(b"location", url.encode()), *headers, *pages.headers()])


async def show(exchange: Exchange, status: int, page: str, more: Sequence[Header] = (), *, sends_to: str = "") -> None:
    """Show a page; `sends_to` as `pages.headers` has it."""
    media_type = b"text/html; charset=utf-8"
    await exchange.reply(status, page.encode(), media_type=media_type, headers=[*more, *pages.headers(sends_to)])


async def show_failure(exchange: Exchange, error: HubError, *more: Header) -> None:
    """Show what went wrong."""
    exchange.failure = error
    headers = errors.extra_headers(error) if not isinstance(error, Unauthenticated) else []
    page = pages.failure(error.text, exchange.request_id)
    await show(exchange, errors.row_of(error).status, page, [*headers, *more])
