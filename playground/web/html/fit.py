"""The Fit tab's markup: the table of levels and contexts, its answer in a sentence, the simple sum beside the plan.

Pure functions of records; asks nothing. Pictures of memory have their own room (render_fit_charts.py).
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from playground.fit.table import COMPUTERS_GB, SYSTEM_KEEPS_BYTES, computers_for
from playground.fit.verdict import VerdictKind
from playground.text_format import count, gibibytes, gibibytes_apart, pages, short_tokens
from playground.web.html.memory import verdict_chip

if TYPE_CHECKING:
    from playground.app.fit import FitView, KvComparison
    from playground.fit.table import FitCell, FitRow, FitTable


import math
from typing import TYPE_CHECKING

from playground.text_format import GIBIBYTE

if TYPE_CHECKING:
    from playground.fit.plan import MemoryPlan
    from playground.fit.table import FitRow, FitTable


SIGNS: Final[dict[VerdictKind, str]] = {"fits": "✓", "tight": "!", "wont_fit": "✕"}
_AGREES: Final = 1.1  # the sum over the plan: up to here they say the same


def memory_of(cell: FitCell) -> int:
    """What a cell's figure counts: all that every token needs, in bytes."""
    return cell.plan.working_set


def fit_rows(view: FitView) -> str:
    """The table: a row for each level, a column for each context; every cell is a button."""
    table = view.table
    if table is None:
        return ""
    head = "".join(
        f'<th scope="col"><abbr title="{count(context)} tokens">{short_tokens(context)}</abbr></th>'
        for context in table.contexts
    )
    body = "".join(_row(row, table) for row in table.rows)
    return (
        '<div class="gp-fit-scroll" tabindex="0" role="region" aria-label="Memory by level and context">'
        '<table class="gp-fit-table"><caption class="gp-hidden">'
        f"Memory that {escape(view.name)} needs at each level (rows) with each context (columns), and whether it fits."
        f'</caption><thead><tr><th scope="col">Level</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f"{_footnotes(view)}"
    )


def _row(row: FitRow, table: FitTable) -> str:
    size = row.size
    about = "≈ " if size.is_estimate else ""
    cells = "".join(
        _cell(size.level, context, cell, about) for context, cell in zip(table.contexts, row.cells, strict=False)
    )
    pending = '<td class="gp-fit-pending">…</td>' * (len(table.contexts) - len(row.cells))
    return (
        f'<tr><th scope="row"><span class="gp-level-name">{escape(size.level)}</span>'
        f'<span class="gp-figures">{about}{gibibytes(size.weight_bytes)}</span></th>{cells}{pending}</tr>'
    )


def _cell(level: str, context: int, cell: FitCell, about: str) -> str:
    kind = cell.verdict.kind
    where = f"{escape(level, quote=True)}|{context}"
    hint = escape(f"{cell.verdict.reason} {cell.verdict.remedy}".strip(), quote=True)
    return (
        f'<td><button type="button" class="gp-cell gp-{kind}" data-cell="{where}" title="{hint}">'
        f'<span class="gp-cell-word"><span aria-hidden="true">{SIGNS[kind]}</span> {escape(cell.verdict.label)}</span>'
        f'<span class="gp-cell-size">{about}{gibibytes(memory_of(cell))}</span>'
        f'<span class="gp-hidden"> {escape(level)} with {short_tokens(context)}: open in Chat</span></button></td>'
    )


def _footnotes(view: FitView) -> str:
    assert view.table
    said = ["A cell opens Chat with it."]
    if any(row.size.is_estimate for row in view.table.rows):
        said.append(
            "≈ marks a level without a file: its weights are the number of parameters times the level’s usual bits. "
            "Small models come out larger."
        )
    if any(row.size.origin == "to be made" for row in view.table.rows):
        said.append("Levels that are not on this disk yet are made from the one that is.")
    return f'<p class="gp-hint">{" ".join(said)}</p>'


def computer_line(view: FitView) -> str:
    """What the verdicts are about: how much memory, and what was assumed."""
    if view.table is None:
        return ""
    usable = gibibytes(view.table.usable)
    gb = view.choice.computer_gb
    if gb is None:
        return f'<p class="gp-hint gp-fit-computer">Judged for this computer: <b>{usable}</b> usable now.</p>'
    return (
        f'<p class="gp-hint gp-fit-computer">Judged for a computer with {gb:g} GB: <b>{usable}</b> usable. Assumed: '
        f"the system and a browser keep {gibibytes(SYSTEM_KEEPS_BYTES)}, and nothing else large is open.</p>"
    )


def answer_sentence(view: FitView) -> str:
    """ "What would I need?" in one sentence, with the verdict for the chosen computer beside it."""
    table, choice = view.table, view.choice
    cell = table.cell(choice.level or "", choice.context or 0) if table else None
    if table is None or cell is None:
        return '<p class="gp-fit-answer">Working it out …</p>'
    row = next(row for row in table.rows if row.size.level == choice.level)
    about = "about " if row.size.is_estimate else ""
    what = f"{escape(view.name)} at {escape(row.size.level)} with {short_tokens(choice.context or 0)} tokens"
    needed = memory_of(cell)
    return (
        f'<p class="gp-fit-answer">{verdict_chip(cell.verdict)} <span>{what} needs {about}<b>{gibibytes(needed)}</b>: '
        f"{_computers(cell)}; {_here(view, needed)}.</span></p>"
        f'<p class="gp-hint">{short_tokens(choice.context or 0)} tokens hold {pages(choice.context or 0)}.</p>'
    )


def _computers(cell: FitCell) -> str:
    wanted = computers_for(cell.plan)
    if wanted.enough is None:
        return "more than any of the computers above can give"
    if wanted.comfortable == wanted.enough:
        return f"a computer with <b>{wanted.enough} GB</b> of memory is enough"
    roomy = f", with {wanted.comfortable} GB there is room to spare" if wanted.comfortable else ""
    return f"a computer with <b>{wanted.enough} GB</b> of memory just manages it{roomy}"


def _here(view: FitView, needed: int) -> str:
    assert view.table
    needed_text, usable_text = gibibytes_apart(needed, view.table.usable)
    computer = "this one" if view.choice.computer_gb is None else f"one with {view.choice.computer_gb:g} GB"
    if needed > view.table.usable:
        return f"{computer} can give {usable_text}, which is too little"
    return f"{computer} can give {usable_text}" + (
        " of the needed " + needed_text if needed_text == usable_text else ""
    )


# --- the simple sum beside the plan ---


def kv_rows(view: FitView) -> str:
    """The KV cache of each context, reckoned simply and as llama.cpp keeps it, explained in two sentences."""
    kv = view.kv
    if kv is None:
        return ""
    most = max(*kv.naive, *kv.planned, 1)
    rows = "".join(
        f'<tr><th scope="row">{short_tokens(context)}</th>{_bar(naive, most, "naive")}{_bar(planned, most, "kv")}'
        f"<td>{_times(naive, planned)}</td></tr>"
        for context, naive, planned in zip(kv.contexts, kv.naive, kv.planned, strict=True)
    )
    return (
        '<h2 class="gp-fit-title">The simple sum, and what is really kept</h2>'
        f'<p class="gp-fit-text">{_two_sentences(view, kv)}</p>'
        '<table class="gp-table gp-kv-table"><caption class="gp-hidden">KV cache by context</caption><thead><tr>'
        '<th scope="col">Context</th><th scope="col">Simple sum</th><th scope="col">Really kept (KV cache)</th>'
        f'<th scope="col">Ratio</th></tr></thead><tbody>{rows}</tbody></table>'
    )  # fmt: skip


def _bar(size: int, most: int, kind: str) -> str:
    return (
        f'<td><span class="gp-kv-size">{gibibytes(size)}</span><span class="gp-kv-bar gp-kv-{kind}" aria-hidden="true">'
        f'<i style="width:{max(100 * size / most, 0.5):.1f}%"></i></span></td>'
    )


def _times(naive: int, planned: int) -> str:
    if not planned:
        return "–"
    ratio = naive / planned
    return "the same" if 1 / _AGREES < ratio < _AGREES else f"{ratio:.1f}×" if ratio < 10 else f"{ratio:.0f}×"


def _two_sentences(view: FitView, kv: KvComparison) -> str:
    name = escape(view.name)
    attention = kv.attention
    naive, planned, context = kv.naive[-1], kv.planned[-1], kv.contexts[-1]
    simple = (
        f"The KV cache is often reckoned as layers × heads × width × context, which gives {gibibytes(naive)} for "
        f"{short_tokens(context)} tokens, as if each of the {attention.layers} layers kept the whole text."
    )
    if naive < _AGREES * planned:
        return f"{simple} In {name}, every layer does, so the simple sum is right."
    if attention.window and attention.window < context:
        some = f"{attention.windowed_layers} of them" if attention.windowed_layers else "many of them"
        return (
            f"{simple} In {name}, {some} look back on a window of {count(attention.window)} tokens only, so "
            f"<b>{gibibytes(planned)}</b> are enough: {_times(naive, planned).rstrip('×')} times less."
        )
    return (
        f"{simple} In {name}, most layers keep a short summary of a fixed size, or a compressed form, so "
        f"<b>{gibibytes(planned)}</b> are enough: {_times(naive, planned).rstrip('×')} times less."
    )


def not_here(problem: str, remedy: str) -> str:
    """Where a model can be had that is not on this disk."""
    return (
        f'<div class="gp-card gp-info" role="status"><p><strong>{escape(problem)}</strong> {escape(remedy)}</p></div>'
    )


def computer_choices(usable: int) -> list[tuple[str, str]]:
    """The choices of the switch between computers; (name to read, value)."""
    return [
        (f"This one ({gibibytes(usable)} usable)", "this"),
        *((f"{size} GB", str(size)) for size in COMPUTERS_GB),
        ("Another", "other"),
    ]


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
        _chart_bar(number, len(table.contexts), cell.plan, context, scale)
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


def _chart_bar(number: int, bars: int, plan: MemoryPlan, context: int, scale: float) -> str:
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
