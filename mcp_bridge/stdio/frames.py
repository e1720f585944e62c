"""What a hub and its supervisor say to each other over their unix socket. Pure; known to both.

A connection begins with one line of JSON, an `Ask`. After it every line begins with one byte that says what it is.
"""

from __future__ import annotations

import msgspec

SOCKET = "1.sock"
"""Its name has the version of these frames: a hub of another version starts a supervisor of its own."""

MAX_LINE_BYTES = 32 * 1024 * 1024

OPENED = b"o"
"""The first line of an answer, with a process id: to `Open` the child's, to `Present` the supervisor's own."""

MESSAGE = b"m"
"""A JSON-RPC message, either way."""

WROTE = b"e"
"""A line that the child wrote to stderr."""

ENDED = b"x"
"""The child has ended, or could not be started, with the reason; nothing follows."""

LEAVE = b"l"
"""The client is done, and knows that: what only it needed ends. A connection that just breaks is one that comes back."""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """A child: what two hubs must agree in to share it."""

    name: str
    """Of its server."""
    command: str
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    """The server's own variables."""
    cwd: str
    memory_bytes: int
    """How much memory each of its processes may have for data."""
    cpu_s: int
    """How much CPU time each of its processes may use."""


class Present(msgspec.Struct, frozen=True, tag="present"):
    """A hub is there, for as long as the connection is."""


class Open(msgspec.Struct, frozen=True, kw_only=True, tag="open"):
    """Talk to a child: one that runs already, or a new one."""

    spec: Spec
    inherited: dict[str, str]
    """What a new one sees beside `spec.env`."""
    is_shared: bool
    """Whether others may talk to it too, and find it again."""


class Show(msgspec.Struct, frozen=True, tag="show"):
    """Say what is known of the children: one line of JSON, a `Shown` by each server's name."""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """One child that runs."""

    pid: int
    since: str
    """When it was started: RFC 3339, UTC."""
    is_shared: bool


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the children of one server."""

    running: list[Running]
    lines: list[str]
    """The last that they wrote to stderr, and how they ended."""


Ask = Present | Open | Show

encode = msgspec.json.Encoder().encode
decode_ask = msgspec.json.Decoder(Ask).decode
decode_shown = msgspec.json.Decoder(dict[str, Shown]).decode
