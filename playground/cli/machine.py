"""`machine`: what this computer has for a model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from playground.cli.output import Report, format_table
from playground.settings import Settings
from playground.text_format import counted, gibibytes

if TYPE_CHECKING:
    from playground.cli.arguments import Commands


def add_to(commands: Commands) -> argparse.ArgumentParser:
    return commands.add_parser("machine", help="usable memory and cores, and what limits them")


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.app.records import machine_record
    from playground.machine.cpus import read_processors
    from playground.machine.memory import read_memory

    memory, processors = read_memory(), read_processors()
    rows = [
        ["Total memory", gibibytes(memory.total)],
        ["Available for models", f"{gibibytes(memory.usable)}, limited by {memory.limited_by}"],
        ["Usable cores", f"{counted(processors.usable, 'core')}, limited by {processors.limited_by}"],
    ]
    return Report(machine_record(memory, processors), format_table(rows))
