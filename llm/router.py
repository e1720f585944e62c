"""From the model name that a client uses to the entry that runs it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from registry.access import Grant
from registry.entries import Model
from registry.errors import NotFound
from registry.identity import Principal

MAX_NAME = 256
"""Characters; longer than any model's name, and each call's name is kept in its usage row."""


def find(models: Mapping[str, Model], name: str) -> Model:
    """Resolve `name`: exactly, else by the longest wildcard that matches.

    The entry of a wildcard comes back under the requested name, which grants are judged on, with the upstream name
    filled in: `openai/*` asked for `openai/gpt-4o` is that name and the upstream's `gpt-4o`.

    Raises:
        NotFound: no model answers to this name. A wildcard's own name is none.
    """
    if "*" in name or len(name) > MAX_NAME:
        raise NotFound("model", name)
    exact = models.get(name)
    if exact is not None:
        return exact
    wildcards = [key for key in models if key.endswith("*") and len(name) >= len(key) and name.startswith(key[:-1])]
    if not wildcards:
        raise NotFound("model", name)
    key = max(wildcards, key=len)
    entry = models[key]
    filled = _filled(entry, name, key)
    if entry.deployments:
        filled = replace(filled, deployments=tuple(_filled(one, name, key) for one in entry.deployments))
    return filled


def _filled(entry: Model, name: str, key: str) -> Model:
    return replace(entry, name=name, model=entry.model.replace("*", name[len(key) - 1 :]))


def stand_in(models: Mapping[str, Model], name: str) -> Model | None:
    """A model that is asked in the place of another; None: it cannot be now."""
    try:
        found = find(models, name)
    except NotFound:
        return None
    return found if found.unavailable is None else None


def listing(models: Mapping[str, Model], principal: Principal) -> Iterator[str]:
    """Yield the names that `principal` may use, in the catalog's order.

    A wildcard is listed as such; for a key that holds only some of its names, as the grants that name them.
    """
    for name, entry in models.items():
        if entry.unavailable is not None:
            continue
        if principal.grants.allow(entry.kind, entry.grant_name):
            yield name
        elif name.endswith("*"):
            yield from (grant.glob for grant in principal.grants.named(Grant("model", name)))
