"""The engine's laws, on the real starter model through the real llama.cpp in its own process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.engine.local.client import LocalEngine
from playground.engine.local.cpu_shares import CpuShares
from playground.engine.protocol import Event, Finished, Prefilled, Queued, ReplyRequest, Token
from playground.errors import BadModelFile, ModelStopped, PlaygroundError
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY, Sampling

QUESTIONS = [
    "What is 2+2?",
    "Name three colours.",
    "Write a sentence about the sea.",
    "Why is the sky blue?",
    "What do cats eat?",
    "Tell me a joke.",
    "How do I boil an egg?",
    "What is a computer?",
]


def turn(question: str) -> str:
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def text_of(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Token | Finished))


@pytest.fixture(scope="module")
def cores() -> Iterator[CpuShares]:
    shares = CpuShares(2)
    yield shares
    shares.close()


def loaded(path: Path, context: ContextParameters, cores: CpuShares) -> LocalEngine:
    engine = LocalEngine(path, context, cores)
    fractions = [progress.fraction for progress in engine.load_model()]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    return engine


@pytest.fixture(scope="module")
def engine(starter: Path, cores: CpuShares) -> Iterator[LocalEngine]:
    engine = loaded(starter, ContextParameters(4096, slots=4), cores)
    yield engine
    engine.close()


@pytest.fixture
def fresh_engine(starter: Path, cores: CpuShares) -> Iterator[LocalEngine]:
    """An engine of one's own, to be killed or filled."""
    engine = loaded(starter, ContextParameters(512, slots=2), cores)
    yield engine
    engine.close()


def ask(engine: LocalEngine, prompt: str, **options: Any) -> list[Any]:
    return list(engine.start_reply(ReplyRequest(prompt, GREEDY, **{"max_tokens": 40, **options})))


def test_the_starter_answers_a_question(engine: LocalEngine) -> None:
    events = ask(engine, turn("What is 2+2?"))
    assert "4" in text_of(events)
    assert events[-1].reason == "end of text"


def test_greedy_text_alone_equals_greedy_text_in_a_batch_of_others(engine: LocalEngine) -> None:
    alone = [text_of(ask(engine, turn(question))) for question in QUESTIONS[:4]]
    streams = [engine.start_reply(ReplyRequest(turn(question), GREEDY, max_tokens=40)) for question in QUESTIONS[:4]]
    together = [text_of(list(stream)) for stream in streams]
    assert together == alone


def test_a_second_turn_evaluates_only_new_tokens_with_the_same_answer(
    engine: LocalEngine, starter: Path, cores: CpuShares
) -> None:
    first = turn("Name three colours.")
    answer = text_of(ask(engine, first))
    second = first + answer + "<|im_end|>\n" + turn("Which of them is warm?")
    events = ask(engine, second)
    timings = events[-1].timings
    assert timings.cached_tokens >= engine.count_tokens(first + answer) - 1
    assert timings.prompt_tokens - timings.cached_tokens < 25
    other = loaded(starter, ContextParameters(4096, slots=4), cores)
    try:
        assert text_of(ask(other, second)) == text_of(events)
    finally:
        other.close()


@pytest.mark.parametrize("reproducible", [False, True])
def test_a_reply_that_goes_on_equals_an_unbroken_one(engine: LocalEngine, reproducible: bool) -> None:
    prompt = turn("Write a short story about a fox.")
    whole = ask(engine, prompt, max_tokens=48, reproducible=reproducible, chat="fox")
    begun = ask(engine, prompt, max_tokens=20, reproducible=reproducible, chat="fox")
    written = [event.id for event in begun if isinstance(event, Token)]
    rest = ask(engine, prompt, max_tokens=28, reproducible=reproducible, chat="fox", written=written)
    assert text_of(begun) + text_of(rest) == text_of(whole)
    assert rest[-1].timings.cached_tokens == rest[-1].timings.prompt_tokens - 1  # nothing was read again


def test_a_reproducible_reply_goes_on_the_same_after_others_came(engine: LocalEngine) -> None:
    prompt = turn("Write a short story about a fox.")
    whole = [e for e in ask(engine, prompt, max_tokens=30, reproducible=True) if isinstance(e, Token)]
    ask(engine, turn("What do cats eat?"))
    rest = ask(engine, prompt, max_tokens=15, reproducible=True, written=[token.id for token in whole[:15]])
    assert [e.id for e in rest if isinstance(e, Token)] == [token.id for token in whole[15:]]
    assert rest[-1].timings.cached_tokens == 0


def test_a_reproducible_request_gives_the_same_text_whoever_else_is_there(engine: LocalEngine) -> None:
    prompt = turn("Tell me a story about a fox. " + "It is long. " * 60)
    warm = Sampling(temperature=1.0, seed=7)
    first = text_of(list(engine.start_reply(ReplyRequest(prompt, warm, max_tokens=30, reproducible=True))))
    others = [engine.start_reply(ReplyRequest(turn(question), GREEDY, max_tokens=30)) for question in QUESTIONS[:3]]
    again = text_of(list(engine.start_reply(ReplyRequest(prompt, warm, max_tokens=30, reproducible=True))))
    for stream in others:
        list(stream)
    assert again == first


def test_another_seed_gives_another_text(engine: LocalEngine) -> None:
    texts = {
        text_of(
            list(
                engine.start_reply(
                    ReplyRequest(turn("Tell me a story."), Sampling(temperature=1.5, seed=seed), max_tokens=30)
                )
            )
        )
        for seed in (1, 2, 3)
    }
    assert len(texts) > 1


def test_the_repeat_penalty_changes_what_is_said(engine: LocalEngine) -> None:
    prompt = turn("Write the word sea ten times.")
    plain = text_of(ask(engine, prompt))
    penalized = text_of(
        list(engine.start_reply(ReplyRequest(prompt, Sampling(0.0, repeat_penalty=1.8, seed=0), max_tokens=40)))
    )
    assert plain != penalized


def test_a_reply_cancelled_while_it_speaks_ends_and_leaves_the_engine_ready(engine: LocalEngine) -> None:
    stream = engine.start_reply(ReplyRequest(turn("Tell me a very long story."), GREEDY))
    for event in stream:
        if isinstance(event, Token) and event.count == 5:
            stream.close()
    assert not stream.is_open
    assert "4" in text_of(ask(engine, turn("What is 2+2?")))


def test_a_reply_cancelled_while_it_reads_frees_its_slot_for_the_next(fresh_engine: LocalEngine) -> None:
    long_prompt = turn("word " * 450)
    streams = [fresh_engine.start_reply(ReplyRequest(long_prompt, GREEDY)) for _ in range(2)]
    for stream in streams:
        stream.close()
    assert "4" in text_of(ask(fresh_engine, turn("What is 2+2?")))


def test_a_full_context_ends_with_its_reason_and_loses_nothing(fresh_engine: LocalEngine) -> None:
    prompt = turn("Count to one thousand: " + "1 2 3 4 5 6 7 8 9 " * 20)
    events: list[Any] = list(fresh_engine.start_reply(ReplyRequest(prompt, GREEDY, max_tokens=None)))
    end = events[-1]
    tokens = [event for event in events if isinstance(event, Token)]
    assert end.reason == "context full"
    assert end.timings.prompt_tokens + end.timings.generated_tokens == 512
    assert len(tokens) == end.timings.generated_tokens
    assert tokens[-1].context_used == 512


def test_a_prompt_longer_than_the_context_is_refused_with_figures(fresh_engine: LocalEngine) -> None:
    with pytest.raises(PlaygroundError, match=r"512.*Shorten"):
        ask(fresh_engine, turn("word " * 600))


def test_eight_requests_on_four_slots_all_finish_in_a_fair_order(engine: LocalEngine) -> None:
    streams = [engine.start_reply(ReplyRequest(turn(question), GREEDY, max_tokens=12)) for question in QUESTIONS]
    replies: list[list[Any]] = [list(stream) for stream in streams]
    assert all(isinstance(events[-1], Finished) for events in replies)
    places = [[event.position for event in events if isinstance(event, Queued)] for events in replies]
    assert places[:4] == [[], [], [], []]
    for place, reported in enumerate(places[4:], start=1):
        assert reported[0] <= place
        assert reported == sorted(reported, reverse=True)
    admitted = [events[-1].timings.queued_seconds for events in replies]
    assert max(admitted[:4]) < min(admitted[4:])


def test_reading_a_prompt_is_told_as_it_goes(engine: LocalEngine) -> None:
    events = ask(engine, turn("word " * 1000), max_tokens=1)
    reported = [event.done for event in events if isinstance(event, Prefilled)]
    assert len(reported) > 1
    assert reported == sorted(reported)
    assert reported[-1] == events[-1].timings.prompt_tokens


def test_killing_the_process_in_mid_reply_ends_the_reply_with_an_error_that_says_so(
    fresh_engine: LocalEngine, starter: Path, cores: CpuShares
) -> None:
    stream = fresh_engine.start_reply(ReplyRequest(turn("Tell me a very long story."), GREEDY))
    for event in stream:
        if isinstance(event, Token) and event.count == 3:
            os.kill(fresh_engine.pid, signal.SIGKILL)
            break
    with pytest.raises(ModelStopped, match="ended by the system"):
        list(stream)
    with pytest.raises(ModelStopped):
        fresh_engine.start_reply(ReplyRequest(turn("Hello"), GREEDY))
    successor = loaded(starter, ContextParameters(512), cores)
    try:
        assert "4" in text_of(ask(successor, turn("What is 2+2?")))
    finally:
        successor.close()


def test_a_corrupt_file_ends_its_load_with_llama_cpps_own_words(
    starter: Path, cores: CpuShares, tmp_path: Path
) -> None:
    corrupt = tmp_path / "corrupt.gguf"
    corrupt.write_bytes(starter.read_bytes()[:3_000_000])
    engine = LocalEngine(corrupt, ContextParameters(512), cores)
    with pytest.raises(BadModelFile, match=r"corrupt\.gguf.*tensor"):
        list(engine.load_model())
    engine.close()


def test_a_character_of_many_bytes_arrives_whole(engine: LocalEngine) -> None:
    events = ask(engine, turn("Reply with this emoji only: 🦊🦊🦊"), max_tokens=30)
    assert "�" not in text_of(events)


def test_alternatives_are_sorted_and_hold_the_greedy_choice(engine: LocalEngine) -> None:
    events = ask(engine, turn("What is 2+2?"), alternatives=5, max_tokens=3)
    for token in (event for event in events if isinstance(event, Token)):
        assert len(token.top) == 5
        assert token.top[0].id == token.id
        assert token.top[0].logprob == pytest.approx(token.logprob)
        assert [a.logprob for a in token.top] == sorted((a.logprob for a in token.top), reverse=True)
