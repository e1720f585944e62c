"""A fake of the runtime of Bedrock Agents (classic) with the suite's brain, which keeps what it was sent and what it wrote.

Written from the API reference of the runtime for agents, 2023-07-26, read 2026-11: InvokeAgent (`inputText`, `enableTrace`, `streamingConfigurations`,
`sessionState`), `ResponseStream` (`chunk`, `trace`, `returnControl`, `files` and its exceptions), `InvocationInputMember`, `InvocationResultMember`, `InputFile`,
`OutputFile`, `TracePart`; the event stream encoding of Smithy 2.0. Where botocore is, it reads all of that by its own model of the service
(tests/foreign/aws_check.py): a field that is not AWS's fails there.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from struct import pack
from typing import Any

from tests.conftest import served
from tests.foreign.environments import HERE, python_of
from tests.peers.model_service import Received, read, unless_left
from tests.peers.platforms import brain
from tests.peers.platforms.platform import NOBODYS, Kind, Odd, Platform, opening

ALIAS = "arn:aws:bedrock:eu-west-1:123456789012:agent-alias/AGENT12345/ALIAS12345"
KEYS = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "secret/of+nobody", "session_token": "a-session-token"}
INVOKE = re.compile(r"/agents/AGENT12345/agentAliases/ALIAS12345/sessions/([0-9a-zA-Z._:-]{2,100})/text")
SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/\d{8}/eu-west-1/bedrock/aws4_request, SignedHeaders=(\S+), Signature=[0-9a-f]{64}"
)
MUST_BE_SIGNED = {"host", "content-type", "x-amz-date", "x-amz-security-token"}
ASKED = {"actionGroup": "people", "function": "ask_user", "actionInvocationType": "RESULT", "agentId": "AGENT12345"}
BUY = {
    "actionGroup": "shop",
    "httpMethod": "POST",
    "apiPath": "/orders",
    "actionInvocationType": "USER_CONFIRMATION",
    "parameters": [{"name": "what", "type": "string", "value": "tea"}],
    "requestBody": {"content": {"application/json": {"properties": [{"name": "n", "type": "integer", "value": "2"}]}}},
}
CITATION = {"generatedResponsePart": {"textResponsePart": {"text": "tea"}}}


def message(payload: Any, *, strings: dict[str, str]) -> bytes:
    """One message; beside its headers it has one of each kind that AWS does not use here."""
    headers = b""
    for name, value in strings.items():
        headers += pack("!B", len(name)) + name.encode() + pack("!BH", 7, len(value)) + value.encode()
    odd = {
        0: b"",
        1: b"",
        2: b"\x01",
        3: pack("!h", -2),
        4: pack("!i", 3),
        5: pack("!q", 4),
        8: pack("!q", 5),
        9: bytes(16),
    }
    for kind, value in {**odd, 6: pack("!H", 3) + b"\xff\x00\x01"}.items():
        headers += b"\x02o%d" % kind + pack("!B", kind) + value
    data = json.dumps(payload).encode()
    prelude = pack("!II", 16 + len(headers) + len(data), len(headers))
    whole = prelude + pack("!I", zlib.crc32(prelude)) + headers + data
    return whole + pack("!I", zlib.crc32(whole))


def event(kind: str, payload: Any) -> bytes:
    """One event."""
    strings = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return message(payload, strings=strings)


def failed(kind: str, reason: str) -> bytes:
    """One exception."""
    strings = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return message({"message": reason}, strings=strings)


def chunk(text: str, **more: Any) -> bytes:
    """More of an answer."""
    return event("chunk", {"bytes": base64.b64encode(text.encode()).decode(), **more})


def trace(**members: Any) -> bytes:
    """What the agent does."""
    return event(
        "trace", {"agentId": "AGENT12345", "sessionId": "s-1", "eventTime": "2026-11-23T10:00:00Z", "trace": members}
    )


class Runtime:
    """The runtime. `script`: what the next invocation is answered, in place of what the brain says."""

    def __init__(self) -> None:
        self.platform = Platform()
        self.script: bytes | None = None
        self.said: dict[str, list[str]] = {}
        self.received: list[Received] = []
        self.written: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = await read(scope, receive)
        self.received.append(request)
        found = SIGNED.fullmatch(request.headers.get("authorization", ""))
        if found is None or not set(found[1].split(";")) >= MUST_BE_SIGNED:
            headers = [(b"x-amzn-errortype", b"AccessDeniedException")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"message": "it is not signed"}'})
            return
        session = INVOKE.fullmatch(request.path)
        assert session is not None
        if not await unless_left(self._invoke(session[1], request.body, send), receive):
            self.platform.cancelled.set()

    async def _invoke(self, session: str, body: dict[str, Any], send: Any) -> None:
        self.platform.named.append(session)
        kind = b"application/vnd.amazon.eventstream"
        headers = [(b"content-type", kind), (b"x-amzn-bedrock-agent-content-type", b"application/json")]
        headers.append((b"x-amz-bedrock-agent-session-id", session.encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def write(data: bytes) -> None:
            self.written.append(data)
            await send({"type": "http.response.body", "body": data, "more_body": True})

        if self.script is not None:
            data, self.script = self.script, None
            await write(data)
        else:
            async for data in self._answer(self.said.setdefault(session, []), body):
                await write(data)
        await send({"type": "http.response.body", "body": b""})

    async def _answer(self, said: list[str], body: dict[str, Any]) -> AsyncIterator[bytes]:
        assert body["enableTrace"]
        assert body["streamingConfigurations"] == {"streamFinalResponse": True}
        state = body.get("sessionState", {})
        if results := state.get("returnControlInvocationResults"):
            assert (state["invocationId"], "inputText" in body) == ("inv-1", False)
            yield chunk(_told(results))
            return
        yield trace(orchestrationTrace={"rationale": {"text": "I think.", "traceId": "t-1"}})
        if files := state.get("files"):
            data = [file["source"].get("byteContent", {"mediaType": "none", "data": ""}) for file in files]
            written = [{"name": "b.png", "type": one["mediaType"], "bytes": one["data"]} for one in data]
            yield event("files", {"files": written})
            return
        before, text = list(said), body["inputText"]
        said.append(text)
        if text == "buy":
            called = {"actionGroupName": "shop", "function": "look", "executionType": "LAMBDA"}
            yield trace(orchestrationTrace={"invocationInput": {"actionGroupInvocationInput": called}})
            yield chunk("tea", attribution={"citations": [CITATION]})
            asked = {"functionInvocationInput": {**ASKED, "parameters": [{"name": "question", "value": "How many?"}]}}
            yield event(
                "returnControl", {"invocationId": "inv-1", "invocationInputs": [{"apiInvocationInput": BUY}, asked]}
            )
            return
        try:
            async for piece in brain.say(before, text, self.platform.released.wait):
                yield chunk(piece)
        except brain.Question as question:
            asked = {"name": "question", "type": "string", "value": str(question)}
            inputs = [{"functionInvocationInput": {**ASKED, "parameters": [asked]}}]
            yield event("returnControl", {"invocationId": "inv-1", "invocationInputs": inputs})
        except brain.Fell as error:
            yield failed("dependencyFailedException", str(error))


def _told(results: list[dict[str, Any]]) -> str:
    """What the agent says of what came of what it handed back."""
    match results:
        case [{"functionResult": {"actionGroup": "people", "function": "ask_user", "responseBody": {"TEXT": body}}}]:
            return brain.told(body["body"])
        case [{"apiResult": api}, {"functionResult": function}]:
            assert (api["apiPath"], api["httpMethod"], api["actionGroup"]) == ("/orders", "POST", "shop")
            why = api.get("responseBody", {}).get("application/json", {}).get("body")
            return f"{api['confirmationState']} ({why}), {function['responseBody']['TEXT']['body']}"
    raise AssertionError(results)


@asynccontextmanager
async def open_runtime() -> AsyncIterator[Runtime]:
    """A runtime with one agent."""
    runtime = Runtime()
    async with served(runtime) as url:
        options = json.dumps({"alias": ALIAS, "keys": KEYS})
        runtime.platform.entry = f'{{bridge: bedrock, url: "{url}", options: {options}}}'
        yield runtime


async def checked_by_botocore(asked: dict[str, Any]) -> dict[str, Any]:
    """What botocore says of requests and events, as tests/foreign/aws_check.py describes it."""
    pipe = asyncio.subprocess.PIPE
    command = (await python_of("agentcore"), HERE / "aws_check.py")
    child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    said, _ = await child.communicate(json.dumps(asked).encode())
    assert child.returncode == 0
    found: dict[str, Any] = json.loads(said)
    return found


BEDROCK_AGENTS = Kind(
    "bedrock, alias",
    opening(open_runtime),
    "a fake of InvokeAgent; botocore 1.44 reads what either side wrote, by its model of the service",
    {
        "rejoin": "an invocation has no name, and nothing that could be gone on with",
        "renews": "each request is signed by itself, with keys that do not expire by themselves",
    },
    Odd(
        "traces come between chunks, files before or after them; a trace may come last (InvokeAgent, `ResponseStream`)",
        (
            event("initial-response", {}),
            event("later", {"bytes": base64.b64encode(NOBODYS.encode()).decode()}),
            chunk(""),
            event("chunk", {}),
            trace(guardrailTrace={"action": "NONE"}),
            trace(orchestrationTrace={"modelInvocationInput": {"text": NOBODYS}}),
            event("files", {"files": []}),
        ),
        (trace(orchestrationTrace={"observation": {"type": "FINISH", "finalResponse": {"text": NOBODYS}}}),),
        end=failed("accessDeniedException", "the token has expired"),
        busy=((429, {"x-amzn-errortype": "ThrottlingException"}),),
    ),
)
