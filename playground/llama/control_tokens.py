"""Control tokens, such as `<|im_end|>`: what a vocabulary keeps for the structure of a prompt. Where a text spells one.

llama.cpp reads such a spelling as the token wherever it stands. What a person typed must stay text, or a message could
end its own turn and open another. So the spelling is looked for here, and only the template's own counts.

Not only what a vocabulary marks as control is such a token: many mark `<think>`, `<tool_call>` or `<｜User｜>` as
user-defined, as they do runs of spaces and HTML tags, which are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

Span = Sequence[int]  # [start, stop) in characters of a text
_PREFIX: Final = 3  # characters by which a spelling is looked for; a few prefixes stand for thousands of tokens
_HTML: Final = re.compile(
    r"</?(?:a|b|i|u|s|p|q|br|hr|em|strong|small|sub|sup|code|pre|kbd|del|ins|h[1-6]|div|span|img|ul|ol|li|dl|d[td]"
    r"|blockquote|table|caption|thead|tbody|tfoot|t[rhd])>"
)


@dataclass(frozen=True)
class ControlToken:
    """id: in the vocabulary. takes_left, takes_right: white space beside it belongs to it.

    is_always_read: llama.cpp reads the spelling as the token even in what it is to take as text.
    """

    id: int
    text: str
    takes_left: bool = False
    takes_right: bool = False
    is_always_read: bool = False


def is_structure(text: str) -> bool:
    """Whether a user-defined token of that spelling stands for structure: `<think>`, `[e~[`; not `<table>`."""
    is_enclosed = text[:1] in tuple("<[|｜◁]") and text[-1:] in tuple(">]|｜▷[")
    return is_enclosed and any(map(str.isalnum, text)) and _HTML.fullmatch(text) is None


class ControlTokens:
    """The control tokens of one vocabulary."""

    def __init__(self, tokens: Iterable[ControlToken]) -> None:
        self._by_text = {token.text: token for token in tokens}
        self._lengths = sorted({len(text) for text in self._by_text}, reverse=True)
        self._prefix = _any_of({text[:_PREFIX] for text in self._by_text})
        beginnings = {text[: min(_PREFIX, len(text) - 1)] for text in self._by_text}
        ends = {text[-min(_PREFIX, len(text) - 1) :] for text in self._by_text if len(text) > 1}
        self._part = _any_of({part for part in beginnings | ends if part})
        short = range(1, _PREFIX)  # characters of parts that are looked for at the two ends of a text only
        self._short_beginnings = {text[:size] for text in self._by_text for size in short if len(text) > size}
        self._short_ends = {text[-size:] for text in self._by_text for size in short if len(text) > size}

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self._by_text)

    def find(self, text: str) -> Iterator[tuple[int, ControlToken]]:
        """Where each one is spelled out, from left to right, the longest at each place; they do not overlap."""
        start = 0
        while self._prefix and (found := self._prefix.search(text, start)):
            start = found.start()
            token = self._longest_at(text, start)
            if token is not None:
                yield start, token
            start += len(token.text) if token else 1

    def find_parts(self, text: str) -> list[Span]:
        """Where a text spells a control token or the beginning or end of one, which another text could complete.

        [start, stop) in characters, in order; those that touch are one.
        """
        spans = [(start, start + len(token.text)) for start, token in self.find(text)]
        start = 0
        while self._part and (found := self._part.search(text, start)):
            spans.append(found.span())
            start = found.start() + 1
        first, last = len(text) - len(text.lstrip()), len(text.rstrip())
        for size in range(1, _PREFIX):
            if text[max(first, last - size) : last] in self._short_beginnings:
                spans.append((max(first, last - size), last))
            if text[first : min(first + size, last)] in self._short_ends:
                spans.append((first, min(first + size, last)))
        joined: list[tuple[int, int]] = []
        for first, last in sorted(spans):
            if joined and first <= joined[-1][1]:
                joined[-1] = joined[-1][0], max(joined[-1][1], last)
            else:
                joined.append((first, last))
        return list(joined)

    def split_text(self, text: str, literal: Sequence[Span]) -> list[str | int]:
        """Texts to be tokenized as text, and the ids of control tokens between them, in the order of the text.

        literal: spans in which nothing is a control token, in order.
        """
        pieces: list[str | int] = []
        done = 0
        for start, token in self._find_outside(text, literal):
            before = text[done:start]
            pieces += [before.rstrip() if token.takes_left else before, token.id]
            done = start + len(token.text)
            if token.takes_right:
                done += len(text[done:]) - len(text[done:].lstrip())
        pieces.append(text[done:])
        return [piece for piece in pieces if piece != ""]

    def _find_outside(self, text: str, literal: Sequence[Span]) -> Iterator[tuple[int, ControlToken]]:
        """The control tokens of the text between the spans."""
        outside = zip((0, *(stop for _, stop in literal)), (*(start for start, _ in literal), len(text)), strict=True)
        for start, stop in outside:
            yield from ((start + place, token) for place, token in self.find(text[start:stop]))

    def _longest_at(self, text: str, start: int) -> ControlToken | None:
        found = (self._by_text.get(text[start : start + length]) for length in self._lengths)
        return next(filter(None, found), None)


def _any_of(texts: set[str]) -> re.Pattern[str] | None:
    """Finds any of the texts, the longest at each place; None for no texts."""
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if texts else None
