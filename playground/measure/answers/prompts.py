"""The prompts that every level answers: those of the Compare tab, or a person's own text file with one in each line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from playground.chat.answer_checks import AnswerCheck
from playground.chat.prompts import load_comparison_prompts
from playground.errors import RequestRefused

OUR_PROMPTS: Final = "our prompts"  # the name of the set
MOST_PROMPTS: Final = 100
LONGEST_PROMPT: Final = 4_000  # characters
USUAL_TOKENS: Final = 200  # of an answer to an own prompt


@dataclass(frozen=True)
class AnsweredPrompt:
    """One prompt of a set. tokens: the longest answer. checks: what a program can check of an answer."""

    text: str
    system: str = ""
    tokens: int = USUAL_TOKENS
    checks: tuple[AnswerCheck, ...] = ()


def our_prompts() -> tuple[AnsweredPrompt, ...]:
    """The examples of the Compare tab, on which levels differ."""
    return tuple(AnsweredPrompt(each.text, each.system, each.tokens, each.checks) for each in load_comparison_prompts())


def prompt_lines(text: str) -> tuple[str, ...]:
    """One prompt for each line that is not empty. Raises RequestRefused for none, too many, or a very long one."""
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not lines:
        raise RequestRefused("The file has no prompt.", "Write one prompt in each line.")
    if len(lines) > MOST_PROMPTS:
        raise RequestRefused(f"The file has {len(lines):,} prompts; up to {MOST_PROMPTS} are asked.", "Choose fewer.")
    if longest := max((line for line in lines if len(line) > LONGEST_PROMPT), key=len, default=""):
        raise RequestRefused(
            f"A prompt has {len(longest):,} characters; up to {LONGEST_PROMPT:,} are asked.", "Shorten it."
        )
    return lines


def own_prompts(lines: Sequence[str]) -> tuple[AnsweredPrompt, ...]:
    return tuple(map(AnsweredPrompt, lines))


def prompts_digest(prompts: Sequence[AnsweredPrompt]) -> str:
    """SHA-256 of everything that is asked: answers stand in one grid only where it is the same."""
    asked = [[each.system, each.text, each.tokens] for each in prompts]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()
