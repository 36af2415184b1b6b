"""What is measured of a comparison: a model beside itself, and one side's answer read by the other; as frames.

Each takes a share of the lab, and is off where the settings say so, whatever a browser sends. Knows no component.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace

from playground import events
from playground.app.compare.comparison import CompareRequest, Comparison, names
from playground.app.compare.updates import PLACE, PLACES, CompareUpdate, differences_of, refusal
from playground.app.loaded_models import LoadedModels
from playground.app.refusals import error_message
from playground.app.services import Services
from playground.chat.compare import compare
from playground.chat.comparison import Pane, PaneResult, spread_of
from playground.errors import PlaygroundError, RequestRefused
from playground.limits.runs import Run, Runs, Visitor
from playground.measure.fidelity import Fidelity, FidelityProgress, score_answer
from playground.web.html.agreement import PHASES, agreement_card
from playground.web.html.compare import control_card
from playground.web.html.page import notice
from playground.web.html.reply import load_progress


class ComparisonScoring:
    """Serves every visitor's comparison; `visits` keeps them apart and sees to their shares."""

    def __init__(self, services: Services, runs: Runs, loaded_models: LoadedModels) -> None:
        self._services, self._runs, self._loaded_models = services, runs, loaded_models
        self._interval_seconds = 1 / services.settings.updates_per_second

    def control(self, visitor: Visitor, duel: Comparison) -> Iterator[CompareUpdate]:
        """The left side's model asked twice, so that its difference from itself can be told."""
        begun = False
        try:
            self._refuse_lab()
            side, wish = duel.at(0), duel.wish
            if not (side.pane and wish and side.result) or duel.is_hidden:
                raise RequestRefused("There is nothing to repeat yet.", "Ask both models something first.")
            pane = replace(side.pane, conversation=side.conversation.without_last_reply())
            with self._runs.start_run(visitor, "control", PLACE) as run:
                begun = True
                yield CompareUpdate(phase="busy", problem="", control=notice(f"Asking {pane.file.level} twice …"))
                results = yield from self._repeated(pane, wish, run)
            if len(results) < 2:
                said = (
                    error_message(run.interruption, visitor)
                    if run.interruption
                    else notice("Stopped; the control says nothing.")
                )
                yield CompareUpdate(phase="rest", control=said)
                return
            duel = replace(duel, spread=spread_of(results))
            text = control_card(names(duel)[0], results[0], results[1], duel.spread)
            yield CompareUpdate(duel, phase="rest", control=text, differences=differences_of(duel))
        except PlaygroundError as error:
            refused = refusal(error, visitor)
            yield replace(refused, phase="rest", control="") if begun else refused

    def score(self, visitor: Visitor, duel: Comparison) -> Iterator[CompareUpdate]:
        """A's answer read by both, token by token; one model in memory at a time is enough."""
        begun = False
        try:
            self._refuse_lab()
            first, second = (duel.at(place) for place in PLACES)
            if not (first.pane and second.pane and first.result) or duel.is_hidden:
                raise RequestRefused("There is no answer to read yet.", "Ask both models something first.")
            with self._runs.start_run(visitor, "scoring", PLACE) as run:
                begun = True
                yield CompareUpdate(duel, phase="busy", problem="", agreement=load_progress(None, "Reading A’s answer"))
                scoring: Generator[FidelityProgress | Fidelity, None, None] = score_answer(  # type: ignore[assignment]
                    self._services.pool,
                    first.pane,
                    second.pane,
                    first.conversation.without_last_reply(),
                    [token.id for token in first.result.tokens],
                )
                said, outcome = yield from self._scored(duel, scoring, run)
            _note_scoring(duel, visitor, outcome)
            yield CompareUpdate(duel, phase="rest", agreement=said)
        except PlaygroundError as error:
            if begun:
                _note_scoring(duel, visitor, "failed", type(error).__name__)
            refused = refusal(error, visitor)
            yield replace(refused, duel=duel, phase="rest", agreement="") if begun else refused

    def _refuse_lab(self) -> None:
        if not self._services.settings.allow_lab:
            raise RequestRefused(
                "Nothing is measured here.", "Whoever runs this playground decided so.", setting="allow_lab"
            )

    def _scored(
        self, duel: Comparison, scoring: Generator[FidelityProgress | Fidelity, None, None], run: Run
    ) -> Generator[CompareUpdate, None, tuple[str, str]]:
        """What is said at the end, and how it ended as the journal calls it."""
        run.close_if_abandoned(scoring)
        with closing(scoring):
            for event in scoring:
                if isinstance(event, Fidelity):
                    return agreement_card(names(duel), event), "done"
                if run.is_stopped():
                    break
                waits = self._loaded_models.waiting_sentence(event.waiting)
                yield CompareUpdate(
                    agreement=load_progress(None if waits else event.fraction, waits or PHASES[event.phase])
                )
        stopped = notice("Stopped; nothing is said about the agreement.")
        return error_message(run.interruption, run.visitor) if run.interruption else stopped, "stopped"

    def _repeated(self, pane: Pane, wish: CompareRequest, run: Run) -> Generator[CompareUpdate, None, list[PaneResult]]:
        """Both results of one model asked twice; fewer when it was stopped. Raises what a pane failed with."""
        results: list[PaneResult] = []
        updates = compare(
            self._services.pool, self._services.planner, [pane, pane], wish.sampling,
            wish.max_tokens,
            mode="in turn", interval_seconds=self._interval_seconds, remotes=self._services.remotes,
            visitor=run.visitor,
        )  # fmt: skip
        run.close_if_abandoned(updates)
        with closing(updates):
            for update in updates:
                if run.is_stopped():
                    break
                if update.failed:
                    raise update.failed
                if update.result:
                    results.append(update.result)
                    yield CompareUpdate(control=notice(f"Asking {pane.file.level} twice … {len(results)} of 2 done"))
        return results


def _note_scoring(duel: Comparison, visitor: Visitor, outcome: str, error: str = "") -> None:
    writer, reader = (f"{file.display_name} {file.level}" if (file := duel.at(place).file) else "" for place in PLACES)
    events.scoring_ended(writer, reader, visitor.short_id, outcome, error)
