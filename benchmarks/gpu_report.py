"""All that a computer with a GPU can show, in one command: `make gpu-check`, some ten minutes on a quiet machine.

It runs the tests of devices on the real GPU (`pytest -m device`, with TEST_GPU), then `device_check`, and the
benchmarks `generation_speed` and `page_speed` there. At the end it prints the row for docs/devices.md, "What has been
seen". It ends with 1 if a test fails or something is not as expected. `--device NAME` chooses the GPU, `--without-page`
needs no browser.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.bench import run_main
from benchmarks.device_check import Row, find_gpu
from playground.llama.devices import read_devices
from tests.support.ended_with_parent import ended_with_parent

BENCHMARKS: Final = ("generation_speed", "page_speed")
_RATIO: Final = re.compile(r"^  ratio ([\d.]+), target", re.MULTILINE)
_COUNTS: Final = re.compile(r"(\d+) (passed|failed|error|skipped)")


@dataclass(frozen=True)
class GpuReport:
    """What was found. tests: by outcome, such as {"passed": 30}. rows: of device_check. ratios: of each benchmark."""

    gpu: str
    backend: str
    tests: dict[str, int]
    rows: tuple[Row, ...]
    ratios: dict[str, float]

    @property
    def is_right(self) -> bool:
        failed = self.tests.get("failed", 0) + self.tests.get("error", 0)
        return not failed and self.tests.get("passed", 0) > 0 and all(row.is_right is not False for row in self.rows)

    @property
    def row(self) -> str:
        """The row for docs/devices.md."""
        wrong = [row for row in self.rows if row.is_right is False]
        found = [
            f"{self.tests.get('passed', 0)} tests of devices pass, {self.tests.get('failed', 0)} fail",
            f"{len(self.rows) - len(wrong)} of {len(self.rows)} rows of `device_check` as expected",
            *(f"{row.what} {row.found}" for row in self.rows if "taken of its free" in row.what or " of " in row.what),
            *(f"`{name}` {ratio:.3f}" for name, ratio in self.ratios.items()),
            *(f"not as expected: {row.what}, {row.found} for {row.expected}" for row in wrong),
        ]
        what = f"{self.gpu} ({self.backend}), llama-cpp-python {version('llama-cpp-python')}"
        return f"| a run on {what} | {date.today().isoformat()}: {'; '.join(dict.fromkeys(found))} |"


def main() -> int:
    parser = argparse.ArgumentParser(description="Everything that can be checked on a real GPU.")
    parser.add_argument("--device", default="", help="llama.cpp's name of the GPU (default: the first)")
    parser.add_argument("--without-page", action="store_true", help="leave out what needs a browser")
    arguments = parser.parse_args()
    gpu = find_gpu(read_devices(), arguments.device)
    if gpu is None:
        return 1
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        tests = ["pytest", "-m", "device and not browser" if arguments.without_page else "device"]
        ended = run(tests, TEST_GPU=gpu.name)
        run(["benchmarks.device_check", "--device", gpu.name, "--rows", str(rows)])
        benchmarks = {
            name: run([f"benchmarks.{name}", "--device", gpu.name])
            for name in BENCHMARKS
            if not (arguments.without_page and name == "page_speed")
        }
        found = json.loads(rows.read_text()) if rows.exists() else [["device_check", "a table", "none", False]]
    report = GpuReport(
        gpu=gpu.description,
        backend=gpu.backend,
        tests=outcomes(ended),
        rows=tuple(Row(*row) for row in found),
        ratios={name: float(ratio[1]) for name, text in benchmarks.items() if (ratio := _RATIO.search(text))},
    )
    print(f"\nFor docs/devices.md, What has been seen:\n{report.row}")
    return 0 if report.is_right else 1


def run(module: list[str], **variables: str) -> str:
    """What `python -m` prints, which is shown as it comes."""
    print(f"\n==> {' '.join(module)}", flush=True)
    command = ended_with_parent([sys.executable, "-m", *module])
    text = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **variables}) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
            text += line
    return text


def outcomes(text: str) -> dict[str, int]:
    """By the last line that pytest prints: `2 failed, 30 passed, 4 skipped in 60.00s`."""
    lines = [line for line in text.splitlines() if _COUNTS.search(line)]
    return {what: int(number) for number, what in _COUNTS.findall(lines[-1])} if lines else {}


if __name__ == "__main__":
    run_main(main)
