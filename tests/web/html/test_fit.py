"""The Fit tab's markup: what it says, and that nothing of a model gets into it unescaped."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from itertools import pairwise

import pytest

from playground.app.fit import FitChoice, FitView, KvComparison
from playground.errors import PlaygroundError
from playground.fit.computers import Computer
from playground.fit.kv_formula import Attention
from playground.fit.plan import MemoryPlan, Part
from playground.fit.planner import PlacedPlan
from playground.fit.table import LevelSize, fit_table
from playground.llama.params import ContextParameters, Placement
from playground.web.html.fit import answer_sentence, computer_line, fit_rows, kv_headline, kv_table
from playground.web.html.fit_chart import memory_chart

GB = 10**9
CONTEXTS = (4096, 131_072)
SIZES = (
    LevelSize("F16", 22 * GB, "estimate", least_bytes=20 * GB),
    LevelSize("Q4_K_M", 7 * GB),
    LevelSize("Q2_K", 4 * GB, "to be made"),
)
CHOICE = FitChoice(level="Q4_K_M", context=131_072)


def plans(kv_gib: float = 2) -> list[MemoryPlan]:
    return [
        MemoryPlan(ContextParameters(4096), 0, 0, GB // 4, 0, GB // 8, 0, GB // 8),
        MemoryPlan(ContextParameters(131_072), 0, 0, int(kv_gib * GB), 0, GB // 4, 0, GB // 4),
    ]


def view(usable: int = 10 * GB, name: str = "Gemma 4 12B", choice: FitChoice = CHOICE) -> FitView:
    attention = Attention(48, 4096, 1024, 40)
    kv = KvComparison(attention, CONTEXTS, (3 * GB // 2, 48 * GB), (GB // 2, 5 * GB // 2))
    return FitView(choice, (), name=name, table=fit_table(plans(), SIZES, CONTEXTS, usable), kv=kv)


def view_with_gpu() -> FitView:
    """Every level has 30 of its 49 layers on the GPU."""
    budget = Computer("gpu", 32, 8).budget()
    names = tuple(device.name for device in budget.devices)

    def place(context: ContextParameters, size: LevelSize) -> PlacedPlan:
        plan = next(plan for plan in plans() if plan.context.context_size == context.context_size)
        at = replace(context, placement=Placement(names, 30))
        on_gpu = (Part("weights", names[0], size.weight_bytes // 2),)
        weights = size.weight_bytes - size.weight_bytes // 2
        placed = replace(plan, context=at, weights=weights, on_devices=on_gpu, layers=49)
        return PlacedPlan(placed, "30 of 49 layers on the GPU: because.")

    choice = replace(CHOICE, computer="gpu", memory="32", gpu_gb=8)
    return replace(view(choice=choice), table=fit_table(plans(), SIZES, CONTEXTS, budget, place=place))


def text_of(markup: str) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", markup))).strip()


# --- the table ---


def test_every_cell_has_its_word_its_sign_and_its_size() -> None:
    text = text_of(fit_rows(view()))
    assert "✕ Won't fit at most 22.5 GB F16 with 4K: open in Chat" in text
    assert "✓ Fits 7.50 GB – Q4_K_M with 4K: open in Chat" in text
    assert "! Tight 9.50 GB – Q4_K_M with 128K: open in Chat" in text


def test_only_estimates_are_marked_as_such_with_their_band() -> None:
    table, _, notes = fit_rows(view()).partition("</tbody>")
    rows = table.split("<tr>")[2:]
    assert ["≈" in row for row in rows] == [True, False, False]
    assert "F16 ≈ 20.0 GB to 22.0 GB" in text_of(rows[0])
    assert "≈ marks an estimate" in notes and "quantizer" not in notes


def test_a_size_from_the_quantizer_is_no_estimate_and_says_where_it_is_from() -> None:
    computed = fit_table(plans(), (LevelSize("Q8_0", 7 * GB, "computed"),), CONTEXTS, 10 * GB)
    markup = fit_rows(replace(view(), table=computed))
    assert "≈" not in markup and "the size that llama.cpp’s quantizer gives for this model’s tensors" in markup


def test_experts_that_stay_mxfp4_at_every_level_are_told() -> None:
    assert "keep them so at every level" in fit_rows(replace(view(), keeps_mxfp4=True))
    assert "MXFP4" not in fit_rows(view())


def test_a_cell_is_a_button_that_names_its_level_and_context() -> None:
    cells = re.findall(r'<button type="button" class="gp-cell gp-(\w+)" data-value="([^"]*)"', fit_rows(view()))
    assert len(cells) == 6 and ("tight", "Q4_K_M|131072") in cells


def test_a_table_that_is_still_planned_shows_what_is_to_come() -> None:
    early = replace(view(), table=fit_table(plans()[:1], SIZES, CONTEXTS, 10 * GB))
    assert fit_rows(early).count("…") == 3 and memory_chart(early) == ""


def test_nothing_of_a_model_gets_in_unescaped() -> None:
    bad = '<img src=x onerror="1">'
    hostile = view(name=bad, choice=replace(CHOICE, level=bad))
    hostile = replace(hostile, table=fit_table(plans(), (LevelSize(bad, GB),), CONTEXTS, GB))
    for markup in (fit_rows(hostile), answer_sentence(hostile), kv_headline(hostile), memory_chart(hostile)):
        assert "<img" not in markup and "&lt;img" in markup


# --- the answer ---


def test_what_would_be_needed_is_answered_in_a_sentence() -> None:
    text = text_of(answer_sentence(view()))
    assert text.startswith("! Tight Gemma 4 12B at Q4_K_M with 128K tokens of context needs 9.50 GB : a computer with")
    assert "a computer with 16 GB of memory is enough. This computer has 10.0 GB usable." in text


def test_what_a_computer_cannot_give_is_said() -> None:
    text = text_of(answer_sentence(view(5 * GB, choice=replace(CHOICE, computer="pc", memory="8"))))
    assert "PC with 8 GB has 5.00 GB usable, which is too little." in text


def test_two_sizes_that_differ_never_read_the_same_in_the_answer() -> None:
    text = text_of(answer_sentence(view(int(9.5 * GB) - 1000)))
    assert "needs 9.500000 GB" in text and "has 9.499999 GB usable, which is too little" in text


def test_a_computer_that_just_manages_it_is_called_a_tight_fit() -> None:
    tight = replace(view(), table=fit_table(plans(6.2), SIZES, CONTEXTS, 20 * GB))
    assert "with 16 GB of memory is a tight fit, with 24 GB there is room to spare." in text_of(answer_sentence(tight))


def test_an_estimate_is_spoken_of_as_one() -> None:
    assert "needs at most 24.5 GB" in text_of(answer_sentence(view(choice=replace(CHOICE, level="F16"))))


def test_what_no_usual_computer_can_give_is_said() -> None:
    huge = replace(view(), table=fit_table(plans(900), SIZES, CONTEXTS, GB))
    assert "more than any of the computers listed here can give" in answer_sentence(huge)


def test_the_answer_waits_for_its_plan_and_goes_where_there_is_none() -> None:
    assert "Planning" in answer_sentence(replace(view(), table=None))
    assert answer_sentence(replace(view(), table=None, message=PlaygroundError("It is broken.", ""))) == ""


def test_the_assumption_about_another_computer_is_stated() -> None:
    other = text_of(computer_line(view(choice=replace(CHOICE, computer="pc", memory="16"))))
    assert "the system and a browser take 3 GB" in other
    assert text_of(computer_line(view())) == "This computer: 10.0 GB usable now."


def test_with_a_gpu_the_answer_says_where_the_model_runs_and_what_it_needs_without() -> None:
    text = text_of(answer_sentence(view_with_gpu()))
    assert "needs 9.50 GB . PC with a GPU of 8 GB and 32 GB of RAM: 30 of 49 layers on the GPU: because." in text
    assert "Without a GPU it needs 9.50 GB: a computer with 16 GB of memory is enough." in text
    line = text_of(computer_line(view_with_gpu()))
    assert "7.59 GB on the GPU, 31.4 GB of RAM" in line and "a made-up GPU" in line


def test_a_cell_says_how_fast_it_would_be_expected_to_write() -> None:
    table = view().table
    assert table
    fast = table.with_speeds(lambda size, cell: (9.4, 12.2) if size.level == "Q4_K_M" else None)
    text = text_of(fit_rows(replace(view(), table=fast)))
    assert "✓ Fits 7.50 GB 9.4–12 tok/s Q4_K_M with 4K: open in Chat" in text
    assert "✕ Won't fit at most 22.5 GB F16 with 4K: open in Chat" in text  # none where it would not run


def test_a_cell_says_where_it_would_run() -> None:
    text = text_of(fit_rows(view_with_gpu()))
    assert "✓ Fits 7.50 GB 30 of 49 layers Q4_K_M with 4K: open in Chat" in text


# --- the KV cache ---


def test_the_rule_of_thumb_stands_beside_the_plan_and_is_explained() -> None:
    assert re.search(r"128K 48\.0 GB 2\.50 GB 19×", text_of(kv_table(view())))
    text = text_of(kv_headline(view()))
    assert text.startswith("You may have read 48.0 GB (44.7 GiB) for the KV cache. It is 2.50 GB .")
    assert "Gemma 4 12B, 128K tokens." in text and "40 of them look back at the last 1,024 tokens only" in text


def test_where_the_rule_of_thumb_is_right_it_is_called_right() -> None:
    same = replace(view(), kv=KvComparison(Attention(32, 2048), CONTEXTS, (GB, 32 * GB), (GB, 32 * GB)))
    assert "takes 32.0 GB at 128K tokens. That is what the rule of thumb says" in text_of(kv_headline(same))
    assert "the same" in kv_table(same)


def test_a_window_longer_than_the_text_explains_nothing() -> None:
    kv = KvComparison(Attention(32, 2048, 262_144), CONTEXTS, (GB, 32 * GB), (GB // 4, 8 * GB))
    assert "look back" not in kv_headline(replace(view(), kv=kv))


# --- the chart ---


def places(markup: str) -> list[list[tuple[float, float]]]:
    """The points of each line: per cent from the left, and from the top."""
    return [
        [(float(x), float(y)) for x, y in (point.split(",") for point in points.split())]
        for points in re.findall(r'<polyline[^>]*points="([^"]*)"', markup)
    ]


def test_the_chart_has_a_line_for_each_level_and_a_spoken_name() -> None:
    markup = memory_chart(view())
    assert len(places(markup)) == 3 and markup.count('role="img"') == 1
    assert (
        "Memory by context, from 4K to 128K tokens: F16 from 22.5 GB to 24.5 GB, Q4_K_M from 7.50 GB to 9.50 GB, "
        "Q2_K from 4.50 GB to 6.50 GB. Usable memory 10.0 GB. The table below has every figure."
    ) in markup


def test_heights_are_to_scale_and_contexts_a_doubling_apart() -> None:
    wide = (4096, 8192, 131_072)
    table = fit_table([plans()[0], replace(plans()[0], context=ContextParameters(8192)), plans()[1]], SIZES, wide, GB)
    f16, q4, _ = places(memory_chart(replace(view(), table=table)))
    assert (100 - f16[0][1]) / (100 - q4[0][1]) == pytest.approx(22.5 / 7.5, rel=0.01)
    assert (f16[2][0] - f16[0][0]) / (f16[1][0] - f16[0][0]) == pytest.approx(5, rel=0.01)


def test_the_chart_is_shaded_from_where_memory_ends() -> None:
    assert re.findall(r'class="gp-plot-(gpu|all)"', memory_chart(view())) == ["all"]
    assert "Usable memory: 10.0 GB" in memory_chart(view())
    above = memory_chart(view(500 * GB))
    assert "gp-plot-limit" not in above and "Above the top of the chart: Usable memory: 500 GB" in text_of(above)
    with_gpu = memory_chart(view_with_gpu())
    assert re.findall(r'class="gp-plot-(gpu|all)"', with_gpu) == ["gpu", "all"]
    assert "On the GPU: 7.59 GB" in with_gpu and "GPU and RAM: 38.9 GB" in with_gpu


def test_the_name_of_a_limit_stands_below_it_where_a_line_is_just_above() -> None:
    assert "gp-plot-below" not in memory_chart(view())
    assert 'gp-plot-below" style' in memory_chart(view(21 * GB))


def test_names_of_levels_in_the_chart_never_cover_each_other() -> None:
    alike = tuple(LevelSize(f"Q{number}", 7 * GB + number) for number in range(8, 0, -1))
    markup = memory_chart(replace(view(), table=fit_table(plans(), alike, CONTEXTS, 10 * GB)))
    tops = [float(top) for top in re.findall(r'top:([\d.]+)%">Q\d<', markup)]
    assert len(tops) == 8 and all(later - earlier > 6.9 for earlier, later in pairwise(tops))
