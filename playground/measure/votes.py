"""Stores the votes of blind comparisons in a SQLite file, counts them by pair of levels, and exports them as CSV.

A vote holds which two levels were compared and which was preferred, and no text of the chat. Each call opens its own
connection, so any thread may call, and several playgrounds may share the file.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final, Literal, get_args

from playground.errors import RequestRefused
from playground.gguf.levels import nominal_bits
from playground.measure.database import DatabaseFile

Preference = Literal["first", "second", "tie", "both bad"]
PREFERENCES: Final[tuple[Preference, ...]] = get_args(Preference)

BALLOT_WORDS: Final = ("A better", "B better", "Tie", "Both bad")
NORMAL_95: Final = 1.959964  # the standard normal's 97.5 % point
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


def read_ballot(word: str, shown: tuple[Contestant, Contestant]) -> Vote:
    """The vote that a word of BALLOT_WORDS means for the two that were shown as A and B. Raises RequestRefused."""
    if word not in BALLOT_WORDS:
        raise RequestRefused("That is not a vote.", "Choose A, B, tie or both bad.")
    pair = Pair.in_order(*shown)
    first_position = 0 if pair.first == shown[0] else 1
    chosen = BALLOT_WORDS.index(word)
    preference: Preference = "tie" if word == "Tie" else "both bad"
    if chosen < len(shown):
        preference = "first" if chosen == first_position else "second"
    return Vote(pair, preference, "first" if first_position == 0 else "second")


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


class VoteStore(DatabaseFile):
    """The votes in one file, which the first vote creates. Thread-safe.

    A damaged file is renamed and a new one started; `set_aside` then says so. Every method raises PlaygroundError with
    a remedy if the file cannot be read or written. Nothing is kept open, so the next call works once the cause is gone.
    """

    def __init__(self, path: Path, most: int = 1_000_000) -> None:
        """most: the largest number of votes; more are refused."""
        super().__init__(path, _SCHEMA, "The vote database")
        self._most = most

    def add_vote(self, vote: Vote) -> None:
        """Store a vote. Raises RequestRefused for an invalid one, and if the database is full."""
        if vote.preference not in PREFERENCES or vote.shown_as_a not in ("first", "second"):
            raise RequestRefused("That is not a vote.", "Choose A, B, tie or both bad.")
        first, second = vote.pair.first, vote.pair.second
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        row = (now, first.model, first.level, second.model, second.level, vote.preference, vote.shown_as_a)
        with self.open_database("Your vote could not be kept", write=True) as database, database:
            (count,) = database.execute("SELECT count(*) FROM votes").fetchone()
            if count >= self._most:
                raise RequestRefused(
                    f"Your vote could not be kept: the vote database is full ({count:,}).",
                    "The operator of this playground can export the votes; a new database then starts empty.",
                    setting="max_results",
                )
            insert = f"INSERT INTO votes ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(row))})"
            database.execute(insert, row)

    def remove_vote(self, vote: Vote) -> None:
        """Take a vote back: the newest that is equal to it, if there still is one."""
        first, second = vote.pair.first, vote.pair.second
        row = (first.model, first.level, second.model, second.level, vote.preference, vote.shown_as_a)
        equal = " AND ".join(f"{column} = ?" for column in _COLUMNS[1:])
        with self.open_database("Your vote could not be taken back", write=True) as database, database:
            database.execute(f"DELETE FROM votes WHERE id = (SELECT max(id) FROM votes WHERE {equal})", row)

    def tallies(self) -> list[Tally]:
        """Every pair with votes, the most votes first."""
        counts: dict[Pair, dict[str, int]] = {}
        with self.open_database("The votes cannot be counted") as database:
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
        with self.open_database("The votes cannot be exported") as database:
            rows = database.execute(f"SELECT {', '.join(_COLUMNS)} FROM votes ORDER BY id").fetchall()
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(_COLUMNS)
        writer.writerows([plain_cell(str(value)) for value in row] for row in rows)
        return text.getvalue()


def plain_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula, because file names are untrusted."""
    return f"'{text}" if text.startswith(_CSV_STARTS_A_FORMULA) else text
