"""Splits a reply, while it streams, into the model's thoughts and its answer.

Each model family encloses thoughts in marks of its own (thought_marks.py). A mark may arrive in pieces, so text that
could still become a mark is held back: however the reply is cut into pieces, the split is the same. The engine must
write control tokens as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from playground.chat.thought_marks import (
    ANSWER_CLOSERS,
    ANSWER_OPENERS,
    ANSWER_PAIRS,
    APRIEL_OPENER,
    BEGIN,
    CHANNEL,
    CONTENT,
    CONTROLS,
    GEMMA_CLOSE,
    GEMMA_OPEN,
    MESSAGE,
    PAIRS,
    RECIPIENT,
    START,
    TO_READER,
    Pair,
    is_control,
)

_ANSWER_CLOSER_OF: Final = dict(ANSWER_PAIRS)
# A closing mark that nothing opened ends thoughts if it follows the end of a sentence or stands at the end of a line.
_SENTENCE_ENDS: Final = "\n.!?…:。！？)]}*"
_FENCE: Final = "```"
_NAMES_RECIPIENT: Final = "to="  # with which Muse Glimmer's messages begin; later in an answer it is text
_TAIL_CHARACTERS: Final = 60  # of a prompt: its last marks

Place = Literal["answer", "thinking", "header", "gemma header"]


@dataclass(frozen=True)
class SplitReply:
    """What a piece of the reply adds to the thoughts and to the answer.

    replaces: this is all there is up to now: what came before as an answer has turned out to be thoughts.
    """

    thinking: str = ""
    answer: str = ""
    replaces: bool = field(default=False, compare=False)

    def __add__(self, other: SplitReply) -> SplitReply:
        if other.replaces:
            return other
        return SplitReply(self.thinking + other.thinking, self.answer + other.answer, self.replaces)


class ReplyParser:
    """Call `feed` with the pieces of one reply in order, then `finish`. Each call returns what is certain by then.

    opener: the mark with which the prompt ended (`mark_at_end`), so that the reply begins inside it. prompt: its end
    shows whether the family's marks are control tokens. pairs: the marks of the template, besides the known ones.

    White space around thoughts is dropped. Thoughts that are never closed last until the end. A closing mark without an
    opening one makes thoughts of all that stands before it. Control tokens in the answer of a model that does not use
    them are text.
    """

    def __init__(self, opener: str | None = None, pairs: Sequence[Pair] = (), prompt: str = "") -> None:
        self._closer_of = dict((*pairs, *PAIRS))
        self._openers = tuple(sorted(self._closer_of, key=len, reverse=True))
        self._closers = tuple(sorted(set(self._closer_of.values()), key=len, reverse=True))
        self._said = ""  # the answer so far, as long as it may turn out to be thoughts
        self._held = ""  # text that may yet turn out to be a mark, or white space before one
        self._header = ""
        self._at_start = True  # nothing of this part was returned yet: white space is dropped or held
        self._written: set[Place] = set()  # the parts of which something was returned
        self._uses_controls = is_control(opener or "") or any(
            mark in prompt[-_TAIL_CHARACTERS:] for mark in (*CONTROLS, *ANSWER_OPENERS)
        )
        self._names_recipient = opener == RECIPIENT
        self._thought = opener is not None and opener not in _ANSWER_CLOSER_OF and not self._names_recipient
        self._place: Place = "thinking" if self._thought else "answer"
        self._closer = self._closer_of.get(opener) if opener else None
        self._answer_closer = _ANSWER_CLOSER_OF.get(opener) if opener else None
        if self._names_recipient:
            self._held = RECIPIENT
        elif opener == APRIEL_OPENER:
            self._closer = self._closer_of["[BEGIN REASONING]"]
            self._uses_controls = True
        elif opener and opener.startswith(GEMMA_OPEN):
            self._closer = GEMMA_CLOSE

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
            meaning = self._meaning(found.group(), before, self._held[found.end() :], final=final) if found else ""
            if found and meaning == "undecided":
                ready, self._held = before, self._held[len(before) :]  # what stands before the mark is certain
                return split + (self._emit(ready) if self._answered or ready.strip() else SplitReply())
            if found and meaning == "text":
                end = found.start() + 1  # an answer about `<think>`: its first letter is text, look on behind it
                split += self._emit(self._held[:end])
                self._held = self._held[end:]
                continue
            if found and meaning == "closes what nothing opened":
                self._said += before
                split = SplitReply(self._said.strip(), replaces=True)
                self._held = self._held[found.end() :]
                self._uses_controls = self._uses_controls or is_control(found.group())
                self._written = {"thinking"} if self._said.strip() else set()
                self._thought, self._said = True, ""
                self._go("answer")
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
            return (MESSAGE, CONTENT)
        if self._place == "gemma header":
            return ("\n", GEMMA_CLOSE)
        if self._place == "thinking":
            repeated = self._openers if self._at_start else ()
            controls = (*CONTROLS, *ANSWER_OPENERS) if self._uses_controls else ()
            return (*repeated, *controls, self._closer) if self._closer else (*repeated, *controls)
        expected = (self._answer_closer,) if self._answer_closer else ()
        if not self._thought:
            recipient = (TO_READER,) if self._names_recipient else ()
            marks = (*expected, *recipient, *self._openers, *CONTROLS, *ANSWER_OPENERS, *self._closers)
        elif self._answered:
            return (*expected, *CONTROLS)
        else:
            marks = (*expected, *self._openers, *CONTROLS, *self._closers, *_ANSWER_CLOSER_OF)
        may_name = not self._answered and _NAMES_RECIPIENT.startswith(self._held.lstrip()[: len(_NAMES_RECIPIENT)])
        return marks if may_name else tuple(mark for mark in marks if not mark.startswith(_NAMES_RECIPIENT))

    def _meaning(self, mark: str, before: str, after: str, *, final: bool) -> str:
        """Whether a mark found in the text is one: "mark", "text", "closes what nothing opened", or "undecided" yet."""
        if self._place == "thinking":
            return "text" if mark in self._closer_of and before.strip() else "mark"
        if self._place != "answer" or mark == self._answer_closer:
            return "mark"
        has_begun = self._answered or bool(before.strip())
        if mark == TO_READER or (mark in CONTROLS and (self._uses_controls or mark not in self._closers)):
            return "text" if has_begun and not self._uses_controls else "mark"
        if mark in self._closer_of or mark in _ANSWER_CLOSER_OF:  # an answer about `<think>`
            return "text" if has_begun else "mark"
        if self._thought:
            return "text" if has_begun else "mark"  # a closing mark written twice
        said = self._said + before
        if any(opener in said for opener in self._openers) or said.count(_FENCE) % 2:
            return "text"
        if not said.strip() or said.rstrip(" \t")[-1] in _SENTENCE_ENDS or after.startswith("\n"):
            return "closes what nothing opened"
        return "text" if after or final else "undecided"

    def _enter(self, mark: str) -> None:
        """Move to the place that follows the mark."""
        self._uses_controls = self._uses_controls or is_control(mark)
        if mark in self._closer_of:
            self._go("thinking", closer=self._closer if self._place == "thinking" else self._closer_of[mark])
        elif mark in _ANSWER_CLOSER_OF:
            self._answer_closer = _ANSWER_CLOSER_OF[mark]
            self._go("answer")
        elif mark == self._answer_closer or mark in ANSWER_CLOSERS:
            self._answer_closer = None
        elif mark == GEMMA_OPEN:
            self._go("gemma header")
        elif self._place == "gemma header":
            is_answer = mark == GEMMA_CLOSE or self._header.strip() == "final"
            self._go("answer" if is_answer else "thinking", closer=GEMMA_CLOSE)
        elif mark in (CHANNEL, START, BEGIN):
            self._go("header")
        elif mark in (MESSAGE, CONTENT) and self._place == "header":
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
        if self._place == "answer" and not self._thought:
            self._said += text
        return SplitReply(thinking=text) if self._place == "thinking" else SplitReply(answer=text)

    @property
    def _answered(self) -> bool:
        """After the answer has begun, a `<think>` is text."""
        return "answer" in self._written


def _is_thinking_channel(header: str) -> bool:
    """`analysis`, `assistant to=self`, or `assistant<|channel|>commentary to=…`: a tool call is not for the reader."""
    if any(recipient not in ("user", "assistant") for recipient in re.findall(r"\bto=([^\s<]+)", header)):
        return True
    return header.rpartition(CHANNEL)[2].strip().startswith("analysis")


def _tail_that_may_grow(text: str, marks: tuple[str, ...], *, thinking: bool) -> int:
    """How many characters at the end may be the beginning of a mark, or white space before one."""
    longest = max(map(len, marks)) - 1
    first_letters = {mark[0] for mark in marks}
    start = next(
        (
            place
            for place in range(max(0, len(text) - longest), len(text))
            if text[place] in first_letters and any(mark.startswith(text[place:]) for mark in marks)
        ),
        len(text),
    )
    if thinking:
        start = len(text[:start].rstrip())
    return len(text) - start
