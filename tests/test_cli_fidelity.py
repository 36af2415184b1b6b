"""`fidelity` on the command line: one JSON object or a table, one line of error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from playground.cli import main


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
    assert main(["fidelity", "starter", "starter", "--text", text, "--json"]) == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out)
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
    assert "KL divergence" in out and "0.00000" in out and "standard error" in out


def test_a_text_that_is_not_there_is_one_line_of_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["fidelity", "starter", "starter", "--text", str(tmp_path / "none.txt")]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and "none.txt" in printed.err


def test_what_is_no_text_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff\xe0")
    assert main(["fidelity", "starter", "starter", "--text", str(tmp_path / "picture")]) == 1
    assert "UTF-8" in capsys.readouterr().err
