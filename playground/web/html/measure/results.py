"""Records to markup for the Measure tab: the estimate, the runs, the picture, the table and the answers to tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from playground.app.measure.service import LevelChoice, RunEstimate, RunView
from playground.chat.template.message import MalformedCall
from playground.measure.abilities.paired import compare_paired
from playground.measure.export import (
    category_figures,
    conditions,
    divergence_from_server,
    score_with_interval,
    with_error,
)
from playground.measure.results import (
    ABILITIES,
    ResultRow,
    RowKey,
    What,
    comparable_rows,
    efficient_frontier,
    imports_of,
)
from playground.text_format import (
    GIGABYTE,
    UNKNOWN,
    about,
    counted,
    gigabytes,
    one_line,
    percent,
    speed,
    speed_with_deviation,
)
from playground.web.html.page import empty_state
from playground.web.html.templates import render
from playground.web.html.tool_cards import around_wrong_letter

NOTHING_YET: Final = "Choose levels and press Measure: each one becomes a point here."
STATES: Final = {
    "queued": "Waits", "running": "Running", "done": "Done", "stopped": "Stopped", "failed": "Done, with failures",
}  # fmt: skip
_WIDTH, _HEIGHT = 680, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 26, 24, 74  # margins of the picture
_ZERO: Final = _HEIGHT - 52  # where an exact zero is drawn, below the axis
_LETTER, _LINE = 7.6, 15  # of a label
_LEAST_POWER: Final = -9  # of ten, where the axis begins at the latest: less is rounding


def level_choices(levels: Sequence[LevelChoice]) -> list[tuple[str, str]]:
    """(`Q2_0 · 62.2 MB · is made first`, level)."""
    return [
        (f"{each.level} · {gigabytes(each.size)}{'' if each.is_here else ' · is made first'}", each.level)
        for each in levels
    ]


def estimate(run: RunEstimate) -> Markup:
    """What a run will take, in figures, before it begins."""
    facts = [
        ("Measurements", f"{run.items:,}"),
        ("Time", about(run.seconds) if run.seconds else "known once a speed was measured here"),
        ("Memory at most", UNKNOWN if run.memory_bytes is None else f"about {gigabytes(run.memory_bytes)}"),
    ]
    if run.disk_bytes:
        short = ", in the shorter form: the disk has no room for all of it" if run.is_short_of_disk else ""
        facts.append(("Disk while it runs", f"up to {gigabytes(run.disk_bytes)}{short}"))
    if run.to_make:
        facts.append(("Made first and kept", f"{', '.join(run.to_make)} ({gigabytes(run.made_bytes)})"))
    return render("measure.html#estimate", facts=facts)


def runs(views: Sequence[RunView]) -> str:
    """The newest runs with their progress, Stop and Continue; "" while there is none."""
    return render("measure.html#runs", runs=[_run(view) for view in views]) if views else ""


def _run(view: RunView) -> dict[str, Any]:
    stored, plan = view.stored, view.stored.plan
    progress = view.progress if view.position == 0 else None
    share = progress.done if progress else len(stored.finished) / max(1, view.items)
    if view.position is None:
        words = [STATES[stored.state], f"{len(stored.finished) - len(view.failed)} of {view.items} measured"]
    elif view.position > 0:
        words = [f"Waits for {counted(view.position, 'run')} before it"]
    else:
        words = [progress.waiting or progress.stage if progress else "Starting", percent(share)]
        if progress and progress.seconds_left is not None:
            words.append(f"{about(progress.seconds_left)} left")
    is_complete = view.position is None and stored.state == "done"
    return {
        "number": stored.id,
        "name": f"{plan['model']} · {', '.join(plan['levels'])}",
        "what": ", ".join(plan["whats"]),
        "figures": words,
        "share": share,
        "is_over": view.position is None,
        "can_continue": view.position is None and not is_complete,
        "problem": stored.problem,
        "failed": sorted(view.failed.items()),
    }


# --- the picture ---


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
    low = max(_LEAST_POWER, math.floor(math.log10(min(positive)))) if positive else -3
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


# --- the table ---


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


def divergence_text(row: ResultRow, name: str = "kl_divergence") -> str:
    """`0.0123 ± 0.0004`, of the mean or of another figure of the divergence; exactly `0` only for nothing."""
    value, error = row.figure("fidelity", name), row.figure("fidelity", f"{name}_error")
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    digits = min(2 - _LEAST_POWER, max(2, 2 - math.floor(math.log10(abs(value)))))
    return f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if error else "")


def plain_sentence(row: ResultRow) -> str:
    """What a level costs in plain words: `another word than the original in 6 of 100 places`."""
    if row.is_reference:
        return "the original: the others are compared with it"
    parts = []
    if (agreement := row.figure("fidelity", "top_token_agreement")) is not None:
        parts.append(f"another word than the original in {_places(agreement)} places")
    if (same := row.figure("server", "same_words")) is not None:
        server = one_line(row.by_what["server"].reference, 60)
        parts.append(f"another word than {server} in {_places(same)} places of its answers")
    if (wrong := row.figure("tools", "wrong_calls")) is not None:
        parts.append(f"{wrong:.0f} of {row.figure('tools', 'items'):.0f} tool calls wrong")
    if (passed := row.figure("instructions", "passed")) is not None:
        items = row.figure("instructions", "items") or 0.0
        parts.append(f"{items - passed:.0f} of {items:.0f} instructions not followed")
    return "; ".join(parts)


def _places(agreement: float) -> str:
    """In how many places two models differ, in words: `6 of 100`."""
    other = 100 * (1 - agreement)
    return f"{other:.0f} of 100" if other >= 1 else f"{10 * other:.0f} of 1,000" if other >= 0.1 else "almost no"


def table(rows: Sequence[ResultRow]) -> Markup | str:
    """Every figure of every level as text; "" without rows."""
    if not rows:
        return ""
    efficient = {row.key.on_any_device for row in efficient_frontier(comparable_rows(rows))}
    lines = [
        {
            "number": number,
            "row": row,
            "plain": plain_sentence(row),
            "is_efficient": row.key.on_any_device in efficient,
            "cells": _cells(row, with_server=any("server" in each.by_what for each in rows)),
            "has_answers": any(row.by_what.get(what) for what in ABILITIES),
            "categories": [_category(*each) for each in category_figures(row).items()],
        }
        for number, row in enumerate(rows)
    ]
    return render("measure.html#table", lines=lines, conditions=conditions(rows), imports=imports_of(rows))


def _category(name: str, figures: Mapping[str, float | None]) -> list[str]:
    """The cells of a kind of text."""
    tokens, share, error = (figures[key] for key in ("tokens", "top_token_agreement", "top_token_agreement_error"))
    return [
        name,
        UNKNOWN if tokens is None else f"{tokens:,.0f}",
        with_error(figures["perplexity"], figures["perplexity_error"], 3),
        with_error(figures["kl_divergence"], figures["kl_divergence_error"], 5),
        UNKNOWN if share is None else f"{share:.1%}" + ("" if error is None else f" ± {error:.1%}"),
    ]


def _cells(row: ResultRow, *, with_server: bool) -> list[tuple[str, str]]:
    """(heading, text) of each figure. with_server: a level was compared with a server's model."""

    def number(what: What, name: str, digits: int) -> str:
        value = row.figure(what, name)
        error = row.figure(what, f"{name}_error")
        if value is None:
            return UNKNOWN
        return f"{value:,.{digits}f}" + (f" ± {error:,.{digits}f}" if error else "")

    def share(what: What, name: str) -> str:
        value, error = row.figure(what, name), row.figure(what, f"{name}_error")
        return UNKNOWN if value is None else f"{value:.1%}" + (f" ± {error:.1%}" if error else "")

    memory = row.figure("speed", "memory_resident")
    return [
        ("Size", gigabytes(row.size or None)),
        ("KL divergence", divergence_text(row)),
        ("Same top token", share("fidelity", "top_token_agreement")),
        ("Reply", _speed(row, "tg")),
        ("Prompt", _speed(row, "pp")),
        ("Memory", gigabytes(None if memory is None else int(memory))),
        ("Instructions", score_with_interval(row, "instructions")),
        ("Tool calls", score_with_interval(row, "tools")),
        ("Reasoning", score_with_interval(row, "reasoning")),
        *([("Same as the server", share("server", "same_words"))] if with_server else []),
        *([("KL from the server", divergence_from_server(row))] if with_server else []),
        ("Perplexity", number("fidelity", "perplexity", 3)),
        ("KL median", divergence_text(row, "kl_median")),
        ("KL 99 %", divergence_text(row, "kl_99")),
        ("KL largest", divergence_text(row, "kl_maximum")),
    ]


def _speed(row: ResultRow, short: str) -> str:
    """short: "pp" for reading a prompt, "tg" for writing a reply."""
    found = row.by_what.get("speed")
    return speed_with_deviation(
        row.figure("speed", f"{short}_tokens_per_second"), row.figure("speed", f"{short}_deviation"),
        disturbed=bool(found and found.figures.get(f"{short}_disturbed")),
    )  # fmt: skip


# --- the answers ---


def answers(row: ResultRow, reference: ResultRow | None) -> Markup:
    """Each task with its prompt and the answer, the failed ones first, and which flipped against the reference."""
    suites = []
    for what in ABILITIES:
        if not (found := row.by_what.get(what)):
            continue
        compared, flipped = "", set[int]()
        other = reference.by_what.get(what) if reference and reference.key != row.key else None
        if other:
            pair = compare_paired(other.details, found.details)
            flipped = {*pair.only_first, *pair.only_second}
            compared = (
                f"Against {other.level}: {counted(len(pair.only_first), 'answer')} lost, "
                f"{len(pair.only_second)} gained; by chance alone a split as uneven as that has a probability of "
                f"{pair.p_value:.2g} (McNemar’s exact test)."
            )
        tasks = sorted(found.details, key=lambda task: (bool(task.get("passed")), int(task.get("task", 0))))
        shown = [{"flipped": task.get("task") in flipped, **_task(task)} for task in tasks]
        title = {"instructions": "Instructions", "tools": "Tool calls", "reasoning": "Reasoning"}[what]
        folded = [task for task in shown if task["passed"] and not task["flipped"]]
        suites.append(
            {
                "title": title, "score": score_with_interval(row, what), "compared": compared,
                "tasks": [task for task in shown if task not in folded], "folded": folded,
            }
        )  # fmt: skip
    return render("measure.html#answers", name=row.key.name, suites=suites)


def _task(task: Any) -> dict[str, Any]:
    """A task's result as text; it may come from a stranger's file."""
    return {
        "number": str(task.get("task", "")),
        "passed": bool(task.get("passed")),
        "prompt": str(task.get("prompt", "")),
        "answer": str(task.get("answer", "")),
        "problem": str(task.get("problem", "")),
        "returned": str(task["returned"]) if "returned" in task else "",
        "final": str(task.get("final_answer", "")),
        "broken": _broken_call(task.get("broken")),
    }


def _broken_call(found: Any) -> tuple[str, str, str] | None:
    """The call in three parts, the second of them its first wrong letter; None where none is broken."""
    if not isinstance(found, dict):
        return None
    place = found.get("place")
    is_place = isinstance(place, int) and place >= 0
    return around_wrong_letter(MalformedCall(str(found.get("text", "")), "", place if is_place else None))
