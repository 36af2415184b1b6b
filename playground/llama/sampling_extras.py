"""What programs may ask of the sampler besides the usual settings: penalties, biases, and a form of the reply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class SamplingExtras:
    """Each default changes nothing.

    presence_penalty, frequency_penalty: from logits of tokens among the recent ones, as OpenAI defines them.
    logit_bias: (token id, number added to its logit).
    grammar: in GBNF, llama.cpp's own form, with the rule `root`. json_schema: as JSON text; the reply is JSON that
        matches it. At most one of the two.
    free_until: the grammar holds after this text, such as the mark that ends thoughts; "" from the first token on.
    """

    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    grammar: str = ""
    json_schema: str = ""
    free_until: str = ""

    @property
    def has_grammar(self) -> bool:
        return bool(self.grammar or self.json_schema)


NO_EXTRAS: Final = SamplingExtras()
