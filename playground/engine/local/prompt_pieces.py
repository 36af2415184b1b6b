"""How many tokens of a prompt one step reads.

A step takes a bounded time, since a new request and other chats wait for its end. Within that, few large pieces are
fastest: every llama_decode goes through all weights once, however many rows it has. Where they are best cut depends on
the kernels of the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from playground.llama.params import GPU_MICRO_BATCH_TOKENS

STEP_SECONDS: Final = 0.5  # the longest that a step should take while others wait for their next token
LONE_STEP_SECONDS: Final = 2.0  # while nobody does: this is how long one who comes then may have to wait
SMALLEST_CHUNK: Final = 16  # prompt tokens in a step, however slow the model is
FIRST_CHUNK: Final = 64  # before any speed is known: most layers may still be on the CPU


@dataclass(frozen=True)
class PieceRules:
    """What the kernels of a device want.

    fixed: prompt tokens in a step of a reproducible request, which is read in the same pieces every time. tile: rows
    that are computed together. least_tiles: of a piece that is cut to whole tiles; of a smaller one too much would be
    cut off. fills_tiles: a piece is rather made longer than shorter.
    """

    fixed: int
    tile: int
    least_tiles: int
    fills_tiles: bool


# The tiles are those of llama.cpp's attention on a CPU (ggml_fa_tile_config). The starter read 425 tokens in 192 and
# 233 as fast as in one batch of 512; in 213 and 212 it took 2 % longer.
CPU_PIECES: Final = PieceRules(fixed=128, tile=64, least_tiles=3, fills_tiles=False)
# With a GPU, llama.cpp cuts a step into as many rows as it computes at once: the last of them should be no remainder.
GPU_PIECES: Final = PieceRules(
    fixed=GPU_MICRO_BATCH_TOKENS, tile=GPU_MICRO_BATCH_TOKENS, least_tiles=1, fills_tiles=True
)


class PromptPieces:
    """Follows how fast prompts are read, for the size of the next piece. batch_size: the most rows of a step."""

    def __init__(self, batch_size: int, rules: PieceRules = CPU_PIECES) -> None:
        self._batch_size = batch_size
        self.rules = rules
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


def next_piece(tokens: int, usual: int, most: int, rules: PieceRules = CPU_PIECES) -> int:
    """The first of nearly equal pieces, as many as there are whole `usual` ones in `tokens`, of at most `most` tokens.

    So none is small: the last one is not a handful of tokens that takes as long as many. Large ones are whole tiles but
    for the last one, unless that made more pieces.

    >>> next_piece(425, 256, 256), next_piece(510, 256, 256), next_piece(165, 256, 256)
    (192, 255, 165)
    >>> next_piece(2500, 2048, 2048, GPU_PIECES), next_piece(2500, 600, 2048, GPU_PIECES)
    (1536, 512)
    """
    if usual < 1:
        return 0
    pieces = max(tokens // usual, math.ceil(tokens / most))
    size = math.ceil(tokens / pieces) if pieces else 0
    if pieces < 2:
        return size
    filled = math.ceil(size / rules.tile) * rules.tile
    if rules.fills_tiles and filled <= min(usual, most):
        return filled
    in_tiles = size // rules.tile * rules.tile
    is_even = in_tiles >= rules.least_tiles * rules.tile and tokens - in_tiles <= (pieces - 1) * most
    return in_tiles if is_even else size
