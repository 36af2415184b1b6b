"""The texts over which fidelity is measured: six of our own, each of another kind, or one file of a person's own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from playground.errors import RequestRefused
from playground.resources import asset

MOST_CHARACTERS: Final = 200_000  # of a person's own text; about 50,000 tokens
_OWN: Final = (
    ("conversation", "texts/conversation.txt"),
    ("code", "texts/code.txt"),
    ("tool calls", "texts/tool_calls.txt"),
    ("science", "texts/science.txt"),
    ("Russian", "texts/russian.txt"),
    ("long document", "evaluation.txt"),
)
SIX_TEXTS: Final = "six texts"  # the name of all of them together


@dataclass(frozen=True)
class MeasuredText:
    """One text and the category that it stands for."""

    category: str
    text: str


def six_texts() -> tuple[MeasuredText, ...]:
    """Conversation, code, tool calls, science, another script than Latin, a long document."""
    return tuple(MeasuredText(name, asset(path).read_text(encoding="utf-8")) for name, path in _OWN)


def own_text(name: str, text: str, most: int | None = MOST_CHARACTERS) -> tuple[MeasuredText, ...]:
    """A person's own text as the only category. Raises RequestRefused for one that is empty or too long.

    most: characters; None for a text of any length.
    """
    if not text.strip():
        raise RequestRefused("The text is empty.", "Choose a file with a few sentences or more.")
    if most is not None and len(text) > most:
        raise RequestRefused(
            f"The text has {len(text):,} characters; up to {most:,} are read.", "Choose a shorter one."
        )
    return (MeasuredText(name or "own text", text),)


def texts_digest(texts: tuple[MeasuredText, ...]) -> str:
    """SHA-256 of all texts in order: figures can be compared only where it is the same."""
    return hashlib.sha256("\0".join(each.text for each in texts).encode()).hexdigest()
