"""Memory against context as pictures: one small chart for each level, all on one scale.

Inline SVG in the page's own colours, so that it follows dark mode and needs no plot library. A chart is one picture to
a screen reader, named by a sentence; the exact figures are in the table above it.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Final

from playground.app.format import GIBIBYTE, gibibytes, short_tokens

if TYPE_CHECKING:
    from playground.fit.plan import MemoryPlan
    from playground.fit.table import FitRow, FitTable

_WIDTH: Final = 330
_HEIGHT: Final = 190
_LEFT: Final = 34
_RIGHT: Final = 6
_TOP: Final = 16
_BOTTOM: Final = 22
_MOST_GRID_LINES: Final = 4
_LINE_WITHIN: Final = 1.6  # usable memory is drawn where it is at most so many times the tallest bar
_LEGEND: Final = (("weights", "Weights"), ("kv", "KV cache"), ("compute", "Compute"), ("overhead", "Program"))


def memory_charts(table: FitTable | None) -> str:
    """The charts of a finished table; nothing while it is still being planned."""
    if table is None or not table.is_complete or not table.rows:
        return ""
    tallest = max(cell.plan.total for row in table.rows for cell in row.cells)
    shows_line = table.usable <= _LINE_WITHIN * tallest
    scale = max(tallest, table.usable if shows_line else 0) * 1.04
    legend = "".join(f'<li><i class="gp-seg-{kind}" aria-hidden="true"></i>{name}</li>' for kind, name in _LEGEND)
    above = (
        "" if shows_line else f'<li class="gp-chart-above">Usable: {gibibytes(table.usable)}, above the picture</li>'
    )
    line = '<li><i class="gp-chart-key" aria-hidden="true"></i>Usable memory</li>' if shows_line else above
    charts = "".join(_chart(row, table, scale, shows_line) for row in table.rows)
    return (
        '<h2 class="gp-fit-title">Memory against context</h2>'
        f'<ul class="gp-chart-legend">{legend}{line}</ul><div class="gp-charts">{charts}</div>'
    )


def _chart(row: FitRow, table: FitTable, scale: float, shows_line: bool) -> str:
    bars = "".join(
        _bar(number, len(table.contexts), cell.plan, context, scale)
        for number, (context, cell) in enumerate(zip(table.contexts, row.cells, strict=True))
    )
    line = ""
    if shows_line:
        y = _y(table.usable, scale)
        line = f'<line class="gp-chart-usable" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    about = "≈ " if row.size.is_estimate else ""
    return (
        f'<figure class="gp-chart"><figcaption><b>{escape(row.size.level)}</b> '
        f"weights {about}{gibibytes(row.size.weight_bytes)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(_spoken(row, table), quote=True)}">'
        f"{_grid(scale)}{bars}{line}</svg></figure>"
    )


def _bar(number: int, bars: int, plan: MemoryPlan, context: int, scale: float) -> str:
    room = (_WIDTH - _LEFT - _RIGHT) / bars
    width = min(30.0, room * 0.68)
    x = _LEFT + room * (number + 0.5) - width / 2
    parts = (
        ("weights", plan.weights),
        ("kv", plan.kv_cache + plan.recurrent),
        ("compute", plan.compute + plan.output),
        ("overhead", plan.base),
    )
    drawn, below = "", 0
    for kind, size in parts:
        top = _y(below + size, scale)
        height = _y(below, scale) - top
        drawn += f'<rect class="gp-fill-{kind}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.2f}"/>'
        below += size
    label = f'<text x="{x + width / 2:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{short_tokens(context)}</text>'
    return f"<g>{drawn}{label}</g>"


def _grid(scale: float) -> str:
    lines = ""
    step = _grid_step(scale / GIBIBYTE)
    for number in range(math.floor(scale / GIBIBYTE / step) + 1):
        y = _y(number * step * GIBIBYTE, scale)
        lines += (
            f'<line class="gp-chart-grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{number * step:g}</text>'
        )
    return f'{lines}<text x="{_LEFT - 5}" y="10" text-anchor="end">GiB</text>'


def _grid_step(gibibytes_shown: float) -> float:
    """1, 2 or 5 times a power of ten, so that there are at most four lines above the ground."""
    rough = gibibytes_shown / _MOST_GRID_LINES
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def _y(byte_count: float, scale: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * byte_count / scale


def _spoken(row: FitRow, table: FitTable) -> str:
    each = ", ".join(
        f"{short_tokens(context)} {gibibytes(cell.plan.total)}"
        for context, cell in zip(table.contexts, row.cells, strict=True)
    )
    return f"{row.size.level}: memory by context, {each}; usable {gibibytes(table.usable)}."
