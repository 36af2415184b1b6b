"""The Fit tab's markup: what it says, and that nothing of a model gets into it unescaped."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import pytest

from playground.app.fit import FitChoice, FitView, KvComparison
from playground.errors import PlaygroundError
from playground.fit.kv_formula import Attention
from playground.fit.plan import MemoryPlan
from playground.fit.table import LevelSize, fit_table
from playground.llama.params import ContextParameters
from playground.web.html.fit import answer_sentence, computer_line, fit_rows, kv_table, memory_charts

GIB = 1 << 30
CONTEXTS = (4096, 131_072)
SIZES = (
    LevelSize("F16", 22 * GIB, "estimate", least_bytes=20 * GIB),
    LevelSize("Q4_K_M", 7 * GIB),
    LevelSize("Q2_K", 4 * GIB, "to be made"),
)
CHOICE = FitChoice(level="Q4_K_M", context=131_072)


def plans(kv_gib: float = 2) -> list[MemoryPlan]:
    return [
        MemoryPlan(ContextParameters(4096), 0, 0, GIB // 4, 0, GIB // 8, 0, GIB // 8),
        MemoryPlan(ContextParameters(131_072), 0, 0, int(kv_gib * GIB), 0, GIB // 4, 0, GIB // 4),
    ]


def view(usable: int = 10 * GIB, name: str = "Gemma 4 12B", choice: FitChoice = CHOICE) -> FitView:
    attention = Attention(48, 4096, 1024, 40)
    kv = KvComparison(attention, CONTEXTS, (3 * GIB // 2, 48 * GIB), (GIB // 2, 5 * GIB // 2))
    return FitView(choice, (), name=name, table=fit_table(plans(), SIZES, CONTEXTS, usable), kv=kv)


def text_of(markup: str) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", markup))).strip()


# --- the table ---


def test_every_cell_has_its_word_its_sign_and_its_size() -> None:
    text = text_of(fit_rows(view()))
    assert "✕ Won't fit at most 22.5 GiB F16 with 4K: open in Chat" in text
    assert "✓ Fits 7.5 GiB Q4_K_M with 4K: open in Chat" in text
    assert "! Tight 9.5 GiB Q4_K_M with 128K: open in Chat" in text


def test_only_estimates_are_marked_as_such_with_their_band() -> None:
    table, _, notes = fit_rows(view()).partition("</tbody>")
    rows = table.split("<tr>")[2:]
    assert ["≈" in row for row in rows] == [True, False, False]
    assert "F16 ≈ 20.0 GiB to 22.0 GiB" in text_of(rows[0])
    assert "≈ marks an estimate" in notes and "quantizer" not in notes
    assert "F16 weights ≈ 20.0 GiB to 22.0 GiB" in text_of(memory_charts(view().table))


def test_a_size_from_the_quantizer_is_no_estimate_and_says_where_it_is_from() -> None:
    computed = fit_table(plans(), (LevelSize("Q8_0", 7 * GIB, "computed"),), CONTEXTS, 10 * GIB)
    markup = fit_rows(replace(view(), table=computed))
    assert "≈" not in markup and "the size that llama.cpp’s quantizer gives for this model’s tensors" in markup


def test_experts_that_stay_mxfp4_at_every_level_are_told() -> None:
    assert "keep them so at every level" in fit_rows(replace(view(), keeps_mxfp4=True))
    assert "MXFP4" not in fit_rows(view())


def test_a_cell_is_a_button_that_names_its_level_and_context() -> None:
    cells = re.findall(r'<button type="button" class="gp-cell gp-(\w+)" data-value="([^"]*)"', fit_rows(view()))
    assert len(cells) == 6 and ("tight", "Q4_K_M|131072") in cells


def test_a_table_that_is_still_planned_shows_what_is_to_come() -> None:
    early = replace(view(), table=fit_table(plans()[:1], SIZES, CONTEXTS, 10 * GIB))
    assert fit_rows(early).count("…") == 3 and memory_charts(early.table) == ""


def test_nothing_of_a_model_gets_in_unescaped() -> None:
    bad = '<img src=x onerror="1">'
    hostile = view(name=bad, choice=replace(CHOICE, level=bad))
    hostile = replace(hostile, table=fit_table(plans(), (LevelSize(bad, GIB),), CONTEXTS, GIB))
    for markup in (fit_rows(hostile), answer_sentence(hostile), kv_table(hostile), memory_charts(hostile.table)):
        assert "<img" not in markup and "&lt;img" in markup


# --- the answer ---


def test_what_would_be_needed_is_answered_in_a_sentence() -> None:
    text = text_of(answer_sentence(view()))
    assert text.startswith("! Tight Gemma 4 12B at Q4_K_M with 128K tokens of context needs 9.5 GiB : a computer with")
    assert "a computer with 16 GB of memory is enough. This computer has 10.0 GiB usable." in text


def test_what_a_computer_cannot_give_is_said() -> None:
    text = text_of(answer_sentence(view(5 * GIB, choice=replace(CHOICE, computer="8"))))
    assert "A computer with 8 GB has 5.0 GiB usable, which is too little." in text


def test_two_sizes_that_differ_never_read_the_same_in_the_answer() -> None:
    text = text_of(answer_sentence(view(int(9.5 * GIB) - 1000)))
    assert "needs 9.500000 GiB" in text and "has 9.499999 GiB usable, which is too little" in text


def test_a_computer_that_just_manages_it_is_called_a_tight_fit() -> None:
    tight = replace(view(), table=fit_table(plans(5.2), SIZES, CONTEXTS, 20 * GIB))
    assert "with 16 GB of memory is a tight fit, with 24 GB there is room to spare." in text_of(answer_sentence(tight))


def test_an_estimate_is_spoken_of_as_one() -> None:
    assert "needs at most 24.5 GiB" in text_of(answer_sentence(view(choice=replace(CHOICE, level="F16"))))


def test_what_no_usual_computer_can_give_is_said() -> None:
    huge = replace(view(), table=fit_table(plans(900), SIZES, CONTEXTS, GIB))
    assert "more than any of the computers listed here can give" in answer_sentence(huge)


def test_the_answer_waits_for_its_plan_and_goes_where_there_is_none() -> None:
    assert "Planning" in answer_sentence(replace(view(), table=None))
    assert answer_sentence(replace(view(), table=None, message=PlaygroundError("It is broken.", ""))) == ""


def test_the_assumption_about_another_computer_is_stated() -> None:
    other = text_of(computer_line(view(choice=replace(CHOICE, computer="16"))))
    assert "the system and a browser take 3.0 GiB" in other
    assert text_of(computer_line(view())) == "This computer: 10.0 GiB usable now."


# --- the KV cache ---


def test_the_rule_of_thumb_stands_beside_the_plan_and_is_explained() -> None:
    markup = kv_table(view())
    assert re.search(r"128K 48\.0 GiB 2\.5 GiB 19×", text_of(markup))
    explained = text_of(re.findall(r'<p class="gp-fit-text">(.*?)</p>', markup, re.DOTALL)[0])
    assert len(re.findall(r"\.(?: |$)", explained)) == 2
    assert "40 of them look back at the last 1,024 tokens only" in explained and "19 times less" in explained


def test_where_the_rule_of_thumb_is_right_it_is_called_right() -> None:
    same = replace(view(), kv=KvComparison(Attention(32, 2048), CONTEXTS, (GIB, 32 * GIB), (GIB, 32 * GIB)))
    assert "the rule of thumb is right" in kv_table(same) and "the same" in kv_table(same)


def test_a_window_longer_than_the_text_explains_nothing() -> None:
    kv = KvComparison(Attention(32, 2048, 262_144), CONTEXTS, (GIB, 32 * GIB), (GIB // 4, 8 * GIB))
    assert "look back" not in kv_table(replace(view(), kv=kv))


# --- the charts ---


def test_each_level_has_a_chart_with_a_spoken_name_and_each_bar_its_four_parts() -> None:
    markup = memory_charts(view().table)
    assert markup.count('role="img"') == 3
    assert markup.count('class="gp-fill-weights"') == markup.count('class="gp-fill-kv"') == 6
    assert "Q4_K_M: memory by context, 4K 7.5 GiB, 128K 9.5 GiB; usable 10.0 GiB." in markup


def test_all_charts_share_one_scale() -> None:
    markup = memory_charts(view().table)
    heights = [float(height) for height in re.findall(r'gp-fill-weights"[^>]*height="([\d.]+)"', markup)]
    assert heights[0] / heights[2] == pytest.approx(22 / 7, rel=0.01)


def test_usable_memory_far_above_the_bars_is_told_in_words() -> None:
    assert "gp-chart-usable" in memory_charts(view().table)
    markup = memory_charts(view(500 * GIB).table)
    assert "gp-chart-usable" not in markup and "Usable: 500 GiB, above the top of the charts" in markup
