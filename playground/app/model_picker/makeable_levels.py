"""Levels that are not on this disk but can be quantized here: what the picker offers, and the making of one.

Where the settings forbid quantization, nothing is offered.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from playground.app.messages import CLEAR, Notice, StatusMessage, WorkProgress, log_refusal
from playground.app.model_picker.choice import LevelRow
from playground.errors import PlaygroundError, RequestRefused
from playground.fit.plan import MemoryPlan
from playground.gguf.levels import find_level
from playground.limits.runs import Runs
from playground.limits.visitor import Visitor
from playground.llama.cpu_kernels import speed_note
from playground.models.model_file import ModelFile
from playground.quantize.jobs import QuantizationJobs
from playground.quantize.quantize import QuantizationProgress, QuantizedFile, QuantizedSize
from playground.steps import Steps

NO_SUMMARY: Final = "There is no description of this level."


@dataclass(frozen=True)
class QuantizationUpdate:
    """What is new while a level is made. is_made: its file is now on the disk."""

    message: StatusMessage
    is_busy: bool = False
    is_made: bool = False


class MakeableLevels:
    """The levels that can be made of the models here. Thread-safe; without `quantization_jobs` there are none."""

    def __init__(self, quantization_jobs: QuantizationJobs | None, runs: Runs | None = None) -> None:
        self._quantization_jobs = quantization_jobs
        self._runs = runs or Runs()
        self._asked: set[str] = set()

    def known_levels(self, base_name: str) -> dict[str, QuantizedSize]:
        """The same as `levels_of` for a model that was asked about before, else empty: an answer without a wait."""
        return self.levels_of(base_name) if base_name in self._asked else {}

    def levels_of(self, base_name: str) -> dict[str, QuantizedSize]:
        """The levels that can be made of a model, by the value of their rows, from large to small."""
        if self._quantization_jobs is None:
            return {}
        levels = self._quantization_jobs.makeable_levels(base_name)
        self._asked.add(base_name)
        return levels

    def source_file(self, base_name: str) -> ModelFile | None:
        """The file that they would be made from."""
        try:
            return self._quantization_jobs.source_file(base_name) if self._quantization_jobs else None
        except PlaygroundError:
            return None

    def make_level(
        self, base_name: str, level: str, stopped: Callable[[], bool], visitor: Visitor | None = None
    ) -> Generator[QuantizationProgress, None, QuantizedFile | None]:
        """Make a level: yields progress, returns the file, or None once `stopped` is true. Raises PlaygroundError.

        visitor: whose share of runs it takes; one page makes one level at a time.
        """
        if visitor is None:
            return (yield from self._made(base_name, level, stopped))
        with self._runs.start_run(visitor, "making", "making", f"{base_name}:{level}") as run:
            making = self._made(base_name, level, lambda: stopped() or run.is_stopped())
            run.close_if_abandoned(making)
            made = yield from making
            if made is None and run.interruption:
                raise run.interruption
        return made

    def _made(
        self, base_name: str, level: str, stopped: Callable[[], bool]
    ) -> Generator[QuantizationProgress, None, QuantizedFile | None]:
        if self._quantization_jobs is None:
            raise RequestRefused(
                "Quantization is switched off here.", "Choose another level from the list.", setting="allow_quantize"
            )
        with closing(self._quantization_jobs.make_level(base_name, level)) as making:
            for event in making:
                if isinstance(event, QuantizedFile):
                    return event
                if stopped():
                    return None
                yield event
        raise AssertionError("quantization ends with its file or with an error")


def quantization_updates(
    level: str | None, work: Generator[QuantizationProgress, None, object], visitor: Visitor | None = None
) -> Iterator[QuantizationUpdate]:
    """Updates for a page from the making of a level, whose generator returns None when it was stopped."""
    yield QuantizationUpdate(quantization_progress(level, None), is_busy=True)
    try:
        with Steps(work) as making:
            for progress in making:
                yield QuantizationUpdate(quantization_progress(level, progress), is_busy=True)
            made = making.result
        if made is None:
            yield QuantizationUpdate(Notice("Stopped. Nothing was kept."))
        else:
            yield QuantizationUpdate(CLEAR, is_made=True)
    except PlaygroundError as error:
        log_refusal(error, visitor)
        yield QuantizationUpdate(error)


def quantization_progress(level: str | None, progress: QuantizationProgress | None) -> WorkProgress:
    """`Making Q2_0`, 43 %; before it begins the share is unknown."""
    is_weighing = progress is not None and progress.measures_imatrix
    stage = f"Measuring which weights matter for {level}" if is_weighing else f"Making {level}"
    return WorkProgress(stage, progress.fraction if progress else None)


def makeable_level_row(size: QuantizedSize) -> LevelRow:
    """A level that could be made, as a row of the picker."""
    level = find_level(size.level)
    notes = tuple(filter(None, (size.note, speed_note(size.main_type))))
    summary = level.summary if level else NO_SUMMARY
    return LevelRow(size.level, size.level, size.size, size.bits_per_weight, summary, None, notes=notes)


def plan_if_made(source_plan: MemoryPlan, size: QuantizedSize) -> MemoryPlan:
    """What the level would need, from the plan of the file it would be made from: only the weights differ."""
    return source_plan.with_weights(size.weight_bytes)
