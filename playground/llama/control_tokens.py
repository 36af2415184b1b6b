"""Control tokens, such as `<|im_end|>`: what a vocabulary keeps for the structure of a prompt. Where a text spells one.

llama.cpp reads such a spelling as the token wherever it stands. What a person typed must stay text, or a message could
end its own turn and open another. So the spelling is looked for here, and only the template's own counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

Span = Sequence[int]  # [start, stop) in characters of a text
_PREFIX: Final = 3  # characters by which a spelling is looked for; a few prefixes stand for thousands of tokens


@dataclass(frozen=True)
class ControlToken:
    """id: in the vocabulary. takes_left, takes_right: white space beside it belongs to it."""

    id: int
    text: str
    takes_left: bool = False
    takes_right: bool = False


class ControlTokens:
    """The control tokens of one vocabulary."""

    def __init__(self, tokens: Iterable[ControlToken]) -> None:
        self._by_text = {token.text: token for token in tokens}
        self._lengths = sorted({len(text) for text in self._by_text}, reverse=True)
        prefixes = sorted({text[:_PREFIX] for text in self._by_text}, key=len, reverse=True)
        self._prefix = re.compile("|".join(map(re.escape, prefixes))) if prefixes else None

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
