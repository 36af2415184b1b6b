"""Checks an answer to an example where a program can: the number, the lines, the JSON, the function asked for.

A check is a row of an example in assets/comparisons.toml, such as `{contains = "10"}` or `{lines = 5}`. It says what
was wanted in a few words, which stand beside ✓ or ✕ on the page. Nothing of an answer is ever run.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import dedent
from typing import Final

_FENCE: Final = re.compile(r"^\s*```[^\n]*\n(.*?)^\s*```", re.DOTALL | re.MULTILINE)
_NUMBERED: Final = re.compile(r"\s*\d+[.):]\s*\S")


@dataclass(frozen=True)
class AnswerCheck:
    """One thing that an answer must have. Exactly one of the other fields is set, besides `times` perhaps.

    label: in a few words, "the answer 10". contains: a word or a number by itself, in any case; several, separated by
    "|", are alternatives; at least `times` times in all. lines: so many lines with text; numbered: each of them with a
    number before it. json: one JSON object with these values. python: a function of this name, as valid Python.
    at_most_words: no longer than this.
    """

    label: str
    contains: str = ""
    times: int = 1
    lines: int = 0
    numbered: int = 0
    json: Mapping[str, str] | None = None
    python: str = ""
    at_most_words: int = 0

    def passes(self, answer: str) -> bool:
        """Whether the answer has it."""
        if self.contains:
            return sum(_count_word(answer, word) for word in self.contains.split("|")) >= self.times
        lines = [line for line in answer.splitlines() if line.strip()]
        if self.lines:
            return len(lines) == self.lines
        if self.numbered:
            return len(lines) == self.numbered and all(_NUMBERED.match(line) for line in lines)
        if self.json is not None:
            return _is_json(answer, self.json)
        if self.python:
            return _defines_function(answer, self.python)
        return len(answer.split()) <= self.at_most_words


@dataclass(frozen=True)
class CheckResult:
    """What was wanted, and whether the answer has it."""

    label: str
    passed: bool


def check_answer(answer: str, checks: Sequence[AnswerCheck]) -> tuple[CheckResult, ...]:
    """Every check of an example on one answer; empty for an example that no program can check."""
    return tuple(CheckResult(check.label, check.passes(answer)) for check in checks)


def _count_word(answer: str, word: str) -> int:
    return len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", answer, re.IGNORECASE))


def _is_json(answer: str, wanted: Mapping[str, str]) -> bool:
    try:
        found = json.loads(_unfenced(answer))
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and all(str(found.get(key)) == value for key, value in wanted.items())


def _defines_function(answer: str, name: str) -> bool:
    try:
        module = ast.parse(dedent(_unfenced(answer)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return any(isinstance(node, ast.Return) for function in functions for node in ast.walk(function))


def _unfenced(answer: str) -> str:
    """What stands in the first code fence; the whole answer if there is none."""
    fenced = _FENCE.search(answer)
    return fenced.group(1) if fenced else answer.strip()
