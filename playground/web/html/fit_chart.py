"""Draws memory by context: a line for each level on a logarithmic axis, shaded where the computer has no more.

Lines and areas are an SVG that stretches with the page; all words are HTML on top of it, so that they keep their size
on a phone. To a screen reader the chart is one picture, named by sentences; the table below has the same figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from playground.text_format import GIGABYTE, gigabytes, short_tokens
from playground.web.html.templates import render

if TYPE_CHECKING:
    from playground.app.fit import FitView
    from playground.fit.budget import Budget
    from playground.fit.table import FitRow, FitTable

_MOST_GRID_LINES: Final = 4
_LIMIT_WITHIN: Final = 1.6  # the memory of the computer is drawn where it is at most so many times the highest line
_ABOVE: Final = 1.06  # room above the highest line
_NAME_HEIGHT: Final = 7.0  # per cent of the chart: names of two levels are at least so far apart
_LIMIT_HEIGHT, _LIMIT_WIDTH = 10.0, 50.0  # per cent of the chart that the name of a limit takes, on a phone


@dataclass(frozen=True)
class _Dot:
    """x, y: per cent of the chart, from the left and from the top."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class _Line:
    """One level. name_y: where its name stands beside the chart, near its end."""

    level: str
    dots: tuple[_Dot, ...]
    name_y: float
    is_chosen: bool

    @property
    def points(self) -> str:
        return " ".join(f"{dot.x:.2f},{dot.y:.2f}" for dot in self.dots)


@dataclass(frozen=True)
class _MemoryEnd:
    """From here up the chart is shaded. kind: "gpu" where layers move to RAM, "all" where a model no longer fits.

    is_below: its name stands below it, because a level's line, or the chart's edge, is just above.
    """

    kind: str
    y: float
    label: str
    is_below: bool


def memory_chart(view: FitView) -> str:
    """The chart of a finished table; else ""."""
    table = view.table
    if table is None or not table.is_complete or not table.rows:
        return ""
    highest = max(cell.plan.needed_everywhere for row in table.rows for cell in row.cells)
    limits = _limits(table.budget)
    drawn = [size for _, size, _ in limits if size <= _LIMIT_WITHIN * highest]
    scale = _ABOVE * max([highest, *drawn])
    lines = [_line(row, table, scale, is_chosen=row.size.level == view.choice.level) for row in table.rows]
    above = [f"{label}: {gigabytes(size)}" for _, size, label in limits if size not in drawn]
    return render(
        "fit.html#chart",
        spoken=_in_words(table),
        lines=[_Line(line.level, line.dots, y, line.is_chosen) for line, y in zip(lines, _spread(lines), strict=True)],
        chosen=_chosen_dot(lines, view),
        grid=_grid(scale),
        contexts=[(_x(context, table), short_tokens(context)) for context in table.contexts],
        limits=[
            _memory_end(kind, _y(size, scale), f"{label}: {gigabytes(size)}", lines)
            for kind, size, label in limits
            if size in drawn
        ],
        above=", ".join(above),
    )


def _limits(budget: Budget) -> list[tuple[str, int, str]]:
    """(kind, bytes, name) of where the GPU's memory ends and where all memory does."""
    gpus = sum(device.usable for device in budget.devices)
    if not budget.devices:
        return [("all", budget.usable, "Usable memory")]
    if all(device.unified for device in budget.devices):
        return [("gpu", min(gpus, budget.usable), "On the GPU"), ("all", budget.usable, "All memory")]
    return [("gpu", gpus, "On the GPU"), ("all", gpus + budget.usable, "GPU and RAM")]


def _memory_end(kind: str, y: float, label: str, lines: list[_Line]) -> _MemoryEnd:
    near = [dot.y - y for line in lines for dot in line.dots if dot.x <= _LIMIT_WIDTH]
    is_above_taken = any(-_LIMIT_HEIGHT < distance < 0 for distance in near)
    is_below_taken = any(0 <= distance < _LIMIT_HEIGHT for distance in near)
    return _MemoryEnd(kind, y, label, y < _LIMIT_HEIGHT or (is_above_taken and not is_below_taken))


def _line(row: FitRow, table: FitTable, scale: float, *, is_chosen: bool) -> _Line:
    dots = tuple(
        _Dot(
            _x(context, table),
            _y(cell.plan.needed_everywhere, scale),
            f"{row.size.level}, {short_tokens(context)}: {gigabytes(cell.plan.needed_everywhere)}, "
            + ", ".join(filter(None, (cell.verdict.label, cell.where))),
        )
        for context, cell in zip(table.contexts, row.cells, strict=True)
    )
    return _Line(row.size.level, dots, dots[-1].y, is_chosen)


def _chosen_dot(lines: list[_Line], view: FitView) -> _Dot | None:
    """The level and context of the question, with its size."""
    table, choice = view.table, view.choice
    cell = table.cell(choice.level or "", choice.context or 0) if table else None
    line = next((line for line in lines if line.is_chosen), None)
    if table is None or cell is None or line is None:
        return None
    dot = line.dots[table.contexts.index(choice.context or 0)]
    return _Dot(dot.x, dot.y, gigabytes(cell.plan.needed_everywhere))


def _spread(lines: list[_Line]) -> list[float]:
    """Where the names stand, from the top: at the ends of their lines, moved so that none covers another."""
    ends = [min(line.dots[-1].y, 100.0) for line in lines]
    room = 100.0 - _NAME_HEIGHT / 2
    for index in range(len(ends) - 1, -1, -1):  # rows come from large to small, so the last line is the lowest
        ends[index] = min(ends[index], room)
        room = ends[index] - _NAME_HEIGHT
    lowest = _NAME_HEIGHT / 2
    for index, end in enumerate(ends):
        ends[index] = max(end, lowest)
        lowest = ends[index] + _NAME_HEIGHT
    return ends


def _x(context: int, table: FitTable) -> float:
    first, last = math.log2(table.contexts[0]), math.log2(table.contexts[-1])
    if first == last:
        return 50.0
    return 5.0 + 90.0 * (math.log2(context) - first) / (last - first)


def _y(byte_count: float, scale: float) -> float:
    return 100.0 - 100.0 * byte_count / scale


def _grid(scale: float) -> list[tuple[float, str]]:
    """(y, label in GB) of each grid line."""
    step = _grid_step(scale / GIGABYTE)
    lines = math.floor(scale / GIGABYTE / step) + 1
    return [(_y(number * step * GIGABYTE, scale), f"{number * step:g}") for number in range(lines)]


def _grid_step(gigabytes_shown: float) -> float:
    """1, 2 or 5 times a power of ten, so that there are at most four lines above the ground."""
    rough = gigabytes_shown / _MOST_GRID_LINES
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def _in_words(table: FitTable) -> str:
    ends = ", ".join(
        f"{row.size.level} from {gigabytes(row.cells[0].plan.needed_everywhere)} to "
        f"{gigabytes(row.cells[-1].plan.needed_everywhere)}"
        for row in table.rows
    )
    limits = ", ".join(f"{name} {gigabytes(size)}" for _, size, name in _limits(table.budget))
    first, last = short_tokens(table.contexts[0]), short_tokens(table.contexts[-1])
    return f"Memory by context, from {first} to {last} tokens: {ends}. {limits}. The table below has every figure."
