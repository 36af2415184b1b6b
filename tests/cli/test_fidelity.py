"""`fidelity` on the command line: one JSON object or a table, one line of error."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from playground.__main__ import main
from playground.app.services import Services
from playground.settings import load_settings


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No models but the starter, whatever is on the machine that runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub-home"))
    monkeypatch.setenv("PLAYGROUND_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "text.txt").write_text("The ferry leaves at six, when the lamps along the quay are still lit.")
    return str(tmp_path / "text.txt")


def test_a_model_against_itself_is_told_in_one_json_object(
    capsys: pytest.CaptureFixture[str], text: str, tmp_path: Path
) -> None:
    assert main(["fidelity", "starter", "starter", "starter", "--text", text, "--json"]) == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    first, second = record.pop("rows")
    assert first == second and first["model"] == "starter" and first["file"] == record["reference_file"]
    assert all(record[name] == first[name] for name in first if name not in ("model", "file"))
    assert (record["text"], record["precision_of_the_reference"]) == ("text.txt", "16-bit")
    assert record["versions"].keys() == {"playground", "llama-cpp-python"} and len(record["text_digest"]) == 64
    assert record["kl_median"] == record["kl_99"] == record["kl_99_error"] == record["kl_maximum"] == 0
    assert printed.out.count("\n") == 1 and printed.err == ""
    assert (record["kl_divergence"], record["kl_divergence_error"]) == (0, 0)
    assert (record["top_token_agreement"], record["top_token_agreement_error"]) == (1, 0)
    assert record["perplexity"] == record["perplexity_reference"] > 1
    assert record["perplexity_error"] == record["perplexity_reference_error"] > 0
    assert record["tokens"] > 10
    assert not (tmp_path / "data" / "scores").exists()


def test_without_json_it_is_a_table(capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert main(["fidelity", "starter", "starter", "--text", text]) == 0
    out = capsys.readouterr().out
    assert re.search(r"KL divergence, mean +0\n", out) and "standard error" in out and "text.txt" in out


def test_a_disk_without_room_shortens_what_is_kept_and_says_so(
    capsys: pytest.CaptureFixture[str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playground.measure.text_fidelity.free_disk_bytes", lambda folder: 0)
    command = ["fidelity", "starter", "starter", "--text", text]
    assert main([*command, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["precision_of_the_reference"], record["kl_divergence"]) == ("top", 0)
    assert main(command) == 0
    assert "512 most likely tokens" in capsys.readouterr().out


def test_a_text_that_is_not_there_is_one_line_of_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["fidelity", "starter", "starter", "--text", str(tmp_path / "none.txt")]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and "none.txt" in printed.err


def test_what_is_no_text_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff\xe0")
    assert main(["fidelity", "starter", "starter", "--text", str(tmp_path / "picture")]) == 1
    assert "UTF-8" in capsys.readouterr().err


def begin(folder: Path) -> tuple[subprocess.Popen[bytes], list[Path]]:
    """A scoring that would take minutes, once its temporary file is there; and the files in its folder."""
    (folder / "long.txt").write_text("The ferry leaves at six, when the lamps along the quay are still lit. " * 2000)
    command = ["fidelity", "starter", "starter", "--text", str(folder / "long.txt"), "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "playground", *command], env=os.environ | {"PYTHONPATH": os.getcwd()},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    scores = folder / "data" / "scores"
    while not (found := list(scores.glob(".*"))) and process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    return process, found


def test_sigterm_ends_a_scoring_and_leaves_none_of_its_files(starter: Path, tmp_path: Path) -> None:
    process, files = begin(tmp_path)
    assert files
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM
    assert not any(file.exists() for file in files)


def test_what_a_killed_scoring_leaves_behind_is_gone_after_the_next_start(starter: Path, tmp_path: Path) -> None:
    process, files = begin(tmp_path)
    process.kill()
    process.wait()
    assert all(file.exists() for file in files)
    with Services(load_settings(data_dir=tmp_path / "data")):
        assert not any(file.exists() for file in files)
