"""Well-known models by their hyperparameters, so that they can be planned without a file.

Reads assets/catalog.toml; its first lines describe the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from playground.resources import read_toml

Hyperparameter = bool | int | float | str | tuple[bool, ...] | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True)
class Blueprint:
    """The metadata that determine a model's memory. Keys: those of GGUF without the architecture's prefix."""

    architecture: str
    metadata: Mapping[str, Hyperparameter]
    vocabulary_size: int


@dataclass(frozen=True)
class CatalogModel:
    """A well-known model.

    parameter_count: weights of the text model; times a level's bits per weight, an estimate of a file's size.
    repo: a repository on the Hugging Face Hub with its GGUF files, or None.
    """

    id: str
    display_name: str
    parameter_count: int
    summary: str
    repo: str | None
    blueprint: Blueprint


@cache
def load_catalog() -> tuple[CatalogModel, ...]:
    """The models of assets/catalog.toml, from small to large."""
    return tuple(_model(entry) for entry in read_toml("catalog.toml")["model"])


def _model(entry: Mapping[str, Any]) -> CatalogModel:
    metadata = {key: _expanded(value) for key, value in entry["metadata"].items()}
    return CatalogModel(
        id=entry["id"],
        display_name=entry["display_name"],
        parameter_count=entry["parameter_count"],
        summary=entry["summary"],
        repo=entry.get("repo"),
        blueprint=Blueprint(entry["architecture"], metadata, entry["vocabulary_size"]),
    )


def _expanded(value: Any) -> Any:
    """A value with its patterns written out.

    {"repeat": [8, 8, 1], "times": 2} gives (8, 8, 1, 8, 8, 1); a list of patterns gives one after the other.
    """
    if isinstance(value, Mapping):
        return tuple(value["repeat"]) * int(value["times"])
    if isinstance(value, list):
        parts = (_expanded(item) if isinstance(item, Mapping) else (item,) for item in value)
        return tuple(item for part in parts for item in part)
    return value
