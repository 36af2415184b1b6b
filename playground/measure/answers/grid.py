"""The answers of all levels to one set of prompts, side by side, and the papers of a blind vote on them.

The newest set of a model makes its grid. Each level is a column, from the largest to the smallest file; a column may
come from an imported file, and is then read but not voted on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from playground.measure.results import HERE, Measurement, RowKey
from playground.measure.store import VotedPair
from playground.measure.votes import BALLOT_WORDS, Contestant, Vote, read_ballot


@dataclass(frozen=True)
class GridAnswer:
    """One answer. tokens, tokens_per_second: None where unknown. checks: (what was wanted, whether it is there).

    disturbed: something else had the cores while it was written.
    """

    text: str
    tokens: int | None = None
    tokens_per_second: float | None = None
    finish_reason: str = ""
    checks: tuple[tuple[str, bool], ...] = ()
    disturbed: bool = False


@dataclass(frozen=True)
class GridColumn:
    """A level with its KV cache. size: bytes of its file."""

    key: RowKey
    size: int

    @property
    def name(self) -> str:
        return f"{self.key.name} ({self.key.source})" if self.key.source else self.key.name

    @property
    def contestant(self) -> Contestant:
        return Contestant(self.key.model, self.key.name)


@dataclass(frozen=True)
class AnswerGrid:
    """prompts: by number. answers: by column and number of the prompt; one that is missing was not answered yet.

    digest: of the set of prompts. measurements: what the grid was made of.
    """

    model: str
    prompts_name: str
    digest: str
    prompts: Mapping[int, str]
    columns: tuple[GridColumn, ...]
    answers: Mapping[tuple[RowKey, int], GridAnswer]
    measurements: tuple[Measurement, ...]

    def answer(self, column: GridColumn, prompt: int) -> GridAnswer | None:
        return self.answers.get((column.key, prompt))


@dataclass(frozen=True)
class BallotPaper:
    """Two answers to one prompt, whose columns the voter does not know. pair: the columns as shown, A and B."""

    prompt: int
    pair: tuple[GridColumn, GridColumn]

    @property
    def key(self) -> VotedPair:
        """Its name in the store: the same whichever of the two is A."""
        first, second = sorted(column.key.name for column in self.pair)
        return self.prompt, first, second

    def vote(self, word: str) -> Vote:
        """What a word of BALLOT_WORDS means, as a vote like Compare’s. Raises RequestRefused for another word."""
        return read_ballot(word, (self.pair[0].contestant, self.pair[1].contestant))

    def vote_of(self, preference: str) -> Vote | None:
        """The vote with this preference, as the store has it; None for what is none."""
        return next((vote for vote in map(self.vote, BALLOT_WORDS) if vote.preference == preference), None)


def answer_grid(measurements: Iterable[Measurement], model: str) -> AnswerGrid | None:
    """The grid of a model's newest set of prompts; None while nothing was answered. measurements: the oldest first."""
    own = [each for each in measurements if each.what == "answers" and each.model == model and each.details]
    if not own:
        return None
    newest = max(own, key=lambda each: (each.source == HERE, each.measured_at))
    own = [each for each in own if each.text_digest == newest.text_digest]
    digests = {each.row: each.digest for each in own}  # of the newest file of each column
    kept: dict[tuple[RowKey, int], Measurement] = {}
    for each in own:
        if each.digest == digests[each.row]:
            kept[each.row, _number_of(each)] = each
    columns = {each.row: GridColumn(each.row, each.size) for each in kept.values()}
    prompts = {_number_of(each): str(each.details[0].get("prompt", "")) for each in kept.values()}
    return AnswerGrid(
        model=model,
        prompts_name=newest.text,
        digest=newest.text_digest,
        prompts=dict(sorted(prompts.items())),
        columns=tuple(sorted(columns.values(), key=lambda column: (column.key.source, -column.size, column.key))),
        answers={place: _answer_of(each) for place, each in kept.items()},
        measurements=tuple(kept.values()),
    )


def _number_of(measurement: Measurement) -> int:
    number = measurement.details[0].get("task", 0)
    return number if isinstance(number, int) else 0


def _answer_of(measurement: Measurement) -> GridAnswer:
    """An import may hold anything: what is no text or number is left out."""
    detail = measurement.details[0]
    found = detail.get("checks")
    checks = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    tokens, rate = measurement.figures.get("tokens"), measurement.figures.get("tokens_per_second")
    return GridAnswer(
        str(detail.get("answer", "")),
        tokens if isinstance(tokens, int) else None,
        float(rate) if isinstance(rate, int | float) else None,
        str(detail.get("finish_reason", "")),
        tuple((str(each.get("label", "")), bool(each.get("passed"))) for each in checks),
        bool(measurement.figures.get("disturbed")),
    )


# --- the blind vote ---


def ballot_papers(grid: AnswerGrid, voter: str) -> list[BallotPaper]:
    """Every two different answers to the same prompt, in an order and with sides that nothing can be guessed from.

    The same for the same voter, so a vote goes on where it was.
    """
    papers = []
    for prompt in grid.prompts:
        answered = [each for each in grid.columns if each.key.source == HERE and grid.answer(each, prompt)]
        for one, other in combinations(answered, 2):
            if _text(grid, one, prompt) == _text(grid, other, prompt):
                continue
            lot = _lot(grid.digest, voter, prompt, one, other)
            papers.append((lot, BallotPaper(prompt, (one, other) if lot[-1] % 2 else (other, one))))
    return [paper for _, paper in sorted(papers, key=lambda entry: entry[0])]


def equal_answers(grid: AnswerGrid) -> int:
    """How many pairs of answers need no vote, because they are the same to the letter."""
    return sum(
        _text(grid, one, prompt) == _text(grid, other, prompt)
        for prompt in grid.prompts
        for one, other in combinations([each for each in grid.columns if each.key.source == HERE], 2)
        if grid.answer(one, prompt) and grid.answer(other, prompt)
    )


def next_paper(papers: Sequence[BallotPaper], voted: Mapping[VotedPair, str]) -> BallotPaper | None:
    return next((paper for paper in papers if paper.key not in voted), None)


def _text(grid: AnswerGrid, column: GridColumn, prompt: int) -> str:
    found = grid.answer(column, prompt)
    return found.text if found else ""


def _lot(*facts: Any) -> bytes:
    return hashlib.sha256(repr(facts).encode()).digest()
