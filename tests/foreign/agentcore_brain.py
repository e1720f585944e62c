"""An agent of the suite's brain on AgentCore's own SDK, behind a fake of the data plane; runs in the environment of agentcore.

Arguments: the port, and the directory through which the test speaks to it; brain.py lies there.

The data plane is a fake: InvokeAgentRuntime and StopRuntimeSession of the API reference 2024-02-28 (read 2026-11): their paths, the session's
header (33 to 256 characters) and that it comes back, `clientToken`, and AccessDeniedException (403) with `message`.
It takes what botocore, by itself, signs in the same way. What answers behind it is the SDK's server.
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn
from bedrock_agentcore import BedrockAgentCoreApp, RequestContext
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

PORT, HERE = int(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(HERE))
import brain  # noqa: E402

RUNTIME = "/runtimes/arn%3Aaws%3Abedrock-agentcore%3Aeu-west-1%3A123456789012%3Aruntime%2Fbrain-a1/"
KEYS = Credentials("AKIDEXAMPLE", "secret/of+nobody", "a-session-token")
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/\d{8}/eu-west-1/bedrock-agentcore/aws4_request, "
    r"SignedHeaders=(\S+), Signature=([0-9a-f]{64})"
)
SESSION = "x-amzn-bedrock-agentcore-runtime-session-id"
MUST_BE_SIGNED = {"host", "content-type", "x-amz-date", "x-amz-security-token", SESSION}

agent = BedrockAgentCoreApp()
said: dict[str, list[str]] = {}
"""What each session remembers, until it is stopped."""


async def released() -> None:
    """Wait until the test says so."""
    while not (HERE / "released").exists():
        await asyncio.sleep(0.02)


@agent.entrypoint
async def invoke(payload: dict[str, Any], context: RequestContext) -> AsyncIterator[Any]:
    """Say what the brain says; files, data and questions are this agent's own."""
    session = said[str(context.session_id)]
    if more := [part for part in payload.get("parts", ()) if "text" not in part]:
        yield more
        return
    before, text = list(session), payload["prompt"]
    session.append(text)
    if before[-1:] == ["ask"]:
        yield {"result": brain.told(text), "unknown": [1]}
        return
    try:
        async for piece in brain.say(before, text, released):
            yield piece
    except brain.Question as question:
        yield {"result": str(question), "needs_answer": True}


def is_signed(request: Request, body: bytes) -> bool:
    """Whether botocore signs the request as its sender did."""
    found = AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if found is None or not set(found[1].split(";")) >= MUST_BE_SIGNED:
        return False
    at = request.headers["x-amz-date"]
    if abs(datetime.strptime(at, "%Y%m%dT%H%M%S%z") - datetime.now(UTC)) > timedelta(minutes=5):
        return False
    target = f"{request.scope['raw_path'].decode()}?{request.scope['query_string'].decode()}"
    headers = {name: request.headers[name] for name in found[1].split(";")}
    again = AWSRequest(request.method, f"http://{headers['host']}{target}", headers, body)
    again.context["timestamp"] = at
    signer = SigV4Auth(KEYS, "bedrock-agentcore", "eu-west-1")
    return found[2] == signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)


def stop(session: str) -> Response:
    """StopRuntimeSession."""
    if said.pop(session, None) is None:
        return JSONResponse({"message": "there is no such session"}, 404)
    (HERE / "cancelled").touch()
    return JSONResponse({}, headers={SESSION: session})


async def plane(scope: Any, receive: Any, send: Any) -> None:
    """The data plane."""
    if scope["type"] != "http" or scope["path"] == "/ping":
        await agent(scope, receive, send)
        return
    request = Request(scope, receive)
    body = await request.body()
    session, path = request.headers.get(SESSION, ""), scope["raw_path"].decode()
    if not is_signed(request, body) or scope["query_string"] != b"qualifier=live%20one":
        refused = JSONResponse({"message": "The request signature does not match."}, 403)
    elif not 33 <= len(session) <= 256:
        refused = JSONResponse({"message": "runtimeSessionId", "reason": "FieldValidationFailed"}, 400)
    elif path == f"{RUNTIME}stopruntimesession":
        refused = stop(session)
    else:
        assert path == f"{RUNTIME}invocations"
        said.setdefault(session, [])
        with (HERE / "sessions").open("a") as sessions:
            sessions.write(f"{session}\n")
        again = iter([{"type": "http.request", "body": body}])

        async def receive_again() -> Any:
            return next(again, None) or await receive()

        await agent({**scope, "path": "/invocations", "raw_path": b"/invocations"}, receive_again, send)
        return
    await refused(scope, receive, send)


uvicorn.run(plane, host="127.0.0.1", port=PORT, log_level="warning")
