"""What is wanted of the queue of downloads, in one file of the data folder, and whose file it is.

One running playground at a time has it: a lock beside it says so, which the system takes back from a process that is
gone. A file that cannot be read is moved aside, never written over. Knows nothing of how a level is brought.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from playground.errors import PlaygroundError, RequestRefused
from playground.models.hub.repository import HubFile, HubLevel

Entry = tuple[HubLevel, str, str]  # what is wanted, "wanted", "cancelled" or "failed", and a note for people

_LOG: Final = logging.getLogger(__name__)
_UNREADABLE: Final = (ValueError, TypeError, KeyError, AttributeError, RecursionError, PlaygroundError)


class DownloadJournal:
    """`take` first; only whoever has taken it may read and write. Not thread-safe: the queue's lock guards it."""

    def __init__(self, data_dir: Path) -> None:
        self.set_aside = ""  # a sentence for the page, once a damaged file was found
        self.is_ours = False
        self._path = data_dir / "downloads.json"
        self._lock = FileLock(data_dir / "downloads.lock", thread_local=False)
        self._may_write = True

    @property
    def warning(self) -> str:
        """What a person should know of it; "" where all is well."""
        return self.set_aside if self.is_ours else str(_of_another())

    def acquire_lock(self) -> bool:
        """Make it ours, if no other process has it. Where nothing can be locked, nobody is kept from downloading."""
        if not self.is_ours:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._lock.acquire(timeout=0)
            except Timeout:
                return False
            except (OSError, NotImplementedError):
                _LOG.info("The data folder %s takes no lock.", self._path.parent)
            self.is_ours = True
        return True

    def check_is_ours(self) -> None:
        """Raises RequestRefused where another process has it."""
        if not self.is_ours:
            raise _of_another()

    def release_lock(self) -> None:
        self.is_ours = False
        self._lock.release()

    def read_entries(self) -> list[Entry]:
        """What an earlier run left unfinished; what can be read of it, where the file is damaged."""
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))
            if not isinstance(rows, list):
                raise ValueError("no list")
        except FileNotFoundError:
            return []
        except (OSError, *_UNREADABLE) as error:
            self._move_aside(error)
            return []
        entries = []
        for row in rows:
            try:
                entries.append((_level(row["level"]), str(row["state"]), str(row["note"])))
            except _UNREADABLE as error:
                self._move_aside(error)
        return entries

    def write_entries(self, entries: Iterable[Entry]) -> None:
        """A journal that cannot be written must not end a download: what is wanted is then lost at the end."""
        if not (self.is_ours and self._may_write):
            return
        rows = [{"level": dataclasses.asdict(level), "state": state, "note": note} for level, state, note in entries]
        arriving = self._path.with_name(f"{self._path.name}.arriving")
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            arriving.write_text(json.dumps(rows, indent=1), encoding="utf-8")
            arriving.replace(self._path)

    def _move_aside(self, why: Exception) -> None:
        """Where the folder does not let the file go, it stays as it is and nothing is noted in this run."""
        moment = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S-%f")
        kept = self._path.with_name(f"{self._path.name}.damaged-{moment}")
        if self.set_aside:  # by another of its entries
            return
        try:
            self._path.rename(kept)
        except OSError as error:
            self._may_write = False
            self.set_aside = (
                f"The list of unfinished downloads, {self._path.name} in the data folder, is damaged and cannot be "
                f"moved aside ({error.strerror or error}). Move it away; until then downloads are not remembered."
            )
        else:
            self.set_aside = (
                f"The list of unfinished downloads was damaged. It is kept as {kept.name} in the data folder, and a "
                "new one was begun. What had arrived is still on the disk: start a download again, and it goes on."
            )
        _LOG.warning("%s (%s: %s)", self.set_aside, type(why).__name__, why)


def _of_another() -> RequestRefused:
    return RequestRefused(
        "Another playground that is running has the downloads of this data folder.",
        "Download there, or end it; or start this one with a folder of its own (PLAYGROUND_DATA_DIR).",
    )


def _level(fields: dict[str, Any]) -> HubLevel:
    return HubLevel(**{**fields, "files": tuple(HubFile(**file) for file in fields["files"])})
