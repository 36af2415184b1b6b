"""The grid of answers and the sheet of its blind vote, as markup."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Any, Final

from markupsafe import Markup

from playground.app.compare.updates import VoteTallies
from playground.app.measure.answers import VotingSheet
from playground.errors import PlaygroundError
from playground.measure.answers.export import answer_figures
from playground.measure.answers.grid import AnswerGrid, GridAnswer, ballot_papers
from playground.measure.votes import BALLOT_WORDS
from playground.text_format import counted, gigabytes
from playground.web.html.compare.answer_tokens import plain_runs
from playground.web.html.compare.markdown_parts import MarkdownParts
from playground.web.html.compare.votes import tally_table
from playground.web.html.templates import render

_WORD_END: Final = re.compile(r".*\s", re.DOTALL)
_FIRST_WORD: Final = re.compile(r"\s*\S*")


def answers_grid(grid: AnswerGrid, votes: VoteTallies | PlaygroundError) -> Markup:
    """Every prompt with the answers of all levels beside each other."""
    prompts = []
    for number, text in grid.prompts.items():
        found = [grid.answer(column, number) for column in grid.columns]
        cells = [_cell(answer, found[0] if place else None) for place, answer in enumerate(found)]
        prompts.append({"number": number, "text": text, "cells": cells})
    missing = len(grid.prompts) * len(grid.columns) - len(grid.answers)
    return render(
        "measure_answers.html#grid",
        title=f"Answers to {grid.prompts_name}",
        columns=[(column.name, gigabytes(column.size)) for column in grid.columns],
        prompts=prompts,
        papers=len(ballot_papers(grid, "")),
        note=f"{counted(missing, 'answer')} still to come." if missing else "",
        votes=_votes(votes),
    )


def voting_sheet(sheet: VotingSheet, votes: VoteTallies | PlaygroundError) -> Markup:
    """The next two answers without their names. The votes show once all are given, or they would help guessing."""
    paper = sheet.paper
    texts = sheet.answers if paper else ()
    return render(
        "measure_answers.html#sheet",
        voted=sheet.voted,
        total=sheet.total,
        equal=sheet.equal,
        prompt=sheet.grid.prompts[paper.prompt] if paper else "",
        answers=[(letter, plain_runs(text) if text else []) for letter, text in zip("AB", texts, strict=False)],
        buttons=list(enumerate(BALLOT_WORDS, 1)),
        votes="" if paper else _votes(votes),
    )


def _votes(votes: VoteTallies | PlaygroundError) -> Markup | str:
    if isinstance(votes, VoteTallies) and not votes.tallies:
        return ""
    return Markup(tally_table(votes))


def _cell(answer: GridAnswer | None, first: GridAnswer | None) -> dict[str, Any] | None:
    """first: the answer of the first column, None for that itself."""
    if answer is None:
        return None
    text = answer.text
    start = len(common_words(first.text, text)) if first else len(text)
    word = _FIRST_WORD.match(text, start)
    end = word.end() if word else start
    parts = MarkdownParts(text)
    return {
        "common": {"parts": parts.parts(0, start)},
        "other": {"parts": parts.parts(start, end)},
        "rest": {"parts": parts.parts(end, len(text))},
        "is_empty": not text,
        "is_same": first is not None and first.text == answer.text,
        "checks": answer.checks,
        "figures": answer_figures(answer),
    }


def common_words(one: str, other: str) -> str:
    """What both texts begin with, up to a whole word of the second."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    common = other[: sum(1 for _ in same)]
    if common in (one, other) and (one + " ")[len(common)].isspace() and (other + " ")[len(common)].isspace():
        return common
    words = _WORD_END.match(common)
    return words[0] if words else ""
