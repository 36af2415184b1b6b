"""The command line as a script meets it: one JSON object or a table, one line of error, an exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from playground.__main__ import main

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No models but the starter, whatever is on the machine that runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub-home"))
    monkeypatch.setenv("PLAYGROUND_DATA_DIR", str(tmp_path / "data"))


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command prints with --json, which must be one JSON object and nothing else."""
    code = main([*arguments, "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert printed.out.count("\n") == 1
    record = json.loads(printed.out)
    assert isinstance(record, dict)
    return record


def text(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a command fails."""
    assert main(list(arguments)) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    return printed.err


# --- machine ---


def test_machine_tells_memory_in_bytes_and_cores(capsys: pytest.CaptureFixture[str]) -> None:
    record = answer(capsys, "machine")
    assert record.keys() >= {"memory_total", "memory_usable", "memory_limit", "limited_by", "cores_usable"}
    assert 1 << 28 < record["memory_usable"] <= record["memory_total"]
    assert record["cores_usable"] >= 1 and record["limited_by"]


def test_machine_names_the_devices_that_a_model_can_run_on(capsys: pytest.CaptureFixture[str]) -> None:
    record = answer(capsys, "machine")
    (cpu,) = [device for device in record["devices"] if device["kind"] == "CPU"]
    assert cpu.keys() >= {"name", "backend", "kind", "memory_total", "memory_free", "unified"}
    assert cpu["memory_total"] == record["memory_total"] and record["devices_problem"] == ""


def test_machine_is_readable_without_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert " GB" in text(capsys, "machine")


# --- levels ---


def test_levels_of_the_starter_have_size_true_bits_and_verdict(
    capsys: pytest.CaptureFixture[str], starter: Path
) -> None:
    (level,) = answer(capsys, "levels", "starter")["levels"]
    assert level["level"] == "Q4_1" and level["size"] == starter.stat().st_size
    assert level["files"] == [str(starter)]
    assert level["bits_per_weight"] == pytest.approx(5.74, abs=0.01)
    assert level["verdict"] == "fits"


def test_the_table_of_levels_has_bits_per_weight_as_plain_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    heading, level, *_ = text(capsys, "levels", "starter").splitlines()
    end = heading.index("BITS PER WEIGHT") + len("BITS PER WEIGHT")
    assert level[:end].endswith(" 5.7")


def test_levels_of_a_folder_say_which_file_cannot_be_used(
    capsys: pytest.CaptureFixture[str], starter: Path, tmp_path: Path
) -> None:
    """A sound header before a model that llama.cpp cannot open is a row that says so, and the others stay."""
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "Tiny-Q4_1.gguf").symlink_to(starter)
    broken = starter.read_bytes().replace(b"llama", b"lambo")
    (tmp_path / "shelf" / "Odd-Q4_1.gguf").write_bytes(broken)
    (tmp_path / "shelf" / "mmproj-F16.gguf").write_bytes(b"GGUF")
    (tmp_path / "shelf" / "Big-Q8_0-00002-of-00002.gguf").write_bytes(b"GGUF")
    record = answer(capsys, "levels", str(tmp_path / "shelf"))
    levels = {row["model"]: row for row in record["levels"]}
    reasons = {Path(entry["file"]).name: entry["reason"] for entry in record["left_out"]}
    assert "projector" in reasons["mmproj-F16.gguf"] and "1 of the 2 parts" in reasons["Big-Q8_0-00002-of-00002.gguf"]
    assert len(levels) + len(reasons) == len(list((tmp_path / "shelf").iterdir()))
    assert levels["Tiny"]["verdict"] == "fits"
    assert levels["Odd"]["verdict"] == "unusable" and "lambo" in levels["Odd"]["reason"]


def test_levels_of_what_is_not_on_disk_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no model Tiny on this computer" in complaint(capsys, "levels", "Tiny")


def test_the_table_of_levels_ends_with_what_is_left_out(
    capsys: pytest.CaptureFixture[str], starter: Path, tmp_path: Path
) -> None:
    (tmp_path / "Tiny-Q4_1.gguf").symlink_to(starter)
    (tmp_path / "imatrix.gguf").write_bytes(b"GGUF")
    last = text(capsys, "levels", str(tmp_path)).splitlines()[-1]
    assert last.startswith("Left out: ") and "imatrix.gguf. It is an importance matrix" in last


# --- plan ---


def test_plan_parts_add_up_to_its_total(capsys: pytest.CaptureFixture[str]) -> None:
    record = answer(capsys, "plan", "starter", "--context", "4096")
    parts = ("weights", "repacked", "kv_cache", "recurrent", "compute", "output", "base")
    assert sum(record[part] for part in parts) == record["total"]
    assert record["kv_cache"] == 4096 * 30 * 2 * 3 * 64 * 2  # tokens x layers x (K, V) x heads x width x f16
    assert record["total"] - record["must_stay"] == record["weights"]
    assert record["needed"] == record["total"]  # its token embedding is its output layer, too: all of it is read
    assert record["verdict"] == "fits" and record["usable"] > record["total"]
    assert record["largest_context"] == 8192


def test_a_quantized_cache_takes_about_half(capsys: pytest.CaptureFixture[str]) -> None:
    full, half = (answer(capsys, "plan", "starter", "--context", "4K", "--kv-type", kind) for kind in ("f16", "q8_0"))
    assert half["kv_cache"] == pytest.approx(full["kv_cache"] * 34 / 64, rel=0.001)


def test_plan_in_words_names_the_parts_and_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    words = text(capsys, "plan", "starter", "--context", "2048")
    assert "KV cache" in words and "Fits" in words and "8,192 tokens" in words


# --- chat ---


def test_chat_answers_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    record = answer(capsys, "chat", "starter", "-p", "What is 2+2?", "--temperature", "0", "--context", "1024")
    assert "4" in record["text"]
    assert record["finish_reason"] == "end of text"
    assert record["timings"]["generated_tokens"] > 3 and record["timings"]["generation_speed"] > 0
    assert record["memory_measured"] > 0 and record["memory_planned"] > 0
    assert isinstance(record["disturbed"], bool) and record["timings"]["disturbed"] is record["disturbed"]


def test_chat_without_json_prints_the_words_and_keeps_the_figures_apart(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["chat", "starter", "-p", "What is 2+2?", "--temperature", "0", "--max-tokens", "8"]
    assert main([*arguments, "--context", "1024"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("The answer") and printed.out.endswith("\n")
    assert "tok/s" not in printed.out
    assert "tok/s" in printed.err and "8 tokens" in printed.err and "length limit" in printed.err


def test_a_template_that_fails_is_replaced_and_a_note_says_so(
    capsys: pytest.CaptureFixture[str], starter: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "Odd-Q4_1.gguf"
    odd.write_bytes(starter.read_bytes().replace(b"+ message['role']", b"+ message['rule']"))
    question = ["-p", "What is 2+2?", "--temperature", "0", "--max-tokens", "8", "--context", "512"]
    record = answer(capsys, "chat", str(odd), *question)
    assert record["text"].startswith("The answer")
    assert "'rule'" in record["note"] and "uses ChatML instead" in record["note"]
    assert main(["compare", "starter", str(odd), *question]) == 0
    printed = capsys.readouterr().err
    assert "Odd Q4_1: The chat template of this model fails" in printed and printed.count("ChatML") == 1


def test_the_same_seed_gives_the_same_answer(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["chat", "starter", "-p", "Tell me a story.", "--seed", "7", "--max-tokens", "24", "--context", "1024"]
    assert answer(capsys, *arguments)["text"] == answer(capsys, *arguments)["text"]


def test_a_context_beyond_this_computer_is_refused_with_what_fits(capsys: pytest.CaptureFixture[str]) -> None:
    """8 million tokens of KV cache are 180 GiB."""
    assert "8,192 tokens fits" in complaint(capsys, "chat", "starter", "-p", "Hello", "--context", "8192K")


def test_a_terminal_without_emoji_gets_the_answer_all_the_same() -> None:
    arguments = ["chat", "starter", "-p", "Say 🌞 please.", "--temperature", "0", "--max-tokens", "24"]
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "playground", *arguments, "--context", "512"]
    done = subprocess.run(command, cwd=PROJECT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


# --- speed ---


def test_speed_tells_prompt_and_reply_with_their_deviation(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--prompt", "32", "--generate", "8", "--repeat", "2", "--concurrent", "2")
    rows = answer(capsys, "speed", "starter", *arguments)["rows"]
    assert [row["test"] for row in rows] == ["pp32", "tg8", "tg8 x2"]
    assert all(row["model"] == "starter" and row["tokens_per_second"] > 0 for row in rows)
    assert all(row["deviation"] >= 0 and row["repeats"] == 2 and row["device"] == "CPU" for row in rows)
    assert all(isinstance(row["disturbed"], bool) for row in rows)
    assert rows[0]["mean_tokens"] in (31, 32) and rows[1]["mean_tokens"] == 8


# --- what goes wrong ---


def test_a_bad_file_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"nothing of the kind")
    assert "GGUF" in complaint(capsys, "plan", str(tmp_path / "x.gguf"), "--context", "512")


def test_a_setting_that_cannot_be_read_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYGROUND_SLOTS", "many")
    assert "PLAYGROUND_SLOTS" in complaint(capsys, "machine")


@pytest.mark.parametrize(
    "arguments",
    [
        ["dance"],
        ["plan", "starter"],
        ["plan", "starter", "--context", "0"],
        ["plan", "starter", "--context", "lots"],
        ["plan", "starter", "--context", "1000000K"],
        ["plan", "starter", "--context", "4096", "--kv-type", "f64"],
        ["chat", "starter"],
        ["chat", "starter", "-p", "x", "--temperature", "-1"],
        ["chat", "starter", "-p", "x", "--temperature", "nan"],
        ["serve", "--port", "70000"],
        ["speed"],
    ],
)
def test_misuse_ends_with_code_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and "usage: playground" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m playground machine | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=PROJECT, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "141")  # 0 when the output was written before the reader left


def test_a_command_leaves_the_signals_of_its_process_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    answer(capsys, "machine")
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_ends_a_chat_with_130_and_leaves_no_process() -> None:
    """A terminal sends the signal to every process of the command."""
    arguments = ["chat", "starter", "-p", "Tell me a very long story.", "--temperature", "0", "--context", "1024"]
    command = [sys.executable, "-m", "playground", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    ) as chat:
        assert chat.stdout is not None and chat.stderr is not None
        assert chat.stdout.read(1), "the first word arrives"
        os.killpg(chat.pid, signal.SIGINT)
        _, errors = chat.communicate(timeout=30)  # returns only when the children's pipes are closed too
    assert chat.returncode == 130 and b"Traceback" not in errors
