"""The admin REST API (surface.md 5): one shape for every collection, errors as problem+json, OpenAPI at /docs.

Imported at the first request that needs it: FastAPI costs more to import than the rest of the hub.
"""

from __future__ import annotations

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response

from hub import errors, pages
from hub.api import (
    agent_cards,
    approvals,
    audit,
    entries,
    guards,
    keys,
    members,
    policy,
    push,
    server_trust,
    teams,
    toolsets,
    usage,
    users,
)
from hub.api.access import check_unambiguous
from hub.api.description import PROBLEM, described
from hub.api.docs import page_of
from hub.services import Services
from registry.declared.shapes import explain
from registry.declared.source import dotted
from registry.errors import INTERNAL, HubError, InvalidRequest, NotFound, ParseFailed
from registry.judged import JsonObject


class _Api(FastAPI):
    """FastAPI, with errors as the hub tells them in its description."""

    def openapi(self) -> JsonObject:
        if self.openapi_schema is None:
            self.openapi_schema = described(super().openapi())
        return self.openapi_schema


def api(services: Services) -> FastAPI:
    """Build the application for `services`."""
    app = _Api(
        title="Hubbub",
        version="1",
        description="Registry of agents, MCP servers, models, keys, users and teams. Send 'Authorization: Bearer sk-…'.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(check_unambiguous)],
    )
    app.state.services = services
    for router in (
        keys.router,
        users.router,
        teams.router,
        members.router,
        toolsets.router,
        *entries.routers(),
        agent_cards.router,
        push.router,
        approvals.router,
        audit.router,
        server_trust.router,
        policy.router,
        guards.router,
        usage.router,
    ):
        app.include_router(router, prefix="/api")
    app.add_exception_handler(HubError, _answer)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(400, _answer_unreadable)
    app.add_exception_handler(Exception, _answer_bug)
    app.add_exception_handler(404, _answer_nowhere)
    app.add_exception_handler(405, _answer_nowhere)

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        headers = {name.decode(): value.decode() for name, value in pages.headers()}
        return HTMLResponse(page_of(app.openapi()), headers=headers)

    return app


async def _answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, HubError), "registered for hub errors only"
    services: Services = request.app.state.services
    where = f"{request.method} {request.scope['path']}"
    services.audit.refused(request.scope["principal"], error, request_id=request.scope["request_id"], where=where)
    headers = {name.decode(): value.decode() for name, value in errors.extra_headers(error)}
    body = errors.problem(error, request.scope["request_id"])
    return JSONResponse(body, errors.row_of(error).status, headers, media_type=PROBLEM)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError), "registered for these only"
    faults = map(explain, error.errors())
    texts = [f"{dotted(path[1:])}: {text}" if path[1:] else text for path, text in faults]
    return await _answer(request, InvalidRequest("; ".join(texts)))


async def _answer_unreadable(request: Request, error: Exception) -> Response:
    return await _answer(request, ParseFailed("malformed"))


async def _answer_bug(request: Request, _error: Exception) -> Response:
    """Say in the API's form that it failed; the error goes on to the log."""
    return await _answer(request, INTERNAL)


async def _answer_nowhere(request: Request, _error: Exception) -> Response:
    return await _answer(request, NotFound("path", request.scope["path"]))
