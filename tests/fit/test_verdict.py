"""Verdicts on plans made up for the purpose, and contexts found by asking."""

from __future__ import annotations

import re

import pytest

from playground.fit.plan import MemoryPlan
from playground.fit.verdict import context_steps, judge, largest_context_that_fits
from playground.llama.params import ContextParameters

GIB = 1024**3


def plan(context_size: int = 8192, *, weights: float = 4, repacked: float = 0, kv_cache: float = 1) -> MemoryPlan:
    return MemoryPlan(
        context=ContextParameters(context_size),
        weights=int(weights * GIB), repacked=int(repacked * GIB), kv_cache=int(kv_cache * GIB),
        recurrent=0, compute=0, output=0, base=0,
    )  # fmt: skip


def test_a_plan_well_below_the_usable_memory_fits() -> None:
    verdict = judge(plan(), 16 * GIB)
    assert (verdict.kind, verdict.label, verdict.remedy) == ("fits", "Fits", "")
    assert verdict.reason == "It needs 5.0 GiB of 16.0 GiB usable."
    assert (verdict.needed, verdict.usable) == (5 * GIB, 16 * GIB)


def test_a_plan_above_nine_tenths_is_tight() -> None:
    assert judge(plan(weights=8), 10 * GIB).kind == "fits"
    verdict = judge(plan(weights=8.1), 10 * GIB)
    assert (verdict.kind, verdict.label) == ("tight", "Tight")
    assert verdict.remedy


def test_what_must_stay_beyond_the_usable_memory_would_end_the_model() -> None:
    verdict = judge(plan(weights=1, kv_cache=12), 8 * GIB)
    assert (verdict.kind, verdict.label) == ("wont_fit", "Won't fit")
    assert verdict.reason == "12.0 GiB must stay in memory and 8.0 GiB are usable: the system would end the model."
    assert verdict.needed == 12 * GIB
    assert "smaller context" in verdict.remedy


def test_weights_beyond_the_usable_memory_would_be_read_again_and_again() -> None:
    verdict = judge(plan(weights=12), 8 * GIB)
    assert verdict.kind == "wont_fit"
    assert verdict.reason.startswith("Each token needs 13.0 GiB and 8.0 GiB are usable: the weights would be read")
    assert "smaller level" in verdict.remedy


def test_weights_that_are_repacked_need_room_once_not_twice() -> None:
    repacked = plan(weights=4, repacked=4)
    assert repacked.total == 9 * GIB
    assert judge(repacked, 8 * GIB).kind == "fits"


def test_the_remedy_names_the_largest_context_where_it_is_known() -> None:
    verdict = judge(plan(131_072, kv_cache=12), 8 * GIB, largest_context=32_768)
    assert verdict.remedy == "Choose a context of at most 32,768 tokens, or a smaller level."


@pytest.mark.parametrize("excess", [1, 1000, 50_000_000, GIB])
def test_a_refusal_never_prints_two_equal_figures(excess: int) -> None:
    usable = 5 * GIB + 123
    refused = MemoryPlan(ContextParameters(2048), usable - GIB + excess, 0, GIB, 0, 0, 0, 0)
    needed, available = re.findall(r"[\d.]+ GiB", judge(refused, usable).reason)
    assert needed != available


def test_a_plan_that_takes_exactly_all_says_so_with_one_figure() -> None:
    assert judge(plan(), 5 * GIB).reason.startswith("It needs all of 5.0 GiB usable")


def test_context_steps_double_up_to_the_trained_context() -> None:
    assert context_steps(32_768) == (2048, 4096, 8192, 16_384, 32_768)
    assert context_steps(40_960) == (2048, 4096, 8192, 16_384, 32_768, 40_960)
    assert context_steps(1024) == (1024,)
    assert context_steps(0) == (2048,)


class Asked:
    """Plans whose KV cache takes a MiB for each 16 tokens, with a compute buffer that grows in a jump at 20,000."""

    def __init__(self) -> None:
        self.contexts: list[int] = []

    def __call__(self, context: int) -> MemoryPlan:
        self.contexts.append(context)
        jump = GIB if context > 20_000 else 0
        return MemoryPlan(ContextParameters(context), GIB, 0, context * 65_536, 0, jump, 0, 0)


@pytest.mark.parametrize("usable_gib", [1.2, 1.5, 2.0, 2.3, 3.0, 5.0])
def test_the_largest_context_was_itself_asked_and_the_next_step_does_not_fit(usable_gib: float) -> None:
    asked = Asked()
    usable = int(usable_gib * GIB)
    largest = largest_context_that_fits(asked, 131_072, usable)
    assert largest is not None and largest in asked.contexts
    assert asked(largest).total <= usable < asked(largest + 256).total
    assert len(asked.contexts) < 15


def test_the_trained_context_is_the_most_even_off_the_step() -> None:
    assert largest_context_that_fits(Asked(), 10_000, 100 * GIB) == 10_000


def test_no_context_fits_where_the_smallest_does_not() -> None:
    assert largest_context_that_fits(Asked(), 131_072, GIB) is None
    assert largest_context_that_fits(Asked(), 1024, GIB) is None


def test_weights_that_are_in_memory_already_need_no_more() -> None:
    on_disk = MemoryPlan(ContextParameters(2048), 8 * GIB, 0, GIB, 0, 0, 0, 0)
    in_memory = on_disk.with_weights(8 * GIB, held=True)
    assert judge(on_disk, 4 * GIB).kind == "wont_fit"
    assert judge(in_memory, 4 * GIB).kind == "fits"
    assert judge(in_memory, GIB // 2).kind == "wont_fit"  # the KV cache is not there yet
    assert in_memory.total == on_disk.total  # it takes as much, and none of that is new but 1 GiB
    assert in_memory.with_weights(4 * GIB).new_weights == 4 * GIB  # a level that is not in memory
