"""Fakes of what platforms put in front of A2A agents that they run: credentials, places of cards, sessions. The agents are of the official SDK.

Written from, all read 2026-11:

* Amazon Bedrock AgentCore, "Deploy A2A servers in AgentCore Runtime", "A2A protocol contract": the address, `/.well-known/agent-card.json` below it, payloads passed on as they
  are, the session's header (33 to 256 characters); SigV4 of the service `bedrock-agentcore`.
* Vertex AI Agent Engine, "Use an Agent2Agent agent": `/a2a` below the engine, `/v1/card`, HTTP+JSON of 0.3, Google's tokens for the card too.
* Azure, "Managed identities: use a VM token": `metadata: true`, `api-version`, `resource`, `client_id`; `expires_in` as text. Compute Engine, "Access tokens": `metadata-flavor`.
* Azure AI Foundry, "Enable incoming A2A on Foundry agents": `/agents/NAME/endpoint/protocols/a2a`, `/agentCard/v1.0`, Entra's tokens for the card too.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs

import httpx

from agents.speech import Speech
from tests.conftest import served
from tests.peers.a2a_sdk_agents import PATHS, Agent, open_agent
from tests.peers.model_service import Received, read, reply
from tests.peers.platforms.bedrock_agents import KEYS
from tests.peers.platforms.responses_api import Endpoint
from tests.peers.platforms.vertex_engine import Engine

Platform = Literal["aws", "google", "entra"]
SESSION = "x-amzn-bedrock-agentcore-runtime-session-id"
SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=A[KS]I\w+/\d{8}/eu-west-1/bedrock-agentcore/aws4_request, SignedHeaders=(\S+), Signature=[0-9a-f]{64}"
)
BASES: dict[Platform, tuple[str, str, Speech]] = {
    "aws": (
        "/runtimes/arn%3Aaws%3Abedrock-agentcore%3Aeu-west-1%3A123456789012%3Aruntime%2Fbrain-a1/invocations",
        "/.well-known/agent-card.json",
        Speech("JSONRPC", "1.0"),
    ),
    "google": ("/v1beta1/projects/p/locations/l/reasoningEngines/1/a2a", "/v1/card", Speech("HTTP+JSON", "0.3")),
    "entra": ("/api/projects/p/agents/brain/endpoint/protocols/a2a", "/agentCard/v1.0", Speech("JSONRPC", "1.0")),
}
"""Where each has its agent, the place of its card below that, and what it speaks."""


@dataclass
class Front:
    """One front; `agent` is behind it."""

    platform: Platform
    agent: Agent
    good: set[str] = field(default_factory=set)
    """Tokens that it takes; sessions of AWS, all where there are none."""
    tokens: Callable[[Received], dict[str, Any]] | None = None
    """Its cloud's token endpoint."""
    url: str = ""
    entry: str = ""
    """The agent's members in hub.yaml, as a flow mapping."""
    requests: list[tuple[str, Received]] = field(default_factory=list)
    """Those that it let pass, with their methods and raw paths in place of decoded ones."""
    refused: int = 0
    issued: int = 0
    lasts_s: int = 3600
    """How long the tokens of its machine last."""
    query: str = ""
    """Of the last request for a token."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = await read(scope, receive)
        base, place, speech = BASES[self.platform]
        path = scope["raw_path"].decode().partition("?")[0]
        if self.tokens is not None and "token" in path:
            self.issued += 1
            self.query = scope["query_string"].decode()
            await reply(send, 200, self.tokens(request))
        elif not self._opens(request):
            self.refused += 1
            await _refuse(send, self.platform)
        elif not path.startswith(base):
            await reply(send, 404, {"message": "there is nothing"})
        elif path == base + place:
            async with httpx.AsyncClient(trust_env=False) as http:
                card = (await http.get(self.agent.card_url)).text
            self.requests.append((scope["method"], Received(path, request.headers, request.raw)))
            await reply(send, 200, json.loads(card.replace(self.agent.url + PATHS[speech.binding], self.url + base)))
        elif "card" in path.lower():
            await reply(send, 404, {"message": "there is no card"})
        else:
            if self.platform == "aws":
                assert 33 <= len(request.headers[SESSION]) <= 256
            self.requests.append((scope["method"], Received(path, request.headers, request.raw)))
            query = f"?{scope['query_string'].decode()}" if scope["query_string"] else ""
            await self._pass(scope["method"], PATHS[speech.binding] + path.removeprefix(base) + query, request, send)

    def token_of_machine(self, request: Received) -> dict[str, Any]:
        """What a metadata server answers."""
        if self.platform == "google":
            assert request.headers["metadata-flavor"] == "Google"
        else:
            assert request.headers["metadata"] == "true"
            asked = {"api-version": ["2018-02-01"], "resource": ["https://ai.azure.com"], "client_id": ["one-of-two"]}
            assert parse_qs(self.query) == asked
        self.good.add(f"token-{self.issued}")
        lasts: int | str = self.lasts_s if self.platform == "google" else str(self.lasts_s)
        return {"access_token": f"token-{self.issued}", "expires_in": lasts, "token_type": "Bearer"}

    def _opens(self, request: Received) -> bool:
        authorization = request.headers.get("authorization", "")
        if self.platform != "aws":
            return authorization.removeprefix("Bearer ") in self.good
        found = SIGNED.fullmatch(authorization)
        must = {"host", "x-amz-date", "x-amz-security-token", *({SESSION} & request.headers.keys())}
        session = request.headers.get("x-amz-security-token", "")
        return found is not None and set(found[1].split(";")) >= must and session in (self.good or {session})

    async def _pass(self, method: str, path: str, request: Received, send: Any) -> None:
        """Pass a request to the agent, and its answer back as it comes."""
        headers = {
            name: request.headers[name] for name in ("content-type", "accept", "a2a-version") if name in request.headers
        }
        async with (
            httpx.AsyncClient(trust_env=False, timeout=30) as http,
            http.stream(method, self.agent.url + path, content=request.raw, headers=headers) as answer,
        ):
            kind = [(b"content-type", answer.headers["content-type"].encode())]
            await send({"type": "http.response.start", "status": answer.status_code, "headers": kind})
            async for piece in answer.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _refuse(send: Any, platform: Platform) -> None:
    """AWS says that keys have ended with 403 (common errors of the services: `ExpiredTokenException`)."""
    if platform != "aws":
        await reply(send, 401, {"error": {"code": 401, "message": "the token is expired"}})
        return
    headers = [(b"content-type", b"application/json"), (b"x-amzn-errortype", b"ExpiredTokenException")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"message":"The security token has expired"}'})


@asynccontextmanager
async def open_front(platform: Platform, *, of_machine: bool = False) -> AsyncIterator[Front]:
    """An agent behind the front of a platform. `of_machine`: tokens are those of the machine, by its metadata server."""
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(open_agent(BASES[platform][2]))
        front = Front(platform, agent)
        front.url = await stack.enter_async_context(served(front))
        auth: dict[str, Any] = {"type": platform}
        if platform == "aws":
            auth |= {"region": "eu-west-1", "keys": KEYS}
        elif platform == "google":
            engine = Engine()
            engine.url, front.good, front.tokens = front.url, engine.good, engine.token
            auth["service_account"] = engine.account
        else:
            entra = Endpoint("", with_tokens=True)
            front.good, front.tokens = entra.good, entra.token
            auth |= {"tenant_id": "tenant-1", "client_id": "hub", "client_secret": "s3cret", "authority": front.url}
        if of_machine:
            auth = {"type": platform, **({"client_id": "one-of-two"} if platform == "entra" else {})}
            front.tokens = front.token_of_machine
        front.entry = json.dumps({"url": front.url + BASES[platform][0], "auth": auth})
        yield front
