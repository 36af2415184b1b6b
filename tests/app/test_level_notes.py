"""Levels that are slower than one with more bits are marked, by what was measured here or by missing kernels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from playground.__main__ import main
from playground.app.model_picker.level_notes import LevelSpeed, speed_notes
from playground.app.services import Services
from playground.gguf.tensors import TensorType
from playground.llama.cpu_kernels import kernel_of, speed_note
from playground.quantize.quantize import quantize_file
from playground.settings import load_settings

Q8, Q4, Q3 = (TensorType.Q8_0, TensorType.Q4_K, TensorType.Q3_K)


def notes(*levels: tuple[str, float, TensorType, float | None]) -> list[str | None]:
    return speed_notes([LevelSpeed(*level) for level in levels])


def test_a_level_that_was_measured_slower_than_a_larger_one_says_so_with_both_speeds() -> None:
    usual, lower = notes(("Q4_K_M", 4.9, Q4, 28.3), ("Q3_K_M", 4.0, Q3, 21.4))
    assert usual is None
    assert lower == (
        "Slower here than Q4_K_M, which has more bits: 21.4 tok/s and 28.3 tok/s, measured on this computer."
    )


def test_speeds_that_hardly_differ_mark_nothing() -> None:
    assert notes(("Q8_0", 8.5, Q8, 28.3), ("Q4_K_M", 4.9, Q4, 26.0))[1] is None


def test_a_measured_speed_overrules_what_is_known_of_kernels() -> None:
    by_kernel = speed_note(Q3)
    assert notes(("Q4_K_M", 4.9, Q4, None), ("Q3_K_M", 4.0, Q3, 30.0))[1] == by_kernel
    as_fast = notes(("Q4_K_M", 4.9, Q4, 28.3), ("Q3_K_M", 4.0, Q3, 30.0))[1]
    assert as_fast == (None if kernel_of(Q4) == "repacked" else by_kernel)


def test_measured_speeds_mark_levels_on_the_command_line(
    starter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLAYGROUND_DATA_DIR", str(tmp_path))
    with Services(load_settings()) as services:
        smaller = services.library.path_for_level("SmolLM2-135M-Instruct", "Q2_0")
        for _ in quantize_file(starter, "Q2_0", smaller, threads=2):
            pass
        for path, speed in ((starter, 100.0), (smaller, 30.0)):
            services.forecaster.record_reply(path, "CPU", services.processors.usable, 64, 80, speed)
    assert main(["levels", "SmolLM2-135M-Instruct"]) == 0
    slower = "Slower here than Q4_1, which has more bits: 30.0 tok/s and 100 tok/s, measured on this computer."
    assert f"Q2_0: {slower}" in capsys.readouterr().out
    assert main(["levels", "SmolLM2-135M-Instruct", "--json"]) == 0
    levels = {level["level"]: level["notes"] for level in json.loads(capsys.readouterr().out)["levels"]}
    assert slower in levels["Q2_0"] and not any("Slower" in note for note in levels["Q4_1"])
