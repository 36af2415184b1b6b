"""Records to markup for the Measure tab: the estimate, the runs, the table and the answers to tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from playground.app.measure.service import LevelChoice, RunEstimate, RunView
from playground.chat.template.message import MalformedCall
from playground.measure.abilities.paired import compare_paired
from playground.measure.export import (
    category_figures,
    conditions,
    divergence_from_server,
    divergence_text,
    divergence_with_error,
    perplexity_with_error,
    score_with_interval,
)
from playground.measure.results import (
    ABILITIES,
    ResultRow,
    What,
    comparable_rows,
    efficient_frontier,
    imports_of,
)
from playground.text_format import (
    UNKNOWN,
    about,
    counted,
    gigabytes,
    one_line,
    percent,
    speed_with_deviation,
)
from playground.web.html.templates import render
from playground.web.html.tool_cards import around_wrong_letter

STATES: Final = {
    "queued": "Waits", "running": "Running", "done": "Done", "stopped": "Stopped", "failed": "Done, with failures",
}  # fmt: skip


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


# --- the table ---


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
            "categories": [_category(row, *each) for each in category_figures(row).items()],
        }
        for number, row in enumerate(rows)
    ]
    return render("measure.html#table", lines=lines, conditions=conditions(rows), imports=imports_of(rows))


def _category(row: ResultRow, name: str, figures: Mapping[str, float | None]) -> list[str]:
    """The cells of a kind of text."""
    tokens, share, error = (figures[key] for key in ("tokens", "top_token_agreement", "top_token_agreement_error"))
    return [
        name,
        UNKNOWN if tokens is None else f"{tokens:,.0f}",
        perplexity_with_error(figures["perplexity"], figures["perplexity_error"]),
        divergence_with_error(
            figures["kl_divergence"], figures["kl_divergence_error"], is_least=row.is_least_divergence
        ),
        UNKNOWN if share is None else f"{share:.1%}" + ("" if error is None else f" ± {error:.1%}"),
    ]


def _cells(row: ResultRow, *, with_server: bool) -> list[tuple[str, str]]:
    """(heading, text) of each figure. with_server: a level was compared with a server's model."""

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
        (
            "Perplexity",
            perplexity_with_error(row.figure("fidelity", "perplexity"), row.figure("fidelity", "perplexity_error")),
        ),
        ("KL median", divergence_text(row, "kl_median")),
        ("KL 99 %", divergence_text(row, "kl_99")),
        ("KL largest", divergence_text(row, "kl_maximum")),
    ]


def _speed(row: ResultRow, short: str) -> str:
    """short: "pp" for reading a prompt, "tg" for writing a reply."""
    if row.figure("speed", f"{short}_tokens_per_second") is None:
        return UNKNOWN
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
