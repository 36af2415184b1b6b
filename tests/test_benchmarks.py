"""What a benchmark has started ends with it, in whatever way it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.playground_process import ROOT

SCRIPTS = sorted(path for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))
BENCHMARK = """
import subprocess, sys
from benchmarks.bench import run_main
from tests.support.ended_with_parent import ended_with_parent

def main():
    with subprocess.Popen(ended_with_parent([sys.executable, "-c", "input()"]), stdin=subprocess.PIPE) as child:
        try:
            print(child.pid, flush=True)
            child.wait()
        finally:
            print("ended", flush=True)
            child.kill()

run_main(main)
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.stem))
def test_a_terminated_benchmark_ends_in_order(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert text.endswith('if __name__ == "__main__":\n    run_main(main)\n')
    starts = "subprocess.Popen(" in text or "subprocess.run(" in text
    assert not starts or "ended_with_parent(" in text


@pytest.mark.parametrize(
    ("how", "code", "last"),
    [
        (signal.SIGTERM, 143, "ended\n"),
        pytest.param(
            signal.SIGKILL, -9, "", marks=pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux only")
        ),
    ],
)
def test_what_a_benchmark_started_ends_when_it_is_killed(how: signal.Signals, code: int, last: str) -> None:
    command = [sys.executable, "-c", BENCHMARK]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as benchmark:
        assert benchmark.stdout
        child = psutil.Process(int(benchmark.stdout.readline()))
        benchmark.send_signal(how)
        assert (benchmark.stdout.read(), benchmark.wait(30)) == (last, code)
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE  # where nobody asks how an orphan ended
