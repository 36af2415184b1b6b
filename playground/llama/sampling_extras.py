"""What is asked of the sampler: the usual settings, and penalties, biases, a form, bounded thoughts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn, with llama.cpp's names.

    temperature: 0 always takes the most likely token; then only repeat_penalty has an effect besides.
    """

    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    seed: int | None = None  # None: a new seed for each reply


GREEDY: Final = Sampling(temperature=0.0, seed=0)


@dataclass(frozen=True)
class ThinkingLimit:
    """Thoughts of at most so many tokens: then the model finds `closing` written, as if by itself, and answers.

    opener: the mark with which thoughts begin; "" where the prompt has opened them. closer: the mark that ends them.
    """

    tokens: int
    opener: str
    closer: str

    @property
    def closing(self) -> str:
        return f"\n{self.closer}\n\n"


@dataclass(frozen=True)
class SamplingExtras:
    """Each default changes nothing.

    presence_penalty, frequency_penalty: from logits of tokens among the recent ones, as OpenAI defines them.
    logit_bias: (token id, number added to its logit).
    grammar: in GBNF, llama.cpp's own form, with the rule `root`. json_schema: as JSON text; the reply is JSON that
        matches it. At most one of the two.
    thinking: None for as many thoughts as the model likes.
    free_until: the grammar holds after this text, such as the mark that ends thoughts; "" from the first token on.
    """

    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    grammar: str = ""
    json_schema: str = ""
    free_until: str = ""
    thinking: ThinkingLimit | None = None

    @property
    def has_grammar(self) -> bool:
        return bool(self.grammar or self.json_schema)


NO_EXTRAS: Final = SamplingExtras()
