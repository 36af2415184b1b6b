"""Steps of a generator, read with a `for`."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator

import pytest

from playground.steps import Steps, newest_within


class Work:
    """Counts to three and returns "done". is_closed: whether its `finally` has run."""

    is_closed = False

    def steps(self) -> Generator[int, None, str]:
        try:
            yield from (1, 2, 3)
            return "done"
        finally:
            self.is_closed = True


def test_after_the_last_step_there_is_a_result() -> None:
    with Steps(Work().steps()) as counting:
        assert list(counting) == [1, 2, 3]
        assert counting.result == "done"


def test_work_that_is_left_early_is_closed_at_the_end_of_the_with() -> None:
    work = Work()
    with Steps(work.steps()) as counting:
        for _ in counting:
            break
    assert work.is_closed


def test_an_error_of_the_work_is_raised_where_it_is_read() -> None:
    def failing() -> Generator[int, None, str]:
        yield 1
        raise ValueError("no")

    with Steps(failing()) as counting, pytest.raises(ValueError, match="no"):
        list(counting)


def test_of_steps_that_come_together_the_newest_is_read() -> None:
    assert list(newest_within(60, iter((1, 2, 3)))) == [3]
    assert list(newest_within(60, iter(()))) == []


def test_a_step_does_not_wait_for_one_that_takes_long() -> None:
    goes_on = threading.Event()

    def work() -> Iterator[int]:
        yield 1
        goes_on.wait()
        yield 2

    steps = newest_within(0.001, work())
    assert next(steps) == 1
    goes_on.set()
    assert list(steps) == [2]


def test_an_error_comes_after_the_step_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise LookupError("gone")

    steps = newest_within(60, failing())
    assert next(steps) == 1
    with pytest.raises(LookupError, match="gone"):
        next(steps)


def test_work_whose_reader_has_left_ends_at_its_next_step() -> None:
    goes_on, has_ended = threading.Event(), threading.Event()

    def work() -> Iterator[int]:
        try:
            yield 1
            goes_on.wait()
            yield 2
            raise AssertionError("nobody reads a third step")
        finally:
            has_ended.set()

    steps = newest_within(0.001, work())
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    goes_on.set()
    assert has_ended.wait(60)
