"""Which answers stand beside A and B on a wide screen, and which level is asked next. No model runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from playground.app.compare.comparison import CompareRequest, Comparison, PaneSession
from playground.app.compare.dial import Dial, DialStop
from playground.app.compare.further_answers import FurtherAnswers, further_answers, next_stop
from playground.app.compare.kept_answers import KeptAnswers
from playground.app.model_picker.choice import ModelChoice
from playground.chat.comparison import PaneResult
from playground.chat.conversation import Conversation
from playground.chat.prompts import load_comparison_prompts
from playground.chat.template.message import Message
from playground.engine.protocol import Finished, Memory, TokenScore
from playground.engine.timings import Timings
from playground.fit.plan import MemoryPlan
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY
from playground.measure.fidelity import fidelity_of
from playground.models.model_file import ModelFile

ANNA, MODEL = "anna", "m"
MB = 10**6
SIZES = {"Q8_0": 145 * MB, "Q6_K": 110 * MB, "Q4_1": 98 * MB, "Q4_0": 92 * MB, "Q2_0": 62 * MB}
DOWNLOAD = DialStop("o/r:F16", "F16", 270 * MB, 16, "", download="o/r:F16")
DIAL = Dial(MODEL, MODEL, (DOWNLOAD, *(DialStop(name, name, size, None, "") for name, size in SIZES.items())))
QUESTION = "What is 2+2?"
LIMITED = 12  # tokens


def request_of(first: str, second: str, tokens: int = LIMITED, model: str = MODEL) -> CompareRequest:
    return CompareRequest((ModelChoice(MODEL, first, 4096), ModelChoice(model, second, 4096)), max_tokens=tokens)


def pane_of(level: str, question: str = QUESTION, *, is_cut_off: bool = False) -> PaneSession:
    """A pane that has answered with the name of its level."""
    conversation = Conversation().with_question(question).with_reply(Message("assistant", f"I am {level}."))
    timings = Timings(0.0, 40, 0, 500.0, 0.1, LIMITED, 37.0, 1.0, 2)
    plan = MemoryPlan(ContextParameters(4096), SIZES[level], 0, 10 * MB, 0, 0, 0, 0)
    finished = Finished(1, "length limit" if is_cut_off else "end of text", timings)
    result = PaneResult(conversation, finished, plan, Memory(MB, MB), (), GREEDY, "in turn", 0, 1000)
    file = ModelFile(Path(f"{level}.gguf"), (Path(f"{level}.gguf"),), MODEL, level, SIZES[level], "made here")
    return PaneSession(conversation, file, None, ModelChoice(MODEL, level, 4096), 4.5, result)


def comparison_of(first: str, second: str, question: str = QUESTION) -> Comparison:
    panes = pane_of(first, question), pane_of(second, question)
    return Comparison(panes, request=request_of(first, second))


def kept_levels(*levels: str) -> KeptAnswers:
    """These levels have answered, in this order."""
    kept = KeptAnswers()
    for level in levels:
        kept.add_answer(ANNA, request_of("Q8_0", level), pane_of(level))
    return kept


def found(comparison: Comparison, kept: KeptAnswers, owner: str = ANNA, dial: Dial = DIAL) -> FurtherAnswers:
    return further_answers(comparison, kept, lambda model: dial if model == MODEL else Dial(), owner)


def names(further: FurtherAnswers) -> list[str]:
    return [answer.name for answer in further.answers]


def test_the_two_newest_other_levels_stand_there_from_many_bits_to_few() -> None:
    kept = kept_levels("Q8_0", "Q6_K", "Q2_0", "Q4_1", "Q4_0")
    further = found(comparison_of("Q8_0", "Q4_0"), kept)
    assert names(further) == ["Q4_1", "Q2_0"]
    answer = further.answers[1]
    assert (answer.text, answer.file_bytes, answer.speed, answer.bits_per_weight) == ("I am Q2_0.", 62 * MB, 37, 4.5)
    assert answer.memory_bytes == 72 * MB and answer.agreement is None
    assert found(comparison_of("Q8_0", "Q4_0"), kept, owner="another page").answers == ()


def test_an_answer_that_comes_back_into_b_counts_as_new() -> None:
    kept = kept_levels("Q8_0", "Q6_K", "Q4_1", "Q4_0", "Q2_0")
    old = pane_of("Q6_K")
    assert kept.find_answer(ANNA, request_of("Q8_0", "Q6_K"), ModelChoice(MODEL, "Q6_K", 4096), old)
    assert names(found(comparison_of("Q8_0", "Q2_0"), kept)) == ["Q6_K", "Q4_0"]


def test_another_question_system_or_context_has_its_own_answers() -> None:
    kept = kept_levels("Q8_0", "Q4_0")
    kept.add_answer(ANNA, request_of("Q8_0", "Q2_0"), pane_of("Q2_0", "Something else?"))
    assert names(found(comparison_of("Q8_0", "Q4_1"), kept)) == ["Q4_0"]
    assert found(comparison_of("Q8_0", "Q4_1", "What is 3+3?"), kept).answers == ()
    larger = replace(pane_of("Q4_1"), choice=ModelChoice(MODEL, "Q4_1", 8192))
    panes = comparison_of("Q8_0", "Q4_1").panes[0], larger
    assert found(replace(comparison_of("Q8_0", "Q4_1"), panes=panes), kept).answers == ()


def test_a_longer_limit_leaves_the_shorter_answers_in_sight() -> None:
    kept = kept_levels("Q8_0")
    kept.add_answer(ANNA, request_of("Q8_0", "Q4_0"), pane_of("Q4_0", is_cut_off=True))
    continued = replace(comparison_of("Q8_0", "Q2_0"), request=request_of("Q8_0", "Q2_0", 4 * LIMITED))
    (answer,) = found(continued, kept).answers
    assert answer.cut_off_at == LIMITED


def test_while_b_answers_its_last_level_stands_there() -> None:
    kept = kept_levels("Q8_0", "Q4_0")
    waiting = PaneSession(pane_of("Q2_0").question)
    comparison = Comparison((pane_of("Q8_0"), waiting), request=request_of("Q8_0", "Q2_0"))
    assert names(found(comparison, kept)) == ["Q4_0"]


def test_the_agreement_is_that_with_the_answer_of_a() -> None:
    kept, comparison = kept_levels("Q8_0", "Q4_0"), comparison_of("Q8_0", "Q2_0")
    same = TokenScore(1, "I", -0.1, (), -0.1, (), 0.0, True)
    fidelity = fidelity_of([same, replace(same, agrees=False)])
    kept.add_agreement(ANNA, comparison.panes[0], pane_of("Q4_0"), fidelity)
    assert found(comparison, kept).answers[0].agreement == 0.5
    assert found(comparison_of("Q4_1", "Q2_0"), kept).answers[1].agreement is None


def test_an_example_checks_itself_there_too() -> None:
    prompt = next(one for one in load_comparison_prompts() if one.checks and not one.system)
    kept = KeptAnswers()
    kept.add_answer(ANNA, request_of("Q8_0", "Q4_0"), pane_of("Q4_0", prompt.text))
    (answer,) = found(comparison_of("Q8_0", "Q2_0", prompt.text), kept).answers
    assert len(answer.checks) == len(prompt.checks)


@pytest.mark.parametrize(
    ("level", "answered", "asked"),
    [
        ("Q4_1", {"Q8_0", "Q4_1"}, "Q4_0"),
        ("Q4_1", {"Q8_0", "Q4_1", "Q4_0"}, "Q2_0"),
        ("Q2_0", {"Q8_0", "Q2_0"}, "Q4_0"),
        ("Q2_0", {"Q8_0", "Q2_0", "Q4_0", "Q4_1"}, "Q6_K"),
        ("Q2_0", set(SIZES), None),
    ],
)
def test_the_next_smaller_level_is_asked_and_then_a_larger_one(
    level: str, answered: set[str], asked: str | None
) -> None:
    stop = next_stop(DIAL, level, answered)
    assert (stop.value if stop else None) == asked


def test_nothing_shows_before_a_question_while_blind_and_for_two_models() -> None:
    kept, comparison = kept_levels("Q8_0", "Q4_0"), comparison_of("Q8_0", "Q2_0")
    assert found(Comparison(), kept) == FurtherAnswers(why_none="not asked")
    assert found(replace(comparison, blind=True), kept) == FurtherAnswers(is_blind=True, why_none="hidden")
    assert names(found(replace(comparison, blind=True, voted="first"), kept)) == ["Q4_0"]
    other = replace(comparison.panes[1], choice=ModelChoice("n", "Q2_0", 4096))
    two = replace(comparison, panes=(comparison.panes[0], other))
    assert found(two, kept) == FurtherAnswers(why_none="not one model")
