"""Records to markup for the model picker: levels, context sizes, GPUs, and the one line it folds into on a phone.

Levels, context sizes and GPUs are native radio buttons, so arrow keys, screen readers and thumbs work as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from playground.app.model_picker.choice import ContextStep, LevelRow
from playground.text_format import count, gigabytes, pages, share_of_16_bits, short_tokens
from playground.web.html.memory import verdict_chip
from playground.web.html.templates import render

_BOX_CHARACTERS: Final = 34  # of a name, in the narrowest picker

if TYPE_CHECKING:
    from markupsafe import Markup

    from playground.fit.budget import DeviceBudget
    from playground.fit.verdict import Verdict


def level_rows(
    rows: Sequence[LevelRow], chosen: str, group: str, makeable: Sequence[LevelRow] = (), made_from: str = ""
) -> Markup:
    """A radio group of levels; `group` is its name, once per page. Without rows: that the model is being read.

    makeable: levels that can be made here from the level `made_from`, folded away unless one of them is chosen.
    """
    if not rows:
        return render("picker.html#loading_levels")
    is_elsewhere = all(row.is_elsewhere for row in rows)
    return render(
        "picker.html#levels",
        rows=[level_row(row, row.value == chosen, group) for row in rows],
        makeable=[level_row(row, row.value == chosen, group) for row in makeable],
        made_from=made_from,
        is_open=any(row.value == chosen for row in makeable),
        hint="set on the server" if is_elsewhere else "fewer bits: smaller file, usually faster, less exact",
    )


def whole_name(name: str) -> Markup | str:
    """A model's name that the box is too narrow for, to show below it; "" for a shorter one."""
    return render("picker.html#whole_name", name=name) if len(name) > _BOX_CHARACTERS else ""


def level_row(row: LevelRow, is_chosen: bool, group: str) -> Markup:
    """One level as a radio button of `group`."""
    chip, share = verdict_chip(row.verdict), share_of_16_bits(row.bits_per_weight)
    return render("picker.html#level_row", row=row, group=group, is_chosen=is_chosen, chip=chip, share=share)


def context_steps(steps: Sequence[ContextStep], chosen: int, group: str) -> Markup:
    """A radio group of context sizes, the largest that fits marked, and what the chosen one holds in words."""
    return render(
        "picker.html#contexts",
        steps=[_drawn_step(step) for step in steps],
        group=group,
        chosen=chosen,
        amount=pages(chosen),
        largest=_largest_sentence(steps),
    )


@dataclass(frozen=True)
class _DrawnStep:
    tokens: int
    face: str
    kind: str
    state: str


def _drawn_step(step: ContextStep) -> _DrawnStep:
    if step.is_largest:
        kind, state = "largest", ", largest that fits"
    elif step.fits is None:
        kind, state = "unknown", ""
    else:
        kind, state = ("fits", ", fits") if step.fits else ("wont_fit", ", too large")
    return _DrawnStep(step.tokens, short_tokens(step.tokens), kind, state)


def _largest_sentence(steps: Sequence[ContextStep]) -> str:
    """The largest context size that fits, in words; "" until it is known. ▴ is the mark on its button."""
    if any(step.fits is None for step in steps):
        return ""
    largest = next((step.tokens for step in steps if step.is_largest), None)
    if largest is None:
        return "No context size fits with this level."
    if all(step.fits for step in steps):
        return f"The model's full {count(largest)}-token context fits."
    return f"▴ The largest that fits is {count(largest)} tokens."


def gpu_rows(gpus: Sequence[DeviceBudget], chosen: str, group: str) -> Markup | str:
    """A radio group of GPUs, or of all of them together, whose value is "auto"; "" where there is nothing to choose."""
    if len(gpus) < 2:
        return ""
    rows = [_GpuRow("auto", "All of them", "share the layers by their free memory")]
    rows += [_GpuRow(gpu.name, gpu.description, f"{gpu.name} · {gigabytes(gpu.usable)} free") for gpu in gpus]
    return render("picker.html#gpus", rows=rows, group=group, chosen=chosen)


@dataclass(frozen=True)
class _GpuRow:
    value: str
    name: str
    figures: str


def picker_line(model: str, level: str, context_size: int | None, verdict: Verdict | None) -> Markup:
    """`SmolLM2 135M · Q4_1 · 4K · Fits — change`: the button that unfolds the picker on a phone."""
    rest = [level] if level else []
    rest += [short_tokens(context_size)] if context_size else []
    chip = verdict_chip(verdict) if verdict else ""
    return render("picker.html#line", model=model, rest=rest, chip=chip)
