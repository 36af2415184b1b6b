"""How much a model may think before it answers: what its chat template knows of that, and a bound that is kept anyway.

Qwen 3, SmolLM3, GLM, Granite and others take a switch; gpt-oss and others take an effort. A bound counts the tokens of
the thoughts while they are written, and then writes the mark that closes them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from playground.chat.thought_marks import PAIRS, Pair, template_pairs
from playground.llama.sampling_extras import ThinkingLimit

THINKING_SWITCHES: Final = ("enable_thinking", "thinking")  # Qwen, SmolLM3, GLM, Gemma … ; Granite, DeepSeek
EFFORT: Final = "reasoning_effort"
EFFORTS: Final = ("low", "medium", "high")
BOUNDS: Final = (64, 256, 1024)  # that are offered, in tokens
_MOST_TOKENS: Final = 100_000


@dataclass(frozen=True)
class ThinkingChoice:
    """What is asked of a model.

    switch: asks the template for thoughts, or for none; None leaves it to the template. effort: one of EFFORTS, or "".
    most_tokens: of the thoughts; None for as many as the model likes.
    """

    switch: bool | None = None
    effort: str = ""
    most_tokens: int | None = None

    @classmethod
    def read(cls, text: object) -> ThinkingChoice:
        """From "on", "off", one of EFFORTS, or the most tokens, such as "256"; anything else leaves it to the model."""
        if not isinstance(text, str):
            return cls()
        if text in EFFORTS:
            return cls(effort=text)
        if text.isascii() and text.isdigit() and len(text) < 7 and int(text) <= _MOST_TOKENS:
            return cls(True, most_tokens=int(text))
        return cls({"on": True, "off": False}.get(text))

    @property
    def text(self) -> str:
        """As `read` takes it; "" where it is left to the model."""
        if self.most_tokens is not None:
            return str(self.most_tokens)
        return self.effort or {True: "on", False: "off", None: ""}[self.switch]

    def limit(self, opener: str | None, pairs: Sequence[Pair]) -> ThinkingLimit | None:
        """For the engine. opener: the mark with which the prompt ends; pairs: the marks that the template names."""
        if self.most_tokens is None:
            return None
        known = dict((*PAIRS, *pairs))
        if opener in known:
            return ThinkingLimit(self.most_tokens, "", known[opener])
        return ThinkingLimit(self.most_tokens, *pairs[0]) if pairs else None


AS_IT_LIKES: Final = ThinkingChoice()


def thinking_choices(source: str | None) -> tuple[ThinkingChoice, ...]:
    """What a model with this chat template can be asked for; empty if the template says nothing of thoughts."""
    names = set(re.findall(r"\w+", source or ""))
    has_switch = any(switch in names for switch in THINKING_SWITCHES)
    switches = (ThinkingChoice(False), ThinkingChoice(True)) if has_switch else ()
    efforts = tuple(ThinkingChoice(effort=effort) for effort in EFFORTS) if EFFORT in names else ()
    bounds = tuple(ThinkingChoice(True, most_tokens=tokens) for tokens in BOUNDS) if template_pairs(source) else ()
    return (AS_IT_LIKES, *switches, *efforts, *bounds) if switches or efforts or bounds else ()
