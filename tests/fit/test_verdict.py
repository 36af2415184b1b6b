"""Verdicts on plans made up for the purpose, and contexts found by asking."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from playground.fit.plan import MemoryPlan
from playground.fit.verdict import context_steps, judge, largest_context_that_fits
from playground.gguf.weight_use import WeightUse
from playground.llama.params import ContextParameters

GB = 10**9


def plan(context_size: int = 8192, *, weights: float = 4, repacked: float = 0, kv_cache: float = 1) -> MemoryPlan:
    return MemoryPlan(
        context=ContextParameters(context_size),
        weights=int(weights * GB), repacked=int(repacked * GB), kv_cache=int(kv_cache * GB),
        recurrent=0, compute=0, output=0, base=0,
    )  # fmt: skip


def test_a_plan_well_below_the_usable_memory_fits() -> None:
    verdict = judge(plan(), 16 * GB)
    assert (verdict.kind, verdict.label, verdict.remedy) == ("fits", "Fits", "")
    assert verdict.reason == "It needs 5.00 GB of 16.0 GB usable."
    assert (verdict.needed, verdict.usable) == (5 * GB, 16 * GB)


def test_a_limit_on_data_counts_what_must_stay_and_not_the_mapped_weights() -> None:
    limited = replace(plan(weights=8, kv_cache=1), may_stay=2 * GB)
    assert judge(limited, 16 * GB).kind == "fits"
    verdict = judge(replace(limited, kv_cache=3 * GB), 16 * GB)
    assert (verdict.kind, verdict.needed, verdict.usable) == ("wont_fit", 3 * GB, 2 * GB)
    assert verdict.reason == "3.00 GB must stay in memory, and a process may take 2.00 GB here (ulimit -d)."
    assert judge(replace(limited, repacked=2 * GB), 16 * GB).kind == "wont_fit"


def test_a_plan_above_nine_tenths_is_tight() -> None:
    assert judge(plan(weights=8), 10 * GB).kind == "fits"
    verdict = judge(plan(weights=8.1), 10 * GB)
    assert (verdict.kind, verdict.label) == ("tight", "Tight")
    assert verdict.remedy


def test_what_must_stay_beyond_the_usable_memory_would_end_the_model() -> None:
    verdict = judge(plan(weights=1, kv_cache=12), 8 * GB)
    assert (verdict.kind, verdict.label) == ("wont_fit", "Won't fit")
    assert verdict.reason == "12.0 GB must stay in memory and 8.00 GB are usable: the system would end the model."
    assert verdict.needed == 12 * GB
    assert "smaller context" in verdict.remedy


def test_weights_beyond_the_usable_memory_are_slow_and_how_slow_is_a_band() -> None:
    verdict = judge(plan(weights=6), 4 * GB, disk_speed=lambda: 2.0 * GB)
    assert (verdict.kind, verdict.label, verdict.is_refused) == ("slow", "Slow", True)
    assert verdict.reason == (
        "Each token needs 7.00 GB and 4.00 GB are usable: it runs, but reads weights from the disk each time. "
        "Expected: 0.11 to 0.67 tok/s, from the 2.00 GB/s that this disk gives."
    )  # all 6.00 GB of weights at a third of that, or the 3.00 GB that have no place
    assert verdict.tokens_per_second == pytest.approx((2 / 6 / 3, 2 / 3))
    assert "smaller level" in verdict.remedy


def test_what_is_slow_has_a_dash_for_its_speed_where_the_disk_is_not_known() -> None:
    verdict = judge(plan(weights=4), 4 * GB)
    assert verdict.kind == "slow" and verdict.tokens_per_second is None
    assert verdict.reason.endswith("Expected speed: –, because the speed of the disk is not known.")


def test_weights_that_a_token_waits_too_long_for_do_not_fit() -> None:
    verdict = judge(plan(weights=12), 8 * GB)
    assert verdict.kind == "wont_fit" and verdict.reason == (
        "Each token needs 13.0 GB and 8.00 GB are usable: its weights would be read from the disk each time."
    )
    assert judge(plan(weights=12), 8 * GB, disk_speed=lambda: 3.0 * GB).kind == "slow"
    assert "Expected: 0.01 to 0.04 tok/s" in judge(plan(weights=12), 8 * GB, disk_speed=lambda: 0.2 * GB).reason


def test_a_hair_above_the_memory_only_the_least_speed_is_told() -> None:
    """At best the disk then takes less time than the computation, which is not known."""
    verdict = judge(plan(weights=3.01), 4 * GB, disk_speed=lambda: 2.0 * GB)
    assert "Expected: at least 0.22 tok/s" in verdict.reason


def test_the_disk_is_not_asked_for_what_fits() -> None:
    def disk_speed() -> float:
        raise AssertionError

    assert judge(plan(), 16 * GB, disk_speed=disk_speed).kind == "fits"


MIB = 1 << 20


@pytest.mark.parametrize(
    ("usable", "kind"),
    [(1000, "fits"), (951, "tight"), (911, "tight"), (871, "slow"), (830, "slow"), (540, "wont_fit")],
)
def test_verdicts_agree_with_what_was_measured_in_a_control_group(usable: int, kind: str) -> None:
    """Qwen2.5 0.5B at Q4_K_M with 32,768 tokens: bytes read from the disk for each token, by the group's limit in MiB.

    At 951 and 911 less than a megabyte, at 871 11 to 14, at 830 376 of the 363 MB of weights that it reads.
    """
    half_billion = MemoryPlan(
        ContextParameters(32_768), weights=463 * MIB, repacked=28 * MIB, kv_cache=384 * MIB, recurrent=0,
        compute=34 * MIB, output=2 * MIB, base=97 * MIB, use=WeightUse(unread=0.193),
    )  # fmt: skip
    verdict = judge(half_billion, usable * MIB, disk_speed=lambda: 1000.0 * MIB)
    assert verdict.kind == kind
    if kind == "slow":
        assert verdict.tokens_per_second is not None
        least, most = verdict.tokens_per_second
        assert least == pytest.approx(1000 / 346 / 3, rel=0.01) and most is None


MOSTLY_TABLES = replace(plan(weights=5, kv_cache=0.5), use=WeightUse(unread=0.4))  # Gemma 4 E2B: 2 of 5 GB
EXPERTS = replace(plan(weights=20), use=WeightUse(unread=0.02, experts=0.9, chosen=0.125))  # 2 of 20.0 GB are dense


def test_lookup_tables_need_no_memory() -> None:
    assert MOSTLY_TABLES.needed == 3.5 * GB and MOSTLY_TABLES.total == 5.5 * GB
    assert judge(MOSTLY_TABLES, 4 * GB).kind == "fits"
    assert judge(MOSTLY_TABLES, int(3.4 * GB)).kind == "slow"


@pytest.mark.parametrize(
    ("usable", "kind", "words"),
    [
        (24, "fits", "It needs 20.6 GB of 24.0 GB usable."),
        (20, "tight", "It fits but for some experts. It needs 20.6 GB with all its experts, and 20.0 GB are usable"),
        (
            12,
            "slow",
            "the first answers about new subjects will be slower, and others too. Expected: at least 0.62 tok/s",
        ),
        (4, "slow", "Each token needs 4.85 GB and 4.00 GB are usable: it runs, but reads weights from the disk"),
        (0.9, "wont_fit", "must stay in memory"),
    ],
)
def test_experts_that_are_not_chosen_are_named_apart(usable: float, kind: str, words: str) -> None:
    verdict = judge(EXPERTS, int(usable * GB), disk_speed=lambda: 2.0 * GB)
    assert verdict.kind == kind and words in verdict.reason
    assert ("new subjects" in verdict.reason) == (usable in (20, 12))


def test_weights_that_are_repacked_need_room_once_not_twice() -> None:
    repacked = plan(weights=4, repacked=4)
    assert repacked.total == 9 * GB
    assert judge(repacked, 8 * GB).kind == "fits"


def test_the_remedy_names_the_largest_context_where_it_is_known() -> None:
    verdict = judge(plan(131_072, kv_cache=12), 8 * GB, largest_context=32_768)
    assert verdict.remedy == "Choose a context of at most 32,768 tokens, or a smaller level."


@pytest.mark.parametrize("excess", [1, 1000, 50_000_000, GB])
def test_a_refusal_never_prints_two_equal_figures(excess: int) -> None:
    usable = 5 * GB + 123
    refused = MemoryPlan(ContextParameters(2048), usable - GB + excess, 0, GB, 0, 0, 0, 0)
    needed, available = re.findall(r"[\d.]+ GB", judge(refused, usable).reason)
    assert needed != available


def test_a_plan_that_takes_exactly_all_says_so_with_one_figure() -> None:
    assert judge(plan(), 5 * GB).reason.startswith("It needs all of 5.00 GB usable")


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
        jump = GB if context > 20_000 else 0
        return MemoryPlan(ContextParameters(context), GB, 0, context * 65_536, 0, jump, 0, 0)


@pytest.mark.parametrize("usable_gib", [1.2, 1.5, 2.0, 2.3, 3.0, 5.0])
def test_the_largest_context_was_itself_asked_and_the_next_step_does_not_fit(usable_gib: float) -> None:
    asked = Asked()
    usable = int(usable_gib * GB)
    largest = largest_context_that_fits(asked, 131_072, usable)
    assert largest is not None and largest in asked.contexts
    assert asked(largest).total <= usable < asked(largest + 256).total
    assert len(asked.contexts) < 15


def test_the_trained_context_is_the_most_even_off_the_step() -> None:
    assert largest_context_that_fits(Asked(), 10_000, 100 * GB) == 10_000


def test_no_context_fits_where_the_smallest_does_not() -> None:
    assert largest_context_that_fits(Asked(), 131_072, GB) is None
    assert largest_context_that_fits(Asked(), 1024, GB) is None


def test_weights_that_are_in_memory_already_need_no_more() -> None:
    on_disk = MemoryPlan(ContextParameters(2048), 8 * GB, 0, GB, 0, 0, 0, 0)
    in_memory = on_disk.with_weights(8 * GB, held=True)
    assert judge(on_disk, 4 * GB).kind == "wont_fit"
    assert judge(in_memory, 4 * GB).kind == "fits"
    assert judge(in_memory, GB // 2).kind == "wont_fit"  # the KV cache is not there yet
    assert in_memory.total == on_disk.total  # it takes as much, and none of that is new but 1.00 GB
    assert in_memory.with_weights(4 * GB).new_weights == 4 * GB  # a level that is not in memory
