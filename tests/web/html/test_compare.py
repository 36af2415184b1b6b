"""What a comparison looks like: marks only where they are earned, hostile names, and nothing hidden that shows."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from playground.app.compare.comparison import Comparison, Side
from playground.chat.comparison import PaneResult, Spread
from playground.chat.conversation import Conversation
from playground.engine.protocol import GREEDY, Alternative, Finished, Memory, Timings, Token, TokenScore
from playground.fit.plan import MemoryPlan
from playground.llama.params import ContextParameters
from playground.measure.fidelity import fidelity_of
from playground.measure.votes import Contestant, Pair, Tally
from playground.models.library import ModelFile
from playground.web.html.agreement import agreement_card, nats, step_of
from playground.web.html.compare import (
    beforehand_line,
    control_card,
    differences_table,
    hidden_line,
    pane_head,
    share_sentence,
    tally_table,
)
from playground.web.html.first_difference import bar, parting_card, token_words

TITLES = ("Q8_0", "Q2_0")
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


def duel_of(levels: tuple[str, str], **more: object) -> Comparison:
    files = [
        ModelFile(Path(f"m-{level}.gguf"), (Path("m"),), "m", level, 1, "made here", None, "Q4_1") for level in levels
    ]
    return Comparison((Side(file=files[0]), Side(file=files[1])), **more)  # type: ignore[arg-type]


# --- differences ---


def test_the_faster_one_is_marked_by_a_word_too() -> None:
    table = differences_table(TITLES, result(speed=150), result(speed=100), Spread())
    assert '<td class="gp-better">150 tok/s <span>1.5 times as fast</span></td><td>100 tok/s</td>' in table


def test_a_difference_within_the_spread_is_not_marked() -> None:
    table = differences_table(TITLES, result(speed=104), result(speed=100), Spread())
    assert "gp-better" not in table
    assert "gp-better" in differences_table(TITLES, result(speed=112), result(speed=100), Spread())
    measured = Spread(generation_speed=0.3, is_measured=True)
    assert "gp-better" not in differences_table(TITLES, result(speed=112), result(speed=100), measured)


def test_speeds_made_at_once_are_said_not_to_be_true() -> None:
    shared = [replace(result(speed=speed), mode="at once") for speed in (150.0, 50.0)]
    table = differences_table(TITLES, shared[0], shared[1], Spread())
    assert "shared the cores" in table and "gp-better" not in table


def test_less_memory_is_better() -> None:
    table = text_of(differences_table(TITLES, result(memory=300 * MIB), result(memory=221 * MIB), Spread()))
    assert "Memory, planned 300 MiB 221 MiB 79 MiB less" in table


def test_a_hostile_name_stays_text() -> None:
    table = differences_table(("<img src=x>", "b"), result(), result(), Spread())
    assert "<img" not in table and "&lt;img" in table


def test_the_control_tells_when_the_same_model_did_not_say_the_same() -> None:
    same = text_of(control_card("Q8_0", result(token("a", 1)), result(token("a", 1)), Spread()))
    assert "the same text, token for token" in same
    other = text_of(control_card("Q8_0", result(token("a", 1)), result(token("b", 2)), Spread()))
    assert "not the same text" in other


# --- heads and lines ---


def test_a_hidden_head_and_line_tell_nothing() -> None:
    hidden = duel_of(TITLES, blind=True)
    said = pane_head(hidden, 0) + hidden_line() + hidden_line(is_writing=True)
    assert not re.search(r"Q8|Q2|Q4|tok/s", said)


def test_after_the_vote_the_head_says_what_it_was() -> None:
    voted = duel_of(TITLES, blind=True, voted="tie", order=(1, 0))
    assert "was Q2_0 requantized from Q4_1: cannot be better than it" in text_of(pane_head(voted, 0))


def test_the_same_level_twice_keeps_its_letters() -> None:
    assert "Q8_0 (B)" in pane_head(duel_of(("Q8_0", "Q8_0")), 1)


def test_one_that_is_there_before_the_other_has_its_name() -> None:
    alone = replace(duel_of(("Q8_0", "Q2_0")), sides=(duel_of(("Q8_0", "Q2_0")).at(0), Side()))
    assert text_of(pane_head(alone, 0)).startswith("A Q8_0") and text_of(pane_head(alone, 1)) == "B"


def test_one_that_gives_way_is_said_beforehand() -> None:
    assert "each gives way to the other" in text_of(beforehand_line("in turn", "one after the other"))


# --- where they part ---


def test_the_parting_shows_both_sentences_and_four_probabilities() -> None:
    common = token(" is", 1)
    mine = result(common, token(" Paris", 2, 0.62, (" London", 3, 0.2)))
    theirs = result(common, token(" London", 3, 0.41))
    said = text_of(parting_card(TITLES, mine, theirs))
    assert "A is Paris B is London" in said
    assert "Paris 62% not in its top five London 20% 41%" in said


def test_the_same_answers_part_nowhere() -> None:
    assert "all 2 tokens" in parting_card(TITLES, *[result(token("a", 1), token("b", 2))] * 2)


@pytest.mark.parametrize(
    ("text", "ends", "shown"),
    [(" Paris", False, "Paris"), (" ", False, "␣"), ("\n", False, "⏎"), ("", False, "(part of a character)"),
     ("x", True, "(ends here)")],
)  # fmt: skip
def test_a_token_can_be_seen(text: str, ends: bool, shown: str) -> None:
    assert token_words(text, ends=ends) == shown


def test_a_probability_that_was_not_kept_is_not_drawn_as_nothing() -> None:
    assert "not in its top five" in bar(None, 0)
    assert "under 1%" in bar(0.001, 1)


# --- the deeper view ---


def score(text: str, probability: float, *, divergence: float = 0.5, agrees: bool = False) -> TokenScore:
    top = (Alternative(1, text, math.log(probability)),)
    return TokenScore(1, text, math.log(probability), top, math.log(0.9), top, divergence, agrees)


def test_each_token_can_be_reached_named_and_looked_into() -> None:
    card = agreement_card(TITLES, fidelity_of([score(" <b>", 0.01), score("\n", 0.7, agrees=True)]))
    assert [re.findall(r'tabindex="(-?\d)"', card)] == [["0", "-1"]]
    assert "<b>" not in card.split('class="gp-tokens"')[1].replace("<br>", "")
    facts = json.loads(unescape(re.findall(r'data-top="([^"]*)"', card)[0]))
    assert facts["said"].startswith("“<b>” A: 90%, B: 1%. B would hardly ever say this")
    assert facts["a"] == facts["b"] == [["<b>", 0.01, "1%"]]
    assert "50% of the 2 tokens" in text_of(card)


@pytest.mark.parametrize(("probability", "step"), [(1.0, 0), (0.5, 0), (0.3, 1), (0.1, 2), (0.01, 3), (0.0, 3)])
def test_less_probable_tokens_are_marked_more(probability: float, step: int) -> None:
    assert step_of(probability) == step


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (1e-6, "under 0.0001"), (0.0031, "0.0031"), (12.63, "12.63")])
def test_a_divergence_that_is_not_0_never_reads_so(value: float, shown: str) -> None:
    assert nats(value) == shown


# --- votes ---


def test_the_tally_tells_count_and_interval() -> None:
    pair = Pair.in_order(Contestant("m", "Q2_0"), Contestant("m", "Q8_0"))
    tally = Tally(pair, first=3, second=1, ties=2)
    assert share_sentence(tally) == "Q8_0 preferred in 3 of 4 (75%, between 30% and 95%)"
    assert 'class="gp-current"' in tally_table([tally], pair)
    assert "6" in text_of(tally_table([tally], None))


def test_no_votes_say_how_to_get_some() -> None:
    assert "Hide the names" in tally_table([], None)
