"""The tensors of the catalogue's models, and what their weights take at every level.

Reads assets/tensor_tables.toml, which scripts/tensor_tables.py writes. The tensors are those of the published files;
the sizes are what llama.cpp's quantizer answers for them. A row of the table names the tensors of many layers at once:

    blk.{0-4,6-25}.attn_q.weight BF16 1152 1024
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import groupby
from typing import Final

from gguf.constants import GGUF_DEFAULT_ALIGNMENT

from playground.gguf.tensors import TensorInfo, TensorType, aligned
from playground.resources import read_toml

Tensor = tuple[str, TensorType, tuple[int, ...]]  # name, type, shape

_LAYERS: Final = re.compile(r"\{([\d,-]+)\}")
_LAYER: Final = re.compile(r"(?<=^blk\.)\d+(?=\.)")


@dataclass(frozen=True)
class TensorTable:
    """rows: of a file as it was converted, before it was quantized. weight_bytes: by level, of all its tensors."""

    rows: tuple[str, ...] = ()
    weight_bytes: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def tensors(self) -> tuple[TensorInfo, ...]:
        return tuple(placed_tensors(read_rows(self.rows)))

    @property
    def keeps_mxfp4(self) -> bool:
        """Whether its experts were trained in MXFP4. Publishers leave them so at every level."""
        return any(f" {TensorType.MXFP4.name} " in row for row in self.rows)


@cache
def load_tensor_tables() -> Mapping[str, TensorTable]:
    """The tables of assets/tensor_tables.toml, by the id of the model in the catalogue."""
    return {
        model: TensorTable(tuple(table["tensors"]), table["weight_bytes"])
        for model, table in read_toml("tensor_tables.toml").items()
    }


def read_rows(rows: Iterable[str]) -> Iterator[Tensor]:
    """Name, type and shape of each tensor in rows of a table; a row's length comes first in the shape."""
    for row in rows:
        names, kind, *shape = row.split()
        for name in _names(names):
            yield name, TensorType[kind], tuple(map(int, shape))


def write_rows(tensors: Iterable[Tensor]) -> list[str]:
    """The rows that `read_rows` reads, tensors of many layers in one row, in the order in which they first come."""
    layers: dict[Tensor, list[int]] = {}
    for name, kind, shape in tensors:
        found = _LAYER.search(name)
        layers.setdefault((_LAYER.sub("{}", name), kind, shape), []).extend([int(found[0])] if found else [])
    return [
        " ".join((name.replace("{}", f"{{{_ranges(numbers)}}}"), kind.name, *map(str, shape)))
        for (name, kind, shape), numbers in layers.items()
    ]


def _names(pattern: str) -> Iterator[str]:
    found = _LAYERS.search(pattern)
    if found is None:
        yield pattern
        return
    for part in found[1].split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            yield f"{pattern[: found.start()]}{number}{pattern[found.end() :]}"


def _ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 4] -> "0-2,4"."""
    runs = []
    for _, run in groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        runs.append(f"{members[0]}-{members[-1]}" if len(members) > 1 else str(members[0]))
    return ",".join(runs)


def placed_tensors(tensors: Iterable[Tensor]) -> Iterator[TensorInfo]:
    """The tensors one after the other, as in a file. Each row must be a multiple of its type's block."""
    offset = 0
    for name, kind, shape in tensors:
        tensor = TensorInfo(name, shape, kind, offset)
        assert shape[0] % kind.block_weights == 0
        offset = aligned(offset + tensor.byte_count, GGUF_DEFAULT_ALIGNMENT)
        yield tensor
