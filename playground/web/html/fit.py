"""Records to markup for the Fit tab: the table of levels and contexts, the answer in a sentence, charts, the KV cache.

The charts are inline SVG in the page's own colours, so they follow dark mode and need no plotting library. A chart is
one picture to a screen reader, named by a sentence; the exact figures are in the table.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from playground.errors import PlaygroundError
from playground.fit.table import COMPUTERS_GB, SYSTEM_KEEPS_BYTES, computers_for
from playground.text_format import GIBIBYTE, gibibytes, gibibytes_apart, pages, short_tokens
from playground.web.html.memory import VERDICT_SIGNS, verdict_chip
from playground.web.html.page import paragraph
from playground.web.html.templates import render

if TYPE_CHECKING:
    from playground.app.fit import FitView
    from playground.fit.plan import MemoryPlan
    from playground.fit.table import FitRow, FitTable

MXFP4_STAYS: Final = (
    "The experts of this model were trained in MXFP4 (4.25 bits per weight). Published files keep them so at every "
    "level, and only the rest changes: the levels differ little in size."
)
_AGREES_WITHIN: Final = 1.1  # a ratio of two sizes: up to here they count as the same


def computer_choices(usable: int, host_name: str) -> list[tuple[str, str]]:
    """(name to read, value) of the computers that a model can be judged for."""
    return [
        (f"{host_name} ({gibibytes(usable)} usable)", "this"),
        *((f"{size} GB", str(size)) for size in COMPUTERS_GB),
        ("Other", "other"),
    ]


def computer_line(view: FitView) -> str:
    """How much memory the verdicts count on, and what was assumed."""
    if view.table is None:
        return ""
    assumed = SYSTEM_KEEPS_BYTES if view.choice.computer_gb else 0
    return render("fit.html#computer", name=_computer(view), usable=view.table.usable, assumed=assumed)


def answer_sentence(view: FitView) -> str:
    """ "What would I need?" in one sentence, with the verdict for the chosen computer beside it."""
    table, choice = view.table, view.choice
    cell = table.cell(choice.level or "", choice.context or 0) if table else None
    if table is None or cell is None:
        return "" if isinstance(view.message, PlaygroundError) else paragraph("Planning …", "gp-fit-answer")
    row = next(row for row in table.rows if row.size.level == choice.level)
    needed, usable = gibibytes_apart(cell.plan.needed, table.usable)
    return render(
        "fit.html#answer",
        chip=Markup(verdict_chip(cell.verdict)),
        name=view.name,
        level=row.size.level,
        tokens=short_tokens(choice.context or 0),
        held=pages(choice.context or 0),
        about="at most " if row.size.is_estimate else "",
        needed=needed,
        need=computers_for(cell.plan),
        computer=_computer(view),
        usable=usable,
        verdict=cell.verdict,
    )


def _computer(view: FitView) -> str:
    gb = view.choice.computer_gb
    return view.host_name if gb is None else f"A computer with {gb:g} GB"


def fit_rows(view: FitView) -> str:
    """The table: a row for each level, a column for each context; every cell is a button."""
    if view.table is None:
        return ""
    notes = ["Click a cell to open it in Chat. What is not on this computer is downloaded in the Models tab first."]
    origins = {row.size.origin for row in view.table.rows}
    if "computed" in origins:
        notes.append(
            "Levels without a file have the size that llama.cpp’s quantizer gives for this model’s tensors; a "
            "publisher’s own mix may differ."
        )
    if "estimate" in origins:
        notes.append(
            "≈ marks an estimate from the number of parameters alone, with the least and the most that other models of "
            "about this size come out at. It is judged by the most."
        )
    if any(cell.plan.use.unread for row in view.table.rows for cell in row.cells):
        notes.append("The size under a level is that of its file; weights that no token reads need no memory.")
    if "to be made" in origins:
        notes.append("Levels that are not here yet are made from the file that is.")
    if view.keeps_mxfp4:
        notes.append(MXFP4_STAYS)
    return render("fit.html#table", name=view.name, table=view.table, signs=VERDICT_SIGNS, notes=notes)


# --- the KV cache ---


def kv_table(view: FitView) -> str:
    """The KV cache at each context, by the rule of thumb and as llama.cpp keeps it, explained in two sentences."""
    kv = view.kv
    if kv is None:
        return ""
    rows = [
        (context, naive, planned, _ratio(naive, planned))
        for context, naive, planned in zip(kv.contexts, kv.naive, kv.planned, strict=True)
    ]
    window = kv.attention.window
    return render(
        "fit.html#kv_cache",
        name=view.name,
        attention=kv.attention,
        rows=rows,
        last=rows[-1],
        most=max(*kv.naive, *kv.planned, 1),
        agrees=kv.naive[-1] < _AGREES_WITHIN * kv.planned[-1],
        window=window if window and window < kv.contexts[-1] else None,
    )


def _ratio(naive: int, planned: int) -> str:
    if not planned:
        return "–"
    ratio = naive / planned
    if 1 / _AGREES_WITHIN < ratio < _AGREES_WITHIN:
        return "the same"
    return f"{ratio:.1f}×" if ratio < 10 else f"{ratio:.0f}×"


# --- the charts ---

_FRAME: Final = {"width": 330, "height": 190, "left": 34, "right": 324, "top": 16, "bottom": 168}  # SVG units
_MOST_GRID_LINES: Final = 4
_LINE_WITHIN: Final = 1.6  # usable memory is drawn where it is at most so many times the tallest bar
_LEGEND: Final = (("weights", "Weights"), ("kv", "KV cache"), ("compute", "Compute"), ("overhead", "Program"))


def memory_charts(table: FitTable | None) -> str:
    """Memory by context, a small chart for each level of a finished table, all on one scale; else ""."""
    if table is None or not table.is_complete or not table.rows:
        return ""
    tallest = max(cell.plan.needed for row in table.rows for cell in row.cells)
    shows_usable = table.usable <= _LINE_WITHIN * tallest
    scale = 1.04 * max(tallest, table.usable if shows_usable else 0)
    charts = [
        render(
            "fit.html#chart",
            size=row.size,
            spoken=_chart_in_words(row, table),
            frame=_FRAME,
            grid=_grid(scale),
            bars=_bars(row, table, scale),
            usable_y=_y(table.usable, scale) if shows_usable else None,
        )
        for row in table.rows
    ]
    usable = "" if shows_usable else gibibytes(table.usable)
    return render("fit.html#charts", legend=_LEGEND, usable=usable, charts=charts)


def _bars(row: FitRow, table: FitTable, scale: float) -> list[dict[str, Any]]:
    room = (_FRAME["right"] - _FRAME["left"]) / len(table.contexts)
    width = min(30.0, room * 0.68)
    return [
        {
            "x": _FRAME["left"] + room * (number + 0.5) - width / 2,
            "width": width,
            "label": short_tokens(context),
            "parts": _bar_parts(cell.plan, scale),
        }
        for number, (context, cell) in enumerate(zip(table.contexts, row.cells, strict=True))
    ]


def _bar_parts(plan: MemoryPlan, scale: float) -> list[tuple[str, float, float]]:
    """(kind, top, height) of each part, the lowest first."""
    sizes = {
        "weights": plan.read_weights + plan.repacked,
        "kv": plan.kv_cache + plan.recurrent,
        "compute": plan.compute + plan.output,
        "overhead": plan.base,
    }
    parts, below = [], 0
    for kind, size in sizes.items():
        top = _y(below + size, scale)
        parts.append((kind, top, _y(below, scale) - top))
        below += size
    return parts


def _grid(scale: float) -> list[tuple[float, str]]:
    """(y, label in GiB) of each grid line."""
    step = _grid_step(scale / GIBIBYTE)
    lines = math.floor(scale / GIBIBYTE / step) + 1
    return [(_y(number * step * GIBIBYTE, scale), f"{number * step:g}") for number in range(lines)]


def _grid_step(gibibytes_shown: float) -> float:
    """1, 2 or 5 times a power of ten, so that there are at most four lines above the ground."""
    rough = gibibytes_shown / _MOST_GRID_LINES
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def _y(byte_count: float, scale: float) -> float:
    return _FRAME["bottom"] - (_FRAME["bottom"] - _FRAME["top"]) * byte_count / scale


def _chart_in_words(row: FitRow, table: FitTable) -> str:
    each = ", ".join(
        f"{short_tokens(context)} {gibibytes(cell.plan.needed)}"
        for context, cell in zip(table.contexts, row.cells, strict=True)
    )
    return f"{row.size.level}: memory by context, {each}; usable {gibibytes(table.usable)}."
