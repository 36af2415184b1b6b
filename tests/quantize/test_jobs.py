"""Levels made on demand from the real starter: what is offered, and one run shared by all who ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.errors import ModelNotFound, PlaygroundError
from playground.gguf.levels import USUAL_LEVELS
from playground.models.library import Library
from playground.quantize.jobs import QuantizationJobs
from playground.quantize.quantize import QuantizationProgress, QuantizedFile
from playground.settings import load_settings

STARTER = "SmolLM2-135M-Instruct"


@pytest.fixture
def library(starter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return Library(load_settings(data_dir=tmp_path / "data"))


@pytest.fixture
def quantization_jobs(library: Library) -> Iterator[QuantizationJobs]:
    quantization_jobs = QuantizationJobs(library, threads=2)
    yield quantization_jobs
    quantization_jobs.close()


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_levels_that_are_here_or_refused_are_not_offered(quantization_jobs: QuantizationJobs) -> None:
    offered = quantization_jobs.makeable_levels(STARTER, (*USUAL_LEVELS, "Q4_1", "Q1_0"))
    assert "Q4_1" not in offered and "Q1_0" not in offered
    assert set(offered) == set(USUAL_LEVELS)
    assert [size.size for size in offered.values()] == sorted((s.size for s in offered.values()), reverse=True)
    assert offered["Q2_0"].note and "Made from the Q4_1 file" in offered["Q2_0"].note


def test_a_made_level_is_as_large_as_offered_listed_at_once_and_offered_no_more(
    quantization_jobs: QuantizationJobs, library: Library
) -> None:
    offered = quantization_jobs.makeable_levels(STARTER)["Q2_0"]
    *progress, made = quantization_jobs.make_level(STARTER.lower(), "q2_0")
    assert isinstance(made, QuantizedFile) and made.size == offered.size == made.path.stat().st_size
    assert all(isinstance(event, QuantizationProgress) for event in progress)
    listed = library.find_file("starter:Q2_0")
    assert (listed.path, listed.base_name, listed.origin) == (made.path, STARTER, "made here")
    assert "Q2_0" not in quantization_jobs.makeable_levels(STARTER)


def test_a_level_that_is_there_already_is_handed_over_without_being_made_again(
    quantization_jobs: QuantizationJobs,
) -> None:
    *_, first = quantization_jobs.make_level(STARTER, "Q2_0")
    assert isinstance(first, QuantizedFile)
    changed = first.path.stat().st_mtime_ns
    assert list(quantization_jobs.make_level(STARTER, "Q2_0")) == [first]
    assert first.path.stat().st_mtime_ns == changed


def test_levels_are_never_made_from_a_level_that_was_made_here(quantization_jobs: QuantizationJobs) -> None:
    *_, made = quantization_jobs.make_level(STARTER, "Q8_0")
    assert isinstance(made, QuantizedFile)
    assert quantization_jobs.source_file(STARTER).level == "Q4_1"  # though the Q8_0 has more bits


def test_two_who_ask_for_one_level_share_its_making_and_one_may_leave(
    quantization_jobs: QuantizationJobs, tmp_path: Path
) -> None:
    mine, yours = quantization_jobs.make_level(STARTER, "Q8_0"), quantization_jobs.make_level(STARTER, "Q8_0")
    assert isinstance(next(mine), QuantizationProgress) and isinstance(next(yours), QuantizationProgress)
    mine.close()
    *_, made = yours
    assert isinstance(made, QuantizedFile) and left_in(tmp_path / "data") == [made.path.name]


def test_when_the_last_one_leaves_the_making_stops_and_nothing_of_it_stays(
    quantization_jobs: QuantizationJobs, tmp_path: Path
) -> None:
    mine, yours = quantization_jobs.make_level(STARTER, "Q8_0"), quantization_jobs.make_level(STARTER, "Q8_0")
    next(yours)
    assert any(event.fraction > 0 for event in mine if isinstance(event, QuantizationProgress))
    mine.close()
    yours.close()
    assert left_in(tmp_path / "data") == []
    *_, made = quantization_jobs.make_level(STARTER, "Q8_0")  # and can be asked for again
    assert isinstance(made, QuantizedFile)


def test_a_closed_maker_ends_its_runs_in_a_sentence_and_leaves_nothing(
    quantization_jobs: QuantizationJobs, tmp_path: Path
) -> None:
    work = quantization_jobs.make_level(STARTER, "Q8_0")
    next(work)
    quantization_jobs.close()
    with pytest.raises(PlaygroundError, match="was stopped"):
        list(work)
    assert left_in(tmp_path / "data") == []


def test_every_asker_of_a_level_that_is_refused_is_told_why(quantization_jobs: QuantizationJobs) -> None:
    for _ in range(2):
        with pytest.raises(PlaygroundError, match="cannot make Q1_0"):
            list(quantization_jobs.make_level(STARTER, "Q1_0"))


def test_a_model_that_is_not_here_can_be_made_into_nothing(quantization_jobs: QuantizationJobs) -> None:
    assert quantization_jobs.makeable_levels("Nobody-7B") == {}
    with pytest.raises(ModelNotFound, match="Nobody-7B"):
        list(quantization_jobs.make_level("Nobody-7B", "Q8_0"))
