"""The marks with which families of models enclose thoughts and answers, and where a chat template names its own.

The table holds what the chat parsers of llama.cpp 0c1e57098 know (common/chat.cpp, common/parsers/, and what
common/chat-diff-analyzer.cpp finds in the templates of its tests), and families of its earlier versions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

Pair = tuple[str, str]  # what opens a part of a reply, and what closes it

PAIRS: Final[tuple[Pair, ...]] = (
    ("<think>", "</think>"),  # most families: Qwen, DeepSeek, GLM, Granite, Nemotron, MiniMax M2, Kimi K2, LFM2, Ling …
    ("[THINK]", "[/THINK]"),  # Mistral
    ("<seed:think>", "</seed:think>"),  # Seed
    ("<longcat_think>", "</longcat_think>"),  # LongCat
    ("◁think▷", "◁/think▷"),  # Kimi
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command R7B and A, North
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThinker, Sky-T1
    ("<unused94>thought", "<unused95>"),  # MedGemma
    ("<|think|>", "<|/think|>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),  # EXAONE Deep
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("[BEGIN REASONING]", "[BEGIN FINAL RESPONSE]"),  # Apriel, whose prompt opens the thoughts with a sentence
    ("<mm:think>", "</mm:think>"),  # MiniMax M3
    ("<think:opensource>", "</think:opensource>"),  # Hunyuan 3
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),  # Kimi K3
    ("to=self<|message|>", "<|eom|>"),  # Muse Glimmer, whose prompt ends in `<|start|>assistant`
)
APRIEL_OPENER: Final = "Here are my reasoning steps:"
# Marks around the answer that follows the thoughts; they are dropped.
ANSWER_PAIRS: Final[tuple[Pair, ...]] = (
    ("<response>", "</response>"),  # Granite 3, ERNIE
    ("<answer>", "</answer>"),  # Hunyuan
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),  # Command R7B and A
    ("<|START_TEXT|>", "<|END_TEXT|>"),  # North
    ("<|begin_of_solution|>", "<|end_of_solution|>"),  # OpenThinker, Sky-T1
    ("<|open|>response<|sep|>", "<|close|>response<|sep|>"),  # Kimi K3
    ("to=user<|message|>", "<|eot|>"),  # Muse Glimmer
)
# Of these the ones that are control tokens. They open an answer also where no thoughts went before, and end thoughts.
ANSWER_OPENERS: Final = tuple(opener for opener, _ in ANSWER_PAIRS if "|>" in opener)
ANSWER_CLOSERS: Final = (
    "[END FINAL RESPONSE]",
    "<|close|>message<|sep|>",
    "<|end_of_msg|>",
    *(closer for opener, closer in ANSWER_PAIRS if opener in ANSWER_OPENERS),
)
# Channels: gpt-oss writes `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…`,
# Gemma 4 `<|channel>thought\n…<channel|>…`. These are control tokens and never part of the text.
# Solar writes `<|think|>…<|end|><|begin|>assistant<|content|>…`.
CHANNEL, MESSAGE, START = "<|channel|>", "<|message|>", "<|start|>"
BEGIN, CONTENT = "<|begin|>", "<|content|>"
ENDS: Final = ("<|end|>", "<|return|>", "<|call|>", "<|eom|>")
GEMMA_OPEN, GEMMA_CLOSE = "<|channel>", "<channel|>"
CONTROLS: Final = (CHANNEL, MESSAGE, START, BEGIN, CONTENT, *ENDS, GEMMA_OPEN, *ANSWER_CLOSERS)
# Functionary 3.2 names whom it speaks to: its prompt ends in `>>>`, and what is for the reader begins with `all`.
RECIPIENT, TO_READER = ">>>", ">>>all\n"

# How a template spells a closing mark: `</think>`, `[/THINK]`, `◁/think▷`, `<|/think|>`; the opener has no slash.
_CLOSER_IN_TEMPLATE: Final = re.compile(
    r"(<\|?|\[|◁)/([\w:.-]*(?:think|thought|reason|reflect|scratchpad)[\w:.-]*)(\|?>|\]|▷)", re.IGNORECASE
)
_MARK: Final = r"(?:<[^<>\s]*>|\[[^\[\]\s]*\]|◁[^◁▷\s]*▷)"


def template_pairs(source: str | None) -> tuple[Pair, ...]:
    """The marks of thoughts that a chat template names by their closing mark."""
    found = (match.groups() for match in _CLOSER_IN_TEMPLATE.finditer(source or ""))
    return tuple({(f"{left}{name}{right}", f"{left}/{name}{right}"): None for left, name, right in found})


def pair_around(thoughts: str, prompt: str) -> Pair | None:
    """The two marks of one name between which a prompt holds those thoughts, such as `<x>` and `</x>`; else None."""
    found = re.search(rf"({_MARK})\s*{re.escape(thoughts)}\s*({_MARK})", prompt)
    return (found[1], found[2]) if found and found[2].replace("/", "", 1) == found[1] else None


def mark_at_end(prompt: str, pairs: Sequence[Pair] = ()) -> str | None:
    """The mark with which a prompt ends, such as `<think>` in `…assistant\\n<think>\\n`: the reply begins inside it.

    pairs: those of the template, besides the known ones.
    """
    end = prompt.rstrip()
    openers = [opener for opener, _ in (*pairs, *PAIRS, *ANSWER_PAIRS)]
    marks = (*openers, APRIEL_OPENER, GEMMA_OPEN + "thought", CHANNEL + "analysis" + MESSAGE, RECIPIENT)
    return next((mark for mark in marks if end.endswith(mark)), None)


def is_control(mark: str) -> bool:
    """Whether the mark is a token that no text of its family holds, unlike `<think>`."""
    return "|" in mark or mark.startswith("[BEGIN")
