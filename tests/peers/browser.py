"""A browser for tests: cookies, forms and redirects between the hub's pages and an authorization server's."""

from __future__ import annotations

import html
import re
from urllib.parse import urljoin, urlsplit

import httpx


class Browser:
    """Keeps cookies for each origin; follows no redirect by itself."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.page = ""
        self.url = ""
        self.answer: httpx.Response | None = None

    async def open(self, url: str, form: dict[str, str] | None = None) -> httpx.Response:
        """Open a URL, or send a form there, and follow its redirects as far as a page."""
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        if form is None:
            answer = await self._http.get(url)
        else:
            answer = await self._http.post(url, data=form, headers={"origin": origin})
        self.url, self.page, self.answer = url, answer.text, answer
        return await self.open(urljoin(url, answer.headers["location"])) if answer.is_redirect else answer

    async def send(self, **fields: str) -> httpx.Response:
        """Fill the page's form and send it."""
        hidden = re.findall(r'name="([^"]+)" type="hidden" value="([^"]*)"', self.page)
        return await self.open(self.url, {**{name: html.unescape(value) for name, value in hidden}, **fields})

    async def connect(self, link: str, key: str) -> httpx.Response:
        """Go all the way from a link to the connected page."""
        answer = await self.open(link)
        if 'name="key"' in answer.text:
            answer = await self.send(key=key)
        return await self.send(answer="allow") if 'value="allow"' in answer.text else answer
