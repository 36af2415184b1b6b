"""One SQLite file that survives damage, a full disk and a read-only disk, each of which becomes a sentence for people.

Each use opens its own connection, so any thread may call, and several playgrounds may share the file.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from playground.errors import PlaygroundError
from playground.machine.files import damaged_file_path, write_remedy

_LOG: Final = logging.getLogger(__name__)
_WAIT_SECONDS: Final = 5.0  # for another writer to finish
_CHECK: Final = "Check that the data folder (PLAYGROUND_DATA_DIR) can be written to"


class DatabaseFile:
    """A SQLite file with a fixed schema, which the first write creates. Thread-safe.

    schema: statements that create what is missing. name: what it holds, such as "The vote database".

    A damaged file is renamed and a new one started; `set_aside` then says so. `open_database` raises PlaygroundError
    with a remedy if the file cannot be read or written. Nothing is kept open, so the next call works once the cause is
    gone.
    """

    def __init__(self, path: Path, schema: str, name: str) -> None:
        self.path = path
        self.set_aside = ""  # a sentence for the page, once a damaged file was found
        self._schema, self._name = schema, name
        self._mending = threading.Lock()

    def repair_file(self) -> None:
        """Check the file, and move it aside if it is damaged; called when the playground starts."""
        try:
            with self.open_database(f"{self._name} cannot be read") as database:
                (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                self._move_aside(verdict)
        except PlaygroundError as error:  # the next call that needs the file raises it again
            if not self.set_aside:
                _LOG.warning("%s", error)

    @contextmanager
    def open_database(self, what_failed: str, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection to a database with the tables; in memory for reading a file that does not exist.

        what_failed: the beginning of the sentence that an error becomes, such as "The votes cannot be counted".
        """
        try:
            if write:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_dir():
                raise sqlite3.DatabaseError("a folder has its name")
            here = write or _is_begun(self.path)
            with closing(sqlite3.connect(self.path if here else ":memory:", timeout=_WAIT_SECONDS)) as database:
                if write or not here:
                    database.executescript(self._schema)
                yield database
        except sqlite3.OperationalError as error:
            to_do = "Make room on its disk" if "full" in str(error) else f"{_CHECK}, and {self.path.name} in it"
            raise PlaygroundError(f"{what_failed}: {error}.", f"{to_do}.") from error
        except sqlite3.DatabaseError as error:
            self._move_aside(str(error))
            raise PlaygroundError(f"{what_failed}. {self.set_aside}", "Try again.") from error
        except OSError as error:
            to_do = write_remedy(error, _CHECK)
            raise PlaygroundError(f"{what_failed}: {error.strerror or error}.", f"{to_do}.") from error

    def _move_aside(self, why: str) -> None:
        """Raises PlaygroundError if the file cannot be renamed."""
        with self._mending:
            if _is_sound(self.path):  # another thread or process did it
                return
            kept = damaged_file_path(self.path)
            try:
                for ending in ("-journal", "-wal", "-shm", ""):  # with what SQLite could repair it from
                    with suppress(FileNotFoundError):
                        self.path.with_name(self.path.name + ending).rename(kept.with_name(kept.name + ending))
            except OSError as error:
                raise PlaygroundError(
                    f"{self.path.name} in the data folder is damaged ({why}) and cannot be moved aside: "
                    f"{error.strerror or error}.",
                    "Move the file away; a new one is then started.",
                ) from error
            self.set_aside = (
                f"{self._name} was damaged ({why}). It is kept as {kept.name} in the data folder, and a new one "
                "was started."
            )
            _LOG.warning("%s", self.set_aside)


def _is_begun(path: Path) -> bool:
    """False for a file that does not exist, or is empty because the disk was full: it has no table yet."""
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def _is_sound(path: Path) -> bool:
    """True also for a file that does not exist: the next write creates it."""
    if not path.exists():
        return True
    if path.is_dir():
        return False
    try:
        with closing(sqlite3.connect(path, timeout=_WAIT_SECONDS)) as database:
            return bool(database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.OperationalError:
        return True  # locked or unreadable is not damaged
    except sqlite3.DatabaseError:
        return False
