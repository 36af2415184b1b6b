"""Splits a reply, while it streams, into the model's thoughts and its answer.

Each model family encloses thoughts in marks of its own: those that the chat template names, and a table of the known
ones. A mark may arrive in pieces, so text that could still become a mark is held back: however the reply is cut into
pieces, the split is the same. The engine must write control tokens as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

Pair = tuple[str, str]  # what opens the thoughts of a reply, and what closes them

PAIRS: Final[tuple[Pair, ...]] = (
    ("<think>", "</think>"),  # most families: Qwen, DeepSeek, GLM, Granite, Nemotron, MiniMax, LFM2, Hunyuan …
    ("[THINK]", "[/THINK]"),  # Mistral
    ("<seed:think>", "</seed:think>"),  # Seed
    ("<longcat_think>", "</longcat_think>"),  # LongCat
    ("◁think▷", "◁/think▷"),  # Kimi
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command R7B and A
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThinker, Sky-T1
    ("<unused94>thought", "<unused95>"),  # MedGemma
    ("<|think|>", "<|/think|>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),  # EXAONE Deep
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("[BEGIN REASONING]", "[BEGIN FINAL RESPONSE]"),  # Apriel 1.5, whose prompt opens the thoughts with a sentence
)
_APRIEL_OPENER: Final = "Here are my reasoning steps:"
# Marks around the answer that follows the thoughts; they are dropped.
ANSWER_PAIRS: Final[tuple[Pair, ...]] = (
    ("<response>", "</response>"),  # Granite 3, ERNIE
    ("<answer>", "</answer>"),  # Hunyuan
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),  # Command R7B and A
    ("<|begin_of_solution|>", "<|end_of_solution|>"),  # OpenThinker, Sky-T1
)
_ANSWER_CLOSERS: Final = ("[END FINAL RESPONSE]", "<|END_RESPONSE|>", "<|end_of_solution|>")  # dropped in any case
# Channels: gpt-oss writes `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…`,
# Gemma 4 `<|channel>thought\n…<channel|>…`. These are control tokens and never part of the text.
# Solar writes `<|think|>…<|end|><|begin|>assistant<|content|>…`.
_CHANNEL, _MESSAGE, _START = "<|channel|>", "<|message|>", "<|start|>"
_BEGIN, _CONTENT = "<|begin|>", "<|content|>"
_ENDS = ("<|end|>", "<|return|>", "<|call|>")
_GEMMA_OPEN, _GEMMA_CLOSE = "<|channel>", "<channel|>"

_CONTROLS: Final = (_CHANNEL, _MESSAGE, _START, _BEGIN, _CONTENT, *_ENDS, _GEMMA_OPEN, *_ANSWER_CLOSERS)
_ANSWER_CLOSER_OF: Final = dict(ANSWER_PAIRS)
# A closing mark that nothing opened ends thoughts if it follows the end of a sentence or stands at the end of a line.
_SENTENCE_ENDS: Final = "\n.!?…:。！？)]}*"
_FENCE: Final = "```"

# How a template spells a closing mark: `</think>`, `[/THINK]`, `◁/think▷`, `<|/think|>`; the opener has no slash.
_CLOSER_IN_TEMPLATE: Final = re.compile(
    r"(<\|?|\[|◁)/([\w:.-]*(?:think|thought|reason|reflect|scratchpad)[\w:.-]*)(\|?>|\]|▷)", re.IGNORECASE
)

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


def template_pairs(source: str | None) -> tuple[Pair, ...]:
    """The marks of thoughts that a chat template names by their closing mark."""
    found = _CLOSER_IN_TEMPLATE.finditer(source or "")
    return tuple({(f"{left}{name}{right}", f"{left}/{name}{right}"): None for left, name, right in map(_groups, found)})


def _groups(found: re.Match[str]) -> tuple[str, str, str]:
    return found[1], found[2], found[3]


def thinking_opener(prompt: str, pairs: Sequence[Pair] = ()) -> str | None:
    """The mark with which a prompt ends, such as `<think>` in `…assistant\\n<think>\\n`: the reply begins inside it.

    pairs: those of the template, besides the known ones.
    """
    end = prompt.rstrip()
    openers = [opener for opener, _ in (*pairs, *PAIRS)]
    marks = (*openers, _APRIEL_OPENER, _GEMMA_OPEN + "thought", _CHANNEL + "analysis" + _MESSAGE)
    return next((mark for mark in marks if end.endswith(mark)), None)


class ReplyParser:
    """Call `feed` with the pieces of one reply in order, then `finish`. Each call returns what is certain by then.

    starts_thinking: the prompt ended inside the thoughts; `opener` is the mark that opened them (`<think>` if unknown).
    pairs: the marks of the template, besides the known ones. White space around thoughts is dropped. Thoughts that are
    never closed last until the end. A closing mark without an opening one makes thoughts of all that stands before it.
    """

    def __init__(self, starts_thinking: bool = False, opener: str = "<think>", pairs: Sequence[Pair] = ()) -> None:
        self._closer_of = dict((*pairs, *PAIRS))
        self._openers = tuple(sorted(self._closer_of, key=len, reverse=True))
        self._closers = tuple(sorted(set(self._closer_of.values()), key=len, reverse=True))
        self._said = ""  # the answer so far, as long as it may turn out to be thoughts
        self._answer_closer: str | None = None
        self._held = ""  # text that may yet turn out to be a mark, or white space before one
        self._header = ""
        self._at_start = True  # nothing of this part was returned yet: white space is dropped or held
        self._written: set[Place] = set()  # the parts of which something was returned
        self._thought = starts_thinking
        self._place: Place = "thinking" if starts_thinking else "answer"
        self._closer: str | None = self._closer_of.get(opener) if starts_thinking else None
        if starts_thinking and opener == _APRIEL_OPENER:
            self._closer = self._closer_of["[BEGIN REASONING]"]
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
            return (_MESSAGE, _CONTENT)
        if self._place == "gemma header":
            return ("\n", _GEMMA_CLOSE)
        if self._place == "thinking":
            repeated = self._openers if self._at_start else ()
            return (*repeated, *_CONTROLS, self._closer) if self._closer else (*repeated, *_CONTROLS)
        if not self._thought:
            return (*self._openers, *_CONTROLS, *self._closers)
        expected = (self._answer_closer,) if self._answer_closer else ()
        if self._answered:
            return (*expected, *_CONTROLS)
        return (*expected, *self._openers, *_CONTROLS, *self._closers, *_ANSWER_CLOSER_OF)

    def _meaning(self, mark: str, before: str, after: str, *, final: bool) -> str:
        """Whether a mark found in the text is one: "mark", "text", "closes what nothing opened", or "undecided" yet."""
        if self._place == "thinking":
            return "text" if mark in self._closer_of and before.strip() else "mark"
        if self._place != "answer" or mark in _CONTROLS:
            return "mark"
        if mark in self._closer_of or mark in _ANSWER_CLOSER_OF:  # an answer about `<think>`
            return "text" if self._answered or before.strip() else "mark"
        if mark == self._answer_closer:
            return "mark"
        if self._thought:
            return "text" if before.strip() else "mark"  # a closing mark written twice
        said = self._said + before
        if any(opener in said for opener in self._openers) or said.count(_FENCE) % 2:
            return "text"
        if not said.strip() or said.rstrip(" \t")[-1] in _SENTENCE_ENDS or after.startswith("\n"):
            return "closes what nothing opened"
        return "text" if after or final else "undecided"

    def _enter(self, mark: str) -> None:
        """Move to the place that follows the mark."""
        if mark in self._closer_of:
            self._go("thinking", closer=self._closer if self._place == "thinking" else self._closer_of[mark])
        elif mark in _ANSWER_CLOSER_OF:
            self._answer_closer = _ANSWER_CLOSER_OF[mark]
            self._go("answer")
        elif mark == self._answer_closer or mark in _ANSWER_CLOSERS:
            self._answer_closer = None
        elif mark == _GEMMA_OPEN:
            self._go("gemma header")
        elif self._place == "gemma header":
            is_answer = mark == _GEMMA_CLOSE or self._header.strip() == "final"
            self._go("answer" if is_answer else "thinking", closer=_GEMMA_CLOSE)
        elif mark in (_CHANNEL, _START, _BEGIN):
            self._go("header")
        elif mark in (_MESSAGE, _CONTENT) and self._place == "header":
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
    """`analysis`, or `assistant<|channel|>commentary to=…`, which is a tool call and not for the reader."""
    channel = header.rpartition(_CHANNEL)[2].strip()
    return channel.startswith("analysis") or "to=" in channel


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
