"""`measure`: what each level of a model costs in quality, memory and speed, kept as the Measure tab keeps it."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from playground.cli.arguments import add_device_arguments, chosen_device, repeats, slots
from playground.cli.fidelity import read_text
from playground.cli.output import ProgressLine, Report
from playground.errors import PlaygroundError
from playground.settings import Settings
from playground.text_format import about

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from playground.app.services import Services
    from playground.cli.arguments import Commands
    from playground.measure.plan import MeasurementPlan
    from playground.measure.results import Measurement
    from playground.measure.store import MeasurementStore, StoredRun

_WHATS = ("speed", "fidelity", "abilities", "instructions", "tools", "reasoning", "answers", "profile", "server")


def whats(text: str) -> list[str]:
    """Comma-separated; `abilities` stands for its three suites."""
    chosen = [word.strip() for word in text.split(",") if word.strip()]
    if unknown := [word for word in chosen if word not in _WHATS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(_WHATS)}")
    return chosen


def kv_types(text: str) -> list[tuple[str, str]]:
    """Comma-separated types of keys and values: `f16`, `q8_0`, or `q8_0/q4_0` where they differ."""
    from playground.llama.params import KV_TYPES

    pairs = [tuple((word.strip().split("/") * 2)[:2]) for word in text.split(",") if word.strip()]
    if any(kind not in KV_TYPES for pair in pairs for kind in pair):
        raise argparse.ArgumentTypeError(f"{text} is not made of {', '.join(KV_TYPES)}")
    return [(k, v) for k, v in pairs]


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "measure",
        help="what each level costs in quality, memory and speed",
        description="Measures every level and keeps the results; an interrupted run of the same is continued.",
    )
    parser.add_argument("models", metavar="MODEL", nargs="+", help="of MODEL:LEVEL, only this level")
    parser.add_argument(
        "--levels", metavar="L,L", help="of each MODEL: the levels, here or to be made (default: all on this disk)"
    )
    parser.add_argument("--what", type=whats, default=["speed", "fidelity"], metavar="W,W", help=", ".join(_WHATS))
    parser.add_argument(
        "--reference", metavar="L", help="the level to measure against (default: the largest not made here)"
    )
    parser.add_argument("--kv", type=kv_types, default=[("f16", "f16")], metavar="T,T", help="such as f16,q8_0/q4_0")
    parser.add_argument("--text", type=Path, metavar="FILE", help="read this for fidelity instead of the six texts")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="answer these instead of ours, one in each line")
    parser.add_argument("--server-model", metavar="ID@SERVER", help="of a server of the settings, for `--what server`")
    parser.add_argument("--deepest", type=int, default=8192, metavar="N", help="the longest context of `profile`")
    parser.add_argument("--chats", type=slots, default=4, metavar="N", help="the most chats at once of `profile`")
    parser.add_argument("--tasks", type=repeats, metavar="N", help="only the first N tasks of each suite")
    parser.add_argument("--repeat", type=repeats, default=3, metavar="R", help="runs of each speed test (default: 3)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results to FILE: .json, .csv or .md")
    add_device_arguments(parser)
    return parser


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.app.measure.service import store_of
    from playground.app.services import Services
    from playground.measure.answers.export import grid_as_markdown
    from playground.measure.answers.grid import answer_grid
    from playground.measure.export import export_csv, export_json, export_markdown
    from playground.measure.results import result_rows

    failed: list[str] = []
    found: list[Measurement] = []
    with Services(settings) as services, ProgressLine() as line:
        store = store_of(settings)
        plans = plans_of_models(_plans(services, arguments))
        for plan in plans:
            done = _carry_out(services, store, plan, line)
            failed += [f"{plan.model} {item}: {why}" for item, why in done.finished.items() if why]
            found += _found(store, plan, done)
    rows = result_rows(found)
    grids = [answer_grid(found, plan.model) for plan in plans] if "answers" in arguments.what else []
    answered = [grid for grid in grids if grid]
    record = export_json(rows, [each for grid in answered for each in grid.measurements])
    tables = [export_markdown(rows)] if rows else []
    text = "\n\n".join([*tables, *(grid_as_markdown(grid, ()) for grid in answered)])
    if arguments.out:
        form = arguments.out.suffix.lower()
        written = export_csv(rows) if form == ".csv" else text if form == ".md" else json.dumps(record, indent=1)
        try:
            arguments.out.write_text(written, encoding="utf-8")
        except OSError as error:
            raise PlaygroundError(
                f"{arguments.out} cannot be written: {error.strerror}.", "Name another file."
            ) from error
    problem = PlaygroundError("; ".join(failed), "What was measured is kept.") if failed else None
    return Report({**record, "failed": failed}, text, problem)


def _plans(services: Services, arguments: argparse.Namespace) -> Iterator[MeasurementPlan]:
    """A plan for each model."""
    from playground.app.measure.service import plan_of
    from playground.measure.answers.prompts import prompt_lines
    from playground.measure.results import ABILITIES, What

    text = read_text(arguments.text) if arguments.text else ""
    prompts = prompt_lines(read_text(arguments.prompts)) if arguments.prompts else ()
    chosen: list[What] = []
    for word in arguments.what:
        chosen += ABILITIES if word == "abilities" else [word]
    for model in arguments.models:
        yield plan_of(
            services, model, levels=[word for word in (arguments.levels or "").split(",") if word], whats=chosen,
            reference=arguments.reference or "", kv_types=arguments.kv, device=chosen_device(arguments).text,
            text_name=arguments.text.name if arguments.text else "", text=text, repeats=arguments.repeat,
            most_tasks=arguments.tasks, prompts_name=arguments.prompts.name if arguments.prompts else "",
            prompts=prompts, server_model=arguments.server_model or "", deepest=arguments.deepest,
            most_chats=arguments.chats,
        )  # fmt: skip


def plans_of_models(plans: Iterable[MeasurementPlan]) -> list[MeasurementPlan]:
    """One for each model, with all levels that were named of it."""
    merged: dict[str, MeasurementPlan] = {}
    for plan in plans:
        levels = merged[plan.model].levels if plan.model in merged else ()
        merged[plan.model] = replace(plan, levels=(*levels, *plan.levels)).checked()
    return list(merged.values())


def _found(store: MeasurementStore, plan: MeasurementPlan, run: StoredRun) -> list[Measurement]:
    """What this run measured, also before it was interrupted, and nothing that an earlier run found."""
    from playground.measure.results import HERE

    asked = {(item.level, item.k_type, item.v_type, item.what) for item in plan.items()}
    return [
        each
        for each in store.measurements()
        if (each.source, each.model) == (HERE, plan.model)
        and (each.level, each.k_type, each.v_type, each.what) in asked
        and each.measured_at >= run.started_at
    ]


def _carry_out(services: Services, store: MeasurementStore, plan: MeasurementPlan, line: ProgressLine) -> StoredRun:
    """Run a plan, from where an interrupted run of the same stopped; returns the run as it ended."""
    from playground.machine.files import unfinished_file
    from playground.measure.run import MeasurementRun

    settings = services.settings
    folder = settings.data_dir / "scores"
    number = store.unfinished_run(plan.to_json()) or store.add_run(plan.to_json(), "")
    jobs = services.quantization_jobs if settings.allow_quantize else None
    work = MeasurementRun(services.pool, services.library, jobs, store, folder, services.remotes)
    with ExitStack() as lock:
        try:
            lock.enter_context(unfinished_file(folder / f"run-{number}"))
        except PlaygroundError as error:
            raise PlaygroundError("Another process is carrying out this run.", "Wait until it ends.") from error
        store.retry_failed_items(number)
        store.set_run_state(number, "running")
        try:
            for progress in work.work(number, plan):
                left = f", {about(progress.seconds_left)} left" if progress.seconds_left else ""
                line.show(f"{progress.done:4.0%} {progress.waiting or progress.stage}{left}")
        except BaseException:
            store.set_run_state(number, "stopped")
            raise
    stored = store.find_run(number)
    assert stored
    store.set_run_state(number, "failed" if any(stored.finished.values()) else "done")
    return stored
