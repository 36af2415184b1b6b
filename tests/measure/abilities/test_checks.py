"""Instructions are judged as IFEval does, calls as their tools need them, and flips by an exact test."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import pytest

from playground.chat.template.message import MalformedCall
from playground.chat.tools.arguments import CallRefused
from playground.chat.tools.calculator import calculate
from playground.measure.abilities.instruction_checks import CHECKS, follows_loosely, follows_strictly
from playground.measure.abilities.paired import compare_paired, exact_mcnemar
from playground.measure.abilities.suites import document_with, last_number, suite_figures, suite_tasks
from playground.measure.abilities.tool_calls import ReadCall, problem_of, read_call
from playground.measure.abilities.tools import PARAMETERS, run_tool

GOOD_AND_BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["owl", "moss"]}, "An Owl on moss.", "An owl."),
    ("keywords:frequency", {"keyword": "sea", "frequency": 2, "relation": "at least"}, "Sea, sea.", "The sea."),
    ("keywords:frequency", {"keyword": "sea", "frequency": 2, "relation": "less than"}, "The sea.", "Sea, sea."),
    ("keywords:forbidden_words", {"forbidden_words": ["blue"]}, "A bluebell.", "It is blue."),
    ("keywords:letter_frequency", {"letter": "z", "let_frequency": 2, "let_relation": "at least"}, "Zebra zoo", "zoo"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "Yes. No.", "Yes, no."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One.\n***\nTwo.", "One.\n\nTwo."),
    ("length_constraints:number_words", {"num_words": 4, "relation": "less than"}, "Three words", "Four of them here"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "however"},
        "One.\n\nHowever, two.", "However one.\n\nTwo.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] at [place]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP.S. Write!", "Bye. PS write"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n- two", "* one\n* two\n* three"),
    ("detectable_format:constrained_response", {}, "My answer is no.", "No."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*one* and **two**", "*one*"),
    ("detectable_format:multiple_sections", {"section_spliter": "PART", "num_sections": 2}, "PART 1\nPART 2", "PART 1"),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<The wind>>\nIt blows.", "<The wind>"),
    ("combination:two_responses", {}, "One.\n******\nTwo.", "One.\n***\nTwo."),
    ("combination:repeat_prompt", {"prompt_to_repeat": "How many?"}, "How many? Eight.", "Eight."),
    ("startend:end_checker", {"end_phrase": "That is all."}, "Boil it. That is all.", "That is all. Bye."),
    ("startend:quotation", {}, '"A fine soup."', 'A "fine" soup.'),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "SO BAD", "BAD"),
    ("change_case:english_capital", {}, "STAY AWAY", "Stay away"),
    ("change_case:english_lowercase", {}, "come by", "Come by"),
    ("punctuation:no_comma", {}, "No pause.", "A pause, here."),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "wanted", "good", "bad"), GOOD_AND_BAD, ids=[each[0] for each in GOOD_AND_BAD])
def test_a_kept_instruction_passes_and_a_broken_one_fails(
    kind: str, wanted: dict[str, Any], good: str, bad: str
) -> None:
    assert follows_strictly(good, [{"type": kind, **wanted}])
    assert not follows_strictly(bad, [{"type": kind, **wanted}])


@pytest.fixture(scope="module")
def published_checks() -> Iterator[dict[str, Any]]:
    """The checks of the package if-verifiable, which scripts/set_up.py installs without what it needs besides.

    What it would import is large and needs the network; of all that, counting words alone is used here.
    """
    stubs: dict[str, Any] = {name: MagicMock() for name in ("datasets", "emoji", "syllapy")}
    stubs["langdetect"] = SimpleNamespace(detect=lambda text: "en", LangDetectException=ValueError)
    stubs["immutabledict"] = SimpleNamespace(immutabledict=dict)
    words = SimpleNamespace(tokenize=re.compile(r"\w+").findall)
    stubs["nltk"] = SimpleNamespace(tokenize=SimpleNamespace(RegexpTokenizer=lambda pattern: words))
    with patch.dict(sys.modules, stubs):
        yield dict(importlib.import_module("if_verifiable.ifeval.instructions_registry").INSTRUCTION_DICT)


# These two split text with a model of language, which the package would download.
WITHOUT_DOWNLOAD = [
    each
    for each in GOOD_AND_BAD
    if each[0] not in ("length_constraints:number_sentences", "change_case:capital_word_frequency")
]


@pytest.mark.parametrize(
    ("kind", "wanted", "good", "bad"), WITHOUT_DOWNLOAD, ids=[each[0] for each in WITHOUT_DOWNLOAD]
)
def test_the_checks_agree_with_an_independent_implementation(
    kind: str, wanted: dict[str, Any], good: str, bad: str, published_checks: dict[str, Any]
) -> None:
    """On its own answers and on those of every other instruction."""
    checker = published_checks[kind](kind)
    checker.build_description(**wanted)
    variants = [f"Sure:\n{good}", good.replace("*", ""), good.upper()]
    for answer in (*variants, *(answer for each in GOOD_AND_BAD for answer in each[2:])):
        assert bool(checker.check_following(answer)) == CHECKS[kind](answer, wanted), answer


def test_loosely_a_sentence_in_front_is_forgiven() -> None:
    check = [{"type": "change_case:english_lowercase"}]
    assert not follows_strictly("Sure:\ncome by", check) and follows_loosely("Sure:\ncome by", check)
    assert not follows_loosely("", check)


def test_the_suites_are_as_large_as_they_say_and_every_task_can_be_judged() -> None:
    instructions, tools, reasoning = suite_tasks("instructions"), suite_tasks("tools"), suite_tasks("reasoning")
    assert (len(instructions), len(tools), len(reasoning)) == (65, 43, 22)
    assert all(check["type"] in CHECKS for task in instructions for check in task["checks"])
    for task in tools:
        call = ReadCall(task["tool"], task["arguments"]) if task["tool"] else None
        assert problem_of(call, task) == ""
        if call:
            returned = str(run_tool(call.name, call.arguments)).removesuffix(".0")
            assert any(returned.startswith(str(answer)[:4]) for answer in task["answer"])
    assert all("fact" not in task or task["answer"] in document_with(task["fact"], task["place"]) for task in reasoning)


CALL = '{"name": "weekday", "arguments": {"date": "2024-03-01"}}'


@pytest.mark.parametrize(
    "reply",
    [
        f"<tool_call>\n{CALL}\n</tool_call>",
        f"<think>Which day?</think>\n<tool_call>{CALL}",
        f"[TOOL_CALLS][{CALL}]",
        f"```json\n{CALL}\n```",
        CALL.replace("arguments", "parameters"),
        '{"function": {"name": "weekday", "arguments": "{\\"date\\": \\"2024-03-01\\"}"}}',
        "<function=weekday><parameter=date>2024-03-01</parameter></function>",
        '[weekday(date="2024-03-01")]',
        f"I look it up.\n```json\n{CALL}\n```",
        f"{CALL}\n{CALL}",
        f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL[:20]}",
        '<|tool_call_start|>[weekday(date="2024-03-01")]<|tool_call_end|>',
    ],
)
def test_a_call_is_read_in_every_usual_form(reply: str) -> None:
    call = read_call(reply)
    assert isinstance(call, ReadCall) and (call.name, dict(call.arguments)) == ("weekday", {"date": "2024-03-01"})


@pytest.mark.parametrize(
    ("reply", "wrong", "before"),
    [
        ('<tool_call>{"name": "weekday", "arguments": {"date": 2024-03-01}}</tool_call>', "-", "2024"),
        ('{"name": "weekday", "arguments": {"date": 2024-03-01}}', "-", "2024"),
        (f"<tool_call>{CALL.replace('weekday', 'calendar')}</tool_call>", "c", '"name": "'),
    ],
)
def test_a_broken_call_names_its_first_wrong_letter(reply: str, wrong: str, before: str) -> None:
    call = read_call(reply)
    assert isinstance(call, MalformedCall) and call.place is not None
    assert call.text[call.place] == wrong and call.text[: call.place].endswith(before)
    assert f"at letter {call.place + 1}" in problem_of(call, TASK)


@pytest.mark.parametrize("reply", ["It was a Friday.", "", "Here it is:\n```json\n[1, 2]\n```", "sum(1) is one (1)"])
def test_words_without_a_call_are_no_broken_call(reply: str) -> None:
    assert read_call(reply) is None


TASK: Mapping[str, Any] = {"tool": "weekday", "arguments": {"date": "2024-03-01"}, "answer": ["Friday"]}


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (None, "no call"),
        (ReadCall("calendar", {}), "calls calendar instead"),
        (ReadCall("weekday", {}), "date is missing"),
        (ReadCall("weekday", {"date": "2024-03-01", "zone": "CET"}), "no argument 'zone'"),
        (ReadCall("weekday", {"date": 20240301}), "must be a string"),
        (ReadCall("weekday", {"date": "2024-03-02"}), "instead of '2024-03-01'"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(call: ReadCall | None, problem: str) -> None:
    assert problem in problem_of(call, TASK)


def test_a_call_where_none_is_due_is_wrong() -> None:
    task = {"tool": "", "answer": []}
    assert problem_of(None, task) == "" and "none was due" in problem_of(ReadCall("weekday", {}), task)


@pytest.mark.parametrize("expression", ["__import__('os')", "9**9**9", "1" * 300, "x + 1", "1/0", "'a' * 9"])
def test_the_calculator_takes_numbers_alone(expression: str) -> None:
    with pytest.raises(CallRefused):
        run_tool("calculator", {"expression": expression})
    assert calculate("(3 + 4) * 2.5") == 17.5 and set(PARAMETERS) == {
        "calculator", "weekday", "days_between", "town_facts", "convert_length",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "number"),
    [("6 + 6 = 12\nAnswer: 12", 12), ("It is 1,080.", 1080), ("Answer: 44 m of 46", 44), ("None.", None)],
)
def test_the_result_of_a_sum_is_found(text: str, number: float | None) -> None:
    assert last_number(text) == number


def test_flips_are_counted_and_their_chance_is_exact() -> None:
    first = [{"task": number, "passed": number > 3} for number in range(1, 13)]
    second = [{"task": number, "passed": number in (1, 12)} for number in range(1, 13)]
    pair = compare_paired(first, second)
    assert pair.only_first == (4, 5, 6, 7, 8, 9, 10, 11) and pair.only_second == (1,)
    assert pair.p_value == pytest.approx(2 * (1 + 9) / 2**9)
    assert exact_mcnemar(0, 0) == exact_mcnemar(3, 3) == 1.0


def test_a_score_has_its_wilson_interval() -> None:
    figures = suite_figures("tools", [{"passed": True, "call_is_right": True}] * 8 + [{"passed": False}] * 2)
    assert (figures["passed"], figures["items"], figures["wrong_calls"]) == (8, 10, 2)
    assert figures["interval_low"] == pytest.approx(0.4902, abs=1e-4)
    assert figures["interval_high"] == pytest.approx(0.9433, abs=1e-4)
