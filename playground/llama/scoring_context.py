"""A temporary context beside a loaded model's own, in which a text is read and every token's logits are kept.

The model's own context keeps logits for one token of each sequence only, and its
cache holds people's chats; so a text to be scored gets a context of its own, as large as the text, freed at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from playground.errors import PlaygroundError
from playground.llama.params import ContextParameters, context_parameters

LogProbabilities = npt.NDArray[np.float32]


class ScoringContext:
    """One sequence, empty at first. Close it; the model must outlive it."""

    def __init__(self, model: Any, vocabulary_size: int, chosen: ContextParameters) -> None:
        self._vocabulary_size = vocabulary_size
        self._context: Any = llama_cpp.llama_init_from_model(model, context_parameters(chosen))
        if not self._context:
            raise PlaygroundError(
                f"llama.cpp cannot make a context of {chosen.cells:,} tokens to score a text in.",
                "Score a shorter text.",
            )
        self._batch: Any = llama_cpp.llama_batch_init(chosen.scored_rows, 0, 1)

    def clear_kv_cache(self) -> None:
        """Empty the cache as if nothing had ever been read."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)

    def read_log_probabilities(
        self, tokens: Sequence[int], position: int, first_wanted: int, threads: int
    ) -> LogProbabilities:
        """Evaluate tokens from `position` on; natural log-probabilities of what follows each one from first_wanted on.

        Shape (len(tokens) - first_wanted, vocabulary): llama.cpp's own memory, which holds them until the next call or
        the close. At most as many tokens as the context has scored rows.
        """
        llama_cpp.llama_set_n_threads(self._context, threads, threads)
        batch = self._batch
        batch.n_tokens = len(tokens)
        for row, token in enumerate(tokens):
            batch.token[row] = token
            batch.pos[row] = position + row
            batch.n_seq_id[row] = 1
            batch.seq_id[row][0] = 0
            batch.logits[row] = row >= first_wanted
        if (code := llama_cpp.llama_decode(self._context, batch)) != 0:
            raise PlaygroundError(f"llama.cpp could not read a piece of the text (code {code}).", "Try again.")
        count = len(tokens) - first_wanted
        if not count:
            return np.empty((0, self._vocabulary_size), np.float32)
        scores = np.ctypeslib.as_array(llama_cpp.llama_get_logits(self._context), (count, self._vocabulary_size))
        with ThreadPoolExecutor(threads) as workers:
            for _ in workers.map(_become_log_probabilities, scores):
                pass
        return scores

    def close(self) -> None:
        if self._context:
            llama_cpp.llama_batch_free(self._batch)
            llama_cpp.llama_free(self._context)
            self._context = self._batch = None


def log_softmax(logits: npt.NDArray[np.float32]) -> LogProbabilities:
    """Natural log-probabilities of one row of logits; the sum is taken in double precision."""
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum(dtype=np.float64)), dtype=np.float32)


def _become_log_probabilities(logits: npt.NDArray[np.float32]) -> None:
    """The same as `log_softmax`, in the place of the logits."""
    logits -= logits.max()
    logits -= np.float32(np.log(np.exp(logits).sum(dtype=np.float64)))
