"""Rounds weights to fewer bits, to show what that does to them: the simplest types of llama.cpp, by the gguf package.

A block of 32 weights has one scale, and each weight becomes a whole number of steps of it. 16 bits are F16, 8 are Q8_0
and 4 are Q4_0. The types of 3 and 2 bits that models use (Q3_K, Q2_K) have scales of scales; here they follow the rule
of Q4_0, with 8 and 4 steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import gguf
import numpy as np
import numpy.typing as npt

Bits = Literal[16, 8, 4, 3, 2]
Weights = npt.NDArray[np.float32]

ALL_BITS: Final[tuple[Bits, ...]] = (16, 8, 4, 3, 2)
BLOCK: Final = 32  # weights that share a scale
SCALE_BITS: Final = 16
_TYPES: Final = {8: gguf.GGMLQuantizationType.Q8_0, 4: gguf.GGMLQuantizationType.Q4_0}


@dataclass(frozen=True)
class RoundedBlock:
    """One block of weights at so many bits.

    values: what the weights have become. scale: the step from one possible value to the next; None at 16 bits, where
    each weight has its own. error: root of the mean squared change, by that of the weights: 0.05 is 5 %.
    """

    bits: Bits
    values: tuple[float, ...]
    scale: float | None
    error: float

    @property
    def type_name(self) -> str:
        """llama.cpp's type of this form; "" where it has none."""
        return {16: "F16", 8: "Q8_0", 4: "Q4_0"}.get(self.bits, "")

    @property
    def step_count(self) -> int | None:
        """How many values a weight can take; None at 16 bits."""
        return None if self.scale is None else 2**self.bits

    @property
    def bits_per_weight(self) -> float:
        """With the share of the scale."""
        return float(self.bits) if self.scale is None else self.bits + SCALE_BITS / BLOCK


def round_weights(weights: Weights, bits: Bits) -> Weights:
    """The weights as they come back from this form. Shape (…, n), n a multiple of 32; the same shape again."""
    if bits == 16:
        return weights.astype(np.float16).astype(np.float32)
    if bits in _TYPES:
        packed = gguf.quants.quantize(weights, _TYPES[bits])
        return np.asarray(gguf.quants.dequantize(packed, _TYPES[bits]), np.float32)
    scales, numbers = _steps(weights, bits)
    return (scales * numbers).reshape(weights.shape).astype(np.float32)


def round_block(block: Weights, bits: Bits) -> RoundedBlock:
    """One block, of shape (32,)."""
    values = round_weights(block, bits)
    return RoundedBlock(bits, tuple(map(float, values)), _scale(block, bits), rounding_error(block, values))


def rounding_error(before: Weights, after: Weights) -> float:
    """Root of the mean squared difference, by the root of the mean square of `before`; 0 for weights of 0."""
    size = float(np.sqrt(np.mean(np.square(before, dtype=np.float64))))
    return float(np.sqrt(np.mean(np.square(after.astype(np.float64) - before)))) / size if size else 0.0


def _steps(weights: Weights, bits: int) -> tuple[Weights, Weights]:
    """The scale of each block and the whole numbers of its weights, by the rule of Q4_0 with 2**bits steps."""
    blocks = weights.reshape(-1, BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
    scales = largest / -(2 ** (bits - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(scales == 0, 0, 1 / scales)
    half = 2 ** (bits - 1)
    numbers = np.trunc(blocks * inverse + (half + 0.5)).clip(0, 2**bits - 1) - half
    return scales.astype(np.float16).astype(np.float32), numbers.astype(np.float32)


def _scale(block: Weights, bits: Bits) -> float | None:
    """The block's scale, as it is stored: in 16 bits."""
    if bits == 16:
        return None
    if bits in _TYPES:
        packed = gguf.quants.quantize(block, _TYPES[bits])
        return float(np.abs(packed[:2].view(np.float16)[0]))
    return float(np.abs(_steps(block, bits)[0][0, 0]))
