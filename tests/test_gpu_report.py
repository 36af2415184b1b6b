"""What `make gpu-check` says of a run: the row for docs/devices.md, and whether all was as expected."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.device_check import Row
from benchmarks.gpu_report import GpuReport, outcomes

ROWS = (
    Row("all layers: allocated on the GPU, MiB", "151.49", "151.49", True),
    Row("all layers: taken of its free memory, MiB", "151.49", "152.00", True),
    Row("tg128: of llama-bench's 300.0", ">= 0.95", "0.981", True),
    Row("all layers: greedy text", "the CPU's", "other"),
)
RUN = GpuReport("NVIDIA RTX 4070", "CUDA", {"passed": 31, "skipped": 6}, ROWS, {"generation_speed": 1.02})


def test_the_row_names_the_gpu_and_the_figures_that_count() -> None:
    assert RUN.row.startswith("| a run on NVIDIA RTX 4070 (CUDA), llama-cpp-python ")
    assert "31 tests of devices pass, 0 fail; 4 of 4 rows of `device_check` as expected" in RUN.row
    assert "taken of its free memory, MiB 152.00" in RUN.row and "llama-bench's 300.0 0.981" in RUN.row
    assert RUN.row.endswith("`generation_speed` 1.020 |") and RUN.is_right


def test_a_failed_test_a_wrong_row_and_a_run_without_tests_are_not_right() -> None:
    assert not replace(RUN, tests={"passed": 30, "failed": 1}).is_right
    assert not replace(RUN, tests={}).is_right
    wrong = replace(RUN, rows=(Row("half: layers", "15", "14", False), *ROWS))
    assert not wrong.is_right and "not as expected: half: layers, 14 for 15" in wrong.row


def test_the_counts_are_those_of_the_last_line_of_pytest() -> None:
    assert outcomes("2 passed\n....\n1 failed, 30 passed, 4 skipped, 2 deselected in 60.01s\n") == {
        "failed": 1, "passed": 30, "skipped": 4,
    }  # fmt: skip
    assert outcomes("") == {}
