"""What the Learn tab shows of the model at hand: a block of its weights, its bytes by type, the growth of its KV cache.

Everything is read from the file or planned by llama.cpp; nothing is loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from playground.app.learn.block import BlockLesson, read_block_lesson
from playground.app.services import Services
from playground.errors import PlaygroundError
from playground.fit.verdict import context_steps
from playground.gguf.header import GgufHeader
from playground.llama.params import ContextParameters
from playground.models.model_file import ModelFile

_MOST_STEPS: Final = 7  # context sizes of the KV cache's growth


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

    block: None where no tensor can be read as numbers. block_level: of the file that it is from, the model's largest
    one that can. cache: empty where llama.cpp cannot plan the model.
    """

    model: str
    level: str
    bits_per_weight: float
    block: BlockLesson | None
    block_level: str
    types: tuple[TypeShare, ...]
    cache: tuple[CacheStep, ...]


class LearnService:
    """Answers for all visitors. usual_model: chooses the one that a page opens with. Thread-safe."""

    def __init__(self, services: Services, usual_model: Callable[[Mapping[str, Sequence[ModelFile]]], str]) -> None:
        self._services = services
        self._usual_model = usual_model

    def lesson(self) -> Lesson | None:
        """Of the model that is loaded, else of the one that a page opens with; None where there is none."""
        file = self._file_at_hand()
        if file is None:
            return None
        try:
            header = self._services.library.whole_header(file)
        except (PlaygroundError, OSError):  # it changed since it was listed
            return None
        block, block_level = self._block(file)
        return Lesson(
            file.display_name,
            file.level,
            header.bits_per_weight,
            block,
            block_level,
            type_shares(header),
            self._cache_steps(file.path),
        )

    def _file_at_hand(self) -> ModelFile | None:
        files = self._services.library.files()
        loaded = [model.key.path for model in self._services.pool.loaded_models() if model.state == "ready"]
        found = [file for path in reversed(loaded) for file in files if file.path.absolute() == path]
        models = self._services.library.models()
        return found[0] if found else models[self._usual_model(models)][0] if models else None

    def _block(self, chosen: ModelFile) -> tuple[BlockLesson | None, str]:
        """Of the model's largest file whose tensors can be read as numbers, and its level."""
        files = [file for file in self._services.library.files() if file.base_name == chosen.base_name]
        for file in sorted(files, key=lambda file: -file.size):
            try:
                block = read_block_lesson(file.path, file.path.stat().st_mtime_ns)
            except OSError:
                continue
            if block:
                return block, file.level
        return None, chosen.level

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
