"""Well-known models by their hyperparameters, so that they can be planned without a file.

Reads assets/catalog.toml; its first lines describe the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from playground.gguf.tensors import TensorInfo
from playground.models.tensor_tables import TensorTable, load_tensor_tables
from playground.resources import read_toml

Hyperparameter = bool | int | float | str | tuple[bool, ...] | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True)
class Blueprint:
    """The metadata that determine a model's memory. Keys: those of GGUF without the architecture's prefix.

    table: the tensors of its files; empty where they are not known.
    """

    architecture: str
    metadata: Mapping[str, Hyperparameter]
    vocabulary_size: int
    table: TensorTable = field(default_factory=TensorTable)

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """With the types that they have before quantization."""
        return self.table.tensors


@dataclass(frozen=True)
class CatalogModel:
    """A well-known model.

    parameter_count: weights of the text model.
    repo: a repository on the Hugging Face Hub with its GGUF files, or None.
    is_first_choice: whether it may be suggested to a newcomer: not where a newer model of its size is better.
    """

    id: str
    display_name: str
    parameter_count: int
    summary: str
    repo: str | None
    blueprint: Blueprint
    is_first_choice: bool = True

    @property
    def weight_bytes(self) -> Mapping[str, int]:
        """What the weights take at each level, as llama.cpp's quantizer makes it; by the level's name."""
        return self.blueprint.table.weight_bytes

    @property
    def keeps_mxfp4(self) -> bool:
        """Whether its experts are MXFP4 at every level, as they were trained."""
        return self.blueprint.table.keeps_mxfp4


@cache
def load_catalog() -> tuple[CatalogModel, ...]:
    """The models of assets/catalog.toml, from small to large."""
    return tuple(_model(entry) for entry in read_toml("catalog.toml")["model"])


def _model(entry: Mapping[str, Any]) -> CatalogModel:
    table = load_tensor_tables().get(entry["id"], TensorTable())
    metadata = {key: _expanded(value) for key, value in entry["metadata"].items()}
    return CatalogModel(
        id=entry["id"],
        display_name=entry["display_name"],
        parameter_count=entry["parameter_count"],
        summary=entry["summary"],
        repo=entry.get("repo"),
        blueprint=Blueprint(entry["architecture"], metadata, entry["vocabulary_size"], table),
        is_first_choice=entry.get("first_choice", True),
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
