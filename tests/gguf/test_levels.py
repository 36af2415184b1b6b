"""The table of levels beside llama.cpp's own constants."""

from __future__ import annotations

import re

import llama_cpp
import pytest

from playground.gguf.levels import (
    DEFAULT_LEVELS,
    FULL_TABLE_LEVELS,
    LEVELS,
    MAKEABLE_LEVELS,
    SHORT_TABLE_LEVELS,
    USUAL_LEVELS,
    find_level,
    level_of_file_type,
    nominal_bits,
)

FTYPES = {
    name.removeprefix("LLAMA_FTYPE_").removeprefix("MOSTLY_").removeprefix("ALL_"): number
    for name, number in vars(llama_cpp).items()
    if name.startswith("LLAMA_FTYPE_") and name != "LLAMA_FTYPE_GUESSED"
}


def test_the_table_has_every_level_of_the_installed_llama_cpp_under_its_number() -> None:
    assert {level.name: level.file_type for level in LEVELS} == FTYPES


def test_levels_stand_from_small_to_large() -> None:
    sizes = [level.bits_per_weight for level in LEVELS]
    assert sizes == sorted(sizes)


def test_each_level_has_one_sentence_of_its_own() -> None:
    summaries = [level.summary for level in LEVELS]
    assert len(set(summaries)) == len(summaries)
    for summary in summaries:
        assert summary[0].isupper() and summary.endswith(".") and ". " not in summary and len(summary) <= 100


def test_no_sentence_of_a_level_names_a_size_which_differs_from_file_to_file() -> None:
    of_a_size = re.compile(
        r"size|half the|third|quarter|fifth|seventh|smaller|larger|as small|hardly large", re.IGNORECASE
    )
    assert [level.name for level in LEVELS if of_a_size.search(level.summary)] == []


def test_no_two_rows_share_a_name_or_an_alias() -> None:
    names = [name for level in LEVELS for name in (level.name, *level.aliases)]
    assert len(set(names)) == len(names)


def test_a_model_named_without_a_level_is_taken_at_q4_k_m_else_q8_0() -> None:
    assert DEFAULT_LEVELS == ("Q4_K_M", "Q8_0")


def test_the_usual_levels_can_all_be_made_and_the_largest_comes_first() -> None:
    assert set(USUAL_LEVELS) <= set(MAKEABLE_LEVELS)
    assert USUAL_LEVELS[0] == "Q8_0" and "Q2_0" in USUAL_LEVELS  # Q2_0 shows the most harm


def test_the_full_table_holds_the_short_one_from_large_to_small() -> None:
    assert SHORT_TABLE_LEVELS == ("F16", "Q8_0", "Q4_K_M", "Q2_K")
    assert set(SHORT_TABLE_LEVELS) < set(FULL_TABLE_LEVELS)
    sizes = [nominal_bits(name) for name in FULL_TABLE_LEVELS]
    assert sizes == sorted(sizes, reverse=True)


def test_a_level_that_llama_cpp_only_runs_is_not_offered_for_making() -> None:
    assert "NVFP4" not in MAKEABLE_LEVELS and len(MAKEABLE_LEVELS) == len(LEVELS) - 1


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("Q4_K_M", "Q4_K_M"),
        ("q4_k_m", "Q4_K_M"),
        ("UD-Q4_K_XL", "Q4_K_M"),
        ("UD-Q2_K_XL", "Q2_K"),
        ("UD-Q3_K_XL", "Q3_K_L"),
        ("UD-Q8_K_XL", "Q8_0"),
        ("UD-IQ2_XXS", "IQ2_XXS"),
        ("UD-TQ1_0", "IQ1_S"),  # no ternary weights in these
        ("TQ1_0", "TQ1_0"),
        ("Q6_K_L", "Q6_K"),
        ("Q5_K_L", "Q5_K_M"),
        ("Q4_K", "Q4_K_M"),
        ("Q4_0_4_4", "Q4_0"),
        ("MXFP4", "MXFP4_MOE"),
        ("fp16", "F16"),
    ],
)
def test_a_name_is_found_as_its_row_or_the_nearest(name: str, row: str) -> None:
    level = find_level(name)
    assert level is not None and level.name == row


@pytest.mark.parametrize("name", ["", "Q9_9", "I2_S", "unknown", "UD-"])
def test_a_level_nobody_knows_is_not_guessed(name: str) -> None:
    assert find_level(name) is None
    assert nominal_bits(name) == 0.0


def test_a_file_type_number_gives_its_level() -> None:
    level = level_of_file_type(llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M)
    assert level is not None and level.name == "Q4_K_M"
    assert level_of_file_type(999) is None
