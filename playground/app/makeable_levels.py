"""Levels that are not on this disk but can be made here, as the picker offers them, and the making of a chosen one.

Joins the maker's sizes with the plan of the file they would be made from. Knows no component; where the settings forbid
making, nothing is offered.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Final

from playground.errors import PlaygroundError, RequestRefused
from playground.fit.plan import MemoryPlan
from playground.gguf.levels import find_level
from playground.limits.runs import Runs, Visitor
from playground.models.library import ModelFile
from playground.quantize.jobs import QuantizationJobs
from playground.quantize.quantize import QuantizationProgress, QuantizedFile, QuantizedSize
from playground.web.html.picker import LevelRow

NO_WORDS: Final = "A level this page has no words for."


class MakeableLevels:
    """What can be made of the models here. Safe to share between visitors; `maker` None offers nothing."""

    def __init__(self, quantization_jobs: QuantizationJobs | None, runs: Runs | None = None) -> None:
        self._quantization_jobs = quantization_jobs
        self._runs = runs or Runs()
        self._asked: set[str] = set()

    def known(self, base_name: str) -> dict[str, QuantizedSize]:
        """What is offered of a model about which `of` has been asked before: an answer without a wait."""
        return self.of(base_name) if base_name in self._asked else {}

    def of(self, base_name: str) -> dict[str, QuantizedSize]:
        """The levels that can be made of a model, by the value of their rows, from large to small."""
        if self._quantization_jobs is None:
            return {}
        offered = self._quantization_jobs.can_make(base_name)
        self._asked.add(base_name)
        return offered

    def source(self, base_name: str) -> ModelFile | None:
        """The file they would be made from."""
        try:
            return self._quantization_jobs.source(base_name) if self._quantization_jobs else None
        except PlaygroundError:
            return None

    def make(
        self, base_name: str, level: str, stopped: Callable[[], bool], visitor: Visitor | None = None
    ) -> Generator[QuantizationProgress, None, QuantizedFile | None]:
        """Make a level: yields progress, returns the file, or None if `stopped` says so. Raises PlaygroundError.

        visitor: whose share of lab runs it takes; one page makes one level at a time.
        """
        if visitor is None:
            return (yield from self._made(base_name, level, stopped))
        with self._runs.running(visitor, "making", "making", f"{base_name}:{level}") as run:
            making = self._made(base_name, level, lambda: stopped() or run.is_stopped())
            run.owns_generator(making)
            made = yield from making
            if made is None and run.overdue:
                raise run.overdue
        return made

    def _made(
        self, base_name: str, level: str, stopped: Callable[[], bool]
    ) -> Generator[QuantizationProgress, None, QuantizedFile | None]:
        if self._quantization_jobs is None:
            raise RequestRefused(
                "Levels are not made here.", "Choose one that is on the list.", setting="allow_quantize"
            )
        with closing(self._quantization_jobs.make(base_name, level)) as making:
            for event in making:
                if isinstance(event, QuantizedFile):
                    return event
                if stopped():
                    return None
                yield event
        raise AssertionError("a making ends with its file or with an error")


def offer_row(size: QuantizedSize) -> LevelRow:
    """A level that could be made, as a row of the picker."""
    level = find_level(size.level)
    notes = (size.note,) if size.note else ()
    summary = level.summary if level else NO_WORDS
    return LevelRow(size.level, size.level, size.size, size.bits_per_weight, summary, None, notes=notes)


def plan_if_made(source_plan: MemoryPlan, source: ModelFile, size: QuantizedSize) -> MemoryPlan:
    """What the level would need, from the plan of the file it would be made from: only the weights differ."""
    beside_weights = source.size - source_plan.weights  # the header, which is the same in both files
    return source_plan.with_weights(size.size - beside_weights)
