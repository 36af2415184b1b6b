"""`measure` and `abilities` on the command line: one JSON object, a file, and misuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from playground.__main__ import main
from playground.cli.measure import plans_of_models
from playground.measure.plan import MeasurementPlan


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No models but the starter, whatever is on the machine that runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PLAYGROUND_DATA_DIR", str(tmp_path / "data"))


def test_what_is_measured_is_printed_kept_and_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The ferry leaves at six, when the lamps along the quay are still lit.")
    out = tmp_path / "card.md"
    arguments = ["measure", "starter", "--what", "fidelity", "--text", str(tmp_path / "text.txt")]
    assert main([*arguments, "--levels", "q4_1", "--kv", "f16,q8_0/q4_0", "--out", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["failed"] == [] and len(record["measurements"]) == 2
    usual, quantized = record["measurements"]
    assert (usual["k_type"], usual["figures"]["kl_divergence"]) == ("f16", 0)
    assert (quantized["k_type"], quantized["v_type"]) == ("q8_0", "q4_0") and quantized["figures"]["kl_divergence"] > 0
    assert "| Q4_1 · K q8_0 V q4_0 |" in out.read_text() and (tmp_path / "data" / "measurements.sqlite").exists()
    assert main([*arguments, "--json"]) == 0
    (again,) = json.loads(capsys.readouterr().out)["measurements"]
    assert (again["k_type"], again["figures"]) == ("f16", usual["figures"]), "what an earlier run found is not its own"


def test_levels_answer_a_file_of_prompts_into_one_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("What is 2+2?\n\nName a colour.\n")
    arguments = ["measure", "starter", "--what", "answers", "--prompts", str(tmp_path / "two.txt"), "--json"]
    assert main([*arguments, "--out", str(tmp_path / "grid.md")]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [each["details"][0]["prompt"] for each in record["measurements"]] == ["What is 2+2?", "Name a colour."]
    assert "## 2. Name a colour." in (tmp_path / "grid.md").read_text()


def test_abilities_are_scored_with_their_interval(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["abilities", "starter", "--suite", "tools", "--tasks", "1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["suite"], row["items"], len(row["interval"])) == ("tools", 1, 2)
    assert row["details"][0]["prompt"] == "What is 847 times 36?"


@pytest.mark.parametrize("wrong", [["--what", "taste"], ["--kv", "q9_9"], ["--repeat", "0"]])
def test_misuse_is_told(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["measure", "starter", *wrong])
    assert end.value.code == 2 and wrong[1] in capsys.readouterr().err


def test_levels_that_are_named_one_by_one_make_one_run_of_each_model() -> None:
    fox = [MeasurementPlan("fox", (level,), ("fidelity",), reference="Q8_0") for level in ("Q8_0", "Q4_0", "Q8_0")]
    owl = MeasurementPlan("owl", ("Q6_K",), ("fidelity",), reference="Q6_K")
    both, other = plans_of_models([fox[0], owl, *fox[1:]])
    assert (both.model, both.levels, both.reference, other) == ("fox", ("Q8_0", "Q4_0"), "Q8_0", owl)
