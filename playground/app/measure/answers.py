"""The Measure tab's grid of answers: what every level answered to the same prompts, and the blind votes on it.

Votes go where Compare's go, so both count together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from playground.app.compare.updates import VoteTallies
from playground.errors import PlaygroundError, RequestRefused
from playground.limits.runs import Runs
from playground.limits.visitor import Visitor
from playground.measure.answers.export import grid_as_json, grid_as_markdown, grid_tallies
from playground.measure.answers.grid import (
    AnswerGrid,
    BallotPaper,
    answer_grid,
    ballot_papers,
    equal_answers,
    next_paper,
)
from playground.measure.results import Measurement
from playground.measure.store import MeasurementStore
from playground.measure.votes import BALLOT_WORDS, VoteStore


@dataclass(frozen=True)
class VotingSheet:
    """Where a blind vote is. paper: None once all are voted. equal: pairs of equal answers, which need no vote."""

    grid: AnswerGrid
    paper: BallotPaper | None
    voted: int
    total: int
    equal: int

    @property
    def answers(self) -> tuple[str, str]:
        """The texts of A and B."""
        assert self.paper
        found = [self.grid.answer(column, self.paper.prompt) for column in self.paper.pair]
        return (found[0].text if found[0] else "", found[1].text if found[1] else "")


class AnswerGrids:
    """One for all visitors. measurements: reads what is stored, the oldest first."""

    def __init__(
        self, store: MeasurementStore, votes: VoteStore, runs: Runs, measurements: Callable[[], Sequence[Measurement]]
    ) -> None:
        self._store, self._votes, self._runs = store, votes, runs
        self._measurements = measurements

    def grid(self, model: str) -> AnswerGrid | None:
        """The answers to the newest set of prompts; None while there are none. Raises PlaygroundError."""
        return answer_grid(self._measurements(), model)

    def sheet(self, model: str, visitor: Visitor) -> VotingSheet:
        """Raises RequestRefused where there is nothing to vote on, and PlaygroundError for a store that fails."""
        grid = self.grid(model)
        papers = ballot_papers(grid, visitor.address) if grid else []
        if grid is None or not papers:
            raise RequestRefused(
                "There is nothing to vote on.", "Let two levels answer; answers that are the same need no vote."
            )
        voted = self._store.answer_votes(visitor.address, grid.digest)
        given = sum(paper.key in voted for paper in papers)
        return VotingSheet(grid, next_paper(papers, voted), given, len(papers), equal_answers(grid))

    def cast_vote(self, model: str, visitor: Visitor, word: str, number: int) -> VotingSheet:
        """Keep a vote on the paper that is shown; returns the sheet with the next one. number: how many were voted.

        Raises as `sheet` does, and RequestRefused for what is no vote, or once enough are kept.
        """
        sheet = self.sheet(model, visitor)
        if sheet.paper is None or number != sheet.voted or word not in BALLOT_WORDS:
            return sheet  # a second press on the same paper
        vote = sheet.paper.vote(word)
        self._runs.add_result(visitor)
        self._store.add_answer_vote(visitor.address, sheet.grid.digest, sheet.paper.key, vote.preference)
        self._votes.add_vote(vote)
        return self.sheet(model, visitor)

    def take_back_vote(self, model: str, visitor: Visitor, number: int) -> VotingSheet:
        """The last vote does not count any more; returns the sheet with its two answers. Raises as `sheet` does.

        number: how many were voted, so that a second press takes nothing more back.
        """
        sheet = self.sheet(model, visitor)
        voted = self._store.answer_votes(visitor.address, sheet.grid.digest)
        given = [paper for paper in ballot_papers(sheet.grid, visitor.address) if paper.key in voted]
        if not given or number != sheet.voted:
            return sheet
        last = given[-1]
        self._store.remove_answer_vote(visitor.address, sheet.grid.digest, last.key)
        if vote := last.vote_of(voted[last.key]):
            self._votes.remove_vote(vote)
        return self.sheet(model, visitor)

    def tallies(self, grid: AnswerGrid) -> VoteTallies | PlaygroundError:
        """The votes on the grid's levels; if they cannot be read, why."""
        try:
            return VoteTallies(tuple(grid_tallies(grid, self._votes.tallies())), None, self._votes.set_aside)
        except PlaygroundError as error:
            return error

    def export(self, model: str, form: Literal["Markdown", "JSON"]) -> str:
        """The whole grid as one file; "" where there is none. Raises PlaygroundError."""
        grid = self.grid(model)
        if grid is None:
            return ""
        tallies = self._votes.tallies()
        return (
            grid_as_markdown(grid, tallies) if form == "Markdown" else json.dumps(grid_as_json(grid, tallies), indent=1)
        )
