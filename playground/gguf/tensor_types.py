"""The types a tensor can have in a GGUF file, and how many bytes their blocks take.

Knows nothing of files. The numbers are ggml's own (enum ggml_type, block layouts in ggml-common.h); a test holds them
against the installed llama.cpp. The `gguf` package's table is not enough: 0.19 lacks Q2_0 and has 40 bytes for Q8_1.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class TensorType(IntEnum):
    """A ggml type: its number in the file, the weights of one block, and the bytes of one block.

    Members equal those of `gguf.GGMLQuantizationType`, since both are ggml's numbers.
    """

    block_weights: int
    block_bytes: int

    def __new__(cls, number: int, block_weights: int, block_bytes: int) -> TensorType:
        member = int.__new__(cls, number)
        member._value_ = number
        member.block_weights = block_weights
        member.block_bytes = block_bytes
        return member

    F32 = 0, 1, 4
    F16 = 1, 1, 2
    Q4_0 = 2, 32, 18
    Q4_1 = 3, 32, 20
    Q5_0 = 6, 32, 22
    Q5_1 = 7, 32, 24
    Q8_0 = 8, 32, 34
    Q8_1 = 9, 32, 36
    Q2_K = 10, 256, 84
    Q3_K = 11, 256, 110
    Q4_K = 12, 256, 144
    Q5_K = 13, 256, 176
    Q6_K = 14, 256, 210
    Q8_K = 15, 256, 292
    IQ2_XXS = 16, 256, 66
    IQ2_XS = 17, 256, 74
    IQ3_XXS = 18, 256, 98
    IQ1_S = 19, 256, 50
    IQ4_NL = 20, 32, 18
    IQ3_S = 21, 256, 110
    IQ2_S = 22, 256, 82
    IQ4_XS = 23, 256, 136
    I8 = 24, 1, 1
    I16 = 25, 1, 2
    I32 = 26, 1, 4
    I64 = 27, 1, 8
    F64 = 28, 1, 8
    IQ1_M = 29, 256, 56
    BF16 = 30, 1, 2
    TQ1_0 = 34, 256, 54
    TQ2_0 = 35, 256, 66
    MXFP4 = 39, 32, 17
    NVFP4 = 40, 64, 36
    Q1_0 = 41, 128, 18
    Q2_0 = 42, 64, 18

    @property
    def bits_per_weight(self) -> float:
        """Bits that one weight takes, its share of the block's scales included."""
        return 8 * self.block_bytes / self.block_weights


# Numbers that once were types. llama.cpp refuses files with them.
REMOVED_TYPES: Final[dict[int, str]] = {
    4: "Q4_2",
    5: "Q4_3",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}
