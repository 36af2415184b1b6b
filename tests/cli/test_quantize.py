"""`quantize` as a script meets it: exact size first, then the file, on the real starter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from playground.__main__ import main
from playground.gguf.header import read_header
from playground.gguf.reader import FileSource


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PLAYGROUND_DATA_DIR", str(tmp_path / "data"))


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    return json.loads(printed)


def test_a_dry_run_tells_the_size_to_the_byte_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    foretold = answer(capsys, "quantize", "starter", "q2_0", "-o", str(tmp_path / "low.gguf"), "--dry-run")
    assert foretold["level"] == "Q2_0" and foretold["path"] is None and foretold["requantized_from"] == "Q4_1"
    assert not (tmp_path / "low.gguf").exists() and not (tmp_path / "data").exists()
    made = answer(capsys, "quantize", "starter", "Q2_0", "-o", str(tmp_path / "low.gguf"))
    assert made["size"] == foretold["size"] == (tmp_path / "low.gguf").stat().st_size
    assert made["bits_per_weight"] == foretold["bits_per_weight"]
    assert read_header(FileSource(tmp_path / "low.gguf")).level == "Q2_0"


def test_without_a_file_name_the_level_becomes_one_of_the_starters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", "starter", "Q2_0"]) == 0
    said = capsys.readouterr().out
    assert "Made from the Q4_1 file" in said and "3.6 bits per weight" in said
    levels = answer(capsys, "levels", "starter:Q2_0")["levels"]
    assert [(level["level"], level["origin"]) for level in levels] == [("Q2_0", "made here")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("starter", "Q9"), "cannot make a level named Q9"),
        (("starter", "Q1_0"), "cannot make Q1_0"),
        (("nowhere.gguf", "Q8_0"), "There is no file nowhere.gguf"),
        (("starter", "Q2_0", "-o", "/dev/null"), "exists already"),
    ],
)
def test_what_cannot_be_made_is_one_line_of_error(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert main(["quantize", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and words in printed.err and printed.err.count("\n") == 1
