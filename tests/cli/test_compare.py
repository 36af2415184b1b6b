"""`compare` as a script meets it: both answers, their first difference, and what went wrong with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from playground.__main__ import main
from tests.conftest import GPU, REAL_GPU, Gpus

QUESTION = ("-p", "What is 2+2?", "--temperature", "0", "--max-tokens", "8", "--context", "512")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No models but the starter, whatever is on the machine that runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub-home"))
    monkeypatch.setenv("PLAYGROUND_DATA_DIR", str(tmp_path / "data"))


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["compare", *arguments, "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    return json.loads(printed.out)


@pytest.mark.parametrize("mode", [[], ["--at-once"]], ids=["in turn", "at once"])
def test_a_model_beside_itself_gives_one_answer_twice(capsys: pytest.CaptureFixture[str], mode: list[str]) -> None:
    record = answer(capsys, "starter", "starter", *QUESTION, *mode)
    one, other = record["panes"]
    assert one["text"] == other["text"] and one["text"].startswith("The answer")
    assert one["finish_reason"] == "length limit" and one["timings"]["generation_speed"] > 0
    assert one["memory_planned"] > 0 and one["level"] == "Q4_1"
    assert record["first_difference"] is None


def test_one_level_on_the_gpu_and_on_the_cpu_is_a_comparison_like_any_other(
    gpus: Gpus, capsys: pytest.CaptureFixture[str]
) -> None:
    gpus(1024)
    on_gpu, on_cpu = answer(
        capsys, "starter", "starter", *QUESTION, "--device", GPU, "--device", "cpu", "--at-once"
    )["panes"]  # fmt: skip
    assert on_gpu["mode"] == on_cpu["mode"] == "at once"
    (device,) = on_gpu["devices"]
    assert (on_gpu["device"], device["layers"]) == (GPU, 31)
    assert device["memory_planned"] == device["memory_allocated"] > 0
    if not REAL_GPU:  # whose kernels round otherwise, and whose driver takes memory of its own
        assert on_gpu["text"] == on_cpu["text"] and device["backend"] == "RPC"
        assert device["memory_measured"] == device["memory_planned"]
    assert (on_cpu["device"], on_cpu["devices"]) == ("CPU", [])


def test_a_model_that_cannot_be_loaded_leaves_the_other_its_answer(
    capsys: pytest.CaptureFixture[str], starter: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "Odd-Q4_1.gguf"
    broken.write_bytes(starter.read_bytes().replace(b"llama", b"lambo"))
    one, other = answer(capsys, "starter", str(broken), *QUESTION)["panes"]
    assert one["text"] and "lambo" in other["error"]


def test_in_words_it_ends_with_the_table_and_the_first_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "starter", "starter", *QUESTION]) == 0
    printed = capsys.readouterr()
    assert "SmolLM2 135M Instruct Q4_1\n\nThe answer" in printed.out
    assert "Memory measured" in printed.out and printed.out.endswith("The answers are identical.\n")
    assert "tok/s" in printed.err


def test_one_model_is_not_enough(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["compare", "starter", "-p", "Hello"])
    assert end.value.code == 2 and "usage: playground" in capsys.readouterr().err
