"""The estimate of a wait: arithmetic on how long recent replies took."""

from __future__ import annotations

import pytest

from playground.engine.local.eta import REMEMBERED, EtaEstimator


def pace(*seconds: float) -> EtaEstimator:
    made = EtaEstimator()
    for each in seconds:
        made.ended(each)
    return made


def test_before_any_reply_has_ended_nothing_is_estimated() -> None:
    assert EtaEstimator().waits([1.0], [False, False]) == [None, None]


def test_the_next_begins_when_the_oldest_of_the_running_should_end() -> None:
    assert pace(8.0, 12.0).waits([7.0, 2.0], [False, False, False]) == pytest.approx([3.0, 8.0, 13.0])


def test_a_reply_that_is_overdue_is_not_expected_to_have_ended_already() -> None:
    (wait,) = pace(10.0).waits([60.0], [False])
    assert wait == pytest.approx(1.0)


def test_who_wants_to_be_alone_waits_for_all_and_all_wait_for_it() -> None:
    assert pace(10.0).waits([9.0, 1.0], [True, False, False]) == pytest.approx([9.0, 19.0, 19.0])


def test_only_recent_replies_count() -> None:
    assert pace(1000.0, *[2.0] * REMEMBERED).usual == pytest.approx(2.0)
