"""`plan`: the memory that a model will need at a context size, computed by llama.cpp before anything is loaded."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from playground.cli import on_hub
from playground.cli.arguments import add_device_arguments, chosen_device, slots, tokens
from playground.cli.output import Report, format_table
from playground.settings import Settings
from playground.text_format import counted, gigabytes

if TYPE_CHECKING:
    from playground.cli.arguments import Commands
    from playground.fit.budget import Budget
    from playground.fit.plan import MemoryPlan
    from playground.fit.planner import PlacedPlan
    from playground.fit.verdict import Verdict


DEVICE_PARTS = {
    "weights": "Weights",
    "kv_cache": "KV cache",
    "recurrent": "Recurrent state",
    "compute": "Compute buffers",
}


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("plan", help="the memory a model will need, before it is loaded")
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--context", type=tokens, required=True, help="context size in tokens, such as 4096 or 32K")
    parser.add_argument("--kv-type", choices=("f16", "q8_0", "q4_0"), default="f16", help="how the KV cache is stored")
    parser.add_argument("--slots", type=slots, help="chats at once (default: PLAYGROUND_SLOTS, else 4)")
    add_device_arguments(parser)
    return parser


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.app.records import plan_record
    from playground.app.services import Services
    from playground.fit.verdict import judge, largest_context_that_fits
    from playground.llama.params import ContextParameters
    from playground.machine.disks import disk_read_speed

    chosen = chosen_device(arguments)
    asked = ContextParameters(arguments.context, arguments.kv_type, arguments.slots or settings.slots, device=chosen)
    with Services(settings) as services:  # as `chat` has them, so that both judge by the same memory
        library, planner = services.library, services.planner
        from_hub = on_hub.is_on_hub_only(arguments.model, library)
        path = on_hub.header_path(arguments.model, settings) if from_hub else library.find_file(arguments.model).path
        planner.plan(path, asked)  # its process is there now, and gives way to the model
        budget = services.pool.budget_for(path)
        placed = planner.place(path, asked, budget, library.level_weights(path) if budget.devices else {})
        largest = largest_context_that_fits(
            lambda size: planner.place(path, dataclasses.replace(asked, context_size=size), budget).plan,
            planner.trained_context(path),
            budget,
        )
    verdict = judge(placed.plan, budget, largest_context=largest, disk_speed=lambda: disk_read_speed(path))
    return Report(plan_record(placed, verdict, budget, largest), _table(placed, verdict, budget, largest))


def _table(placed: PlacedPlan, verdict: Verdict, budget: Budget, largest: int | None) -> str:
    plan = placed.plan
    rows = [[words, gigabytes(size)] for words, size in _parts(plan) if size]
    rows += [["Needed", gigabytes(plan.needed)], ["Usable now", gigabytes(budget.usable)]]
    for name in plan.device_names:
        rows += _device_rows(placed, name, budget)
    fits = f"The largest context that fits: {largest:,} tokens." if largest else "No context of this model fits here."
    lines = [format_table(rows, right=(1,)), _unread(plan), placed.reason, f"{verdict.label}: {verdict.reason}", fits]
    return "\n".join(filter(None, lines))


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
    beside = f"Beside it, up to {gigabytes(plan.total - plan.needed)} of the file that no token reads"
    if plan.held_weights:
        return f"{beside}: it is in memory already."
    kinds = ["lookup tables or layers that only draft"] if plan.use.unread else []
    kinds += ["the originals of repacked weights"] if plan.repacked else []
    return f"{beside}: {' and '.join(kinds)}. The system takes that back when memory is short."


def _device_rows(placed: PlacedPlan, name: str, budget: Budget) -> list[list[str]]:
    """The parts on one GPU."""
    device = budget.find(name)
    parts = [part for part in placed.plan.on_devices if part.device == name]
    layers = placed.plan.layers_on(name)
    return [
        [f"{name}: {device.description if device else 'not there'}, {counted(layers, 'layer')}", ""],
        *([f"  {DEVICE_PARTS[part.kind]}", gigabytes(part.bytes)] for part in parts),
        ["  Total", gigabytes(placed.plan.on_device(name))],
        ["  Free now", gigabytes(device.usable if device else 0)],
    ]
