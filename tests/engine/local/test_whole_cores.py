"""What must always be the same is the same with few threads and many, alone and beside another model that decodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.engine.local.client import LocalEngine
from playground.engine.local.cpu_shares import CpuShares
from playground.engine.protocol import Finished, ReplyRequest, Scored, Token
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import Sampling

STORY = "The ferry leaves at six, when the lamps along the quay are still lit and the gulls are asleep. " * 25
WARM = Sampling(temperature=1.0, seed=3)


def loaded(starter: Path, cores: CpuShares) -> LocalEngine:
    engine = LocalEngine(starter, ContextParameters(1024, slots=2), cores)
    for _ in engine.load_model():
        pass
    return engine


@pytest.fixture(scope="module")
def cores() -> Iterator[CpuShares]:
    shares = CpuShares(2)
    yield shares
    shares.close()


@pytest.fixture(scope="module")
def engine(starter: Path, cores: CpuShares) -> Iterator[Any]:
    engine = loaded(starter, cores)
    yield engine
    engine.close()


def test_a_reproducible_reply_in_a_long_context_is_the_same_beside_another_model(
    engine: LocalEngine, starter: Path, cores: CpuShares
) -> None:
    """With more than 512 tokens before it, one thread and two give other last digits: so it always has all cores."""
    (alone,) = replies(engine)
    other = loaded(starter, cores)
    try:
        assert replies(engine, other) == [alone, alone]
    finally:
        other.close()


def replies(*engines: LocalEngine) -> list[list[tuple[int, float | None]]]:
    """What the engines answer when all are asked at once: tokens and log-probabilities."""
    streams = [
        engine.start_reply(ReplyRequest(STORY, WARM, 12, reproducible=True, alternatives=1)) for engine in engines
    ]
    answers = []
    for stream in streams:
        events = list(stream)
        assert isinstance(events[-1], Finished) and (events[-1].timings.prompt_tokens or 0) > 512
        answers.append([(event.id, event.logprob) for event in events if isinstance(event, Token)])
    return answers


def test_scores_do_not_depend_on_the_number_of_threads(starter: Path, tmp_path: Path) -> None:
    """513 tokens are read last, which in chunks of 64 would leave a single one, the only case that depends on it."""
    path = tmp_path / "file"
    path.touch()
    logprobs = []
    for count in (1, 2):
        shares = CpuShares(count)
        engine = loaded(starter, shares)
        ids = [5 + place * 7 % 4000 for place in range(514)]
        events = list(engine.start_scoring("", ids, path, against_reference=False))
        logprobs.append([score.logprob for event in events if isinstance(event, Scored) for score in event.scores])
        engine.close()
        shares.close()
    assert logprobs[0] == logprobs[1]
