"""Steps of a generator, read with a `for`."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from playground.steps import Steps


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
