"""What a comparison looks like: marks only where they are deserved, names escaped, nothing hidden that shows."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from playground.app.compare.comparison import Comparison, PaneSession
from playground.app.compare.updates import (
    AgreementResult,
    ComparedAnswers,
    CompareOutlook,
    NoiseResult,
    PanePreparing,
    PaneState,
    VoteTallies,
    compare_answers,
    state_at_rest,
)
from playground.chat.comparison import MeasurementNoise, PaneResult, comparison_table
from playground.chat.conversation import Conversation
from playground.engine.protocol import GREEDY, Alternative, Finished, Memory, Timings, Token, TokenScore
from playground.fit.plan import MemoryPlan
from playground.llama.params import ContextParameters
from playground.measure.fidelity import fidelity_of
from playground.measure.votes import Contestant, Pair, Tally
from playground.models.model_file import ModelFile
from playground.web.html.answer_tokens import (
    agreement_section,
    disagreement_step,
    first_difference_section,
    nats,
    probability_bar,
    visible_token,
)
from playground.web.html.compare import (
    differences_table,
    noise_card,
    outlook_line,
    pane_head,
    pane_line,
    preference_sentence,
    tally_table,
)

LEVELS = ("Q8_0", "Q2_0")
MIB = 1 << 20


def token(text: str, number: int, probability: float = 0.9, other: tuple[str, int, float] | None = None) -> Token:
    top = [Alternative(number, text, math.log(probability))]
    if other:
        top.append(Alternative(other[1], other[0], math.log(other[2])))
    return Token(
        request=1, text=text, id=number, count=1, tokens_per_second=None, context_used=1, time_to_first_token=0.1,
        logprob=math.log(probability), top=tuple(top),
    )  # fmt: skip


def result(*tokens: Token, speed: float = 100.0, memory: int = 300 * MIB) -> PaneResult:
    timings = Timings(0.0, 20, 0, 500.0, 0.1, len(tokens), speed, 1.0, 2)
    plan = MemoryPlan(ContextParameters(2048), 100 * MIB, 0, memory - 100 * MIB, 0, 0, 0, 0)
    return PaneResult(
        Conversation(), Finished(1, "end of text", timings), plan, Memory(memory - MIB, MIB), tokens, GREEDY, "in turn",
        0, 1000,
    )  # fmt: skip


def text_of(markup: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", markup))).strip()


def session(level: str, answer: PaneResult | None = None) -> PaneSession:
    file = ModelFile(Path(f"m-{level}.gguf"), (Path("m"),), "m", level, 1, "made here", None, "Q4_1")
    return PaneSession(file=file, result=answer)


def compared(
    first: PaneResult, second: PaneResult, levels: tuple[str, str] = LEVELS, noise: MeasurementNoise | None = None
) -> ComparedAnswers:
    panes = session(levels[0], first), session(levels[1], second)
    answers = compare_answers(Comparison(panes, noise=noise or MeasurementNoise()))
    assert answers is not None
    return answers


def speeds(first: float, second: float, noise: MeasurementNoise | None = None) -> str:
    return differences_table(compared(result(speed=first), result(speed=second), noise=noise))


# --- the table ---


def test_the_faster_one_is_marked_by_words_too() -> None:
    assert '<td class="gp-better">150 tok/s <span>1.5 times as fast</span></td><td>100 tok/s</td>' in speeds(150, 100)


def test_a_difference_within_the_noise_is_not_marked() -> None:
    assert "gp-better" not in speeds(104, 100)
    assert "gp-better" in speeds(112, 100)
    assert "gp-better" not in speeds(112, 100, MeasurementNoise(generation_speed=0.3, is_measured=True))


def test_speeds_of_answers_written_at_once_are_not_marked() -> None:
    first, second = (replace(result(speed=speed), mode="at once") for speed in (150.0, 50.0))
    table = differences_table(compared(first, second))
    assert "gp-better" not in table and "shared the cores" in table


def test_the_smaller_one_is_marked_with_what_it_saves() -> None:
    table = differences_table(compared(result(memory=300 * MIB), result(memory=200 * MIB)))
    assert "100 MiB less" in table


def test_a_hostile_name_stays_text() -> None:
    table = differences_table(compared(result(), result(), ("<img src=x>", "b")))
    assert "<img" not in table and "&lt;img" in table


def test_the_noise_says_when_two_runs_gave_different_answers() -> None:
    runs = result(token("a", 1)), result(token("b", 2))
    measured = NoiseResult("Q8_0", True, comparison_table(runs), MeasurementNoise(0.38, is_measured=True))
    same = text_of(noise_card(measured))
    assert same.startswith("Q8_0 run twice: identical answers; generation speed 100 tok/s and 100 tok/s;")
    assert "up to 38% in generation speed" in same
    assert "different answers" in text_of(noise_card(replace(measured, is_identical=False)))


# --- heads and lines ---


def test_a_hidden_head_and_line_show_nothing() -> None:
    state = state_at_rest(Comparison((session("Q8_0", result()), session("Q2_0", result())), blind=True), 0)
    writing = replace(state, is_busy=True)
    shown = pane_head(state, 0) + pane_line(state) + pane_line(writing)
    assert not re.search(r"Q8|Q2|Q4|tok/s", shown)


def test_after_the_vote_the_head_says_what_it_was() -> None:
    voted = Comparison((session("Q8_0"), session("Q2_0")), shown_order=(1, 0), blind=True, voted="tie")
    head = text_of(pane_head(state_at_rest(voted, 0), 0))
    assert head == "A was Q2_0 made from Q4_1, so it cannot be better"


def test_the_same_level_twice_has_its_letters() -> None:
    comparison = Comparison((session("Q8_0"), session("Q8_0")))
    assert "Q8_0 (B)" in pane_head(state_at_rest(comparison, 1), 1)


def test_a_pane_whose_model_is_ready_has_its_name_before_the_other() -> None:
    alone = Comparison((session("Q8_0"), PaneSession()))
    first, second = (text_of(pane_head(state_at_rest(alone, position), position)) for position in (0, 1))
    assert first.startswith("A Q8_0") and second == "B"


@pytest.mark.parametrize(
    ("preparing", "shown"),
    [
        (PanePreparing(), "Getting ready"),
        (PanePreparing(after="<Q8_0>"), "Waiting for <Q8_0> to answer first"),
        (PanePreparing(server="attic"), "Asking attic"),
    ],
)
def test_a_pane_that_waits_says_what_for(preparing: PanePreparing, shown: str) -> None:
    line = pane_line(PaneState(name="", activity=preparing))
    assert text_of(line) == shown and "<Q8_0>" not in line


def test_the_outlook_says_that_models_are_swapped_or_made() -> None:
    assert "swapped for each answer" in text_of(outlook_line(CompareOutlook("in turn", "one after the other")))
    made = text_of(outlook_line(CompareOutlook("at once", to_make=("Q8_0", "Q2_0"))))
    assert "share the cores" in made and made.endswith("Q8_0 and Q2_0 will be created first.")


# --- the first difference ---


def test_the_first_difference_shows_both_sentences_and_four_probabilities() -> None:
    common = token(" is", 1)
    first = result(common, token(" Paris", 2, 0.62, (" London", 3, 0.2)))
    second = result(common, token(" London", 3, 0.41))
    shown = text_of(first_difference_section(compared(first, second)))
    assert "Identical for 1 token, then: A is Paris B is London" in shown
    assert "Paris 62% not in its top 5 London 20% 41%" in shown


def test_identical_answers_are_called_so() -> None:
    same = result(token("a", 1), token("b", 2))
    assert "Identical answers (2 tokens)." in first_difference_section(compared(same, same))


@pytest.mark.parametrize(
    ("text", "is_end", "shown"),
    [(" Paris", False, "Paris"), (" ", False, "␣"), ("\n", False, "⏎"), ("", False, "(part of a character)"),
     ("x", True, "(ends here)")],
)  # fmt: skip
def test_a_token_can_be_seen(text: str, is_end: bool, shown: str) -> None:
    assert visible_token(text, is_end=is_end) == shown


def test_a_probability_that_was_not_kept_is_not_drawn_as_nothing() -> None:
    assert "not in its top 5" in probability_bar(None, "a")
    assert "under 1%" in probability_bar(0.001, "b")


# --- the agreement ---


def score(text: str, probability: float, *, divergence: float = 0.5, agrees: bool = False) -> TokenScore:
    top = (Alternative(1, text, math.log(probability)),)
    return TokenScore(1, text, math.log(probability), top, math.log(0.9), top, divergence, agrees)


def test_each_token_can_be_reached_and_has_both_top_fives() -> None:
    fidelity = fidelity_of([score(" <b>", 0.01), score("\n", 0.7, agrees=True)])
    section = agreement_section(AgreementResult(LEVELS, fidelity, is_same_model=True))
    assert [re.findall(r'tabindex="(-?\d)"', section)] == [["0", "-1"]]
    assert "<b>" not in section.split('class="gp-tokens"')[1].replace("<br>", "")
    top = json.loads(unescape(re.findall(r'data-top="([^"]*)"', section)[0]))
    assert top["said"].startswith("“<b>” A: 90%, B: 1%. B would hardly ever say this")
    assert top["a"] == top["b"] == [["<b>", 0.01, "1%"]]
    shown = text_of(section)
    assert "At 50% of the 2 tokens" in shown and "only the quantization differs" in shown


def test_nothing_but_tokens_stands_between_the_tokens() -> None:
    fidelity = fidelity_of([score("a", 0.9), score(" b\n", 0.9), score("c", 0.9)])
    section = agreement_section(AgreementResult(LEVELS, fidelity, is_same_model=True))
    between = re.sub(r"<span[^>]*>[^<]*</span>", "#", section.split('token by token">')[1])
    assert between.startswith("##<br>#</div>")


@pytest.mark.parametrize(("probability", "step"), [(1.0, 0), (0.5, 0), (0.3, 1), (0.1, 2), (0.01, 3), (0.0, 3)])
def test_less_probable_tokens_are_marked_more(probability: float, step: int) -> None:
    assert disagreement_step(probability) == step


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (1e-6, "under 0.0001"), (0.0031, "0.0031"), (12.63, "12.63")])
def test_only_a_divergence_of_0_reads_so(value: float, shown: str) -> None:
    assert nats(value) == shown


# --- votes ---


def test_the_tally_shows_count_and_interval() -> None:
    pair = Pair.in_order(Contestant("m", "Q2_0"), Contestant("m", "Q8_0"))
    tally = Tally(pair, first=3, second=1, ties=2)
    assert preference_sentence(tally) == "Q8_0 preferred in 3 of 4 (75%, between 30% and 95%)"
    assert 'class="gp-current"' in tally_table(VoteTallies((tally,), pair))
    table = text_of(tally_table(VoteTallies((tally,))))
    assert "6 Q8_0: 3 Q2_0: 1 2 0" in table


def test_no_votes_say_how_to_get_some() -> None:
    assert "Switch on “Blind”" in tally_table(VoteTallies(()))


def test_a_damaged_vote_file_is_mentioned_above_the_votes() -> None:
    assert "gp-warning" in tally_table(VoteTallies((), warning="The votes were damaged."))


def test_a_disturbed_speed_is_marked_and_no_speed_is_called_faster() -> None:
    fast, slow = result(speed=600), result(speed=100)
    timings = replace(slow.finished.timings, core_share=0.2)
    slow = replace(slow, finished=replace(slow.finished, timings=timings))
    shown = differences_table(compared(fast, slow))
    assert "100 tok/s (disturbed)" in shown and "600 tok/s<" in shown
    assert "times as fast" not in shown and "gp-better" not in shown
    assert "something else had the processor" in shown
