"""Forecast against measurement: how often a model's speed lies in the band that was forecast for it.

Each file is forecast as one that is not here, then written with in a chat's way (128 tokens, the fastest of three
replies, so that a short disturbance does not count). Twice: from the processor alone, and from the other files'
measured speeds. The files: the starter and those named on the command line.

    python -m benchmarks.forecast ~/models/*.gguf
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.bench import STORY, cores, engine_on, report, run_main, starter, turn
from playground.engine.protocol import Finished
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
            for event in engine.start_reply(turn(f"{STORY} Chapter {number}."), GREEDY, max_tokens=TOKENS)
            if isinstance(event, Finished)
        ]
    return max(speeds)


def lies_in(band: Forecast | None, value: float) -> bool:
    return band is not None and band.low <= value <= band.high


def main() -> None:
    files = [starter(), *map(Path, sys.argv[1:])]
    measured = {path: measured_speed(path) for path in files}
    rows: list[tuple[str, str]] = []
    hits = 0
    for path in files:
        with tempfile.TemporaryDirectory() as folder:
            forecaster = SpeedForecaster(Path(folder) / "speeds.json", cores())
            alone = forecaster.forecast_file(path, wait=True)
            for other in files:
                if other != path:
                    forecaster.forecast_file(other, wait=True)
                    forecaster.record_reply(other, "CPU", cores(), TOKENS, TOKENS, measured[other])
            taught = forecaster.forecast_file(path, wait=True)
        found = [lies_in(band, measured[path]) for band in (alone, taught)]
        hits += sum(found)
        bands = ", ".join(
            f"{band.low:.1f} to {band.high:.1f} ({'in' if hit else 'OUTSIDE'})" if band else "none"
            for band, hit in zip((alone, taught), found, strict=True)
        )
        rows.append((path.name, f"{speed(measured[path])}; {bands}"))
    report("Forecast: alone, then from the other models", rows, hits / (2 * len(files)), ">= 0.9")


if __name__ == "__main__":
    run_main(main)
