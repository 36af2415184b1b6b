"""Keeps control tokens that people typed apart from those of the template, through the template's own program.

A template is a program that may trim, split or quote what it is given. So only the spelling of a control token is taken
out of a message before the rendering, and put back after it; all the rest of the text passes as it is. The sign that
stands for it meanwhile cannot be guessed. A text without such spellings costs one search. The beginning or end of a
spelling is taken out, too, so that two texts, or a text and the template, cannot put a token together.
"""

from __future__ import annotations

import functools
import re
import secrets
from dataclasses import dataclass
from typing import Final

from playground.llama.control_tokens import ControlToken, ControlTokens, Span

_SIGN_LETTERS: Final = 16  # of the sign; hexadecimal, so that quoting and escaping leave it alone
_REMNANT_LETTERS: Final = 6  # of a sign that was cut or changed
_TO_FULL_WIDTH: Final = 0xFEE0  # from an ASCII character to its full-width twin: "<" and "＜"


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt, and the spans of it in which nothing is a control token: [start, stop) in characters, in order."""

    text: str
    literal: tuple[Span, ...] = ()


class ControlMarks:
    """Takes the control tokens out of the texts of one conversation, and puts them back into its prompt."""

    def __init__(self, controls: ControlTokens) -> None:
        self._controls = controls
        self._sign = secrets.token_hex(_SIGN_LETTERS // 2)
        self._taken: list[str] = []

    @property
    def is_used(self) -> bool:
        return bool(self._taken)

    def take_out(self, text: str) -> str:
        """The text with a sign in place of each control token, or part of one, that it spells out."""
        pieces, done = [], 0
        for start, stop in self._controls.find_parts(text):
            pieces += [text[done:start], f"{self._sign}x{len(self._taken)}x"]
            self._taken.append(text[start:stop])
            done = stop
        return "".join([*pieces, text[done:]])

    def put_back(self, prompt: str) -> RenderedPrompt | None:
        """The prompt with the spellings in their places again; None if the template has changed or dropped a sign."""
        pieces: list[str] = []
        literal: list[Span] = []
        seen: set[int] = set()
        length = done = 0
        for found in re.finditer(f"{self._sign}x([0-9]+)x", prompt):
            before, number = prompt[done : found.start()], int(found[1])
            if number >= len(self._taken) or self._has_remnant(before):
                return None
            seen.add(number)
            length += len(before)
            literal.append((length, length + len(self._taken[number])))
            length += len(self._taken[number])
            pieces += [before, self._taken[number]]
            done = found.end()
        rest = prompt[done:]
        is_changed = seen != set(range(len(self._taken))) or self._has_remnant(rest)
        return None if is_changed else RenderedPrompt("".join([*pieces, rest]), tuple(literal))

    def _has_remnant(self, text: str) -> bool:
        lowered = text.casefold()
        starts = range(_SIGN_LETTERS - _REMNANT_LETTERS + 1)
        return any(self._sign[start : start + _REMNANT_LETTERS] in lowered for start in starts)


def spelled_otherwise(text: str, controls: ControlTokens) -> str:
    """The text with a full-width first letter in each control token, or part of one: "＜|im_end|>".

    It reads the same, and neither is nor becomes one.
    """
    letters = list(text)
    for start, stop in controls.find_parts(text):
        for place in [start + inner for inner, _ in controls.find(text[start:stop])] or [start]:
            first = text[place]
            letters[place] = chr(ord(first) + _TO_FULL_WIDTH) if "!" <= first <= "~" else f"{first}\u2060"
    return "".join(letters)


@functools.lru_cache(maxsize=32)
def controls_spelled(texts: tuple[str, ...]) -> ControlTokens:
    """The control tokens of a model that runs in another process, by their spellings alone."""
    return ControlTokens(ControlToken(-1, text) for text in texts)
