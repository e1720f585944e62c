"""What an admin route asks of its caller, and where it finds the services."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Body, Depends, Query, Request

from hub.services import Services
from registry.errors import InvalidRequest, NotFound, ParseFailed
from registry.identity import Principal, Role
from registry.judged import JsonObject, unambiguous


def _services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


ServicesNow = Annotated[Services, Depends(_services)]
MAX_NUMBER = 2**63 - 1
"""The database's integers end there."""

JsonBody = Annotated[dict[str, Any], Body()]
PageSize = Annotated[int, Query(ge=1, le=1000)]


async def check_unambiguous(request: Request) -> None:
    """Raise `InvalidRequest` for a body in which a member stands twice: whoever looks through it on its way may see the other one."""
    try:
        data = await request.body()
        if data:
            unambiguous(data)
    except ParseFailed:  # no JSON, which the route says, if it takes a body
        return


def read_disabled(body: JsonObject) -> bool | None:
    """Take the switch out of the body of a change; None: it is left as it is. Raises `InvalidRequest`."""
    disabled = body.pop("disabled", None)
    if disabled is not None and not isinstance(disabled, bool):
        raise InvalidRequest("disabled must be true or false", member="disabled")
    return disabled


def needs(collection: str, *, role: Role | None = None) -> Callable[[Request], Principal]:
    """A dependency: the caller, who must hold `admin:{collection}`; others get the answer of an absent path.

    With `role` it may also be somebody who acts in that role or a higher one: in their own team, as the route has to see to.
    """

    def caller(request: Request) -> Principal:
        principal: Principal = request.scope["principal"]
        if not principal.grants.allow("admin", collection) and (role is None or not principal.acts_as(role)):
            raise NotFound("path", request.scope["path"])
        return principal

    return caller


def lists(kind: str, collection: str) -> Callable[[Request], Principal]:
    """A dependency: the caller who lists a collection. Agents anybody may list: those that they may call."""

    def caller(request: Request) -> Principal:
        principal: Principal = request.scope["principal"]
        return principal if kind == "agent" else needs(collection)(request)

    return caller
