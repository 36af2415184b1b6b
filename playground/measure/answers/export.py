"""The grid of answers as one file: Markdown to read, JSON to work with. Both have every prompt, answer and vote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from playground.engine.protocol import FINISH_WORDS, FinishReason
from playground.measure.answers.grid import AnswerGrid, GridAnswer
from playground.measure.export import FORMAT
from playground.measure.votes import Tally
from playground.text_format import counted, gigabytes, one_line, speed


def grid_tallies(grid: AnswerGrid, tallies: Sequence[Tally]) -> list[Tally]:
    """The votes on two columns of the grid, whether they were given here or in Compare."""
    known = {column.contestant for column in grid.columns}
    return [tally for tally in tallies if tally.pair.first in known and tally.pair.second in known]


def grid_as_json(grid: AnswerGrid, tallies: Sequence[Tally]) -> dict[str, Any]:
    """Plain data; `read_export` reads its measurements, so it can be laid beside others."""
    votes = [
        {
            "first": tally.pair.first.level, "second": tally.pair.second.level, "first_preferred": tally.first,
            "second_preferred": tally.second, "ties": tally.ties, "both_bad": tally.both_bad, "share": tally.share,
            "interval": list(tally.interval),
        }
        for tally in grid_tallies(grid, tallies)
    ]  # fmt: skip
    measurements = [each.to_json() for each in grid.measurements]
    return {"format": FORMAT, "version": 1, "measurements": measurements, "votes": votes}


def grid_as_markdown(grid: AnswerGrid, tallies: Sequence[Tally]) -> str:
    """The levels, each prompt with all answers to it, and the votes."""
    return "\n\n".join(_blocks(grid, grid_tallies(grid, tallies))) + "\n"


def _blocks(grid: AnswerGrid, tallies: Sequence[Tally]) -> Iterator[str]:
    yield f"# Answers of {one_line(grid.model, 120)} to {one_line(grid.prompts_name, 120)}"
    files = {each.row: each for each in grid.measurements}
    lines = []
    for column in grid.columns:
        found = files[column.key]
        file = f"`{one_line(found.file, 200)}`, {gigabytes(column.size)}, SHA-256 `{found.digest}`"
        lines.append(f"- {one_line(column.name, 120)}: {file}")
    versions = sorted({f"{name} {number}" for each in grid.measurements for name, number in each.versions.items()})
    lines.append(f"- Greedy, without thinking first, with {one_line(', '.join(versions), 300)}")
    yield "\n".join(lines)
    for number, prompt in grid.prompts.items():
        yield f"## {number}. {one_line(prompt, 300)}"
        for column in grid.columns:
            answer = grid.answer(column, number)
            yield f"**{one_line(column.name, 120)}**{_figures(answer)}"
            yield _quoted(answer.text) if answer else "Not answered."
    if tallies:
        yield "## Blind votes"
        yield "\n".join(
            f"- {tally.pair.first.level} {tally.first}, {tally.pair.second.level} {tally.second}, ties {tally.ties}, "
            f"both bad {tally.both_bad}: {_share(tally)}"
            for tally in tallies
        )


def _share(tally: Tally) -> str:
    if tally.share is None:
        return "nobody has preferred one"
    low, high = tally.interval
    return f"{tally.pair.first.level} preferred in {tally.share:.0%} of the decided (95 %: {low:.0%} to {high:.0%})"


def _figures(answer: GridAnswer | None) -> str:
    return f" · {' · '.join(answer_figures(answer))}" if answer else ""


def answer_figures(answer: GridAnswer) -> list[str]:
    """`24 tokens`, `31.2 tok/s (disturbed)`, and how the answer ended if it was cut off."""
    figures = []
    if answer.tokens is not None:
        figures.append(counted(answer.tokens, "token"))
    if answer.tokens_per_second is not None:
        figures.append(speed(answer.tokens_per_second, disturbed=answer.disturbed))
    reasons: dict[str, FinishReason] = {reason: reason for reason in FINISH_WORDS}
    if answer.finish_reason != "end of text" and answer.finish_reason in reasons:
        figures.append(FINISH_WORDS[reasons[answer.finish_reason]])
    return figures


def _quoted(text: str) -> str:
    """As a quote, so that nothing in an answer ends it."""
    return "\n".join(f"> {line}".rstrip() for line in (text or "(no answer)").splitlines())
