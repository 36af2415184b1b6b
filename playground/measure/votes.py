"""Stores the votes of blind comparisons in a SQLite file, counts them by pair of levels, and exports them as CSV.

A vote holds which two levels were compared and which was preferred, and no text of the chat. Each call opens its own
connection, so any thread may call, and several playgrounds may share the file.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final, Literal, get_args

from playground.errors import PlaygroundError, RequestRefused
from playground.gguf.levels import nominal_bits
from playground.machine.files import damaged_file_path, write_remedy

Preference = Literal["first", "second", "tie", "both bad"]
PREFERENCES: Final[tuple[Preference, ...]] = get_args(Preference)

_LOG: Final = logging.getLogger(__name__)
NORMAL_95: Final = 1.959964  # the standard normal's 97.5 % point
_WAIT_SECONDS: Final = 5.0  # for another writer to finish
_CHECK: Final = "Check that the data folder (PLAYGROUND_DATA_DIR) can be written to"
_CSV_STARTS_A_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS votes (
  id INTEGER PRIMARY KEY,
  voted_at TEXT NOT NULL,
  first_model TEXT NOT NULL,
  first_level TEXT NOT NULL,
  second_model TEXT NOT NULL,
  second_level TEXT NOT NULL,
  preference TEXT NOT NULL CHECK (preference IN ('first', 'second', 'tie', 'both bad')),
  shown_as_a TEXT NOT NULL CHECK (shown_as_a IN ('first', 'second'))
)
"""
_COLUMNS: Final = (
    "voted_at", "first_model", "first_level", "second_model", "second_level", "preference", "shown_as_a",
)  # fmt: skip


@dataclass(frozen=True, order=True)
class Contestant:
    """One side of a comparison: a model's base name and its level."""

    model: str
    level: str


@dataclass(frozen=True)
class Pair:
    """Two contestants in a fixed order: the one with more bits per weight first, then by name."""

    first: Contestant
    second: Contestant

    @classmethod
    def in_order(cls, one: Contestant, other: Contestant) -> Pair:
        """The pair of the two, in its fixed order."""
        first, second = sorted((one, other), key=lambda contestant: (-nominal_bits(contestant.level), contestant))
        return cls(first, second)


@dataclass(frozen=True)
class Vote:
    """What one person preferred without knowing which was which. shown_as_a: which of the pair was shown as A."""

    pair: Pair
    preference: Preference
    shown_as_a: Literal["first", "second"]


@dataclass(frozen=True)
class Tally:
    """The votes on one pair."""

    pair: Pair
    first: int = 0
    second: int = 0
    ties: int = 0
    both_bad: int = 0

    @property
    def count(self) -> int:
        return self.first + self.second + self.ties + self.both_bad

    @property
    def decided(self) -> int:
        """Votes for one of the two, without ties."""
        return self.first + self.second

    @property
    def share(self) -> float | None:
        """The fraction of the decided votes for the first; None without decided votes."""
        return self.first / self.decided if self.decided else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of that fraction; (0, 1) without decided votes."""
        return wilson_interval(self.first, self.decided)


def wilson_interval(successes: int, trials: int, z: float = NORMAL_95) -> tuple[float, float]:
    """The confidence interval of a proportion (Wilson 1927, "Probable inference").

    It holds for few trials and for proportions near 0 and 1, where the normal approximation does not.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must be between 0 and {trials}, got {successes}")
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    denominator = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / denominator
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / denominator
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return low, 1.0 if successes == trials else min(1.0, centre + half)


class VoteStore:
    """The votes in one file, which the first vote creates. Thread-safe.

    A damaged file is renamed and a new one started; `set_aside` then says so. Every method raises PlaygroundError with
    a remedy if the file cannot be read or written. Nothing is kept open, so the next call works once the cause is gone.
    """

    def __init__(self, path: Path, most: int = 1_000_000) -> None:
        """most: the largest number of votes; more are refused."""
        self.path = path
        self.set_aside = ""  # a sentence for the page, once a damaged file was found
        self._most = most
        self._mending = threading.Lock()

    def repair_file(self) -> None:
        """Check the file, and move it aside if it is damaged; called when the playground starts."""
        try:
            with self._open("The votes cannot be counted") as database:
                (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                self._move_aside(verdict)
        except PlaygroundError as error:  # the next call that needs the file raises it again
            if not self.set_aside:
                _LOG.warning("%s", error)

    def add_vote(self, vote: Vote) -> None:
        """Store a vote. Raises RequestRefused for an invalid one, and if the database is full."""
        if vote.preference not in PREFERENCES or vote.shown_as_a not in ("first", "second"):
            raise RequestRefused("That is not a vote.", "Choose A, B, tie or both bad.")
        first, second = vote.pair.first, vote.pair.second
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        row = (now, first.model, first.level, second.model, second.level, vote.preference, vote.shown_as_a)
        with self._open("Your vote could not be kept", write=True) as database, database:
            (count,) = database.execute("SELECT count(*) FROM votes").fetchone()
            if count >= self._most:
                raise RequestRefused(
                    f"Your vote could not be kept: the vote database is full ({count:,}).",
                    "The operator of this playground can export the votes; a new database then starts empty.",
                    setting="max_results",
                )
            database.execute(f"INSERT INTO votes ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(row))})", row)

    def tallies(self) -> list[Tally]:
        """Every pair with votes, the most votes first."""
        counts: dict[Pair, dict[str, int]] = {}
        with self._open("The votes cannot be counted") as database:
            rows = database.execute(
                "SELECT first_model, first_level, second_model, second_level, preference, count(*) FROM votes "
                "GROUP BY 1, 2, 3, 4, 5"
            ).fetchall()
        for *names, preference, count in rows:
            pair = Pair.in_order(Contestant(*names[:2]), Contestant(*names[2:]))
            counts.setdefault(pair, {})[preference] = count
        tallies = [
            Tally(pair, found.get("first", 0), found.get("second", 0), found.get("tie", 0), found.get("both bad", 0))
            for pair, found in counts.items()
        ]
        return sorted(tallies, key=lambda tally: -tally.count)

    def tally(self, pair: Pair) -> Tally:
        """The votes on this pair; zeros if there are none."""
        return next((tally for tally in self.tallies() if tally.pair == pair), Tally(pair))

    def export_csv(self) -> str:
        """Every vote, oldest first, after a header line; RFC 4180, times in UTC."""
        with self._open("The votes cannot be exported") as database:
            rows = database.execute(f"SELECT {', '.join(_COLUMNS)} FROM votes ORDER BY id").fetchall()
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(_COLUMNS)
        writer.writerows([_plain_cell(str(value)) for value in row] for row in rows)
        return text.getvalue()

    @contextmanager
    def _open(self, what_failed: str, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection to a database with the table; in memory for reading a file that does not exist."""
        try:
            if write:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_dir():
                raise sqlite3.DatabaseError("a folder has its name")
            here = write or _is_begun(self.path)
            with closing(sqlite3.connect(self.path if here else ":memory:", timeout=_WAIT_SECONDS)) as database:
                if write or not here:
                    database.execute(_SCHEMA)
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
                    "Move the file away; the next vote starts a new one.",
                ) from error
            self.set_aside = (
                f"The vote database was damaged ({why}). It is kept as {kept.name} in the data folder, and a new one "
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
    """True also for a file that does not exist: the next vote creates it."""
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


def _plain_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula, because file names are untrusted."""
    return f"'{text}" if text.startswith(_CSV_STARTS_A_FORMULA) else text
