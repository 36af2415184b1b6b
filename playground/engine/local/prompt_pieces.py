"""How many tokens of a prompt one step reads.

A step takes a bounded time, since a new request and other chats wait for its end. Within that, few large pieces are
fastest: every llama_decode goes through all weights once, however many rows it has.
"""

from __future__ import annotations

import math
from typing import Final

STEP_SECONDS: Final = 0.5  # the longest that a step should take while others wait for their next token
LONE_STEP_SECONDS: Final = 2.0  # while nobody does: this is how long one who comes then may have to wait
SMALLEST_CHUNK: Final = 16  # prompt tokens in a step, however slow the model is
FIRST_CHUNK: Final = 64  # before any speed is known
# Rows that llama.cpp's attention computes together on a CPU (ggml_fa_tile_config). The starter read 425 tokens in 192
# and 233 as fast as in one batch of 512; in 213 and 212 it took 2 % longer.
TILE: Final = 64
_LEAST_TILES: Final = 3  # of a piece that is cut to whole ones: of a smaller one too much would be cut off


class PromptPieces:
    """Follows how fast prompts are read, for the size of the next piece. batch_size: the most rows of a step."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._speed: float | None = None  # tokens per second

    def chunk(self, *, is_alone: bool) -> int:
        """How many prompt tokens a step may take in all. is_alone: no other request generates, reads or waits."""
        if self._speed is None:
            return min(FIRST_CHUNK, self._batch_size)
        possible = self._speed * (LONE_STEP_SECONDS if is_alone else STEP_SECONDS)
        return min(max(int(possible), SMALLEST_CHUNK), self._batch_size)

    def is_long(self, tokens: int) -> bool:
        """Whether reading so many more takes long enough to tell how far it is.

        Telling it wakes the page's process, which takes a core from the next piece.
        """
        return self._speed is None or tokens > self._speed * STEP_SECONDS

    def add_step(self, tokens: int, seconds: float, *, is_alone: bool) -> None:
        """Count a step that read so many prompt tokens. Small remainders say little about the speed, unless slow."""
        if not tokens or seconds <= 0:
            return
        if tokens >= self.chunk(is_alone=is_alone) / 2 or seconds > STEP_SECONDS:
            measured = tokens / seconds
            self._speed = measured if self._speed is None else (self._speed + measured) / 2


def next_piece(tokens: int, usual: int, most: int) -> int:
    """The first of nearly equal pieces, as many as there are whole `usual` ones in `tokens`, of at most `most` tokens.

    So none is small: the last one is not a handful of tokens that takes as long as many. Large ones are whole tiles but
    for the last one, unless that made more pieces.

    >>> next_piece(425, 256, 256), next_piece(510, 256, 256), next_piece(165, 256, 256)
    (192, 255, 165)
    """
    if usual < 1:
        return 0
    pieces = max(tokens // usual, math.ceil(tokens / most))
    size = math.ceil(tokens / pieces) if pieces else 0
    in_tiles = size // TILE * TILE
    is_even = pieces > 1 and in_tiles >= _LEAST_TILES * TILE and tokens - in_tiles <= (pieces - 1) * most
    return in_tiles if is_even else size
