"""Members of a chat request that a provider lacks: refused by name before anything is sent, or left out if the model says so. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec

from llm.dialects import Round
from llm.providers.row import NULL_CONTENT
from llm.providers.table import TABLE
from llm.types import Turn
from registry.entries import Model
from registry.errors import UnsupportedParameters

_ELSEWHERE = "stream_options"
"""Never the caller's to leave out: the hub asks for usage by it where it can, and gives usage all the same."""

_NULL = b"null"

Value = TypeVar("Value")


def fit(model: Model, members: Mapping[str, Value]) -> Mapping[str, Value]:
    """The members as the model's provider takes them; the same object where nothing is to be done.

    Raises:
        UnsupportedParameters: it lacks some, and the model does not say that they may be left out.
    """
    row = TABLE.get(model.provider)
    if row is None or not row.lacks:
        return members
    found = [name for name in row.lacks if name in members and name != _ELSEWHERE]
    if not found:
        return members
    fitted = {name: value for name, value in members.items() if name not in found}
    if "max_completion_tokens" in found:
        fitted.setdefault("max_tokens", members["max_completion_tokens"])
    _refuse(model, [name for name in found if name != "max_completion_tokens" and not _is_null(members[name])])
    return fitted


def fit_round(asked: Round) -> Round:
    """The same for a round of the loop, whose tools are no members."""
    row = TABLE.get(asked.model.provider)
    if row is None or not row.lacks:
        return asked
    prompt = replace(asked.prompt, members=fit(asked.model, asked.prompt.members))
    if NULL_CONTENT in row.lacks:
        asked = replace(asked, turns=[_with_text(turn) for turn in asked.turns])
    if "tools" in row.lacks and (prompt.own_tools or asked.offers):
        _refuse(asked.model, ["tools"])
        return replace(asked, prompt=replace(prompt, own_tools=()), offers=())
    return replace(asked, prompt=prompt)


def _with_text(turn: Turn) -> Turn:
    """A round whose message has a text, if an empty one."""
    message = {**turn.reply.message, "content": turn.reply.message.get("content") or ""}
    return replace(turn, reply=replace(turn.reply, message=message))


def _is_null(value: object) -> bool:
    return value is None or (isinstance(value, msgspec.Raw) and bytes(value) == _NULL)


def _refuse(model: Model, names: Sequence[str]) -> None:
    if names and not model.drop_params:
        raise UnsupportedParameters(model.name, model.provider, names)
