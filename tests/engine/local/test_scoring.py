"""Scoring a text, with a model of ten tokens whose probabilities are written here, and with the real starter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from playground.engine.local.client import LocalEngine, loaded_engine
from playground.engine.local.scoring.reference_file import kl_divergence
from playground.engine.local.scoring.scorer import Scorer, chunks, divide_text
from playground.engine.protocol import (
    UNKNOWN_ID,
    BriefScores,
    Event,
    Failed,
    Finished,
    ReplyRequest,
    Score,
    Scored,
    ScoringEnded,
    SentTop,
    Token,
    TokenScore,
)
from playground.errors import PlaygroundError
from playground.llama.control_tokens import Span
from playground.llama.params import SCORED_ROWS, ContextParameters
from playground.llama.sampling_extras import GREEDY

LETTERS = "abcdefghij"
PROSE = ("The ferry leaves at six, when the lamps are still lit. " * 12).strip()


class LetterContext:
    """Finds the letter after each one likely by `share`, the others alike; remembers what it read."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.reads: list[tuple[int, int]] = []
        self.closed = False

    def clear_kv_cache(self) -> None:
        self.position = 0

    def read_log_probabilities(
        self, tokens: Sequence[int], position: int, first_wanted: int, threads: int
    ) -> npt.NDArray[np.float32]:
        assert position == self.position, "a token was left out or read twice"
        self.position += len(tokens)
        self.reads.append((position, len(tokens)))
        others = (1 - self.share) / (len(LETTERS) - 1)
        rows = np.full((len(tokens) - first_wanted, len(LETTERS)), math.log(others), dtype=np.float32)
        for row, token in enumerate(tokens[first_wanted:]):
            rows[row, (token + 1) % len(LETTERS)] = math.log(self.share)
        return rows

    def close(self) -> None:
        self.closed = True


class LetterModel:
    """Tokens are the letters a to j."""

    def __init__(self, share: float = 0.5, letters: str = LETTERS, beginning: tuple[int, ...] = ()) -> None:
        self.letters, self.beginning = letters, beginning
        self.vocabulary_size = len(letters)
        self.share = share
        self.contexts: list[LetterContext] = []

    def tokenize(self, text: str, literal: Sequence[Span] = (), *, plain: bool = False) -> list[int]:
        return [*self.beginning, *(self.letters.index(letter) for letter in text)]

    def token_to_piece(self, token: int) -> bytes:
        return self.letters[token].encode()

    def scoring_context(self, tokens: int, rows: int) -> LetterContext:
        self.contexts.append(LetterContext(self.share))
        return self.contexts[-1]


def scored(
    model: LetterModel,
    path: Path,
    continuation: str | tuple[int, ...],
    prompt: str = "",
    *,
    against_reference: bool = False,
    window: int | None = None,
    sent_tops: tuple[SentTop, ...] = (),
) -> list[Event]:
    """All that a scorer says to one request."""
    path.touch()
    events: list[Event] = []
    scorer = Scorer(model, events.append)
    scorer.add_request(Score(1, prompt, continuation, str(path), against_reference, window, sent_tops=sent_tops))
    while scorer.is_busy:
        scorer.run_step(threads=1)
    return events


def scores_of(events: Iterable[Event]) -> list[TokenScore]:
    return [score for event in events if isinstance(event, Scored) for score in event.scores]


# --- what is read, and how ---


@pytest.mark.parametrize("length", [1, 2, SCORED_ROWS, SCORED_ROWS + 1, 10 * SCORED_ROWS + 1, 1000])
def test_chunks_cover_the_text_and_none_is_a_single_token_after_others(length: int) -> None:
    pieces = chunks(length, SCORED_ROWS)
    assert pieces[0][0] == 0 and pieces[-1][1] == length
    assert all(one[1] == other[0] for one, other in pairwise(pieces))
    assert all(2 <= stop - start <= SCORED_ROWS or length == 1 for start, stop in pieces)


def test_every_token_but_the_first_is_scored_once_and_its_text_joins_up(tmp_path: Path) -> None:
    text = LETTERS * 30
    scores = scores_of(scored(LetterModel(), tmp_path / "file", text))
    assert "".join(score.text for score in scores) == text[1:]
    assert all(score.logprob == pytest.approx(math.log(0.5)) for score in scores)
    assert all(len(score.top) == 5 and score.top[0].text == score.text for score in scores)


def test_only_the_continuation_of_a_prompt_is_scored(tmp_path: Path) -> None:
    events = scored(LetterModel(), tmp_path / "file", "fgh", prompt="abcde" * 30)
    assert [score.text for score in scores_of(events)] == ["f", "g", "h"]
    assert events[0] == Scored(1, SCORED_ROWS, 152, ())


@pytest.mark.parametrize("beginning", [(), (0,)])
def test_a_long_text_is_read_in_windows_that_overlap_and_each_token_is_scored_once(beginning: tuple[int, ...]) -> None:
    model = LetterModel(beginning=beginning)
    text = LETTERS * 7
    windows = divide_text(model, Score(1, "", text, "", False, window=16))
    said = [token for window in windows for token in window.tokens[window.first_scored :]]
    assert said == [LETTERS.index(letter) for letter in text][0 if beginning else 1 :]
    assert all(len(window.tokens) <= 17 for window in windows)
    assert all(window.first_scored >= 8 for window in windows[1:]), "each has half a window before it"
    assert all(window.tokens[: len(beginning)] == beginning for window in windows)


def test_windows_are_read_from_an_empty_cache(tmp_path: Path) -> None:
    model = LetterModel()
    assert len(scores_of(scored(model, tmp_path / "file", LETTERS * 7, window=16))) == 69
    (context,) = model.contexts
    assert sum(1 for position, _ in context.reads if position == 0) > 1 and context.closed


def test_tokens_that_are_known_are_taken_as_they_are(tmp_path: Path) -> None:
    assert [score.id for score in scores_of(scored(LetterModel(), tmp_path / "file", (3, 1), prompt="a"))] == [3, 1]


@pytest.mark.parametrize(
    ("continuation", "words"), [("", "too short"), ("a", "too short"), ((3, 99), "vocabulary of 10")]
)
def test_what_cannot_be_scored_is_refused_in_words(
    tmp_path: Path, continuation: str | tuple[int, ...], words: str
) -> None:
    (failed,) = scored(LetterModel(), tmp_path / "file", continuation)
    assert isinstance(failed, Failed) and words in failed.problem


# --- against a reference ---


def test_a_model_against_itself_agrees_everywhere_and_diverges_by_nothing(tmp_path: Path) -> None:
    scored(LetterModel(0.7), tmp_path / "file", "abcdabj")
    for score in scores_of(scored(LetterModel(0.7), tmp_path / "file", "abcdabj", against_reference=True)):
        assert (score.kl_divergence, score.agrees, score.reference_logprob) == (0.0, True, score.logprob)
        assert score.reference_top == score.top


def test_the_divergence_is_that_of_the_whole_vocabulary(tmp_path: Path) -> None:
    scored(LetterModel(0.7), tmp_path / "file", "abc")
    expected = 0.7 * math.log(0.7 / 0.4) + 0.3 * math.log((0.3 / 9) / (0.6 / 9))
    for score in scores_of(scored(LetterModel(0.4), tmp_path / "file", "abc", against_reference=True)):
        assert score.kl_divergence == pytest.approx(expected, rel=1e-5)
        assert score.reference_logprob == pytest.approx(math.log(0.7)) and score.logprob == pytest.approx(math.log(0.4))


def test_what_a_server_sends_gives_a_lower_bound_of_the_divergence(tmp_path: Path) -> None:
    top = [(UNKNOWN_ID, "b", math.log(0.7)), (UNKNOWN_ID, "\ufffd", math.log(0.1))]
    tops = ((0, top), (1, [(2, "c", math.log(0.4))]), (2, [(7, "d", math.log(0.7))]), (4, [(-1, "fox", -1.0)]))
    scores = scores_of(scored(LetterModel(0.4), tmp_path / "file", "bcdef", prompt="a", sent_tops=tops))
    first, second, *others = (score.kl_divergence for score in scores)
    assert first == pytest.approx(0.7 * math.log(0.7 / 0.4) + 0.3 * math.log(0.3 / 0.6), rel=1e-5)
    assert second == pytest.approx(0, abs=1e-6)
    assert others == [None, None, None]  # another id, nothing sent, no token of this vocabulary


def test_a_rounding_error_is_no_negative_divergence() -> None:
    reference = np.log(np.full(4, 0.25)).astype(np.float32)
    assert kl_divergence(reference, reference + np.float32(1e-6)) == 0.0


@pytest.mark.parametrize(("letters", "words"), [(LETTERS[:9], "10 and 9 tokens"), (LETTERS[::-1], "not the same")])
def test_other_vocabularies_cannot_be_compared_and_it_says_so(tmp_path: Path, letters: str, words: str) -> None:
    scored(LetterModel(), tmp_path / "file", "abc")
    (failed,) = scored(LetterModel(letters=letters), tmp_path / "file", "abc", against_reference=True)
    assert isinstance(failed, Failed) and words in failed.problem and "levels of one model" in failed.remedy


def test_another_text_than_the_references_is_refused(tmp_path: Path) -> None:
    scored(LetterModel(), tmp_path / "file", "abc")
    (failed,) = scored(LetterModel(), tmp_path / "file", "abd", against_reference=True)
    assert isinstance(failed, Failed)


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100 << 20))
    (failed,) = scored(LetterModel(), tmp_path / "file", "abc")
    assert isinstance(failed, Failed) and "105 MB are free" in failed.problem
    assert (tmp_path / "file").stat().st_size == 0


def test_a_cancelled_scoring_frees_its_context_and_lets_the_next_begin(tmp_path: Path) -> None:
    model = LetterModel()
    events: list[Event] = []
    scorer = Scorer(model, events.append)
    (tmp_path / "file").touch()
    for request in (1, 2, 3):
        scorer.add_request(Score(request, "", LETTERS * 20, str(tmp_path / "file"), False))
    scorer.run_step(1)
    scorer.cancel_request(1)
    scorer.cancel_request(2)
    assert model.contexts[0].closed
    while scorer.is_busy:
        scorer.run_step(1)
    ends = [(event.request, event.cancelled) for event in events if isinstance(event, ScoringEnded)]
    assert ends == [(1, True), (2, True), (3, False)]


def test_a_file_that_was_removed_meanwhile_is_not_made_again(tmp_path: Path) -> None:
    events: list[Event] = []
    scorer = Scorer(LetterModel(), events.append)
    scorer.add_request(Score(1, "", "abc", str(tmp_path / "gone"), False))
    scorer.run_step(1)
    assert isinstance(events[0], Failed) and not (tmp_path / "gone").exists() and not scorer.is_busy


# --- the real model ---


@pytest.fixture(scope="module")
def engine(starter: Path) -> Iterator[Any]:
    with loaded_engine(starter, ContextParameters(256, slots=1), 2) as engine:
        yield engine


def test_the_starter_against_itself_is_exactly_itself(engine: LocalEngine, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    reference = scores_of(engine.start_scoring("", PROSE, path, against_reference=False))
    candidate = scores_of(engine.start_scoring("", PROSE, path, against_reference=True))
    assert [score.logprob for score in candidate] == [score.logprob for score in reference]
    assert all(score.kl_divergence == 0.0 and score.agrees for score in candidate)
    assert "".join(score.text for score in candidate) in PROSE and len(candidate) > 2 * SCORED_ROWS
    assert candidate[-1].logprob > candidate[5].logprob, "what was read twelve times is no surprise"


def test_a_chat_goes_on_beside_a_scoring_which_can_be_stopped(engine: LocalEngine, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    alone = "".join(
        event.text for event in engine.start_reply(ReplyRequest("One, two,", GREEDY, 8)) if isinstance(event, Token)
    )
    with engine.start_scoring("", PROSE, path, against_reference=False) as scoring:
        assert isinstance(next(scoring), Scored)
        events = list(engine.start_reply(ReplyRequest("One, two,", GREEDY, 8)))
        assert isinstance(events[-1], Finished)
        assert "".join(event.text for event in events if isinstance(event, Token)) == alone
    assert (
        "".join(
            event.text for event in engine.start_reply(ReplyRequest("One, two,", GREEDY, 8)) if isinstance(event, Token)
        )
        == alone
    )


def test_an_answer_is_scored_after_its_prompt(engine: LocalEngine, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    prompt = "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"
    tokens = [event for event in engine.start_reply(ReplyRequest(prompt, GREEDY, 12)) if isinstance(event, Token)]
    scores = scores_of(engine.start_scoring(prompt, [token.id for token in tokens], path, against_reference=False))
    assert [score.id for score in scores] == [token.id for token in tokens]
    assert sum(score.top[0].id == score.id for score in scores) >= len(tokens) - 1  # greedy, but read in another chunk


def test_an_empty_text_is_refused_by_the_engine(engine: LocalEngine, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(PlaygroundError, match="too short"):
        list(engine.start_scoring("", "", path, against_reference=False))


# --- brief scores, and how exactly a file keeps the reference ---


@pytest.mark.parametrize("precision", ["exact", "16-bit", "top"])
def test_a_model_against_itself_is_exactly_nothing_away_in_every_precision(tmp_path: Path, precision: Any) -> None:
    text = LETTERS * 20
    for against, share in ((False, 0.5), (True, 0.5)):
        brief = briefly_scored(LetterModel(share), tmp_path / "file", text, precision, against_reference=against)
    assert set(brief.kl_divergences) == {0.0} and all(brief.agreements)
    assert brief.logprobs == brief.reference_logprobs == pytest.approx((math.log(0.5),) * (len(text) - 1))


@pytest.mark.parametrize("precision", ["exact", "16-bit", "top"])
def test_every_precision_gives_the_same_divergence_of_a_small_vocabulary(tmp_path: Path, precision: Any) -> None:
    briefly_scored(LetterModel(0.5), tmp_path / "file", LETTERS * 20, precision)
    brief = briefly_scored(LetterModel(0.3), tmp_path / "file", LETTERS * 20, precision, against_reference=True)
    expected = 0.5 * math.log(0.5 / 0.3) + 0.5 * math.log(0.5 / 0.7)
    assert brief.kl_divergences == pytest.approx((expected,) * 199, rel=1e-3)


def briefly_scored(
    model: LetterModel, path: Path, text: str, precision: Any, *, against_reference: bool = False
) -> BriefScores:
    """All brief scores of a text as one."""
    path.touch()
    events: list[Event] = []
    scorer = Scorer(model, events.append)
    scorer.add_request(Score(1, "", text, str(path), against_reference, brief=True, precision=precision))
    while scorer.is_busy:
        scorer.run_step(threads=1)
    parts = [event.brief for event in events if isinstance(event, Scored) and event.brief]
    names = ("logprobs", "reference_logprobs", "kl_divergences", "agreements")
    return BriefScores(*(tuple(value for part in parts for value in getattr(part, name)) for name in names))
