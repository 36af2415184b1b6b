"""`plan`: the memory that a model will need at a context size, computed by llama.cpp before anything is loaded."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from playground.cli import on_hub
from playground.cli.arguments import slots, tokens
from playground.cli.output import Report, format_table
from playground.settings import Settings
from playground.text_format import gibibytes

if TYPE_CHECKING:
    from playground.cli.arguments import Commands
    from playground.fit.plan import MemoryPlan
    from playground.fit.verdict import Verdict

PARTS = {
    "weights": "Weights, mapped from the file",
    "repacked": "Weights, repacked for this CPU",
    "kv_cache": "KV cache, for the text so far",
    "recurrent": "Recurrent state",
    "compute": "Compute buffers",
    "output": "Output buffer",
    "base": "The process itself",
}


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("plan", help="the memory a model will need, before it is loaded")
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--context", type=tokens, required=True, help="context size in tokens, such as 4096 or 32K")
    parser.add_argument("--kv-type", choices=("f16", "q8_0", "q4_0"), default="f16", help="how the KV cache is stored")
    parser.add_argument("--slots", type=slots, help="chats at once (default: PLAYGROUND_SLOTS, else 4)")
    return parser


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.fit.planner import Planner
    from playground.fit.verdict import judge, largest_context_that_fits
    from playground.llama.params import ContextParameters
    from playground.machine.memory import read_memory
    from playground.models.library import Library

    library = Library(settings)
    from_hub = on_hub.is_on_hub_only(arguments.model, library)
    path = on_hub.header_path(arguments.model, settings) if from_hub else library.find_file(arguments.model).path
    asked = ContextParameters(arguments.context, arguments.kv_type, arguments.slots or settings.slots)
    usable = read_memory().usable
    with Planner() as planner:
        plan = planner.plan(path, asked)
        largest = largest_context_that_fits(
            lambda context_size: planner.plan(path, dataclasses.replace(asked, context_size=context_size)),
            planner.trained_context(path),
            usable,
        )
    return _report(plan, judge(plan, usable, largest_context=largest), usable, largest)


def _report(plan: MemoryPlan, verdict: Verdict, usable: int, largest: int | None) -> Report:
    from playground.app.records import plan_record

    rows = [[words, gibibytes(getattr(plan, name))] for name, words in PARTS.items() if getattr(plan, name)]
    if plan.held_weights:
        rows.append(["Of these, in memory already", gibibytes(plan.held_weights)])
    rows += [["Total", gibibytes(plan.total)], ["Available now", gibibytes(usable)]]
    fits = f"The largest context that fits: {largest:,} tokens." if largest else "No context of this model fits here."
    return Report(
        plan_record(plan, verdict, usable, largest),
        f"{format_table(rows, right=(1,))}\n{verdict.label}: {verdict.reason}\n{fits}",
    )
