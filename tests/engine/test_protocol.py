"""Messages on their way through a pipe: what was sent arrives, and nothing else gets in."""

from __future__ import annotations

import subprocess
import sys

import pytest

from playground.engine.pipe import decode_command, decode_event, encode_command, encode_event
from playground.engine.protocol import (
    Alternative,
    Cancel,
    Command,
    CountTokens,
    Event,
    Failed,
    Finished,
    ForgetChat,
    Generate,
    Load,
    Loaded,
    LoadProgress,
    Memory,
    Prefilled,
    Queued,
    ReplyRequest,
    Score,
    Scored,
    ScoringEnded,
    SetThreads,
    ThreadsSet,
    Token,
    TokenCount,
    TokenScore,
)
from playground.engine.timings import Timings
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import Sampling, SamplingExtras, ThinkingLimit

CERTAIN, IMPOSSIBLE = Alternative(5, "ü", 0.0), Alternative(6, "", float("-inf"))
COMMANDS: list[Command] = [
    Load("/models/caf\udce9.gguf", ContextParameters(512, "q8_0", slots=2)),  # a name that is not UTF-8
    Generate(1, ReplyRequest("one\ntwo", Sampling(seed=3), stop=("a", "b"), chat="c")),
    Generate(
        1, ReplyRequest("one", written=(3, 4), extras=SamplingExtras(thinking=ThinkingLimit(64, "<think>", "</think>")))
    ),
    Score(2, "", (1, 2), "/scores", True, 5),
    Score(2, "p", "a text", "/scores", False),
    CountTokens(3, "🙂"),
    Cancel(1),
    ForgetChat("c"),
    SetThreads(0, all_cores=False),
]
EVENTS: list[Event] = [
    LoadProgress(0.5),
    Loaded("llama 135M", 512, 8192, 10, 20, None, "<s>", "", 0.3, Memory(1, 2)),
    ThreadsSet(2),
    Queued(1, 1, None),
    Prefilled(1, 2, 3, 0),
    Token(1, "one\ntwo\u2028", 5, 1, None, 4, -0.5, (CERTAIN, IMPOSSIBLE), 1),
    Finished(1, "cancelled", Timings(0, 1, 0, None, None, 0, None, 0.1, 2), memory=Memory(1, 2), end=CERTAIN),
    Scored(1, 1, 2, (TokenScore(5, "x", -1.0, (CERTAIN,), -2.0, (IMPOSSIBLE,), 0.0, False),)),
    ScoringEnded(1, False, 0.5, 100),
    TokenCount(1, 7),
    Failed(None, "A sentence.", ""),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_a_command_arrives_as_it_was_sent(command: Command) -> None:
    line = encode_command(command)
    assert line.count(b"\n") == 1
    assert decode_command(line) == command


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_arrives_as_it_was_sent(event: Event) -> None:
    line = encode_event(event)
    assert line.count(b"\n") == 1
    assert decode_event(line) == event


def test_half_a_character_in_an_event_does_not_end_the_model() -> None:
    assert decode_event(encode_event(Failed(1, "caf\udce9.gguf"))) == Failed(1, "caf?.gguf")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"TokenC",
        b"what?",
        b"TokenCount",
        b"TokenCount 7",
        b'TokenCount {"request": 1}',
        b'TokenCount {"request": 1, "tokens": "7"}',
        b'TokenCount {"request": true, "tokens": 7}',
        b'TokenCount {"request": 1, "tokens": 7.5}',
        b"TokenCount " + b"[" * 100_000,
        b'SetThreads {"threads": 1, "all_cores": true}',
        b'Finished {"request": 1, "reason": "no reason", "timings": {}}',
        b'Scored {"request": 1, "done": 1, "total": 1, "scores": [{"id": 1}]}',
    ],
)
def test_what_is_not_an_event_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"not an event|validation error"):
        decode_event(line)


def test_a_models_process_starts_without_pydantic() -> None:
    """It would cost every start 75 ms and every model 7 MiB."""
    program = "import sys, playground.engine.local.worker; assert 'pydantic' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
