"""The table of quantization levels: bits per weight, where each level is offered, and one plain sentence on each.

A level is one row of LEVELS. Everything else that lists levels is computed from the rows, here. Bits per weight are
nominal, those of a large model: what a given file really takes is in its tensor table (header.py), and small models
take more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from playground.gguf.forks import program_of_level
from playground.gguf.tensors import TensorType


@dataclass(frozen=True)
class Level:
    """One quantization level.

    file_type: llama.cpp's LLAMA_FTYPE number.
    bits_per_weight: with the scales and the tensors kept at other types. Llama 3.1 8B as measured in the README of
        llama.cpp's quantizer, computed from the file sizes it lists for Llama 3 8B (Q4_0 to Q5_1), and for the rest
        the bits of the block itself.
    summary: one sentence for anyone on what answers are like. It names no size: that of a file is computed.
    default: taken where a model is named without a level.
    usual: offered where levels can be made from a file.
    table: shown in the Fit tab's table: always ("short"), or when all levels are asked for ("full").
    makeable: llama.cpp's quantizer can make it.
    aliases: other names of the row: llama.cpp's short forms, and publishers' mixes of about the same size.
    """

    name: str
    file_type: int
    bits_per_weight: float
    summary: str
    default: bool = False
    usual: bool = False
    table: Literal["short", "full"] | None = None
    makeable: bool = True
    aliases: tuple[str, ...] = ()


# fmt: off
LEVELS: Final[tuple[Level, ...]] = (  # from small to large
    Level("Q1_0", 40, 1.13, "One bit per weight: nonsense unless the model was trained for it."),
    Level("TQ1_0", 36, 1.69, "Only for models trained with the weights -1, 0 and 1: useless for any other."),
    Level("IQ1_S", 24, 2.00, "Often nonsense: worth a try only on giant models.",
          aliases=("UD-TQ1_0",)),  # a publisher's name for its smallest mix, with no ternary weights in it
    Level("TQ2_0", 37, 2.06, "Like TQ1_0, in a form that runs faster: only for models trained that way."),
    Level("IQ1_M", 31, 2.15, "Slightly better than IQ1_S: a last resort for giant models that fit no other way."),
    Level("Q2_0", 41, 2.25, "Two bits in simple blocks: nonsense unless the model was trained for it.", usual=True),
    Level("IQ2_XXS", 19, 2.38, "Clearly damaged: usable only on very large models."),
    Level("IQ2_XS", 20, 2.59, "Often unusable on small models, acceptable on very large ones."),
    Level("IQ2_S", 28, 2.74, "Two bits, rounded with more care: frequent mistakes, large models remain coherent."),
    Level("IQ2_M", 29, 2.93, "The best of the two-bit levels: usable on large models, unreliable on small ones."),
    Level("Q2_K_S", 21, 2.97, "An older two-bit level, often unusable: IQ2_M is better."),
    Level("Q2_K", 10, 3.16, "Often unusable on small models, noticeably worse on large ones.",
          usual=True, table="short"),
    Level("IQ3_XXS", 23, 3.25, "Noticeable losses, but better than Q2_K."),
    Level("IQ3_XS", 22, 3.50, "Three bits: noticeable losses, a fair choice when memory is short."),
    Level("Q3_K_S", 11, 3.64, "An older three-bit level with noticeable losses: IQ3_S is better."),
    Level("IQ3_S", 26, 3.66, "Some losses: better than Q3_K_S."),
    Level("IQ3_M", 27, 3.76, "Some losses: good when no four-bit level fits."),
    Level("Q3_K_M", 12, 4.00, "Visibly weaker on hard questions, fine for simple chat.",
          usual=True, table="full", aliases=("Q3_K",)),
    Level("MXFP4_MOE", 38, 4.25, "Four-bit floating point: the original form of models trained in it (gpt-oss).",
          aliases=("MXFP4",)),
    Level("Q3_K_L", 13, 4.30, "The most exact of the older three-bit levels: IQ4_XS is better.",
          aliases=("Q3_K_XL",)),
    Level("IQ4_XS", 30, 4.46, "Close to Q4_K_M: a good choice when memory is short.",
          table="full"),
    Level("NVFP4", 39, 4.50, "Four-bit floating point for recent NVIDIA cards: no advantage on a CPU.",
          makeable=False),  # llama.cpp runs it, but its quantizer answers "invalid output file type"
    Level("Q4_0", 2, 4.64, "A simple four-bit level: fast on most CPUs, a little worse than Q4_K_S.", usual=True),
    Level("Q4_K_S", 14, 4.67, "A little worse than Q4_K_M: good."),
    Level("IQ4_NL", 25, 4.68, "Close to Q4_K_S, and fast on CPUs: good.", usual=True),
    Level("Q4_K_M", 15, 4.89, "Hard to tell from the original: the usual choice.",
          default=True, usual=True, table="short", aliases=("Q4_K",)),
    Level("Q4_1", 3, 5.11, "An older four-bit level: most models come as Q4_K_M today."),
    Level("Q5_K_S", 16, 5.57, "Very close to the original."),
    Level("Q5_0", 8, 5.57, "An older five-bit level: most models come as Q5_K_S today."),
    Level("Q5_K_M", 17, 5.70, "Differences from the original rarely show.",
          usual=True, table="full", aliases=("Q5_K",)),
    Level("Q5_1", 9, 6.04, "An older five-bit level: most models come as Q5_K_M today."),
    Level("Q6_K", 18, 6.56, "Practically the original.", usual=True, table="full"),
    Level("Q8_0", 7, 8.50, "As good as the original, and usually slower than levels with fewer bits.",
          default=True, usual=True, table="short", aliases=("Q8_K",)),
    Level("F16", 1, 16.0, "Half-precision numbers, nothing quantized: the reference for the others.",
          table="short", aliases=("FP16",)),
    Level("BF16", 32, 16.0, "The form most models are trained in, nothing lost: slow on many CPUs."),
    Level("F32", 0, 32.0, "More precision than a model was trained with: for converting, not for chatting.",
          aliases=("FP32",)),
)
# fmt: on

DEFAULT_LEVELS: Final = tuple(level.name for level in LEVELS if level.default)  # the first that is there counts
USUAL_LEVELS: Final = tuple(level.name for level in reversed(LEVELS) if level.usual)  # from large to small
SHORT_TABLE_LEVELS: Final = tuple(level.name for level in reversed(LEVELS) if level.table == "short")
FULL_TABLE_LEVELS: Final = tuple(level.name for level in reversed(LEVELS) if level.table)
MAKEABLE_LEVELS: Final = tuple(level.name for level in LEVELS if level.makeable)

_BY_NAME: Final = {name: level for level in LEVELS for name in (level.name, *level.aliases)}
_BY_FILE_TYPE: Final = {level.file_type: level for level in LEVELS}
_MAIN_TYPES: Final = {"MXFP4_MOE": "MXFP4", "IQ3_XS": "IQ3_S", "IQ3_M": "IQ3_S", "IQ2_M": "IQ2_S"}  # else by name
_PREFIX: Final = re.compile(r"^(?:UD|I1)[-_]|^[A-HJ-SU-Z](?=Q[2-8]_K)")  # of mixes: UD-Q4_K_XL, HQ4_K
_SUFFIX: Final = re.compile(r"_(X*S|M|X*L|4_4|4_8|8_8|R4|R8|[A-Z]{1,4}[0-9]?)$")  # sizes, row orders, publishers' mixes


def find_level(name: str) -> Level | None:
    """The row for a level's name, or the nearest one: "UD-Q4_K_XL" is near Q4_K_M, "Q6_K_L" near Q6_K.

    Publishers' own mixes ("Q4_K_P") are near the level that they are named after.
    """
    upper = name.upper()
    if program_of_level(upper):
        return None
    if upper in _BY_NAME:
        return _BY_NAME[upper]
    shorter = _PREFIX.sub("", upper)
    while shorter not in _BY_NAME and _SUFFIX.search(shorter):
        shorter = _SUFFIX.sub("", shorter)
    return _BY_NAME.get(shorter)


def level_of_file_type(number: int) -> Level | None:
    """The level that a header's general.file_type stands for; None for a number that llama.cpp does not know."""
    return _BY_FILE_TYPE.get(number)


def main_type(name: str) -> TensorType | None:
    """The type of most weights at the level of that name, in a large model: Q3_K for "Q3_K_M". None if unknown."""
    level = find_level(name)
    if level is None:
        return None
    kind = _MAIN_TYPES.get(level.name) or _SUFFIX.sub("", level.name)
    return TensorType.__members__.get(level.name) or TensorType.__members__.get(kind)


def nominal_bits(name: str) -> float:
    """Bits per weight of the level of that name; 0 for an unknown level."""
    level = find_level(name)
    return level.bits_per_weight if level else 0.0
