"""`machine`: what this computer has for a model: memory, cores and devices."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from playground.cli.output import Report, format_table
from playground.settings import Settings
from playground.text_format import counted, gigabytes, gigabytes_apart

if TYPE_CHECKING:
    from playground.cli.arguments import Commands
    from playground.llama.devices import Device


def add_to(commands: Commands) -> argparse.ArgumentParser:
    return commands.add_parser("machine", help="usable memory, cores and devices, and what limits them")


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.app.records import machine_record
    from playground.llama.devices import read_devices
    from playground.machine.cpus import read_processors
    from playground.machine.memory import read_memory

    memory, processors, devices = read_memory(), read_processors(), read_devices()
    rows = [
        ["Total memory", gigabytes(memory.total)],
        ["Available for models", f"{gigabytes(memory.usable)}, limited by {memory.limited_by}"],
        ["Usable cores", f"{counted(processors.usable, 'core')}, limited by {processors.limited_by}"],
    ]
    rows += [[device.name, _described(device)] for device in devices.all if device.kind != "CPU"]
    table = format_table(rows)
    return Report(
        machine_record(memory, processors, devices), f"{table}\n{devices.problem}" if devices.problem else table
    )


def _described(device: Device) -> str:
    """`NVIDIA GeForce RTX 4070 (GPU, CUDA), 11.7 GB of 12.9 GB free`"""
    free, total = gigabytes_apart(device.memory_free, device.memory_total)
    place = "of the computer's memory" if device.unified else "of its own memory"
    memory = f", {free} of {total} {place} free" if device.is_gpu else ""
    return f"{device.description} ({device.kind}, {device.backend}){memory}"
