"""A repository's files as models and levels, by names and sizes alone."""

from __future__ import annotations

import pytest

from playground.errors import ModelNotFound
from playground.models.hub.names import parse_reference
from playground.models.hub.repository import HubFile, HubLevel, Repository, read_models, recommended_level


def repository(*paths_and_sizes: tuple[str, int]) -> Repository:
    files = [HubFile(path, size, etag=f"{number:040x}") for number, (path, size) in enumerate(paths_and_sizes)]
    models, left_out = read_models("owner/repo", "c" * 40, files)
    return Repository("owner/repo", "c" * 40, models, left_out=left_out)


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


def test_one_name_in_two_folders_at_two_levels_is_two_models_if_the_sizes_say_so() -> None:
    found = repository(("7B/ggml-model-Q4_0.gguf", 4 * 10**9), ("13B/ggml-model-Q8_0.gguf", 14 * 10**9))
    assert [model.base_name for model in found.models] == ["13B/ggml-model", "7B/ggml-model"]
    one = repository(("M-F16.gguf", 16 * 10**9), ("quants/M-Q4_K_M.gguf", 5 * 10**9), ("IQ/M-IQ2_M.gguf", 3 * 10**9))
    assert [model.base_name for model in one.models] == ["M"]


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
    ("paths", "names"),
    [
        (["L_V2_F16.gguf", "L_V2_Q4.gguf", "L_V2_Q5.gguf", "L_V2_Q8.gguf"], ["F16", "Q4", "Q5", "Q8"]),
        (["M-2bit.gguf", "M-4bit.gguf", "M-8-bit.gguf"], ["2bit", "4bit", "8-bit"]),
        (["M.Q4_K_M.gguf", "M.i1-Q4_K_M.gguf"], ["Q4_K_M", "i1-Q4_K_M"]),
        (["M-Q4_K_M.gguf", "M-Q4_K_M-imat.gguf"], ["Q4_K_M", "Q4_K_M-imat"]),
        (["M-Q4_K_M.gguf", "M.Q4_K_M.gguf"], ["M-Q4_K_M", "M.Q4_K_M"]),
        (["M-Q4_0.gguf", "M-Q4_0.GGUF"], ["M-Q4_0.GGUF", "M-Q4_0.gguf"]),
        (["M-f16.q6.gguf", "M-f16.q5.gguf", "M-f16.gguf", "M-q8p.gguf"], ["F16", "f16.q5", "f16.q6", "q8p"]),
        (["M-9B-Q4_K_P.gguf", "M-9B-Q4_K_M.gguf"], ["Q4_K_M", "Q4_K_P"]),
        (["M-Q4_K_M.gguf", "M-Q4_K_M-HQ.gguf", "M-Q6_K-HQ.gguf"], ["Q4_K_M", "Q4_K_M-HQ", "Q6_K"]),
        (["M-Q4_K_M.gguf", "M-Q4_K_M (1).gguf"], ["Q4_K_M", "Q4_K_M (1)"]),
        (["M-smol-IQ2_KS.gguf", "M-IQ2_KS.gguf", "M-IQ4_K.gguf"], ["IQ2_KS", "IQ4_K", "smol-IQ2_KS"]),
        (["S-3.7-A-I-Compact.gguf", "S-3.7-A-I-Balanced.gguf", "S-3.7-A-I-Quality.gguf"],
         ["Balanced", "Compact", "Quality"]),
        (["M-Q4.gguf", "M-Q4-00001-of-00002.gguf", "M-Q4-00002-of-00002.gguf"],
         ["M-Q4-00001-of-00002.gguf", "M-Q4.gguf"]),
    ],
)  # fmt: skip
def test_every_file_is_a_level_of_one_model_and_is_reached_in_three_ways(paths: list[str], names: list[str]) -> None:
    found = repository(*((path, 1000 + 100 * number) for number, path in enumerate(paths)))
    assert len(found.models) == 1 and not found.left_out
    assert {file.path for level in found.levels for file in level.files} == set(paths)
    assert sorted(level.level for level in found.levels) == sorted(names)
    for level in found.levels:
        assert found.resolve_level(level.level) == level
        for file in level.files:
            assert found.resolve_level(path=file.path) == level  # as owner/repo:file.gguf and as an address
        meant = parse_reference(level.reference)
        assert found.resolve_level(meant.level, path=meant.path) == level


def test_shown_files_and_those_left_out_with_a_reason_are_all_files() -> None:
    paths = ["a/M-Q4_0.gguf", "b/M-Q4_0.gguf", "mmproj-F16.gguf", "M-lora-f16.gguf", "imatrix.gguf", "mtp-M.gguf"]
    paths += ["Q8_0/M-Q8_0-00001-of-00003.gguf", "Q8_0/M-Q8_0-00003-of-00003.gguf", "empty.gguf", "Bonsai.gguf"]
    found = repository(*((path, 0 if "empty" in path else 10 + len(path)) for path in paths))
    shown = [file.path for level in found.levels for file in level.files]
    assert sorted([*shown, *(entry.path for entry in found.left_out)]) == sorted(paths)
    assert all(entry.reason and entry.path in str(refusal(found, entry.path)) for entry in found.left_out)
    assert len({level.reference for level in found.levels}) == len(found.levels)


def refusal(found: Repository, path: str) -> ModelNotFound:
    with pytest.raises(ModelNotFound) as refused:
        found.resolve_level(path=path)
    return refused.value


def test_a_file_is_found_by_its_name_without_the_folder_if_that_is_unique() -> None:
    found = repository(("a/M-Q4_0.gguf", 4), ("a/M-Q8_0.gguf", 8), ("b/M-Q4_0.gguf", 5))
    assert found.resolve_level(path="M-Q8_0.gguf").files[0].path == "a/M-Q8_0.gguf"
    assert "a/M-Q4_0.gguf, b/M-Q4_0.gguf" in str(refusal(found, "M-Q4_0.gguf"))


def test_a_level_is_found_without_the_mark_of_its_publisher() -> None:
    found = repository(("M-UD-Q4_K_XL.gguf", 4), ("M-UD-Q2_K.gguf", 2), ("M-Q2_K.gguf", 3))
    assert found.resolve_level("Q4_K_XL").level == "UD-Q4_K_XL"
    assert found.resolve_level("q2_k").level == "Q2_K"


def test_a_level_is_found_as_the_file_name_spells_it() -> None:
    found = repository(("M-Q6_K-HQ.gguf", 6), ("M-Q4_K_M-imat-HQ.gguf", 4))
    assert found.resolve_level("Q6_K-HQ").level == found.resolve_level("Q6_K").level == "Q6_K"
    assert found.resolve_level("q4_k_m-imat-hq").level == "Q4_K_M"


def test_a_repository_names_the_model_whose_files_are_called_by_levels_alone() -> None:
    files = [HubFile(f"Q6_K/Q6_K-0000{i}-of-00002.gguf", 9, f"{i:040x}") for i in (1, 2)]
    models, _ = read_models("owner/Big-9B-GGUF", "c" * 40, files)
    assert [(model.base_name, model.levels[0].level) for model in models] == [("Big-9B", "Q6_K")]


@pytest.mark.parametrize(
    "paths", [["Small-Q.gguf", "Large-Q.gguf"], ["M-1-base.gguf", "M-1-large.gguf"], ["Q-7B.gguf", "Q-9B.gguf"]]
)
def test_files_without_a_level_that_may_be_other_models_stay_apart(paths: list[str]) -> None:
    found = repository(*((path, 1000 + 500 * number) for number, path in enumerate(paths)))
    assert len(found.models) == len(paths)
    same_size = repository(("M-1-chat.gguf", 1000), ("M-1-story.gguf", 1001))
    assert len(same_size.models) == 2


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
