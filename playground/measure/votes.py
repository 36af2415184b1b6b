"""Keeps the votes of blind comparisons in a SQLite file, counts them by pair of levels, and writes them as CSV.

Knows no page and no text of any chat: a vote says which two levels stood side by side and which was preferred, nothing
of what was asked. A connection lives for one call, so any thread may call, and several playgrounds may share the file.
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
from playground.machine.files import write_remedy

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
    """Two contestants in the order of the book: the one with more bits first, then by name."""

    first: Contestant
    second: Contestant

    @classmethod
    def in_order(cls, one: Contestant, other: Contestant) -> Pair:
        """The same pair, whichever of the two is named first."""
        first, second = sorted((one, other), key=lambda contestant: (-nominal_bits(contestant.level), contestant))
        return cls(first, second)


@dataclass(frozen=True)
class Vote:
    """What one person preferred, not knowing which was which; shown_as_a: which of the pair stood as A."""

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
        """Votes that prefer one of the two."""
        return self.first + self.second

    @property
    def share(self) -> float | None:
        """The share of the decided votes that the first has; None without any."""
        return self.first / self.decided if self.decided else None

    @property
    def interval(self) -> tuple[float, float]:
        """Where that share may lie in truth: the Wilson interval at 95 %; all of (0, 1) without a decided vote."""
        return wilson_interval(self.first, self.decided)


def wilson_interval(successes: int, trials: int, z: float = NORMAL_95) -> tuple[float, float]:
    """The interval of a share seen `successes` times in `trials` (Wilson 1927, "Probable inference"): sound for few
    trials and for shares near 0 and 1, where the usual plus-or-minus is not.
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
    """The votes in one file, made at the first vote. Thread-safe.

    A damaged file is moved aside under a name of its own and a new book begun; `set_aside` says so from then on. Every
    method raises PlaygroundError with what to do when the file cannot be read or written; nothing is kept open, so the
    next call works as soon as the cause is gone.
    """

    def __init__(self, path: Path, most: int = 1_000_000) -> None:
        """most: votes that are kept; what comes after is refused."""
        self.path = path
        self.set_aside = ""  # a sentence for the page, once a damaged file was found
        self._most = most
        self._mending = threading.Lock()

    def repair_file(self) -> None:
        """Look whether the file is sound, and move it aside where it is damaged; for the start of the playground."""
        try:
            with self._open("The votes cannot be counted") as database:
                (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                self._move_aside(verdict)
        except PlaygroundError as error:  # told again by whatever call needs the file
            if not self.set_aside:
                _LOG.warning("%s", error)

    def add_vote(self, vote: Vote) -> None:
        """Keep a vote; raises RequestRefused for one that is none, and when the book is full."""
        if vote.preference not in PREFERENCES or vote.shown_as_a not in ("first", "second"):
            raise RequestRefused("That is no vote.", "Choose A, B, tie or both bad.")
        first, second = vote.pair.first, vote.pair.second
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        row = (now, first.model, first.level, second.model, second.level, vote.preference, vote.shown_as_a)
        with self._open("Your vote could not be kept", write=True) as database, database:
            (count,) = database.execute("SELECT count(*) FROM votes").fetchone()
            if count >= self._most:
                raise RequestRefused(
                    f"Your vote could not be kept: the book of votes is full ({count:,}).",
                    "Whoever runs this playground can export the votes and begin a new book.",
                    setting="max_results",
                )
            database.execute(f"INSERT INTO votes ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(row))})", row)

    def tallies(self) -> list[Tally]:
        """Every pair that was voted on, the most votes first."""
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
        """The votes on this pair, none where it was never voted on."""
        return next((tally for tally in self.tallies() if tally.pair == pair), Tally(pair))

    def export_csv(self) -> str:
        """Every vote, oldest first, with a line of names; RFC 4180, times in UTC."""
        with self._open("The votes cannot be exported") as database:
            rows = database.execute(f"SELECT {', '.join(_COLUMNS)} FROM votes ORDER BY id").fetchall()
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(_COLUMNS)
        writer.writerows([_plain_cell(str(value)) for value in row] for row in rows)
        return text.getvalue()

    @contextmanager
    def _open(self, what_failed: str, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection with the table in it; a reader of a file that is not there gets an empty one in memory."""
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
        """Raises PlaygroundError where the folder does not let it go."""
        with self._mending:
            if _is_sound(self.path):  # somebody else saw to it
                return
            moment = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S-%f")
            kept = self.path.with_name(f"{self.path.name}.damaged-{moment}")
            try:
                for ending in ("-journal", "-wal", "-shm", ""):  # what SQLite could still repair it from goes with it
                    with suppress(FileNotFoundError):
                        self.path.with_name(self.path.name + ending).rename(kept.with_name(kept.name + ending))
            except OSError as error:
                raise PlaygroundError(
                    f"{self.path.name} in the data folder is damaged ({why}) and cannot be moved aside: "
                    f"{error.strerror or error}.",
                    "Move the file away; the next vote begins a new one.",
                ) from error
            self.set_aside = (
                f"The book of votes was damaged ({why}). It is kept as {kept.name} in the data folder, and a new one "
                "was begun."
            )
            _LOG.warning("%s", self.set_aside)


def _is_begun(path: Path) -> bool:
    """False for a file that is not there or empty, as a full disk leaves it: it has no table yet."""
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def _is_sound(path: Path) -> bool:
    """A file that is not there is sound: the next vote makes it."""
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
    """A cell that no spreadsheet takes for a formula: file names come from anywhere."""
    return f"'{text}" if text.startswith(_CSV_STARTS_A_FORMULA) else text
