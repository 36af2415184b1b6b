"""`abilities`: how many instructions a model follows, how many tool calls and answers are right."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from itertools import product
from typing import TYPE_CHECKING, Any

from playground.cli.arguments import add_device_arguments, chosen_device, lease_file, repeats
from playground.cli.output import ProgressLine, Report, format_table
from playground.settings import Settings
from playground.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from playground.app.services import Services
    from playground.cli.arguments import Commands
    from playground.llama.params import ContextParameters


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "abilities",
        help="instructions followed, tools called, sums done, long texts read",
        description="Tasks whose answers can be checked, with the 95 % Wilson interval of each score.",
    )
    parser.add_argument("models", metavar="MODEL", nargs="+", help="also ID@SERVER, of a server of the settings")
    suites = ("instructions", "tools", "reasoning")
    parser.add_argument("--suite", action="append", choices=suites, help="only this one (may be repeated)")
    parser.add_argument("--tasks", type=repeats, metavar="N", help="only the first N tasks of each suite")
    add_device_arguments(parser)
    return parser


def _leased(services: Services, model: str, context: ContextParameters) -> AbstractContextManager[Any]:
    """A lease on a model of this computer, or on `id@server` of a server of the settings."""
    from playground.measure.server import lease_server_model

    if services.remotes.find_model(model):
        return lease_server_model(services.remotes, model)
    return lease_file(services, services.library.find_file(model).path, context)


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.app.services import Services
    from playground.chat.comparison_export import installed_versions
    from playground.llama.params import ContextParameters
    from playground.measure.abilities.suites import run_suite
    from playground.measure.plan import CONTEXT_TOKENS
    from playground.measure.results import ABILITIES

    context = ContextParameters(CONTEXT_TOKENS, slots=1, device=chosen_device(arguments))
    suites = arguments.suite or ABILITIES
    rows: list[dict[str, Any]] = []
    with Services(settings) as services, ProgressLine() as line:
        for model, suite in product(arguments.models, suites):
            with (
                _leased(services, model, context) as lease,
                Steps(run_suite(suite, lease.engine, arguments.tasks, f"{model} {suite}")) as work,
            ):
                for step, _, _ in work:
                    line.show(step)
                figures, details = work.result
            interval = [figures.pop("interval_low"), figures.pop("interval_high")]
            rows.append({"model": model, "suite": suite, **figures, "interval": interval, "details": details})
    table = [["MODEL", "SUITE", "PASSED", "SHARE", "95 % INTERVAL"]]
    table += [
        [
            row["model"],
            row["suite"],
            _score(row),
            f"{row['share']:.0%}",
            f"{row['interval'][0]:.0%} to {row['interval'][1]:.0%}",
        ]
        for row in rows
    ]
    return Report({"rows": rows, "versions": installed_versions()}, format_table(table, right=(2, 3)))


def _score(row: Mapping[str, Any]) -> str:
    """`38 of 65, loosely 44`; only instructions have a loose score."""
    loosely = f", loosely {row['passed_loosely']}" if "passed_loosely" in row else ""
    return f"{row['passed']} of {row['items']}{loosely}"
