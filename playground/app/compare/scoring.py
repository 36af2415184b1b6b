"""Two measurements that a comparison makes by itself: how far B agrees with A's answer, and the noise of the speeds.

Both count as lab work in the limits, and neither is made if the settings forbid it. They end without a word when the
visitor does something else, or when the limits leave no room for them.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from typing import Final

from playground import events
from playground.app.compare.comparison import POSITIONS, CompareRequest, Comparison
from playground.app.compare.running_panes import run_panes
from playground.app.compare.updates import (
    PLACE,
    CompareUpdate,
)
from playground.app.messages import log_refusal
from playground.app.services import Services
from playground.chat.comparison import (
    LEAST_TOKENS,
    MeasurementNoise,
    Pane,
    PaneResult,
    comparison_table,
    noise_of,
)
from playground.errors import PlaygroundError
from playground.limits.run import Run
from playground.limits.runs import Runs
from playground.limits.visitor import Visitor
from playground.measure.fidelity import Fidelity, FidelityProgress, score_answer

MEASURING: Final = f"{PLACE} measuring"  # what goes on by itself, and ends when the visitor does something
STOP_SECONDS: Final = 5.0  # for what a page had under way to end, before its next work begins
LONGEST_REPEAT_SECONDS: Final = 30.0  # an answer that took longer is not written again by itself


class ComparisonScoring:
    """Serves the measurements of all visitors."""

    def __init__(self, services: Services, runs: Runs) -> None:
        self._services, self._runs = services, runs

    def why_no_agreement(self, comparison: Comparison) -> str:
        """Why B cannot read A's answer, in a few words; "" if it can."""
        first, second = (comparison.pane_at(position) for position in POSITIONS)
        results = comparison.results
        if results is None or not (first.pane and second.pane):
            return "shows after both have answered"
        if any(result.is_remote for result in results):
            return "a server cannot be asked"
        if results[0].vocabulary_size != results[1].vocabulary_size:
            return "the vocabularies differ"
        if not results[0].tokens:
            return "A’s answer is empty"
        return "" if self._services.settings.allow_lab else "not measured here"

    def score_by_itself(
        self, visitor: Visitor, comparison: Comparison
    ) -> Generator[CompareUpdate, None, Fidelity | None]:
        """How far B agrees with A's answer; None if it was stopped or is not possible now. Raises nothing."""
        first, second = (comparison.pane_at(position) for position in POSITIONS)
        if not (first.pane and second.pane and first.result):
            return None
        fidelity: Fidelity | None = None
        self._runs.wait_until_free(visitor, MEASURING, STOP_SECONDS)  # the one before it was stopped, and is ending
        try:
            with self._runs.start_run(visitor, "scoring", MEASURING) as run:
                scoring: Generator[FidelityProgress | Fidelity, None, None] = score_answer(  # type: ignore[assignment]
                    self._services.pool,
                    first.pane,
                    second.pane,
                    first.question,
                    [token.id for token in first.result.tokens],
                )
                fidelity = yield from self._stream_scoring(scoring, run)
        except PlaygroundError as error:
            log_refusal(error, visitor)
        _log_scoring(comparison, visitor, "done" if fidelity else "stopped")
        return fidelity

    def is_worth_repeating(self, comparison: Comparison) -> bool:
        """Whether a second run of A would tell how far the speeds can be trusted: long answers, a quiet computer."""
        results = comparison.results
        if results is None or not self._services.settings.allow_lab:
            return False
        speed = next(row for row in comparison_table(results) if row.figure == "generation_speed")
        is_quiet = not any(speed.disturbed) and not any(result.mode == "at once" for result in results)
        is_here = not any(result.is_remote for result in results)
        timings = [result.finished.timings for result in results]
        is_long = all((one.generated_tokens or 0) >= LEAST_TOKENS for one in timings)
        is_alone = sum(self._runs.count_runs().values()) == 0
        return is_quiet and is_here and is_long and is_alone and timings[0].total_seconds < LONGEST_REPEAT_SECONDS

    def repeat_by_itself(
        self, visitor: Visitor, comparison: Comparison
    ) -> Generator[CompareUpdate, None, MeasurementNoise | None]:
        """The noise that a second run of A's answer shows beside the first; None if it was stopped or failed."""
        first, request = comparison.pane_at(0), comparison.request
        if not (first.pane and first.result and request):
            return None
        pane = replace(first.pane, conversation=first.question)
        again: list[PaneResult] = []
        try:
            with self._runs.start_run(visitor, "control", MEASURING) as run:
                again = yield from self._run_again(pane, request, run)
        except PlaygroundError as error:
            log_refusal(error, visitor)
        return noise_of([first.result, *again]) if again else None

    # --- inside ---

    def _run_again(
        self, pane: Pane, request: CompareRequest, run: Run
    ) -> Generator[CompareUpdate, None, list[PaneResult]]:
        """The result of another run; none if it was stopped. Raises the error with which it failed.

        Yields updates that change nothing, so that it can be stopped between them.
        """
        results: list[PaneResult] = []
        updates = run_panes(self._services, [pane], request, run, "in turn")
        with closing(updates):
            for update in updates:
                if run.is_stopped():
                    break
                if update.failed:
                    raise update.failed
                if update.result:
                    results.append(update.result)
                yield CompareUpdate()
        return results

    def _stream_scoring(
        self, scoring: Generator[FidelityProgress | Fidelity, None, None], run: Run
    ) -> Generator[CompareUpdate, None, Fidelity | None]:
        """The figures at the end; None if it was stopped. Yields updates that change nothing."""
        run.close_if_abandoned(scoring)
        with closing(scoring):
            for event in scoring:
                if isinstance(event, Fidelity):
                    return event
                if run.is_stopped():
                    break
                yield CompareUpdate()
        return None


def _log_scoring(comparison: Comparison, visitor: Visitor, outcome: str, error: str = "") -> None:
    writer, reader = (
        f"{file.display_name} {file.level}" if (file := comparison.pane_at(position).file) else ""
        for position in POSITIONS
    )
    events.scoring_ended(writer, reader, visitor.short_id, outcome, error)
