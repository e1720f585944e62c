"""A fake of every host at once: a proxy on loopback that ends the TLS of whatever host it is asked for, with an authority of its own.

It proves which address a request was for without anybody being called. Each request is answered by `answer`; all are recorded.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Asked:
    """One request as it came."""

    url: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What the next request is answered with."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


@dataclass
class EveryHost:
    """The proxy. `authority` is the context of a client that trusts it."""

    directory: Path
    url: str = ""
    answer: Answer = field(default_factory=Answer)
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the tests")])
        own = self._certificate(self._name, x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.authority = ssl.create_default_context(cadata=own.public_bytes(serialization.Encoding.PEM).decode())
        self._contexts: dict[str, ssl.SSLContext] = {}

    def _certificate(self, subject: x509.Name, extension: x509.ExtensionType, *, critical: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name)
        builder = builder.public_key(self._key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = builder.add_extension(extension, critical=critical).add_extension(identifier, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def context(self, host: str) -> ssl.SSLContext:
        """The server's side of TLS for a host."""
        if host not in self._contexts:
            names = x509.SubjectAlternativeName([x509.DNSName(host)])
            certificate = self._certificate(x509.Name([]), names, critical=True)
            path = self.directory / f"{host}.pem"
            path.write_bytes(
                certificate.public_bytes(serialization.Encoding.PEM)
                + self._key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
            self._contexts[host] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._contexts[host].load_cert_chain(path)
        return self._contexts[host]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: plain requests with their whole URL, or a tunnel."""
        try:
            head = await _head(reader)
            method, target, _ = head[0].split(" ")
            origin = ""
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await writer.drain()
                await writer.start_tls(self.context(target.rpartition(":")[0]))
                origin = f"https://{target.removesuffix(':443')}"
                head = await _head(reader)
            while True:
                await self._answer(origin, head, reader, writer)
                head = await _head(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            with suppress(ConnectionError):
                writer.close()

    async def _answer(
        self, origin: str, head: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        url = origin + head[0].split(" ")[1]
        assert headers["host"] == urlsplit(url).netloc
        self.asked.append(Asked(url, headers, await reader.readexactly(int(headers.get("content-length", "0")))))
        answer = self.answer
        lines = [f"HTTP/1.1 {answer.status} X", f"content-length: {len(answer.body)}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
        await writer.drain()


async def _head(reader: asyncio.StreamReader) -> list[str]:
    return (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")


@asynccontextmanager
async def every_host(directory: Path) -> AsyncIterator[EveryHost]:
    """Serve the proxy on a free port."""
    hosts = EveryHost(directory)
    server = await asyncio.start_server(hosts.serve, "127.0.0.1", 0)
    hosts.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield hosts
