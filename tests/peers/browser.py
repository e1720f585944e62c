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

    async def open(self, url: str) -> httpx.Response:
        """Open a URL, and follow its redirects as far as a page."""
        return await self._follow(url, await self._http.get(url))

    async def send(self, *, follow: bool = True, origin: str | None = "", **fields: str) -> httpx.Response:
        """Fill the page's form and send it; `origin` in the place of the page's own, None for none."""
        hidden = re.findall(r'name="([^"]+)" type="hidden" value="([^"]*)"', self.page)
        form = {**{name: html.unescape(value) for name, value in hidden}, **fields}
        own = "{0.scheme}://{0.netloc}".format(urlsplit(self.url)) if origin == "" else origin
        answer = await self._http.post(self.url, data=form, headers={} if own is None else {"origin": own})
        return await self._follow(self.url, answer) if follow else answer

    async def _follow(self, url: str, answer: httpx.Response) -> httpx.Response:
        self.url, self.page = url, answer.text
        return await self.open(urljoin(url, answer.headers["location"])) if answer.is_redirect else answer

    async def connect(self, link: str, key: str) -> httpx.Response:
        """Go all the way from a link to the connected page."""
        answer = await self.open(link)
        if 'name="key"' in answer.text:
            answer = await self.send(key=key)
        return await self.send(answer="allow") if 'value="allow"' in answer.text else answer
