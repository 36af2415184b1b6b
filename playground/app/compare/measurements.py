"""What is known of a comparison beyond its two answers: measured by itself after them, or kept from before.

The words and tiles that the page shows of it are in result.py.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

from playground.app.compare.comparison import POSITIONS, Comparison
from playground.app.compare.dial import DialService
from playground.app.compare.further_answers import FurtherAnswers, further_answers
from playground.app.compare.kept_answers import KeptAnswers
from playground.app.compare.result import ResultFacts
from playground.app.compare.scoring import ComparisonScoring
from playground.app.compare.setup import CompareSetup
from playground.app.compare.updates import (
    CompareUpdate,
    compare_answers,
    marked_states,
    update_at_rest,
)
from playground.limits.visitor import Visitor


class ComparisonMeasurements:
    """Serves the measurements of all visitors. owner: under which the answers of a page are kept."""

    def __init__(self, scoring: ComparisonScoring, setup: CompareSetup, dials: DialService) -> None:
        self.kept = KeptAnswers()
        self._scoring, self._setup, self._dials = scoring, setup, dials

    def measure_by_itself(
        self, visitor: Visitor, comparison: Comparison, key: str = ""
    ) -> Generator[CompareUpdate, None, None]:
        """After both answers: how far B agrees with A's, then the noise of the speeds, each unless it is known.

        Ends when the visitor does something else.
        """
        if comparison.results is None:
            return  # also while the names are hidden
        owner = key or visitor.session
        first, second = (comparison.pane_at(position) for position in POSITIONS)
        fidelity = self.kept.find_agreement(owner, first, second)
        if fidelity is None and (why := self._scoring.why_no_agreement(comparison)):
            facts = replace(self.facts(comparison, owner), agreement_note=why)
            yield CompareUpdate(result=facts, answers=compare_answers(comparison))
        elif fidelity is None:
            note = "B reads A’s answer …"
            facts = replace(self.facts(comparison, owner), agreement_note=note)
            yield CompareUpdate(result=facts, answers=compare_answers(comparison))
            fidelity = yield from self._scoring.score_by_itself(visitor, comparison)
            if fidelity is None:
                facts = replace(self.facts(comparison, owner), agreement_note="not measured this time")
                yield CompareUpdate(result=facts, answers=compare_answers(comparison))
                return
            self.kept.add_agreement(owner, first, second, fidelity)
            panes = marked_states(comparison, fidelity)
            yield CompareUpdate(panes=panes, result=self.facts(comparison, owner), answers=compare_answers(comparison))
        if self.kept.find_noise(owner, first, second) or not self._scoring.is_worth_repeating(comparison):
            return
        noise = yield from self._scoring.repeat_by_itself(visitor, comparison)
        if noise is not None:
            self.kept.add_noise(owner, first, second, noise)
            measured = replace(comparison, noise=noise)
            yield CompareUpdate(result=self.facts(measured, owner), answers=compare_answers(measured))

    def facts(self, comparison: Comparison, owner: str) -> ResultFacts:
        """What the result says of a comparison. owner: of the measurements that were kept."""
        first, second = (comparison.pane_at(position) for position in POSITIONS)
        noise = self.kept.find_noise(owner, first, second) or comparison.noise
        fidelity = self.kept.find_agreement(owner, first, second)
        return self._setup.result_facts(replace(comparison, noise=noise), fidelity)

    def further(self, comparison: Comparison, owner: str, *, is_busy: bool = False) -> FurtherAnswers:
        """What other levels answered to the same question. is_busy: A or B is being asked."""
        return further_answers(comparison, self.kept, self._dials.dial_of, owner, is_busy=is_busy)

    def with_kept_answers(
        self, owner: str, before: Comparison, asked: Comparison, missing: Sequence[int]
    ) -> tuple[Comparison, tuple[int, ...]]:
        """With the answers that are kept, and the positions whose answer is still missing.

        before: whose answers leave these positions now; they are the newest of those kept.
        """
        request = asked.request
        assert request is not None
        for position in missing:
            left = before.pane_at(position)
            if left.choice:
                self.kept.find_answer(owner, before.request or request, left.choice, left)
        for position in missing:
            pane, choice = asked.pane_at(position), request.choices[position]
            if kept := self.kept.find_answer(owner, request, choice, pane):
                asked = asked.with_pane_at(position, kept)
        return asked, tuple(position for position in missing if asked.pane_at(position).result is None)

    def with_marks(self, update: CompareUpdate, owner: str) -> CompareUpdate:
        """With the tokens marked by how unlikely B finds them, if that was measured of these two answers before."""
        comparison = update.comparison
        if comparison is None or comparison.results is None:
            return update
        first, second = (comparison.pane_at(position) for position in POSITIONS)
        fidelity = self.kept.find_agreement(owner, first, second)
        return replace(update, panes=marked_states(comparison, fidelity)) if fidelity else update

    def at_rest(self, comparison: Comparison, owner: str) -> CompareUpdate:
        """Everything about a comparison in which nothing is under way, with what was measured of it."""
        first, second = (comparison.pane_at(position) for position in POSITIONS)
        noise = self.kept.find_noise(owner, first, second) or comparison.noise
        fidelity = self.kept.find_agreement(owner, first, second)
        update = update_at_rest(replace(comparison, noise=noise), fidelity)
        has_answers = comparison.results is not None
        facts = self.facts(comparison, owner) if has_answers else None
        return replace(update, result=facts, further=self.further(comparison, owner))
