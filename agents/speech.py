"""The vocabulary of A2A: versions, bindings, operations, and one request in canonical form. Pure.

Canonical is the JSON of A2A 1.0, decoded. What a client says otherwise is brought into it at the door, what an agent says
otherwise on the way in; bytes are passed on where both speak the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from registry.judged import JsonObject

Version = Literal["1.0", "0.3"]
Binding = Literal["JSONRPC", "HTTP+JSON", "GRPC"]

Operation = Literal[
    "SendMessage",
    "SendStreamingMessage",
    "GetTask",
    "ListTasks",
    "CancelTask",
    "SubscribeToTask",
    "CreateTaskPushNotificationConfig",
    "GetTaskPushNotificationConfig",
    "ListTaskPushNotificationConfigs",
    "DeleteTaskPushNotificationConfig",
    "GetExtendedAgentCard",
]
"""The operations of A2A by their 1.0 names (A2A 1.0 §5.3)."""

STREAMING: Final[frozenset[Operation]] = frozenset({"SendStreamingMessage", "SubscribeToTask"})
"""Answered by events."""

PUSH: Final[frozenset[Operation]] = frozenset(
    {
        "CreateTaskPushNotificationConfig",
        "GetTaskPushNotificationConfig",
        "ListTaskPushNotificationConfigs",
        "DeleteTaskPushNotificationConfig",
    }
)


class Speech(NamedTuple):
    """How one side speaks A2A."""

    binding: Binding
    version: Version


SPEECHES: Final = (
    Speech("JSONRPC", "1.0"),
    Speech("HTTP+JSON", "1.0"),
    Speech("GRPC", "1.0"),
    Speech("JSONRPC", "0.3"),
    Speech("HTTP+JSON", "0.3"),
)
"""All that clients and agents may speak, the one the hub likes best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request in canonical form."""

    operation: Operation
    params: JsonObject = field(default_factory=dict)
    """As A2A 1.0 names them, without `tenant`."""
    version: Version = "1.0"
    """Its client's: what it is sent later is written so."""
    extensions: str | None = None
    """The extensions asked for, as `A2A-Extensions` lists them."""
    trace: tuple[tuple[str, str], ...] = ()
    """`traceparent`, `tracestate` and `hubbub-hops`, to go on."""
