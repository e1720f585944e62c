"""A fake of Vertex AI Agent Engine with the suite's brain, and of Google's token endpoint.

Written from: the REST reference of `projects.locations.reasoningEngines` (`query`, `streamQuery`: `class_method`, `input`, `output`), the
guide "Use an ADK agent" (`async_create_session`, `async_stream_query`), ADK's `Event` (`content`, `partial`, `long_running_tool_ids`,
`error_code`, `error_message`), "Using OAuth 2.0 for server to server applications" (`assertion`); all read 2026-11.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.conftest import served
from tests.peers.model_service import Received, read, reply, unless_left
from tests.peers.platforms import brain
from tests.peers.platforms.adk_server import ADK_AMONG, ADK_ORDER
from tests.peers.platforms.platform import Kind, Odd, Platform, line, opening

ENGINE = "/v1/projects/p/locations/l/reasoningEngines/1"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class Engine:
    """The engine and the token endpoint."""

    def __init__(self) -> None:
        self.good: set[str] = set()
        self.platform = Platform(expire=self.good.clear)
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.url = ""
        self.issued = 0
        self.sessions: dict[str, tuple[str, list[str]]] = {}
        self.script: list[dict[str, Any]] = []
        """The events of the next query, in place of what the brain says."""
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = await read(scope, receive)

        if request.path == "/token":
            await reply(send, 200, self.token(request))
        elif request.headers.get("authorization", "").removeprefix("Bearer ") not in self.good:
            await reply(
                send, 401, {"error": {"code": 401, "message": "invalid credentials", "status": "UNAUTHENTICATED"}}
            )
        elif request.path == ENGINE:
            await reply(send, 200, {"name": ENGINE[4:], "displayName": "Brain", "description": "Thinks.", "etag": "x"})
        elif request.path == f"{ENGINE}:query":
            await reply(send, 200, {"output": self._session(request.body)})
        else:
            assert request.path == f"{ENGINE}:streamQuery"
            if not await unless_left(self._stream(request.body, send), receive):
                self.platform.cancelled.set()

    @property
    def account(self) -> dict[str, str]:
        """The key file of the service account."""
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        named = {"type": "service_account", "client_email": "hub@p.iam.gserviceaccount.com", "private_key_id": "k1"}
        return {**named, "private_key": pem, "token_uri": f"{self.url}/token"}

    def token(self, request: Received) -> dict[str, Any]:
        form = parse_qs(request.raw.decode())
        assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        said = jwt.decode(form["assertion"][0], self.key.public_key(), ["RS256"], audience=f"{self.url}/token")
        assert (said["iss"], said["scope"]) == ("hub@p.iam.gserviceaccount.com", SCOPE)
        self.issued += 1
        self.good.add(f"token-{self.issued}")
        return {"access_token": f"token-{self.issued}", "expires_in": 3599, "token_type": "Bearer"}

    def _session(self, body: dict[str, Any]) -> dict[str, Any]:
        assert body["class_method"] == "async_create_session"
        name = f"s{len(self.sessions) + 1}"
        self.sessions[name] = body["input"]["user_id"], []
        return {"id": name, "userId": body["input"]["user_id"], "appName": "1", "state": {}, "events": []}

    async def _stream(self, body: dict[str, Any], send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        asked = body["input"]
        user, said = self.sessions[asked["session_id"]]
        assert user == asked["user_id"], "a session is its user's"
        self.platform.named.append(f"{user}/{asked['session_id']}")

        async def write(event: dict[str, Any]) -> None:
            line = json.dumps({"author": "brain", "invocation_id": "e-1", "actions": {"state_delta": {}}, **event})
            await send({"type": "http.response.body", "body": line.encode() + b"\n", "more_body": True})

        def told(text: str) -> dict[str, Any]:
            return {"content": {"role": "model", "parts": [{"text": text}]}}

        self.asked.append(asked)
        if self.script:
            for event in self.script:
                await write(event)
            self.script = []
            await send({"type": "http.response.body", "body": b""})
            return
        whole = ""
        try:
            async for part in self._think(said, asked["message"]["parts"]):
                if isinstance(part, str):
                    whole += part
                    await write({**told(part), "partial": True})
                else:
                    await write({"content": {"role": "model", "parts": [part]}})
            if whole:
                await write(told(whole))  # once more, as ADK does
        except brain.Question as question:
            call = {"function_call": {"id": "f1", "name": "ask_user", "args": {"question": str(question)}}}
            await write({"content": {"role": "model", "parts": [call]}, "long_running_tool_ids": ["f1"]})
        except brain.Fell as error:
            await write({"error_code": "UNKNOWN", "error_message": str(error)})
        await send({"type": "http.response.body", "body": b""})

    async def _think(self, said: list[str], parts: list[dict[str, Any]]) -> AsyncIterator[Any]:
        for part in parts:
            if "function_response" in part:
                assert part["function_response"]["id"] == "f1"
                yield brain.told(part["function_response"]["response"]["result"])
                return
            if "inline_data" in part:
                yield part
                return
        text = "".join(part["text"] for part in parts)
        before = list(said)
        said.append(text)
        async for piece in brain.say(before, text, self.platform.released.wait):
            yield piece


@asynccontextmanager
async def open_engine() -> AsyncIterator[Engine]:
    """An engine with one agent."""
    engine = Engine()
    async with served(engine) as url:
        engine.url = url
        options = json.dumps({"service_account": engine.account})
        engine.platform.entry = f'{{bridge: vertex, url: "{url}{ENGINE}", options: {options}}}'
        yield engine


VERTEX = Kind(
    "vertex",
    opening(open_engine),
    "a fake of Agent Engine and its token endpoint, from their references",
    {"rejoin": "a query of an engine has no name, and nothing that could be gone on with"},
    Odd(
        ADK_ORDER,
        tuple(line(one) for one in ADK_AMONG),
        tuple(line(one) for one in ADK_AMONG),
        end=line({"error": {"code": 401, "message": "the token has expired", "status": "UNAUTHENTICATED"}}),
    ),
)
