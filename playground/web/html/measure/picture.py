"""The picture of the Measure tab: the size of each level against its KL divergence, as markup."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from playground.measure.export import LEAST_POWER, divergence_text
from playground.measure.results import ResultRow, RowKey, comparable_rows, efficient_frontier
from playground.text_format import GIGABYTE, gigabytes, speed
from playground.web.html.measure.canvas import Canvas
from playground.web.html.page import empty_state
from playground.web.html.templates import render

NOTHING_YET: Final = "Choose levels and press Measure: each one becomes a point here."
_WIDE: Final = Canvas("gp-drawn-wide", 680, 420, left=66, right=26, top=24, bottom=74, said_x=66)
_NARROW: Final = Canvas("gp-drawn-narrow", 340, 380, left=50, right=12, top=72, bottom=74, said_x=8)
_BELOW: Final = 22  # the place of an exact zero, below the axis
_FITS_LETTERS: Final = 150  # about the width of the words beside the line of what fits
_LETTER, _LINE = 7.6, 15  # of a label
_EDGE: Final = 4  # between a label and the frame


@dataclass(frozen=True)
class Point:
    """A level in the picture. x, y, radius: in its units. spoken: its figures; said: the same in lines.

    label_x, label_y: where its name begins.
    """

    x: float
    y: float
    radius: float
    name: str
    spoken: str
    said: list[str]
    label_x: float
    label_y: float
    is_efficient: bool


def picture(rows: Sequence[ResultRow], usable: int) -> Markup | str:
    """Size against KL divergence on a logarithmic axis: a point for each level, larger where it writes faster.

    The efficient frontier is a line: its levels are beaten by no other. usable: bytes, the line of what fits here. An
    exact zero, which a logarithm does not have, lies below the axis.
    """
    drawn = [row for row in comparable_rows(rows) if row.divergence is not None]
    others = sum(row.divergence is not None for row in rows) - len(drawn)
    measured = _on_fastest_devices(drawn)
    if not measured:
        return empty_state("No picture yet", NOTHING_YET)
    return render(
        "measure.html#picture",
        drawings=[_drawing(measured, usable, canvas) for canvas in (_WIDE, _NARROW)],
        others=others,
        has_zero=any((row.divergence or 0.0) <= 0 for row in measured),
        has_speed=any(row.speed for row in measured),
        is_alone=all(row.is_reference for row in measured),
        fits="" if _is_near(usable, measured) else gigabytes(usable),
    )


def _is_near(usable: int, rows: Sequence[ResultRow]) -> bool:
    """Whether the line of what fits is drawn: far to the right, it would press all points together."""
    return usable <= 1.6 * _largest(rows)


def _largest(rows: Sequence[ResultRow]) -> float:
    """Bytes, with some room beside the point."""
    return max(1, *(row.size for row in rows)) * 1.12


def _drawing(rows: Sequence[ResultRow], usable: int, canvas: Canvas) -> dict[str, Any]:
    """The picture in one size, for measure.html."""
    positive = [row.divergence for row in rows if row.divergence and row.divergence > 0]
    low = max(LEAST_POWER, math.floor(math.log10(min(positive)))) if positive else -3
    high = max(math.ceil(math.log10(max(positive))) if positive else 0, low + 1)
    fits_at = usable if _is_near(usable, rows) else None
    span = max(_largest(rows), (fits_at or 0) * 1.05)
    zero = canvas.inner_bottom + _BELOW

    def x_of(size: float) -> float:
        return canvas.left + (canvas.inner_right - canvas.left) * size / span

    def y_of(divergence: float) -> float:
        if divergence <= 0:
            return zero
        share = max(0.0, math.log10(divergence) - low) / (high - low)
        return canvas.inner_bottom - share * (canvas.inner_bottom - canvas.top)

    frontier = efficient_frontier(rows)
    fastest = max((row.speed or 0.0 for row in rows), default=0.0)
    several = len({(row.key.model, row.key.source) for row in rows}) > 1
    points = _labelled(
        [
            (
                x_of(row.size), y_of(row.divergence or 0.0),
                5 + 7 * math.sqrt((row.speed or 0.0) / fastest) if fastest else 6.0,
                _short_name(row, several), figures_in_words(row), row in frontier,
            )
            for row in rows
        ],
        canvas,
    )  # fmt: skip
    fits_x = None if fits_at is None else x_of(fits_at)
    return {
        "canvas": canvas,
        "zero": zero,
        "points": points,
        "line": " ".join(f"{x_of(row.size):.1f},{y_of(row.divergence or 0.0):.1f}" for row in frontier),
        "y_ticks": [(y_of(10.0**power), f"{10.0**power:g}") for power in range(low, high + 1)],
        "x_ticks": _size_ticks(span, x_of),
        "fits_x": fits_x,
        "fits": gigabytes(usable),
        "fits_is_left": fits_x is not None and fits_x - canvas.left > _FITS_LETTERS,
        "has_zero": any((row.divergence or 0.0) <= 0 for row in rows),
    }


def _on_fastest_devices(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """One row for each level: several devices would lie at the same place."""
    fastest: dict[RowKey, ResultRow] = {}
    for row in rows:
        known = fastest.setdefault(row.key.on_any_device, row)
        if (row.speed or 0.0) > (known.speed or 0.0):
            fastest[row.key.on_any_device] = row
    return list(fastest.values())


def _short_name(row: ResultRow, several: bool) -> str:
    """The level; with its model or its source where several are shown."""
    name = row.key.name
    if row.key.source:
        return f"{name} ({row.key.source[:18]})"
    return f"{row.key.model[:18]} {name}" if several else name


def _size_ticks(span: float, x_of: Any) -> list[tuple[float, str]]:
    """About five round sizes, each with its place."""
    raw = span / GIGABYTE / 5
    step = 10.0 ** math.floor(math.log10(raw))
    step = next(step * factor for factor in (1, 2, 5, 10) if step * factor >= raw)
    count = int(span / GIGABYTE / step)
    return [(x_of(step * number * GIGABYTE), f"{step * number:.4g}") for number in range(count + 1)]


def _labelled(raw: Sequence[tuple[float, float, float, str, str, bool]], canvas: Canvas) -> list[Point]:
    """Each name on the side of its point where it covers least: right, left, above or below."""
    taken = [(x - radius, y - radius, x + radius, y + radius) for x, y, radius, *_ in raw]
    points = []
    for x, y, radius, name, spoken, is_efficient in raw:
        wide = len(name) * _LETTER
        middle = min(max(x - wide / 2, canvas.left), canvas.width - _EDGE - wide)
        places = [
            (x + radius + 5, y + 4),
            (x - radius - 5 - wide, y + 4),
            (middle, y - radius - 6),
            (middle, y + radius + 14),
            (x + radius + 5, y - 10),
            (x + radius + 5, y + 18),
            (middle, y - radius - 20),
        ]

        def cost(place: tuple[float, float], wide: float = wide) -> float:
            box = (place[0], place[1] - _LINE + 3, place[0] + wide, place[1] + 3)
            covered = sum(_overlap(box, other) for other in taken)
            outside = (
                max(0.0, canvas.left - box[0])
                + max(0.0, box[2] - canvas.width + _EDGE)
                + max(0.0, canvas.top - 14 - box[1])
            )
            return covered + 50 * outside

        label_x, label_y = min(places, key=cost)
        taken.append((label_x, label_y - _LINE + 3, label_x + wide, label_y + 3))
        said = canvas.spoken_lines(spoken)
        points.append(Point(x, y, radius, name, spoken, said, label_x, label_y, is_efficient))
    return points


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, wide) * max(0.0, high)


def figures_in_words(row: ResultRow) -> str:
    """Everything about a level in one line, for hover, keyboard and screen readers."""
    parts = [row.key.name, gigabytes(row.size)]
    if row.divergence is not None:
        parts.append(f"KL divergence {divergence_text(row)}")
    if (agreement := row.figure("fidelity", "top_token_agreement")) is not None:
        parts.append(f"same most likely token {agreement:.1%}")
    if row.speed is not None:
        parts.append(speed(row.speed))
    return ", ".join(parts)
