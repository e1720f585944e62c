"""The credential of each principal at each server that asks for one: obtained once for all who wait, renewed in time.

A principal has its own or none: nothing here falls back to another's, and what the caller showed to the hub goes nowhere.
`Credentials.sender` is the way out that signs; the upstreams know no more of all this.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec

from mcp_bridge.oauth.challenge import Challenge, read_challenge
from mcp_bridge.oauth.fetch import WITHIN_S, Way, operators_origins
from mcp_bridge.oauth.links import Links
from mcp_bridge.oauth.tokens import Client, TokenRefused, Tokens, method_of, request_tokens
from registry.catalog import Catalog
from registry.egress.http import Egress, Incoming, OpenPermit, Outgoing, Sender
from registry.entries import Server
from registry.errors import ConsentNeeded, UpstreamError, UpstreamRefused
from registry.gate import Gate
from registry.identity import HUB, Principal
from registry.sealed.vault import Vault

if TYPE_CHECKING:
    from mcp_bridge.oauth.discovery import Found

MAX_CREDENTIALS = 10_000
"""Credentials kept in memory; one that was used longest ago is read from the vault, or obtained, again."""

ASSERTION_S = 60
"""How long an authorization server may take to look at what the hub says of a principal."""

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105  # a name of RFC 8693, no secret
JWT = "urn:ietf:params:oauth:token-type:jwt"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  # as above

Assert = Callable[[str, str], Awaitable[str]]
"""A JWT of the hub's about a principal's id, for an audience."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What the vault holds of a principal's account at a server."""

    url: str
    """The server's, when the account was connected: what it gave goes nowhere else."""
    issuer: str
    token_endpoint: str
    resource: str
    client: Client
    tokens: Tokens

    def __repr__(self) -> str:
        return f"Account({self.issuer!r})"


class Credential:
    """What one principal, or the hub for all, shows to one server. Safe to use from several tasks."""

    def __init__(self, server: Server, principal: Principal, credentials: Credentials) -> None:
        self.server = server
        self.principal = principal
        self._credentials = credentials
        self._tokens: Tokens | None = None
        self._obtaining: asyncio.Task[Tokens] | None = None
        self._more_scopes: tuple[str, ...] = ()
        self.connected = asyncio.Event()
        """Set when the principal has connected an account."""

    @property
    def access(self) -> str:
        """The access token that is shown now; empty: none."""
        return self._tokens.access if self._tokens is not None else ""

    async def tokens(self) -> Tokens:
        """What to show now.

        Raises:
            ConsentNeeded: the principal has no account there.
            UpstreamError: it cannot be obtained.
        """
        tokens = self._tokens
        return await self.renewed(tokens) if tokens is None or tokens.is_stale else tokens

    async def renewed(self, used: Tokens | None) -> Tokens:
        """What to show in the place of `used`, which is refused or stale; all who ask meanwhile wait for one request."""
        if self._tokens is not used and self._tokens is not None:
            return self._tokens
        if self._obtaining is None:
            self._obtaining = asyncio.create_task(self._obtain(used))
            self._obtaining.add_done_callback(self._obtained)
        return await asyncio.shield(self._obtaining)

    async def answer_to(self, challenge: Challenge, used: Tokens) -> Tokens:
        """What to show after the server refused `used` with a challenge; raises as `tokens`."""
        if challenge.error == "insufficient_scope":
            if self.server.auth is not None and self.server.auth.type == "user_oauth":
                granted = (used.scope or "").split()
                raise self.consent_needed(tuple(dict.fromkeys((*granted, *challenge.scopes))))
            self._more_scopes = tuple(dict.fromkeys((*self._more_scopes, *challenge.scopes)))
        return await self.renewed(used)

    async def give_up(self, used: Tokens, status: int) -> UpstreamError:
        """Drop what the server refuses though it is new; returns what the caller is told."""
        if self._tokens is used:
            self._tokens = None
        if self.server.auth is None or self.server.auth.type != "user_oauth" or status != 401:
            return UpstreamRefused(self.server.name, status)
        return await self._disconnected()

    def consent_needed(self, scopes: tuple[str, ...] = ()) -> ConsentNeeded:
        """Make the error that leads the principal to its consent."""
        link = self._credentials.links.new(self.principal.id, self.server.name, scopes)
        self.connected.clear()
        return ConsentNeeded(self.server.name, self.server.name, link)

    def follow(self, tokens: Tokens) -> None:
        """Show these from now on."""
        self._tokens = tokens
        self.connected.set()

    @property
    def obtaining(self) -> asyncio.Task[Tokens] | None:
        """The request under way."""
        return self._obtaining

    def _obtained(self, task: asyncio.Task[Tokens]) -> None:
        self._obtaining = None
        if not task.cancelled() and task.exception() is None:
            self._tokens = task.result()

    async def _obtain(self, used: Tokens | None) -> Tokens:
        auth = self.server.auth
        assert auth is not None
        if auth.type == "user_oauth":
            return await self._of_account(used)
        async with self._credentials.way(self.server) as way:
            found = await self._credentials.discover(way, self.server)
            endpoint = found.authorization_server.token_endpoint
            supported = found.authorization_server.token_endpoint_auth_methods_supported
            assert auth.client_id is not None, "the file was checked"
            method = method_of(auth.client_secret, supported)
            client = Client(id=auth.client_id, secret=auth.client_secret, method=method)
            form = {"resource": found.resource}
            if scopes := dict.fromkeys((*found.scopes, *self._more_scopes)):
                form["scope"] = " ".join(scopes)
            if auth.type == "client_credentials":
                form["grant_type"] = "client_credentials"
            else:
                subject = await self._credentials.assertion(self.principal.id, found.authorization_server.issuer)
                form |= {"grant_type": TOKEN_EXCHANGE, "subject_token": subject, "subject_token_type": JWT}
                form["requested_token_type"] = ACCESS_TOKEN
                if auth.audience is not None:
                    form["audience"] = auth.audience
            return await request_tokens(way, endpoint, client, form)

    async def _of_account(self, used: Tokens | None) -> Tokens:
        account = await self._account()
        if account is None:
            raise self.consent_needed()
        tokens = account.tokens
        if not tokens.is_stale and (used is None or tokens.access != used.access):
            return tokens  # kept over a restart, or renewed by another process
        if tokens.refresh is None:
            raise await self._disconnected()
        form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh, "resource": account.resource}
        try:
            async with self._credentials.way(self.server) as way:
                new = await request_tokens(way, account.token_endpoint, account.client, form)
        except TokenRefused as refused:
            return await self._after_refusal(refused, tokens)
        new = msgspec.structs.replace(new, refresh=new.refresh or tokens.refresh, scope=new.scope or tokens.scope)
        await self._credentials.keep(self.principal.id, self.server, msgspec.structs.replace(account, tokens=new))
        return new

    async def _after_refusal(self, refused: TokenRefused, tokens: Tokens) -> Tokens:
        """A refresh token is good once: another process may have used it, and kept what it got for it."""
        account = await self._account()
        if account is not None and account.tokens.access != tokens.access:
            return account.tokens
        if refused.code not in {"invalid_grant", "invalid_client", "unauthorized_client"}:
            raise refused
        if account is not None and refused.code != "invalid_grant":  # registered no more: anew at the next consent
            await self._credentials.vault.forget_client(self.server.name, account.issuer)
        raise await self._disconnected()

    async def _disconnected(self) -> ConsentNeeded:
        """Forget an account that serves no more."""
        self._tokens = None
        await self._credentials.vault.forget(self.principal.id, self.server.name)
        return self.consent_needed()

    async def _account(self) -> Account | None:
        value = await self._credentials.vault.credential(self.principal.id, self.server.name)
        account = None if value is None else msgspec.json.decode(value, type=Account)
        return account if account is not None and account.url == self.server.url else None


class _Way:
    """`async with`: the way to a server's authorization, under a permit of the hub's own."""

    def __init__(self, gate: Gate, egress: Egress, server: Server) -> None:
        self._permit = gate.admit(HUB, server)
        self._way = Way(egress, self._permit, operators_origins(server))

    async def __aenter__(self) -> Way:
        self._permit.__enter__()
        return self._way

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._permit.__exit__(kind, error, trace)


@dataclass(frozen=True, slots=True)
class Issuing:
    """What credentials come from."""

    vault: Vault
    links: Links
    assertion: Assert


class Credentials:
    """All credentials in use. One for a process."""

    def __init__(self, issuing: Issuing, *, gate: Gate, egress: Egress) -> None:
        self.vault = issuing.vault
        self.links = issuing.links
        self.assertion = issuing.assertion
        self._gate = gate
        self._egress = egress
        self._credentials: OrderedDict[tuple[str, str], Credential] = OrderedDict()

    def scope_of(self, server: Server, principal: Principal) -> str:
        """Who shares one credential, and so connections: the principal's id, or empty for everybody."""
        return principal.id if server.auth is not None and server.auth.type != "client_credentials" else ""

    def of(self, server: Server, principal: Principal) -> Credential | None:
        """The principal's credential at a server; None: it needs none, or is the hub's own request to a user's server."""
        if server.auth is None or (server.auth.type == "user_oauth" and principal.id == HUB.id):
            return None
        key = server.name, self.scope_of(server, principal)
        found = self._credentials.get(key)
        if found is None or found.server != server:
            found = self._credentials[key] = Credential(server, principal, self)
            if len(self._credentials) > MAX_CREDENTIALS:
                self._credentials.popitem(last=False)
        self._credentials.move_to_end(key)
        return found

    def sender(self, server: Server, principal: Principal) -> Sender:
        """The way out to a server for a principal."""
        credential = self.of(server, principal)
        return self._egress if credential is None else Signed(self._egress, credential)

    def way(self, server: Server) -> _Way:
        """The way to a server's authorization."""
        return _Way(self._gate, self._egress, server)

    async def discover(self, way: Way, server: Server) -> Found:
        """Find out where a server's tokens come from; raises `UpstreamError`."""
        from mcp_bridge.oauth.discovery import discover  # noqa: PLC0415 - loads the SDK, which costs a second

        return await discover(way, server)

    async def keep(self, principal_id: str, server: Server, account: Account) -> None:
        """Keep a principal's account."""
        await self.vault.keep(principal_id, server.name, account.issuer, msgspec.json.encode(account))

    async def connect(self, principal: Principal, server: Server, account: Account) -> None:
        """Keep an account that its principal has connected just now, and show its tokens from now on."""
        await self.keep(principal.id, server, account)
        credential = self.of(server, principal)
        assert credential is not None, "its server has accounts"
        credential.follow(account.tokens)

    async def aclose(self) -> None:
        """Let requests for tokens end: what a refresh token was given for must be kept."""
        obtaining = [credential.obtaining for credential in self._credentials.values() if credential.obtaining]
        if obtaining:
            await asyncio.wait(obtaining, timeout=2 * WITHIN_S)

    def drop(self, _old: Catalog, new: Catalog) -> None:
        """Forget what was obtained for servers that are gone or changed."""
        for key, credential in list(self._credentials.items()):
            if new.servers.get(credential.server.name) != credential.server:
                del self._credentials[key]


class Signed:
    """The way out for one principal to one server: each request carries its credential, renewed once if refused."""

    def __init__(self, egress: Egress, credential: Credential) -> None:
        self._egress = egress
        self._credential = credential

    def send(self, permit: OpenPermit, outgoing: Outgoing) -> _SignedCall:
        """As `Egress.send`; raises `ConsentNeeded` too, on entering."""
        return _SignedCall(self._egress, self._credential, (permit, outgoing))


class _SignedCall:
    """One request under way; as `registry.egress.http.Call`."""

    def __init__(self, egress: Egress, credential: Credential, request: tuple[OpenPermit, Outgoing]) -> None:
        self._egress = egress
        self._credential = credential
        self._permit, self._outgoing = request

    async def __aenter__(self) -> Incoming:
        tokens = await self._credential.tokens()
        for is_last in (False, True):
            bearer = ("authorization", f"Bearer {tokens.access}")
            signed = msgspec.structs.replace(self._outgoing, headers=(*self._outgoing.headers, bearer))
            self._call = self._egress.send(self._permit, signed)
            incoming = await self._call.__aenter__()
            if incoming.status not in {401, 403}:
                return incoming
            challenge = read_challenge(incoming.header(b"www-authenticate") or "")
            if incoming.status == 403 and challenge.error != "insufficient_scope":
                return incoming
            await self._call.__aexit__(None, None, None)  # refused, so not executed
            if is_last:
                raise await self._credential.give_up(tokens, incoming.status)
            tokens = await self._credential.answer_to(challenge, tokens)
        raise AssertionError("the second refusal raised")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._call.__aexit__(kind, error, trace)
