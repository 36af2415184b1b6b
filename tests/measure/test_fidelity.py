"""Fidelity on the real starter, its shipped Q4_1 beside a Q8_0 and a Q2_0 made here, with little memory to give."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.chat.conversation import Conversation
from playground.engine.local.cpu_shares import CpuShares
from playground.engine.local.pool import ModelPool
from playground.engine.protocol import Finished, ReplyRequest
from playground.errors import PlaygroundError
from playground.fit.planner import Planner
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY
from playground.measure.fidelity import (
    Fidelity,
    FidelityProgress,
    mean_with_error,
    perplexity,
    proportion,
    score_answer,
)
from playground.quantize.quantize import quantize_file
from playground.steps import Steps

TEXT = (
    "Rivers carry more than water. In a dry summer this one brings down about forty kilograms of sand each second; in "
    "the week after the snow melts it brings fifty times as much. Most of it comes to rest near the sea, where the "
    "current slows and can no longer hold what it has picked up."
)
CONTEXT = ContextParameters(256, slots=1)


@pytest.fixture(scope="module")
def levels(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("levels")
    made = {level: folder / f"SmolLM2-135M-Instruct-{level}.gguf" for level in ("Q8_0", "Q2_0")}
    for level, path in made.items():
        for _ in quantize_file(starter, level, path, threads=2):
            pass
    return {"Q4_1": starter, **made}


@pytest.fixture(scope="module")
def planner() -> Iterator[Planner]:
    with Planner() as planner:
        yield planner


@pytest.fixture(scope="module")
def pool(planner: Planner) -> Iterator[ModelPool]:
    """It has 280 MiB, of which a loaded model takes what must stay: enough for any one of the levels, not for two."""
    cores = CpuShares(2)

    def usable() -> int:
        return (280 << 20) - sum(
            model.plan.must_stay for model in small.loaded_models() if model.plan and model.state == "ready"
        )

    small = ModelPool(cores, planner, usable)
    yield small
    small.close()
    cores.close()


def measured(news: Iterator[FidelityProgress | Fidelity]) -> Fidelity:
    *progress, fidelity = news
    assert all(isinstance(step, FidelityProgress) for step in progress)
    assert isinstance(fidelity, Fidelity)
    return fidelity


def fidelity(pool: ModelPool, one: Path, other: Path, folder: Path) -> Fidelity:
    return measured(score_answer(pool, (one, CONTEXT), (other, CONTEXT), "", TEXT, folder=folder))


# --- the statistics ---


def test_the_error_of_a_mean_comes_from_the_samples_variance() -> None:
    mean = mean_with_error([1.0, 2.0, 3.0, 4.0])
    assert mean.value == 2.5 and mean.error == pytest.approx(math.sqrt(5 / 3 / 4))
    assert mean_with_error([1.0]).error is None


def test_perplexity_is_the_inverse_of_the_geometric_mean_probability() -> None:
    two = perplexity([math.log(0.5), math.log(0.125)])
    assert two.value == pytest.approx(4.0)
    assert two.error == pytest.approx(4.0 * math.log(2))  # the mean's error, ln 4 / 2, carried through exp


def test_agreement_has_the_binomial_error() -> None:
    assert proportion([True] * 3 + [False]).value == 0.75
    assert proportion([True] * 3 + [False]).error == pytest.approx(0.25)
    assert proportion([True] * 5).error == 0.0


# --- the models ---


def test_a_model_against_itself_keeps_everything(pool: ModelPool, starter: Path, tmp_path: Path) -> None:
    same = fidelity(pool, starter, starter, tmp_path)
    assert (same.kl_divergence, same.kl_divergence_error) == (0.0, 0.0)
    assert (same.top_token_agreement, same.top_token_agreement_error) == (1.0, 0.0)
    assert same.perplexity == same.perplexity_reference
    assert "".join(token.text for token in same.tokens) in TEXT
    assert list(tmp_path.iterdir()) == []


def test_fewer_bits_lose_more_and_one_model_is_in_memory_at_a_time(
    pool: ModelPool, levels: dict[str, Path], tmp_path: Path
) -> None:
    most, results = 0, dict[str, Fidelity]()
    for level in ("Q8_0", "Q2_0"):
        one, other = ((levels[each], CONTEXT) for each in ("Q4_1", level))
        for news in score_answer(pool, one, other, "", TEXT, folder=tmp_path):
            most = max(most, len([model for model in pool.loaded_models() if model.state == "ready"]))
            if isinstance(news, Fidelity):
                results[level] = news
    assert results["Q2_0"].kl_divergence > 10 * results["Q8_0"].kl_divergence > 0
    assert results["Q2_0"].perplexity > results["Q8_0"].perplexity
    assert results["Q2_0"].top_token_agreement < results["Q8_0"].top_token_agreement < 1
    assert results["Q8_0"].perplexity_reference == results["Q2_0"].perplexity_reference
    assert most == 1


def test_closing_it_midway_leaves_no_file_and_an_engine_that_answers(
    pool: ModelPool, starter: Path, tmp_path: Path
) -> None:
    news: Any = score_answer(pool, (starter, CONTEXT), (starter, CONTEXT), "", TEXT, folder=tmp_path / "scores")
    for step in news:
        assert isinstance(step, FidelityProgress)
        if step.done:
            assert len(list((tmp_path / "scores").iterdir())) == 1
            break
    news.close()
    assert not (tmp_path / "scores").exists()
    with Steps(pool.lease_model(starter, CONTEXT)).finish() as lease:
        assert isinstance(list(lease.engine.start_reply(ReplyRequest("One, two,", GREEDY, 2)))[-1], Finished)


def test_an_error_leaves_no_file_either(pool: ModelPool, starter: Path, tmp_path: Path) -> None:
    with pytest.raises(PlaygroundError, match="too short"):
        list(score_answer(pool, (starter, CONTEXT), (starter, CONTEXT), "", "", folder=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_answer_is_scored_by_another_level_token_by_token(
    pool: ModelPool, levels: dict[str, Path], tmp_path: Path
) -> None:
    question = Conversation().with_question("What is 2+2?")
    writer, reader = ((levels[level], CONTEXT) for level in ("Q4_1", "Q2_0"))
    comparison = measured(score_answer(pool, writer, reader, question, "The answer is 4.", folder=tmp_path))
    assert "".join(token.text for token in comparison.tokens) == "The answer is 4."
    token = comparison.tokens[-1]
    assert len(token.top) == len(token.reference_top) == 5
    assert token.reference_logprob is not None and token.reference_logprob > token.logprob
    assert comparison.perplexity_reference < comparison.perplexity
