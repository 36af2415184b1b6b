"""Speeds are told with their error, from prompts of the wanted length, and no repeat is helped by the one before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.engine.local.client import LocalEngine, loaded_engine
from playground.engine.protocol import Finished, ReplyRequest
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY
from playground.measure.speed import SpeedResult, SpeedTest, measure_speed, prompt_with_tokens, speed_steps


@pytest.fixture(scope="module")
def engine(starter: Path) -> Iterator[LocalEngine]:
    """The starter, loaded once for this file."""
    with loaded_engine(starter, ContextParameters(512, slots=2), 2) as engine:
        yield engine


def test_the_speed_is_the_mean_and_its_error_the_sample_deviation() -> None:
    result = SpeedResult(SpeedTest("reply", 128), (10.0, 12.0, 14.0), 128)
    assert (result.tokens_per_second, result.deviation) == (12.0, 2.0)


def test_one_run_has_no_deviation() -> None:
    assert SpeedResult(SpeedTest("reply", 128), (10.0,), 128).deviation is None


@pytest.mark.parametrize(
    ("test", "name"),
    [
        (SpeedTest("prompt", 512), "pp512"),
        (SpeedTest("reply", 128), "tg128"),
        (SpeedTest("reply", 64, concurrent=8), "tg64 x8"),
        (SpeedTest("reply", 64, depth=4096), "tg64 @ d4096"),
    ],
)
def test_tests_are_named_as_in_llama_cpp(test: SpeedTest, name: str) -> None:
    assert test.name == name


def test_a_reply_that_ended_early_is_marked() -> None:
    assert SpeedResult(SpeedTest("reply", 128), (10.0,), 100).is_shortened
    assert not SpeedResult(SpeedTest("reply", 128), (10.0,), 128).is_shortened
    assert not SpeedResult(SpeedTest("prompt", 128), (10.0,), 127).is_shortened


@pytest.mark.parametrize("tokens", [1, 7, 64, 400])
def test_a_prompt_has_the_wanted_number_of_tokens(engine: LocalEngine, tokens: int) -> None:
    assert engine.count_tokens(prompt_with_tokens(engine, tokens, "12 tales. ")) in (tokens - 1, tokens)


def test_results_grow_run_by_run_without_the_one_that_warms_up(engine: LocalEngine) -> None:
    results = list(measure_speed(engine, SpeedTest("prompt", 40), repeat=2))
    assert [len(result.runs) for result in results] == [1, 2]
    assert results[-1].mean_tokens in (39, 40)


def test_no_repeat_finds_its_prompt_in_the_cache(engine: LocalEngine) -> None:
    """The same prompt twice is cached all but its last token; the measured ones must not be."""
    list(measure_speed(engine, SpeedTest("prompt", 40), repeat=1))
    again = prompt_with_tokens(engine, 40, "999 tales. ")
    (finished,) = (event for event in engine.start_reply(ReplyRequest(again, GREEDY, 1)) if isinstance(event, Finished))
    assert finished.timings.cached_tokens is not None and finished.timings.cached_tokens < 4


@pytest.mark.parametrize("test", [SpeedTest("prompt", 40), SpeedTest("reply", 4)], ids=["pp", "tg"])
def test_what_is_measured_is_read_and_written_as_a_chat_is(
    engine: LocalEngine, test: SpeedTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fixed pieces of a prompt are for reproducible requests, and slower."""
    asked: list[bool] = []
    start_reply = engine.start_reply

    def recorded(request: ReplyRequest) -> Any:
        asked.append(request.reproducible)
        return start_reply(request)

    monkeypatch.setattr(engine, "start_reply", recorded)
    list(measure_speed(engine, test, repeat=1))
    assert asked == [False, False]  # the run that warms up, and the one that counts


@pytest.mark.parametrize("test", [SpeedTest("prompt", 40, depth=150), SpeedTest("reply", 4, depth=150)])
def test_at_a_depth_only_what_comes_behind_it_is_measured(engine: LocalEngine, test: SpeedTest) -> None:
    steps = list(speed_steps(engine, test, repeat=2))
    assert steps[0] is None, "a run can be closed before its first result"
    results = [step for step in steps if step]
    assert len(results[-1].runs) == 2 and abs(results[-1].mean_tokens - test.tokens) <= 3


def test_replies_at_once_count_together(engine: LocalEngine) -> None:
    (result,) = measure_speed(engine, SpeedTest("reply", 6, concurrent=2), repeat=1)
    assert result.mean_tokens == 6 and result.tokens_per_second > 0
