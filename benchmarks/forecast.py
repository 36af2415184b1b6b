"""Forecast against measurement: how often a model's speed lies in the band that was forecast for it.

Each file is forecast as one that is not here, then written with in a chat's way (128 tokens, the fastest of three
replies, so that a short disturbance does not count). Three times: from the processor alone, from the measured speeds of
the other models, and from those of all other files, so also of other levels of the same model. The files: the starter,
those named on the command line, and the levels of each that are named with --levels, which are made first.

    python -m benchmarks.forecast ~/models/*.gguf --levels Q8_0,Q6_K,Q5_K_M,Q4_0,Q3_K_M,Q2_K
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.bench import STORY, cores, engine_on, made, report, run_main, starter, turn
from playground.engine.protocol import Finished, ReplyRequest
from playground.errors import PlaygroundError
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY
from playground.measure.forecast import Forecast, SpeedForecaster
from playground.text_format import speed

REPLIES = 3
TOKENS = 128


def measured_speed(path: Path) -> float:
    """Of the fastest reply, tokens per second."""
    with engine_on(path, ContextParameters(1024)) as engine:
        speeds = [
            event.timings.generation_speed or 0.0
            for number in range(REPLIES)
            for event in engine.start_reply(ReplyRequest(turn(f"{STORY} Chapter {number}."), GREEDY, max_tokens=TOKENS))
            if isinstance(event, Finished)
        ]
    return max(speeds)


def with_levels(source: Path, levels: Sequence[str], folder: Path) -> list[Path]:
    """The file, and its levels; those that cannot be made of it are named and left out."""
    files = [source]
    for level in levels:
        if source.stem.upper().endswith(level):
            continue
        try:
            files.append(made(level, folder, source))
        except PlaygroundError as error:
            print(f"{source.name} as {level}: {error}", flush=True)
    return files


def band_of(path: Path, others: Mapping[Path, float], folder: Path) -> Forecast | None:
    """What is forecast for a file by one that has measured the others."""
    forecaster = SpeedForecaster(folder / "speeds.json", cores())
    for other, rate in others.items():
        forecaster.forecast_file(other, wait=True)
        forecaster.record_reply(other, "CPU", cores(), TOKENS, TOKENS, rate)
    return forecaster.forecast_file(path, wait=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--levels", default="")
    arguments = parser.parse_args()
    levels = [level for level in arguments.levels.upper().split(",") if level]
    rows: list[tuple[str, str]] = []
    hits = cases = 0
    with tempfile.TemporaryDirectory() as name:
        models = [with_levels(source, levels, Path(name)) for source in (starter(), *arguments.files)]
        files = [path for model in models for path in model]
        measured = {path: measured_speed(path) for path in files}
        for model in models:
            for path in model:
                of_others = {other: rate for other, rate in measured.items() if other not in model}
                of_all = {other: rate for other, rate in measured.items() if other != path}
                said = []
                for others in [{}, *([of_others] if of_others else []), *([of_all] if of_all != of_others else [])]:
                    with tempfile.TemporaryDirectory() as folder:
                        band = band_of(path, others, Path(folder))
                    hit = band is not None and band.low <= measured[path] <= band.high
                    said.append(f"{band.low:.1f} to {band.high:.1f} ({'in' if hit else 'OUTSIDE'})" if band else "none")
                    hits, cases = hits + hit, cases + 1
                rows.append((path.name, f"{speed(measured[path])}; {', '.join(said)}"))
                print(*rows[-1], flush=True)
    report("Forecast: alone, from the other models, from their levels and its own", rows, hits / cases, ">= 0.9")


if __name__ == "__main__":
    run_main(main)
