"""What the benchmarks share: the starter, an engine on it, a chat turn in its template, and the table at the end."""

from __future__ import annotations

import argparse
import platform
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from playground.app.services import Services
from playground.cli.arguments import add_device_arguments, chosen_device
from playground.engine.local.client import LocalEngine, loaded_engine
from playground.engine.protocol import Finished, Token
from playground.fit.budget import Budget
from playground.fit.planner import Planner
from playground.llama.devices import read_devices
from playground.llama.params import ContextParameters
from playground.machine.cpus import read_processors
from playground.machine.memory import read_memory
from playground.models.library import Library
from playground.quantize.quantize import QuantizedFile, quantize_file
from playground.settings import load_settings

STORY = "Tell me a long story about a fox who learns to read. Describe every place that it visits."
FILLER = "The fox went on, over the hill and along the river, and met somebody new. "


def run_main(main: Callable[[], int | None]) -> NoReturn:
    """Runs a benchmark. SIGTERM ends it as Ctrl-C does, so that each `with` ends what it has started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())


def cores() -> int:
    return read_processors().usable


def starter() -> Path:
    with tempfile.TemporaryDirectory() as empty:
        return Library(load_settings(data_dir=Path(empty))).find_file("starter").path


def turn(text: str) -> str:
    """A question in the starter's chat template."""
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def on_device(path: Path, context: ContextParameters) -> ContextParameters:
    """The context where `--device` and `--gpu-layers` of the command line say; by default on the GPU if it fits."""
    parser = argparse.ArgumentParser()
    add_device_arguments(parser)
    asked = replace(context, device=chosen_device(parser.parse_args()))
    with Planner() as planner:
        placed = planner.place(path, asked, Budget.of(read_memory().usable, read_devices())).plan.context
    print(f"Device: {placed.placement.name}")
    return placed


def engine_on(path: Path, context: ContextParameters) -> AbstractContextManager[LocalEngine]:
    return loaded_engine(path, context, cores())


@contextmanager
def services() -> Iterator[Services]:
    """The playground's services over an empty data folder."""
    with tempfile.TemporaryDirectory() as empty, Services(load_settings(data_dir=Path(empty))) as opened:
        yield opened


def made(level: str, folder: Path, source: Path | None = None) -> Path:
    """A level of a model, made here; of the starter if no source is named. Raises PlaygroundError where none can be."""
    name = source.stem if source else "SmolLM2-135M-Instruct"
    (*_, last) = quantize_file(source or starter(), level, folder / f"{name}-{level}.gguf", cores())
    assert isinstance(last, QuantizedFile)
    return last.path


def ended(events: Sequence[object]) -> Finished:
    last = events[-1]
    assert isinstance(last, Finished)
    return last


def tokens_in(events: Sequence[object]) -> int:
    return sum(isinstance(event, Token) for event in events)


def report(title: str, rows: Sequence[tuple[str, str]], ratio: float, target: str) -> None:
    """The table, the machine, and the one ratio that counts."""
    print(f"\n{title}\n{platform.machine()}, {cores()} cores")
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")
    print(f"  ratio {ratio:.3f}, target {target}")


def median_of(values: Sequence[float]) -> str:
    return f"median {statistics.median(values):.1f}, from {min(values):.1f} to {max(values):.1f}"
