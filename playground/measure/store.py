"""Keeps measurements and runs in a SQLite file: what was found, and what a run still has to do.

A run is a list of items. Each finished item is stored at once with its measurement, or with why it failed, so that a
run that was interrupted goes on with the first item that has neither.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, Literal, get_args

from playground.errors import RequestRefused
from playground.measure.database import DatabaseFile
from playground.measure.results import HERE, Measurement

VotedPair = tuple[int, str, str]  # the number of a prompt, and the names of two columns of its grid
RunState = Literal["queued", "running", "done", "stopped", "failed"]
RUN_STATES: Final[tuple[RunState, ...]] = get_args(RunState)
_KEEP_RUNS: Final = 50  # finished ones, the newest
_NESTED: Final = ("settings", "versions", "figures", "details")  # stored as JSON
_COLUMNS: Final = tuple(each.name for each in fields(Measurement))
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS runs (
  id INTEGER PRIMARY KEY,
  started_at TEXT NOT NULL,
  person TEXT NOT NULL,
  plan TEXT NOT NULL,
  state TEXT NOT NULL,
  problem TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS items (
  run INTEGER NOT NULL REFERENCES runs (id),
  item TEXT NOT NULL,
  problem TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (run, item)
);
CREATE TABLE IF NOT EXISTS measurements (
  id INTEGER PRIMARY KEY,
  what TEXT NOT NULL,
  model TEXT NOT NULL,
  level TEXT NOT NULL,
  file TEXT NOT NULL,
  size INTEGER NOT NULL,
  bits_per_weight REAL,
  digest TEXT NOT NULL,
  k_type TEXT NOT NULL,
  v_type TEXT NOT NULL,
  device TEXT NOT NULL,
  layers INTEGER,
  threads INTEGER NOT NULL,
  settings TEXT NOT NULL,
  text TEXT NOT NULL,
  text_digest TEXT NOT NULL,
  reference TEXT NOT NULL,
  reference_digest TEXT NOT NULL,
  versions TEXT NOT NULL,
  measured_at TEXT NOT NULL,
  seconds REAL NOT NULL,
  figures TEXT NOT NULL,
  details TEXT NOT NULL,
  source TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS answer_votes (
  voter TEXT NOT NULL,
  prompts TEXT NOT NULL,
  prompt INTEGER NOT NULL,
  first TEXT NOT NULL,
  second TEXT NOT NULL,
  preference TEXT NOT NULL,
  PRIMARY KEY (voter, prompts, prompt, first, second)
);
"""
_KEPT: Final = "The measurement could not be kept"
_READ: Final = "The measurements cannot be read"


@dataclass(frozen=True)
class StoredRun:
    """A run as it is on the disk. plan: as MeasurementPlan.to_json wrote it. problem: why it ended, "" for no reason.

    person: who started it, see limits/run.py; "" on the command line. finished: the problem of each item that is over,
    by its key; "" where it was measured.
    """

    id: int
    started_at: str
    person: str
    plan: Mapping[str, Any]
    state: RunState
    problem: str
    finished: Mapping[str, str]


class MeasurementStore(DatabaseFile):
    """Measurements and runs in one file, which the first write creates. Raises as DatabaseFile does. Thread-safe.

    most: the largest number of measurements; more are refused.
    """

    def __init__(self, path: Path, most: int = 100_000) -> None:
        super().__init__(path, _SCHEMA, "The file of measurements")
        self._most = most

    # --- measurements ---

    def add_measurement(self, measurement: Measurement) -> None:
        """Keep what was found outside of a run. Raises RequestRefused if the database is full."""
        with self.open_database(_KEPT, write=True) as database, database:
            self._insert(database, measurement)

    def add_import(self, source: str, measurements: list[Measurement]) -> None:
        """Keep somebody else's measurements under the name of their file; those of the same name are replaced."""
        with self.open_database("The file could not be imported", write=True) as database, database:
            database.execute("DELETE FROM measurements WHERE source = ? AND source != ?", (source, HERE))
            for each in measurements:
                self._insert(database, each)

    def remove_source(self, source: str) -> None:
        """Forget what was imported under this name; what was measured here stays."""
        with self.open_database("The import could not be removed", write=True) as database, database:
            database.execute("DELETE FROM measurements WHERE source = ? AND source != ?", (source, HERE))

    def measurements(self) -> list[Measurement]:
        """All that is stored, the oldest first."""
        with self.open_database(_READ) as database:
            rows = database.execute(f"SELECT {', '.join(_COLUMNS)} FROM measurements ORDER BY id").fetchall()
        return [_measurement_of(dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    def _insert(self, database: Any, measurement: Measurement) -> None:
        (count,) = database.execute("SELECT count(*) FROM measurements").fetchone()
        if count >= self._most:
            raise RequestRefused(
                f"{_KEPT}: there are {count:,} already, the most that are kept.",
                f"Export them, then move {self.path.name} out of the data folder; a new one is then started.",
            )
        record = measurement.to_json()
        values = [json.dumps(record[name]) if name in _NESTED else record[name] for name in _COLUMNS]
        places = ", ".join("?" * len(_COLUMNS))
        database.execute(f"INSERT INTO measurements ({', '.join(_COLUMNS)}) VALUES ({places})", values)

    # --- votes on answers: which are given; measure/votes.py counts them with all others ---

    def add_answer_vote(self, voter: str, prompts: str, ballot: VotedPair, preference: str) -> None:
        """prompts: the digest of the set. A second vote on the same two answers takes the place of the first."""
        with self.open_database("Your vote could not be kept", write=True) as database, database:
            database.execute(
                "INSERT OR REPLACE INTO answer_votes VALUES (?, ?, ?, ?, ?, ?)", (voter, prompts, *ballot, preference)
            )

    def remove_answer_vote(self, voter: str, prompts: str, ballot: VotedPair) -> None:
        """The vote on two answers is taken back."""
        with self.open_database("Your vote could not be taken back", write=True) as database, database:
            database.execute(
                "DELETE FROM answer_votes WHERE voter = ? AND prompts = ? AND prompt = ? AND first = ? AND second = ?",
                (voter, prompts, *ballot),
            )

    def answer_votes(self, voter: str, prompts: str) -> dict[VotedPair, str]:
        """What somebody preferred of a set of prompts, by prompt and the names of both columns."""
        with self.open_database(_READ) as database:
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'answer_votes'").fetchone():
                return {}  # a file of an earlier version, until the first vote
            found = database.execute(
                "SELECT prompt, first, second, preference FROM answer_votes WHERE voter = ? AND prompts = ?",
                (voter, prompts),
            )
            return {(prompt, first, second): preference for prompt, first, second, preference in found.fetchall()}

    # --- runs ---

    def add_run(self, plan: Mapping[str, Any], person: str) -> int:
        """A new run, queued; returns its number. The oldest finished runs are forgotten, their measurements are not."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with self.open_database("The run could not be started", write=True) as database, database:
            old = "SELECT id FROM runs WHERE state NOT IN ('queued', 'running') ORDER BY id DESC LIMIT -1 OFFSET ?"
            database.execute(f"DELETE FROM items WHERE run IN ({old})", (_KEEP_RUNS,))
            database.execute(f"DELETE FROM runs WHERE id IN ({old})", (_KEEP_RUNS,))
            added = database.execute(
                "INSERT INTO runs (started_at, person, plan, state) VALUES (?, ?, ?, 'queued')",
                (now, person, json.dumps(plan)),
            )
            return int(added.lastrowid or 0)

    def set_run_state(self, run: int, state: RunState, problem: str = "") -> None:
        """The own text of a run that is done is forgotten: nothing has to be read again."""
        with self.open_database("The run's state could not be kept", write=True) as database, database:
            database.execute("UPDATE runs SET state = ?, problem = ? WHERE id = ?", (state, problem, run))
            if state == "done" and (row := database.execute("SELECT plan FROM runs WHERE id = ?", (run,)).fetchone()):
                plan = json.loads(row[0]) | {"text": ""}
                database.execute("UPDATE runs SET plan = ? WHERE id = ?", (json.dumps(plan), run))

    def finish_item(self, run: int, item: str, found: Measurement | str) -> None:
        """An item of a run is over: what it found, or why it failed."""
        problem = found if isinstance(found, str) else ""
        with self.open_database(_KEPT, write=True) as database, database:
            if isinstance(found, Measurement):
                self._insert(database, found)
            database.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", (run, item, problem))

    def retry_failed_items(self, run: int) -> None:
        """Let the items of a run that failed be tried once more."""
        with self.open_database("The run could not be continued", write=True) as database, database:
            database.execute("DELETE FROM items WHERE run = ? AND problem != ''", (run,))

    def runs(self) -> list[StoredRun]:
        """Every run that is kept, the oldest first."""
        with self.open_database("The runs cannot be read") as database:
            rows = database.execute("SELECT id, started_at, person, plan, state, problem FROM runs ORDER BY id")
            found = rows.fetchall()
            items: dict[int, dict[str, str]] = {}
            for run, item, problem in database.execute("SELECT run, item, problem FROM items"):
                items.setdefault(run, {})[item] = problem
        return list(_runs_of(found, items))

    def unfinished_run(self, plan: Mapping[str, Any]) -> int | None:
        """The newest run of the command line with exactly this plan that did not come to its end."""
        same = json.loads(json.dumps(plan))
        found = [each.id for each in self.runs() if each.state != "done" and not each.person and each.plan == same]
        return found[-1] if found else None

    def find_run(self, run: int) -> StoredRun | None:
        return next((each for each in self.runs() if each.id == run), None)


def _runs_of(rows: list[Any], items: Mapping[int, Mapping[str, str]]) -> Iterator[StoredRun]:
    for id, started_at, person, plan, state, problem in rows:
        yield StoredRun(id, started_at, person, json.loads(plan), state, problem, items.get(id, {}))


def _measurement_of(row: dict[str, Any]) -> Measurement:
    return Measurement(**{name: json.loads(value) if name in _NESTED else value for name, value in row.items()})
