"""Plants a recorded machine in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


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
