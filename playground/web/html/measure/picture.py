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
from playground.web.html.page import empty_state
from playground.web.html.templates import render

NOTHING_YET: Final = "Choose levels and press Measure: each one becomes a point here."
_WIDTH, _HEIGHT = 680, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 26, 24, 74  # margins of the picture
_ZERO: Final = _HEIGHT - 52  # where an exact zero is drawn, below the axis
_LETTER, _LINE = 7.6, 15  # of a label


@dataclass(frozen=True)
class Point:
    """A level in the picture. x, y, radius: in its units. label_x, label_y: where its name begins."""

    x: float
    y: float
    radius: float
    name: str
    spoken: str
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
    positive = [row.divergence for row in measured if row.divergence and row.divergence > 0]
    low = max(LEAST_POWER, math.floor(math.log10(min(positive)))) if positive else -3
    high = max(math.ceil(math.log10(max(positive))) if positive else 0, low + 1)
    largest = max(1, *(row.size for row in measured)) * 1.12
    fits_at = usable if usable <= largest * 1.6 else None
    span = max(largest, (fits_at or 0) * 1.05)

    def x_of(size: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * size / span

    def y_of(divergence: float) -> float:
        if divergence <= 0:
            return _ZERO
        share = max(0.0, math.log10(divergence) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    frontier = efficient_frontier(measured)
    fastest = max((row.speed or 0.0 for row in measured), default=0.0)
    several = len({(row.key.model, row.key.source) for row in measured}) > 1
    points = _labelled(
        [
            (
                x_of(row.size), y_of(row.divergence or 0.0),
                5 + 7 * math.sqrt((row.speed or 0.0) / fastest) if fastest else 6.0,
                _short_name(row, several), figures_in_words(row), row in frontier,
            )
            for row in measured
        ]
    )  # fmt: skip
    line = " ".join(f"{x_of(row.size):.1f},{y_of(row.divergence or 0.0):.1f}" for row in frontier)
    ticks = [(y_of(10.0**power), f"{10.0**power:g}") for power in range(low, high + 1)]
    return render(
        "measure.html#picture", points=points, line=line, y_ticks=ticks, x_ticks=_size_ticks(span, x_of),
        fits_x=None if fits_at is None else x_of(fits_at), fits=gigabytes(usable), width=_WIDTH, height=_HEIGHT,
        left=_LEFT, right=_WIDTH - _RIGHT, top=_TOP, bottom=_HEIGHT - _BOTTOM, zero=_ZERO,
        others=others, has_zero=any((row.divergence or 0.0) <= 0 for row in measured), has_speed=fastest > 0,
    )  # fmt: skip


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


def _labelled(raw: Sequence[tuple[float, float, float, str, str, bool]]) -> list[Point]:
    """Each name on the side of its point where it covers least: right, left, above or below."""
    taken = [(x - radius, y - radius, x + radius, y + radius) for x, y, radius, *_ in raw]
    points = []
    for x, y, radius, name, spoken, is_efficient in raw:
        wide = len(name) * _LETTER
        places = [
            (x + radius + 5, y + 4),
            (x - radius - 5 - wide, y + 4),
            (x - wide / 2, y - radius - 6),
            (x - wide / 2, y + radius + 14),
            (x + radius + 5, y - 10),
            (x + radius + 5, y + 18),
        ]

        def cost(place: tuple[float, float], wide: float = wide) -> float:
            box = (place[0], place[1] - _LINE + 3, place[0] + wide, place[1] + 3)
            covered = sum(_overlap(box, other) for other in taken)
            outside = max(0.0, _LEFT - box[0]) + max(0.0, box[2] - _WIDTH) + max(0.0, _TOP - 14 - box[1])
            return covered + 50 * outside

        label_x, label_y = min(places, key=cost)
        taken.append((label_x, label_y - _LINE + 3, label_x + wide, label_y + 3))
        points.append(Point(x, y, radius, name, spoken, label_x, label_y, is_efficient))
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
