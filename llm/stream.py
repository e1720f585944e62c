"""Fold the chunks of a streamed answer into its message, and say what of each the caller may see at once. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llm.types import Reply
from registry.judged import JsonObject


@dataclass(slots=True)
class _Call:
    """A tool call under way."""

    whole: JsonObject = field(default_factory=dict)
    shown_as: int | None = None
    """Its index in the caller's stream; None: not shown (yet)."""


@dataclass(slots=True)
class Fold:
    """One round's answer as it comes. `is_own` says of a tool's name whether it is the caller's own to execute."""

    is_own: Callable[[str], bool]
    _message: JsonObject = field(default_factory=dict)
    _calls: dict[int, _Call] = field(default_factory=dict)
    _shown: int = 0
    _finish_reason: str | None = None
    _usage: JsonObject = field(default_factory=dict)
    system_fingerprint: str | None = None

    def feed(self, chunk: JsonObject) -> JsonObject:
        """Take one chunk and return the delta that the caller may see, empty when it may see nothing of it.

        Content is shown as it comes. Of tool calls the caller's own are shown, once their name is whole: when their
        first argument comes. The hub's calls are never shown.
        """
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self._usage = usage
        self.system_fingerprint = chunk.get("system_fingerprint") or self.system_fingerprint
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return {}
        self._finish_reason = choices[0].get("finish_reason") or self._finish_reason
        delta = choices[0].get("delta")
        if not isinstance(delta, dict):
            return {}
        calls = delta.get("tool_calls") or ()
        visible = {
            name: value
            for name, value in delta.items()
            if name not in ("role", "tool_calls") and value not in (None, "")
        }
        _merge(self._message, visible)
        shown = [piece for call in calls if isinstance(call, dict) and (piece := self._feed_call(call)) is not None]
        return {**visible, "tool_calls": shown} if shown else visible

    def _feed_call(self, piece: JsonObject) -> JsonObject | None:
        index = piece.get("index")
        if not isinstance(index, int):  # some providers leave it out and send whole calls
            index = len(self._calls)
        call = self._calls.setdefault(index, _Call())
        _merge(call.whole, {name: value for name, value in piece.items() if name != "index"}, once=_ONCE)
        if call.shown_as is not None:
            return {**piece, "index": call.shown_as}
        return self._show(call) if _body(call.whole) else None

    def _show(self, call: _Call) -> JsonObject | None:
        if not self.is_own(name_of(call.whole)):
            return None
        call.shown_as = self._shown
        self._shown += 1
        return {"index": call.shown_as, **call.whole}

    def rest(self) -> JsonObject:
        """The delta of the caller's own calls that came without arguments. Call it when the round has ended."""
        shown = [piece for call in self._calls.values() if call.shown_as is None and (piece := self._show(call))]
        return {"tool_calls": shown} if shown else {}

    def reply(self) -> Reply:
        """The whole answer."""
        message = {"role": "assistant", "content": None, **self._message}
        if self._calls:
            message["tool_calls"] = [call.whole for _, call in sorted(self._calls.items())]
        return Reply(message, self._finish_reason or "stop", self._usage, self.system_fingerprint)


_ONCE = frozenset({"id", "type"})
"""Members of a tool call that are said once; some providers repeat them in every piece."""


def _merge(into: JsonObject, piece: JsonObject, *, once: frozenset[str] = frozenset()) -> None:
    """Join texts, extend lists, merge objects; the last of anything else holds."""
    for name, value in piece.items():
        before: Any = into.get(name)
        if name in once:
            into[name] = before or value
        elif isinstance(before, str | list) and type(before) is type(value):
            into[name] = [*before, *value] if isinstance(before, list) else f"{before}{value}"
        elif isinstance(value, dict):
            into[name] = before if isinstance(before, dict) else {}
            _merge(into[name], value)
        elif value is not None:
            into[name] = value


def name_of(call: JsonObject) -> str:
    """The name of the tool that a call is for; empty when it has none."""
    of_kind = _of_kind(call)
    name = of_kind.get("name") if isinstance(of_kind, dict) else None
    return name if isinstance(name, str) else ""


def _of_kind(call: JsonObject) -> object:
    kind = call.get("type")
    return call.get(kind if kind and isinstance(kind, str) else "function")


def _body(call: JsonObject) -> object:
    of_kind = _of_kind(call)
    return (of_kind.get("arguments") or of_kind.get("input")) if isinstance(of_kind, dict) else None
