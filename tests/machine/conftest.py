"""Plants a recorded machine in a folder, and starts child processes from a source text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from playground.machine.child_process import ChildProcess


@pytest.fixture
def plant(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a recorded tree, in which "== path" starts a file, and gives its root."""

    def write(text: str) -> Path:
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        for entry in filter(str.strip, ("\n" + text).split("\n== ")):
            path, _, content = entry.partition("\n")
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(content.strip("\n") + "\n")
        return root

    return write


@pytest.fixture
def start_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ChildProcess]]:
    """Starts a Python source as a child process, which is closed at the end of the test."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    with ExitStack() as children:

        def start(source: str) -> ChildProcess:
            name = f"child_{len(list(folder.glob('*.py')))}"
            (folder / f"{name}.py").write_text(source)
            return children.enter_context(ChildProcess(name))

        yield start
