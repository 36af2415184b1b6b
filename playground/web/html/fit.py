"""Records to markup for the Fit tab: the table of levels and contexts, the answer in a sentence, the KV cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from markupsafe import Markup

from playground.app.fit import OTHER, memory_choices
from playground.errors import PlaygroundError
from playground.fit.computers import ComputerKind
from playground.fit.table import computers_for
from playground.text_format import gigabytes, gigabytes_apart, pages, short_tokens
from playground.web.html.memory import VERDICT_SIGNS, verdict_chip
from playground.web.html.page import paragraph
from playground.web.html.templates import render

if TYPE_CHECKING:
    from playground.app.fit import FitView
    from playground.fit.budget import Budget

MXFP4_STAYS: Final = (
    "The experts of this model were trained in MXFP4 (4.25 bits per weight). Published files keep them so at every "
    "level, and only the rest changes: the levels differ little in size."
)
_AGREES_WITHIN: Final = 1.1  # a ratio of two sizes: up to here they count as the same


def computer_choices(budget: Budget, host_name: str) -> list[tuple[str, str]]:
    """(name to read, value) of the kinds of computers that a model can be judged for."""
    return [
        (f"{host_name} ({memory_in_words(budget)})", "this"),
        ("Mac", "mac"),
        ("PC with a GPU", "gpu"),
        ("PC without a GPU", "pc"),
        ("Phone", "phone"),
    ]


def memory_choices_to_read(kind: ComputerKind | None) -> list[tuple[str, str]]:
    return [("Other" if value == OTHER else f"{value} GB", value) for value in memory_choices(kind)]


def memory_in_words(budget: Budget) -> str:
    """`17.7 GB usable`, `11.7 GB on the GPU, 23.7 GB of RAM`."""
    if not budget.devices:
        return f"{gigabytes(budget.usable)} usable"
    on_gpus = gigabytes(sum(device.usable for device in budget.devices))
    gpus = "the GPU" if len(budget.devices) == 1 else f"{len(budget.devices)} GPUs"
    if all(device.unified for device in budget.devices):
        return f"{gigabytes(budget.usable)} usable, {on_gpus} of it on {gpus}"
    return f"{on_gpus} on {gpus}, {gigabytes(budget.usable)} of RAM"


def computer_line(view: FitView) -> str:
    """How much memory the verdicts count on, and what was assumed."""
    if view.table is None:
        return ""
    other = view.choice.other_computer
    return render(
        "fit.html#computer",
        name=_computer(view),
        memory=memory_in_words(view.table.budget),
        gpus=[] if other else [device.description for device in view.table.budget.devices],
        assumption=other.assumption if other else "",
        made_up=bool(other and other.has_gpu),
        is_estimate=view.is_estimate,
    )


def answer_sentence(view: FitView) -> str:
    """ "What would I need?" in one sentence, with the verdict for the chosen computer beside it."""
    table, choice = view.table, view.choice
    cell = table.cell(choice.level or "", choice.context or 0) if table else None
    if table is None or cell is None:
        return "" if isinstance(view.message, PlaygroundError) else paragraph("Planning …", "gp-fit-answer")
    row = next(row for row in table.rows if row.size.level == choice.level)
    needed, usable = gigabytes_apart(cell.plan.needed_everywhere, table.usable)
    return render(
        "fit.html#answer",
        chip=Markup(verdict_chip(cell.verdict)),
        name=view.name,
        level=row.size.level,
        tokens=short_tokens(choice.context or 0),
        held=pages(choice.context or 0),
        about="at most " if row.size.is_estimate else "",
        needed=gigabytes(cell.plan.needed_everywhere) if cell.reason else needed,
        on_cpu=gigabytes(cell.on_cpu.needed),
        need=computers_for(cell.on_cpu),
        where=cell.reason,
        computer=_computer(view),
        usable=usable,
        verdict=cell.verdict,
    )


def _computer(view: FitView) -> str:
    other = view.choice.other_computer
    return other.name if other else view.host_name


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
    if view.table.budget.devices and origins - {"file"}:
        notes.append(
            "llama.cpp’s dry run plans how many layers fit. Of levels without a file that is an estimate: all layers "
            "are taken to shrink alike."
        )
    if "to be made" in origins:
        notes.append("Levels that are not here yet are made from the file that is.")
    if view.keeps_mxfp4:
        notes.append(MXFP4_STAYS)
    shows_speeds = view.choice.other_computer is None  # a place is kept until they are known
    notes.append(
        "Expected speed: at the beginning of a chat, on a quiet computer; a long text is slower."
        if shows_speeds
        else "How fast another computer writes is not known here: –."
    )
    return render(
        "fit.html#table",
        name=view.name,
        table=view.table,
        shows_speeds=shows_speeds,
        signs=VERDICT_SIGNS,
        notes=notes,
    )


# --- the KV cache ---


def kv_headline(view: FitView) -> str:
    """The rule of thumb beside what is really kept, at the largest context of the model, and why they differ."""
    kv = view.kv
    if kv is None or not kv.planned[-1]:
        return ""
    window = kv.attention.window
    return render(
        "fit.html#kv_headline",
        name=view.name,
        attention=kv.attention,
        context=kv.contexts[-1],
        naive=kv.naive[-1],
        planned=kv.planned[-1],
        agrees=kv.naive[-1] < _AGREES_WITHIN * kv.planned[-1],
        window=window if window and window < kv.contexts[-1] else None,
    )


def kv_table(view: FitView) -> str:
    """The KV cache at each context, by the rule of thumb and as llama.cpp keeps it."""
    kv = view.kv
    if kv is None:
        return ""
    rows = [
        (context, naive, planned, _ratio(naive, planned))
        for context, naive, planned in zip(kv.contexts, kv.naive, kv.planned, strict=True)
    ]
    return render("fit.html#kv_cache", rows=rows, most=max(*kv.naive, *kv.planned, 1))


def _ratio(naive: int, planned: int) -> str:
    if not planned:
        return "–"
    ratio = naive / planned
    if 1 / _AGREES_WITHIN < ratio < _AGREES_WITHIN:
        return "the same"
    return f"{ratio:.1f}×" if ratio < 10 else f"{ratio:.0f}×"
