"""Finds the files that come with the package: styles, texts, pictures, the catalogue."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def asset(name: str) -> Path:
    """The path of a file in playground/assets/, such as "catalog.toml"; the package is never imported from a zip."""
    return Path(str(files("playground") / "assets" / name))
