"""A level that is chosen but not there: its making, as a stream of frames that a picker draws.

Knows no component. A stop is a flag that the running generator looks at several times a second, because a generator
that is thrown away cannot say how far it came.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

from playground.app.model_choice import ModelChoice
from playground.app.model_picker import PickerSource
from playground.app.refusals import error_message
from playground.errors import PlaygroundError
from playground.limits.runs import Visitor
from playground.quantize.quantize import QuantizationProgress
from playground.web.html.page import notice
from playground.web.html.reply import load_progress


def _never() -> bool:
    return False


@dataclass(frozen=True)
class QuantizationUpdate:
    """What is new: `said` as markup, whether it still works, and whether a level is on the disk that was not before."""

    said: str
    is_busy: bool = False
    is_made: bool = False


def make_chosen(
    service: PickerSource, choice: ModelChoice, stopped: Callable[[], bool] = _never, visitor: Visitor | None = None
) -> Iterator[QuantizationUpdate]:
    """The chosen level made, with progress; a sentence where it was stopped or cannot be made."""
    yield from frames_of(choice.level, service.ready(choice, stopped, visitor), visitor)


def frames_of(
    level: str | None, work: Generator[QuantizationProgress, None, object], visitor: Visitor | None = None
) -> Iterator[QuantizationUpdate]:
    """The frames of a making that ends with something, or with None where it was stopped."""
    yield QuantizationUpdate(making_progress(level, None), is_busy=True)
    try:
        with closing(work) as making:
            while True:
                yield QuantizationUpdate(making_progress(level, next(making)), is_busy=True)
    except StopIteration as end:
        stopped_early = end.value is None
        yield QuantizationUpdate(
            notice("Stopped; nothing of it is kept.") if stopped_early else "", is_made=not stopped_early
        )
    except PlaygroundError as error:
        yield QuantizationUpdate(error_message(error, visitor))


def making_progress(level: str | None, progress: QuantizationProgress | None) -> str:
    """`Making Q2_0 — 43%`, and before it begins without a share."""
    weighing = progress is not None and progress.is_weighing
    stage = f"Reading a text to see which weights matter for {level}" if weighing else f"Making {level}"
    return load_progress(progress.fraction if progress else None, stage)
