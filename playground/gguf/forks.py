"""Programs that grew out of llama.cpp and have types of their own: which of them can read a file.

A level in a file's name, or the number of a tensor's type, says it. The numbers are those of enum ggml_type in each
program's ggml.h, read in autumn 2026; those that llama.cpp itself uses stand in tensors.py and count first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Fork:
    """program: its usual name. levels: the names of its levels, in upper case. types: its tensor types by number."""

    program: str
    levels: re.Pattern[str]
    types: Mapping[int, str]


# fmt: off
FORKS: Final[tuple[Fork, ...]] = (
    Fork("bitnet.cpp", re.compile(r"I2_S|I8_S|TL[12]"), {36: "I2_S", 37: "I8_S", 38: "TL1"}),  # its 39 is MXFP4 here
    Fork("ROCmFPX", re.compile(r"Q[2-8]_0_ROCM(FP4|FPX|I4)(_[A-Z]+)?"), {
        100: "Q4_0_ROCMFP4", 101: "Q4_0_ROCMFP4_FAST", 102: "Q6_0_ROCMFPX", 103: "Q8_0_ROCMFPX", 104: "Q3_0_ROCMFPX",
        107: "Q2_0_ROCMFPX", 108: "Q4_0_ROCMI4", 109: "Q5_0_ROCMFPX", 110: "Q7_0_ROCMFPX",
    }),
    Fork("PrismML's llama.cpp", re.compile(r"PQ2_0|PTQ1_0"), {142: "PQ2_0", 143: "PTQ1_0"}),
    Fork("llama.cpp-tq3", re.compile(r"TQ3_4S[EV]?"), {}),  # with the next two: their numbers differ from one another
    Fork("llama-cpp-turboquant", re.compile(r"TQ[34]_1S"), {}),
    Fork("a HIFI build of llama.cpp", re.compile(r"Q[2-8]_K_HIFI"), {}),
    Fork("the llama.cpp of AngelSlim", re.compile(r"STQ1_0"), {}),
    Fork("ik_llama.cpp", re.compile(
        r"IQ[1-6]_(K|KS|KSS|KL|KT)(_R\d+)?|IQ[12]_BN(_R4)?|.*_R(4|8|16)|Q6_0|Q8_KV|Q8_K(16|32|64|128)"
    ), {
        97: "Q8_0_X4", 98: "Q8_1_X4", 99: "Q8_2_X4", 133: "Q6_0", 134: "IQ1_BN", 135: "IQ2_BN", 136: "Q8_K64",
        137: "IQ2_K", 138: "IQ3_K", 139: "IQ4_K", 140: "IQ5_K", 141: "IQ6_K", 144: "IQ4_KS", 145: "IQ2_KS",
        146: "IQ4_KSS", 147: "Q8_K16", 148: "Q8_K32", 149: "Q8_KR8", 150: "Q8_K128", 151: "Q8_KV", 152: "IQ5_KS",
        153: "IQ2_KT", 154: "IQ3_KT", 155: "IQ4_KT", 156: "IQ3_KS", 157: "IQ2_KL", 158: "IQ1_KT",
        202: "Q4_0_R8", 206: "Q5_0_R4", 208: "Q8_0_R8", 210: "Q2_K_R4", 211: "Q3_K_R4", 212: "Q4_K_R4", 213: "Q5_K_R4",
        214: "Q6_K_R4", 216: "IQ2_XXS_R4", 217: "IQ2_XS_R4", 218: "IQ3_XXS_R4", 219: "IQ1_S_R4", 220: "IQ4_NL_R4",
        221: "IQ3_S_R4", 222: "IQ2_S_R4", 223: "IQ4_XS_R8", 229: "IQ1_M_R4", 230: "BF16_R16", 233: "Q6_0_R4",
        335: "IQ2_BN_R4", 337: "IQ2_K_R4", 338: "IQ3_K_R4", 339: "IQ4_K_R4", 340: "IQ5_K_R4", 344: "IQ4_KS_R4",
        352: "IQ5_KS_R4", 353: "MXFP4_R8", 397: "Q8_K_R16", 398: "Q8_KV_R8", 399: "Q8_K_R8",
    }),
)
# fmt: on
# Numbers after llama.cpp's last that several forks use, each for types of its own: TurboQuant's, HIFI, AngelSlim.
CONTESTED_TYPES: Final = range(43, 51)


def program_of_level(name: str) -> str | None:
    """The program that a level is made for where that is not llama.cpp: "ik_llama.cpp" for IQ4_KS; else None."""
    return next((fork.program for fork in FORKS if fork.levels.fullmatch(name.upper())), None)


def fork_of_type(number: int) -> tuple[str, str] | None:
    """The program that a tensor type's number belongs to, and the type's name; None for one that no fork here has."""
    return next(((fork.program, fork.types[number]) for fork in FORKS if number in fork.types), None)
