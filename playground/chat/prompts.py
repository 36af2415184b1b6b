"""The prompts that the page offers: the Chat tab's from assets/prompts.toml, Compare's from assets/comparisons.toml."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from playground.chat.answer_checks import AnswerCheck
from playground.resources import read_toml

ComparisonKind = Literal["instructions", "tools", "arithmetic", "facts", "long context", "code"]


@dataclass(frozen=True)
class ComparisonPrompt:
    """A prompt on which levels differ: the kind of ability it needs, and what a good answer has in it.

    tokens: the longest answer that it needs. checks: what a program can check of an answer.
    """

    title: str
    kind: ComparisonKind
    text: str
    look_for: str
    system: str = ""
    tokens: int = 128
    checks: tuple[AnswerCheck, ...] = ()


def load_example_prompts() -> tuple[str, ...]:
    """The questions that an empty chat offers."""
    return tuple(entry["text"] for entry in _prompts("prompts.toml"))


@cache
def load_comparison_prompts() -> tuple[ComparisonPrompt, ...]:
    """In the order of the file: those that show most on a small model come first."""
    return tuple(
        ComparisonPrompt(**entry | {"checks": tuple(AnswerCheck(**check) for check in entry.get("checks", ()))})
        for entry in _prompts("comparisons.toml")
    )


def find_comparison_prompt(text: str, system: str = "") -> ComparisonPrompt | None:
    """The example with this text and system prompt; None for a question of the visitor's own."""
    asked = (text.strip(), system.strip())
    return next((prompt for prompt in load_comparison_prompts() if (prompt.text, prompt.system) == asked), None)


def _prompts(name: str) -> list[dict[str, Any]]:
    """The tables named `prompt` of a file, without the line breaks at the ends of multi-line texts."""
    return [
        {key: value.strip() if isinstance(value, str) else value for key, value in entry.items()}
        for entry in read_toml(name)["prompt"]
    ]
