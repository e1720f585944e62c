"""One row of the table of providers: a service that the hub calls by itself. Pure."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from llm.types import Format

EVERY = (
    "embeddings",
    "completions",
    "moderations",
    "rerank",
    "images/generations",
    "images/edits",
    "images/variations",
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
    "files",
    "batches",
    "vector_stores",
)
"""What a service may have beside its formats: paths below its address, as OpenAI has them (`rerank`: as Jina and Cohere)."""

NULL_CONTENT = "content: null"
"""Stands among what a service lacks that refuses its own messages when they are all calls of tools, without a text."""


@dataclass(frozen=True, slots=True)
class Row:
    """Where a service is, how it takes its key, what it speaks. The variables are only named here: `hub` reads them."""

    base_url: str | None
    """None: every customer has their own, so the entry must say it."""
    key_variable: str | None
    """None: no key is needed; one that the entry holds is sent."""
    page: str
    """Its documentation."""
    seen: str
    """ISO date of the published copy in which its address and variable were last read."""
    _: KW_ONLY
    key_header: str = "authorization"
    """`authorization` carries `Bearer KEY`, any other header the bare key."""
    formats: tuple[Format, ...] = ("chat",)
    """What it speaks; the first is spoken when it does not speak the caller's. Empty: it serves its `endpoints` only."""
    messages_base: str | None = None
    """What `/messages` stands below, where that is not `base_url`."""
    endpoints: tuple[str, ...] = ()
    """Of `EVERY`."""
    lacks: tuple[str, ...] = ()
    """Members of a chat completions request that it refuses, or takes without doing what they say.

    A service without `stream_options` sends usage with the last chunk unasked; one without `max_completion_tokens` is
    sent `max_tokens`; one without `NULL_CONTENT` an empty text.
    """
    note: str = ""
    """For the operator, in docs/providers.md."""
