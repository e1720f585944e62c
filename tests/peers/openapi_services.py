"""A service that describes itself: FastAPI writes its OpenAPI 3.1 document, and it notes what it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastapi import Body, Cookie, FastAPI, File, Form, Header, HTTPException, Query, Request, Response, UploadFile
from fastapi.responses import PlainTextResponse, RedirectResponse
from pydantic import BaseModel

from tests.conftest import served

PIXEL = bytes.fromhex("89504e470d0a1a0a")


class Part(BaseModel):
    name: str
    parts: list[Part] = []


class Item(BaseModel):
    name: str
    price: float | None = None
    kind: Literal["tool", "toy"] = "tool"
    part: Part | None = None


@dataclass
class Shop:
    """A running service."""

    url: str = ""
    requests: list[dict[str, str]] = field(default_factory=list)
    """The headers of each."""
    documents: list[int] = field(default_factory=list)
    """The status of each answer to a question for the document."""


def _app(shop: Shop) -> FastAPI:
    app = FastAPI(title="Shop", version="1", openapi_url="/described.json")

    @app.middleware("http")
    async def note(request: Request, call_next: Any) -> Any:
        shop.requests.append(dict(request.headers))
        if request.url.path != "/described.json":
            return await call_next(request)
        is_known = request.headers.get("if-none-match") == '"1"'
        response = Response(status_code=304) if is_known else await call_next(request)
        response.headers["etag"] = '"1"'
        shop.documents.append(response.status_code)
        return response

    _taking(app)
    _giving(app)
    return app


def _taking(app: FastAPI) -> None:
    """Operations that show how arguments came."""

    @app.get("/items/{item_id}")
    async def read_item(
        item_id: str,
        q: Annotated[list[str] | None, Query()] = None,
        x_trace: Annotated[str | None, Header()] = None,
        session: Annotated[str | None, Cookie()] = None,
    ) -> dict[str, Any]:
        """One item."""
        return {"id": item_id, "q": q, "trace": x_trace, "session": session}

    @app.post("/items")
    async def create_item(item: Item) -> Item:
        return item

    @app.post("/forms")
    async def fill_form(name: Annotated[str, Form()], tags: Annotated[list[str], Form()]) -> dict[str, Any]:
        return {"name": name, "tags": tags}

    @app.post("/files")
    async def upload(caption: Annotated[str, Form()], file: Annotated[UploadFile, File()]) -> dict[str, Any]:
        return {"caption": caption, "bytes": (await file.read()).hex(), "filename": file.filename}

    @app.post("/notes")
    async def note_down(text: Annotated[str, Body(media_type="text/plain")], request: Request) -> dict[str, Any]:
        return {"text": text, "type": request.headers["content-type"]}

    @app.delete("/items/{item_id}", status_code=204)
    async def remove(item_id: str) -> None:
        return None


def _giving(app: FastAPI) -> None:
    """Operations whose answers are of many kinds."""

    @app.get("/many")
    async def many(count: int) -> dict[str, Any]:
        return {"total": count, "items": [{"name": f"n{n}", "text": "x" * 100} for n in range(count)]}

    @app.get("/text", response_class=PlainTextResponse)
    async def text(count: int = 1) -> str:
        return "word " * count

    @app.get("/pixel", responses={200: {"content": {"image/png": {}}}}, response_class=Response)
    async def pixel() -> Response:
        return Response(PIXEL, media_type="image/png")

    @app.get("/zip", response_class=Response)
    async def archive(size: int = 4) -> Response:
        return Response(b"\0" * size, media_type="application/zip")

    @app.get("/away", response_class=Response)
    async def away() -> Response:
        return RedirectResponse("http://169.254.169.254/latest")

    @app.get("/fail/{status}")
    async def fail(status: int, request: Request) -> dict[str, Any]:
        raise HTTPException(status, f"you sent {request.headers.get('authorization')} to {request.headers['host']}")


@asynccontextmanager
async def shop() -> AsyncIterator[Shop]:
    """Serve it."""
    running = Shop()
    async with served(_app(running)) as running.url:
        yield running
