"""What a client is told whose user must first connect an account: a URL elicitation where it can, else a text with the link. Pure."""

from __future__ import annotations

import msgspec

from mcp_bridge.naming import exposed_name
from mcp_bridge.wire import HUB, META_CAPABILITIES, META_SERVER
from registry.entries import Feature, Server, Tool
from registry.errors import CallerError, ConsentNeeded
from registry.judged import JsonObject, RawObject, decode, encode
from registry.trust.listings import Listed

KEY = "hubbub/connect"
"""Of the hub's own input request; a server's keys are its own."""

URL_ELICITATION_REQUIRED = -32042
"""MCP 2025-11-25, Elicitation, URL Elicitation Required Error."""


CONNECT = "connect_account"
"""What the tool is called that stands for all of a server that lists its tools to accounts only."""


def invitation(server: str) -> Listed:
    """The tool that a principal is listed who has no account at a server: calling it leads to the page where one is connected."""
    described = {
        "name": CONNECT,
        "description": f"Connect the user's account at {server}. Its tools are listed once that is done.",
        "inputSchema": {"type": "object", "properties": {}},
        "annotations": {"readOnlyHint": True},
        "_meta": {KEY: True},
    }
    return Listed(CONNECT, exposed_name(server, CONNECT), encode(described))


def is_invitation(callee: Feature | Server) -> bool:
    """Whether a caller asks for the hub's own tool, listed or not any more; a server may list one of that name."""
    if callee.name != CONNECT or not isinstance(callee, Tool):
        return False
    return not callee.description or KEY.encode() in callee.description


def connected(server: str) -> JsonObject:
    """The result of a call of that tool, once there is an account."""
    return {"content": [{"type": "text", "text": f"The account at {server} is connected; its tools are listed now."}]}


def takes_urls(meta: RawObject) -> bool:
    """Whether a request says that its client can open a URL for its user (2026-07-28, Elicitation, Capabilities)."""
    try:
        declared = decode(meta.get(META_CAPABILITIES, msgspec.Raw(b"{}")))
    except CallerError:
        return False
    elicitation = declared.get("elicitation") if isinstance(declared, dict) else None
    return isinstance(elicitation, dict) and isinstance(elicitation.get("url"), dict)


def input_required(needed: ConsentNeeded) -> bytes:
    """The result of a 2026-07-28 request that goes on when the client comes back."""
    asked = {"method": "elicitation/create", "params": {"mode": "url", **_asked(needed)}}
    return encode({"resultType": "input_required", "inputRequests": {KEY: asked}, "_meta": {META_SERVER: HUB}})


def error_of(needed: ConsentNeeded) -> JsonObject:
    """The JSON-RPC error for a client of 2025-11-25 that can open a URL."""
    number = needed.link.rpartition("/")[2][-16:]
    elicitation = {"mode": "url", "elicitationId": number, **_asked(needed)}
    return {"code": URL_ELICITATION_REQUIRED, "message": needed.text, "data": {"elicitations": [elicitation]}}


def result_of(needed: ConsentNeeded) -> JsonObject:
    """The result of a tool call for all others: its text has the link."""
    return {"content": [{"type": "text", "text": needed.text}], "isError": True}


def take_response(params: RawObject) -> tuple[RawObject, str | None]:
    """Split the client's answer to `input_required` from a request: the rest goes to the server.

    The second is the user's `action`; None: the hub was not answered.
    """
    try:
        responses = decode(params["inputResponses"]) if "inputResponses" in params else None
    except CallerError:
        return params, None
    if not isinstance(responses, dict) or KEY not in responses:
        return params, None
    response = responses.pop(KEY)
    rest = {name: raw for name, raw in params.items() if name != "inputResponses"}
    if responses:
        rest["inputResponses"] = msgspec.Raw(encode(responses))
    action = response.get("action") if isinstance(response, dict) else None
    return rest, action if isinstance(action, str) else "cancel"


def _asked(needed: ConsentNeeded) -> JsonObject:
    return {"message": f"Connect your account at {needed.server} to go on.", "url": needed.link}
