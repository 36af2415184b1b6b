"""`levels`: every level of a model on this disk or on the Hub, with a verdict for this computer."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from playground.cli import on_hub
from playground.cli.arguments import tokens
from playground.cli.output import Report, format_table
from playground.settings import Settings
from playground.text_format import UNKNOWN, counted, gigabytes, replace_surrogates

if TYPE_CHECKING:
    from playground.app.records import LeftOutRecord, LevelsRecord
    from playground.cli.arguments import Commands


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("levels", help="the levels of a model and whether they fit")
    parser.add_argument("model", metavar="MODEL|REPO|FOLDER", help="a path, owner/repo, a folder, or starter")
    parser.add_argument("--hub", action="store_true", help="ask the Hub, even where the repository is on this disk")
    parser.add_argument("--context", type=tokens, help="context size in tokens for the verdict (default: 4096)")
    return parser


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.app.model_picker.level_notes import notes_of_files
    from playground.app.records import level_record
    from playground.app.services import Services

    with Services(settings) as services:
        library, planner = services.library, services.planner
        if arguments.hub or on_hub.is_on_hub_only(arguments.model, library):
            return _report(on_hub.hub_levels(arguments.model, arguments.context, settings), "on the Hub")
        budget = services.pool.budget_for()
        files, left_out = library.find_files_and_left_out(arguments.model)
        notes = notes_of_files(files, library, services.forecaster)
        levels = [
            level_record(file, library, planner, arguments.context, settings.slots, budget, notes.get(file.path, ()))
            for file in files
        ]
    others: list[LeftOutRecord] = [
        {"file": replace_surrogates(str(entry.path)), "reason": entry.reason} for entry in left_out
    ]
    return _report({"levels": levels, "left_out": others}, "on this computer")


def _report(record: LevelsRecord, where: str) -> Report:
    levels = record["levels"]
    rows = [["MODEL", "LEVEL", "SIZE", "BITS PER WEIGHT", "FILES", "CONTEXT", "VERDICT"]]
    rows += [
        [
            level["model"],
            level["level"] + (f" (made from {level['requantized_from']})" if level["requantized_from"] else ""),
            gigabytes(level["size"]),
            UNKNOWN if level["bits_per_weight"] is None else f"{level['bits_per_weight']:.1f}",
            str(len(level["files"])),
            f"{level['context_size']:,}" if level["context_size"] else "",
            level["reason"],
        ]
        for level in levels
    ]
    closing = f"{counted(len(levels), 'level')} {where}."
    if any(level.get("estimated") for level in levels):
        closing += " One header was read; the other verdicts are estimated from the file sizes."
    notes = "".join(f"\n{level['model']} {level['level']}: {note}" for level in levels for note in level["notes"])
    left_out = "".join(f"\nLeft out: {entry['file']}. {entry['reason']}" for entry in record["left_out"])
    return Report(dict(record), f"{format_table(rows, right=(2, 3, 4, 5))}\n{closing}{notes}{left_out}")
