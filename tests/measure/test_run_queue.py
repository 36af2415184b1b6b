"""Runs wait for each other, belong to no page, keep what they have when they stop, and go on after a restart."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from playground.errors import PlaygroundError, RequestRefused
from playground.limits.limits import Limits
from playground.limits.runs import Runs
from playground.limits.visitor import Visitor
from playground.measure.plan import MeasurementPlan
from playground.measure.run import RunProgress
from playground.measure.run_queue import RunQueue
from playground.measure.store import MeasurementStore

PLAN = MeasurementPlan("Fox-1B", ("Q8_0",), ("speed",))
ONE, OTHER = Visitor("one"), Visitor("other")


class Gate:
    """Work that goes on until it is let go; remembers which runs worked, and whether they were ended."""

    def __init__(self) -> None:
        self.go, self.works = threading.Event(), threading.Event()
        self.worked: list[int] = []
        self.ended: list[int] = []
        self.error: Exception | None = None

    def work(self, run: int, plan: MeasurementPlan) -> Generator[RunProgress, None, None]:
        self.worked.append(run)
        try:
            while not self.go.wait(0.01):
                yield RunProgress("Measuring", 0.5)
                self.works.set()
            if self.error:
                raise self.error
        finally:
            self.ended.append(run)


@pytest.fixture
def store(tmp_path: Path) -> MeasurementStore:
    return MeasurementStore(tmp_path / "measurements.sqlite")


@pytest.fixture
def runs() -> Iterator[Runs]:
    with Runs(Limits(lab_runs=3, lab_runs_each=2)) as runs:
        yield runs


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def queue(store: MeasurementStore, runs: Runs, gate: Gate, tmp_path: Path) -> Iterator[RunQueue]:
    queue = RunQueue(store, runs, lambda: gate, tmp_path)
    yield queue
    gate.go.set()
    queue.close()


def state_of(store: MeasurementStore, run: int) -> tuple[str, str]:
    stored = store.find_run(run)
    assert stored
    return stored.state, stored.problem


def test_the_runs_of_two_visitors_work_one_after_the_other(
    queue: RunQueue, store: MeasurementStore, gate: Gate
) -> None:
    first, second = queue.start_run(PLAN, ONE), queue.start_run(PLAN, OTHER)
    assert gate.works.wait(10)
    assert queue.positions() == {first: 0, second: 1} and gate.worked == [first]
    progress = queue.progress_of(first)
    assert progress and progress.done == 0.5
    gate.go.set()
    assert queue.wait_until_idle(10)
    assert gate.worked == [first, second] and state_of(store, first)[0] == state_of(store, second)[0] == "done"


def test_a_run_goes_on_when_its_page_is_closed_and_ends_when_it_is_stopped(
    queue: RunQueue, store: MeasurementStore, runs: Runs, gate: Gate
) -> None:
    run = queue.start_run(PLAN, ONE)
    runs.end_session("one")
    assert gate.works.wait(10) and queue.positions() == {run: 0}
    queue.stop_run(run)
    assert queue.wait_until_idle(10)
    assert state_of(store, run) == ("stopped", "") and gate.ended == [run] and not runs.count_runs()
    gate.go.set()
    queue.continue_run(run, ONE)
    assert queue.wait_until_idle(10) and state_of(store, run)[0] == "done"


def test_one_that_waits_can_be_stopped_too(queue: RunQueue, store: MeasurementStore, gate: Gate) -> None:
    queue.start_run(PLAN, ONE)
    second = queue.start_run(PLAN, ONE)
    queue.stop_run(second)
    assert state_of(store, second)[0] == "stopped" and second not in queue.positions()


def test_more_runs_than_a_visitor_may_have_are_refused(queue: RunQueue) -> None:
    queue.start_run(PLAN, ONE)
    queue.start_run(PLAN, ONE)
    with pytest.raises(RequestRefused, match="the most for one visitor"):
        queue.start_run(PLAN, ONE)


def test_on_a_space_a_run_ends_after_the_longest_time_for_lab_runs(
    store: MeasurementStore, gate: Gate, tmp_path: Path
) -> None:
    now = [0.0]
    with Runs(Limits(lab_seconds=60), clock=lambda: now[0]) as runs:
        queue = RunQueue(store, runs, lambda: gate, tmp_path, limited_in_time=True)
        run = queue.start_run(PLAN, ONE)
        assert gate.works.wait(10)
        now[0] = 61.0
        assert queue.wait_until_idle(10)
        state, problem = state_of(store, run)
        assert state == "stopped" and "the longest it may take here" in problem and gate.ended == [run]
        queue.close()


def test_an_error_ends_the_run_with_a_sentence(queue: RunQueue, store: MeasurementStore, gate: Gate) -> None:
    gate.error = PlaygroundError("The disk is full.", "Make room.")
    gate.go.set()
    run = queue.start_run(PLAN, ONE)
    assert queue.wait_until_idle(10) and state_of(store, run) == ("failed", "The disk is full. Make room.")


def test_what_the_end_of_the_playground_cut_off_goes_on_at_the_next_start(
    queue: RunQueue, store: MeasurementStore, gate: Gate, tmp_path: Path
) -> None:
    run = queue.start_run(PLAN, ONE)
    assert gate.works.wait(10)
    queue.close()
    assert state_of(store, run)[0] == "queued"
    gate.go.set()
    with Runs(Limits()) as runs:
        again = RunQueue(store, runs, lambda: gate, tmp_path)
        again.continue_cut_off_runs()
        assert again.wait_until_idle(10) and state_of(store, run)[0] == "done" and gate.worked == [run, run]
        again.close()
