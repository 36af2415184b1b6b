"""Splits a reply, while it streams, into the model's thoughts and its answer.

Each model family encloses thoughts in marks of its own. A mark may arrive in pieces, so text that could still become a
mark is held back: however the reply is cut into pieces, the split is the same. The engine must write control tokens as
text.
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
# Gemma 4 `<|channel>thought\n…<channel|>…`. These are control tokens and never part of the text.
_CHANNEL, _MESSAGE, _START = "<|channel|>", "<|message|>", "<|start|>"
_ENDS = ("<|end|>", "<|return|>", "<|call|>")
_GEMMA_OPEN, _GEMMA_CLOSE = "<|channel>", "<channel|>"

_CONTROLS: Final = (_CHANNEL, _MESSAGE, _START, *_ENDS, _GEMMA_OPEN)
_OPENERS: Final = tuple(opener for opener, _ in PAIRS)
_CLOSER_OF: Final = dict(PAIRS)

Place = Literal["answer", "thinking", "header", "gemma header"]


@dataclass(frozen=True)
class SplitReply:
    """What a piece of the reply adds to the thoughts and to the answer."""

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
    """Call `feed` with the pieces of one reply in order, then `finish`. Each call returns what is certain by then.

    starts_thinking: the prompt ended inside the thoughts; `opener` is the mark that opened them (`<think>` if unknown).
    White space around thoughts is dropped. Thoughts that are never closed last until the end.
    """

    def __init__(self, starts_thinking: bool = False, opener: str = "<think>") -> None:
        self._held = ""  # text that may yet turn out to be a mark, or white space before one
        self._header = ""
        self._at_start = True  # nothing of this part was returned yet: white space is dropped or held
        self._written: set[Place] = set()  # the parts of which something was returned
        self._thought = starts_thinking
        self._place: Place = "thinking" if starts_thinking else "answer"
        self._closer: str | None = _CLOSER_OF.get(opener) if starts_thinking else None
        if starts_thinking and opener.startswith(_GEMMA_OPEN):
            self._closer = _GEMMA_CLOSE

    def feed(self, text: str) -> SplitReply:
        self._held += text
        return self._advance(final=False)

    def finish(self) -> SplitReply:
        """The text that was still held back."""
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
        """The marks that count at this place; a mark comes before its own prefixes."""
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
        """Move to the place that follows the mark."""
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
        """After the answer has begun, a `<think>` is text."""
        return "answer" in self._written


def _is_thinking_channel(header: str) -> bool:
    """`analysis`, or `assistant<|channel|>commentary to=…`, which is a tool call and not for the reader."""
    channel = header.rpartition(_CHANNEL)[2].strip()
    return channel.startswith("analysis") or "to=" in channel


def _tail_that_may_grow(text: str, marks: tuple[str, ...], *, thinking: bool) -> int:
    """How many characters at the end may be the beginning of a mark, or white space before one."""
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
