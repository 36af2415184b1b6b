"""What one rendering of an untrusted template may spend: steps, characters and, as the last resort, seconds.

Knows nothing of Jinja. One idea: no single operation may be larger than what was asked for beforehand, so the clock is
looked at often, and nothing has to be interrupted from outside.
"""

from __future__ import annotations

import time
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, NoReturn

MOST_INTEGER_BITS: Final = 1024  # no template needs more, and x * x * x … would grow without end
LEAF_CHARACTERS: Final = 64  # what printing an object that is no text, number or container takes at most


class Refusal(Exception):
    """Why a template may not go on, as the end of a sentence that begins "The chat template"."""


@dataclass(frozen=True)
class TemplateLimits:
    """What a template may spend on one prompt; grows with the conversation, so that long chats are not refused.

    A step is a pass through a loop, a call, a piece of output, or an item of a list that is built: published templates
    use some tens for each message. A character is one in a text that is made.
    """

    steps: int = 40_000
    steps_per_message: int = 2_000
    characters: int = 4_000_000
    characters_per_input_character: int = 64
    longest_text: int = 1_000_000  # characters in one piece of text …
    longest_text_per_input_character: int = 4  # … and as much again for each character of the conversation
    call_depth: int = 50
    seconds: float = 5.0
    source_characters: int = 200_000
    source_words: int = 30_000  # names, signs, spaces and pieces of text; published templates have some thousands


class Budget:
    """The allowance of one rendering. Every method raises Refusal when it is used up."""

    def __init__(self, limits: TemplateLimits, message_count: int, input_characters: int) -> None:
        self.limits = limits
        self.steps_left = limits.steps + limits.steps_per_message * message_count
        self.characters_left = limits.characters + limits.characters_per_input_character * input_characters
        self.longest_text = limits.longest_text + limits.longest_text_per_input_character * input_characters
        self.call_depth = 0
        self._deadline = time.monotonic() + limits.seconds

    def step(self, count: int = 1) -> None:
        self.steps_left -= count
        if self.steps_left < 0:
            raise Refusal("does far more work than a prompt needs: it loops or calls itself without end")
        if time.monotonic() > self._deadline:
            raise Refusal(f"was still at work after {self.limits.seconds:g} seconds")

    def text(self, characters: int) -> None:
        """Asked before a text of so many characters is made, or at least before it is kept."""
        self.step()
        self.characters_left -= characters
        if characters > self.longest_text or self.characters_left < 0:
            raise Refusal("makes a text far larger than the conversation")

    def enter_call(self) -> None:
        self.step()
        self.call_depth += 1
        if self.call_depth > self.limits.call_depth:
            raise Refusal(f"calls itself more than {self.limits.call_depth} levels deep")

    def leave_call(self) -> None:
        self.call_depth -= 1

    def counted(self, items: Iterable[Any]) -> Iterator[Any]:
        """The same items, each of them a step."""
        for item in items:
            self.step()
            yield item

    def built(self, value: Any) -> Any:
        """The value, paid for: a container by its items all the way down, a text by its characters.

        Lists that hold one list twice, and so on, would print or compare in exponential time: they are counted as
        often as they are held, so they cost here what they would cost there.
        """
        if isinstance(value, str):
            self.text(len(value))
        elif isinstance(value, Iterator):
            return self.counted(value)
        else:
            self.step(self.size(value).items)
        return value

    def looked_through(self, value: Any) -> None:
        """Pays for comparing a value: every part of it, and each thousand letters of its texts."""
        size = self.size(value)
        self.step(size.items + size.characters // 1000)

    def printed(self, value: Any) -> int:
        """Pays for turning a value into text; returns the characters it takes at most."""
        size = self.size(value)
        self.step(size.items)
        self.text(size.characters)
        return size.characters

    def size(self, value: Any) -> Size:
        """How large a value is when everything it holds is counted; never looks at more than the steps left."""
        items = characters = depth = 0
        waiting: list[tuple[Any, int]] = [(value, 1)]
        while waiting:
            part, level = waiting.pop()
            items += 1
            depth = max(depth, level)
            if items > self.steps_left:
                self.step(items)
            if isinstance(part, str):
                characters += len(part)
            elif isinstance(part, int):
                characters += _digits(part)
            elif isinstance(part, Mapping):
                waiting.extend((entry, level + 1) for pair in part.items() for entry in pair)
            elif isinstance(part, list | tuple | set | frozenset | KeysView | ValuesView | ItemsView):
                waiting.extend((entry, level + 1) for entry in part)
            else:
                characters += LEAF_CHARACTERS
        return Size(items, characters + 4 * items, depth)


BUDGET: Final[ContextVar[Budget]] = ContextVar("what the rendering now under way may still spend")


@dataclass(frozen=True)
class Size:
    """A value with all it holds: parts, characters when printed (with quotes and brackets), levels of nesting."""

    items: int
    characters: int
    depth: int


def _digits(number: int) -> int:
    if number.bit_length() > MOST_INTEGER_BITS:
        refuse_number()
    return number.bit_length() // 3 + 2


def refuse_number() -> NoReturn:
    raise Refusal("calculates with absurdly large numbers")
