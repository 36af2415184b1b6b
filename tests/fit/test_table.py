"""The table of levels and contexts on plans made up for the purpose, and the simple sum against the real planner."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.fit.kv_formula import naive_kv_bytes, read_attention
from playground.fit.plan import MemoryPlan
from playground.fit.planner import Planner
from playground.fit.subjects import catalogue_subjects, hyperparameters_of, subjects_on_disk
from playground.fit.table import (
    COMPUTERS_GB,
    LevelSize,
    computers_for,
    estimated_size,
    fit_table,
    ladder,
    table_contexts,
    usable_of,
)
from playground.gguf.header import read_header
from playground.gguf.levels import FULL_TABLE_LEVELS, SHORT_TABLE_LEVELS, nominal_bits
from playground.gguf.reader import FileSource
from playground.llama.params import ContextParameters
from playground.models.catalog import CatalogModel, load_catalog
from playground.models.library import Library
from playground.settings import load_settings

GIB = 1 << 30
GEMMA = next(model for model in load_catalog() if model.id == "gemma4-12b")


def plan(context: int = 4096, *, weights: float = 0, kv_cache: float = 1) -> MemoryPlan:
    return MemoryPlan(ContextParameters(context), int(weights * GIB), 0, int(kv_cache * GIB), 0, 0, 0, 0)


@pytest.fixture(scope="module")
def planner() -> Iterator[Planner]:
    with Planner() as planner:
        yield planner


# --- the table ---


def test_every_level_meets_every_context_with_its_own_weights() -> None:
    sizes = (LevelSize("Q8_0", 8 * GIB), LevelSize("Q2_K", 2 * GIB))
    table = fit_table([plan(4096), plan(8192, kv_cache=4)], sizes, (4096, 8192), 10 * GIB)
    kinds = [[cell.verdict.kind for cell in row.cells] for row in table.rows]
    assert kinds == [["fits", "wont_fit"], ["fits", "fits"]]
    assert [[cell.plan.total // GIB for cell in row.cells] for row in table.rows] == [[9, 12], [3, 6]]


def test_a_table_that_is_still_being_planned_has_the_first_contexts_only() -> None:
    sizes = (LevelSize("Q8_0", GIB),)
    early = fit_table([plan(4096)], sizes, (4096, 8192), 4 * GIB)
    assert not early.is_complete and early.cell("Q8_0", 4096) and early.cell("Q8_0", 8192) is None
    assert fit_table([plan(4096), plan(8192)], sizes, (4096, 8192), 4 * GIB).is_complete


@pytest.mark.parametrize(("level", "context"), [("Q9", 4096), ("Q8_0", 1), ("", 0)])
def test_a_cell_that_is_not_in_the_table_is_none(level: str, context: int) -> None:
    assert fit_table([plan()], (LevelSize("Q8_0", GIB),), (4096,), GIB).cell(level, context) is None


@pytest.mark.parametrize(
    ("trained", "contexts"),
    [
        (262_144, (4096, 8192, 16_384, 32_768, 65_536, 131_072, 262_144)),
        (40_960, (4096, 8192, 16_384, 32_768, 40_960)),
        (8192, (2048, 4096, 8192)),
        (512, (512,)),
    ],
)
def test_the_contexts_end_with_the_trained_one(trained: int, contexts: tuple[int, ...]) -> None:
    assert table_contexts(trained) == contexts


# --- sizes of levels ---


def test_where_only_a_parameter_count_is_known_the_size_is_a_band() -> None:
    size = estimated_size(12_000_000_000, "Q8_0")
    assert size and size.is_estimate and size.least_bytes
    assert 0 < size.least_bytes < size.weight_bytes
    assert (size.least_bytes, size.weight_bytes) == pytest.approx([12_000_000_000 * 8.5 / 8] * 2, rel=0.01)


@pytest.mark.parametrize("level", FULL_TABLE_LEVELS)
@pytest.mark.parametrize("model", [model for model in load_catalog() if not model.keeps_mxfp4], ids=lambda one: one.id)
def test_the_band_holds_every_model_whose_size_is_known(model: CatalogModel, level: str) -> None:
    size = estimated_size(model.parameter_count, level)
    assert size and size.least_bytes is not None
    assert size.least_bytes <= model.weight_bytes[level] <= size.weight_bytes


def test_the_band_of_a_small_model_reaches_far_above_the_usual_bits() -> None:
    """Rows of Gemma 3 270M do not divide by 256, and half of its weights are the token embedding."""
    size = estimated_size(268_098_176, "Q2_K")
    assert size and size.weight_bytes > 1.5 * 268_098_176 * nominal_bits("Q2_K") / 8


def test_without_a_parameter_count_nothing_is_estimated() -> None:
    assert estimated_size(0, "Q8_0") is None and ladder([], 0, SHORT_TABLE_LEVELS) == ()


def test_a_level_nobody_knows_is_not_estimated() -> None:
    assert estimated_size(1000, "Q99") is None


def test_the_ladder_takes_files_as_they_are_and_estimates_only_what_is_missing() -> None:
    sizes = ladder([LevelSize("Q8_0", 7), LevelSize("Q2_K", 9, "computed")], 10**9, SHORT_TABLE_LEVELS)
    assert [(size.level, size.origin) for size in sizes] == [
        ("F16", "estimate"), ("Q4_K_M", "estimate"), ("Q2_K", "computed"), ("Q8_0", "file"),
    ]  # fmt: skip


# --- other computers ---


def test_another_computer_keeps_something_for_itself() -> None:
    assert usable_of(16 * GIB) == 16 * GIB - 3_000_000_000
    assert usable_of(GIB) == 0


def test_the_smallest_computer_is_named_and_the_smallest_with_room_to_spare() -> None:
    wanted = computers_for(plan(weights=12))  # 13 of the 13 GiB that 16 GB leave
    assert (wanted.enough, wanted.comfortable) == (16, 24)
    assert computers_for(plan(weights=1)).enough == COMPUTERS_GB[0]
    assert computers_for(plan(weights=4000)).enough is None


# --- the simple sum ---


def test_the_articles_96_gb_are_the_simple_sum_for_256k() -> None:
    attention = read_attention(GEMMA.blueprint.metadata)
    assert attention and naive_kv_bytes(attention, 262_144, "f16") == 96 * GIB
    assert (attention.layers, attention.windowed_layers, attention.window) == (48, 40, 1024)


def test_an_8_bit_cache_gives_the_articles_6_and_50_gb() -> None:
    attention = read_attention(GEMMA.blueprint.metadata)
    assert attention
    sizes = [naive_kv_bytes(attention, context, "q8_0") / GIB for context in (32_768, 262_144)]
    assert sizes == pytest.approx([6.375, 51.0])


def test_the_sliding_window_makes_a_20_fold_difference(planner: Planner) -> None:
    attention = read_attention(GEMMA.blueprint.metadata)
    planned = planner.plan(GEMMA.blueprint, ContextParameters(262_144, slots=1))
    assert attention and 20 < naive_kv_bytes(attention, 262_144, "f16") / planned.kv_cache < 23
    assert planned.kv_cache / GIB == pytest.approx(4.39, abs=0.01)


@pytest.mark.parametrize("kv_type", ["f16", "q8_0", "q4_0"])
@pytest.mark.parametrize("model", ["llama3-8b", "qwen3-4b", "phi3-mini-4k"])
def test_where_all_layers_are_alike_the_sum_is_what_llama_cpp_plans(planner: Planner, model: str, kv_type: str) -> None:
    blueprint = next(one for one in load_catalog() if one.id == model).blueprint
    attention = read_attention(blueprint.metadata)
    planned = planner.plan(blueprint, ContextParameters(4096, kv_type, slots=1))  # type: ignore[arg-type]
    assert attention and naive_kv_bytes(attention, 4096, kv_type) == pytest.approx(planned.kv_cache, rel=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"block_count": 10**12, "attention.head_count": 8, "embedding_length": 512},
        {"block_count": 4, "attention.head_count": 0, "embedding_length": 512},
        {"block_count": 4, "attention.head_count": (), "embedding_length": 512},
        {"block_count": "4", "attention.head_count": 8},
        {"block_count": 4, "attention.head_count": 8, "attention.head_count_kv": (-1, -1, -1, -1)},
    ],
)
def test_metadata_that_do_not_tell_give_no_sum(damaged: dict[str, object]) -> None:
    assert read_attention(damaged) is None


# --- subjects ---


def test_a_file_and_the_catalogue_are_subjects_alike(starter: Path, tmp_path: Path) -> None:
    (here, *_) = subjects_on_disk(Library(load_settings(data_dir=tmp_path)))
    header = read_header(FileSource(starter))
    assert here.on_disk and here.sizes[0].weight_bytes == header.weight_bytes
    assert hyperparameters_of(header)["block_count"] == 30
    assert read_attention(here.hyperparameters)
    assert len(catalogue_subjects()) == len(load_catalog())


def test_a_catalogue_model_that_is_on_disk_is_listed_once() -> None:
    keys = [subject.key for subject in catalogue_subjects([str(GEMMA.repo).upper()])]
    assert "catalogue/gemma4-12b" not in keys and len(keys) == len(load_catalog()) - 1


def test_every_subject_of_the_catalogue_has_a_plain_key() -> None:
    assert all(re.fullmatch(r"catalogue/[\w.-]+", subject.key) for subject in catalogue_subjects())
