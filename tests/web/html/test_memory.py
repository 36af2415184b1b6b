"""What a person sees of a model's memory: a verdict, a bar, predicted beside measured."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from playground.engine.protocol import Memory
from playground.fit.budget import Budget, DeviceBudget
from playground.fit.plan import MemoryPlan, Part
from playground.fit.verdict import Verdict, judge
from playground.gguf.weight_use import WeightUse
from playground.llama.params import ContextParameters
from playground.web.html.memory import device_bars, memory_bar, predicted_beside_measured, verdict_chip

MB, GB = 10**6, 10**9
EVIL = "<img src=x onerror=alert(1)>\"'`${x}"


def text_of(markup: str) -> str:
    """What is left for the eye: no tags, spaces joined."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", markup)).strip()


def widths(markup: str) -> list[float]:
    return [float(width) for width in re.findall(r'gp-seg gp-seg-\w+" style="width:([\d.]+)%', markup)]


def a_plan(weights: int = 4 * GB, kv_cache: int = GB, repacked: int = 0) -> MemoryPlan:
    return MemoryPlan(
        context=ContextParameters(4096),
        weights=weights,
        repacked=repacked,
        kv_cache=kv_cache,
        recurrent=0,
        compute=100 * MB,
        output=MB,
        base=41 * MB,
    )


def a_bar(plan: MemoryPlan, usable: int) -> str:
    return memory_bar(plan, usable, judge(plan, usable))


@pytest.mark.parametrize(
    "markup",
    [
        verdict_chip(Verdict("fits", EVIL, EVIL, 1, 2)),
        memory_bar(a_plan(), GB, Verdict("wont_fit", EVIL, EVIL, 2, 1)),
    ],
)
def test_a_text_of_a_verdict_is_never_markup(markup: str) -> None:
    assert "<img" not in markup
    assert not re.search(r'="[^"<>]*<', markup)


def test_each_gpu_has_a_bar_of_its_own_with_what_is_free_there() -> None:
    parts = (Part("weights", "CUDA0", 6 * GB), Part("kv_cache", "CUDA0", GB), Part("weights", "CUDA1", 3 * GB))
    budget = Budget(32 * GB, (DeviceBudget("CUDA0", "RTX 4070", 10 * GB, unified=False),
                               DeviceBudget("CUDA1", EVIL, 2 * GB, unified=False)))  # fmt: skip
    bars = device_bars(replace(a_plan(), on_devices=parts), budget, "All 31 layers on 2 GPUs.")
    assert "RTX 4070 7.00 GB of 10.0 GB free" in text_of(bars) and "3.00 GB of 2.00 GB free" in text_of(bars)
    assert text_of(bars).endswith("All 31 layers on 2 GPUs.") and "<img" not in bars
    assert 'aria-label="RTX 4070 needs 7.00 GB of 10.0 GB free memory: weights 6.00 GB, KV cache 1.00 GB"' in bars
    assert widths(bars) == [60, 10, 100]


def test_without_a_gpu_there_is_no_bar_and_no_sentence() -> None:
    assert text_of(device_bars(a_plan(), Budget(32 * GB), "")) == ""


def test_a_verdict_is_shown_by_word_and_sign() -> None:
    plan = a_plan()
    chips = [text_of(verdict_chip(judge(plan, usable))) for usable in (20 * GB, int(5.4 * GB), 3 * GB, GB)]
    assert chips == ["✓ Fits", "! Tight", "↓ Slow", "✕ Won&#39;t fit"]
    assert text_of(verdict_chip(None)) == "–"


def test_the_bar_is_one_picture_whose_name_says_everything() -> None:
    bar = a_bar(a_plan(), 20 * GB)
    (name,) = re.findall(r'role="img" aria-label="([^"]*)"', bar)
    assert name == (
        "Fits. Needs 5.14 GB of 20.0 GB usable memory: "
        "weights 4.00 GB, KV cache 1.00 GB, compute 101 MB, overhead 41.0 MB"
    )


def test_the_legend_gives_each_part_its_size() -> None:
    assert "Weights 4.00 GB KV cache 1.00 GB Compute 101 MB Overhead 41.0 MB" in text_of(a_bar(a_plan(), 20 * GB))


def test_every_part_is_visible_and_none_leaves_the_bar() -> None:
    for plan, usable in ((a_plan(60 * MB, MB), 500 * GB), (a_plan(300 * GB, MB), 8 * GB)):
        shares = widths(a_bar(plan, usable))
        assert len(shares) == 4
        assert min(shares) > 0.5
        assert sum(shares) <= 100.1


def test_what_exceeds_the_usable_memory_is_shown_beyond_a_mark() -> None:
    bar = a_bar(a_plan(weights=15 * GB), 8 * GB)
    (mark,) = re.findall(r'gp-mark" style="left:([\d.]+)%', bar)
    assert float(mark) == pytest.approx(100 * 8 / 16.14, abs=0.1)
    assert "available memory" in text_of(bar)
    assert "available memory" not in text_of(a_bar(a_plan(), 20 * GB))


def test_a_plan_that_is_a_hair_too_large_never_reads_as_equal() -> None:
    plan = a_plan()
    needed, usable = re.findall(r"([\d.,]+ \wB)", text_of(a_bar(plan, plan.total - 1000)))[:2]
    assert needed != usable


def test_weights_that_are_repacked_count_once() -> None:
    bar = text_of(a_bar(a_plan(repacked=3 * GB), 20 * GB))
    assert "Memory 5.14 GB of 20.0 GB usable" in bar
    assert "Weights 1.00 GB Weights, repacked for this CPU 3.00 GB" in bar


def test_lookup_tables_are_no_part_of_the_figure_and_the_details_say_so() -> None:
    plan = replace(a_plan(), use=WeightUse(unread=0.25))
    assert "Memory 4.14 GB of 20.0 GB usable" in text_of(a_bar(plan, 20 * GB))
    details = text_of(predicted_beside_measured(plan, Memory(plan.must_stay, plan.weights)))
    assert "Answers need 4.14 GB of the predicted total: no token reads the other 1.00 GB" in details
    assert "Answers need" not in text_of(predicted_beside_measured(a_plan(), Memory(GB, GB)))


def test_a_refusal_says_why_and_what_would_fit() -> None:
    verdict = judge(a_plan(), 3 * GB)
    assert f"{verdict.reason} {verdict.remedy}" in text_of(a_bar(a_plan(), 3 * GB))


def test_predicted_stands_beside_measured_and_a_difference_shows() -> None:
    plan = a_plan()
    table = text_of(predicted_beside_measured(plan, Memory(plan.must_stay + MB, plan.weights)))
    together = re.search(r"Total (\S+ GB) (\S+ GB)", table)
    assert together and together[1] != together[2]
