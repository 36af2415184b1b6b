"""A model's process that says what cannot be read: everybody who waits for it gets an ordinary error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from playground.engine.local import client
from playground.engine.local.client import LocalEngine
from playground.engine.local.cpu_shares import CpuShares
from playground.errors import ModelStopped
from playground.llama.params import ContextParameters

NONSENSE = {
    "no message": "what?\\n",
    "an event without its fields": "Token {}\\n",
    "a command": 'SetThreads {\\"threads\\": 1}\\n',
}


def engine_that_says(
    said: str, then: str, monkeypatch: pytest.MonkeyPatch, folder: Path, file: str = "some.gguf"
) -> LocalEngine:
    (folder / "odd_worker.py").write_text(
        f'import sys, time\nsys.stdout.write("{said}")\nsys.stdout.flush()\n{then}\n', encoding="utf-8"
    )
    monkeypatch.chdir(folder)
    monkeypatch.setattr(client, "WORKER", "odd_worker")
    return LocalEngine(folder / file, ContextParameters(512), CpuShares(1))


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_line_that_cannot_be_read_ends_the_model_with_an_ordinary_error(
    said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine = engine_that_says(said, "time.sleep(600)", monkeypatch, tmp_path)
    try:
        with pytest.raises(ModelStopped, match=r"some\.gguf sent a message that cannot be read"):
            list(engine.load_model())
        assert not engine.is_alive
        with pytest.raises(ModelStopped, match="cannot be read"):
            engine.count_tokens("who asks later is told, too")
    finally:
        engine.close()


def test_a_process_that_dies_in_the_middle_of_a_line_is_told_as_a_death(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine = engine_that_says('Token {\\"te', "sys.exit(3)", monkeypatch, tmp_path)
    try:
        with pytest.raises(ModelStopped, match=r"ended by itself \(code 3\)"):
            list(engine.load_model())
    finally:
        engine.close()


def remedy_after(then: str, file: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> str:
    engine = engine_that_says("", then, monkeypatch, folder, file)
    try:
        with pytest.raises(ModelStopped) as stopped:
            list(engine.load_model())
        return str(stopped.value.remedy)
    finally:
        engine.close()


@pytest.mark.parametrize("crash", ["import os; os.abort()", "import os; os.kill(os.getpid(), 11)", "sys.exit(3)"])
def test_a_crash_that_repeats_with_the_same_file_is_not_said_to_go_away(
    crash: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"first")
    first, again = (remedy_after(crash, "bad.gguf", monkeypatch, tmp_path) for _ in range(2))
    assert first == "The next message starts it again; if it crashes again, this file cannot be run here."
    assert again == "It crashed so before with this file: choose another file or level of the model."
    assert remedy_after(crash, "other.gguf", monkeypatch, tmp_path) == first
    os.utime(tmp_path / "bad.gguf", (1, 1))  # another file of that name
    assert remedy_after(crash, "bad.gguf", monkeypatch, tmp_path) == first


def test_a_process_that_the_system_ended_may_be_started_again_and_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for _ in range(2):
        ended = remedy_after("import os; os.kill(os.getpid(), 9)", "large.gguf", monkeypatch, tmp_path)
        assert ended == "The next message starts it again."
