"""The doors of what providers keep for callers: `/v1/files`, `uploads`, `batches`, `vector_stores`, each also without `/v1`."""

from __future__ import annotations

from hub.exchange import Exchange
from llm.platform import multipart, operations
from llm.platform.forms import Form
from llm.platform.objects import Platform
from llm.platform.passthrough import Visitor
from llm.platform.uploads import DECIDING, Uploads
from registry.errors import HttpMethodRefused, InvalidRequest


class PlatformDoor:
    """Everything at and below one of `llm.platform.operations.PATHS`. A client that leaves cancels what runs for it."""

    def __init__(self, platform: Platform, uploads: Uploads) -> None:
        self._platform = platform
        self._uploads = uploads

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        visitor = Visitor(exchange.principal, exchange.request_id, exchange)
        path = exchange.path.removeprefix("/v1").strip("/")
        is_part = path.startswith("uploads/") and path.endswith("/parts")
        if exchange.method == "POST" and (path == "files" or is_part):
            await self._upload(exchange, path, visitor)
            return
        body = b"" if exchange.method in {"GET", "DELETE"} else await exchange.body()
        with exchange.until_gone():
            if path not in operations.PATHS:
                await self._platform.act(exchange.method, path, body, exchange.query, visitor)
            elif exchange.method == "GET" and path in operations.LISTED:
                await self._platform.list(path, exchange.query, visitor)
            elif exchange.method == "POST":
                await self._platform.make(path, body, exchange.query, visitor)
            else:
                raise HttpMethodRefused("GET, POST" if path in operations.LISTED else "POST")

    async def _upload(self, exchange: Exchange, path: str, visitor: Visitor) -> None:
        kind = exchange.headers.get(b"content-type", b"")
        if not multipart.is_form(kind):
            raise InvalidRequest("files are uploaded as multipart/form-data")
        model = dict(operations.members(exchange.query)).get("model")
        form = Form(multipart.boundary_of(kind), exchange.pieces(), once=DECIDING)
        with exchange.until_gone():
            async with form:
                if path == "files":
                    await self._uploads.take(form, model, visitor)
                else:
                    await self._uploads.part(form, path, visitor)
