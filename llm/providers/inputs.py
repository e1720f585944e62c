"""What models take beside text. Pure. A model entry's `inputs` says it; else the upstream's name, as far as it is known."""

from __future__ import annotations

from collections.abc import Collection

from registry.access import matches
from registry.entries import Model

TAKE_IMAGES = (
    "gpt-4o*",
    "gpt-4.1*",
    "gpt-5*",
    "chatgpt-4o*",
    "o1*",
    "o3*",
    "o4*",
    "claude-*",
    "gemini-*",
    "gemma-3*",
    "grok-4*",
    "pixtral-*",
    "llama-4*",
    "llava*",
    "*-vision*",
    "*-vl-*",
    "*vl:*",
)
"""Families of models, by names without a publisher in front; none of them takes text alone."""


def inputs_of(model: Model) -> Collection[str]:
    """`image` and `audio`, as far as the model takes them."""
    if model.inputs is not None:
        return model.inputs
    name = model.model.rpartition("/")[2].lower()
    return ("image",) if any(matches(glob, name) for glob in TAKE_IMAGES) else ()
