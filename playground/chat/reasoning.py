"""Splits a reply, while it streams, into what the model thinks and what it answers.

Knows the marks by which model families set their thoughts apart, and nothing of tokens, templates or pages. The one
idea: a mark may arrive in pieces, so text that could still become one is held back, and any chunking of a reply gives
the same split. Marks are found only if the engine writes control tokens out as text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

# Marks that open a reply and close the thoughts: most families; Mistral; Seed; Kimi; and the spelled-out kinds.
PAIRS: Final = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
)
# Channels: gpt-oss writes `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…`,
# Gemma 4 `<|channel>thought\n…<channel|>…`. These are control tokens: wherever they stand, they are no one's text.
_CHANNEL, _MESSAGE, _START = "<|channel|>", "<|message|>", "<|start|>"
_ENDS = ("<|end|>", "<|return|>", "<|call|>")
_GEMMA_OPEN, _GEMMA_CLOSE = "<|channel>", "<channel|>"

_CONTROLS: Final = (_CHANNEL, _MESSAGE, _START, *_ENDS, _GEMMA_OPEN)
_OPENERS: Final = tuple(opener for opener, _ in PAIRS)
_CLOSER_OF: Final = dict(PAIRS)

Place = Literal["answer", "thinking", "header", "gemma header"]


@dataclass(frozen=True)
class SplitReply:
    """What a piece of reply adds to the thoughts and to the answer."""

    thinking: str = ""
    answer: str = ""

    def __add__(self, other: SplitReply) -> SplitReply:
        return SplitReply(self.thinking + other.thinking, self.answer + other.answer)


def thinking_opener(prompt: str) -> str | None:
    """The mark with which a prompt ends, such as `<think>` in `…assistant\\n<think>\\n`: the reply begins inside it."""
    end = prompt.rstrip()
    marks = (*_OPENERS, _GEMMA_OPEN + "thought", _CHANNEL + "analysis" + _MESSAGE)
    return next((mark for mark in marks if end.endswith(mark)), None)


class ReplyParser:
    """Feed it the pieces of one reply in order, then `finish`; each call gives what has become certain.

    starts_thinking: the prompt ended inside the thoughts; `opener` is the mark that opened them (`<think>` if unknown).
    White space around thoughts belongs to the marks and is dropped. Thoughts that never close are thoughts.
    """

    def __init__(self, starts_thinking: bool = False, opener: str = "<think>") -> None:
        self._held = ""  # text that may yet turn out to be a mark, or white space before one
        self._header = ""
        self._at_start = True  # nothing of this part is out yet: white space is dropped or held
        self._written: set[Place] = set()  # the kinds of which something is out
        self._thought = starts_thinking
        self._place: Place = "thinking" if starts_thinking else "answer"
        self._closer: str | None = _CLOSER_OF.get(opener) if starts_thinking else None
        if starts_thinking and opener.startswith(_GEMMA_OPEN):
            self._closer = _GEMMA_CLOSE

    def feed(self, text: str) -> SplitReply:
        self._held += text
        return self._advance(final=False)

    def finish(self) -> SplitReply:
        """What was held back, now that nothing can follow."""
        return self._advance(final=True)

    def _advance(self, *, final: bool) -> SplitReply:
        split = SplitReply()
        while True:
            marks = self._marks()
            found = re.search("|".join(map(re.escape, marks)), self._held)
            before = self._held[: found.start()] if found else self._held
            if found and self._opens_too_late(found.group(), before):
                end = found.start() + 1  # an answer about `<think>`: its first letter is text, look on behind it
                split += self._emit(self._held[:end])
                self._held = self._held[end:]
                continue
            if found:
                split += self._emit(before, closing=True) if self._answered or before.strip() else SplitReply()
                self._held = self._held[found.end() :]
                self._enter(found.group())
                continue
            keep = 0 if final else _tail_that_may_grow(self._held, marks, thinking=self._place == "thinking")
            ready = self._held[: len(self._held) - keep]
            if not final and self._place == "answer" and not self._answered and not ready.strip():
                return split  # only white space so far: thoughts may still open
            self._held = self._held[len(ready) :]
            return split + self._emit(ready, closing=final and self._place == "thinking")

    def _marks(self) -> tuple[str, ...]:
        """What is a mark here; longer ones first where one begins another."""
        if self._place == "header":
            return (_MESSAGE,)
        if self._place == "gemma header":
            return ("\n", _GEMMA_CLOSE)
        if self._place == "thinking":
            return (*_CONTROLS, self._closer) if self._closer else _CONTROLS
        return _CONTROLS if self._answered else (*_OPENERS, *_CONTROLS)

    def _opens_too_late(self, mark: str, before: str) -> bool:
        return mark in _CLOSER_OF and self._place == "answer" and bool(before.strip())

    def _enter(self, mark: str) -> None:
        """A mark has passed: where are we now?"""
        if mark in _CLOSER_OF:
            self._go("thinking", closer=_CLOSER_OF[mark])
        elif mark == _GEMMA_OPEN:
            self._go("gemma header")
        elif self._place == "gemma header":
            is_answer = mark == _GEMMA_CLOSE or self._header.strip() == "final"
            self._go("answer" if is_answer else "thinking", closer=_GEMMA_CLOSE)
        elif mark in (_CHANNEL, _START):
            self._go("header")
        elif mark == _MESSAGE and self._place == "header":
            self._go("thinking" if _is_thinking_channel(self._header) else "answer")
        else:  # the end of thoughts or of a message, or a mark out of place
            self._go("answer")

    def _go(self, place: Place, closer: str | None = None) -> None:
        self._thought = self._thought or place == "thinking"
        self._place, self._closer = place, closer
        self._header = ""
        self._at_start = True

    def _emit(self, text: str, *, closing: bool = False) -> SplitReply:
        if self._place in ("header", "gemma header"):
            self._header += text
            return SplitReply()
        if self._at_start and (self._place == "thinking" or self._thought):
            text = text.lstrip()
        if self._place == "thinking" and closing:
            text = text.rstrip()
        if not text:
            return SplitReply()
        if self._at_start and self._place in self._written:
            text = "\n\n" + text  # a second part of the same kind is a new paragraph
        self._at_start = False
        if text.strip():
            self._written.add(self._place)
        return SplitReply(thinking=text) if self._place == "thinking" else SplitReply(answer=text)

    @property
    def _answered(self) -> bool:
        """Once there is an answer, a written `<think>` is text."""
        return "answer" in self._written


def _is_thinking_channel(header: str) -> bool:
    """`analysis`, or `assistant<|channel|>commentary to=…`: all but the answer and remarks meant for the person."""
    channel = header.rpartition(_CHANNEL)[2].strip()
    return channel.startswith("analysis") or "to=" in channel


def _tail_that_may_grow(text: str, marks: tuple[str, ...], *, thinking: bool) -> int:
    """How many characters at the end may be the beginning of a mark, or the white space in front of one."""
    longest = max(map(len, marks)) - 1
    start = next(
        (
            place
            for place in range(max(0, len(text) - longest), len(text))
            if any(mark.startswith(text[place:]) for mark in marks)
        ),
        len(text),
    )
    if thinking:
        start = len(text[:start].rstrip())
    return len(text) - start
