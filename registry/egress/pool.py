"""Connections that stand idle until the next request to their origin. Knows neither requests nor how one dials."""

from __future__ import annotations

import asyncio
import re
import time

from registry.egress.http1 import Connection
from registry.egress.request import Key

IDLE_S = 30.0
"""Servers close idle connections too, and a POST that meets one just closed cannot be repeated: so we close first."""

PLAIN_IDLE_S = 4.0
"""The same without TLS, where no proxy answers but the application: Uvicorn and Node close after 5 s."""

MAX_IDLE = 256
"""Kept per key: enough for a busy hub, few enough for its file descriptors."""

_TIMEOUT = re.compile(rb"timeout=(\d{1,6})")


class IdleConnections:
    """Idle connections, the youngest first out. One for a process."""

    def __init__(self, *, idle_s: float = IDLE_S, most: int = MAX_IDLE) -> None:
        self._idle_s = idle_s
        self._most = most
        self._idle: dict[Key, list[tuple[float, Connection]]] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    def take(self, key: Key) -> Connection | None:
        """Return a connection that may be used now, None: dial."""
        idle = self._idle.get(key)
        while idle:
            expires, connection = idle.pop()
            if expires > time.monotonic() and not connection.is_closing:  # what came meanwhile has closed it
                return connection
            connection.abort()
        return None

    def put(self, key: Key, connection: Connection) -> None:
        """Keep a connection whose request is over, or close it when it cannot be used again."""
        idle = self._idle.get(key)
        if idle is None:
            idle = self._idle[key] = []
        if self._closed or not connection.is_reusable or len(idle) >= self._most:
            connection.abort()
            return
        keep_s = connection.keep_s or self._ask(connection, key)
        idle.append((time.monotonic() + keep_s, connection))
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(self._idle_s, self._sweep)

    def close(self) -> None:
        """Close all, and from now on each that is put."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for idle in self._idle.values():
            for _, connection in idle:
                connection.abort()
        self._idle.clear()

    def _ask(self, connection: Connection, key: Key) -> float:
        """How long to keep a connection: less than its server says that it does (Keep-Alive: timeout=, in seconds)."""
        stated = next((value for name, value in connection.headers if name == b"keep-alive"), b"")
        found = _TIMEOUT.search(stated)
        unstated = self._idle_s if key[0] == "https" else min(self._idle_s, PLAIN_IDLE_S)
        connection.keep_s = min(self._idle_s, max(int(found[1]) - 1.0, 0.5)) if found else unstated
        return connection.keep_s

    def _sweep(self) -> None:
        now = time.monotonic()
        for key, idle in list(self._idle.items()):
            kept = []
            for expires, connection in idle:
                if expires > now and not connection.is_closing:
                    kept.append((expires, connection))
                else:
                    connection.abort()
            if kept:
                self._idle[key] = kept
            else:
                del self._idle[key]
        self._sweeping = asyncio.get_running_loop().call_later(self._idle_s, self._sweep) if self._idle else None
