"""Two measurements of a comparison: how much one model differs from itself, and how far B agrees with A's answer.

Both count as lab work in the limits, and both are refused if the settings forbid it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Final

from playground import events
from playground.app.compare.comparison import POSITIONS, CompareRequest, Comparison
from playground.app.compare.updates import (
    PLACE,
    AgreementResult,
    CompareUpdate,
    NoiseResult,
    compare_answers,
    refused_update,
)
from playground.app.loaded_models import LoadedModels
from playground.app.messages import CLEAR, Notice, StatusMessage, WorkProgress, log_refusal
from playground.app.services import Services
from playground.chat.compare import compare
from playground.chat.comparison import Pane, PaneResult, comparison_table, noise_of
from playground.errors import PlaygroundError, RequestRefused
from playground.limits.runs import Run, Runs, Visitor
from playground.measure.fidelity import Fidelity, FidelityPhase, FidelityProgress, score_answer

_STAGES: Final[dict[FidelityPhase, str]] = {
    "loading the reference": "Loading A",
    "reading the reference": "A reads its own answer",
    "loading the candidate": "Loading B",
    "reading the candidate": "B reads A’s answer",
}


class ComparisonScoring:
    """Serves the measurements of all visitors."""

    def __init__(self, services: Services, runs: Runs, loaded_models: LoadedModels) -> None:
        self._services, self._runs, self._loaded_models = services, runs, loaded_models
        self._interval_seconds = 1 / services.settings.updates_per_second

    def measure_noise(self, visitor: Visitor, comparison: Comparison) -> Iterator[CompareUpdate]:
        """Ask A's model the last question twice: what differs between the two runs is measurement noise."""
        begun = False
        try:
            self._check_allowed()
            session, request = comparison.pane_at(0), comparison.request
            if not (session.pane and request and session.result) or comparison.is_hidden:
                raise RequestRefused("There is nothing to repeat yet.", "Ask both models something first.")
            pane = replace(session.pane, conversation=session.conversation.without_last_reply())
            with self._runs.start_run(visitor, "control", PLACE) as run:
                begun = True
                yield CompareUpdate(phase="busy", problem=CLEAR, noise=_twice_progress(pane, 0))
                results = yield from self._run_twice(pane, request, run)
            if len(results) < 2:
                stopped = _why_stopped(run, "Stopped. The noise was not measured.")
                yield CompareUpdate(phase="rest", noise=stopped)
                return
            comparison = replace(comparison, noise=noise_of(results))
            noise = NoiseResult(
                name=comparison.names[0],
                is_identical=[token.id for token in results[0].tokens] == [token.id for token in results[1].tokens],
                table=comparison_table(results, comparison.noise),
                noise=comparison.noise,
            )
            yield CompareUpdate(comparison, phase="rest", noise=noise, answers=compare_answers(comparison))
        except PlaygroundError as error:
            refused = refused_update(error, visitor)
            yield replace(refused, phase="rest", noise=CLEAR) if begun else refused

    def measure_agreement(self, visitor: Visitor, comparison: Comparison) -> Iterator[CompareUpdate]:
        """Let both models read A's answer token by token; one model in memory at a time is enough."""
        begun = False
        try:
            self._check_allowed()
            first, second = (comparison.pane_at(position) for position in POSITIONS)
            if not (first.pane and second.pane and first.result) or comparison.is_hidden:
                raise RequestRefused("There is no answer to read yet.", "Ask both models something first.")
            with self._runs.start_run(visitor, "scoring", PLACE) as run:
                begun = True
                reading = WorkProgress("Reading A’s answer")
                yield CompareUpdate(comparison, phase="busy", problem=CLEAR, agreement=reading)
                scoring: Generator[FidelityProgress | Fidelity, None, None] = score_answer(  # type: ignore[assignment]
                    self._services.pool,
                    first.pane,
                    second.pane,
                    first.conversation.without_last_reply(),
                    [token.id for token in first.result.tokens],
                )
                fidelity = yield from self._stream_scoring(scoring, run)
            _log_scoring(comparison, visitor, "done" if fidelity else "stopped")
            agreement: AgreementResult | StatusMessage
            if fidelity:
                is_same_model = first.contestant.model == second.contestant.model
                agreement = AgreementResult(comparison.names, fidelity, is_same_model)
            else:
                agreement = _why_stopped(run, "Stopped. The agreement was not measured.")
            yield CompareUpdate(comparison, phase="rest", agreement=agreement)
        except PlaygroundError as error:
            refused = refused_update(error, visitor)
            if begun:
                _log_scoring(comparison, visitor, "failed", type(error).__name__)
                refused = replace(refused, comparison=comparison, phase="rest", agreement=CLEAR)
            yield refused

    def _check_allowed(self) -> None:
        if not self._services.settings.allow_lab:
            raise RequestRefused(
                "Nothing is measured here.", "The settings of this playground forbid it.", setting="allow_lab"
            )

    def _run_twice(
        self, pane: Pane, request: CompareRequest, run: Run
    ) -> Generator[CompareUpdate, None, list[PaneResult]]:
        """The results of both runs; fewer if it was stopped. Raises the error with which a run failed."""
        results: list[PaneResult] = []
        updates = compare(
            self._services.pool,
            self._services.planner,
            [pane, pane],
            request.sampling,
            request.max_tokens,
            mode="in turn",
            interval_seconds=self._interval_seconds,
            remotes=self._services.remotes,
            visitor=run.visitor,
        )
        run.close_if_abandoned(updates)
        with closing(updates):
            for update in updates:
                if run.is_stopped():
                    break
                if update.failed:
                    raise update.failed
                if update.result:
                    results.append(update.result)
                    yield CompareUpdate(noise=_twice_progress(pane, len(results)))
        return results

    def _stream_scoring(
        self, scoring: Generator[FidelityProgress | Fidelity, None, None], run: Run
    ) -> Generator[CompareUpdate, None, Fidelity | None]:
        """The figures at the end; None if it was stopped."""
        run.close_if_abandoned(scoring)
        with closing(scoring):
            for event in scoring:
                if isinstance(event, Fidelity):
                    return event
                if run.is_stopped():
                    break
                waiting = self._loaded_models.waiting_sentence(event.waiting)
                progress = WorkProgress(waiting) if waiting else WorkProgress(_STAGES[event.phase], event.fraction)
                yield CompareUpdate(agreement=progress)
        return None


def _twice_progress(pane: Pane, done: int) -> WorkProgress:
    return WorkProgress(f"Running {pane.file.level} twice", done / 2)


def _why_stopped(run: Run, sentence: str) -> StatusMessage:
    """The time limit that ended the run, else the sentence."""
    interruption = run.interruption
    if interruption is None:
        return Notice(sentence)
    log_refusal(interruption, run.visitor)
    return interruption


def _log_scoring(comparison: Comparison, visitor: Visitor, outcome: str, error: str = "") -> None:
    writer, reader = (
        f"{file.display_name} {file.level}" if (file := comparison.pane_at(position).file) else ""
        for position in POSITIONS
    )
    events.scoring_ended(writer, reader, visitor.short_id, outcome, error)
