"""Draws what a comparison means: a sentence, what to try next, four tiles, and the details folded."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

from playground.app.compare.result import ResultFacts, Tile, next_step, result_sentence, result_tiles
from playground.app.compare.updates import ComparedAnswers
from playground.web.html.compare.figures import differences_table
from playground.web.html.compare.first_difference import first_difference_section
from playground.web.html.templates import render

_WHY: Final = ("size", "context", "figures", "loss")  # the section of Learn that is behind each tile


def result_section(facts: ResultFacts, answers: ComparedAnswers | None = None) -> Markup:
    """The result; before anything was asked, the tiles say what is known of the pair.

    answers: for the details; None without them.
    """
    details = differences_table(answers) + first_difference_section(answers) if answers else ""
    return render(
        "compare_result.html#result",
        sentence=result_sentence(facts),
        next_step=next_step(facts),
        tiles=[_drawn(tile, why) for tile, why in zip(result_tiles(facts), _WHY, strict=True)],
        details=details,
    )


def _drawn(tile: Tile, why: str) -> dict[str, object]:
    shares = [f"{100 * share:.1f}" for share in tile.shares] if tile.shares else None
    return {
        "title": tile.title,
        "headline": tile.headline,
        "detail": tile.detail,
        "hint": f"{tile.detail} ({tile.hint})" if tile.hint else tile.detail,
        "shares": shares,
        "is_quiet": tile.is_quiet,
        "why": why,
    }
