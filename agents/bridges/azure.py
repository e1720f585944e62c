"""Agents of Azure AI Foundry (REST reference of Foundry projects, v1: agents, conversations, responses with `agent_reference`; read 2026-11).

A context is a conversation of the project, a task a response of the agent (agents.bridges.responses). Classic agents have threads and
runs (agents.bridges.threads).

`url`: the project's, `https://ACCOUNT.services.ai.azure.com/api/projects/PROJECT`. `assistant`: the agent's name. `options`: `version` of the
agent, the newest without it; `entra`, the application that the hub signs in as, without it the machine's managed identity; `background`;
`api: threads` for a classic agent, whose id is `assistant`.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from agents.bridges.bridge import About, Bridge, Remember, Skill, Steps, Turn
from agents.bridges.credentials import EntraClient, entra
from agents.bridges.responses import INPUT_MODES, Responses
from agents.bridges.threads import Threads
from agents.bridges.way import Way
from registry.errors import UpstreamInvalid
from registry.judged import JsonObject

SCOPE = "https://ai.azure.com/.default"


class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What an entry's `options` may say."""

    assistant: str
    version: str | None = None
    entra: EntraClient = EntraClient()
    background: bool = True
    api: Literal["responses", "threads"] = "responses"


class Azure(Responses):
    """One agent of a project."""

    def __init__(self, url: str, options: Options) -> None:
        self._project, self._options = url.rstrip("/"), options
        credentials = entra(options.entra, SCOPE)
        super().__init__(f"{self._project}/openai/v1", background=options.background, credentials=credentials)

    async def run(self, turn: Turn) -> Steps:
        """Have the agent respond in the context's conversation (agents.bridges.bridge.Bridge)."""
        conversation = turn.session.get("conversation")
        if conversation is None:
            body: JsonObject = {"metadata": {"user": turn.user}}
            made = await turn.way.json("POST", f"{self._project}/openai/v1/conversations", body)
            conversation = made.get("id") if isinstance(made, dict) else None
            if not isinstance(conversation, str):
                raise UpstreamInvalid(turn.way.name, "it made a conversation without an id")
            yield Remember({"conversation": conversation})
        agent: JsonObject = {"type": "agent_reference", "name": self._options.assistant}
        if self._options.version is not None:
            agent["version"] = self._options.version
        asked = {"agent_reference": agent, "conversation": conversation}
        async with aclosing(self.respond(turn, asked)) as steps:
            async for step in steps:
                yield step

    async def about(self, way: Way) -> About:
        """What the project says of the agent (agents.bridges.bridge.Bridge)."""
        name = self._options.assistant
        found = await way.json("GET", f"{self._project}/agents/{quote(name, safe='')}?api-version=v1")
        versions = found.get("versions") if isinstance(found, dict) else None
        newest = versions.get("latest") if isinstance(versions, dict) else None
        said = str(newest.get("description") or "") if isinstance(newest, dict) else ""
        return About(said, (Skill(name, name, said or f"The agent {name}.", ("azure",)),), INPUT_MODES)


def make(url: str, options: dict[str, Any]) -> Bridge:
    """Make the bridge (agents.bridges.bridge.Make)."""
    said = msgspec.convert(options, Options)
    if said.api == "responses":
        return Azure(url, said)
    if said.version is not None or not said.background:
        raise ValueError("version and background belong to `api: responses`")
    return Threads(url.rstrip("/"), said.assistant, entra(said.entra, SCOPE))
