"""A block of 32 weights of a model, and the tensor that it is from, before and after rounding to fewer bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from playground.errors import PlaygroundError
from playground.gguf.header import read_header
from playground.gguf.reader import FileSource
from playground.gguf.rounding import (
    ALL_BITS,
    BLOCK,
    Bits,
    RoundedBlock,
    Weights,
    round_block,
    round_weights,
    rounding_error,
)
from playground.gguf.weights import read_weights, shown_tensor

BINS: Final = 60  # of a histogram
SIGMAS: Final = 3.5  # standard deviations to each side that a histogram shows


@dataclass(frozen=True)
class RoundedTensor:
    """A whole tensor at so many bits. counts: weights in each bin of the histogram. error: as of a block."""

    bits: Bits
    counts: tuple[int, ...]
    error: float


@dataclass(frozen=True)
class BlockLesson:
    """A block of 32 weights, and the tensor it is from, before and after rounding.

    tensor, type_name: its name, and how the file stores it. reach: the histogram goes from -reach to reach.
    """

    tensor: str
    type_name: str
    weight_count: int
    weights: tuple[float, ...]
    rounded: tuple[RoundedBlock, ...]
    reach: float
    counts: tuple[int, ...]
    tensors: tuple[RoundedTensor, ...]


@lru_cache(maxsize=8)
def read_block_lesson(path: Path, changed: int) -> BlockLesson | None:
    """Of one file, the first of several. changed: its time, so that a new file is read."""
    try:
        header = read_header(FileSource(path))
        tensor = shown_tensor(header)
        weights = read_weights(path, header, tensor) if tensor else None
    except (PlaygroundError, OSError):
        return None
    if tensor is None or weights is None or not weights.any():
        return None
    return block_lesson(tensor.name, tensor.type.name, weights)


def block_lesson(name: str, type_name: str, weights: Weights) -> BlockLesson:
    """The lesson of a tensor, of shape (rows, row length): its most usual block, and histograms of all weights."""
    rounded = {bits: round_weights(weights, bits) for bits in ALL_BITS}
    block = usual_block(weights, rounded[4])
    reach = SIGMAS * float(weights.std()) or 1.0
    return BlockLesson(
        name,
        type_name,
        weights.size,
        tuple(map(float, block)),
        tuple(round_block(block, bits) for bits in ALL_BITS),
        reach,
        _histogram(weights, reach),
        tuple(
            RoundedTensor(bits, _histogram(rounded[bits], reach), rounding_error(weights, rounded[bits]))
            for bits in ALL_BITS
        ),
    )


def usual_block(weights: Weights, rounded: Weights) -> Weights:
    """The block whose error at 4 bits is the median of all: neither a lucky one nor an unlucky one."""
    errors = np.square(rounded - weights).reshape(-1, BLOCK).sum(axis=1)
    sizes = np.square(weights).reshape(-1, BLOCK).sum(axis=1)
    relative = np.where(sizes > 0, errors / np.maximum(sizes, np.finfo(np.float32).tiny), np.inf)
    middle = int(relative.argsort()[np.isfinite(relative).sum() // 2])
    return np.asarray(weights.reshape(-1, BLOCK)[middle], np.float32)


def _histogram(weights: Weights, reach: float) -> tuple[int, ...]:
    counts, _ = np.histogram(weights, bins=BINS, range=(-reach, reach))
    return tuple(map(int, counts))
