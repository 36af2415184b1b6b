"""Finds and reads the files that come with the package: styles, templates, texts, pictures, the catalogue."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]


def asset(name: str) -> Path:
    """The path of a file in playground/assets/, such as "catalog.toml"; the package is never imported from a zip."""
    return Path(str(files("playground") / "assets" / name))


def read_toml(name: str) -> dict[str, Any]:
    """The content of a TOML file in playground/assets/."""
    return dict(tomllib.loads(asset(name).read_text(encoding="utf-8")))
