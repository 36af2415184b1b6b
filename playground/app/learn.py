"""What the Learn tab shows of the model at hand: a block of its weights, its bytes by type, the growth of its KV cache.

Everything is read from the file or planned by llama.cpp; nothing is loaded.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from playground.app.services import Services
from playground.errors import PlaygroundError
from playground.fit.verdict import context_steps
from playground.gguf.header import FileSource, GgufHeader, read_header
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
from playground.llama.params import ContextParameters
from playground.models.model_file import ModelFile

BINS: Final = 60  # of a histogram
SIGMAS: Final = 3.5  # standard deviations to each side that a histogram shows
_MOST_STEPS: Final = 7  # context sizes of the KV cache's growth


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


@dataclass(frozen=True)
class TypeShare:
    """The tensors of one type. bytes, weights: of all of them."""

    name: str
    tensor_count: int
    weights: int
    bytes: int


@dataclass(frozen=True)
class CacheStep:
    """The KV cache, and all that answers need, in bytes at a context of so many tokens."""

    tokens: int
    kv_cache: int
    needed: int


@dataclass(frozen=True)
class Lesson:
    """What can be shown of a model.

    block: None where no tensor can be read as numbers. cache: empty where llama.cpp cannot plan the model.
    """

    model: str
    level: str
    bits_per_weight: float
    block: BlockLesson | None
    types: tuple[TypeShare, ...]
    cache: tuple[CacheStep, ...]


class LearnService:
    """Answers for all visitors. Thread-safe."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def lesson(self) -> Lesson | None:
        """Of the model that is loaded, else of the first one on this computer; None where there is none."""
        file = self._file_at_hand()
        if file is None:
            return None
        try:
            header = self._services.library.whole_header(file)
            status = file.path.stat()
        except (PlaygroundError, OSError):  # it changed since it was listed
            return None
        return Lesson(
            file.display_name,
            file.level,
            header.bits_per_weight,
            _block_lesson(file.path, status.st_mtime_ns),
            type_shares(header),
            self._cache_steps(file.path),
        )

    def _file_at_hand(self) -> ModelFile | None:
        files = self._services.library.files()
        loaded = [model.key.path for model in self._services.pool.loaded_models() if model.state == "ready"]
        found = [file for path in reversed(loaded) for file in files if file.path.absolute() == path]
        return next(iter([*found, *files]), None)

    def _cache_steps(self, path: Path) -> tuple[CacheStep, ...]:
        planner, slots = self._services.planner, self._services.settings.slots
        try:
            steps = context_steps(planner.trained_context(path))[-_MOST_STEPS:]
            plans = [planner.plan(path, ContextParameters(tokens, slots=slots)) for tokens in steps]
        except PlaygroundError:
            return ()
        return tuple(
            CacheStep(tokens, plan.kv_cache + plan.recurrent, plan.needed)
            for tokens, plan in zip(steps, plans, strict=True)
        )


def type_shares(header: GgufHeader) -> tuple[TypeShare, ...]:
    """The file's tensors by type, most bytes first."""
    tensors: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for tensor in header.tensors:
        tensors[tensor.type.name] += 1
        weights[tensor.type.name] += tensor.weight_count
        sizes[tensor.type.name] += tensor.byte_count
    return tuple(TypeShare(name, tensors[name], weights[name], size) for name, size in sizes.most_common())


@lru_cache(maxsize=8)
def _block_lesson(path: Path, changed: int) -> BlockLesson | None:
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
