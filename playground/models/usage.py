"""When each model file was last loaded, kept over restarts in the data folder.

A list that cannot be read or written only means that nothing is known; no load ever fails for it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

_MOST_FILES: Final = 2000


class LastUsed:
    """Times of loads by path, in seconds since 1970; thread-safe."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()

    def note(self, path: Path) -> None:
        """This file has been loaded now."""
        with self._lock, suppress(OSError):
            times = self._read() | {str(path.absolute()): round(self._clock())}
            newest = sorted(times.items(), key=lambda entry: entry[1])[-_MOST_FILES:]
            self._file.parent.mkdir(parents=True, exist_ok=True)
            arriving = self._file.with_name(f"{self._file.name}.arriving")
            arriving.write_text(json.dumps(dict(newest), indent=1), encoding="utf-8")
            arriving.replace(self._file)

    def of(self, path: Path) -> int | None:
        """When it was last loaded; None where that is not known."""
        with self._lock:
            return self._read().get(str(path.absolute()))

    def _read(self) -> dict[str, int]:
        try:
            times = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(times, dict):
            return {}
        return {path: when for path, when in times.items() if isinstance(when, int) and when > 0}
