"""Examples that check themselves: what passes, and what only looks as if it did."""

from __future__ import annotations

import pytest

from playground.chat.answer_checks import AnswerCheck, check_answer

TOOL = AnswerCheck("tool", json={"tool": "weather", "city": "Lisbon"})
CODE = AnswerCheck("code", python="is_even")
FUNCTION = "def is_even(number):\n    return number % 2 == 0\n"


@pytest.mark.parametrize(
    ("check", "answer", "passes"),
    [
        (AnswerCheck("10", contains="10|ten"), "She gets 10 coins.", True),
        (AnswerCheck("10", contains="10|ten"), "She gets Ten back.", True),
        (AnswerCheck("10", contains="10|ten"), "100 coins, often", False),
        (AnswerCheck("both", contains="mercury", times=2), "Mercury, mercury, oxygen", True),
        (AnswerCheck("both", contains="mercury", times=2), "Mercury, iron, oxygen", False),
        (AnswerCheck("lines", numbered=2), "1. Fig\n\n2) Pear\n", True),
        (AnswerCheck("lines", numbered=2), "Fruits:\n1. Fig\n2. Pear", False),
        (AnswerCheck("one line", lines=1), "red, green", True),
        (AnswerCheck("short", at_most_words=2), "red, green, blue", False),
        (TOOL, '```json\n{"tool": "weather", "city": "Lisbon"}\n```', True),
        (TOOL, '{"tool": "weather", "city": "Porto"}', False),
        (TOOL, 'Sure! {"tool": "weather", "city": "Lisbon"}', False),
        (TOOL, "[" * 100_000, False),
        (CODE, f"Here it is:\n```python\n{FUNCTION}```\nIt works.", True),
        (CODE, FUNCTION, True),
        (CODE, FUNCTION.replace("return", "print"), False),
        (CODE, "def is_odd(number):\n    return True", False),
        (CODE, "((((" * 1000, False),
    ],
)
def test_a_check_passes_only_what_was_asked_for(check: AnswerCheck, answer: str, passes: bool) -> None:
    (result,) = check_answer(answer, (check,))
    assert (result.label, result.passed) == (check.label, passes)
