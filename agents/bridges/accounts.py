"""Agents that speak A2A on platforms that want their cloud's credentials: an entry's `auth` says whose.

Sources, beside those of the credentials: Amazon Bedrock AgentCore, "Deploy A2A servers" (the session's header, the card's place); Vertex AI,
"Use an Agent2Agent agent"; Azure AI Foundry, "Enable incoming A2A" (all read 2026-11).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import msgspec

from agents.bridges.way import Credentials, Way, is_expired
from agents.speech import Ask
from registry.egress.http import Egress, Incoming, Outgoing
from registry.entries import Agent, Headers
from registry.gate import Permit

AGENTCORE = "bedrock-agentcore"
SESSION = "x-amzn-bedrock-agentcore-runtime-session-id"


class AuthInvalid(ValueError):
    """An entry's `auth` is wrong; its text says how."""


class Accounts:
    """Those of all agents. One for a process: whoever waits for a token waits for the same one."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._made: dict[str, tuple[bytes, Account]] = {}

    def begun(self, entry: Agent, ask: Ask) -> Ask:
        """A request as it is to be sent: one that begins a context names it, where that is needed to find the context's session."""
        message = ask.params.get("message")
        if not self._account(entry).has_sessions or not isinstance(message, dict):
            return ask
        if message.get("contextId") or message.get("taskId"):
            return ask
        context_id = str(uuid4())
        params = {**ask.params, "message": {**message, "contextId": context_id}}
        return replace(ask, params=params, context_id=context_id)

    @asynccontextmanager
    async def send(
        self, permit: Permit, entry: Agent, outgoing: Outgoing, context: str | None = None
    ) -> AsyncIterator[Incoming]:
        """Send a request of `context` with the account's credentials; once more, if they have expired.

        Raises:
            UpstreamError: as the way out, and when there are no credentials.
        """
        account, way = self._account(entry), Way(self._egress, permit, entry)
        if account.has_sessions and context is not None:
            session = hashlib.sha256(f"{entry.name}\n{context}".encode()).hexdigest()
            outgoing = msgspec.structs.replace(outgoing, headers=(*outgoing.headers, (SESSION, session)))
        for is_last in (False, True):
            signed: Headers = ()
            if account.credentials is not None:
                signed = await account.credentials.headers(way, outgoing)
            asked = msgspec.structs.replace(outgoing, headers=(*outgoing.headers, *signed))
            async with self._egress.send(permit, asked) as incoming:
                may_renew = account.credentials is not None and is_expired(incoming) and not is_last
                if not (may_renew and account.credentials is not None and account.credentials.refused(signed)):
                    yield incoming
                    return

    def _account(self, entry: Agent) -> Account:
        assert entry.auth is not None, "it has an account"
        made = self._made.get(entry.name)
        if made is None or made[0] != entry.auth:
            made = self._made[entry.name] = entry.auth, account_of(entry)
        return made[1]


class Account(msgspec.Struct, frozen=True):
    """How requests to one agent are signed."""

    credentials: Credentials | None
    """None: the entry's own headers have a bearer token."""
    has_sessions: bool = False
    """Each context has a session of AgentCore Runtime, which its requests name."""


def account_of(entry: Agent) -> Account:
    """The account that an entry's `auth` describes; raises `AuthInvalid`."""
    from agents.bridges.aws import Aws, signer  # noqa: PLC0415
    from agents.bridges.credentials import Entra, Google, entra, google  # noqa: PLC0415  # loads JWT, for those who need it

    assert entry.auth is not None, "it has an account"
    try:
        auth = msgspec.json.decode(entry.auth, type=Google | Entra | Aws)
    except msgspec.ValidationError as error:
        raise AuthInvalid(f"auth: {error}") from None
    signs_itself = any(name.lower() == "authorization" for name, _ in entry.headers)
    if signs_itself and not (isinstance(auth, Aws) and auth.keys is None):
        raise AuthInvalid("auth and a header authorization do not go together")
    if isinstance(auth, Google):
        return Account(google(auth))
    if isinstance(auth, Aws):
        signs = signer(auth.keys, region=auth.region, service=auth.service) if auth.keys is not None else None
        return Account(signs, has_sessions=auth.service == AGENTCORE)
    return Account(entra(auth, auth.scope))
