"""The list of unfinished downloads in the data folder, so that a restart goes on with them, and the speed of the last.

One running playground at a time owns the list, by a file lock that ends with its process. A list that cannot be read is
moved aside, never overwritten.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError, field_validator

from playground.errors import PlaygroundError, RequestRefused
from playground.machine.files import damaged_file_path, write_json_atomically
from playground.models.hub.repository import HubLevel

_LOG: Final = logging.getLogger(__name__)
_FASTEST: Final = 1e12  # bytes per second; no connection is so fast


class JournalEntry(BaseModel):
    """An unfinished download. note: why it failed, as a sentence for people."""

    level: HubLevel
    state: Literal["wanted", "cancelled", "failed"]
    note: str = ""

    @field_validator("level")
    @classmethod
    def _check_files(cls, level: HubLevel) -> HubLevel:
        if not level.files:
            raise ValueError("a level has at least one file")
        return level


class DownloadJournal:
    """Call `acquire_lock` before reading or writing. Not thread-safe: the queue's lock guards it."""

    def __init__(self, data_dir: Path) -> None:
        self.damage_note = ""  # a sentence for the page, once a damaged list was found
        self.is_ours = False
        self._path = data_dir / "downloads.json"
        self._speed_path = data_dir / "download-speed.json"
        self._lock = FileLock(data_dir / "downloads.lock", thread_local=False)
        self._may_write = True

    @property
    def warning(self) -> str:
        """What people should know about the list; "" if all is well."""
        return self.damage_note if self.is_ours else str(_owned_by_another())

    def acquire_lock(self) -> bool:
        """Own the list unless another process does. On a disk without locks, every process may own it."""
        if not self.is_ours:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._lock.acquire(timeout=0)
            except Timeout:
                return False
            except (OSError, NotImplementedError):
                _LOG.info("The data folder %s does not support locks.", self._path.parent)
            self.is_ours = True
        return True

    def check_is_ours(self) -> None:
        """Raises RequestRefused if another process owns the list."""
        if not self.is_ours:
            raise _owned_by_another()

    def release_lock(self) -> None:
        self.is_ours = False
        self._lock.release()

    def read_entries(self) -> list[JournalEntry]:
        """The unfinished downloads of an earlier run; of a damaged list, those that can be read."""
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))
            if not isinstance(rows, list):
                raise ValueError("not a list")
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError) as error:
            self._move_aside(error)
            return []
        entries = []
        for row in rows:
            try:
                entries.append(JournalEntry.model_validate(row))
            except ValidationError as error:
                self._move_aside(error)
        return entries

    def write_entries(self, entries: Iterable[JournalEntry]) -> None:
        """Replace the list. If it cannot be written, downloads go on, and are forgotten at the end of the process."""
        if self.is_ours and self._may_write:
            with suppress(PlaygroundError):
                write_json_atomically(self._path, [entry.model_dump() for entry in entries])

    def read_speed(self) -> float | None:
        """Bytes per second of the last download of an earlier run; None if there was none, or the file is damaged."""
        try:
            speed = json.loads(self._speed_path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        is_number = isinstance(speed, int | float) and not isinstance(speed, bool)
        return float(speed) if is_number and 0 < speed < _FASTEST else None

    def write_speed(self, speed: float) -> None:
        """Bytes per second of a download that has ended. If it cannot be written, the next run starts without it."""
        if self.is_ours:
            with suppress(PlaygroundError):
                write_json_atomically(self._speed_path, round(speed))

    def _move_aside(self, cause: Exception) -> None:
        """Rename the damaged list. If that fails, it stays, and nothing is written in this run."""
        if self.damage_note:  # another entry was damaged, too
            return
        kept = damaged_file_path(self._path)
        try:
            self._path.rename(kept)
        except OSError as error:
            self._may_write = False
            self.damage_note = (
                f"The list of unfinished downloads, {self._path.name} in the data folder, is damaged and cannot be "
                f"moved aside ({error.strerror or error}). Move it away; until then downloads are not remembered."
            )
        else:
            self.damage_note = (
                f"The list of unfinished downloads was damaged. It is kept as {kept.name} in the data folder, and a "
                "new one was started. Received bytes are still on the disk: start a download again, and it goes on."
            )
        _LOG.warning("%s (%s: %s)", self.damage_note, type(cause).__name__, cause)


def _owned_by_another() -> RequestRefused:
    return RequestRefused(
        "Another running playground manages the downloads of this data folder.",
        "Download there, or end it; or start this one with its own folder (PLAYGROUND_DATA_DIR).",
    )
