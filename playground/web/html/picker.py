"""The rows of the model picker: levels, context sizes, and the one line the picker folds into on a phone.

Knows nothing of files or plans; it is handed rows that are ready to be said. Rows are native radio buttons, so arrow
keys, screen readers and thumbs work as they do everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from playground.app.model_choice import ContextStep, LevelRow
from playground.text_format import bits, count, gibibytes, pages, short_tokens
from playground.web.html.memory import verdict_chip

if TYPE_CHECKING:
    from playground.fit.verdict import Verdict


def level_rows(
    rows: Sequence[LevelRow], chosen: str, group: str, offers: Sequence[LevelRow] = (), made_from: str = ""
) -> str:
    """A radio group of levels; `group` names it once per page.

    offers: levels that are not here and can be made from the level `made_from`, folded away unless one is chosen.
    """
    if not rows:
        return '<p class="gp-hint">No level of this model is on this computer yet.</p>'
    body = "".join(level_row(row, row.value == chosen, group) for row in rows)
    more = "".join(level_row(row, row.value == chosen, group) for row in offers)
    if more:
        is_open = " open" if any(row.value == chosen for row in offers) else ""
        more = (
            f'<details class="gp-offers"{is_open}><summary>More levels, made here from {escape(made_from)}</summary>'
            f"{more}</details>"
        )
    about = "as the server has it" if all(row.is_elsewhere for row in rows) else "fewer bits: smaller, faster, coarser"
    return (
        f'<fieldset class="gp-levels"><legend><b>Level</b> <span>{about}</span></legend>'
        f'<div class="gp-scroll">{body}{more}</div></fieldset>'
    )


def level_row(row: LevelRow, is_chosen: bool, group: str) -> str:
    """One level as a radio button of `group`."""
    recommended = '<span class="gp-recommended">Recommended</span>' if row.recommended else ""
    notes = "".join(f'<span class="gp-note">{escape(note)}</span>' for note in row.notes)
    figures = f'<span class="gp-figures">{gibibytes(row.size)} · {bits(row.bits_per_weight)}</span>'
    known = "" if row.is_elsewhere else f"{figures}{verdict_chip(row.verdict)}"
    return (
        f'<label class="gp-level"><input type="radio" name="{escape(group, quote=True)}"'
        f' value="{escape(row.value, quote=True)}"{" checked" if is_chosen else ""}>'
        '<span class="gp-level-body"><span class="gp-level-line">'
        f'<span class="gp-level-name">{escape(row.name)}</span>'
        f"{known}</span>{recommended}"
        f'<span class="gp-summary">{escape(row.summary)}</span>{notes}</span></label>'
    )


def context_steps(steps: Sequence[ContextStep], chosen: int, group: str) -> str:
    """A radio group of context sizes, the largest that fits marked, with what the chosen one holds in words."""
    body = "".join(_context_step(step, step.tokens == chosen, group) for step in steps)
    return (
        '<fieldset class="gp-contexts"><legend><b>Context</b> '
        "<span>how much text the model can keep in view</span></legend>"
        f'<div class="gp-steps">{body}</div>'
        f'<p class="gp-hint"><b>{count(chosen)} tokens</b>: {pages(chosen)}. {_largest_sentence(steps)}</p></fieldset>'
    )


def _context_step(step: ContextStep, is_chosen: bool, group: str) -> str:
    state = "largest that fits" if step.is_largest else {True: "fits", False: "won't fit", None: ""}[step.fits]
    spoken = f", {state}" if state else ""
    kind = "largest" if step.is_largest else {True: "fits", False: "wont_fit", None: "unknown"}[step.fits]
    return (
        f'<label class="gp-step gp-step-{kind}" title="{count(step.tokens)} tokens{spoken}">'
        f'<input type="radio" name="{escape(group, quote=True)}" value="{step.tokens}"'
        f"{' checked' if is_chosen else ''}>"
        f'<span class="gp-step-face">{short_tokens(step.tokens)}</span>'
        f'<span class="gp-hidden"> tokens{spoken}</span></label>'
    )


def _largest_sentence(steps: Sequence[ContextStep]) -> str:
    """What the mark ▴ on a step means, in words."""
    if any(step.fits is None for step in steps):
        return ""
    largest = next((step.tokens for step in steps if step.is_largest), None)
    if largest is None:
        return "No context size fits with this level."
    if all(step.fits for step in steps):
        return f"All {count(largest)} that this model was trained for would fit."
    return f"▴ The largest that fits is {count(largest)}."


def picker_line(model: str, level: str, context_size: int | None, verdict: Verdict | None) -> str:
    """`SmolLM2 135M · Q4_1 · 4K · Fits — change`: the button that unfolds the picker on a phone."""
    rest = [escape(level)] if level else []
    rest += [short_tokens(context_size)] if context_size else []
    said = "".join(f" · {part}" for part in rest)
    return (
        '<button type="button" class="gp-fold" aria-expanded="false">'
        f'<span class="gp-fold-model">{escape(model)}</span><span class="gp-fold-rest">{said}</span>'
        f'{verdict_chip(verdict) if verdict else ""}<span class="gp-fold-change">change</span></button>'
    )
