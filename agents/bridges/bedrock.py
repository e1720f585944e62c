"""Amazon Bedrock: AgentCore Runtime (API reference of the data plane, 2024-02-28: InvokeAgentRuntime, StopRuntimeSession; read 2026-11).

A context is a session of the runtime, a message an invocation of it. What an invocation is sent and what it answers is each agent's own, so
both are expressions as those of `http`; their defaults are what AWS's own guides and its Python SDK use.

`url`: `https://bedrock-agentcore.REGION.amazonaws.com`. With `alias` in place of `runtime` the agent is a classic one (agents.bridges.bedrock_agents).
"""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import quote

import msgspec

from agents.bridges import bedrock_agents, http
from agents.bridges.aws import Source, signer
from agents.bridges.bridge import Bridge, Turn
from registry.entries import Headers
from registry.errors import UpstreamRejected

SERVICE = "bedrock-agentcore"
SESSION = "x-amzn-bedrock-agentcore-runtime-session-id"
_ARN = re.compile(rf"arn:aws[a-z-]*:{SERVICE}:([a-z0-9-]+):[0-9]+:runtime/[A-Za-z0-9_-]+")

REQUEST = 'parts.all(part, has(part.text)) ? {"prompt": text} : {"prompt": text, "parts": parts}'
ANSWER = """
type(answer) != map ? answer : has(answer.result) ? answer.result : has(answer.response) ? answer.response :
has(answer.event) && type(answer.event) == string ? answer.event : answer
"""
FAILURE = "type(answer) == map && has(answer.error) ? answer.error : null"


class Options(http.Options, forbid_unknown_fields=True, kw_only=True):
    """What an entry's `options` may say, beside those of `http`."""

    runtime: str
    """Its ARN."""
    qualifier: str | None = None
    """The runtime's endpoint; None: its default one."""
    keys: Source | None = None
    """None: the entry's own headers have a bearer token."""
    request: str = REQUEST
    answer: str = ANSWER
    failure: str | None = FAILURE


class AgentCore(http.Http):
    """One runtime."""

    def __init__(self, url: str, options: Options) -> None:
        arn = _ARN.fullmatch(options.runtime)
        if arn is None:
            raise ValueError("runtime is not the ARN of a runtime of AgentCore")
        self._runtime = f"{url.rstrip('/')}/runtimes/{quote(options.runtime, safe='')}"
        self._query = f"?qualifier={quote(options.qualifier, safe='')}" if options.qualifier else ""
        super().__init__(f"{self._runtime}/invocations{self._query}", options)
        if options.keys is not None:
            self.credentials = signer(options.keys, region=arn[1], service=SERVICE)

    def headers(self, turn: Turn) -> Headers:
        """The context's session: the runtime makes it when it hears of it, and again when it has ended it."""
        return ((SESSION, turn.session_name),)

    async def cancel(self, turn: Turn) -> None:
        """Stop the session: an invocation has no name (agents.bridges.bridge.Bridge)."""
        body = {"clientToken": hashlib.sha256(turn.task_id.encode()).hexdigest()}
        try:
            url = f"{self._runtime}/stopruntimesession{self._query}"
            await turn.way.json("POST", url, body, headers=self.headers(turn))
        except UpstreamRejected as error:
            if error.status != 404:  # it has ended by itself
                raise


def make(url: str, options: dict[str, Any]) -> Bridge:
    """Make the bridge (agents.bridges.bridge.Make): an alias is of a classic agent."""
    if "alias" in options:
        return bedrock_agents.Agents(url, msgspec.convert(options, bedrock_agents.Options))
    return AgentCore(url, msgspec.convert(options, Options))
