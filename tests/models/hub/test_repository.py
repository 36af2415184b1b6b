"""A repository's files as models and levels, by names and sizes alone."""

from __future__ import annotations

import pytest

from playground.errors import ModelNotFound
from playground.models.hub.repository import HubFile, HubLevel, Repository, read_models, recommended_level


def repository(*paths_and_sizes: tuple[str, int]) -> Repository:
    files = [HubFile(path, size, etag=f"{number:040x}") for number, (path, size) in enumerate(paths_and_sizes)]
    models, incomplete = read_models("owner/repo", "c" * 40, files)
    return Repository("owner/repo", "c" * 40, models, incomplete=incomplete)


def of_levels(*names: str) -> tuple[HubLevel, ...]:
    return repository(*((f"M-{name}.gguf", 1000 + number) for number, name in enumerate(names))).levels


def test_levels_stand_from_small_to_large_with_a_sentence_each() -> None:
    levels = repository(("M-Q8_0.gguf", 80), ("M-Q2_K.gguf", 20), ("M-Q4_K_M.gguf", 40)).levels
    assert [level.level for level in levels] == ["Q2_K", "Q4_K_M", "Q8_0"]
    assert all(level.summary for level in levels)


def test_shards_are_one_level_with_their_total_size() -> None:
    (level,) = repository(*((f"Q8_0/M-Q8_0-0000{i}-of-00003.gguf", 10 * i) for i in (3, 1, 2))).levels
    assert level.size == 60
    assert [file.path[-19:] for file in level.files] == [f"0000{i}-of-00003.gguf" for i in (1, 2, 3)]


def test_a_level_without_all_its_shards_is_left_out_and_named() -> None:
    found = repository(("M-Q8_0-00001-of-00002.gguf", 10), ("M-Q4_0.gguf", 5))
    assert [level.level for level in found.levels] == ["Q4_0"]
    assert "M Q8_0" in found.note


def test_what_is_no_model_to_chat_with_is_left_out() -> None:
    found = repository(
        ("M-Q4_0.gguf", 5), ("mmproj-M-F16.gguf", 2), ("imatrix.gguf", 1), ("mtp-M.gguf", 1), ("README.md", 1),
        ("M-empty-Q8_0.gguf", 0),
    )  # fmt: skip
    assert [level.files[0].path for level in found.levels] == ["M-Q4_0.gguf"]


def test_several_models_in_one_repository_are_told_apart() -> None:
    found = repository(("Small-Q4_0.gguf", 1), ("Large-Q4_0.gguf", 9), ("Large-Q8_0.gguf", 18))
    assert {model.base_name: len(model.levels) for model in found.models} == {"Small": 1, "Large": 2}


def test_one_name_in_two_folders_is_two_models() -> None:
    found = repository(("7B/ggml-model-Q4_0.gguf", 4), ("13B/ggml-model-Q4_0.gguf", 8), ("13B/ggml-model-Q8_0.gguf", 9))
    assert {model.base_name: len(model.levels) for model in found.models} == {
        "7B/ggml-model": 1,
        "13B/ggml-model": 2,
    }


def test_a_folder_for_each_level_is_still_one_model() -> None:
    found = repository(("Q4_0/M-Q4_0.gguf", 4), ("Q8_0/M-Q8_0.gguf", 8))
    assert [model.base_name for model in found.models] == ["M"]


def test_a_level_is_found_by_name_path_or_habit() -> None:
    found = repository(("M-Q2_K.gguf", 2), ("M-Q4_K_M.gguf", 4), ("M-Q8_0.gguf", 8))
    assert found.resolve_level("q8_0").level == "Q8_0"
    assert found.resolve_level(path="M-Q2_K.gguf").level == "Q2_K"
    assert found.resolve_level().level == "Q4_K_M"


def test_a_level_that_is_not_offered_is_refused_with_those_that_are() -> None:
    with pytest.raises(ModelNotFound, match=r"Q5_0.*Q4_0, Q8_0"):
        repository(("M-Q4_0.gguf", 4), ("M-Q8_0.gguf", 8)).resolve_level("Q5_0")


@pytest.mark.parametrize(
    ("levels", "verdicts", "expected"),
    [
        (["Q2_K", "Q4_K_M", "Q6_K", "Q8_0", "F16"], "fits fits fits fits fits", "Q8_0"),
        (["Q2_K", "Q4_K_M", "Q6_K", "Q8_0", "F16"], "fits fits fits tight wont_fit", "Q6_K"),
        (["Q2_K", "Q4_K_M", "Q8_0"], "fits tight wont_fit", "Q2_K"),
        (["Q2_K", "Q4_K_M", "Q8_0"], "tight tight wont_fit", "Q4_K_M"),
        (["Q2_K", "Q4_K_M", "Q8_0"], "tight wont_fit wont_fit", "Q2_K"),
        (["Q2_K", "Q4_K_M"], "wont_fit wont_fit", None),
        (["F16"], "fits", "F16"),
        (["Q2_K", "Q4_K_M", "Q8_0"], "", "Q4_K_M"),
        (["Q2_K", "Q8_0", "F16"], "", "Q8_0"),
        (["Q2_K", "Q4_0", "F16"], "", "Q4_0"),
        ([], "", None),
    ],
)
def test_the_recommended_level_is_the_best_that_fits(levels: list[str], verdicts: str, expected: str | None) -> None:
    offered = of_levels(*levels)
    judged = dict(zip((level.key for level in offered), verdicts.split(), strict=False))
    recommended = recommended_level(offered, judged)
    assert (recommended.level if recommended else None) == expected
