"""`quantize`: make a level from a model on this disk; with --dry-run, only compute its exact size."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from playground.cli.arguments import add_device_arguments, chosen_device
from playground.cli.output import ProgressLine, Report
from playground.settings import Settings
from playground.text_format import bits, gigabytes

if TYPE_CHECKING:
    from playground.cli.arguments import Commands
    from playground.llama.params import Placement
    from playground.quantize.quantize import QuantizationProgress, QuantizedFile, QuantizedSize


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("quantize", help="make a level of a model")
    parser.add_argument(
        "source", metavar="SOURCE", help="a model on this computer: a path, owner/repo:LEVEL, or starter"
    )
    parser.add_argument("level", metavar="LEVEL", help="such as Q8_0, Q4_K_M, Q2_0")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: in the data folder")
    add_device_arguments(parser)  # where the model runs while an importance matrix is measured
    parser.add_argument("--dry-run", action="store_true", help="write nothing, only print the size")
    return parser


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.fit.budget import Budget
    from playground.fit.planner import Planner
    from playground.llama.devices import read_devices
    from playground.machine.cpus import read_processors
    from playground.machine.memory import read_memory
    from playground.models.library import Library
    from playground.quantize.quantize import estimate_level, place_for_imatrix, quantize_file

    library = Library(settings)
    source = library.find_file(arguments.source)
    if arguments.dry_run:
        return _report(estimate_level(source.path, arguments.level), None)
    target = arguments.output or library.path_for_level(source.base_name, arguments.level.upper())

    def place() -> Placement:
        with Planner() as planner:
            budget = Budget.of(read_memory().usable, read_devices())
            return place_for_imatrix(planner, source.path, chosen_device(arguments), budget)

    with closing(quantize_file(source.path, arguments.level, target, read_processors().usable, place)) as work:
        made = _follow(work)
    return _report(made.planned, made.path)


def _follow(work: Iterator[QuantizationProgress | QuantizedFile]) -> QuantizedFile:
    from playground.quantize.quantize import QuantizedFile

    with ProgressLine() as line:
        for event in work:
            if isinstance(event, QuantizedFile):
                return event
            stage = "Computing the importance matrix" if event.measures_imatrix else "Quantizing"
            line.show(f"{stage} {event.fraction:4.0%}")
    raise AssertionError("quantizing ends with its file or with an error")


def _report(size: QuantizedSize, path: Path | None) -> Report:
    record = {
        "level": size.level,
        "size": size.size,
        "bits_per_weight": size.bits_per_weight,
        "path": str(path) if path else None,
        "requantized_from": size.requantized_from,
        "note": size.note,
    }
    figures = f"{gigabytes(size.size)} ({size.size:,} bytes), {bits(size.bits_per_weight)} per weight"
    opening = f"Made {path}: {figures}." if path else f"{size.level} would be {figures}."
    return Report(record, "\n".join(filter(None, (opening, size.note))))
