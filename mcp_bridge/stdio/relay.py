"""Several clients as one client of one stdio server. Pure: lines of JSON-RPC in, lines and to whom they go out.

Ids and progress tokens of clients become numbers of the relay's own towards the server and what they were on the way
back, so that clients that count alike never hear one another's answers. A server is introduced once: a client that
comes later is told what the first was. A resource is unsubscribed from when the last client does that. Everything else passes as
the bytes that came.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from msgspec import UNSET, Raw, UnsetType

SERVER = 0
"""The server among those to whom lines go; clients have numbers above it."""

NOBODY = -32601
INTERNAL_ERROR = -32603

_SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"

Lines = list[tuple[int, bytes]]
"""Lines, each with the number of whom it is for."""


class NotMessage(ValueError):
    """A line of the server's that is no JSON-RPC message: a banner, or a trace."""


class _Message(msgspec.Struct):
    jsonrpc: str = "2.0"
    id: Raw | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


@dataclass(slots=True)
class _Call:
    """A request that the server has not answered."""

    client: int | None
    """None: it has left."""
    id: Raw
    method: str
    token: Raw | None = None
    uri: bytes = b""
    """What it subscribes to."""


_decode = msgspec.json.Decoder(_Message).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


class Relay:
    """The clients of one server."""

    def __init__(self) -> None:
        self.clients: list[int] = []
        """In the order they came."""
        self._count = 0
        self._calls: dict[int, _Call] = {}
        self._numbers: dict[tuple[int, bytes], int] = {}
        """Of calls, by client and the client's id."""
        self._asked: dict[bytes, int] = {}
        """Who was asked, by the server's id."""
        self._subscribers: dict[bytes, set[int]] = {}
        """Of resources, by URI."""
        self._introduction: Raw | None = None
        self._waiting: list[_Call] | None = None
        """Clients that wait for the introduction under way; None: there is none."""
        self._is_initialized = False

    def leave(self, client: int) -> Lines:
        """Forget a client: its calls are cancelled, and what it was asked is answered with an error."""
        self.clients.remove(client)
        lines: Lines = []
        for number, call in self._calls.items():
            if call.client != client:
                continue
            call.client = None
            self._numbers.pop((client, bytes(call.id)), None)
            if call.method != "initialize":  # which must not be cancelled, and serves the next client
                params = {"requestId": number, "reason": "the client has left"}
                lines.append((SERVER, _notification("notifications/cancelled", params)))
        for asked in [asked for asked, of in self._asked.items() if of == client]:
            del self._asked[asked]
            lines.append((SERVER, _error(Raw(asked), INTERNAL_ERROR, "the client has left")))
        for uri in [uri for uri, subscribers in self._subscribers.items() if client in subscribers]:
            if self._unsubscribed(client, uri):
                self._count += 1
                which = Raw(_encode({"uri": Raw(uri)}))
                unsubscribe = _Message(id=Raw(b"%d" % self._count), method="resources/unsubscribe", params=which)
                lines.append((SERVER, _encode(unsubscribe)))
        return lines

    def _unsubscribed(self, client: int, uri: bytes) -> bool:
        """Forget a subscription; returns whether it was the last to its resource."""
        subscribers = self._subscribers.get(uri, set())
        subscribers.discard(client)
        if not subscribers:
            self._subscribers.pop(uri, None)
        return not subscribers

    def from_client(self, client: int, line: bytes) -> Lines:
        """Take a line of a client's."""
        try:
            message = _decode(line)
        except msgspec.DecodeError:
            return []
        if message.method is UNSET:
            answered = isinstance(message.id, Raw) and self._asked.get(bytes(message.id)) == client
            if not answered:
                return []
            del self._asked[bytes(message.id)]  # type: ignore[arg-type]  # answered says that there is one
            return [(SERVER, line)]
        if message.id is UNSET:
            return self._told(client, message, line)
        call = _Call(client, message.id, message.method)
        known = self._known(call, message)
        return self._asks(client, call, message) if known is None else known

    def _known(self, call: _Call, message: _Message) -> Lines | None:
        """What is said to a request that the server need not see; None: it must see it."""
        assert call.client is not None
        result: Raw | None = None
        if call.method == "initialize":
            if self._waiting is not None:
                self._waiting.append(call)
                return []
            result = self._introduction
            self._waiting = [] if result is None else None
        elif call.method in {"resources/subscribe", "resources/unsubscribe"}:
            call.uri = bytes(_object(message.params).get("uri", b""))
            if call.method == "resources/subscribe":
                self._subscribers.setdefault(call.uri, set()).add(call.client)
            elif not self._unsubscribed(call.client, call.uri):
                result = Raw(b"{}")
        return None if result is None else [(call.client, _encode(_Message(id=call.id, result=result)))]

    def _asks(self, client: int, call: _Call, message: _Message) -> Lines:
        assert isinstance(message.id, Raw)
        self._count += 1
        number = self._count
        self._calls[number] = call
        self._numbers[client, bytes(message.id)] = number
        if isinstance(message.params, Raw):
            message.params, call.token = _with_token(message.params, number)
        message.id = Raw(b"%d" % number)
        return [(SERVER, _encode(message))]

    def _told(self, client: int, message: _Message, line: bytes) -> Lines:
        if message.method == "notifications/initialized":
            if self._is_initialized:
                return []
            self._is_initialized = True
        elif message.method == "notifications/cancelled":
            params = _object(message.params)
            number = self._numbers.get((client, bytes(params.get("requestId", b""))))
            if number is None:
                return []
            message.params = Raw(_encode({**params, "requestId": number}))
            return [(SERVER, _encode(message))]
        return [(SERVER, line)]

    def from_server(self, line: bytes) -> Lines:
        """Take a line of the server's; raises `NotMessage`."""
        try:
            message = _decode(line)
        except msgspec.DecodeError:
            raise NotMessage from None
        if message.method is UNSET:
            return self._answered(message)
        if message.id is UNSET:
            return self._said(message, line)
        if message.method == "ping":
            return [(SERVER, _encode(_Message(id=message.id, result=Raw(b"{}"))))]
        if not self.clients:
            return [(SERVER, _error(message.id, NOBODY, "nobody is there who could be asked"))]
        self._asked[bytes(message.id)] = self.clients[0]
        return [(self.clients[0], line)]

    def _answered(self, message: _Message) -> Lines:
        call = self._calls.pop(_number(message.id), None)
        if call is None:
            return []
        answered = [call]
        if call.method == "initialize":
            answered += self._waiting or []
            self._waiting = None
            if isinstance(message.result, Raw):
                self._introduction = Raw(bytes(message.result))  # not the buffer that it came in
        elif call.method == "resources/subscribe" and isinstance(message.error, Raw) and call.client is not None:
            self._unsubscribed(call.client, call.uri)
        lines: Lines = []
        for one in answered:
            if one.client in self.clients:
                self._numbers.pop((one.client, bytes(one.id)), None)
                message.id = one.id
                lines.append((one.client, _encode(message)))
        return lines

    def _said(self, message: _Message, line: bytes) -> Lines:
        """A notification: of one call's progress, of one subscription, or for everybody."""
        if message.method == "notifications/progress":
            params = _object(message.params)
            call = self._calls.get(_number(params.get("progressToken", UNSET)))
            if call is None or call.token is None or call.client is None:
                return []
            message.params = Raw(_encode({**params, "progressToken": call.token}))
            return [(call.client, _encode(message))]
        if isinstance(message.params, Raw) and _SUBSCRIPTION.encode() in bytes(message.params):
            params = _object(message.params)
            meta = _object(params.get("_meta", UNSET))
            call = self._calls.get(_number(meta.get(_SUBSCRIPTION, UNSET)))
            if call is not None and call.client is not None:
                message.params = Raw(_encode({**params, "_meta": {**meta, _SUBSCRIPTION: call.id}}))
                return [(call.client, _encode(message))]
        return [(client, line) for client in self.clients]


def _with_token(params: Raw, number: int) -> tuple[Raw, Raw | None]:
    """Put `number` in the place of a progress token; returns what stood there."""
    if b'"progressToken"' not in bytes(params):
        return params, None
    members = _object(params)
    meta = _object(members.get("_meta", UNSET))
    token = meta.get("progressToken")
    if token is None:
        return params, None
    return Raw(_encode({**members, "_meta": {**meta, "progressToken": number}})), token


def _object(raw: Raw | UnsetType) -> dict[str, Raw]:
    """The members of an object; none of what is no object."""
    try:
        return _members(raw) if isinstance(raw, Raw) else {}
    except msgspec.DecodeError:
        return {}


def _number(raw: Raw | UnsetType) -> int:
    """A number that the relay gave out; 0, which it never does, for anything else."""
    text = bytes(raw) if isinstance(raw, Raw) else b""
    return int(text) if text.isdigit() and len(text) < 20 else 0


def _notification(method: str, params: dict[str, object]) -> bytes:
    return _encode(_Message(method=method, params=Raw(_encode(params))))


def _error(request_id: Raw, code: int, text: str) -> bytes:
    return _encode(_Message(id=request_id, error=Raw(_encode({"code": code, "message": text}))))
