"""Whether the hub's import packages are its own: their names are common words, and other distributions use them too.

Imports nothing of the hub: what it would import may be another distribution's.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

PACKAGES = ("hub", "agents", "mcp_bridge", "llm", "registry")
_NAME = "hubbub"


def clashes() -> list[str]:
    """Say which packages belong to another distribution, or share their folder with one; empty: all is well."""
    root = Path(__file__).parents[2]
    owners = {package: sorted(set(_owners(package))) for package in PACKAGES}
    return [
        f"{package} belongs to {' and '.join(owners[package]) or _origin(package) or 'nothing'}, not to {_NAME} alone:"
        f" install {_NAME} in an environment of its own"
        for package in PACKAGES
        if owners[package] or _origin(package) != root / package
    ]


def _origin(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _owners(package: str) -> Iterator[str]:
    for distribution in distributions():
        if distribution.name != _NAME and _has(distribution, package):
            yield distribution.name


def _has(distribution: Distribution, package: str) -> bool:
    return any(file.parts[0] == package and file.suffix == ".py" for file in distribution.files or () if file.parts)
