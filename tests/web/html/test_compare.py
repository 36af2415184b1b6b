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
from playground.app.compare.dial import DialStop
from playground.app.compare.further_answers import NOT_ASKED, FurtherAnswer, FurtherAnswers
from playground.app.compare.updates import (
    ComparedAnswers,
    CompareOutlook,
    PanePreparing,
    PaneState,
    VoteTallies,
    compare_answers,
    marked_states,
    state_at_rest,
)
from playground.chat.comparison import MeasurementNoise, PaneResult
from playground.chat.conversation import Conversation
from playground.chat.template.message import Message
from playground.engine.protocol import Alternative, Finished, Memory, Token, TokenScore
from playground.engine.timings import Timings
from playground.fit.plan import MemoryPlan
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY
from playground.measure.fidelity import Fidelity, fidelity_of
from playground.measure.votes import Contestant, Pair, Tally
from playground.models.model_file import ModelFile
from playground.web.html.compare.answer_tokens import disagreement_step, visible_token
from playground.web.html.compare.figures import differences_table, outlook_line
from playground.web.html.compare.first_difference import first_difference_section, probability_bar
from playground.web.html.compare.panes import further_section, pane_line, pane_markup
from playground.web.html.compare.votes import ballot_sheet, preference_sentence, tally_table

LEVELS = ("Q8_0", "Q2_0")
MB = 10**6


def token(text: str, number: int, probability: float = 0.9, other: tuple[str, int, float] | None = None) -> Token:
    top = [Alternative(number, text, math.log(probability))]
    if other:
        top.append(Alternative(other[1], other[0], math.log(other[2])))
    return Token(
        request=1, text=text, id=number, count=1, tokens_per_second=None, context_used=1, time_to_first_token=0.1,
        logprob=math.log(probability), top=tuple(top),
    )  # fmt: skip


def result(*tokens: Token, speed: float = 100.0, memory: int = 300 * MB, written: int = 0) -> PaneResult:
    timings = Timings(0.0, 40, 0, 500.0, 0.1, written or 40, speed, 1.0, 2)
    plan = MemoryPlan(ContextParameters(2048), 100 * MB, 0, memory - 100 * MB, 0, 0, 0, 0)
    return PaneResult(
        Conversation(), Finished(1, "end of text", timings), plan, Memory(memory - MB, MB), tokens, GREEDY, "in turn",
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


def test_no_speed_is_marked_on_fewer_than_32_tokens() -> None:
    assert "gp-better" not in differences_table(compared(result(speed=150, written=31), result(speed=50)))
    assert "gp-better" in differences_table(compared(result(speed=150, written=32), result(speed=50)))


def test_speeds_of_answers_written_at_once_are_not_marked() -> None:
    first, second = (replace(result(speed=speed), mode="at once") for speed in (150.0, 50.0))
    table = differences_table(compared(first, second))
    assert "gp-better" not in table and "shared the cores" in table


def test_the_smaller_one_is_marked_with_what_it_saves() -> None:
    table = differences_table(compared(result(memory=300 * MB), result(memory=200 * MB)))
    assert "100 MB less" in table


def test_a_hostile_name_stays_text() -> None:
    table = differences_table(compared(result(), result(), ("<img src=x>", "b")))
    assert "<img" not in table and "&lt;img" in table


# --- heads and lines ---


def test_a_hidden_pane_shows_nothing_that_gives_it_away() -> None:
    state = state_at_rest(Comparison((session("Q8_0", result()), session("Q2_0", result())), blind=True), 0)
    shown = pane_markup(state, 0) + pane_markup(replace(state, is_busy=True), 0)
    assert not re.search(r"Q8|Q2|Q4|tok/s", shown)


def test_a_ballot_has_a_key_for_each_word_and_after_the_vote_a_way_back() -> None:
    asked = Comparison((session("Q8_0", result()), session("Q2_0", result())), blind=True)
    assert re.findall(r"<kbd>(\d)</kbd> ([^<]+)", ballot_sheet(asked)) == [
        ("1", "A better"), ("2", "B better"), ("3", "Tie"), ("4", "Both bad")
    ]  # fmt: skip
    cast = ballot_sheet(replace(asked, voted="first"), "You preferred A.")
    assert text_of(cast) == "You preferred A. N Next blind question U Take the vote back"
    assert ballot_sheet(replace(asked, blind=False)) == ""


def test_after_the_vote_the_pane_says_what_it_was() -> None:
    voted = Comparison((session("Q8_0"), session("Q2_0")), shown_order=(1, 0), blind=True, voted="tie")
    assert text_of(pane_markup(state_at_rest(voted, 0), 0)).startswith("A was Q2_0 · made from Q4_1")


def test_the_same_level_twice_has_its_letters() -> None:
    comparison = Comparison((session("Q8_0"), session("Q8_0")))
    assert "Q8_0 (B)" in pane_markup(state_at_rest(comparison, 1), 1)


def test_a_pane_whose_model_is_ready_has_its_name_before_the_other() -> None:
    alone = Comparison((session("Q8_0"), PaneSession()))
    first, second = (text_of(pane_markup(state_at_rest(alone, position), position)) for position in (0, 1))
    assert first.startswith("A Q8_0") and second.startswith("B Ready")


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


# --- more levels beside A and B ---

FEWER = DialStop("Q2_0", "Q2_0", 62 * MB, 3.4, "", make_seconds=3.2)


def test_another_level_stands_there_with_what_is_known_of_it_and_a_dash_for_the_rest() -> None:
    answer = FurtherAnswer("Q4_0", "Q4_0", "The opposite is **cold**.", 5.3, "Q4_1", 91_700_000, None, 37.1)
    shown = further_section(FurtherAnswers((answer,), FEWER))
    text = text_of(shown)
    assert (
        "Q4_0 · 5.3 bits · made from Q4_1 The opposite is ** cold ** . File 91.7 MB Memory – Speed 37.1 tok/s" in text
    )
    assert "A’s words too –" in text and "One more level has room here." in text
    assert "Ask another level too: Q2_0 made here first, about 3 s" in text
    assert 'aria-label="Put into B: Q4_0"' in shown and re.findall('data-level="([^"]*)"', shown) == ["Q4_0", "Q2_0"]
    known = further_section(FurtherAnswers((replace(answer, agreement=0.43, cut_off_at=128, is_disturbed=True),) * 2))
    for part in ("A’s words too 43%", "Cut off at 128 tokens, speed disturbed", "Every level on the dial"):
        assert part in text_of(known)
    assert "room here" not in known and "Ask another" not in known
    waiting = further_section(FurtherAnswers((answer,), FEWER, is_busy=True))
    assert "aria-disabled" in waiting and "aria-disabled" not in shown  # until B has answered


def test_an_answer_of_another_level_stays_text() -> None:
    answer = FurtherAnswer('Q"><b>', "<i>", "<script>alert(1)</script> ```\n<b>\n```", requantized_from="<u>")
    shown = further_section(FurtherAnswers((answer,)))
    assert not re.search("<script|<i>|<u>|<b>", shown) and "&lt;script&gt;" in shown


def test_no_button_asks_another_level_before_a_question_and_while_blind() -> None:
    assert "gp-further-open" not in further_section(NOT_ASKED)
    for further in (NOT_ASKED, FurtherAnswers(why_none="hidden"), FurtherAnswers(why_none="not one model")):
        assert "<button" not in further_section(further) and "ore levels" in text_of(further_section(further))
    assert "no more levels" in further_section(FurtherAnswers())


# --- the answer, token by token ---


def answered(*tokens: Token) -> PaneResult:
    chat = Conversation().with_question("Why?").with_reply(Message("assistant", "".join(one.text for one in tokens)))
    return replace(result(*tokens), conversation=chat)


def score(text: str, probability: float, *, divergence: float = 0.5, agrees: bool = False) -> TokenScore:
    top = (Alternative(1, text, math.log(probability)),)
    return TokenScore(1, text, math.log(probability), top, math.log(0.9), top, divergence, agrees)


def pane_of(first: PaneResult, second: PaneResult, position: int = 0, fidelity: Fidelity | None = None) -> str:
    comparison = Comparison((session("Q8_0", first), session("Q2_0", second)))
    panes = tuple(replace(one, conversation=one.result.conversation) for one in comparison.panes if one.result)
    states = marked_states(replace(comparison, panes=(panes[0], panes[1])), fidelity)
    return pane_markup(states[position], position, LEVELS)


def facts_of(pane: str) -> list[dict[str, object]]:
    return [json.loads(unescape(text)) for text in re.findall(r'data-top="([^"]*)"', pane)]


def test_the_first_difference_is_marked_in_both_panes_and_has_both_top_fives() -> None:
    first = answered(token("It is", 1), token(" <b>", 2, 0.62, (" no", 3, 0.2)))
    second = answered(token("It is", 1), token(" no", 3, 0.41))
    for position, word in enumerate((" &lt;b&gt;", " no")):
        pane = pane_of(first, second, position)
        assert re.findall(r"gp-token-first[^>]*>([^<]*)<", pane) == [word]
        facts = facts_of(pane)[1]
        assert facts["a"] == [["<b>", 0.62, "62%"], ["no", 0.2, "20%"]] and facts["b"] == [["no", 0.41, "41%"]]
        assert re.findall(r'tabindex="(-?\d)"', pane) == ["-1", "0"]  # Tab goes to the difference


def test_a_space_that_is_the_difference_is_visible() -> None:
    first, second = answered(token("4", 1), token(" .", 2)), answered(token("4", 1), token(".", 3))
    assert ">␣.</span>" in pane_of(first, second)


def test_what_b_finds_unlikely_is_marked_more() -> None:
    words = answered(token("a", 1), token(" b", 2), token(" c", 3))
    fidelity = fidelity_of([score("a", 0.9), score(" b", 0.1), score(" c", 0.01)])
    pane = pane_of(words, words, 0, fidelity)
    assert re.findall(r"gp-token-(\d)", pane) == ["0", "2", "3"]
    assert str(facts_of(pane)[2]["said"]).startswith("“c” A: 90%, B: 1%. B would hardly ever say this")
    assert text_of(re.sub(r"</?span[^>]*>", "", pane)).startswith("A Q8_0 · made from Q4_1 100 tok/s a b c")


def test_code_stands_in_a_fence_of_its_own() -> None:
    words = answered(token("So:\n", 1), token("```py\nx = 1\n", 2), token("```", 3), token("\nDone", 4))
    pane = pane_of(words, words)
    code = re.findall(r"<code>(.*?)</code>", pane, re.DOTALL)
    assert len(code) == 1 and "x = 1" in code[0] and "Done" not in code[0]


def test_markdown_is_drawn_and_every_token_keeps_its_mark() -> None:
    words = answered(token("**", 1), token("a", 2), token("** b", 3))
    pane = pane_of(words, words, 0, fidelity_of([score("**", 0.9), score("a", 0.1), score("** b", 0.9)]))
    assert re.findall(r"gp-token-(\d)", pane) == ["0", "2", "0"]
    assert '><span class="gp-md-bold">a</span></span>' in pane
    assert '><span class="gp-md-sign">**</span> b</span>' in pane


@pytest.mark.parametrize(("probability", "step"), [(1.0, 0), (0.5, 0), (0.3, 1), (0.1, 2), (0.01, 3), (0.0, 3)])
def test_less_probable_tokens_are_marked_more(probability: float, step: int) -> None:
    assert disagreement_step(probability) == step


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
