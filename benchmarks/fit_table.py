"""A full table of each model in the catalogue, eight levels by up to seven contexts, from nothing but its blueprint.

Each table is made with a planner of its own, so that the child process's start counts too. The target is two seconds;
the planner is asked once for each context, whatever the number of levels. A second reading is all from memory.
"""

from __future__ import annotations

import time

from benchmarks.bench import median_of, report, run_main
from playground.fit.planner import Planner
from playground.fit.subjects import FitSubject, catalogue_subjects
from playground.fit.table import FitTable, LevelSize, fit_table, table_contexts
from playground.gguf.levels import FULL_TABLE_LEVELS
from playground.llama.params import ContextParameters

TARGET_SECONDS = 2.0
USABLE_BYTES = 16 << 30
MOST_CONTEXTS = 7


def table_of(planner: Planner, subject: FitSubject) -> FitTable:
    contexts = table_contexts(planner.trained_context(subject.planned))[-MOST_CONTEXTS:]
    plans = [planner.plan(subject.planned, ContextParameters(context, slots=4)) for context in contexts]
    sizes = [LevelSize(level, subject.computed[level], "computed") for level in FULL_TABLE_LEVELS]
    return fit_table(plans, sizes, contexts, USABLE_BYTES)


def seconds_for(planner: Planner, subject: FitSubject) -> float:
    started = time.perf_counter()
    assert table_of(planner, subject).is_complete
    return time.perf_counter() - started


def main() -> None:
    first, again = [], []
    rows = []
    for subject in catalogue_subjects():
        with Planner() as planner:
            first.append(seconds_for(planner, subject))
            again.append(seconds_for(planner, subject))
            shape = table_of(planner, subject)
        rows.append((f"{subject.name}, {len(shape.rows)} x {len(shape.contexts)}", f"{first[-1]:.2f} s"))
    rows += [("first reading, seconds", median_of(first)), ("second reading, ms", median_of([1000 * s for s in again]))]
    slow = sum(seconds > TARGET_SECONDS for seconds in first)
    rows.append(("tables over two seconds", f"{slow} of {len(first)}"))
    report("A table of levels and contexts from a blueprint", rows, max(first) / TARGET_SECONDS, "at most 1")


if __name__ == "__main__":
    run_main(main)
