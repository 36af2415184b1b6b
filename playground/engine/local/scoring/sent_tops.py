"""Compares a model with what a server sent of its own answer: of each token the most likely ones, twenty at most.

That is not the whole vocabulary, so the divergence is one of fewer outcomes: each token that was sent, and all others
as one. Outcomes that are put together never diverge more than they do apart, so the divergence over the whole
vocabulary is at least that. It needs the same vocabulary: where a token that was sent is none here, there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from playground.engine.local.scoring.reference_file import Logprobs, top_divergence
from playground.engine.protocol import UNKNOWN_ID, SentTop

_BROKEN: Final = "\ufffd"  # in the text of a token that is only a part of a character


class SentTops:
    """What a server sent, by the byte of the answer at which its token begins.

    piece_of: the bytes of a token. start: the byte at which the first token that is asked for begins; below 0 where a
    token of the prompt reaches into the answer.
    """

    def __init__(
        self, sent: Sequence[SentTop], piece_of: Callable[[int], bytes], vocabulary_size: int, start: int
    ) -> None:
        self._by_byte = dict(sent)
        self._place = start
        self._ids: dict[bytes, int] = {}
        for token in range(vocabulary_size) if sent else ():
            self._ids.setdefault(piece_of(token), token)
        self._piece_of, self._vocabulary_size = piece_of, vocabulary_size

    def divergence_at(self, token: int, row: Logprobs) -> float | None:
        """How far the model is from the server at the next token, at least; None where nothing is known of it."""
        top = self._by_byte.get(self._place)
        self._place += len(self._piece_of(token))
        known: dict[int, float] = {}
        for sent_id, text, logprob in top or ():
            if not text or _BROKEN in text:
                continue  # one of all others, since nobody can know which
            own_id = self._id_of(sent_id, text.encode("utf-8", "replace"))
            if own_id is None:
                return None
            known.setdefault(own_id, logprob)
        if not known:
            return None
        logprobs = np.array(list(known.values()), np.float32)
        rest = max(0.0, 1.0 - float(np.exp(logprobs.astype(np.float64)).sum()))
        return max(0.0, top_divergence(np.array(list(known), np.int32), logprobs, rest, row))

    def _id_of(self, sent_id: int, piece: bytes) -> int | None:
        """The token of this text here; where the server sends ids, the one with its id."""
        if sent_id == UNKNOWN_ID:
            return self._ids.get(piece)
        return sent_id if 0 <= sent_id < self._vocabulary_size and self._piece_of(sent_id) == piece else None
