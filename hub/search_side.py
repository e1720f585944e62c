"""The part that searches tools by what they mean, where `hub.search_model` names a model for it: a piece of the composition root."""

from __future__ import annotations

from llm.platform.embedding import Embedding
from llm.run import Loop
from mcp_bridge import findable
from mcp_bridge.dispatch import Dispatch
from registry.catalog import Catalog
from registry.errors import NotFound
from registry.registry import Registry
from registry.search.meaning import Meanings


def search_side(registry: Registry, embedding: Embedding, *, loop: Loop, tools: Dispatch) -> Meanings:
    """Let the door of tools and the loop search by vectors that are made anew where the model became another."""
    meanings = Meanings(embedding, lambda: findable.meanings(registry.catalog))
    made_at: object = None

    def follow(_old: Catalog, _new: Catalog) -> None:
        nonlocal made_at
        try:
            now = embedding.where()
        except NotFound:  # switched off, perhaps for a while
            return
        if made_at not in (None, now):
            meanings.forget()
        made_at = now
        meanings.refresh()

    registry.subscribe(follow)
    tools.meanings = meanings
    loop.search_by(meanings)
    return meanings
