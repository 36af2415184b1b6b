"""The dry run asks the real llama.cpp, in its real child."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.fit.dry_run import Planner
from playground.llama.parameters import ContextParameters

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def planner() -> Iterator[Planner]:
    with Planner() as planner:
        yield planner


def test_the_plan_of_the_starter_names_every_part(planner: Planner, starter: Path) -> None:
    plan = planner.plan(starter, ContextParameters(2048))
    layers, heads, width, key_and_value, bytes_each = 30, 3, 64, 2, 2
    assert plan.kv_cache == layers * heads * width * key_and_value * bytes_each * 2048
    assert 0 < starter.stat().st_size - plan.weights < 3 * MIB
    assert plan.repacked == plan.recurrent == 0
    assert 0 < plan.output < plan.compute < 20 * MIB
    assert 30 * MIB < plan.base < 100 * MIB
    assert plan.total == plan.weights + plan.must_stay
