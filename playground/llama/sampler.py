"""Draws the next token with llama.cpp's own chain of samplers, and keeps a reply within a grammar.

A grammar is tried on the drawn token alone; only where it forbids that token, it filters the whole vocabulary and the
chain draws again. Most tokens of a model that has understood what is wanted are drawn once.
"""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import llama_cpp
import numpy as np
import numpy.typing as npt

from playground.errors import PlaygroundError
from playground.llama.json_grammar import grammar_of_schema
from playground.llama.sampling_extras import NO_EXTRAS, Sampling, SamplingExtras

PENALTY_WINDOW: Final = 64  # tokens the repeat penalty looks back, llama.cpp's own default
LONGEST_GRAMMAR: Final = 200_000  # characters
_CANDIDATE: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data


class LlamaSampler:
    """llama.cpp's own chain, in the order its command line uses. Raises PlaygroundError for an unusable grammar."""

    def __init__(
        self,
        vocabulary: Any,
        vocabulary_size: int,
        sampling: Sampling,
        recent: Sequence[int],
        extras: SamplingExtras = NO_EXTRAS,
    ) -> None:
        """recent: the last tokens of the text so far. Without a seed, each sampler draws its own."""
        self._grammar: Any = _new_grammar(vocabulary, extras) if extras.has_grammar else None
        self._free_until = extras.free_until
        self._free_text = ""  # the end of what was written before the grammar holds
        penalties = (sampling.repeat_penalty, extras.frequency_penalty, extras.presence_penalty)
        has_penalties = penalties != (1.0, 0.0, 0.0)
        is_plain = not has_penalties and not extras.logit_bias and self._grammar is None
        self.takes_the_best = sampling.temperature <= 0.0 and is_plain
        chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        self.chain: Any = chain
        add = llama_cpp.llama_sampler_chain_add
        if extras.logit_bias:
            known = [
                llama_cpp.llama_logit_bias(token, bias)
                for token, bias in extras.logit_bias
                if 0 <= token < vocabulary_size
            ]
            biases = (llama_cpp.llama_logit_bias * len(known))(*known)
            add(chain, llama_cpp.llama_sampler_init_logit_bias(vocabulary_size, len(known), biases))
        if has_penalties:
            add(chain, llama_cpp.llama_sampler_init_penalties(vocabulary_size, PENALTY_WINDOW, *penalties))
        if sampling.temperature <= 0.0:
            add(chain, llama_cpp.llama_sampler_init_greedy())
        else:
            seed = random.getrandbits(32) if sampling.seed is None else sampling.seed
            add(chain, llama_cpp.llama_sampler_init_top_k(sampling.top_k))
            add(chain, llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1))
            add(chain, llama_cpp.llama_sampler_init_min_p(sampling.min_p, 1))
            add(chain, llama_cpp.llama_sampler_init_temp(sampling.temperature))
            add(chain, llama_cpp.llama_sampler_init_dist(seed))
        if has_penalties:  # only penalties look at the past
            for token in recent[-PENALTY_WINDOW:]:
                llama_cpp.llama_sampler_accept(chain, token)

    @property
    def has_grammar(self) -> bool:
        return self._grammar is not None

    def sample_within_grammar(self, logits: npt.NDArray[np.float32], piece_of: Callable[[int], bytes]) -> int:
        """The next token. Raises PlaygroundError if no token of the vocabulary continues the grammar.

        logits: over the whole vocabulary, (vocabulary,). piece_of: the bytes of a token.
        """
        token = self._drawn(_candidates(logits))
        if self._free_until:
            self._watch_free_text(piece_of(token))
        else:
            if not self._allows(token):
                allowed = _candidates(logits)
                _apply(self._grammar, allowed)
                if not np.isfinite(allowed["logit"]).any():
                    raise PlaygroundError(
                        "The grammar allows no text here that this model could write.", "Change the grammar."
                    )
                token = self._drawn(allowed)
            llama_cpp.llama_sampler_accept(self._grammar, token)
        llama_cpp.llama_sampler_accept(self.chain, token)
        return token

    def _drawn(self, candidates: npt.NDArray[Any]) -> int:
        return _apply(self.chain, candidates)

    def _allows(self, token: int) -> bool:
        one = np.array([(token, 0.0, 0.0)], _CANDIDATE)
        _apply(self._grammar, one)
        return bool(np.isfinite(one["logit"][0]))

    def _watch_free_text(self, piece: bytes) -> None:
        self._free_text = (self._free_text + piece.decode("utf-8", "replace"))[-(len(self._free_until) + len(piece)) :]
        if self._free_until in self._free_text:
            self._free_until = ""

    def close(self) -> None:
        for sampler in (self.chain, self._grammar):
            if sampler is not None:
                llama_cpp.llama_sampler_free(sampler)
        self.chain = self._grammar = None


def _candidates(logits: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    candidates = np.empty(len(logits), _CANDIDATE)
    candidates["id"] = np.arange(len(logits), dtype=np.int32)
    candidates["logit"] = logits
    candidates["p"] = 0.0
    return candidates


def _apply(sampler: Any, candidates: npt.NDArray[Any]) -> int:
    """Let a sampler change the candidates in place; the token that it selected, -1 if it selects none."""
    data = ctypes.cast(candidates.ctypes.data, ctypes.POINTER(llama_cpp.llama_token_data))
    array = llama_cpp.llama_token_data_array(data, len(candidates), -1, False)
    llama_cpp.llama_sampler_apply(sampler, ctypes.byref(array))
    return int(array.data[array.selected].id) if array.selected >= 0 else -1


def _new_grammar(vocabulary: Any, extras: SamplingExtras) -> Any:
    source = extras.grammar or grammar_of_schema(extras.json_schema)
    if len(source) > LONGEST_GRAMMAR:
        raise PlaygroundError(
            f"The grammar is {len(source):,} characters long; the playground takes up to {LONGEST_GRAMMAR:,}.",
            "Ask for a simpler form of the reply.",
        )
    if "\0" not in source:
        grammar = llama_cpp.llama_sampler_init_grammar(vocabulary, source.encode("utf-8", "replace"), b"root")
        if grammar:
            return grammar
    raise PlaygroundError(
        "llama.cpp cannot read the grammar of the reply." if extras.grammar else
        "llama.cpp cannot use the grammar of this JSON schema.",
        "Give it in GBNF, with a rule named root." if extras.grammar else "Use a simpler schema.",
    )  # fmt: skip
