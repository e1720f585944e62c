"""Values that the parts of the chat loop hand to one another. Pure; knows no provider and no transport."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from registry.judged import JsonObject


class OfferedTool(Protocol):
    """A tool of the hub as a model is told of it."""

    @property
    def server(self) -> str:
        """The name of its server."""

    @property
    def name(self) -> str:
        """As its server calls it."""

    @property
    def exposed(self) -> str:
        """As the model calls it, and as `ToolExecutor.call` takes it."""

    @property
    def description(self) -> str:
        """For the model."""

    @property
    def input_schema(self) -> JsonObject:
        """JSON Schema of its arguments."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that the model asked for."""

    id: str
    name: str
    arguments: str
    """JSON as the model wrote it, perhaps invalid."""


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """One call that the hub executed, or could not."""

    call: ToolCall
    server: str | None
    """None: the model named a tool that it was not offered."""
    tool: str
    arguments: JsonObject
    text: str
    """What the model is told."""
    failed: bool
    duration_ms: float


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's whole answer to one call: OpenAI's assistant message."""

    message: JsonObject
    finish_reason: str
    usage: JsonObject = field(default_factory=dict)
    """OpenAI's usage object; empty when the provider gave none."""
    system_fingerprint: str | None = None
