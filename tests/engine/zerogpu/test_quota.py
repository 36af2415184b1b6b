"""A visitor's time on ZeroGPU, as far as it can be known."""

from __future__ import annotations

import pytest

from playground.engine.zerogpu.quota import DAY_SECONDS, LEAST_SECONDS, MOST_SECONDS, Quota, seconds_for

REFUSED = "You have exceeded your free ZeroGPU quota (60s requested vs. 7s left). Try again in 1 day, 2:05:00. "


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quota(clock: Clock) -> Quota:
    return Quota(clock)


def test_before_the_first_reply_the_days_allowances_are_left(quota: Quota) -> None:
    sentence = quota.outlook("anna", waiting=2).sentence
    assert "120 s without an account, 300 s with a free account, 2400 s with PRO" in sentence
    assert "2 requests in its queue" in sentence
    assert "says exactly what is left only when it refuses" in sentence


def test_what_was_used_here_within_a_day_is_taken_off(quota: Quota, clock: Clock) -> None:
    quota.add_use("anna", 14.2)
    quota.add_use("anna", 120)
    assert "0 s without an account, 166 s with a free account" in quota.outlook("anna").sentence
    assert quota.outlook("bert").used == 0
    clock.now += DAY_SECONDS
    assert quota.outlook("anna").used == 0


def test_after_a_refusal_the_gpu_is_not_asked_for_until_there_is_more(quota: Quota, clock: Clock) -> None:
    quota.add_refusal("anna", REFUSED)
    refusal = quota.outlook("anna").refusal
    assert "only when it refuses" not in quota.outlook("anna").sentence
    assert "7 s are left" in refusal and "about 26 h" in refusal
    assert not quota.outlook("bert").refusal
    clock.now += DAY_SECONDS + 2 * 3600 + 5 * 60
    assert not quota.outlook("anna").refusal


def test_seconds_that_suffice_for_a_reply_are_still_used(quota: Quota) -> None:
    quota.add_refusal("anna", REFUSED.replace("7s left", "31s left"))
    outlook = quota.outlook("anna")
    assert outlook.left == 31 and not outlook.refusal and "31 s left" in outlook.sentence


@pytest.mark.parametrize("message", ["", "No GPU was available", "(60s requested vs. 7s left)", "Try again in 2:00:00"])
def test_a_refusal_without_figures_changes_nothing(quota: Quota, message: str) -> None:
    quota.add_refusal("anna", message)
    assert quota.outlook("anna") == quota.outlook("bert")


def test_a_gpu_is_asked_for_longer_for_a_larger_model_and_a_longer_reply() -> None:
    assert seconds_for(0, 16) == LEAST_SECONDS
    assert seconds_for(1 << 30, 16) < seconds_for(5 << 30, 16) < seconds_for(5 << 30, 400)
    assert seconds_for(40 << 30, None) == MOST_SECONDS
