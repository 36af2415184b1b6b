"""How the model picker reads: levels, context sizes, and the line it folds into."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from playground.app.model_picker.choice import ContextStep, LevelRow
from playground.fit.budget import DeviceBudget
from playground.fit.verdict import Verdict
from playground.web.html.picker import context_steps, gpu_rows, level_rows, picker_line, whole_name

GB = 10**9
EVIL = "<img src=x onerror=alert(1)>\"'`${x}"
FITS = Verdict("fits", "Fits", "It fits.", 5 * GB, 20 * GB)


def text_of(markup: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", markup)).strip()


def a_row(name: str = "Q4_K_M", verdict: Verdict | None = None, **parts: Any) -> LevelRow:
    return LevelRow(name, name, int(4.6 * GB), 4.83, "The usual choice.", verdict, **parts)


def test_a_level_shows_its_size_bits_summary_and_verdict() -> None:
    row = level_rows([a_row(verdict=FITS, recommended=True)], "Q4_K_M", "chat-level")
    assert "Q4_K_M 4.60 GB · 4.8 bits ✓ Fits Recommended The usual choice. 30% of its size at 16 bits." in text_of(row)


def test_a_level_says_what_share_of_16_bits_its_own_file_has() -> None:
    of_a_small_model = replace(a_row("Q2_K"), bits_per_weight=5.1)
    assert "32% of its size at 16 bits" in text_of(level_rows([of_a_small_model], "", "g"))
    for bits_per_weight in (None, 16.0, 32.0):
        assert "of its size" not in level_rows([replace(a_row("F16"), bits_per_weight=bits_per_weight)], "", "g")


def test_a_note_of_a_level_is_shown() -> None:
    assert "Made from the Q4_1 file" in text_of(level_rows([a_row(notes=("Made from the Q4_1 file",))], "", "g"))


def test_levels_that_can_be_made_are_folded_away_unless_one_is_chosen() -> None:
    levels, makeable = [a_row("Q4_1")], [a_row("Q2_K"), a_row("Q2_0")]
    folded = level_rows(levels, "Q4_1", "left-level", makeable, "Q4_1")
    assert '<details class="gp-offers"><summary>Make another level from the Q4_1 file</summary>' in folded
    assert len(re.findall('name="left-level"', folded)) == 3
    assert '<details class="gp-offers" open>' in level_rows(levels, "Q2_0", "left-level", makeable, "Q4_1")


def test_a_model_on_a_server_has_neither_size_nor_verdict() -> None:
    row = LevelRow("on workshop", "runs on workshop", 0, None, "It runs there.", None, is_elsewhere=True)
    shown = text_of(level_rows([row], "on workshop", "g"))
    assert shown == "Quantization set on the server Why? runs on workshop It runs there."


def test_one_of_several_gpus_can_be_chosen_and_one_alone_leaves_nothing_to_choose() -> None:
    first = DeviceBudget("CUDA0", "NVIDIA RTX 4070", 10 * GB, unified=False)
    second = DeviceBudget("CUDA1", "NVIDIA RTX 3060", 8 * GB, unified=False)
    assert gpu_rows([first], "auto", "g") == "" == gpu_rows([], "auto", "g")
    rows = gpu_rows([first, second], "CUDA1", "g")
    assert "All of them share the layers by their free memory" in text_of(rows)
    assert "NVIDIA RTX 3060 CUDA1 · 8.00 GB free" in text_of(rows)
    assert re.findall(r'value="(\w+)" checked', rows) == ["CUDA1"]


@pytest.mark.parametrize(
    "markup",
    [
        picker_line(EVIL, EVIL, 4096, None),
        level_rows([a_row(EVIL, notes=(EVIL,))], EVIL, EVIL, [a_row(EVIL)], EVIL),
        context_steps([ContextStep(4096, True)], 4096, EVIL),
        gpu_rows([DeviceBudget(EVIL, EVIL, 0, unified=False)] * 2, EVIL, EVIL),
    ],
)
def test_a_name_from_a_file_is_never_markup(markup: str) -> None:
    assert "<img" not in markup
    assert not re.search(r'="[^"<>]*<', markup)


def test_levels_are_native_radio_buttons_of_one_group_and_only_the_choice_is_checked() -> None:
    rows = level_rows([a_row("Q2_K"), a_row("Q4_K_M")], "Q4_K_M", "left-level")
    assert re.findall(r'type="radio" name="left-level" value="(\w+)"( checked)?', rows) == [
        ("Q2_K", ""),
        ("Q4_K_M", " checked"),
    ]


def test_before_the_levels_are_known_the_model_is_being_read() -> None:
    assert text_of(level_rows([], "", "g")) == "Reading model …"


def test_the_largest_context_that_fits_is_marked_and_named() -> None:
    steps = [ContextStep(4096, True), ContextStep(42_240, True, is_largest=True), ContextStep(65_536, False)]
    shown = context_steps(steps, 4096, "g")
    assert "The largest that fits is 42,240 tokens." in text_of(shown)
    assert 'title="42,240 tokens, largest that fits"' in shown
    assert 'title="65,536 tokens, too large"' in shown


def test_a_model_whose_full_context_fits_says_so() -> None:
    steps = [ContextStep(4096, True), ContextStep(8192, True, is_largest=True)]
    assert "The model's full 8,192-token context fits." in text_of(context_steps(steps, 4096, "g")).replace(
        "&#39;", "'"
    )


def test_until_the_contexts_are_judged_nothing_is_said_about_them() -> None:
    shown = text_of(context_steps([ContextStep(4096, None), ContextStep(8192, None)], 4096, "g"))
    assert "fit" not in shown


def test_the_folded_picker_is_one_line_with_the_verdict() -> None:
    line = picker_line("SmolLM2 135M", "Q4_1", 4096, FITS)
    assert text_of(line) == "SmolLM2 135M · Q4_1 · 4K ✓ Fits change"
    assert 'aria-expanded="false"' in line


LONG = "a-very-long-name-Some-Model-397B-A17B-Thinking-Instruct-2611-i1-UD-Q4_K_XL-00001-of-00009, runs on stand"


def test_a_long_name_shows_both_ends_and_the_whole_on_hover() -> None:
    line = picker_line(LONG, "", None, None)
    start, end = re.findall(r"<span>([^<]*)</span>", line[line.index("gp-ends") :])
    assert start + end == LONG and "Q4_K_XL" in end
    assert f'title="{LONG}"' in line


def test_a_name_longer_than_its_box_is_written_out_below_it() -> None:
    assert LONG in whole_name(LONG)
    assert whole_name("SmolLM2 135M Instruct") == ""
