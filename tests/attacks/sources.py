"""What is checked as it is written: the hub's modules, the lock of what it depends on, and the files of its wheel."""

from __future__ import annotations

import ast
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
PACKAGES = ("hub", "agents", "llm", "mcp_bridge", "registry")


@cache
def modules() -> dict[str, ast.Module]:
    """All modules of the hub, by their paths."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}


def lock() -> str:
    """What is installed, and by which hashes."""
    return (ROOT / "requirements.lock").read_text()


def released() -> list[str]:
    """The names of the files of a wheel that is built now."""
    with tempfile.TemporaryDirectory() as directory:
        (built,) = WheelBuilder(str(ROOT)).build(directory=directory)
        with zipfile.ZipFile(built) as wheel:
            return wheel.namelist()
