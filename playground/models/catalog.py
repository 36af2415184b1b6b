"""Well-known models by their hyperparameters, so that a plan can be made of one that is not on this disk.

Reads assets/catalog.toml; knows nothing of files, levels or memory.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from playground.assets import asset
from playground.errors import PlaygroundError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

Hyperparameter = bool | int | float | str | tuple[bool, ...] | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True)
class Blueprint:
    """The metadata that decide a model's memory; the keys are GGUF's without the architecture's prefix."""

    architecture: str
    metadata: Mapping[str, Hyperparameter]
    vocabulary_size: int
