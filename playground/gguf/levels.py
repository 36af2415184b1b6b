"""The table of quantization levels: how many bits a weight takes, in which order, in plain words.

Knows levels by name and by llama.cpp's number, nothing of files. Bits per weight are nominal, those of a large model:
what a given file really takes is in its tensor table (header.py), and small models take more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Level:
    """One quantization level.

    file_type is llama.cpp's LLAMA_FTYPE number, None where it has none. bits_per_weight counts the scales and the
    tensors kept at other types: Llama 3.1 8B as llama.cpp's quantize README measured it, computed from the file sizes
    it lists for Llama 3 8B (Q4_0 to Q5_1), and elsewhere the block's own bits. summary is one sentence for anyone.
    """

    name: str
    file_type: int | None
    bits_per_weight: float
    summary: str


LEVELS: Final[tuple[Level, ...]] = (
    Level("Q1_0", 40, 1.13, "One bit a weight: nonsense unless the model was trained for it."),
    Level("TQ1_0", 36, 1.69, "For models trained with only the weights -1, 0 and 1: useless for any other."),
    Level("IQ1_S", 24, 2.00, "The smallest that still forms words: often nonsense, worth a try only on giant models."),
    Level("TQ2_0", 37, 2.06, "As TQ1_0, faster and a little larger: only for models trained that way."),
    Level("IQ1_M", 31, 2.15, "A hair better than IQ1_S: a last resort for giant models that fit no other way."),
    Level("Q2_0", 41, 2.25, "Two bits in simple blocks: babbles unless the model was trained for it."),
    Level("IQ2_XXS", 19, 2.38, "About a seventh of the size: clearly damaged, bearable only on very large models."),
    Level("IQ2_XS", 20, 2.59, "Clearly damaged answers: often unusable on small models, passable on very large ones."),
    Level("IQ2_S", 28, 2.74, "Two bits with more care: mistakes are frequent, large models remain coherent."),
    Level("IQ2_M", 29, 2.93, "The best of the two-bit levels: usable on large models, unreliable on small ones."),
    Level("Q2_K_S", 21, 2.97, "Two bits the older way: often unusable, IQ2_M is as small and better."),
    Level("Q2_K", 10, 3.16, "A fifth of the size: often unusable on small models, noticeably worse on large ones."),
    Level("IQ3_XXS", 23, 3.25, "A fifth of the size: noticeable losses, yet better than Q2_K at about its size."),
    Level("IQ3_XS", 22, 3.50, "Three bits: noticeable losses, a fair choice when memory is short."),
    Level("Q3_K_S", 11, 3.64, "Three bits the older way: noticeable losses, IQ3_S is as small and better."),
    Level("IQ3_S", 26, 3.66, "Less than a quarter of the size: some losses, better than Q3_K_S."),
    Level("IQ3_M", 27, 3.76, "Less than a quarter of the size: some losses, good when Q4 does not fit."),
    Level("Q3_K_M", 12, 4.00, "A quarter of the size: visibly weaker on hard questions, fine for easy talk."),
    Level("MXFP4_MOE", 38, 4.25, "Four-bit floating point: the original form of models trained in it (gpt-oss)."),
    Level("Q3_K_L", 13, 4.30, "The largest of the three-bit levels: IQ4_XS is hardly larger and better."),
    Level("IQ4_XS", 30, 4.46, "The smallest four-bit level: close to Q4_K_M, a good choice when memory is short."),
    Level("NVFP4", 39, 4.50, "Four-bit floating point made for recent NVIDIA cards: no advantage on a processor."),
    Level("Q4_0", 2, 4.64, "Four bits the simple way: fast on most processors, a little worse than Q4_K_S."),
    Level("Q4_K_S", 14, 4.67, "A little smaller than Q4_K_M and a little worse: good."),
    Level("IQ4_NL", 25, 4.68, "Close to Q4_K_S, and fast on processors: good."),
    Level("Q4_K_M", 15, 4.89, "Under a third of the size, hard to tell from the original: the usual choice."),
    Level("Q4_1", 3, 5.11, "An older four-bit level: Q4_K_M is smaller and better."),
    Level("Q5_K_S", 16, 5.57, "About a third of the size: very close to the original."),
    Level("Q5_0", 8, 5.57, "An older five-bit level: Q5_K_S is as small and better."),
    Level("Q5_K_M", 17, 5.70, "A little more than a third of the size: differences rarely show."),
    Level("Q5_1", 9, 6.04, "An older five-bit level: Q5_K_M is smaller and better."),
    Level("Q6_K", 18, 6.56, "Two fifths of the size: practically the original."),
    Level("Q8_0", 7, 8.50, "About half the size: as good as the original, and slower than smaller levels."),
    Level("F16", 1, 16.0, "Half-precision numbers, nothing quantized: large and slow, the yardstick for the others."),
    Level("BF16", 32, 16.0, "The form most models are trained in, nothing lost: large, and slow on many processors."),
    Level("F32", 0, 32.0, "Twice the size of the original for no gain: for converting, not for talking."),
)

_BY_NAME: Final = {level.name: level for level in LEVELS}
_BY_FILE_TYPE: Final = {level.file_type: level for level in LEVELS if level.file_type is not None}

# Names that stand for a row: llama.cpp's own short forms, and mixes named after the row whose size they come near.
_STANDS_FOR: Final = {
    "Q3_K": "Q3_K_M",
    "Q4_K": "Q4_K_M",
    "Q5_K": "Q5_K_M",
    "Q8_K": "Q8_0",
    "Q3_K_XL": "Q3_K_L",
    "MXFP4": "MXFP4_MOE",
    "UD-TQ1_0": "IQ1_S",  # a publisher's name for its smallest mix, with no ternary weights in it
    "FP16": "F16",
    "FP32": "F32",
}
_PREFIX: Final = re.compile(r"^(UD|I1)[-_]")
_SUFFIX: Final = re.compile(r"_(X*S|M|X*L|4_4|4_8|8_8|R4|R8)$")


def find_level(name: str) -> Level | None:
    """The row for a level's name, or the nearest one: "UD-Q4_K_XL" is near Q4_K_M, "Q6_K_L" near Q6_K."""
    sought = name.upper()
    sought = _STANDS_FOR.get(sought, _PREFIX.sub("", sought))
    while True:
        level = _BY_NAME.get(_STANDS_FOR.get(sought, sought))
        shorter = _SUFFIX.sub("", sought)
        if level is not None or shorter == sought:
            return level
        sought = shorter


def level_of_file_type(number: int) -> Level | None:
    """The level that a header's general.file_type stands for; None for a number that llama.cpp does not know."""
    return _BY_FILE_TYPE.get(number)
