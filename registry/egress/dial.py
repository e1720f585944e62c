"""Opens connections: TCP, TLS and the operator's proxy. Decides neither where one may go nor what is sent there."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from registry.corked import Cork
from registry.deadline import Deadline
from registry.egress.http1 import Connection, Failed
from registry.egress.request import Target, start_line


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy of the operator's."""

    host: str
    port: int
    authorization: bytes
    """A header line, or empty."""

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Read http://[user:password@]host:port; raises ValueError for anything else."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError("not an http proxy")
        authorization = b""
        if parts.username is not None:
            credential = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            authorization = b"proxy-authorization: Basic " + b64encode(credential) + b"\r\n"
        return cls(parts.hostname, parts.port or 80, authorization)

    def start(self, method: str, target: Target) -> bytes:
        """The start of a plain http request through the proxy: the URL in full (RFC 9112 §3.2.2)."""
        return start_line(method, f"http://{target.authority}{target.path}") + self.authorization


class Dialler:
    """Opens connections, each within `connect_s`: name, TCP, proxy and TLS together."""

    def __init__(
        self, *, connect_s: float, idle_s: float, proxy: Proxy | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.proxy = proxy
        self._connect_s = connect_s
        self._idle_s = idle_s
        self._tls = tls
        self._cork = Cork()

    async def dial(self, target: Target, *, address: str = "") -> Connection:
        """Connect to a target: to the checked `address` and nowhere else, or as the operator's network leads there.

        Raises:
            OSError: nobody there, a certificate that is not trusted (ssl.SSLError), or the proxy refused.
            TimeoutError: not within the deadline.
        """
        with Deadline(self._connect_s):
            if self.proxy is None or address:
                return await self._connect(target, address or target.host)
            if target.scheme == "http":
                return await self._open(self.proxy.host, self.proxy.port)
            return await self._tunnel(self.proxy, target)

    def authorities(self) -> bytes | None:
        """The certificate authorities that are trusted, in PEM; None: the system keeps them in a way that hides them."""
        found = self._context().get_ca_certs(binary_form=True)
        return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode() or None

    async def _connect(self, target: Target, host: str) -> Connection:
        if target.scheme == "http":
            return await self._open(host, target.port)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            self._new, host, target.port, ssl=self._context(), server_hostname=target.host.rstrip(".")
        )
        return connection

    async def _open(self, host: str, port: int) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(self._new, host, port)
        return connection

    async def _tunnel(self, proxy: Proxy, target: Target) -> Connection:
        """Ask the proxy for a tunnel (RFC 9110 §9.3.6) and speak TLS in it."""
        outer = await self._open(proxy.host, proxy.port)
        try:
            authority = f"{target.authority.removesuffix(f':{target.port}')}:{target.port}"
            head = start_line("CONNECT", authority) + f"host: {authority}\r\n".encode() + proxy.authorization + b"\r\n"
            await outer.send(head, b"", first_byte_s=self._connect_s, bodiless=True)
        except Failed:
            raise OSError("the proxy failed") from None
        if not 200 <= outer.status < 300:
            outer.abort()
            raise OSError("the proxy refused")
        connection = self._new()
        raw = outer.detach()
        try:
            transport = await asyncio.get_running_loop().start_tls(
                raw, connection, self._context(), server_hostname=target.host.rstrip(".")
            )
        except BaseException:
            raw.abort()
            raise
        if transport is None:
            raise OSError("closed during the handshake")
        connection.connection_made(transport)
        return connection

    def _new(self) -> Connection:
        return Connection(asyncio.get_running_loop(), self._cork, idle_s=self._idle_s)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:  # made when first needed: reading the system's authorities takes milliseconds
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls
