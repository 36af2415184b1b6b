"""Finds the files that come with the playground: styles, texts, the catalogue."""

from __future__ import annotations

from pathlib import Path

import playground


def asset(name: str) -> Path:
    """The path of a file in assets/, such as "catalog.toml"."""
    return Path(playground.__file__).parent.parent / "assets" / name
