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


OLD_JSONRPC: Final = Speech("JSONRPC", "0.3")
"""The one speech whose objects say their `kind`."""

CANONICAL: Final = Speech("HTTP+JSON", "1.0")
"""How what is canonical is written: by agents that are made here too."""

SPEECHES: Final = (
    Speech("JSONRPC", "1.0"),
    Speech("HTTP+JSON", "1.0"),
    Speech("GRPC", "1.0"),
    OLD_JSONRPC,
    Speech("HTTP+JSON", "0.3"),
)
"""All that clients and agents may speak, the one the hub likes best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request in canonical form."""

    operation: Operation
    params: JsonObject = field(default_factory=dict)
    """As A2A 1.0 names them, without `tenant`."""
    speech: Speech | None = None
    """Its client's; None: it is the hub's own."""
    raw: bytes | None = None
    """The parameters, or the body, or the protobuf message, as the client wrote them in its speech, for an agent that speaks
    the same: what was judged of them is written anew, push configuration and tenant are taken out. None: there is nothing
    to be said for which `params` has no word."""
    context_id: str | None = None
    """What the agent is told in the place of the context that `raw` names."""
    extensions: str | None = None
    """The extensions asked for, as `A2A-Extensions` lists them."""
    trace: tuple[tuple[str, str], ...] = ()
    """`traceparent`, `tracestate` and `hubbub-hops`, to go on."""

    @property
    def version(self) -> Version:
        """The client's: what it is sent later is written so."""
        return self.speech.version if self.speech is not None else "1.0"
