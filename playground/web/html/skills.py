"""Draws the shelf of skills, and the four answers of two levels with a skill and without it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from markupsafe import Markup

from playground.app.chat.skills import Shelf
from playground.app.compare.comparison import LETTERS
from playground.app.compare.skill_grid import GridCell, SkillGrid
from playground.engine.protocol import Finished
from playground.text_format import UNKNOWN, count, counted, seconds, speed
from playground.web.html.compare.answer_tokens import plain_runs
from playground.web.html.reply import end_in_words
from playground.web.html.templates import render


def skill_chips(shelf: Shelf, on: Collection[str]) -> Markup | str:
    """A switch for each skill, and a cross that takes one of the browser's own off the shelf."""
    if not shelf.skills:
        return ""
    own = {skill.name for skill in shelf.kept}
    return render(
        "skills.html#chips",
        chips=[
            {
                "name": skill.name,
                "length": counted(len(skill.text), "character"),
                "is_on": skill.name in on,
                "toggle": json.dumps({"toggle": skill.name}),
                "remove": json.dumps({"remove": skill.name}) if skill.name in own else "",
            }
            for skill in shelf.skills
        ],
    )


def skill_grid(grid: SkillGrid) -> Markup:
    """Two levels by without and with: a row a level."""
    return render(
        "skills.html#grid",
        skill=grid.skill,
        question=grid.question,
        rows=[
            (letter, level, [_cell(cell) for cell in cells])
            for letter, (level, cells) in zip(LETTERS, grid.rows, strict=True)
        ],
        sentence=_cost(grid.rows),
    )


def _cell(cell: GridCell) -> dict[str, object]:
    facts = _figures(cell.finished) if cell.finished else cell.state
    return {"runs": plain_runs(cell.text), "facts": facts, "problem": cell.problem}


def _figures(finished: Finished) -> str:
    """`38 tokens to read · 0.34 s to the first word · 41.2 tok/s · cut off at 128 tokens`."""
    timings = finished.timings
    facts = [
        f"{count(timings.prompt_tokens)} tokens to read" if timings.prompt_tokens is not None else UNKNOWN,
        f"{seconds(timings.time_to_first_token)} to the first word",
        speed(timings.generation_speed, disturbed=timings.disturbed),
    ]
    return " · ".join([*facts, *([end_in_words(finished)] if finished.reason != "end of text" else [])])


def _cost(rows: Sequence[tuple[str, Sequence[GridCell]]]) -> str:
    """What the skill costs, once both answers of a level are there."""
    parts: list[str] = []
    tokens: int | None = None
    for level, (without, with_it) in rows:
        if not (without.finished and with_it.finished):
            continue
        before, after = without.finished.timings, with_it.finished.timings
        if before.prompt_tokens is None or after.prompt_tokens is None:
            continue
        tokens = after.prompt_tokens - before.prompt_tokens
        if before.time_to_first_token is not None and after.time_to_first_token is not None:
            more = after.time_to_first_token - before.time_to_first_token
            parts.append(f"{seconds(max(more, 0.0))} at {level}")
    if tokens is None:
        return ""
    if tokens < 0:
        return (
            f"With the skill the model reads {counted(-tokens, 'token')} less: its template has instructions of its "
            "own where there are none."
        )
    later = f" The first word came later by {' and '.join(parts)}." if parts else ""
    return f"The skill adds {counted(tokens, 'token')} to what the model reads first.{later}"
