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


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("plan", help="the memory a model will need, before it is loaded")
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--context", type=tokens, required=True, help="context size in tokens, such as 4096 or 32K")
    parser.add_argument("--kv-type", choices=("f16", "q8_0", "q4_0"), default="f16", help="how the KV cache is stored")
    parser.add_argument("--slots", type=slots, help="chats at once (default: PLAYGROUND_SLOTS, else 4)")
    return parser


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.app.records import plan_record
    from playground.app.services import Services
    from playground.fit.verdict import judge, largest_context_that_fits
    from playground.llama.params import ContextParameters
    from playground.machine.disks import disk_read_speed

    asked = ContextParameters(arguments.context, arguments.kv_type, arguments.slots or settings.slots)
    with Services(settings) as services:  # as `chat` has them, so that both judge by the same memory
        library, planner = services.library, services.planner
        from_hub = on_hub.is_on_hub_only(arguments.model, library)
        path = on_hub.header_path(arguments.model, settings) if from_hub else library.find_file(arguments.model).path
        plan = planner.plan(path, asked)
        usable = services.pool.usable_bytes_for(path)
        largest = largest_context_that_fits(
            lambda context_size: planner.plan(path, dataclasses.replace(asked, context_size=context_size)),
            planner.trained_context(path),
            usable,
        )
    verdict = judge(plan, usable, largest_context=largest, disk_speed=lambda: disk_read_speed(path))
    return Report(plan_record(plan, verdict, usable, largest), _table(plan, verdict, usable, largest))


def _table(plan: MemoryPlan, verdict: Verdict, usable: int, largest: int | None) -> str:
    rows = [[words, gibibytes(size)] for words, size in _parts(plan) if size]
    rows += [["Needed", gibibytes(plan.needed)], ["Usable now", gibibytes(usable)]]
    fits = f"The largest context that fits: {largest:,} tokens." if largest else "No context of this model fits here."
    return f"{format_table(rows, right=(1,))}\n{_unread(plan)}{verdict.label}: {verdict.reason}\n{fits}"


def _parts(plan: MemoryPlan) -> list[tuple[str, int]]:
    """What `needed` is made of, for people."""
    return [
        ("Weights that tokens read, mapped from the file", plan.read_weights),
        ("Weights, repacked for this CPU", plan.repacked),
        ("KV cache, for the text so far", plan.kv_cache),
        ("Recurrent state", plan.recurrent),
        ("Compute buffers", plan.compute),
        ("Output buffer", plan.output),
        ("The process itself", plan.base),
    ]


def _unread(plan: MemoryPlan) -> str:
    """A line on what the process has beside `needed`; "" where that is nothing."""
    if plan.total == plan.needed:
        return ""
    beside = f"Beside it, up to {gibibytes(plan.total - plan.needed)} of the file that no token reads"
    if plan.held_weights:
        return f"{beside}: it is in memory already.\n"
    kinds = ["lookup tables or layers that only draft"] if plan.use.unread else []
    kinds += ["the originals of repacked weights"] if plan.repacked else []
    return f"{beside}: {' and '.join(kinds)}. The system takes that back when memory is short.\n"
