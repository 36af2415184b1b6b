"""How the speed of each level holds, as markup: a line over the depth of the context, a table, sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from markupsafe import Markup

from playground.measure.profile import SpeedRow, limit_share, profile_rows, profile_sentences, replies_by_depth
from playground.measure.results import ResultRow
from playground.text_format import UNKNOWN, percent, short_tokens, speed, speed_with_deviation
from playground.web.html.measure.canvas import Canvas
from playground.web.html.templates import render

_WIDE: Final = Canvas("gp-drawn-wide", 680, 260, left=66, right=110, top=24, bottom=48, said_x=66)
_NARROW: Final = Canvas("gp-drawn-narrow", 340, 280, left=44, right=70, top=72, bottom=48, said_x=8)
_TICKS: Final = 4
_TICK: Final = 26  # room for the number of a depth
_LINE, _LETTER = 16, 7.6  # of the names at the ends of the lines


_MeasuredLine = tuple[ResultRow, Mapping[str, Any], list[SpeedRow]]  # a level, its figures, its replies by depth


def speed_profile(rows: Sequence[ResultRow]) -> Markup | str:
    """Empty where no profile was measured."""
    measured = [row for row in rows if "profile" in row.by_what]
    lines: list[_MeasuredLine] = []
    for row in measured:
        figures = row.by_what["profile"].figures
        used = figures.get("used_threads")
        replies = replies_by_depth(profile_rows(figures), used if isinstance(used, int) else 0)
        if replies:
            lines.append((row, figures, replies))
    if not lines:
        return ""
    depths = sorted({reply.depth for _, _, replies in lines for reply in replies})
    return render(
        "measure_profile.html#profile",
        charts=[_chart(lines, depths, canvas) for canvas in (_WIDE, _NARROW)] if len(depths) > 1 else [],
        depths=[short_tokens(depth) if depth else "0" for depth in depths],
        lines=[
            {
                "name": row.key.name,
                "source": row.key.source,
                "cells": [_reply_text(replies, depth) for depth in depths],
                "chats": _chats_text(figures),
                "limit": UNKNOWN if (share := limit_share(figures, replies[0])) is None else percent(share),
                "sentences": profile_sentences(figures),
                "tests": [
                    (
                        each.test,
                        f"{each.threads:,}",
                        speed_with_deviation(each.tokens_per_second, each.deviation, disturbed=each.disturbed),
                    )
                    for each in profile_rows(figures)
                ],
            }
            for row, figures, replies in lines
        ],
    )


def _reply_text(replies: Sequence[SpeedRow], depth: int) -> str:
    found = next((reply for reply in replies if reply.depth == depth), None)
    return speed(found.tokens_per_second, disturbed=found.disturbed) if found else UNKNOWN


def _chats_text(figures: Mapping[str, Any]) -> str:
    several = [row for row in profile_rows(figures) if row.concurrent > 1]
    if not several:
        return UNKNOWN
    most = max(several, key=lambda row: row.concurrent)
    return f"{speed(most.tokens_per_second, disturbed=most.disturbed)} ({most.concurrent})"


def _chart(lines: Sequence[_MeasuredLine], depths: Sequence[int], canvas: Canvas) -> dict[str, Any]:
    """Tokens per second over the depth, from zero, so that half as fast is half as high."""
    longest = 14 + _LETTER * max(len(row.key.name) for row, _, _ in lines)
    canvas = replace(canvas, right=round(min(max(canvas.right, longest), canvas.width / 2)))
    highest = 1.08 * max(reply.tokens_per_second for _, _, replies in lines for reply in replies)

    def x_of(depth: float) -> float:
        return canvas.left + (canvas.inner_right - canvas.left) * depth / depths[-1]

    def y_of(rate: float) -> float:
        return canvas.inner_bottom - (canvas.inner_bottom - canvas.top) * rate / highest

    drawn: list[dict[str, Any]] = []
    for row, _, replies in lines:
        places = [(x_of(reply.depth), y_of(reply.tokens_per_second)) for reply in replies]
        spoken = ", ".join(f"{speed(each.tokens_per_second)} after {each.depth:,} tokens" for each in replies)
        spoken = f"{row.key.name}: {spoken}"
        drawn.append({"name": row.key.name, "places": places, "spoken": spoken, "said": canvas.spoken_lines(spoken)})
    label_y = 0.0
    for each in sorted(drawn, key=lambda line: line["places"][-1][1]):
        label_y = max(label_y + _LINE, each["places"][-1][1] + 4)
        each["label"] = (each["places"][-1][0] + 8, label_y)
    raw = highest / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    return {
        "lines": drawn,
        "canvas": canvas,
        "y_ticks": [(y_of(step * number), f"{step * number:.3g}") for number in range(int(highest / step) + 1)],
        "x_ticks": [(x_of(depth), short_tokens(depth) if depth else "0") for depth in _apart(depths, canvas)],
    }  # fmt: skip


def _apart(depths: Sequence[int], canvas: Canvas) -> list[int]:
    """Without those that would stand on another's number."""
    kept = [depths[-1]]
    for depth in reversed(depths[:-1]):
        if (kept[-1] - depth) / depths[-1] * (canvas.inner_right - canvas.left) > _TICK:
            kept.append(depth)
    return kept[::-1]
