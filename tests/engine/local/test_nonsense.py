"""A model's process that says what cannot be read: everybody who waits for it gets an ordinary error."""

from __future__ import annotations

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


def engine_that_says(said: str, then: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> LocalEngine:
    (folder / "odd_worker.py").write_text(
        f'import sys, time\nsys.stdout.write("{said}")\nsys.stdout.flush()\n{then}\n', encoding="utf-8"
    )
    monkeypatch.chdir(folder)
    monkeypatch.setattr(client, "WORKER", "odd_worker")
    return LocalEngine(folder / "some.gguf", ContextParameters(512), CpuShares(1))


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
